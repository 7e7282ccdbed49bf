"""Low-level likeness of decoded and seen pictures: PixCorr and SSIM at 425 x 425.

Leaves out everything that needs a network (features are compared in protocol).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    Picture = Image.Image | np.ndarray

SIZE = 425  # pixels a side, the size of NSD's pictures; both scores depend on it
SEEN_AT_HAND = 64  # seen pictures whose windows `Likeness` keeps, 4 MB each
SIGMA, RADIUS = 1.5, 5  # pixels: SSIM's window
C1, C2 = 0.01**2, 0.03**2


class _Canvas:
    """One picture at 425 x 425, and what the scores ask of it alone, computed when first asked for."""

    def __init__(self, image: "Picture", name: str) -> None:
        from PIL import Image

        if not isinstance(image, Image.Image):
            array = np.asarray(image)
            if array.ndim != 3 or array.shape[2] != 3:
                raise DataError(f"{name} has shape {array.shape}, expected (height, width, 3)")
            if array.dtype != np.uint8:
                if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
                    raise DataError(
                        f"{name} holds {array.min():g} to {array.max():g}, expected floats in 0..1 "
                        "or bytes"
                    )
                array = np.round(array * 255).astype(np.uint8)
            image = Image.fromarray(array)
        image = image.convert("RGB")
        if image.size != (SIZE, SIZE):
            image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        self.rgb = np.asarray(image)

    @functools.cached_property
    def moments(self) -> tuple[int, int]:
        """Sum of all bytes, and n times the sum of squares less the square of the sum."""
        values = self.rgb.astype(np.int64).ravel()
        total = int(values.sum())
        return total, values.size * int(values @ values) - total**2

    @functools.cached_property
    def gray(self) -> np.ndarray:
        """ITU-R BT.709 in 0..1, float64."""
        from skimage.color import rgb2gray

        return rgb2gray(self.rgb)

    @functools.cached_property
    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of gray in the window around each pixel."""
        mean = _blurred(self.gray)
        return mean, _blurred(self.gray**2) - mean**2


def _blurred(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, SIGMA, radius=RADIUS)


def _pixcorr(p: _Canvas, t: _Canvas) -> float:
    (sum_p, spread_p), (sum_t, spread_t) = p.moments, t.moments
    if not spread_p or not spread_t:
        return 0.0
    # Integers below 2^53, so this sum is exact.
    together = int(p.rgb.ravel().astype(np.float64) @ t.rgb.ravel().astype(np.float64))
    return (p.rgb.size * together - sum_p * sum_t) / math.sqrt(spread_p * spread_t)


def _ssim(p: _Canvas, t: _Canvas) -> float:
    (mean_p, var_p), (mean_t, var_t) = p.windows, t.windows
    both = mean_p * mean_t
    covariance = _blurred(p.gray * t.gray) - both
    likeness = (2 * both + C1) * (2 * covariance + C2)
    likeness /= (mean_p**2 + mean_t**2 + C1) * (var_p + var_t + C2)
    inside = slice(RADIUS, -RADIUS)
    return float(likeness[inside, inside].mean())


def _pairs(
    pred: "Sequence[Picture]", true: "Sequence[Picture]"
) -> Iterator[tuple[_Canvas, _Canvas]]:
    """One pair in memory at a time."""
    if len(pred) != len(true) or len(pred) == 0:
        raise DataError(
            f"{len(pred)} decoded and {len(true)} seen pictures, expected as many, and one or more"
        )
    for i, (p, t) in enumerate(zip(pred, true, strict=True)):
        yield _Canvas(p, f"decoded picture {i}"), _Canvas(t, f"seen picture {i}")


def pixcorr(pred: "Sequence[Picture]", true: "Sequence[Picture]") -> np.ndarray:
    """Pearson correlation of all pixels and channels of each pair, at 425 x 425.

    Parameters
    ----------
    pred, true : sequences of n_images PIL images or arrays, shape (height, width, 3)
        Bytes, or floats in 0..1. Other sizes are resized bilinearly (antialiased).

    Returns
    -------
    array, shape (n_images,)
        The published score is the mean. A picture of one colour has no correlation: it scores 0.

    References
    ----------
    Section 4.2 of the paper; defined as in the code of MindEye (Scotti et al. 2023).

    Examples
    --------
    >>> picture = data.image(data.trials.image_id[0])
    >>> neurovl.metrics.pixcorr([picture], [picture]).round(6)
    array([1.])
    """
    return np.asarray([_pixcorr(p, t) for p, t in _pairs(pred, true)])


def ssim(pred: "Sequence[Picture]", true: "Sequence[Picture]") -> np.ndarray:
    r"""Structural similarity of each pair in gray, at 425 x 425.

    .. math:: \frac{(2\mu_p\mu_t + c_1)(2\sigma_{pt} + c_2)}
              {(\mu_p^2 + \mu_t^2 + c_1)(\sigma_p^2 + \sigma_t^2 + c_2)}

    averaged over the picture, with an 11 x 11 Gaussian window of sigma 1.5 pixels.

    Parameters
    ----------
    pred, true : sequences of n_images PIL images or arrays, shape (height, width, 3)

    Returns
    -------
    array, shape (n_images,)

    References
    ----------
    Wang et al. 2004; settings of MindEye (Scotti et al. 2023), which the paper's peers share.

    Examples
    --------
    >>> picture = data.image(data.trials.image_id[0])
    >>> neurovl.metrics.ssim([picture], [picture]).round(6)
    array([1.])
    """
    return np.asarray([_ssim(p, t) for p, t in _pairs(pred, true)])


class Likeness:
    """PixCorr and SSIM of many sets of decoded pictures of the same seen ones, each with its chance.

    What can be said of a picture alone is computed once, which makes it three times as fast as `pixcorr` and `ssim`.

    Parameters
    ----------
    seen : callable
        `seen(image_id)` gives a seen picture.

    Examples
    --------
    >>> pictures = [data.image(i) for i in data.trials.image_id[:2]]
    >>> likeness = neurovl.metrics.Likeness(data.image)
    >>> found = likeness(pictures, data.trials.image_id[:2], order=[1, 0])
    >>> scores, chance = found["pixcorr"]
    >>> bool(scores.min() > chance)
    True
    """

    def __init__(self, seen: "Callable[[str], Picture]") -> None:
        self._seen = functools.lru_cache(SEEN_AT_HAND)(lambda i: _Canvas(seen(i), f"picture {i}"))

    def __call__(
        self, made: "Sequence[Picture]", image_ids: Sequence[str], order: Sequence[int]
    ) -> dict[str, tuple[np.ndarray, float]]:
        """Scores of decoded pictures with what was seen, shape (n_images,), and their mean by chance.

        Parameters
        ----------
        made : sequence of n_images pictures
        image_ids : sequence of n_images str
        order : sequence of n_images int
            For chance the decoded picture ``order[k]`` is set beside the seen picture ``k``.
        """
        beside = {j: k for k, j in enumerate(order)}
        found = {"pixcorr": ([], []), "ssim": ([], [])}
        for j, image in enumerate(made):
            canvas = _Canvas(image, f"decoded picture {j}")
            for name, score in (("pixcorr", _pixcorr), ("ssim", _ssim)):
                own, blind = found[name]
                own.append(score(canvas, self._seen(image_ids[j])))
                blind.append(score(canvas, self._seen(image_ids[beside[j]])))
        return {name: (np.asarray(own), float(np.mean(b))) for name, (own, b) in found.items()}
