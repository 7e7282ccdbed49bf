"""The same picture under two names, one in the training set and one in the test set: found by its pixels."""

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from neurovl.recordings.base import Recordings

logger = logging.getLogger(__name__)

SIDE = 16  # of the thumbnails that are compared, in pixels
BITS = 6  # of 64 by which the hashes of two pictures may differ that look alike
LEVELS = 10.0  # by which their thumbnails may differ, root mean square, of 255


@dataclass(frozen=True)
class Copies:
    """Pairs (test picture, training picture): of the same pixels, and of nearly the same look."""

    exact: list[tuple[str, str]]
    near: list[tuple[str, str]]


def find_copies(recordings: "Recordings") -> Copies:
    """Look at every picture of a data set once; at none where names are pictures by their making. Warns of those not square.

    Pictures are alike when their difference hashes (signs of the steps from left to right on a grid of 8 x 9 grey levels)
    differ in few bits and their thumbnails in few levels, as after scaling or saving as JPEG.

    Examples
    --------
    >>> from neurovl.recordings.copies import find_copies
    >>> find_copies(data).exact
    []
    """
    if not recordings.has_images or recordings.distinct_pictures:
        return Copies([], [])
    split = recordings.trials.drop_duplicates("image_id").set_index("image_id").split
    names, hashes, small, whole, odd = list(split.index), [], [], [], []
    for name in names:
        picture = recordings.image(name)
        if picture.width != picture.height:
            odd.append(name)
        whole.append(hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest())
        hashes.append(_difference_hash(picture))
        small.append(np.asarray(picture.resize((SIDE, SIDE)), np.float32).ravel())
    if odd:
        logger.warning(
            "%d of %d pictures are not square, such as %s: networks see their middle alone",
            len(odd),
            len(names),
            odd[0],
        )
    codes, small = np.array(hashes, np.uint64), np.array(small)
    train = np.flatnonzero((split == "train").to_numpy())
    first = {whole[k]: names[k] for k in reversed(train)}
    exact, near = [], []
    for k in np.flatnonzero((split == "test").to_numpy()):
        if whole[k] in first:
            exact.append((names[k], first[whole[k]]))
            continue
        alike = train[np.bitwise_count(codes[train] ^ codes[k]) <= BITS]
        apart = np.sqrt(((small[alike] - small[k]) ** 2).mean(1))
        if len(alike) and apart.min() <= LEVELS:
            near.append((names[k], names[alike[apart.argmin()]]))
    return Copies(exact, near)


def _difference_hash(picture: "Image") -> int:
    grey = np.asarray(picture.convert("L").resize((9, 8)), int)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def refuse_copies(recordings: "Recordings") -> None:
    """Refuse a test picture that is also a training picture; warn of those that look nearly the same.

    Raises
    ------
    DataError
    """
    found = find_copies(recordings)
    if found.exact:
        raise DataError(exact_words(found))
    if found.near:
        logger.warning(near_words(found))


def exact_words(found: Copies) -> str:
    test, train = found.exact[0]
    return (
        f"{len(found.exact)} test pictures are training pictures under another name, the first is {test!r}, the same as "
        f"{train!r}: give all trials of a picture one image_id and one split"
    )


def near_words(found: Copies) -> str:
    test, train = found.near[0]
    return (
        f"{len(found.near)} test pictures look nearly the same as training pictures, the first is {test!r}, much like "
        f"{train!r}: if they are the same, give them one image_id and one split"
    )
