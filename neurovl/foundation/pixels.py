"""Pictures as tensors: the pixels that the autoencoder and SceneNet take, on loading and in training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image

SIZE = 64  # side of a picture of the small world, in pixels


def images_to_tensor(images: "Sequence[Image.Image]", size: int) -> "torch.Tensor":
    """PIL pictures in [-1, 1], float32 tensor, shape (n, 3, size, size); one that is not square is cropped in its middle."""
    from PIL import Image, ImageOps

    fitted = [
        ImageOps.fit(
            im.convert("RGB"),
            (size, size),
            Image.Resampling.BOX if im.width > size else Image.Resampling.BICUBIC,
        )
        for im in images
    ]
    return pixels_to_tensor(np.stack([np.asarray(im) for im in fitted]))


def pixels_to_tensor(pixels: np.ndarray) -> "torch.Tensor":
    """Pixels of RGB pictures in [-1, 1].

    Parameters
    ----------
    pixels : uint8 array, shape (n, height, width, 3)

    Returns
    -------
    float32 tensor, shape (n, 3, height, width)
    """
    import torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
