"""How reliable voxels are, from pictures that were shown several times.

`ncsnr` is the ratio of signal and noise that noise ceilings are computed from, `voxel_reliability`
the correlation of one half of the showings with the other. Both describe the data and serve as
ceilings; by default they use all trials of a subject, test pictures included, as NSD's own
``ncsnr.nii.gz`` does. Pass ``split='train'`` before voxels are chosen by them.

Sessions are read one after the other; memory holds one session at the mask's voxels and the sums of
those pictures that will be shown again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError

if TYPE_CHECKING:
    from neurovl.recordings.base import Recordings

POOL = 512 << 20  # bytes of sums over repeats; more voxels than fit are taken in further passes
LEAST_NOISE = 1e-6  # share of variance, where repeats are equal


def ncsnr(
    recordings: "Recordings", subject: str | int, split: str | None = None
) -> np.ndarray | None:
    """Ratio of the standard deviations of signal and noise of single trials.

    Betas are z-scored per voxel within each session. Noise variance is the variance over the repeats
    of one picture (n - 1 in the denominator), averaged over pictures shown more than once. Signal
    variance is what it leaves of the total (1), not below 0.   ncsnr = sqrt(signal) / sqrt(noise)

    Allen et al. 2022, Nat. Neurosci. 25:116, Methods, 'Noise ceiling estimation'. There all pictures
    that count have three repeats; here those with two or more, each with the same weight.

    Parameters
    ----------
    recordings : Recordings
    subject : str or int
    split : {'train', 'test'}, optional
        Use these trials only, also for z-scoring; all by default.

    Returns
    -------
    float32 array of shape (x, y, z), 0 outside the mask and in silent voxels
        None where no picture was shown twice.

    Examples
    --------
    >>> from neurovl.recordings.reliability import ncsnr
    >>> found = ncsnr(data, subject=1)
    >>> found.shape == data.mask(1).shape
    True
    """
    plan = _make_plan(recordings, subject, split, halves=1)
    if plan is None:
        return None
    noise = np.zeros(len(plan.voxels))
    total = np.zeros(len(plan.voxels))
    for part in plan.parts():
        for step in _sums(recordings, plan, part):
            total[part] += np.square(step.z).sum(0, dtype=np.float64)
            # sum over repeats of (z - mean)^2 is that of z^2 less sum^2 / n
            weight = (1 / (step.n_repeats - 1)).astype(np.float32)
            noise[part] += (weight[:, None] * step.z[step.repeated] ** 2).sum(0, dtype=np.float64)
            n = step.n_finished.astype(np.float64)[:, None]
            noise[part] -= (np.square(step.finished[:, 0], dtype=np.float64) / (n * (n - 1))).sum(0)
    noise = np.maximum(noise / plan.n_images, 0)
    total /= plan.freedom  # 1, less where a voxel is silent in some sessions
    signal = np.maximum(total - noise, 0)
    return plan.fill(np.sqrt(signal / np.maximum(noise, LEAST_NOISE)))


def voxel_reliability(
    recordings: "Recordings", subject: str | int, split: str | None = None
) -> np.ndarray | None:
    """Correlation over pictures of the mean of odd and of even repeats, for all repeats together.

    Betas are z-scored per voxel within each session. r is Pearson's correlation of the mean of a
    picture's first, third, ... with that of its second, fourth, ... showing; Spearman and Brown's
    2 r / (1 + r) estimates the reliability of the mean of all (not below -1).

    Parameters
    ----------
    recordings, subject, split
        As for `ncsnr`.

    Returns
    -------
    float32 array of shape (x, y, z), 0 outside the mask and in silent voxels
        None where fewer than three pictures were shown twice.
    """
    plan = _make_plan(recordings, subject, split, halves=2)
    if plan is None or plan.n_images < 3:
        return None
    sums = np.zeros((5, len(plan.voxels)))
    for part in plan.parts():
        for step in _sums(recordings, plan, part):
            n = step.n_finished[:, None]
            odd = step.finished[:, 0].astype(np.float64) / ((n + 1) // 2)
            even = step.finished[:, 1].astype(np.float64) / (n // 2)
            products = (odd, even, odd * odd, even * even, odd * even)
            sums[:, part] += np.stack([product.sum(0) for product in products])
    odd, even, odd2, even2, both = sums / plan.n_images
    spread = np.sqrt(np.maximum((odd2 - odd**2) * (even2 - even**2), 0))
    r = np.where(spread > 1e-12, (both - odd * even) / np.where(spread > 1e-12, spread, 1), 0)
    return plan.fill(np.maximum(2 * r / np.maximum(1 + r, 1e-6), -1))


def noise_ceiling(ncsnr: np.ndarray, n_repeats: int | Sequence[int] = 3) -> np.ndarray:
    """Noise ceiling of the mean of several trials, as a fraction of variance.

    NC = ncsnr^2 / (ncsnr^2 + mean(1 / n))   (Allen et al. 2022, Nat. Neurosci. 25:116, Methods)

    Parameters
    ----------
    ncsnr : array of any shape
        Ratio of the standard deviations of signal and noise.
    n_repeats : int or sequence of int
        Trials averaged for each picture: one number, or one for each picture.

    Returns
    -------
    float32 array of the shape of `ncsnr`

    Raises
    ------
    DataError
        If a number is below 1, or there is none.

    Examples
    --------
    >>> from neurovl.recordings.reliability import noise_ceiling
    >>> noise_ceiling(np.array([0.0, 1.0]), n_repeats=3).tolist()
    [0.0, 0.75]
    """
    counts = np.asarray(n_repeats, np.float64)
    if not counts.size or not (counts >= 1).all():
        raise DataError(f"n_repeats is {n_repeats}, expected 1 or more trials averaged per picture")
    power = np.square(np.asarray(ncsnr, np.float32))
    return (power / (power + np.float32((1 / counts).mean()))).astype(np.float32)


@dataclass
class _Plan:
    """Which trials count, and where the sums of each picture are kept."""

    subject: str
    shape: tuple
    voxels: np.ndarray  # of the mask, flat in Fortran order
    trials: pd.DataFrame  # position in session, repeat, n of the picture, slot, last
    n_images: int
    freedom: int  # sum over sessions of the number of trials less 1
    n_slots: int
    halves: int

    def parts(self) -> list[slice]:
        """Slices of the voxels, each with sums that fit into POOL and spread over the whole mask."""
        n_parts = -(-4 * self.n_slots * self.halves * len(self.voxels) // POOL)
        return [slice(first, None, n_parts) for first in range(n_parts)]

    def fill(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros(int(np.prod(self.shape)), np.float32)
        out[self.voxels] = values
        return np.ascontiguousarray(out.reshape(self.shape, order="F"))


@dataclass
class _Step:
    """What one session adds."""

    z: np.ndarray  # (n_trials, n_voxels), standardised
    repeated: np.ndarray  # trials whose picture has repeats
    n_repeats: np.ndarray  # of those trials' pictures
    finished: np.ndarray  # (n_images, halves, n_voxels), sums of pictures shown for the last time
    n_finished: np.ndarray  # their numbers of repeats


def _make_plan(
    recordings: "Recordings", subject: str | int, split: str | None, halves: int
) -> _Plan | None:
    subject = recordings.subject_name(subject)
    trials = recordings.subject_trials(subject).reset_index(drop=True)
    trials["position"] = trials.groupby("session").cumcount()
    if split is not None:
        trials = trials[trials.split == split]
    size = trials.groupby("session").image_id.transform("size")
    trials = trials[size > 1]  # a session of one trial has no standard deviation
    by_image = trials.groupby("image_id", sort=False)
    trials = trials.assign(
        n=by_image.image_id.transform("size"), showing=by_image.cumcount(), slot=-1, last=False
    )
    repeated = trials[trials.n > 1]
    if repeated.empty:
        return None
    n_slots = _give_slots(trials, repeated)
    mask = recordings.mask(subject)
    return _Plan(
        subject=subject,
        shape=mask.shape,
        voxels=np.flatnonzero(mask.ravel(order="F")),
        trials=trials,
        n_images=repeated.image_id.nunique(),
        freedom=len(trials) - trials.session.nunique(),
        n_slots=n_slots,
        halves=halves,
    )


def _give_slots(trials: pd.DataFrame, repeated: pd.DataFrame) -> int:
    """Set `slot` and `last`; a slot is free again once its picture was shown for the last time."""
    slot_of: dict = {}
    free: list[int] = []
    n_slots = 0
    slots = {}
    last = set(repeated.index[repeated.showing == repeated.n - 1])
    for _, own in repeated.groupby("session", sort=False):
        done = []
        for row, image_id in zip(own.index, own.image_id, strict=True):
            if image_id not in slot_of:
                if not free:
                    free.append(n_slots)
                    n_slots += 1
                slot_of[image_id] = free.pop()
            slots[row] = slot_of[image_id]
            if row in last:
                done.append(slot_of.pop(image_id))
        free += done  # not within the session: sums are read at its end
    trials.loc[list(slots), "slot"] = list(slots.values())
    trials.loc[list(last), "last"] = True
    return n_slots


def _sums(recordings: "Recordings", plan: _Plan, part: slice) -> Iterator["_Step"]:
    """Yield a `_Step` for each session, at some of the mask's voxels."""
    voxels = plan.voxels[part]
    pool = np.zeros((plan.n_slots * plan.halves, len(voxels)), np.float32)
    for session, own in plan.trials.groupby("session", sort=False):
        values = recordings.session_voxels(plan.subject, session, voxels)
        z = _standardise(values[own.position.to_numpy()])
        repeated = np.flatnonzero(own.n.to_numpy() > 1)
        kept = own.iloc[repeated]
        key = (kept.slot * plan.halves + kept.showing % plan.halves).to_numpy()
        order = np.argsort(key, kind="stable")
        keys, starts = np.unique(key[order], return_index=True)
        if len(keys):
            pool[keys] += np.add.reduceat(z[repeated[order]], starts)
        done = kept[kept["last"]]
        rows = done.slot.to_numpy()[:, None] * plan.halves + np.arange(plan.halves)
        yield _Step(z, repeated, kept.n.to_numpy(), pool[rows], done.n.to_numpy())
        pool[rows] = 0


def _standardise(values: np.ndarray) -> np.ndarray:
    """z-scores of each column (n - 1 in the denominator); 0 where it is constant."""
    z = values.astype(np.float32)
    z -= z.mean(0, dtype=np.float64).astype(np.float32)
    spread = np.sqrt(np.square(z).sum(0, dtype=np.float64) / (len(z) - 1))
    return z / np.where(spread > 0, spread, np.inf).astype(np.float32)
