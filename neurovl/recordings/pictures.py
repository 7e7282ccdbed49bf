"""Pictures as subjects saw them: any format that Pillow reads, as RGB, nothing guessed about what the file leaves open."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

UNSHOWN = ("CMYK", "LAB", "HSV")  # how they look on a screen depends on a profile, or on a program
ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@functools.cache
def endings() -> frozenset[str]:
    """Endings of picture files that can be read, in small letters: '.png', '.jpg', and so on."""
    from PIL import Image

    Image.init()
    return frozenset(
        end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN
    )


def read_picture(path: Path, name: str, background: str | None = None) -> "Image":
    """A picture in RGB, turned as its EXIF data say.

    Grey levels of 16 bits become those of 8 by division through 257. Parts that are not opaque show `background`.

    Parameters
    ----------
    path : Path
    name : str
        How messages name it.
    background : str, optional
        A colour such as '#808080'.

    Raises
    ------
    DataError
        The file cannot be read, or is a film, or holds numbers that are no grey levels or colours of a screen, or is
        transparent where no background is stated.

    Examples
    --------
    >>> from PIL import Image
    >>> from neurovl.recordings.pictures import read_picture
    >>> Image.fromarray(np.full((2, 2), 257 * 7, np.uint16)).save(folder / "grey.png")
    >>> read_picture(folder / "grey.png", "grey.png").getpixel((0, 0))
    (7, 7, 7)
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
                raise DataError(
                    f"{name} holds {picture.n_frames} pictures, expected one: save the one that was shown"
                )
            turned = ImageOps.exif_transpose(picture)
            return _in_rgb(turned, name, background)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise DataError(
            f"{name} is not a readable picture ({problem}), expected a PNG or JPEG file: export it again"
        ) from problem


def _in_rgb(picture: "Image", name: str, background: str | None) -> "Image":
    from PIL import Image

    if picture.mode in UNSHOWN:
        raise DataError(
            f"{name} has the colours {picture.mode}, expected RGB, as a screen has them: save it with the colours that were shown"
        )
    if picture.mode == "F" or picture.mode.startswith("I"):
        levels = np.asarray(picture)
        if picture.mode == "F" or levels.min() < 0 or levels.max() > 65535:
            raise DataError(
                f"{name} holds numbers from {levels.min():g} to {levels.max():g}, expected grey levels of 8 or 16 bits: "
                "save it as PNG with the levels that were shown"
            )
        return Image.fromarray(np.rint(levels / 257).astype(np.uint8)).convert("RGB")
    if picture.mode not in ALPHA and "transparency" not in picture.info:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    if layered.getchannel("A").getextrema() == (255, 255):
        return layered.convert("RGB")
    if background is None:
        raise DataError(
            f"{name} is transparent in parts, expected to know what was behind it on the screen: state its colour, such as "
            '"background": "#808080" in dataset.json, or save the picture without transparency'
        )
    return Image.alpha_composite(Image.new("RGBA", layered.size, background), layered).convert(
        "RGB"
    )
