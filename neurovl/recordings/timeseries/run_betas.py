"""Betas of one run, from its volumes to a NIfTI file; the volumes of one run are in memory at a time.

In percent, a beta says by how much of the voxel's mean in the run the response to the trial rises at its peak.
A run that was written before from the same volumes, events and settings is not done again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurovl import __version__
from neurovl.errors import DataError
from neurovl.files import replacing
from neurovl.recordings.base import digest, fingerprint
from neurovl.recordings.betas.nifti_volumes import Volumes, same_voxels
from neurovl.recordings.timeseries.bold_runs import BoldRun
from neurovl.recordings.timeseries.choices import BetasChoice
from neurovl.recordings.timeseries.trial_model import beta_weights, drift_columns, trial_columns
from neurovl.recordings.volume_checks import MAX_CONSTANT, clean_voxels

logger = logging.getLogger(__name__)

REACHED = 0.5  # share of its peak that a trial's response must reach within the run to get a beta


@dataclass(frozen=True, eq=False)
class RunModel:
    """The regressors of a run.

    Attributes
    ----------
    kept : bool array of shape (n_shown,)
        Which of the events that are not dropped get a beta: those whose response the run holds.
    columns : array of shape (n_volumes, n_trials)
    beside : array of shape (n_volumes, n_columns)
        Confounds, and events that get no beta.
    weights : array of shape (n_trials, n_volumes), optional
        From the series to the response at its peak; none for GLMsingle, which has a model of its own.
    """

    kept: np.ndarray
    columns: np.ndarray
    beside: np.ndarray
    weights: np.ndarray | None


def model_of(run: BoldRun, choice: BetasChoice) -> RunModel:
    """Build the regressors of a run."""
    shown = run.events[~run.events.dropped]
    columns, peaks = trial_columns(shown.onset, shown.duration, run.times, choice.hrf)
    kept = columns.max(0, initial=0) >= REACHED * peaks
    other = run.events[run.events.dropped]
    kinds = other.trial_type if "trial_type" in other else other.stimulus
    beside = [run.confounds, columns[:, ~kept]]
    for kind in kinds.unique():
        some = other[kinds == kind]
        responses, _ = trial_columns(some.onset, some.duration, run.times, choice.hrf)
        beside.append(responses.sum(1, keepdims=True))
    columns, peaks, beside = columns[:, kept], peaks[kept], np.hstack(beside)
    weights = None
    if choice.method != "glmsingle" and kept.any():
        nuisance = np.hstack(
            [drift_columns(run.times, choice.high_pass, choice.drift_order), beside]
        )
        weights = peaks[:, None] * beta_weights(columns, nuisance, choice.method, run.bold.name)
    return RunModel(kept, columns, beside, weights)


def read_series(
    run: BoldRun, like: Volumes, voxels: np.ndarray, units: str
) -> tuple[np.ndarray, np.ndarray]:
    """The mask's voxels of a run without their means, and the means; both 0 in voxels of no use.

    Parameters
    ----------
    run : BoldRun
    like : Volumes
        Whose grid `voxels` counts.
    voxels : int array of shape (n_voxels,)
    units : str
        'percent' needs means that stand out of the noise.

    Returns
    -------
    series : float32 array of shape (n_volumes, n_voxels)
    mean : array of shape (n_voxels,)

    Raises
    ------
    DataError
        For values that are not finite, voxels that do not change, and means that no percentage can be taken of.
    """
    name = run.bold.name
    series = run.bold.read(
        same_voxels(run.bold, like, voxels), np.arange(run.bold.shape[3])
    ).astype(np.float32, copy=False)
    series = clean_voxels(series, np.ones(len(voxels), bool), name)
    mean = series.mean(0, dtype=np.float64)
    series -= mean.astype(np.float32)
    if units == "percent":
        spread = np.sqrt(np.einsum("tv,tv->v", series, series) / len(series))
        unfit = (mean <= spread) & (spread > 0)
        if unfit.sum() > MAX_CONSTANT * len(voxels):
            raise DataError(
                f"{name}: in {int(unfit.sum())} of {len(voxels)} voxels of the mask the mean of the run is not above its standard "
                "deviation, as after z-scoring, so there is no percent signal change, expected BOLD with its mean: give such files, or "
                "state --units series"
            )
        if unfit.any():
            logger.warning(
                "%s: %d of %d voxels have no mean to speak of, set to 0",
                name,
                unfit.sum(),
                len(voxels),
            )
            series[:, unfit] = 0
            mean[unfit] = 0
    return series, mean


def in_units(betas: np.ndarray, mean: np.ndarray, units: str) -> np.ndarray:
    """Betas (n_trials, n_voxels) of the series as the user wants them, float32."""
    if units == "percent":
        betas = betas * np.divide(100, mean, out=np.zeros_like(mean), where=mean > 0)
    return betas.astype(np.float32)


def estimate_run(
    run: BoldRun, model: RunModel, like: Volumes, voxels: np.ndarray, units: str
) -> np.ndarray:
    """Betas of a run's trials, float32 (n_trials, n_voxels)."""
    series, mean = read_series(run, like, voxels, units)
    return in_units(model.weights.astype(np.float32) @ series, mean, units)


def write_betas(
    path: Path, betas: np.ndarray, like: Volumes, voxels: np.ndarray, checksum: str
) -> None:
    """Write betas (n_trials, n_voxels) as a NIfTI file (x, y, z, n_trials), 0 outside the mask; and what they rest on."""
    import nibabel

    volumes = np.zeros((like.n_voxels, len(betas)), np.float32)
    volumes[voxels] = betas.T
    volumes = volumes.reshape(*like.grid, len(betas), order="F")
    _note(path).unlink(missing_ok=True)
    with replacing(path) as part:
        nibabel.save(nibabel.Nifti1Image(volumes, like.affine), part)
    with replacing(_note(path)) as part:
        part.write_text(checksum)


def is_written(paths: Sequence[Path], checksum: str) -> bool:
    """Whether files of betas are there that rest on the same."""
    return all(
        path.is_file() and _note(path).is_file() and _note(path).read_text() == checksum
        for path in paths
    )


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.rests-on")


def rests_on(
    part: Sequence[tuple[BoldRun, RunModel]], voxels: np.ndarray, choice: BetasChoice
) -> str:
    """A checksum of all that the betas of some runs depend on."""
    parts: list = [__version__, choice.method, choice.hrf, choice.high_pass, choice.drift_order]
    parts += [choice.units, voxels.tobytes()]
    for run, model in part:
        parts += [fingerprint(run.file.path), run.tr, run.times.tobytes(), run.events.to_csv()]
        parts += [model.columns.tobytes(), model.beside.tobytes()]
    return digest(*parts)
