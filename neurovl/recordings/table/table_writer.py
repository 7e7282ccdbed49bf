"""Writing a folder in the form of one's own table, whole or not at all; for the converters.

The folder is filled beside its final name and renamed when the tables in it have been read back without
complaint. Files of the source are linked where the file system can, else copied; the source is only read.
"""

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from neurovl.errors import DataError, NeurovlError
from neurovl.files import flush
from neurovl.recordings.table.table_folder import TableRecordings

COLUMNS = ["subject", "session", "volume", "index", "image_id", "repeat", "split"]


def require_new(out: Path) -> None:
    """Refuse a place where something is already."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is there already, expected a new or empty folder: name another one")


@contextlib.contextmanager
def new_table(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name `out` at the end, if no error came.

    Raises
    ------
    DataError
        If there is something at `out` already, or what was written is no table.
    """
    require_new(out)
    given, out = out, Path(os.path.abspath(out))
    folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)  # what a killed call left
    try:
        folder.mkdir(parents=True)
        yield folder
        TableRecordings(folder)
        _flush(folder)
        os.replace(folder, out)
        flush(out.parent)
    except NeurovlError:
        raise
    except OSError as problem:
        raise DataError(
            f"{given} could not be written ({problem.strerror}), expected a place with room and rights to "
            "write: free some or name another folder"
        ) from problem
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """Put a file of the source into the new folder: a hard link, or a copy where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = Path(source).resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def write_tables(
    folder: Path,
    trials: list[dict],
    subjects: list[dict],
    about: dict,
    captions: list[tuple[str, str]] = (),
) -> None:
    """Write trials.tsv, subjects.tsv, dataset.json and, where there are any, captions.tsv.

    Parameters
    ----------
    trials : list of dict
        Keys as in `COLUMNS`.
    subjects : list of dict
        ``subject``, ``mask`` and names of regions, the same keys for each.
    about : dict
        Content of dataset.json.
    captions : list of (image_id, sentence)
    """
    _write(folder / "trials.tsv", COLUMNS, [[trial[c] for c in COLUMNS] for trial in trials])
    columns = list(dict.fromkeys(key for subject in subjects for key in subject))
    rows = [[subject.get(column, "") for column in columns] for subject in subjects]
    _write(folder / "subjects.tsv", columns, rows)
    if captions:
        _write(folder / "captions.tsv", ["image_id", "caption"], captions)
    text = json.dumps({**about, "index_from": 0}, indent=1, ensure_ascii=False)
    (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")


def _write(path: Path, columns: list[str], rows: Iterable[Mapping]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _flush(folder: Path) -> None:
    """Bring to the disk what was written; links lead to files that are there already."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or (path.is_file() and path.stat().st_nlink == 1):
            flush(path)
    flush(folder)
