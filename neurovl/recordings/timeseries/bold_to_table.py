"""From preprocessed BOLD and events of a BIDS data set to a table of single-trial betas.

All files are found and checked, and the split is chosen, before a volume is read. Then the runs are done one
after the other in a hidden folder beside the table; an interrupted call goes on with the next run. Each run has
its own model and its own mean; the table's session is that of BIDS ('1' where the names have none).
"""

import contextlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from neurovl.errors import ConfigError, DataError, NeurovlError
from neurovl.locks import exclusive
from neurovl.recordings.betas.nifti_volumes import Volumes, apart, lie_alike
from neurovl.recordings.bids.bids_files import NIFTI, BidsFile, derivative_folder, scan
from neurovl.recordings.bids.bids_masks import masks_of
from neurovl.recordings.bids.table_plan import describe, plan_table
from neurovl.recordings.region_files import on_grid, open_here, region_of
from neurovl.recordings.splits import Split
from neurovl.recordings.table.table_writer import require_new
from neurovl.recordings.timeseries import glmsingle_model
from neurovl.recordings.timeseries.bold_files import find_bold, run_masks
from neurovl.recordings.timeseries.bold_runs import BoldRun, open_run
from neurovl.recordings.timeseries.choices import HRFS, METHODS, UNITS, BetasChoice
from neurovl.recordings.timeseries.run_betas import (
    RunModel,
    estimate_run,
    is_written,
    model_of,
    rests_on,
    write_betas,
)

logger = logging.getLogger(__name__)

NAMES = {
    "lss": "least squares separate (Mumford et al. 2012), ordinary least squares in each run",
    "lsa": "least squares all (Rissman et al. 2004), ordinary least squares in each run",
    "glmsingle": "GLMsingle type D (Prince et al. 2022), all runs of a session together",
}
MAX_DEGREE = 20  # polynomials of more can hardly be told apart
SCALE = {
    "percent": "100 x beta / mean of the voxel in the run",
    "series": "in the units of the time series",
}


def estimate_betas(
    data: Path,
    out: Path,
    split: Split | None = None,
    choice: BetasChoice | None = None,
    zscore: str = "session",
) -> Path:
    """Write a table of single-trial betas from preprocessed BOLD.

    Parameters
    ----------
    data : Path
        Root of a BIDS data set, with the preprocessed BOLD in a derivative.
    out : Path
        New folder; it appears when it is whole.
    split : Split
        Which pictures are tested; by default those that the events mark as test.
    choice : BetasChoice
        What to take, and the model.
    zscore : str
        'session' or 'subject': what the voxels are scaled over when the table is read.

    Returns
    -------
    Path
        `out`; the entry ``betas`` of its dataset.json says what was assumed.

    Raises
    ------
    MissingError, DataError, ConfigError
        One sentence for what is missing, ambiguous or does not fit together.

    Examples
    --------
    >>> from neurovl.recordings.splits import Split
    >>> from neurovl.recordings.timeseries import BetasChoice, estimate_betas
    >>> choice = BetasChoice(select={"space": "T1w"}, confounds=("trans_*", "rot_*"))
    >>> try:
    ...     estimate_betas(folder, folder / "table", Split(fraction=0.2), choice)
    ... except neurovl.MissingError:
    ...     print("no preprocessed BOLD there")
    no preprocessed BOLD there
    """
    data, out = Path(data), Path(out)
    split, choice = split or Split(), choice or BetasChoice()
    require_new(out)
    _check(choice)
    folder = derivative_folder(data, choice.derivative)
    runs = [open_run(file, data, folder, choice) for file in find_bold(folder, choice.select)]
    likes = _one_grid_a_subject(runs)
    images: list[BidsFile] = []
    if choice.mask is None:
        images = list({f.path: f for root in (folder, data) for f in scan(root, NIFTI)}.values())
    masks = {one: _masks(one, runs, like, images, data, choice.mask) for one, like in likes.items()}
    models = [model_of(run, choice) for run in runs]
    pairs = [pair for pair in zip(runs, models, strict=True) if pair[1].kept.any()]
    if choice.method == "glmsingle":
        parts = glmsingle_model.sessions(pairs)
    else:
        parts = [[pair] for pair in pairs]
    notes = _notes(runs, models, choice)
    plan = plan_table(_trials(runs, models), data, split, likes, masks, choice.rois, choice.stimuli)
    for run, model in zip(runs, models, strict=True):
        if not model.kept.any():
            logger.warning("%s: no trial, left out", run.bold.name)
    for key, value in notes.items():
        logger.info("%s: %s", key, value)
    voxels = {one: _voxels(one, masks[one], like) for one, like in likes.items()}
    with _workshop(out) as place:
        _estimate(parts, likes, voxels, choice, place)
        units = "percent signal change" if choice.units == "percent" else "as the time series"
        about = {**describe(data, folder), "units": units, "zscore": zscore, "betas": notes}
        plan.write(out, {run.volume: place / run.volume for run, _ in pairs}, about)
    return out


def _check(choice: BetasChoice) -> None:
    for option, value, known in (
        ("--method", choice.method, METHODS),
        ("--hrf", choice.hrf, HRFS),
        ("--units", choice.units, UNITS),
    ):
        if value not in known:
            raise ConfigError(f"{option} is {value!r}, expected {' or '.join(known)}: choose one")
    if not 0 <= choice.high_pass < np.inf:
        raise ConfigError(
            f"--high-pass is {choice.high_pass:g}, expected Hz from 0: choose another, such as 0.01"
        )
    if choice.drift_order is not None and not 0 <= choice.drift_order <= MAX_DEGREE:
        raise ConfigError(
            f"--drift-order is {choice.drift_order}, expected a degree from 0 to {MAX_DEGREE}: choose another"
        )
    if choice.slice_time_ref is not None and not 0 <= choice.slice_time_ref <= 1:
        raise ConfigError(
            f"--slice-time-ref is {choice.slice_time_ref:g}, expected a share of the TR from 0 to 1: choose another"
        )


def _one_grid_a_subject(runs: Sequence[BoldRun]) -> dict[str, Volumes]:
    first: dict[str, Volumes] = {}
    for run in runs:
        like = first.setdefault(run.subject, run.bold)
        if not lie_alike(run.bold, like):
            raise DataError(
                f"{run.bold.name} {apart(run.bold, like)}, expected one grid for all runs of {run.subject}: choose BOLD of one space "
                "(--select space=T1w), or bring the runs to one grid first"
            )
    return first


def _masks(
    subject: str,
    runs: Sequence[BoldRun],
    like: Volumes,
    images: list[BidsFile],
    data: Path,
    pattern: str | None,
) -> list[Volumes]:
    """Files whose common voxels are a subject's mask: what the user named, or the runs' own, or the subject's."""
    own = run_masks([run.file for run in runs if run.subject == subject], images)
    if pattern is not None or not own:
        return masks_of(subject, like, images, data, pattern)
    found = [open_here(file.path, data) for file in own]
    on_grid(found, like, f"the mask of {subject}")
    return found


def _trials(runs: Sequence[BoldRun], models: Sequence[RunModel]) -> pd.DataFrame:
    """A row for each trial with a beta."""
    parts = []
    for run, model in zip(runs, models, strict=True):
        rows = run.events[~run.events.dropped][model.kept].drop(columns="dropped")
        parts.append(
            rows.assign(
                subject=run.subject,
                session=run.session,
                volume=run.volume,
                index=np.arange(len(rows)),
            )
        )
    trials = pd.concat(parts, ignore_index=True).fillna("")
    if trials.empty:
        raise DataError(
            "no trial is left, expected some with a picture: drop fewer (--drop, --ignore)"
        )
    return trials


def _notes(
    runs: Sequence[BoldRun], models: Sequence[RunModel], choice: BetasChoice
) -> dict[str, str | int]:
    """What was done and assumed, for the log and for dataset.json."""
    notes: dict[str, str | int] = {"method": NAMES[choice.method]}
    if choice.method == "glmsingle":
        notes |= glmsingle_model.NOTES
    else:
        drift = f"cosines slower than {1 / choice.high_pass:g} s" if choice.high_pass else "none"
        if choice.drift_order is not None:
            drift = f"polynomials up to degree {choice.drift_order}"
        notes |= {
            "haemodynamic response": f"{choice.hrf} (nilearn), 1 at its peak for a trial of its duration",
            "drift": f"{drift}, and the mean",
        }
    notes |= {"scale": SCALE[choice.units], "runs": len(runs)}
    notes["trials"] = sum(int(model.kept.sum()) for model in models)
    for key in ("dropped", "ignored"):
        notes[key] = sum(int(run.notes[key]) for run in runs)
    notes["cut off by the end of their run"] = sum(int((~model.kept).sum()) for model in models)
    for key in ("TR", "times of volumes", "confounds"):
        kinds = Counter(str(run.notes[key]) for run in runs)
        notes[key] = "; ".join(
            kind if len(kinds) == 1 else f"{kind} in {n} runs" for kind, n in kinds.items()
        )
    notes["session"] = (
        "of BIDS" if all(run.file["ses"] for run in runs) else "1 where the names have none"
    )
    return notes


def _voxels(subject: str, masks: list[Volumes], like: Volumes) -> np.ndarray:
    """The voxels of a subject's mask, flat indices of the grid in Fortran order."""
    voxels = np.flatnonzero(region_of(masks, like, all).ravel(order="F"))
    if not len(voxels):
        names = ", ".join(mask.name for mask in masks[:3])
        raise DataError(
            f"the mask of {subject} ({names}) holds no voxel above 0, expected some: name another with --mask"
        )
    return voxels


def _estimate(
    parts: Sequence[Sequence[tuple[BoldRun, RunModel]]],
    likes: Mapping[str, Volumes],
    voxels: Mapping[str, np.ndarray],
    choice: BetasChoice,
    place: Path,
) -> None:
    """Write the betas of all runs below a folder; what one part holds is estimated together."""
    n_done = 0
    for part in tqdm(parts, desc="betas", disable=None):
        subject = part[0][0].subject
        like, own = likes[subject], voxels[subject]
        paths = [place / run.volume for run, _ in part]
        checksum = rests_on(part, own, choice)
        if not is_written(paths, checksum):
            if choice.method == "glmsingle":
                betas = glmsingle_model.estimate_session(part, like, own, choice.units)
            else:
                betas = [estimate_run(run, model, like, own, choice.units) for run, model in part]
            for path, values in zip(paths, betas, strict=True):
                write_betas(path, values, like, own, checksum)
            n_done += 1
    if n_done < len(parts):
        logger.info("%d of %d were written before", len(parts) - n_done, len(parts))


@contextlib.contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """The hidden folder of the runs that are done, which stays when the call is interrupted."""
    out = out.absolute()
    place = out.with_name(f".{out.name}.betas")
    refusal = DataError(
        f"another process writes {out.name}, expected one at a time: wait for it, or name another folder"
    )
    with exclusive(out, out.name, refusal):
        try:
            place.mkdir(parents=True, exist_ok=True)
            yield place
        except NeurovlError:
            raise
        except OSError as problem:
            raise DataError(
                f"{out.name} could not be written ({problem.strerror}), expected a place with room and rights to write: free some or "
                "name another folder"
            ) from problem
        finally:
            with contextlib.suppress(OSError):
                place.rmdir()  # where no run was done
    shutil.rmtree(place, ignore_errors=True)
