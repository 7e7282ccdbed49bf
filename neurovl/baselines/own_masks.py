"""From recordings to what decoders read: every trial of a subject, standardised, at the voxels of its own mask, on the disk."""

import json
from pathlib import Path

import numpy as np

from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import Recordings
from neurovl.recordings.missing_voxels import usable_mask
from neurovl.results import read_named
from neurovl.tokens.writing import MIN_TRAINING_TRIALS, all_moments, standardisation

TRIALS = "trials.csv"


def write_voxels(recordings: Recordings, folder: Path, n_jobs: int = 1) -> None:
    """Write each subject's z-scores, float16 (n_trials, V), with its mask and regions.

    z = (beta - mean) / sd of each voxel over the training trials of the session, as the token store has it, but on the
    subject's own grid: nothing is resized. A session with fewer than 20 training trials uses its own unlabelled statistics.

    Parameters
    ----------
    recordings : Recordings
    folder : Path
        Receives SUBJECT-train.npy, SUBJECT-test.npy, SUBJECT.npz (mask and regions), trials.csv and subjects.json.
    n_jobs : int
        Processes that look for voxels that are not finite.

    Examples
    --------
    >>> from neurovl.baselines.own_masks import read_voxels, write_voxels
    >>> write_voxels(data, folder)
    >>> voxels = read_voxels(folder, "subj01", "train")
    >>> voxels.n_voxels == int(data.mask(1).sum())
    True
    """
    folder = Path(folder)
    recordings.trials.to_csv(folder / TRIALS, index=False)
    for subject in recordings.subjects:
        mask = usable_mask(recordings, subject, n_jobs).voxels
        inside, order = file_order(mask)
        trials = recordings.subject_trials(subject).reset_index(drop=True)
        moments = (
            all_moments(recordings, subject, inside) if recordings.zscore == "subject" else None
        )
        rows = trials.groupby("split").cumcount().to_numpy()
        out = {
            split: np.lib.format.open_memmap(
                folder / f"{subject}-{split}.npy", "w+", np.float16, (len(part), len(inside))
            )
            for split, part in trials.groupby("split")
        }
        for session, own in trials.groupby("session", sort=False):
            is_train = (own.split == "train").to_numpy()
            if moments is None and is_train.sum() < MIN_TRAINING_TRIALS:
                is_train = np.ones(len(own), bool)
            values = recordings.session_voxels(subject, session, inside)
            scale, mean = standardisation(values, is_train, moments)
            z = z_scores(values, scale, mean, f"session {session} of {subject}")
            for split, values in out.items():
                chosen = (own.split == split).to_numpy()
                values[rows[own.index[chosen]]] = z[chosen][:, order]
        for values in out.values():
            values.flush()
        regions = {f"roi_{k}": roi[mask] for k, roi in recordings.rois(subject).items()}
        np.savez_compressed(folder / f"{subject}.npz", mask=mask, **regions)
    (folder / "subjects.json").write_text(json.dumps(recordings.subjects))


def file_order(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the V voxels of a mask lie in files, which run through the grid in Fortran order, and the way to C order.

    Returns
    -------
    inside, order : int array, shape (V,)
        Sorted flat indices in Fortran order, as `Recordings.session_voxels` takes them; what it gives has the order of the mask's
        `SubjectVoxels` as `values[:, order]`.

    Examples
    --------
    >>> from neurovl.baselines.own_masks import file_order
    >>> mask = np.array([[True, True], [True, False]])
    >>> inside, order = file_order(mask)
    >>> inside.tolist(), order.tolist()
    ([0, 1, 2], [0, 2, 1])
    """
    inside = np.flatnonzero(mask.ravel(order="F"))
    places = np.ravel_multi_index(np.unravel_index(inside, mask.shape, order="F"), mask.shape)
    return inside, np.argsort(places)


def z_scores(values: np.ndarray, scale: np.ndarray, mean: np.ndarray, whose: str) -> np.ndarray:
    """Responses (n, V), standardised, float32.

    Raises
    ------
    DataError
        One that float16 cannot hold.
    """
    z = (values.astype(np.float32) - mean) * scale
    if np.abs(z).max() > np.finfo(np.float16).max:
        raise DataError(
            f"{whose} has trials that lie more than 65504 standard deviations from the mean of the training trials, expected "
            "betas of one scale; look at them, or leave them out"
        )
    return z


def subjects_in(folder: Path) -> list[str]:
    """The subjects whose voxels lie in a folder of `write_voxels`."""
    return json.loads((Path(folder) / "subjects.json").read_text())


def read_voxels(folder: Path, subject: str, split: str) -> SubjectVoxels:
    """The trials of one subject and split, as `write_voxels` wrote them.

    Raises
    ------
    MissingError
        They are not there.
    """
    folder = Path(folder)
    if not (folder / f"{subject}.npz").is_file():
        raise MissingError(
            f"{folder.name}/ has no voxels of {subject}; make them: neurovl compare --run RUN --systems all"
        )
    trials = read_named(folder / TRIALS, ("image_id", "subject", "session"))
    own = trials[(trials.subject == subject) & (trials.split == split)]
    with np.load(folder / f"{subject}.npz") as arrays:
        mask = arrays["mask"]
        rois = {k.removeprefix("roi_"): arrays[k] for k in arrays.files if k != "mask"}
    file = folder / f"{subject}-{split}.npy"
    values = np.load(file, mmap_mode="r") if len(own) else np.empty((0, mask.sum()), np.float16)
    return SubjectVoxels(
        subject, values, own.image_id.to_numpy(str), own.repeat.to_numpy(int), mask, rois
    )
