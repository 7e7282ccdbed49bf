"""Finding single-trial betas, their tables of trials and their masks in BIDS derivatives, by file names.

Layouts as they are published: THINGS-fMRI's volumes lie in ``betas_vol/sub-01/ses-things01/
sub-01_ses-things01_run-01_betas.nii.gz`` with ``..._conditions.tsv`` (column ``image_filename``) beside
and ``brainmasks/sub-01_space-T1w_brainmask.nii.gz`` (Hebart et al. 2023, eLife 12:e82580; usage notes of
its repository); raw BIDS has ``..._events.tsv`` with ``stim_file`` (NOD, ds004496) or ``file_path``
(ds004192). NOD's own betas are on the surface (``_beta.dscalar.nii``), which is refused.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.region_files import natural
from neurovl.recordings.table.table_files import POSITIONS, by_plain_name, read_table

SUFFIXES = ("betas", "beta", "betaseries")
TABLES = ("conditions", "trials", "events")
MASKS = ("_desc-brain_mask", "_brainmask", "_mask")  # the first kind on the betas' grid is taken
PICTURE_COLUMNS = (
    "stim_file",
    "image_filename",
    "file_path",
    "stimulus",
    "stimulus_id",
    "stim_id",
    "image_id",
    "image_name",
    "image_file",
    "image",
)
NIFTI = (".nii.gz", ".nii")
SURFACE = re.compile(r"\.(dscalar|dtseries)\.nii$|\.func\.gii$|\.mgh$")
GLMSINGLE = re.compile(r"^TYPE[B-D]_.*\.(npy|hdf5|mat)$")


@dataclass(frozen=True, eq=False)
class BidsFile:
    """A file with the entities of its name; those of subject and session may come from its folders."""

    path: Path
    entities: dict[str, str]
    suffix: str

    def __getitem__(self, entity: str) -> str:
        return self.entities.get(entity, "")


def scan(folder: Path, endings: tuple[str, ...]) -> list[BidsFile]:
    """All files of subjects below a folder, hidden folders left out, in order of their names."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            ending = next((end for end in endings if name.endswith(end)), None)
            if ending is None or name.startswith(".") or SURFACE.search(name):
                continue
            entities, suffix = parse_name(
                Path(place).relative_to(folder), name.removesuffix(ending)
            )
            if "sub" in entities:
                found.append(BidsFile(Path(place) / name, entities, suffix))
    return sorted(found, key=lambda file: natural(str(file.path)))


def parse_name(place: Path, stem: str) -> tuple[dict[str, str], str]:
    """Entities and suffix of a name without its ending; those of subject and session also from its folders."""
    parts = [part for part in place.parts if re.fullmatch(r"(sub|ses)-[^_]+", part)]
    *named, suffix = stem.split("_")
    parts += named if "-" not in suffix else [*named, suffix]
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return entities, "" if "-" in suffix else suffix


def same_label(one: str, other: str) -> bool:
    """Whether two labels mean the same: '6' and '06' do."""
    return one == other or (one.isdigit() and other.isdigit() and int(one) == int(other))


def derivative_folder(data: Path, derivative: str | None) -> Path:
    """Where to look for betas: a derivative of the data set, or the whole of it."""
    if not data.is_dir():
        raise MissingError(f"the folder {data} does not exist: give the path of a BIDS data set")
    if derivative is None:
        return data
    for folder in (data / "derivatives" / derivative, data / derivative):
        if folder.is_dir():
            return folder
    place = data / "derivatives"
    known = sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []
    raise MissingError(
        f"{data} has no derivative {derivative!r}, only {', '.join(known) or 'none at all'}: "
        "choose one with --derivative"
    )


def find_betas(folder: Path, suffix: str | None, select: dict[str, str]) -> list[BidsFile]:
    """The 4-D files of betas, one a run or one a session, in order of subject, session and run.

    Raises
    ------
    MissingError
        If there are none; says so where they are on the surface or in GLMsingle's own files.
    DataError
        If two files hold the same run, or there are several tasks.
    """
    suffixes = SUFFIXES if suffix is None else (suffix,)
    files = [file for file in scan(folder, NIFTI) if file.suffix in suffixes and fits(file, select)]
    if not files:
        _explain_none(folder, suffixes, select)
    return one_file_a_run(files, folder)


def one_file_a_run(files: Sequence[BidsFile], folder: Path) -> list[BidsFile]:
    """The files in order of subject, session and run; several tasks, or two files of one run, are refused."""
    tasks = sorted({file["task"] for file in files} - {""})
    if len(tasks) > 1:
        raise DataError(
            f"{folder} has {files[0].suffix} files of the tasks {', '.join(tasks)}, expected one: choose it with "
            f"--select task={tasks[0]}"
        )
    sessions: dict[tuple, dict[str, BidsFile]] = {}
    for file in files:
        runs = sessions.setdefault((file["sub"], file["ses"]), {})
        run = str(int(file["run"])) if file["run"].isdigit() else file["run"]
        other = (
            runs.get(run) or runs.get("") or (next(iter(runs.values()), None) if not run else None)
        )
        if other is not None:
            raise DataError(
                f"{_below(folder, other)} and {_below(folder, file)} hold the same trials, expected "
                f"one file a run or one a session: {_how_to_choose(folder, other, file)}"
            )
        runs[run] = file
    return sorted(files, key=lambda f: [natural(f[entity]) for entity in ("sub", "ses", "run")])


def _how_to_choose(folder: Path, one: BidsFile, other: BidsFile) -> str:
    for entity in dict.fromkeys([*one.entities, *other.entities]):
        if one[entity] != other[entity] and one[entity] and entity != "run":
            return f"choose with --select {entity}={one[entity]}"
    if one.suffix != other.suffix:
        return f"choose with --suffix {one.suffix}"
    if one.path.parent != other.path.parent:
        place = re.split(r"/?sub-", _below(folder, one), maxsplit=1)[0]
        return f"choose with --derivative, such as {place}" if place else "choose with --derivative"
    return "remove one of them"


def _explain_none(folder: Path, suffixes: Sequence[str], select: Mapping[str, str]) -> None:
    names = sorted(name for _, _, names in os.walk(folder) for name in names)
    surface = [n for n in names if SURFACE.search(n) and re.search(r"beta", n)]
    own = [n for n in names if GLMSINGLE.match(n)]
    if surface:
        raise MissingError(
            f"{folder} has single-trial betas on the surface only, such as {surface[0]}, expected "
            "volumes (NIfTI): estimate them in the volume, from preprocessed BOLD in the subject's own space "
            "(neurovl betas)"
        )
    if own:
        raise MissingError(
            f"{folder} has GLMsingle's own files, such as {own[0]}, which do not say where the voxels "
            "lie, expected NIfTI: convert them with neurovl convert arrays and a mask on the grid of the BOLD"
        )
    chosen = "".join(f" with {key}-{value}" for key, value in select.items())
    raise MissingError(
        f"{folder} has no single-trial betas{chosen}, expected files such as "
        f"sub-01_ses-01_run-01_{suffixes[0]}.nii.gz (or {', '.join(suffixes[1:]) or 'no other name'}): "
        "give the folder with --data or --derivative, or the end of their names with --suffix"
    )


def fits(file: BidsFile, wanted: Mapping[str, str]) -> bool:
    """Whether a name has the labels that are wanted."""
    return all(same_label(file[entity], label) for entity, label in wanted.items())


def _below(folder: Path, file: BidsFile) -> str:
    return file.path.relative_to(folder).as_posix()


def find_trials(
    betas: BidsFile,
    data: Path,
    tables: list[BidsFile],
    kind: str | None,
    select: dict[str, str],
    order: str | None = None,
) -> tuple[pd.DataFrame, str]:
    """The table of a file's trials in the order of its volumes, and its name; the runs' tables in a row for a file of a session.

    Tables beside the betas come before the events of the raw data.
    """
    kinds = TABLES if kind is None else (kind,)
    match = [
        table
        for table in tables
        if table.suffix in kinds
        and same_label(table["sub"], betas["sub"])
        and same_label(table["ses"], betas["ses"])
        and all(
            not (table[entity] and betas[entity]) or same_label(table[entity], betas[entity])
            for entity in ("task", "run")
        )
        and all(not table[e] or same_label(table[e], label) for e, label in select.items())
    ]
    beside = [table for table in match if table.path.parent == betas.path.parent]
    found = beside or [t for t in match if t.suffix == "events" and _is_raw(t, data)] or match
    what = os.path.relpath(betas.path, data)
    if not found:
        raise MissingError(
            f"{what} has no table of its trials, expected one that ends in "
            f"{', '.join(f'_{k}.tsv' for k in kinds)} beside it, or the run's _events.tsv in the raw "
            "data: add it, or name another ending with --table"
        )
    whole = not betas["run"] and all(table["run"] for table in found)
    one_each = len({(t["task"], t.suffix) for t in found}) == 1 and len(
        {t["run"] for t in found}
    ) == len(found)
    if len(found) > 1 and not (whole and one_each):
        names = ", ".join(table.path.name for table in found[:3])
        raise DataError(
            f"{what} has several tables of trials ({names}), expected one: choose with --table "
            f"{found[0].suffix}, or with --select task=NAME"
        )
    found = sorted(found, key=lambda table: natural(table["run"]))
    parts = [in_order(read_table(table.path), table.path.name, order) for table in found]
    names = " and ".join(os.path.relpath(table.path, data) for table in found)
    return pd.concat(parts).fillna("").replace("n/a", ""), names


def in_order(table: pd.DataFrame, name: str, order: str | None) -> pd.DataFrame:
    """A run's trials in the order of its volumes.

    A column of positions (`beta_index` and its like) says it, counted from 0 or from 1. Without one the rows are in order where
    their onsets are; else their user says which order holds, 'rows' or 'onset'. What is said twice must agree.

    Raises
    ------
    DataError
        Positions that do not come once each, or contradict another such column or the order that is stated; onsets that are no
        seconds, or rows out of the order of onset.
    """
    plain = by_plain_name(table)
    columns = [plain[one] for one in POSITIONS if one in plain]
    if columns:
        rows = {column: _positions(table[column], name) for column in columns}
        first, *others = columns
        for other in others:
            if not np.array_equal(rows[first], rows[other]):
                raise DataError(
                    f"{name} has the columns {first!r} and {other!r}, which put the volumes in different orders, expected one "
                    "such column: rename the one that means something else"
                )
        found = table.iloc[rows[first]]
        if order is not None:
            stated = in_order(table.drop(columns=columns), name, order)
            if not stated.index.equals(found.index):
                raise DataError(
                    f"--order is {order!r} and the column {first!r} of {name} puts the volumes in another order, expected one "
                    "statement: leave --order out, or rename the column if it means something else"
                )
        return found
    if "onset" not in table or order == "rows":
        return table
    onsets = pd.to_numeric(table["onset"], errors="coerce").to_numpy()
    if np.isnan(onsets).any():
        bad = table["onset"].iloc[int(np.isnan(onsets).argmax())]
        raise DataError(
            f"{name} has the onset {bad!r}, expected seconds: correct it, or state --order rows"
        )
    if order == "onset":
        return table.iloc[np.argsort(onsets, kind="stable")]
    if (np.diff(onsets) < 0).any():
        raise DataError(
            f"the rows of {name} are not in order of onset, so it is not known which volume belongs to which: state the order of "
            "the volumes with --order onset (as they were shown) or --order rows (as the table has them)"
        )
    return table


def _positions(column: pd.Series, name: str) -> np.ndarray:
    """The rows in the order of a column of positions, from 0 or from 1."""
    at = pd.to_numeric(column, errors="coerce").to_numpy()
    if not any(np.array_equal(np.sort(at), np.arange(k, k + len(at))) for k in (0, 1)):
        raise DataError(
            f"{name} has the column {column.name!r}, expected the position of each row's volume in its file, all from 0 (or 1) "
            "on: correct it, or rename the column if it means something else"
        )
    return np.argsort(at)


def _is_raw(table: BidsFile, data: Path) -> bool:
    return table.path.relative_to(data).parts[0].startswith("sub-")


def picture_column(table: pd.DataFrame, name: str, column: str | None) -> str:
    """The column that names the pictures; several must tell the same pictures apart, or one is stated."""
    found = [one for one in ((column,) if column else PICTURE_COLUMNS) if one in table]
    if not found:
        columns = ", ".join(one for one in table.columns if one)
        raise DataError(
            f"{name} has the columns {columns}, expected "
            f"{column or 'one that names the picture, such as stim_file'}: choose it with --stimulus"
        )
    groups = [pd.factorize(table[one])[0] for one in found]
    for other, group in zip(found, groups, strict=True):
        if not np.array_equal(group, groups[0]):
            raise DataError(
                f"{name} has the columns {found[0]} and {other}, which do not tell the same pictures apart, expected to know "
                f"which names the picture: state it with --stimulus {found[0]} or --stimulus {other}"
            )
    return found[0]


def named_by(rows: pd.DataFrame, patterns: Sequence[str]) -> np.ndarray:
    """Which rows a pattern such as ``catch*`` names, by their picture (``stimulus``) or their ``trial_type``."""
    out = np.zeros(len(rows), bool)
    for column in ("stimulus", "trial_type"):
        if column in rows:
            for pattern in patterns:
                names = rows[column].astype(str)
                hit = [fnmatch(n, pattern) or fnmatch(n.split("/")[-1], pattern) for n in names]
                out |= np.array(hit, bool)
    return out


def brain_masks(subject: str, files: list[BidsFile]) -> list[list[BidsFile]]:
    """Masks of a subject's brain by their names, one list a kind, the surest kind first."""
    own = [f for f in files if f"sub-{f['sub']}" == subject and not f["label"]]
    names = {f: re.sub(r"\.nii(\.gz)?$", "", f.path.name) for f in own}
    kinds = [[f for f in own if names[f].endswith(kind)] for kind in MASKS]
    return [found for found in kinds if found]
