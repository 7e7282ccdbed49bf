"""Captions by BLIP-2 and objects by DETR: pictures annotated anew, as the paper did for its instruction data.

COCO's captions describe whole photos and NSD shows crops of them; the paper drew 8 captions a crop from BLIP-2 and boxes
from DETR. Which checkpoints and how captions were drawn is not stated. Left out: the dialogues that GPT-3.5 wrote from
these; `neurovl.language.dialogues` makes them by rule.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from neurovl.errors import DataError
from neurovl.files import Journal
from neurovl.foundation.source import (
    device_for,
    dtype_for,
    first_here,
    load_or_explain,
    load_whole,
    resolve,
)

if TYPE_CHECKING:
    from PIL import Image
    from transformers import BaseImageProcessor, PreTrainedModel, ProcessorMixin

TOGETHER = 8  # pictures that are captioned at a time

# COCO's categories by supercategory, which detectors do not name.
SUPERCATEGORIES = {
    "person": "person",
    "vehicle": "bicycle, car, motorcycle, airplane, bus, train, truck, boat",
    "outdoor": "traffic light, fire hydrant, stop sign, parking meter, bench",
    "animal": "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    "accessory": "backpack, umbrella, handbag, tie, suitcase",
    "sports": "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket",
    "kitchen": "bottle, wine glass, cup, fork, knife, spoon, bowl",
    "food": "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake",
    "furniture": "chair, couch, potted plant, bed, dining table, toilet",
    "electronic": "tv, laptop, mouse, remote, keyboard, cell phone",
    "appliance": "microwave, oven, toaster, sink, refrigerator",
    "indoor": "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
}


class Captioner:
    """BLIP-2, or any model of transformers that makes text of a picture alone.

    Parameters
    ----------
    model, processor
        As `AutoModelForImageTextToText` and `AutoProcessor` load them.
    """

    def __init__(self, model: "PreTrainedModel", processor: "ProcessorMixin") -> None:
        self.model, self.processor = model.eval(), processor

    @torch.inference_mode()
    def captions(
        self,
        images: "Sequence[Image.Image]",
        n: int = 8,
        seed: int = 0,
        top_p: float = 0.9,
        max_new_tokens: int = 30,
    ) -> list[list[str]]:
        """Captions of some pictures, drawn by nucleus sampling; the same pictures and seed give the same ones.

        Parameters
        ----------
        images : sequence of PIL.Image
        n : int
            Captions a picture, the paper's 8.
        """
        pictures = [image.convert("RGB") for image in images]
        inputs = self.processor(images=pictures, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        with torch.random.fork_rng(_devices(self.model)):
            torch.manual_seed(seed)
            out = self.model.generate(
                **inputs,
                do_sample=True,
                top_p=top_p,
                num_return_sequences=n,
                max_new_tokens=max_new_tokens,
            )
        texts = self.processor.batch_decode(out, skip_special_tokens=True)
        texts = [" ".join(text.split()) for text in texts]
        return [texts[k : k + n] for k in range(0, len(texts), n)]


class Detector:
    """DETR, or any detector of transformers.

    Parameters
    ----------
    model, processor
        As `AutoModelForObjectDetection` and `AutoImageProcessor` load them.
    """

    def __init__(self, model: "PreTrainedModel", processor: "BaseImageProcessor") -> None:
        self.model, self.processor = model.eval(), processor

    @torch.inference_mode()
    def objects(self, image: "Image.Image", threshold: float = 0.9) -> list[dict]:
        """Objects of one picture as `Recordings.objects` gives them, the surest first.

        Parameters
        ----------
        image : PIL.Image
        threshold : float
            Least probability of an object.

        Returns
        -------
        list of dict
            `category`, `supercategory` (COCO's, else empty), `box` (x0, y0, x1, y1) in 0..1, y downwards.
        """
        inputs = self.processor(images=image.convert("RGB"), return_tensors="pt")
        outputs = self.model(**inputs.to(self.model.device, self.model.dtype))
        # A picture of 1 x 1 leaves boxes as fractions.
        found = self.processor.post_process_object_detection(
            outputs, threshold=threshold, target_sizes=[(1, 1)]
        )[0]
        objects = []
        for k in found["scores"].argsort(descending=True).tolist():
            category = self.model.config.id2label[int(found["labels"][k])]
            if category == "N/A":  # the gaps in COCO's numbers
                continue
            box = tuple(found["boxes"][k].float().clamp(0, 1).tolist())
            supercategory = _supercategories().get(category, "")
            objects.append({"category": category, "supercategory": supercategory, "box": box})
        return objects


def load_captioner(
    spec: str | Sequence[str] = "Salesforce/blip2-opt-2.7b", device: str = "auto"
) -> Captioner:
    """Load BLIP-2 by folder or hub id from files that are here.

    Raises
    ------
    MissingError
        The model is not here; the message holds the command that fetches it.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return Captioner(*_load(spec, device, "captioner", AutoModelForImageTextToText, AutoProcessor))


def load_detector(
    spec: str | Sequence[str] = "facebook/detr-resnet-50", device: str = "auto"
) -> Detector:
    """Load DETR by folder or hub id from files that are here; raises as `load_captioner`."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    return Detector(
        *_load(spec, device, "detector", AutoModelForObjectDetection, AutoImageProcessor)
    )


def _load(
    spec: str | Sequence[str], device: str, part: str, model_class: type, processor_class: type
) -> tuple:
    name, source = first_here(spec, lambda one: (one, resolve(one, part)))
    device = device_for(device, f"{part} {name}")
    dtype = dtype_for(device, source, f"{part} {name}")
    processor = load_or_explain(lambda: processor_class.from_pretrained(source), name, part)
    model = load_whole(model_class, source, name, part, dtype=dtype)
    return model.to(device), processor


def annotate(
    pictures: "Iterable[tuple[str, Image.Image | Callable[[], Image.Image]]]",
    out: Path | str,
    captioner: Captioner,
    detector: Detector,
    n: int = 8,
    seed: int = 0,
) -> Path:
    """Annotate pictures and write a line of JSON for each; a run that was broken off goes on where it stopped.

    Parameters
    ----------
    pictures : iterable of (str, PIL.Image)
        Image id and image, which may be a callable that gives it, so that pictures already done are not opened.
    out : path
        Lines {"image_id", "captions", "objects"} in the order of `pictures`.
    n : int
        Captions a picture.

    Returns
    -------
    Path
        The file; it is there once all pictures are done.
    """
    from tqdm.auto import tqdm

    out = Path(out)
    if out.exists():
        return out
    journal = Journal(out.with_name(f".{out.name}.partial"))
    done, pictures = {one["image_id"] for one in journal.records}, list(pictures)
    # In the same groups each time: what is drawn for a picture depends on those beside it.
    for start in tqdm(range(0, len(pictures), TOGETHER), desc="annotating", disable=None):
        ids, images = zip(*pictures[start : start + TOGETHER], strict=True)
        if done.issuperset(ids):
            continue
        images = [image() if callable(image) else image for image in images]
        captions = captioner.captions(images, n, seed * 1_000_003 + start)
        journal.add(
            {"image_id": i, "captions": said, "objects": detector.objects(image)}
            for i, said, image in zip(ids, captions, images, strict=True)
        )
    os.replace(journal.path, out)
    return out


def read_annotations(path: Path | str) -> dict[str, dict]:
    """What `annotate` wrote: {image_id: {"captions": [...], "objects": [...]}}.

    Raises
    ------
    DataError
        A line is not what `annotate` writes.
    """
    found = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            one = json.loads(line)
            objects = [{**o, "box": tuple(o["box"])} for o in one["objects"]]
            found[one["image_id"]] = {"captions": list(one["captions"]), "objects": objects}
        except (ValueError, KeyError, TypeError) as problem:
            raise DataError(
                f"{Path(path).name} line {number} cannot be read ({problem}), expected image_id, captions and objects "
                "in JSON; remove the file and annotate again"
            ) from problem
    return found


@cache
def _supercategories() -> dict[str, str]:
    return {name: kind for kind, names in SUPERCATEGORIES.items() for name in names.split(", ")}


def _devices(model: "PreTrainedModel") -> list:
    return [model.device] if model.device.type == "cuda" else []
