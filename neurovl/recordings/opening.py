"""The one interface to any data set: `open_recordings` finds out which kind a folder is.

Reading is done in ``neurovl.datasets``; nothing here knows a file format.
"""

from collections.abc import Sequence
from pathlib import Path

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.recordings.base import Recordings

__all__ = ["open_recordings", "require_both_splits"]


def open_recordings(
    path: str | Path,
    subjects: Sequence[str | int] | None = None,
    fold: int = 0,
    split: str | None = None,
    betas: str | None = None,
    max_missing_voxels: float | None = None,
) -> Recordings:
    """Open a folder with brain responses to pictures.

    Parameters
    ----------
    path : str or Path
        An NSD folder (it holds ``nsddata/``), real or simulated; a Haxby folder (``subj*/bold.nii.gz``,
        also below ``haxby2001/``); or a folder with a table of your own (``trials.tsv``).
    subjects : sequence of str or int, optional
        All that are there by default; ``1`` stands for ``'subj01'``.
    fold : int
        Which train/test partition, where the data set has several (Haxby: 4).
    split, betas : str, optional
        For NSD: the named partition ('shared1000' by default, or 'shared982') and the version of the betas
        ('betas_fithrf_GLMdenoise_RR' by default, or 'betas_fithrf'), see `NSDRecordings`.
    max_missing_voxels : float, optional
        Share of a mask's voxels that may be not finite in some session; 0.05 by default.

    Returns
    -------
    Recordings

    Raises
    ------
    MissingError
        If there is no such folder, or none of the three layouts in it.
    ConfigError
        For a fold, a split or betas that the data set does not have.

    Examples
    --------
    >>> neurovl.open_recordings(run.data_folder)
    NSDRecordings('simulated-nsd', subjects=['subj01', 'subj02'], 1500 trials of 450 images)
    """
    from neurovl.recordings import haxby, nsd, table

    root = Path(path).expanduser()
    if not root.is_dir():
        raise MissingError(
            f"the data folder {root} does not exist: give the path of one, or make simulated "
            f"data with neurovl simulate --out {root}"
        )
    if isinstance(subjects, str):
        subjects = [part for part in subjects.split(",") if part.strip()]
    elif isinstance(subjects, int):
        subjects = [subjects]
    signs = {
        "nsddata/": (root / "nsddata").is_dir() and nsd.NSDRecordings,
        "trials.tsv": (root / "trials.tsv").is_file() and table.TableRecordings,
        "subj*/bold.nii.gz": bool(haxby.find(root)) and haxby.HaxbyRecordings,
    }
    there = [sign for sign, reader in signs.items() if reader]
    if len(there) > 1:
        raise DataError(
            f"{root} holds {' and '.join(there)}, expected one data set in a folder: move the other to a folder of its own"
        )
    if not there:
        raise MissingError(
            f"{root} holds no data set: expected nsddata/ (NSD), subj*/bold.nii.gz (Haxby) or "
            "trials.tsv (your own table): give the folder that holds one of them with --data"
        )
    reader = signs[there[0]]
    if not 0 <= fold < reader.n_folds:
        raise ConfigError(
            f"fold {fold} was asked for, {root.name} has folds 0 to {reader.n_folds - 1}"
        )
    choices = {"split": split, "betas": betas}
    choices = {name: value for name, value in choices.items() if value is not None}
    if choices and reader is not nsd.NSDRecordings:
        name, value = next(iter(choices.items()))
        raise ConfigError(
            f"{name} {value!r} was asked for, {root.name} is not NSD and has one only: remove it from the profile"
        )
    found = reader(root, subjects=subjects, fold=fold, **choices)
    if max_missing_voxels is not None:
        found.max_missing_voxels = max_missing_voxels
    return found


def require_both_splits(recordings: Recordings) -> Recordings:
    """The same recordings; refused where no trial is for training, or none for testing."""
    for split in ("train", "test"):
        if split not in set(recordings.trials.split):
            raise DataError(
                f"{recordings.name} has {len(recordings.trials)} trials and none of them for {split}, expected "
                "pictures of both splits: give some pictures the other split, or take more subjects or sessions"
            )
    return recordings
