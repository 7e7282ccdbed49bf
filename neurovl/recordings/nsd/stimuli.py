"""NSD's pictures, and COCO's captions and boxes of them, as the subjects saw them.

A picture is a crop of a COCO photo. ``cropBox`` in ``nsd_stim_info_merged.csv`` gives what was cut
from the top, bottom, left and right, as fractions of the photo's height and width. Captions describe
the whole photo, so they may name what was cut away.
"""

import ast
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.nsd.design import EXPERIMENT

if TYPE_CHECKING:
    from PIL.Image import Image

STIMULI = Path("nsddata_stimuli/stimuli/nsd")
N_IMAGES = 73_000
VISIBLE = 0.1  # share of a box that the crop must leave for the object to count as in the picture


class Stimuli:
    """Pictures and annotations by nsdId; each file is read when it is first asked for.

    Parameters
    ----------
    root : Path
        The NSD folder.
    image_ids : iterable of str or int
        The pictures whose annotations are kept.
    """

    def __init__(self, root: Path, image_ids: Iterable[str | int]) -> None:
        self.root, self._wanted = root, [_nsd_id(one) for one in image_ids]
        self._table: pd.DataFrame | None = None
        self._annotations: dict[str, dict] = {}

    @property
    def has_images(self) -> bool:
        return (self.root / STIMULI / "nsd_stimuli.hdf5").is_file()

    def image(self, image_id: str | int) -> "Image":
        """The picture, 425 x 425, as a PIL image."""
        import h5py
        from PIL.Image import fromarray

        number = _nsd_id(image_id)
        path = self.root / STIMULI / "nsd_stimuli.hdf5"
        if not path.is_file():
            raise MissingError(
                f"{path} is missing, so there is no picture of image {number}: "
                "neurovl download nsd --to DIR, or use the text targets"
            )
        try:
            with h5py.File(path, "r") as file:
                brick = file["imgBrick"]
                picture = brick[number] if number < len(brick) else np.zeros(1)
        except (OSError, KeyError, RuntimeError) as problem:
            raise DataError(
                f"{path.name} cannot be read ({problem}), expected an HDF5 file with the dataset "
                "imgBrick; the file may be cut short: neurovl download nsd --verify --to DIR"
            ) from problem
        if not picture.any():  # a slot that was never written reads as zeros
            raise MissingError(
                f"image {number} has no picture in {path.name} (its slot was never written): no "
                f"subject saw it; choose an image_id from trials"
            )
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise DataError(
                f"{path.name} has imgBrick of {picture.dtype} and pictures of shape {picture.shape}, "
                "expected uint8 and (425, 425, 3): neurovl download nsd --verify --to DIR"
            )
        return fromarray(picture)

    def captions(self, image_id: str | int) -> list[str]:
        """COCO's sentences about the whole photo."""
        row = self._picture(image_id)
        return list(self._annotation("captions", row.cocoSplit).get(row.cocoId, []))

    def objects(self, image_id: str | int) -> list[dict]:
        """COCO's objects, their boxes cut to the crop; those that it leaves less than a tenth of are left out."""
        row = self._picture(image_id)
        crop = _read_crop(row.cropBox, image_id)
        found = []
        for category, supercategory, box, size in self._annotation("instances", row.cocoSplit).get(
            row.cocoId, []
        ):
            seen = crop_box(box, size, crop)
            if seen is not None:
                found.append({"category": category, "supercategory": supercategory, "box": seen})
        return found

    def _picture(self, image_id: str | int) -> pd.Series:
        """The picture's row of nsd_stim_info_merged.csv."""
        if self._table is None:
            self._table = _read_table(self.root / EXPERIMENT / "nsd_stim_info_merged.csv")
        number = _nsd_id(image_id)
        if number not in self._table.index:
            raise DataError(
                f"nsd_stim_info_merged.csv has no row of image {number}, expected {N_IMAGES} rows: "
                "neurovl download nsd --verify --to DIR"
            )
        return self._table.loc[number]

    def _annotation(self, kind: str, split: str) -> dict[int, list]:
        """COCO's annotations of the pictures wanted, by cocoId; read once."""
        name = f"{kind}_{split}.json"
        if name not in self._annotations:
            path = self.root / STIMULI / "annotations" / name
            if not path.is_file():
                raise MissingError(
                    f"{path} is missing: neurovl download nsd --to DIR fetches COCO's annotations"
                )
            wanted = self._table.cocoId.reindex(self._wanted).dropna()
            self._annotations[name] = _read_annotations(path, kind, set(wanted.astype(int)))
        return self._annotations[name]


def crop_box(
    box: Sequence[float], size: tuple[int, int], crop: tuple[float, float, float, float]
) -> tuple[float, float, float, float] | None:
    """A box of a photo, in the picture that was cropped from it.

    Parameters
    ----------
    box : (x, y, width, height)
        In pixels of the photo, as COCO's ``bbox``.
    size : (width, height)
        Of the photo in pixels.
    crop : (top, bottom, left, right)
        Fractions cut away.

    Returns
    -------
    (x0, y0, x1, y1) from 0 to 1 in the picture, or None if a tenth of the box or less is left
    """
    (x, y, w, h), (width, height), (top, bottom, left, right) = box, size, crop
    span = np.array([1 - left - right, 1 - top - bottom] * 2)
    corners = np.array([x / width, y / height, (x + w) / width, (y + h) / height])
    whole = (corners - [left, top, left, top]) / span
    x0, y0, x1, y1 = np.clip(whole, 0, 1)
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    if (x1 - x0) * (y1 - y0) <= VISIBLE * area:
        return None
    return float(x0), float(y0), float(x1), float(y1)


def _nsd_id(image_id: str | int) -> int:
    text = str(image_id)
    if not text.isdigit() or int(text) >= N_IMAGES:
        raise DataError(f"{image_id!r} is no nsdId: expected an integer from 0 to {N_IMAGES - 1}")
    return int(text)


def _read_crop(text: object, image_id: str | int) -> tuple[float, float, float, float]:
    """``'(0, 0, 0.1671875, 0.1671875)'`` as numbers."""
    try:
        top, bottom, left, right = (float(part) for part in ast.literal_eval(str(text)))
        if min(top, bottom, left, right) < 0 or top + bottom >= 1 or left + right >= 1:
            raise ValueError("nothing is left")
    except (ValueError, SyntaxError, TypeError) as problem:
        raise DataError(
            f"nsd_stim_info_merged.csv has the cropBox {text!r} for image {image_id}, expected "
            "fractions (top, bottom, left, right): neurovl download nsd --verify --to DIR"
        ) from problem
    return top, bottom, left, right


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise MissingError(f"{path} is missing: neurovl download nsd --to DIR")
    columns = ["nsdId", "cocoId", "cocoSplit", "cropBox"]
    try:
        table = pd.read_csv(path, usecols=columns)
    except ValueError as problem:
        raise DataError(
            f"{path.name} has not the columns {', '.join(columns)} ({problem}): "
            "neurovl download nsd --verify --to DIR"
        ) from problem
    if table.nsdId.duplicated().any():
        raise DataError(
            f"{path.name} has several rows of image {table.nsdId[table.nsdId.duplicated()].iloc[0]}"
            ", expected one: neurovl download nsd --verify --to DIR"
        )
    return table.set_index("nsdId")


def _read_annotations(path: Path, kind: str, wanted: set[int]) -> dict[int, list]:
    """Captions, or (category, supercategory, box, photo size), of the wanted pictures."""

    def slim(entry: dict) -> dict:  # COCO's outlines are most of the file and not needed
        entry.pop("segmentation", None)
        return entry

    try:
        content = json.loads(path.read_text(), object_hook=slim)
        found: dict[int, list] = {}
        entries = [one for one in content["annotations"] if one["image_id"] in wanted]
        if kind == "captions":
            for one in entries:
                found.setdefault(one["image_id"], []).append(one["caption"].strip())
            return found
        names = {one["id"]: (one["name"], one["supercategory"]) for one in content["categories"]}
        sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
        for one in entries:
            entry = (*names[one["category_id"]], one["bbox"], sizes[one["image_id"]])
            found.setdefault(one["image_id"], []).append(entry)
        return found
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ) as problem:
        raise DataError(
            f"{path.name} is no COCO annotation file ({type(problem).__name__}: {problem}); "
            "it may be cut short: neurovl download nsd --verify --to DIR"
        ) from problem
