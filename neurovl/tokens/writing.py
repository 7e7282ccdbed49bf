"""From recordings to the token store: every session once, standardised, resized to the union region, float16.

A session is a file of its own, written beside and renamed when whole, with a record of what it was made from and its
checksum. So a run that was killed goes on with the sessions that are missing, and new sessions are added to those that
are there. Reading the store back is in `tokens`.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import ConfigError, DataError
from neurovl.files import replacing
from neurovl.recordings.base import Recordings, digest
from neurovl.recordings.missing_voxels import usable_mask
from neurovl.recordings.opening import open_recordings
from neurovl.stages import code_hash
from neurovl.tokens.patch_plan import PatchPlan, layout_name, require_millimetres
from neurovl.tokens.resize import Resizer, resize_nearest

Moments = tuple[np.ndarray, np.ndarray]  # two values a voxel, such as mean and standard deviation
MIN_TRAINING_TRIALS = 20
BLOCK_VALUES = 1 << 23
PACKING = (
    "float16 of z-scores: relative rounding error at most 2^-11, absolute at most 2^-25 near 0"
)


def write_store(
    recordings: Recordings,
    folder: str | Path,
    *,
    patches: Sequence[int | tuple[int, ...] | str],
    target: tuple[int, int, int] | None = None,
    off_mask: str = "own",
    n_jobs: int = 1,
    previous: Path | None = None,
) -> None:
    """Standardise, resize and store all trials of a data set.

    z = (beta - mean) / sd for each voxel, with mean and sd over the training trials of the session (or of all
    sessions, where `recordings.zscore` is 'subject'). A session with fewer than 20 training trials uses its own
    unlabelled statistics and is listed as transductive. Voxels that are not finite in some session are left out of the
    subject's mask in all (see `usable_mask`). Then the volume is resized (see `resize`).

    Parameters
    ----------
    recordings : Recordings
    folder : Path
        Receives plan.json, plan.npz, trials.csv and, for each subject, SUBJECT_mask.nii.gz and
        SUBJECT/session01.npy with session01.json beside it. Sessions that are there and up to date are kept.
    patches : list of int, tuple of int, or str
        Patch sizes in voxels of the common grid, or in millimetres such as '25.2mm'; the first is the main one.
    target : tuple of int, optional
        Common grid; the first subject's by default.
    off_mask : str
        'keep' or 'zero', see `PatchPlan`; or 'own': as 'zero', and the voxels outside a subject's own resized mask are 0
        in its volumes too, so that these say whose they are.
    n_jobs : int
        Processes, each with one session in memory; the stored bytes do not depend on it.
    previous : Path, optional
        An older store of these recordings; its sessions are taken over where nothing that they rest on changed.

    Raises
    ------
    DataError
        As the reader of the recordings; or a z-score that float16 cannot hold.

    Examples
    --------
    >>> from neurovl.tokens.writing import write_store
    >>> write_store(data, folder, patches=[4])
    >>> neurovl.TokenStore(folder).layouts
    ['p4', 'flat']
    """
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    folder = Path(folder)
    usable = {s: usable_mask(recordings, s, n_jobs) for s in recordings.subjects}
    masks = {s: found.voxels for s, found in usable.items()}
    first = recordings.subjects[0]
    target = tuple(target or masks[first].shape)
    require_millimetres(patches, recordings.affine(first), first)
    edges = np.linalg.norm(recordings.affine(first)[:3, :3], axis=0)
    edges = edges * masks[first].shape / target
    sizes = [patch_in_voxels(patch, edges) for patch in patches]
    if not sizes:
        raise ConfigError(
            "preprocessing.patches is empty, expected one patch size or more; add some to the profile"
        )
    plans = {
        layout_name(size): PatchPlan.fit(masks, target=target, patch=size, off_mask=off_mask)
        for size in sizes
    }
    region = np.unique(np.concatenate([p.region for p in plans.values()]))
    _write_plan(folder, recordings, plans, region, masks)
    code = code_hash(write_store, open_recordings)
    jobs, transductive = [], {}
    for subject in recordings.subjects:
        inside = own_columns(masks[subject], target, region, off_mask)
        resizer = Resizer(masks[subject].shape, target, region[inside])
        gone = usable[subject].missing.ravel(order="F")[resizer.inputs]
        trials = recordings.subject_trials(subject)
        moments = (
            all_moments(recordings, subject, resizer.inputs)
            if recordings.zscore == "subject"
            else None
        )
        place = folder / subject
        place.mkdir(exist_ok=True)
        for leftover in place.glob(".part-*"):
            leftover.unlink(missing_ok=True)
        fixed = digest(
            target,
            *(part.tobytes() for part in (region, inside, masks[subject], gone)),
            moments,
            code,
        )
        for session, own in trials.groupby("session", sort=False):
            is_train = (own.split == "train").to_numpy()
            if moments is None and is_train.sum() < MIN_TRAINING_TRIALS:
                transductive.setdefault(subject, []).append(str(session))
                is_train = np.ones(len(own), bool)
            key = digest(fixed, recordings.session_identity(subject, session), is_train.tobytes())
            file = place / f"{session_name(session)}.npy"
            shape = (len(own), len(region))
            if not _is_whole(file, key, shape) and not _take_over(previous, file, key, shape):
                jobs.append((file, key, subject, session, resizer, inside, gone, is_train, moments))
    work = (delayed(_write_session)(recordings, *job) for job in jobs)
    done = Parallel(n_jobs=min(n_jobs, len(jobs)) or 1, return_as="generator_unordered")(work)
    for _ in tqdm(done, "sessions", total=len(jobs), disable=None):
        pass
    about = {
        "target": target,
        "off_mask": off_mask,
        "packing": PACKING,
        "patches": {name: plan.patch for name, plan in plans.items()},
        "transductive": transductive,
        "missing_voxels": {s: found.record() for s, found in usable.items() if found.sessions},
    }
    _write_json(folder / "plan.json", about)


def own_columns(
    mask: np.ndarray, target: tuple[int, ...], region: np.ndarray, off_mask: str
) -> np.ndarray:
    """Which voxels of the region carry a subject's values, bool (V,): all, or with 'own' those of its resized mask.

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
        On the subject's own grid.
    region : int array, shape (V,)
        Flat indices in the common grid `target`.

    Raises
    ------
    DataError
        The mask has no voxel in the region.
    """
    if off_mask != "own":
        return np.ones(len(region), bool)
    return measured_columns(mask, target, region)


def measured_columns(mask: np.ndarray, target: tuple[int, ...], region: np.ndarray) -> np.ndarray:
    """Which voxels of the region lie in a subject's resized mask, bool (V,); see `own_columns`."""
    inside = resize_nearest(np.asarray(mask, bool), target).ravel()[region]
    if not inside.any():
        raise DataError(
            f"none of the {int(np.sum(mask))} voxels of the mask lies in the region of {len(region)} voxels that the encoder "
            "reads, expected the same part of the brain; give a mask of that part, or see to its orientation"
        )
    return inside


def pack(
    resizer: Resizer, inside: np.ndarray, values: np.ndarray, scale: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """z-scores of the region as they are stored, float16 (n, V): resized where a subject has values, 0 elsewhere.

    Parameters
    ----------
    resizer : Resizer
        To the voxels of the region that are `inside`, see `own_columns`.
    values : array, shape (n, n_inputs)
        At `resizer.inputs`.
    scale, mean : array, shape (n_inputs,)
        See `standardisation`. What float16 cannot hold is infinite.

    Examples
    --------
    >>> from neurovl.tokens.resize import Resizer
    >>> from neurovl.tokens.writing import pack
    >>> resizer = Resizer((2, 2, 2), (2, 2, 2), region=np.arange(8))
    >>> values, inside = np.arange(16.0).reshape(2, 8), np.ones(8, bool)
    >>> packed = pack(resizer, inside, values, scale=np.ones(8), mean=np.zeros(8))
    >>> packed.shape, packed.dtype
    ((2, 8), dtype('float16'))
    """
    packed = np.zeros((len(values), len(inside)), "<f2")
    with np.errstate(over="ignore"):
        packed[:, inside] = resizer.from_inputs(values, scale, mean)
    return packed


def patch_in_voxels(
    patch: int | Sequence[int] | str, voxel_mm: Sequence[float] | np.ndarray
) -> int | Sequence[int]:
    """A patch size in voxels: '25.2mm' is (14, 14, 14) of 1.8 mm, at least 1 each; numbers of voxels stay as they are.

    Raises
    ------
    ConfigError
        For a text that is no length.
    """
    if not isinstance(patch, str):
        return patch
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*mm\s*", patch)
    if not found:
        raise ConfigError(
            f"the patch size {patch!r} is no length, expected voxels such as 14 or millimetres such as '25.2mm'; "
            "correct preprocessing.patches of the profile"
        )
    return tuple(max(1, round(float(found[1]) / edge)) for edge in voxel_mm)


def session_name(session: int | str) -> str:
    """File name of a session: 7 -> 'session07', 'ses-things01' -> 'session-ses-things01'."""
    text = str(session)
    if text.isdigit() and text == str(int(text)):  # '07' beside '7' is another session
        return f"session{int(text):02d}"
    safe = re.sub(r"[^A-Za-z0-9-]", "-", text)
    return f"session-{safe}" if safe == text else f"session-{safe}-{digest(text)[:6]}"


def _write_plan(
    folder: Path,
    recordings: Recordings,
    plans: dict[str, PatchPlan],
    region: np.ndarray,
    masks: dict[str, np.ndarray],
) -> None:
    import nibabel

    kept = {f"{name}_kept": plan.kept for name, plan in plans.items()}
    regions = {f"{name}_region": plan.region for name, plan in plans.items()}
    np.savez(folder / "plan.npz", region=region, **kept, **regions)
    recordings.trials.to_csv(folder / "trials.csv", index=False)
    for subject, mask in masks.items():
        image = nibabel.Nifti1Image(mask.astype(np.uint8), recordings.affine(subject))
        nibabel.save(image, folder / f"{subject}_mask.nii.gz")


def _write_session(
    recordings: Recordings,
    file: Path,
    key: str,
    subject: str,
    session: int | str,
    resizer: Resizer,
    inside: np.ndarray,
    gone: np.ndarray,
    is_train: np.ndarray,
    moments: Moments | None,
) -> None:
    """One session: read the voxels it needs, standardise, resize, write, record."""
    values = recordings.session_voxels(subject, session, resizer.inputs)
    scale, mean = standardisation(values, is_train, moments)
    scale[gone] = 0
    shape = (len(values), len(inside))
    rows = max(1, BLOCK_VALUES // max(values.shape[1], shape[1]))
    checksum = hashlib.sha256()
    with replacing(file) as part, open(part, "wb") as out:
        about = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, about)
        for start in range(0, len(values), rows):
            packed = pack(resizer, inside, values[start : start + rows], scale, mean)
            if not np.isfinite(packed).all():
                trial = start + int(np.argmin(np.isfinite(packed).all(axis=1)))
                raise DataError(
                    f"session {session} of {subject}: trial {trial} (from 0) lies more than 65504 standard deviations "
                    "from the mean of the training trials, expected betas of one scale; look at this trial, or leave it out"
                )
            data = packed.tobytes()
            checksum.update(data)
            out.write(data)
    _write_json(_record(file), {"key": key, "sha256": checksum.hexdigest(), "shape": shape})


def standardisation(
    values: np.ndarray, is_train: np.ndarray, moments: Moments | None = None
) -> Moments:
    """What `Resizer.from_inputs` standardises by: scale and shift of every voxel; a constant one has the scale 0.

    Parameters
    ----------
    values : array, shape (n_trials, n_voxels)
        One session.
    is_train : bool array, shape (n_trials,)
        Trials that mean and standard deviation are taken over.
    moments : pair of arrays, shape (n_voxels,), optional
        Mean and standard deviation from elsewhere, as of all sessions.

    Examples
    --------
    >>> from neurovl.tokens.writing import standardisation
    >>> scale, mean = standardisation(np.array([[1.0], [3.0]]), is_train=np.array([True, True]))
    >>> scale.tolist(), mean.tolist()
    ([1.0], [2.0])
    """
    mean, sd = moments or _moments(values, is_train)
    scale = np.divide(1, sd, out=np.zeros_like(sd), where=sd > 1e-6 * (1 + np.abs(mean)))
    return scale.astype(np.float32), mean.astype(np.float32)


def _moments(values: np.ndarray, is_train: np.ndarray) -> Moments:
    """Mean and standard deviation of every voxel over the training trials, in float64."""
    mean, sd = np.empty((2, values.shape[1]))
    for start in range(0, values.shape[1], 4096):
        part = slice(start, start + 4096)
        chosen = values[:, part][is_train].astype(np.float64)
        mean[part], sd[part] = chosen.mean(axis=0), chosen.std(axis=0)
    return mean, sd


def all_moments(recordings: Recordings, subject: str, voxels: np.ndarray) -> Moments:
    """Mean and standard deviation of voxels over the training trials of all sessions, one session in memory at a time."""
    n, total, square = 0, 0.0, 0.0
    for session, own in recordings.subject_trials(subject).groupby("session", sort=False):
        values = recordings.session_voxels(subject, session, voxels)
        chosen = values[(own.split == "train").to_numpy()].astype(np.float64)
        n, total, square = n + len(chosen), total + chosen.sum(0), square + (chosen**2).sum(0)
    if not n:
        raise DataError(
            f"{subject} has no trial for training, expected some to standardise by (zscore is 'subject'); give some "
            "pictures the split train, or leave this subject out with --subjects"
        )
    mean = total / n
    return mean, np.sqrt(np.maximum(square / n - mean**2, 0))


def _record(file: Path) -> Path:
    return file.with_suffix(".json")


def _is_whole(file: Path, key: str, shape: Sequence[int]) -> bool:
    """Whether a session lies there as it should; the record is written after the voxels."""
    try:
        record = json.loads(_record(file).read_text())
        return record["key"] == key and tuple(np.load(file, mmap_mode="r").shape) == tuple(shape)
    except (OSError, ValueError, KeyError):
        return False


def _take_over(previous: Path | None, file: Path, key: str, shape: Sequence[int]) -> bool:
    """Link a session of an older store, if it was made from the same and its checksum holds."""
    if previous is None:
        return False
    old = Path(previous) / file.parent.name / file.name
    if not _is_whole(old, key, shape) or not is_intact(old):
        return False
    for source, goal in ((old, file), (_record(old), _record(file))):
        goal.unlink(missing_ok=True)
        try:
            os.link(source, goal)
        except OSError:  # another file system, or one without links
            with replacing(goal) as part:
                shutil.copyfile(source, part)
    return True


def is_intact(file: Path) -> bool:
    """Whether a session's voxels have the checksum that was recorded when they were written."""
    expected = json.loads(_record(file).read_text())["sha256"]
    checksum = hashlib.sha256()
    voxels = np.load(file, mmap_mode="r")
    for start in range(0, len(voxels), 64):
        checksum.update(voxels[start : start + 64].tobytes())
    return checksum.hexdigest() == expected


def _write_json(path: Path, content: dict) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1))
