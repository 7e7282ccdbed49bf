"""What the language model is taught about each training picture: dialogues from captions and boxes (paper section 3.2)."""

import numpy as np


def annotations(run) -> dict[str, dict]:
    """RUN/annotations: captions and objects of the training pictures by the profile's captioner and detector.

    Empty where the profile names none of them. COCO's captions are of whole photographs, NSD shows crops, so the paper
    annotated them anew, with BLIP-2 and DETR.
    """
    models, device = run.profile.models, run.profile.device
    if models.captioner is None or models.detector is None or not run.recordings.has_images:
        return {}
    from neurovl.foundation.annotators import (
        annotate,
        load_captioner,
        load_detector,
        read_annotations,
    )

    with run.stage("annotations", {}) as s:
        if not s.done:
            trials = run.recordings.trials
            ids = trials.image_id[trials.split == "train"].unique()
            pictures = [(i, lambda i=i: run.recordings.image(i)) for i in ids]
            annotate(
                pictures,
                s.dir / "annotations.jsonl",
                load_captioner(models.captioner, device),
                load_detector(models.detector, device),
                seed=run.profile.seed,
            )
    return read_annotations(run.folder / "annotations" / "annotations.jsonl")


def talks(run, image_ids: list[str]) -> dict[str, list]:
    """Dialogues about each training picture; its annotations join the captions and replace the boxes.

    Parameters
    ----------
    image_ids : list of str
        As tables hold them.
    """
    from neurovl.language.dialogues import category_frequencies
    from neurovl.language.dialogues import composing as dialogues

    noted = annotations(run)
    captions, objects = {}, {}
    for image in dict.fromkeys(image_ids):
        note = noted.get(image)
        captions[image] = run.recordings.captions(image)
        objects[image] = run.recordings.objects(image)
        if note is not None:
            captions[image], objects[image] = captions[image] + note["captions"], note["objects"]
    names = category_frequencies(objects.values()) or None
    return {
        image: dialogues(
            captions[image],
            objects[image],
            np.random.default_rng([run.profile.seed, i]),
            image,
            names,
        )
        for i, image in enumerate(captions)
    }
