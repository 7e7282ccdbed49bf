"""What there is to score: pictures in samples.csv and captions in captions.csv, whoever made them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.answering import read_answers
from neurovl.evaluation.painting import read_samples
from neurovl.files import replacing
from neurovl.results import PROTOCOLS, write_texts
from neurovl.run import Run

PLACE = ("system", "condition", "protocol", "subject", "image_id")
WHAT = {"samples.csv": "file", "captions.csv": "caption"}  # the table's last column


@dataclass(frozen=True)
class Gallery:
    """Pictures and captions that systems made of test pictures.

    Attributes
    ----------
    folder : Path
        Where the files of `samples` lie.
    samples : DataFrame
        One row a picture: system, condition, protocol, subject, image_id, file. `condition` is '' or what is done
        otherwise, such as 'as published'.
    captions : DataFrame
        One row a caption: the same with caption in the place of file.
    """

    folder: Path
    samples: pd.DataFrame
    captions: pd.DataFrame


def write_gallery(
    folder: Path, samples: Iterable[dict] = (), captions: Iterable[dict] = ()
) -> Gallery:
    """Write the tables of a folder, whole or not at all, and read them back.

    Parameters
    ----------
    folder : Path
        The pictures lie there already.
    samples, captions : iterable of dict
        Rows by the names of the columns; more is left out. A table without rows is not written.

    Examples
    --------
    >>> from neurovl.leaderboard.gallery_tables import write_gallery
    >>> row = {"system": "mine", "condition": "", "protocol": "average", "subject": "subj01", "image_id": "7"}
    >>> gallery = write_gallery(folder, captions=[row | {"caption": "a dog"}])
    >>> gallery.captions.caption.tolist(), len(gallery.samples)
    (['a dog'], 0)
    """
    for name, rows in (("samples.csv", samples), ("captions.csv", captions)):
        table = pd.DataFrame(list(rows), columns=[*PLACE, WHAT[name]])
        if len(table):
            _check(table, folder, name)
            with replacing(folder / name) as part:
                write_texts(table, part)
    return read_gallery(folder)


def read_gallery(folder: Path) -> Gallery:
    """Read the tables of a folder, each row checked.

    Raises
    ------
    MissingError
        There is neither table, or a picture is not there.
    DataError
        A table has other columns, a row lacks a name, or one picture is listed twice.
    """
    tables = {}
    for name, last in WHAT.items():
        columns = [*PLACE, last]
        path = folder / name
        if not path.is_file():
            tables[last] = pd.DataFrame(columns=columns, dtype=str)
            continue
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(table.columns) != columns:
            raise DataError(
                f"{path} has columns {', '.join(table.columns)}, expected {', '.join(columns)}: write it so"
            )
        _check(table, folder, name)
        tables[last] = table
    if not any(map(len, tables.values())):
        raise MissingError(
            f"{folder} holds neither samples.csv nor captions.csv with rows, expected one: neurovl compare or neurovl score "
            "makes them"
        )
    return Gallery(folder, tables["file"], tables["caption"])


def together(galleries: Sequence[Gallery]) -> Gallery:
    """Several galleries as one, its files by their whole paths.

    Raises
    ------
    DataError
        Two have one system's picture of one place.
    """
    samples = [one.samples.assign(file=_whole(one)) for one in galleries]
    captions = [one.captions for one in galleries]
    found = {"samples.csv": samples, "captions.csv": captions}
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    for name, table in tables.items():
        _require_single(table, f"{name} of {len(galleries)} folders")
    return Gallery(Path("/"), *tables.values())


def run_gallery(run: Run) -> Gallery:
    """What the systems of a run itself made, nothing varied: RUN/reconstructions and the brief captions of RUN/captions."""
    for stage in ("reconstructions", "captions"):
        if not (run.folder / stage).is_dir():
            raise MissingError(f"{run.folder} has no {stage}/ yet: neurovl evaluate --run RUN")
    samples, answers = read_samples(run.folder), read_answers(run.folder)
    captions = answers[(answers.type == "brief") & (answers.turn == 0)]
    captions = captions.assign(condition="", caption=captions.answer)
    return Gallery(
        run.folder / "reconstructions",
        samples.loc[samples.condition == "", [*PLACE, "file"]].reset_index(drop=True),
        captions[[*PLACE, "caption"]].reset_index(drop=True),
    )


def gallery_with(run: Run, system: str) -> Gallery:
    """What a system made: in the leaderboard where it is there, otherwise in the run itself.

    Raises
    ------
    MissingError
        There is neither.
    """
    root = run.folder / "leaderboard"
    for folder in (root / "samples" / system, root / "outside" / system):
        if any((folder / name).is_file() for name in WHAT):
            return read_gallery(folder)
    own = run_gallery(run)
    found = sorted({*own.samples.system, *own.captions.system})
    if system not in found:
        folders = [*root.glob("samples/*/"), *root.glob("outside/*/")]
        there = sorted({*found, *(f.name for f in folders if not f.name.startswith("."))})
        raise MissingError(
            f"{run.folder} has no pictures or captions of {system}, expected one of {', '.join(there)}: choose one, or make it "
            "with neurovl compare"
        )
    return own


def _whole(gallery: Gallery) -> list[str]:
    return [(gallery.folder / file).absolute().as_posix() for file in gallery.samples.file]


def _check(table: pd.DataFrame, folder: Path, name: str) -> None:
    path = folder / name
    for column in ("system", "subject", "image_id"):
        if (table[column] == "").any():
            raise DataError(f"{path} has a row without {column}, expected a name in each")
    wrong = table.protocol[~table.protocol.isin(PROTOCOLS)]
    if len(wrong):
        raise DataError(
            f"{path} has protocol {wrong.iloc[0]!r}, expected one of {', '.join(PROTOCOLS)}"
        )
    _require_single(table, str(path))
    if "file" not in table:
        return
    for file in table.file:
        inside = PurePosixPath(file)
        if inside.is_absolute() or ".." in inside.parts:
            raise DataError(f"{path} has file {file!r}, expected one below {folder}")
        if not (folder / file).is_file():
            raise MissingError(
                f"{path} lists {file}, which is not there: make the pictures again, or take away the row"
            )


def _require_single(table: pd.DataFrame, where: str) -> None:
    double = table.duplicated(list(PLACE))
    if double.any():
        row = table.loc[double.idxmax(), list(PLACE)]
        raise DataError(
            f"{where} has two rows for {', '.join(filter(None, row))}, expected one: take away the older"
        )
