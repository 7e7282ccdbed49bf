"""What brains are aligned with: CLIP and VAE embeddings of the pictures (paper section 3.1)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from neurovl.errors import DataError
from neurovl.foundation.clip import Clip
from neurovl.foundation.vae import LatentCodec
from neurovl.recordings.base import Recordings

MAX_TARGET_COSINE = 0.95


@dataclass
class Targets:
    """Embeddings of the pictures.

    Attributes
    ----------
    image_ids : list of str
        Where one stands twice, its first row counts.
    clip : float32 tensor, shape (n, E)
    vae : float32 tensor, shape (n, c, h, w), or None

    Examples
    --------
    >>> targets = run.targets
    >>> rows = targets.rows(targets.image_ids[:2])
    >>> targets.clip[rows].shape, targets.vae[rows].shape
    (torch.Size([2, 64]), torch.Size([2, 4, 16, 16]))
    """

    image_ids: list[str]
    clip: torch.Tensor
    vae: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self._row = {image: i for i, image in reversed(list(enumerate(self.image_ids)))}

    @classmethod
    def load(cls, folder: Path) -> "Targets":
        """Those that `write_targets` wrote.

        Raises
        ------
        DataError
            The files are not there or cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            stored = load_file(folder / "targets.safetensors")
            ids = json.loads((folder / "image_ids.json").read_text())
            vae = stored.get("vae")
            return cls(ids, stored["clip"], None if vae is None else vae.float())
        except (SafetensorError, OSError, ValueError, KeyError) as problem:
            raise DataError(
                f"{folder.name}/ cannot be read ({problem}), expected targets.safetensors and image_ids.json of one stage; "
                "remove the folder and make it again: neurovl train encoder --run RUN"
            ) from problem

    def followed_by(self, other: "Targets") -> "Targets":
        """These, and then those of other pictures."""
        vae = None if self.vae is None else torch.cat([self.vae, other.vae])
        ids = [*self.image_ids, *other.image_ids]
        return Targets(ids, torch.cat([self.clip, other.clip]), vae)

    def flat(self, vae: bool = True) -> torch.Tensor:
        """Both embeddings of every picture side by side, (n, E + c h w), or the CLIP embedding alone."""
        parts = [self.clip] + ([self.vae.flatten(1)] if vae and self.vae is not None else [])
        return torch.cat(parts, dim=1)

    def parts(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """What `flat` put side by side, array (n, E + c h w), taken apart: 'clip' and, where there is one, 'vae'."""
        width = self.clip.shape[1]
        return {"clip": flat[:, :width]} | ({} if self.vae is None else {"vae": flat[:, width:]})

    def rows(self, image_ids: Iterable[str]) -> torch.Tensor:
        """Row of each image id."""
        return torch.tensor([self._row[i] for i in image_ids])


def write_targets(
    recordings: Recordings,
    folder: Path,
    clip: Clip,
    vae: LatentCodec | None = None,
    batch: int = 200,
) -> None:
    """Embed every picture of a data set; where there are no pictures, its labels, else the mean of its captions.

    Parameters
    ----------
    recordings : Recordings
    folder : Path
        Receives targets.safetensors and image_ids.json.
    clip : foundation.clip.Clip
    vae : foundation.vae.LatentCodec, optional
        Not used where the data set has no pictures.

    Raises
    ------
    DataError
        Without pictures: two different labels have text embeddings with a cosine above 0.95.
    """
    from safetensors.torch import save_file
    from tqdm.auto import tqdm

    ids = list(dict.fromkeys(recordings.trials.image_id))
    clips, vaes = [], []
    for i in tqdm(range(0, len(ids), batch), desc="embedding pictures", disable=None):
        block = ids[i : i + batch]
        if recordings.has_images:
            images = [recordings.image(image) for image in block]
            clips.append(clip.embed_images(images))
            if vae is not None:
                vaes.append(vae.encode(images).half())
        else:
            clips.append(torch.stack([_words(recordings, image, clip) for image in block]))
    if not recordings.has_images and recordings.label(ids[0]) is not None:
        _require_distinct(recordings, ids, torch.cat(clips))
    tensors = {"clip": torch.cat(clips).contiguous()} | (
        {"vae": torch.cat(vaes).contiguous()} if vaes else {}
    )
    save_file(tensors, folder / "targets.safetensors")
    (folder / "image_ids.json").write_text(json.dumps(ids))


def _words(recordings: Recordings, image_id: str, clip: Clip) -> torch.Tensor:
    """Text embedding of a picture that is not there: of its label, or the mean over its captions."""
    texts = texts_of(recordings, image_id)
    if not texts:
        raise DataError(
            f"image {image_id} has neither picture nor caption nor label, expected one of them as a target; "
            "add the picture to stimuli/ or a row to captions.tsv"
        )
    return clip.embed_texts(texts).mean(0)


def texts_of(recordings: Recordings, image_id: str) -> list[str]:
    """What stands for a picture that is not there: the sentence of its label, or its captions; none where it has neither."""
    label = recordings.label(image_id)
    return recordings.captions(image_id) if label is None else [label_text(label)]


def label_text(label: str) -> str:
    """The sentence that stands for a category name as a target."""
    return (
        f"a picture of a {label} on a plain background"
        if label != "scrambled"
        else "a scrambled picture"
    )


def _require_distinct(recordings: Recordings, ids: list[str], embeds: torch.Tensor) -> None:
    first = {recordings.label(image): i for i, image in reversed(list(enumerate(ids)))}
    names = sorted(first)
    unit = nn.functional.normalize(embeds[[first[n] for n in names]], dim=-1)
    cosine = (unit @ unit.T).fill_diagonal_(-1)
    if float(cosine.max()) > MAX_TARGET_COSINE:
        a, b = divmod(int(cosine.argmax()), len(names))
        raise DataError(
            f"the text embeddings of {names[a]!r} and {names[b]!r} have cosine {float(cosine.max()):.3f}, expected at most "
            f"{MAX_TARGET_COSINE}; the CLIP model cannot tell these words apart: choose another one in the profile"
        )
