"""Low-level likeness of decoded and seen pictures: PixCorr and SSIM at 425 x 425.

Leaves out everything that needs a network (features are compared in protocol).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    Picture = Image.Image | np.ndarray

SIZE = 425  # pixels a side, the size of NSD's pictures; both scores depend on it


def _picture(image: "Picture", name: str) -> np.ndarray:
    """RGB in 0..1, resized bilinearly, float64 array, shape (SIZE, SIZE, 3)."""
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
    return np.asarray(image, dtype=np.float64) / 255


def _pairs(
    pred: "Sequence[Picture]", true: "Sequence[Picture]"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One pair in memory at a time."""
    if len(pred) != len(true) or len(pred) == 0:
        raise DataError(
            f"{len(pred)} decoded and {len(true)} seen pictures, expected as many, and one or more"
        )
    for i, (p, t) in enumerate(zip(pred, true, strict=True)):
        yield _picture(p, f"decoded picture {i}"), _picture(t, f"seen picture {i}")


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
    scores = []
    for p, t in _pairs(pred, true):
        p, t = p.ravel() - p.mean(), t.ravel() - t.mean()
        norm = np.linalg.norm(p) * np.linalg.norm(t)
        scores.append(p @ t / norm if norm > 1e-9 else 0.0)
    return np.asarray(scores)


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
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    return np.asarray(
        [
            structural_similarity(
                rgb2gray(p),
                rgb2gray(t),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
            )
            for p, t in _pairs(pred, true)
        ]
    )
