"""What true patch tokens are like, read some pictures at a time: whole they may be larger than the memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neurovl.baselines.picture_features import PictureFeatures

PICTURES_TOGETHER = 256


class Moments(NamedTuple):
    """Of the patch tokens of n pictures.

    Attributes
    ----------
    pooled : array, shape (n, W)
        Each picture's mean over its places.
    mean, spread : array, shape (W,)
        Mean and standard deviation over pictures and places.
    """

    pooled: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


def token_moments(targets: PictureFeatures, pictures: Sequence[str]) -> Moments:
    """Moments of some pictures' patch tokens, float32.

    Examples
    --------
    >>> from neurovl.baselines.picture_features import PictureFeatures
    >>> from neurovl.baselines.token_moments import token_moments
    >>> tokens = np.array([[[1.0], [3.0]], [[5.0], [7.0]]])
    >>> found = token_moments(PictureFeatures(["a", "b"], {"patch_tokens": tokens}), ["a", "b"])
    >>> found.pooled.tolist(), found.mean.tolist(), (found.spread**2).round(3).tolist()
    ([[2.0], [6.0]], [4.0], [5.0])
    """
    pooled, squares = [], []
    for start in range(0, len(pictures), PICTURES_TOGETHER):
        tokens = targets.of("patch_tokens", pictures[start : start + PICTURES_TOGETHER])
        pooled.append(tokens.mean(1))
        squares.append((tokens.astype(np.float64) ** 2).mean(1))
    pooled = np.concatenate(pooled)
    mean = pooled.mean(0, dtype=np.float64)
    variance = np.concatenate(squares).mean(0) - mean**2
    spread = np.sqrt(np.maximum(variance, 0))
    return Moments(pooled, mean.astype(np.float32), spread.astype(np.float32))
