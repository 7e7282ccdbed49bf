"""The text files of one's own table: read, and refused in one sentence where they are not as agreed.

Every message counts lines as an editor does, the header being line 1. Leaves out the volumes, masks and
pictures that the tables name: those are read by ``recordings.py``.
"""

import csv
import difflib
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.table.trial_rows import count_from_0, refuse_alike, refuse_twice, repeats

logger = logging.getLogger(__name__)

POSITIONS = (  # names that others give to a trial's position in its file
    *(
        "beta_index",
        "beta_idx",
        "betas_index",
        "volume_index",
        "vol_index",
        "volume_idx",
        "vol_idx",
        "trial_index",
        "trial_idx",
    ),
    *("frame", "frame_index", "position", "idx", "index"),
)
REQUIRED = ["subject", "session", "volume", "image_id", "split"]
OPTIONAL = {
    "index": POSITIONS,
    "repeat": ("repetition", "rep", "repeats", "repeat_index", "nth_repeat"),
}
ZSCORES = ("session", "subject")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LINE = "line in the file"  # the column that carries it


def inside(root: Path, name: str, table: str) -> Path:
    """The file `name` of the folder; a path that leads out of the folder is refused."""
    if "\\" in name:
        raise DataError(
            f"{table} names {name!r} with a backslash, expected / between folders and file: "
            "correct the table"
        )
    try:
        path = (root / name).resolve()
        leads_out = Path(name).is_absolute() or not path.is_relative_to(root.resolve())
        there = path.is_file()
    except (OSError, RuntimeError, ValueError) as problem:  # messages hold absolute paths
        kind = "a loop of links" if isinstance(problem, RuntimeError) else "too long or not allowed"
        raise DataError(
            f"{table} names {name[:99]!r}, which is no path ({kind}), expected a file in the folder: "
            "correct the table"
        ) from problem
    if leads_out:
        raise DataError(
            f"{table} names {name!r}, which lies outside the data folder: expected a path relative "
            "to the folder and within it; copy the file there"
        )
    if not there:
        raise MissingError(
            f"{table} names {name!r}, which is missing from {root}: copy the file there, "
            "or correct the table"
        )
    return path


def is_there(path: Path) -> bool:
    """Whether there is a file; a folder or a link to nothing in its place is refused."""
    if path.is_file():
        return True
    if path.exists() or path.is_symlink():
        raise DataError(
            f"{path.name} is a folder or a link to nothing, expected a text file: put one in its "
            "place, or remove it"
        )
    return False


def read_table(path: Path, columns: list[str] = ()) -> pd.DataFrame:
    """A table with tabs between its columns: all cells as text without blanks around them.

    A byte order mark, any kind of line ends and empty lines are fine. The index holds the line numbers.

    Raises
    ------
    MissingError
        If there is no such file.
    DataError
        For another separator or encoding, missing or repeated columns, and lines of another length.
    """
    if not is_there(path):
        raise MissingError(
            f"{path} is missing, expected a table with the columns {', '.join(columns)}: add it"
        )
    rows = _cells(path)
    header, lines = rows[0][1], rows[1:]
    _check_header(path.name, header, columns)
    for number, cells in lines:
        if len(cells) != len(header):
            raise DataError(
                f"{path.name} has {len(cells)} cells in line {number}, expected {len(header)} as in "
                "its header, with a tab between two: correct the line"
            )
    table = pd.DataFrame([cells for _, cells in lines], columns=header, dtype=str)
    table.index = pd.Index([number for number, _ in lines], name=_LINE)
    return table


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of every line that is not empty."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem.strerror}), expected a text file that you may read: "
            f"give yourself the right (chmod u+r {path.name})"
        ) from problem
    if content.startswith(_UTF16):
        raise DataError(f"{path.name} is encoded in UTF-16, expected UTF-8: save it so")
    try:
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=None), delimiter="\t", strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(
            f"{path.name} is no table in UTF-8 with tabs between its columns ({problem}): "
            "save it as .tsv"
        ) from problem
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if not rows:
        raise DataError(f"{path.name} is empty, expected a table with a header: write it again")
    for number, cells in rows:
        odd = next((cell for cell in cells if any(ord(letter) < 32 for letter in cell)), None)
        if odd is not None:
            raise DataError(
                f"{path.name} has the cell {odd[:40]!r}, which ends in line {number}, expected text "
                "without line ends and control characters: look for a quotation mark left open"
            )
    return rows


def _check_header(name: str, header: list[str], columns: Sequence[str]) -> None:
    """Refuse a header without the columns that are needed."""
    missing = [column for column in columns if column not in header]
    other = next((mark for mark in ",;" if len(header) == 1 and mark in header[0]), None)
    if missing and other:
        raise DataError(
            f"{name} has {other!r} between its columns, expected tabs: save it with tabs (.tsv)"
        )
    if missing:
        raise DataError(
            f"{name} has the columns {', '.join(header)}, expected also "
            f"{', '.join(missing)}, separated by tabs: add them"
        )
    for column in header:
        if header.count(column) > 1:
            raise DataError(
                f"{name} has {header.count(column)} columns named {column!r}, expected every "
                "column to have a name of its own: rename or remove one"
            )


def read_trials(root: Path) -> pd.DataFrame:
    """trials.tsv with `index` (text), `repeat` and `trial` (both from 0), checked.

    Raises
    ------
    DataError
        For empty cells, splits, indices, repeats and ids that cannot be, and trials that come twice.
    """
    table = read_table(root / "trials.tsv", REQUIRED)
    if table.empty:
        raise DataError("trials.tsv holds no trials, expected a row for each: add them")
    _refuse_other_names(table)
    for column in ("index", "repeat"):
        if column not in table:
            table[column] = ""
    _refuse(table, REQUIRED, lambda column: column == "", "no {column} in line {line}: fill it in")
    _refuse(
        table,
        ["split"],
        lambda column: ~column.isin(["train", "test"]),
        "the split {value} in line {line}, expected train or test: correct it",
    )
    _refuse(
        table,
        ["index"],
        lambda column: ~column.str.fullmatch(r"[0-9]*"),
        "the index {value!r} in line {line}, expected a whole number from 0, or nothing for a 3-D "
        "file: correct it",
    )
    _refuse(
        table,
        ["subject", "image_id"],
        lambda column: column.str.contains(r"[/\\]|^\."),
        "the {column} {value!r} in line {line}, expected a plain name without / or \\ and without "
        "a dot in front, because files are named after it: rename it",
    )
    for column in ("subject", "session", "image_id"):
        refuse_alike(table, column)
    count_from_0(table, read_about(root / "dataset.json").get("index_from"))
    refuse_twice(table)
    if table.session.str.fullmatch(r"[0-9]+").all():
        table["session"] = table.session.astype(int)
    table["repeat"] = repeats(table)
    table["trial"] = table.groupby("subject").cumcount()
    return table


def by_plain_name(columns: Iterable[str]) -> dict[str, str]:
    """Columns by their names in small letters with single underscores: 'Beta Index' is 'beta_index'."""
    return {re.sub(r"[^a-z]+", "_", column.lower()).strip("_"): column for column in columns}


def _refuse_other_names(table: pd.DataFrame) -> None:
    """Refuse a column such as 'beta_index' or 'indx' where there is no 'index'; the other unknown ones are logged."""
    unknown = [c for c in table if c and c not in REQUIRED and c not in OPTIONAL]
    plain = by_plain_name(unknown)
    for wanted, others in OPTIONAL.items():
        if wanted in table:
            continue
        near = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.8)
        found = next((c for text, c in plain.items() if text in others), None) or (
            plain[near[0]] if near else None
        )
        if found:
            raise DataError(
                f"trials.tsv has a column {found!r} and none named {wanted!r}, expected {wanted!r} alone to be read as such: rename "
                f"it to {wanted}, or, if it means something else, to another name"
            )
    if unknown:
        logger.info("trials.tsv: columns that are not read: %s", ", ".join(unknown))


def _refuse(table: pd.DataFrame, columns: Sequence[str], wrong: Callable, message: str) -> None:
    for column in columns:
        bad = table.index[wrong(table[column])]
        if len(bad):
            value = table[column][bad[0]]
            words = message.format(column=column, value=value, line=bad[0])
            raise DataError(f"trials.tsv has {words}")


def read_subjects(root: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Files of the mask and the regions of each subject."""
    table = read_table(root / "subjects.tsv", ["subject", "mask"])
    if "" in table.columns:
        raise DataError(
            f"subjects.tsv has no name for its column {list(table.columns).index('') + 1}, "
            "expected the name of a region: add it, or remove the tab at the line's end"
        )
    twice = table.subject[table.subject.duplicated()]
    if len(twice):
        raise DataError(
            f"subjects.tsv has {twice.iloc[0]} twice, again in line {twice.index[0]}, expected one "
            "row a subject: remove one"
        )
    table = table.set_index("subject")
    for name in names:
        if name not in table.index or not table["mask"][name]:
            raise DataError(
                f"subjects.tsv has no mask for {name}, who has trials in trials.tsv: "
                "add a row with the path of a NIfTI file"
            )
    return {name: table.loc[name].to_dict() for name in names}


def read_about(path: Path) -> dict:
    """dataset.json; empty where there is no such file."""
    if not is_there(path):
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as problem:
        raise DataError(
            f'dataset.json is not valid JSON ({problem}), expected text such as {{"name": "mine"}}: '
            "correct it"
        ) from problem
    if not isinstance(about, dict):
        raise DataError(
            "dataset.json holds no object, expected name, units, licence, terms in braces: correct it"
        )
    for key in ("name", "units", "licence", "terms"):
        if not isinstance(about.get(key, ""), str):
            raise DataError(
                f"dataset.json has the {key} {about[key]!r}, expected text: write it in quotation "
                "marks"
            )
    if not re.fullmatch(r"[^/\\\x00-\x1f]*", about.get("name", "")):
        raise DataError(
            f"dataset.json has the name {about['name']!r}, expected one line without / and \\: "
            "choose another"
        )
    if about.get("zscore", "session") not in ZSCORES:
        raise DataError(
            f"dataset.json has zscore {about['zscore']!r}, expected {' or '.join(ZSCORES)}: "
            "'subject' where whole sessions are held out, else 'session'"
        )
    if about.get("index_from", 0) not in (0, 1) or isinstance(about.get("index_from"), bool):
        raise DataError(
            f"dataset.json has index_from {about['index_from']!r}, expected 0 or 1, the position that trials.tsv gives to the "
            "first volume of a file: correct it"
        )
    if "background" in about and not _is_colour(about["background"]):
        raise DataError(
            f'dataset.json has the background {about["background"]!r}, expected a colour such as "#808080": correct it'
        )
    if not isinstance(about.get("publish_images", False), bool):
        raise DataError(
            f"dataset.json has publish_images {about['publish_images']!r}, expected true or false "
            "without quotation marks: correct it"
        )
    return about


def _is_colour(text: object) -> bool:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(text)
    except (ValueError, AttributeError):
        return False
    return True
