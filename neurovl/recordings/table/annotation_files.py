"""What one's own table says of its pictures: sentences (captions.tsv) and things with their boxes (objects.tsv)."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError
from neurovl.recordings.table.table_files import is_there, read_table

logger = logging.getLogger(__name__)


def require_known(table: str, images: Iterable[str], shown: set[str]) -> None:
    """Refuse a table about pictures of which none was shown; how many were not shown is logged."""
    unknown = [image for image in images if image not in shown]
    if unknown and not shown.intersection(images):
        raise DataError(
            f"{table} is about {len(unknown)} pictures, the first is {unknown[0]!r}, and trials.tsv has none of them, expected its "
            f"image_ids, such as {min(shown)!r}: write them the same way in both"
        )
    if unknown:
        logger.info("%s: %d pictures that no trial showed", table, len(unknown))


def read_captions(path: Path) -> dict[str, list[str]]:
    """Sentences by image id; none where there is no such file."""
    if not is_there(path):
        return {}
    table = read_table(path, ["image_id", "caption"])
    for column in ("image_id", "caption"):
        empty = np.flatnonzero(table[column] == "")
        if len(empty):
            raise DataError(
                f"captions.tsv has no {column} in line {table.index[empty[0]]}: fill it in, or "
                "remove the line"
            )
    return table.groupby("image_id").caption.apply(list).to_dict()


def read_objects(path: Path) -> dict[str, list[dict]]:
    """Things in each picture, as `Recordings.objects` gives them; none where there is no such file.

    Raises
    ------
    DataError
        An empty cell, or a box that does not lie in its picture: x0 < x1 and y0 < y1, from 0 (left, top) to 1 (right, bottom).
    """
    if not is_there(path):
        return {}
    corners = ["x0", "y0", "x1", "y1"]
    table = read_table(path, ["image_id", "category", *corners])
    for column in ("image_id", "category"):
        empty = np.flatnonzero(table[column] == "")
        if len(empty):
            raise DataError(
                f"objects.tsv has no {column} in line {table.index[empty[0]]}: fill it in, or remove the line"
            )
    boxes = table[corners].apply(pd.to_numeric, errors="coerce").to_numpy()
    with np.errstate(invalid="ignore"):
        right = (boxes[:, :2] < boxes[:, 2:]).all(1) & (boxes >= 0).all(1) & (boxes <= 1).all(1)
    wrong = np.flatnonzero(~right)
    if len(wrong):
        raise DataError(
            f"objects.tsv has the box {' '.join(table[corners].iloc[wrong[0]])} in line {table.index[wrong[0]]}, expected "
            "x0 < x1 and y0 < y1 as shares of the picture, from 0 (left, top) to 1 (right, bottom): divide pixels by its size"
        )
    above = table.get("supercategory", table.category).where(
        lambda text: text != "", table.category
    )
    found: dict[str, list[dict]] = {}
    for image_id, category, kind, box in zip(
        table.image_id, table.category, above, boxes, strict=True
    ):
        thing = {"category": category, "supercategory": kind, "box": tuple(map(float, box))}
        found.setdefault(image_id, []).append(thing)
    return found
