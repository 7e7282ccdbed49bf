"""From arrays of responses to a table: volumes, masks, trials and pictures, all that an array does not say stated by its user.

Arrays are read in blocks of trials and written as compressed NIfTI files, one for each subject and session; the source is only
read. Leaves out arrays on the surface, and arrays that hold several subjects.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.recordings.arrays.array_files import StoredArray, open_array
from neurovl.recordings.arrays.array_layouts import Layout, find_layout
from neurovl.recordings.arrays.volume_files import new_volumes
from neurovl.recordings.atlas_regions import add_regions, check_atlas
from neurovl.recordings.betas.nifti_volumes import Volumes
from neurovl.recordings.pictures import endings
from neurovl.recordings.region_files import matching, on_grid, open_here, region_of, write_region
from neurovl.recordings.splits import Split
from neurovl.recordings.table.table_files import read_table
from neurovl.recordings.table.table_writer import new_table, place, write_tables

logger = logging.getLogger(__name__)

BLOCK = 128 << 20  # bytes of the source at a time
BATCH = 16 << 20  # bytes of whole volumes at a time


@dataclass(frozen=True)
class ArraysChoice:
    """What arrays do not say themselves.

    Attributes
    ----------
    betas, mask : str
        Paths relative to the data, with ``{subject}`` where each subject has its own; of `betas` also with ``{session}``.
    trials : str
        A table with the columns ``subject``, ``session`` and ``image_id``, its rows in the order of the arrays.
    units : str
        Of the values, such as 'percent signal change'.
    axes, order : str, optional
        See `find_layout`.
    variable : str, optional
        Which array of a .mat or HDF5 file.
    rois : dict
        Name of a region to the pattern of its masks.
    atlas, labels : str, optional
        See `add_regions`.
    stimuli : Path, optional
        Folder with a picture for each image_id.

    Examples
    --------
    >>> from neurovl.recordings.arrays import ArraysChoice
    >>> ArraysChoice("sub{subject}.npy", "mask.nii.gz", "trials.tsv", "z-scores", order="C").rois
    {}
    """

    betas: str
    mask: str
    trials: str
    units: str
    axes: str | None = None
    order: str | None = None
    variable: str | None = None
    rois: dict[str, str] = field(default_factory=dict)
    atlas: str | None = None
    labels: str | None = None
    stimuli: Path | None = None


def convert_arrays(
    data: Path,
    out: Path,
    choice: ArraysChoice,
    split: Split | None = None,
    zscore: str = "session",
) -> Path:
    """Write a table from arrays of single-trial responses.

    Parameters
    ----------
    data : Path
        Folder that the patterns of `choice` are relative to.
    out : Path
        New folder; it appears when it is whole.
    choice : ArraysChoice
    split : Split
        Which pictures are tested; by default those that a column ``split`` of the trials marks as test.
    zscore : str
        'session' or 'subject', see `TableRecordings`.

    Raises
    ------
    MissingError, DataError, ConfigError
        One sentence for what is missing, can be read in two ways or does not fit together.

    Examples
    --------
    >>> import nibabel
    >>> from neurovl.recordings.arrays import ArraysChoice, convert_arrays
    >>> from neurovl.recordings.splits import Split
    >>> mask = nibabel.Nifti1Image(np.ones((2, 3, 2), np.uint8), np.diag([2.0, 2, 2, 1]))
    >>> nibabel.save(mask, folder / "mask.nii.gz")
    >>> np.save(folder / "betas.npy", np.random.default_rng(0).normal(size=(4, 12)))
    >>> rows = ["subject\\tsession\\timage_id", *(f"sub-01\\t1\\tp{n}" for n in range(4))]
    >>> _ = (folder / "trials.tsv").write_text("\\n".join(rows))
    >>> choice = ArraysChoice("betas.npy", "mask.nii.gz", "trials.tsv", "z-scores", order="C")
    >>> out = convert_arrays(folder, folder / "mine", choice, Split(fraction=0.5))
    >>> neurovl.open_recordings(out).volumes("sub-01").shape
    (4, 2, 3, 2)
    """
    data = Path(data)
    if not data.is_dir():
        raise MissingError(f"the data folder {data} does not exist: give the path of one")
    if not choice.units.strip():
        raise ConfigError(
            "--units is empty, expected what the values are, such as 'percent signal change': state it"
        )
    trials = _read_trials(data / choice.trials, choice)
    about = {"name": data.resolve().name, "units": choice.units}
    pictures = _pictures(trials, choice.stimuli)

    def put_pictures(folder: Path) -> None:
        for image_id, path in pictures.items():
            place(path, folder / f"{image_id}{path.suffix.lower()}")

    return write_arrays(data, out, choice, trials, split or Split(), about, zscore, put_pictures)


def write_arrays(
    data: Path,
    out: Path,
    choice: ArraysChoice,
    trials: pd.DataFrame,
    split: Split,
    about: dict,
    zscore: str,
    put_pictures: Callable[[Path], None],
    complete: bool = True,
) -> Path:
    """The table of trials whose arrays are known.

    Parameters
    ----------
    data, out, choice, split, zscore
        As for `convert_arrays`.
    trials : DataFrame
        ``subject``, ``session``, ``image_id``, ``repeat``, ``file`` (of the array) and ``position`` (on its axis of trials).
    about : dict
        Content of dataset.json.
    put_pictures : callable
        Fills a folder with pictures; none where it makes none.
    complete : bool
        Whether an array must hold these trials and no more.
    """
    check_atlas(choice.atlas, choice.labels, data)
    test, how = split.choose(trials.assign(stimulus=trials.image_id))
    logger.info("split: %s", how)
    trials = trials.assign(split=np.where(trials.image_id.isin(test), "test", "train"))
    licence = {"licence": "not stated", "terms": "not stated", "publish_images": False}
    with new_table(out) as table:
        subjects, rows = [], []
        for subject, own in trials.groupby("subject", sort=False):
            mask = _mask(subject, choice.mask, data)
            subjects.append(_regions(table, subject, mask, choice.rois, data))
            rows.append(_write_volumes(table, subject, own, mask, choice, data, complete))
        _refuse_unmatched(choice.rois, subjects, data)
        put_pictures(table / "stimuli")
        written = pd.concat(rows).loc[trials.index]
        about = {**licence, **about, "zscore": zscore, "split": how}
        write_tables(table, written.to_dict("records"), subjects, about)
        if choice.atlas:
            add_regions(table, choice.atlas, choice.labels, data)
    return Path(out)


def _read_trials(path: Path, choice: ArraysChoice) -> pd.DataFrame:
    trials = read_table(path, ["subject", "session", "image_id"])
    if trials.empty:
        raise DataError(f"{path.name} holds no trials, expected a row for each: add them")
    for column in ("subject", "session", "image_id"):
        bad = trials.index[trials[column].str.contains(r"^$|[/\\]|^\.")]
        if len(bad):
            raise DataError(
                f"{path.name} has the {column} {trials[column][bad[0]]!r} in line {bad[0]}, expected a plain name without / or \\ and "
                "without a dot in front, because files are named after it: correct it"
            )
    trials = trials.reset_index(drop=True)
    names = [
        choice.betas.replace("{subject}", subject).replace("{session}", session)
        for subject, session in zip(trials.subject, trials.session, strict=True)
    ]
    trials = trials.assign(file=names, repeat=trials.get("repeat", ""))
    shared = trials.groupby("file").subject.nunique()
    if (shared > 1).any():
        raise DataError(
            f"--betas {choice.betas} names one array for {shared.max()} subjects, expected one a subject: write {{subject}} where "
            "their names differ"
        )
    return trials.assign(position=trials.groupby("file").cumcount())


def _mask(subject: str, pattern: str, data: Path) -> Volumes:
    found = matching(pattern, subject, data)
    if len(found) != 1:
        raise MissingError(
            f"--mask {pattern} names {len(found)} files of {subject} in {data}, expected one NIfTI mask: correct the pattern, it may "
            "hold {subject}"
        )
    return open_here(found[0], data)


def _regions(table: Path, subject: str, mask: Volumes, rois: dict[str, str], data: Path) -> dict:
    row = {"subject": subject, "mask": write_region(table, subject, "mask", [mask], mask, all)}
    for name, pattern in rois.items():
        found = [open_here(path, data) for path in matching(pattern, subject, data)]
        on_grid(found, mask, f"the region {name} of {subject}")
        row[name] = write_region(table, subject, name, found, mask, any) if found else ""
    return row


def _refuse_unmatched(rois: dict[str, str], subjects: list[dict], data: Path) -> None:
    for name, pattern in rois.items():
        if not any(row[name] for row in subjects):
            raise MissingError(
                f"--roi {name}={pattern} names no file of any subject in {data}, expected some: correct the pattern, it may hold "
                "{subject} and *"
            )


def _write_volumes(
    table: Path,
    subject: str,
    trials: pd.DataFrame,
    mask: Volumes,
    choice: ArraysChoice,
    data: Path,
    complete: bool,
) -> pd.DataFrame:
    """A subject's trials with the columns ``volume`` and ``index`` of the files that were written."""
    names = {
        session: f"betas/{subject}_ses-{re.sub(r'[^A-Za-z0-9]+', '-', session)}.nii.gz"
        for session in trials.session.unique()
    }
    if len(set(names.values())) < len(names):
        raise DataError(
            f"two of the sessions {', '.join(names)} of {subject} would give one file, expected names that differ in letters or digits: "
            "rename one"
        )
    voxels = region_of([mask], mask, all)
    done = []
    with tqdm(total=len(trials), desc=f"volumes of {subject}", leave=False) as bar:
        for file, own in trials.groupby("file", sort=False):
            with open_array(data / file, file, choice.variable) as stored:
                n_trials = len(own) if complete else None
                layout = find_layout(
                    stored.shape, file, n_trials, voxels, choice.axes, choice.order
                )
                if own.position.max() >= layout.n_trials:
                    raise DataError(
                        f"{file} holds {layout.n_trials} trials and the trials' table names number {own.position.max()} (counted from 0), "
                        "expected an array of all trials: take the two of one release"
                    )
                done.append(_copy(table, own, names, stored, layout, mask.affine, bar))
    return pd.concat(done)


def _copy(
    table: Path,
    trials: pd.DataFrame,
    names: dict[str, str],
    stored: StoredArray,
    layout: Layout,
    affine: np.ndarray,
    bar: tqdm,
) -> pd.DataFrame:
    """Write an array's trials to the files of their sessions, block after block."""
    trials = trials.assign(volume=trials.session.map(names))
    trials = trials.assign(index=trials.groupby("volume").cumcount())
    batch = max(1, BATCH // (4 * int(np.prod(layout.grid))))
    step = stored.step(layout.trials, BLOCK)
    with contextlib.ExitStack() as files:
        writers = {
            name: files.enter_context(new_volumes(table / name, layout.grid, n, affine))
            for name, n in trials.volume.value_counts(sort=False).items()
        }
        for first in range(0, layout.n_trials, step):
            here = trials[trials.position.between(first, first + step - 1)]
            if here.empty:
                continue
            block = stored.block(layout.trials, first, min(first + step, layout.n_trials))
            block = np.moveaxis(block, layout.trials, 0)
            for name, rows in here.groupby("volume", sort=False):
                at = rows.position.to_numpy() - first
                for start in range(0, len(at), batch):
                    some = np.moveaxis(block[at[start : start + batch]], 0, layout.trials)
                    writers[name](layout.volumes(some))
                    bar.update(some.shape[layout.trials])
    return trials


def _pictures(trials: pd.DataFrame, folder: Path | None) -> dict[str, Path]:
    """The file of each picture."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise MissingError(f"--stimuli names {folder}, which is no folder: correct it")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in endings():
            files.setdefault(path.stem, []).append(path)
    images = trials.image_id.unique()
    wrong = [image_id for image_id in images if len(files.get(image_id, [])) != 1]
    if wrong:
        raise DataError(
            f"--stimuli {folder} has {len(files.get(wrong[0], []))} pictures named {wrong[0]}, expected one file IMAGE_ID.png, .jpg or "
            f"the like for each of {len(images)} pictures: {len(wrong)} of them are not so"
        )
    return {image_id: files[image_id][0] for image_id in images}
