"""The pictures of a BIDS data set: names for them, their files, and copies in the form of the table."""

import glob
import logging
import re
from pathlib import Path

import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.pictures import endings
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
    _refuse_one_file_twice(found, names)
    if missing:
        logger.info("none of the pictures lies in %s: text targets alone can be trained", place_)
        return {}
    return found


def _refuse_one_file_twice(found: dict[str, Path | None], names: dict[str, str]) -> None:
    """Refuse pictures of two names whose file is the same, as one in the folder itself is for 'a/1.jpg' and 'b/1.jpg'."""
    first: dict[Path, str] = {}
    for image_id, path in found.items():
        other = first.setdefault(path, image_id) if path else image_id
        if other != image_id:
            raise DataError(
                f"the pictures {names[other]} and {names[image_id]} would both be the file {path.name}, expected a file for each: "
                "put them into folders of their names, or choose another column with --stimulus"
            )


def _picture(folder: Path, name: str) -> Path | None:
    root = folder.resolve()
    for short in dict.fromkeys((name, name.split("/")[-1])):
        path = folder / short
        if _is_picture(path, root):
            return path
        beside = sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
        found = [one for one in beside if one.stem == path.name and _is_picture(one, root)]
        if len(found) > 1:
            raise DataError(
                f"the picture {name} has {len(found)} files, {' and '.join(one.name for one in found[:2])}, expected one: remove "
                "those that were not shown"
            )
        if found:
            return found[0]
    return None


def _is_picture(file: Path, root: Path) -> bool:
    return file.suffix.lower() in endings() and file.is_file() and _lies_in(file, root)


def _lies_in(file: Path, root: Path) -> bool:
    return Path(file.parent.resolve()).is_relative_to(root)


def write_picture(path: Path, folder: Path, image_id: str) -> None:
    """Link a picture by its name in the table."""
    folder.mkdir(exist_ok=True)
    place(path, folder / f"{image_id}{path.suffix.lower()}")
