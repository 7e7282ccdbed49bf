"""What pictures are turned into so that brains can be mapped to it: features by name, one row a picture."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from neurovl.errors import MissingError

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
