"""The labels of an atlas as regions of a table: one mask for each name and subject, and its column in subjects.tsv."""

import csv
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.files import replacing
from neurovl.recordings.betas.nifti_volumes import Volumes, same_voxels
from neurovl.recordings.region_files import matching, on_grid, open_here
from neurovl.recordings.table.table_files import inside, read_table
from neurovl.recordings.volume_checks import as_region

logger = logging.getLogger(__name__)

RESERVED = ("subject", "mask")  # columns that are no regions


def read_labels(text: str) -> dict[str, tuple[int, ...]]:
    """Names of regions and the labels that make them up.

    Parameters
    ----------
    text : str
        ``V1:1,V2:2``, or the path of a table that ends in .tsv with the columns ``index`` and ``name``, as BIDS gives an atlas
        (``*_dseg.tsv``; Brain Imaging Data Structure, derivatives, "Common image-derived labels"). A name that comes with
        several labels is their union; label 0 is the background and is left out of a table.

    Raises
    ------
    ConfigError, DataError, MissingError
        For labels that are not whole numbers above 0, no name, or names that files cannot be told apart by.

    Examples
    --------
    >>> from neurovl.recordings.atlas_regions import read_labels
    >>> read_labels("V1:1,V1:2,hV4:7")
    {'V1': (1, 2), 'hV4': (7,)}
    """
    if text.endswith(".tsv"):
        table = read_table(Path(text), ["index", "name"])
        pairs = list(zip(table["name"], table["index"], strict=True))
        pairs, where = [pair for pair in pairs if pair[1] != "0"], Path(text).name
    else:
        split = [part.rpartition(":") for part in text.split(",") if part.strip()]
        pairs, where = [(name.strip(), label.strip()) for name, _, label in split], "--labels"
    found: dict[str, tuple[int, ...]] = {}
    for name, label in pairs:
        if not name or not re.fullmatch("[0-9]+", label) or int(label) == 0:
            raise ConfigError(
                f"{where} has the label {label!r} for the region {name!r}, expected a name and a whole number above 0: write it "
                "as V1:1,V2:2, or as a .tsv with the columns index and name"
            )
        found[name] = (*found.get(name, ()), int(label))
    _refuse_names(found, where)
    return found


def _refuse_names(found: Mapping[str, tuple[int, ...]], where: str) -> None:
    if not found:
        raise ConfigError(f"{where} names no label, expected some: write them as V1:1,V2:2")
    files: dict[str, str] = {}
    for name in found:
        other = files.setdefault(_plain(name).lower(), name)
        if other != name:
            raise ConfigError(
                f"{where} has the regions {other!r} and {name!r}, whose files would both be named {_plain(name)}, expected names that "
                "differ in letters or digits: rename one"
            )
        if name in RESERVED:
            raise ConfigError(
                f"{where} has a region named {name!r}, which is a column of its own in subjects.tsv, expected another name: rename it"
            )


def check_atlas(pattern: str | None, labels: str | None, data: Path) -> None:
    """Refuse an atlas without labels, labels without an atlas and labels that cannot be, before anything is written."""
    if (pattern is None) != (labels is None):
        raise ConfigError(
            f"{'--labels' if pattern is None else '--atlas'} was given alone, expected --atlas and --labels together: give both"
        )
    if labels is not None:
        _read(labels, data)


def _read(labels: str, data: Path) -> dict[str, tuple[int, ...]]:
    return read_labels(str(data / labels) if labels.endswith(".tsv") else labels)


def add_regions(table: Path, pattern: str, labels: str, data: Path | None = None) -> dict[str, int]:
    """Write the labels of an atlas as regions into a table.

    Each region is a mask below ``regions/``; subjects.tsv gets a column for each name, and is replaced when all masks are
    written. A subject without an atlas, or whose atlas lacks a label, has an empty cell there.

    Parameters
    ----------
    table : Path
        Folder with subjects.tsv, as `TableRecordings` reads it.
    pattern : str
        Path of the atlas, which holds ``{subject}`` where each subject has its own, relative to `data`.
    labels : str
        See `read_labels`; a table's path is relative to `data`.
    data : Path, optional
        The table's folder by default.

    Returns
    -------
    dict
        For each region, the subjects that have it.

    Raises
    ------
    MissingError, DataError, ConfigError
        One sentence for an atlas that is missing, lies on another grid than its subject's mask or holds values that are not
        whole, for labels that no atlas has, and for names that subjects.tsv has already.

    Examples
    --------
    >>> import nibabel
    >>> from neurovl.recordings.atlas_regions import add_regions
    >>> atlas = np.zeros((3, 3, 3), np.uint8)
    >>> atlas[0], atlas[1] = 1, 2
    >>> nibabel.save(nibabel.Nifti1Image(atlas, np.eye(4)), folder / "atlas.nii.gz")
    >>> nibabel.save(nibabel.Nifti1Image(np.ones_like(atlas), np.eye(4)), folder / "mask.nii.gz")
    >>> _ = (folder / "subjects.tsv").write_text("subject\\tmask\\nsub-01\\tmask.nii.gz\\n")
    >>> add_regions(folder, "atlas.nii.gz", "V1:1,V2:2")
    {'V1': 1, 'V2': 1}
    """
    data = data or table
    wanted = _read(labels, data)
    subjects = read_table(table / "subjects.tsv", ["subject", "mask"])
    for name in wanted:
        if name in subjects:
            raise DataError(
                f"subjects.tsv has a region {name!r} already, expected a new name: choose another for the label, or remove the column"
            )
    atlases = {one: _find(pattern, one, data) for one in subjects.subject}
    if not any(atlases.values()):
        raise MissingError(
            f"--atlas {pattern} names no file of any subject in {data}, expected some: correct the pattern, it may hold {{subject}}"
        )
    masks = dict(zip(subjects.subject, subjects["mask"], strict=True))
    there = {}
    for subject, atlas in atlases.items():
        if atlas is not None:
            like = open_here(inside(table, masks[subject], "subjects.tsv"), table)
            on_grid([atlas], like, f"the atlas of {subject}")
            there[subject] = set(np.unique(_values(atlas, like)).tolist()) - {0}
    _compare(wanted, there, pattern)
    columns = {name: [""] * len(subjects) for name in wanted}
    for row, subject in enumerate(subjects.subject):
        if (atlas := atlases[subject]) is None:
            continue
        like = open_here(table / masks[subject], table)
        values = _values(atlas, like)
        for name, own in wanted.items():
            if there[subject] & set(own):
                columns[name][row] = _write(table, subject, name, np.isin(values, own), like)
    _add_columns(table / "subjects.tsv", columns)
    return {name: sum(map(bool, cells)) for name, cells in columns.items()}


def _find(pattern: str, subject: str, data: Path) -> Volumes | None:
    found = matching(pattern, subject, data)
    if len(found) > 1:
        raise DataError(
            f"--atlas {pattern} names {len(found)} files of {subject}, such as {found[0].name} and {found[1].name}, expected one: "
            "make the pattern narrower"
        )
    return open_here(found[0], data) if found else None


def _values(atlas: Volumes, like: Volumes) -> np.ndarray:
    """Whole labels (x, y, z) on the grid of `like`."""
    if atlas.shape[3] != 1:
        raise DataError(
            f"{atlas.name} has the shape {atlas.shape}, expected three axes (x, y, z) with a label in each voxel: name an atlas "
            "with one volume"
        )
    values = atlas.read(same_voxels(atlas, like, np.arange(like.n_voxels)), [0])[0]
    as_region(values, f"the atlas {atlas.name}")
    whole = np.rint(np.nan_to_num(values)).astype(np.int64)
    return whole.reshape(like.grid, order="F")


def _compare(wanted: Mapping[str, tuple], there: Mapping[str, set], pattern: str) -> None:
    """Refuse labels that no atlas has; say which are missing for a subject, and which have no name."""
    known = set().union(*there.values())
    named = {label for own in wanted.values() for label in own}
    if absent := sorted(named - known):
        some = ", ".join(str(label) for label in sorted(known)[:8])
        raise DataError(
            f"--labels has {absent[0]}{f' and {len(absent) - 1} more' if absent[1:] else ''}, expected labels of the atlas {pattern}, "
            f"which are {some or 'none above 0'}{' and others' if len(known) > 8 else ''}: correct them"
        )
    for subject, labels in there.items():
        if lost := [name for name, own in wanted.items() if not labels & set(own)]:
            logger.warning("%s has no voxel of %s: left empty", subject, ", ".join(lost[:8]))
    if unnamed := sorted(known - named):
        logger.warning(
            "%d labels of the atlas have no name and are left out, such as %s",
            len(unnamed),
            ", ".join(map(str, unnamed[:5])),
        )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)


def _write(table: Path, subject: str, name: str, region: np.ndarray, like: Volumes) -> str:
    import nibabel

    path = table / "regions" / f"{subject}_{_plain(name)}.nii.gz"
    with replacing(path) as part:
        nibabel.save(nibabel.Nifti1Image(region.astype(np.uint8), like.affine), part)
    return path.relative_to(table).as_posix()


def _add_columns(path: Path, columns: Mapping[str, list[str]]) -> None:
    table = read_table(path, ["subject", "mask"]).assign(**columns)
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([list(table), *table.to_numpy().tolist()])
