"""What pictures are turned into so that brains can be mapped to it: features by name, one row a picture."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import MissingError
from neurovl.recordings.base import Recordings

if TYPE_CHECKING:
    from diffusers import StableUnCLIPImg2ImgPipeline
    from PIL.Image import Image

    from neurovl.foundation.clip import Clip
    from neurovl.foundation.vae import LatentCodec

CAPTIONS = 5  # of a picture, COCO's number
PALETTE = 4  # patches of colour along a side

# Names of the features that `write_features` makes, with their shapes for one picture.
FEATURES = {
    "clip_image": "(E,), the projected CLIP embedding of the picture, not normalised",
    "clip_text": "(E,), the mean over its captions of their projected CLIP text embeddings, not normalised",
    "clip_texts": "(K, E), the embeddings of K captions; fewer are repeated",
    "image_tokens": "(1 + P, E), all tokens of CLIP's image tower, normed, projected, divided by the length of the first",
    "patch_tokens": "(P, W), the patch tokens of the penultimate layer of CLIP's image tower",
    "text_states": "(T, D), the states of the generator's text encoder, the mean over its captions",
    "vae": "(c, h, w), the latent of the generator's autoencoder",
    "palette": "(3, 4, 4), the picture's mean colours, from 0 to 1",
}


@dataclass(frozen=True)
class PictureFeatures:
    """Features of pictures.

    Attributes
    ----------
    image_ids : list of str
    arrays : mapping of str to array, shape (n, ...)
        By name, see `FEATURES`; may be float16, and lie on the disk.

    Examples
    --------
    >>> from neurovl.baselines.picture_features import PictureFeatures
    >>> features = PictureFeatures(["a", "b"], {"clip_image": np.array([[1.0, 2.0], [3.0, 4.0]])})
    >>> features.of("clip_image", ["b", "b"]).tolist()
    [[3.0, 4.0], [3.0, 4.0]]
    """

    image_ids: list[str]
    arrays: Mapping[str, np.ndarray]

    def of(self, name: str, image_ids: Iterable[str]) -> np.ndarray:
        """One feature of some pictures, float32 (n, ...).

        Raises
        ------
        MissingError
            The data have no such feature, as text features where there are no captions; or no such picture.
        """
        return np.asarray(self._array(name)[self._rows(image_ids)], np.float32)

    def blocks(
        self, name: str, image_ids: Iterable[str], width: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """One feature of some pictures, flattened, in blocks of some of its values, so that little is in memory at once.

        Yields
        ------
        slice, array of shape (n, width or less)
            Which of the flattened values, and these, float32.

        Raises
        ------
        MissingError
            As `of` does.
        """
        array, rows = self._array(name), self._rows(image_ids)
        flat = array.reshape(len(array), -1)
        for start in range(0, flat.shape[1], width):
            part = slice(start, min(start + width, flat.shape[1]))
            yield part, np.asarray(flat[:, part][rows], np.float32)

    def _array(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise MissingError(
                f"the pictures have no feature {name!r}, expected one of {', '.join(self.arrays)}; it may need captions or "
                "pictures that the data lack: leave out the systems that learn it"
            )
        return self.arrays[name]

    def _rows(self, image_ids: Iterable[str]) -> list[int]:
        place = {image: row for row, image in enumerate(self.image_ids)}
        try:
            return [place[str(image)] for image in image_ids]
        except KeyError as problem:
            raise MissingError(
                f"picture {problem.args[0]} has no features, expected one of the {len(place)} pictures of the run"
            ) from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one picture's feature."""
        return tuple(self.of(name, self.image_ids[:1]).shape[1:])


def write_features(
    recordings: Recordings,
    folder: Path,
    clip: "Clip",
    vae: "LatentCodec",
    unclip: "StableUnCLIPImg2ImgPipeline",
    batch: int = 200,
) -> None:
    """Write all features of every picture of a data set; those of words only where it has captions.

    Parameters
    ----------
    recordings : Recordings
        With pictures.
    folder : Path
        Receives NAME.npy, float16, for each name of `FEATURES`, and image_ids.json.
    clip, vae, unclip
        Of `neurovl.foundation`.

    Examples
    --------
    >>> from neurovl.baselines.picture_features import read_features, write_features
    >>> from neurovl.foundation.clip import load_clip
    >>> from neurovl.foundation.unclip import load_unclip
    >>> from neurovl.foundation.vae import load_vae
    >>> write_features(data, folder, load_clip(), load_vae(), load_unclip())
    >>> read_features(folder).shape("image_tokens")
    (65, 64)
    """
    from tqdm.auto import tqdm

    ids, out = list(dict.fromkeys(recordings.trials.image_id)), dict[str, np.ndarray]()
    for start in tqdm(range(0, len(ids), batch), desc="features of pictures", disable=None):
        block = ids[start : start + batch]
        images = [recordings.image(image) for image in block]
        found = _of_pictures(images, clip, vae)
        words = [recordings.captions(image) for image in block]
        if all(words):
            found |= _of_words(words, clip, unclip)
        for name, values in found.items():
            if name not in out:
                shape = (len(ids), *values.shape[1:])
                file = Path(folder) / f"{name}.npy"
                out[name] = np.lib.format.open_memmap(file, "w+", np.float16, shape)
            out[name][start : start + len(block)] = values
    for values in out.values():
        values.flush()
    (Path(folder) / "image_ids.json").write_text(json.dumps(ids))


def _of_pictures(images: "list[Image]", clip: "Clip", vae: "LatentCodec") -> dict[str, np.ndarray]:
    tokens, patches = clip.image_tokens(images)
    first = tokens[:, :1]
    return {
        "clip_image": first[:, 0].numpy(),
        "image_tokens": (tokens / first.norm(dim=-1, keepdim=True)).numpy(),
        "patch_tokens": patches.numpy(),
        "vae": vae.encode(images).numpy(),
        "palette": np.stack([palette(image) for image in images]),
    }


def _of_words(
    words: list[list[str]], clip: "Clip", unclip: "StableUnCLIPImg2ImgPipeline"
) -> dict[str, np.ndarray]:
    from neurovl.foundation.unclip import text_states

    several = [[those[k % len(those)] for k in range(CAPTIONS)] for those in words]
    flat = [text for those in several for text in those]
    texts = clip.embed_texts(flat).unflatten(0, (len(words), CAPTIONS)).numpy()
    states = text_states(unclip, flat).unflatten(0, (len(words), CAPTIONS)).mean(1).numpy()
    return {"clip_texts": texts, "clip_text": texts.mean(1), "text_states": states}


def palette(image: "Image") -> np.ndarray:
    """Mean colours of a picture in 4 x 4 patches, from 0 to 1, array of shape (3, 4, 4)."""
    from PIL.Image import Resampling

    small = image.convert("RGB").resize((PALETTE, PALETTE), Resampling.BOX)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255


def read_features(folder: Path) -> PictureFeatures:
    """What `write_features` wrote; read from the disk as it is asked for."""
    folder = Path(folder)
    if not (folder / "image_ids.json").is_file():
        raise MissingError(
            f"{folder.name}/ has no features of pictures; make them: neurovl compare --run RUN --systems all"
        )
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))}
    return PictureFeatures(json.loads((folder / "image_ids.json").read_text()), arrays)
