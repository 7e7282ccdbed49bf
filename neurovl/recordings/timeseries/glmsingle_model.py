"""GLMsingle's betas, where that package is installed: the runs of a session in its terms, and its answer in ours.

Prince et al. 2022, eLife 11:e77599. Its ``fit(design, data, stimdur, tr, outputdir, figuredir)`` takes for each run
a design (n_volumes, n_conditions), 1 where a trial of a condition begins, and data (x, y, z, n_volumes), and gives
``typed`` with ``betasmd`` (x, y, z, n_trials), the trials in order of time (docstrings of glmsingle/glmsingle.py).
Its designs count in volumes, so a trial must begin with one; when within the TR a volume was measured
is left to the response that it chooses for each voxel.
"""

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas.nifti_volumes import Volumes
from neurovl.recordings.timeseries.bold_runs import BoldRun
from neurovl.recordings.timeseries.run_betas import RunModel, read_series

NOTES = {
    "haemodynamic response": "chosen for each voxel by GLMsingle, 1 at its peak",
    "drift": "GLMsingle's polynomials",
    "mean": "of the session's runs together",
}
OFF_VOLUME = 0.1  # share of the TR by which a trial may begin beside a volume

Part = Sequence[tuple[BoldRun, RunModel]]


def _glm_single() -> type:
    try:  # by name, because a package that is on GitHub alone cannot be declared as an extra
        return importlib.import_module("glmsingle.glmsingle").GLM_single
    except ImportError as problem:
        raise MissingError(
            f"--method glmsingle needs the package glmsingle, which cannot be imported ({problem}): install it (pip install "
            "git+https://github.com/cvnlab/GLMsingle.git), or choose --method lss"
        ) from problem


def sessions(pairs: Part) -> list[Part]:
    """The runs of each subject and session, checked to be what GLMsingle can take.

    Raises
    ------
    MissingError
        If the package is not installed.
    DataError
        For trials that do not begin with a volume or differ in duration, runs that differ in TR, and sessions in which no
        picture comes twice, because GLMsingle chooses its settings by repeats.
    """
    _glm_single()
    found: dict[tuple[str, str], list[tuple[BoldRun, RunModel]]] = {}
    for run, model in pairs:
        found.setdefault((run.subject, run.session), []).append((run, model))
    for (subject, session), part in found.items():
        for run, model in part:
            _first_volumes(run, model)
        times = {run.tr for run, _ in part}
        lasts = {round(float(d), 2) for run, model in part for d in _trials(run, model).duration}
        for what, values in (("repetition time", times), ("duration of trials", lasts)):
            if len(values) > 1 or min(values) <= 0:
                raise DataError(
                    f"session {session} of {subject} has the {what} {', '.join(f'{v:g}' for v in sorted(values)[:4])} s, expected one above "
                    "0 for GLMsingle: choose --method lss"
                )
        pictures = [p for run, model in part for p in _trials(run, model).stimulus]
        if len(set(pictures)) == len(pictures):
            raise DataError(
                f"session {session} of {subject} shows no picture twice, expected repeats, by which GLMsingle chooses its settings: "
                "choose --method lss"
            )
    return list(found.values())


def _trials(run: BoldRun, model: RunModel) -> pd.DataFrame:
    return run.events[~run.events.dropped][model.kept]


def _first_volumes(run: BoldRun, model: RunModel) -> np.ndarray:
    """The volume that each trial begins with."""
    onsets = _trials(run, model).onset.to_numpy(float)
    volumes = np.rint(onsets / run.tr).astype(int)
    off = np.abs(onsets / run.tr - volumes)
    bad = np.flatnonzero(
        (off > OFF_VOLUME) | (volumes < 0) | (np.bincount(volumes.clip(0))[volumes.clip(0)] > 1)
    )
    if len(bad):
        raise DataError(
            f"{run.bold.name} has a trial at {onsets[bad[0]]:g} s, expected each to begin with a volume of its own (a multiple of "
            f"{run.tr:g} s) for GLMsingle: resample the BOLD so that it does, or choose --method lss"
        )
    return volumes


def estimate_session(part: Part, like: Volumes, voxels: np.ndarray, units: str) -> list[np.ndarray]:
    """Betas float32 (n_trials, n_voxels) of each run of a session; all of its runs are in memory.

    Raises
    ------
    DataError
        If GLMsingle's answer has another shape, or numbers that are not finite.
    """
    names = {
        p: n
        for n, p in enumerate(dict.fromkeys(p for pair in part for p in _trials(*pair).stimulus))
    }
    designs, data, alive = [], [], np.ones(len(voxels), bool)
    for run, model in part:
        design = np.zeros((len(run.times), len(names)))
        design[_first_volumes(run, model), [names[p] for p in _trials(run, model).stimulus]] = 1
        series, mean = read_series(run, like, voxels, units)
        alive &= mean != 0
        designs.append(design)
        data.append((series + mean.astype(np.float32)).T[:, None, None, :])
    settings = {
        "wantfileoutputs": [0, 0, 0, 0],
        "wantmemoryoutputs": [0, 0, 0, 1],
        "wantpercentbold": int(units == "percent"),
    }
    if any(model.beside.shape[1] for _, model in part):
        settings["extra_regressors"] = [model.beside for _, model in part]
    run = part[0][0]
    seconds = float(_trials(*part[0]).duration.iloc[0])
    data = [series[alive] for series in data]  # constant voxels have no percent
    with (
        tempfile.TemporaryDirectory() as place
    ):  # it empties the folders that it is given, and has some of its own else
        folders = {kind: str(Path(place) / kind) for kind in ("outputdir", "figuredir")}
        result = _glm_single()(settings).fit(designs, data, seconds, run.tr, **folders)
    counts = [int(model.kept.sum()) for _, model in part]
    betas = np.asarray(result["typed"]["betasmd"], np.float32)
    if betas.size != alive.sum() * sum(counts):
        raise DataError(
            f"GLMsingle gave betas of the shape {betas.shape}, expected {alive.sum()} voxels and {sum(counts)} trials: check its version, "
            "or choose --method lss"
        )
    if not np.isfinite(betas).all():
        raise DataError(
            f"GLMsingle gave betas that are not finite for {run.subject}, session {run.session}, expected numbers: shrink the mask, or "
            "choose --method lss"
        )
    out = np.zeros((sum(counts), len(voxels)), np.float32)
    out[:, alive] = betas.reshape(-1, sum(counts)).T
    return np.split(out, np.cumsum(counts)[:-1])
