"""The pictures of a BIDS data set: names for them, their files, and copies in the form of the table."""

import logging
import re
from pathlib import Path

import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.table.table_folder import PICTURES
from neurovl.recordings.table.table_writer import place

logger = logging.getLogger(__name__)


def image_ids(trials: pd.DataFrame) -> pd.DataFrame:
    """Names for the pictures: their files' own, or with the folders where two files share one."""
    names = trials.stimulus.unique()
    short = {name: _stem(name.replace("\\", "/").split("/")[-1]) for name in names}
    if len(set(short.values())) < len(names):
        short = {name: _stem(re.sub(r"[/\\]+", "_", name.strip("/"))) for name in names}
    twice = pd.Series(short)[pd.Series(short).duplicated(keep=False)]
    if len(twice):
        raise DataError(
            f"the pictures {twice.index[0]} and {twice.index[1]} would both be named {twice.iloc[0]}, "
            "expected names that differ in more than their ending: choose another column with "
            "--stimulus"
        )
    return trials.assign(image_id=trials.stimulus.map(short))


def _stem(name: str) -> str:
    return re.sub(r"\.(png|jpe?g|bmp|gif|tiff?|webp)$", "", name, flags=re.IGNORECASE).lstrip(".")


def find_pictures(trials: pd.DataFrame, data: Path, folder: Path | None) -> dict[str, Path]:
    """The file of each picture; none at all where there is no folder of pictures."""
    place_ = folder or data / "stimuli"
    if not place_.is_dir():
        if folder is not None:
            raise MissingError(f"--stimuli names {folder}, which is no folder: correct it")
        logger.info("no folder stimuli: text targets alone can be trained")
        return {}
    names = dict(zip(trials.image_id, trials.stimulus, strict=True))
    found = {image_id: _picture(place_, name) for image_id, name in names.items()}
    missing = [image_id for image_id, path in found.items() if path is None]
    if missing and (folder is not None or len(missing) < len(found)):
        raise MissingError(
            f"{len(missing)} of {len(found)} pictures are missing from {place_}, the first is "
            f"{names[missing[0]]}: fetch them, or give their folder with --stimuli"
        )
    if missing:
        logger.info("none of the pictures lies in %s: text targets alone can be trained", place_)
        return {}
    return found


def _picture(folder: Path, name: str) -> Path | None:
    endings = ("", *PICTURES, ".JPEG", ".JPG", ".PNG", ".bmp", ".gif", ".tif", ".tiff", ".webp")
    root = folder.resolve()
    for short in dict.fromkeys((name, name.split("/")[-1])):
        for ending in endings:
            path = folder / f"{short}{ending}"
            if path.is_file() and Path(path.parent.resolve()).is_relative_to(root):
                return path
    return None


def write_picture(path: Path, folder: Path, image_id: str) -> None:
    """Link a picture as IMAGE_ID.png or .jpg; of other formats a PNG is made."""
    from PIL import Image

    ending = path.suffix.lower()
    folder.mkdir(exist_ok=True)
    if ending in PICTURES:
        place(path, folder / f"{image_id}{ending}")
        return
    try:
        with Image.open(path) as picture:
            picture.convert("RGB").save(folder / f"{image_id}.png")
    except (OSError, SyntaxError, ValueError) as problem:
        raise DataError(
            f"{path} is not a readable picture ({problem}), expected PNG or JPEG: export it again"
        ) from problem
