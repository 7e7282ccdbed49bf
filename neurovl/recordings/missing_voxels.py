"""Voxels without a number in some session: left out of a subject's mask in all sessions, and counted."""

import logging
from dataclasses import dataclass, field

import numpy as np

from neurovl.errors import DataError
from neurovl.recordings.base import Recordings
from neurovl.recordings.volume_checks import RAISE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class UsableMask:
    """A subject's mask, and what was left out of it.

    Attributes
    ----------
    voxels : bool array, shape (x, y, z)
        The mask without the voxels that are not finite in some session.
    missing : bool array, shape (x, y, z)
        Those voxels.
    sessions : dict of str to int
        How many of them each session has; sessions without any are left out.
    """

    voxels: np.ndarray
    missing: np.ndarray
    sessions: dict[str, int] = field(default_factory=dict)

    def record(self) -> dict:
        """What plan.json says of it."""
        n = int(self.missing.sum())
        return {"voxels": n, "of": int(self.voxels.sum()) + n, "sessions": self.sessions}


def usable_mask(recordings: Recordings, subject: str, n_jobs: int = 1) -> UsableMask:
    """Look through all sessions of a subject for voxels of the mask that are not finite in some trial.

    Files of whole numbers are not read: they have no such values.

    Parameters
    ----------
    recordings : Recordings
        Its `max_missing_voxels` is the share of the mask that may be missing.
    subject : str
    n_jobs : int
        Processes, each with one session's mask voxels in memory.

    Raises
    ------
    DataError
        A larger share of the mask is missing.

    Examples
    --------
    >>> from neurovl.recordings.missing_voxels import usable_mask
    >>> usable_mask(data, "subj01").record()["voxels"]
    0
    """
    from joblib import Parallel, delayed

    mask = recordings.mask(subject)
    voxels = np.flatnonzero(mask.ravel(order="F"))
    sessions = list(dict.fromkeys(recordings.subject_trials(subject).session))
    look = (delayed(recordings.not_finite)(subject, one, voxels) for one in sessions)
    bad = np.array(Parallel(n_jobs=min(n_jobs, len(sessions)))(look))
    counts = bad.sum(1)
    gone, limit = bad.any(0), recordings.max_missing_voxels
    n, share = int(gone.sum()), float(gone.mean())
    if share > limit:
        worst = sessions[int(counts.argmax())]
        files = recordings.session_files(subject, worst)
        raise DataError(
            f"{n} of {len(gone)} voxels of the mask of {subject} ({share:.1%}) are not finite (NaN or infinite) in some session, most in "
            f"session {worst} ({', '.join(file.name for file in files[:2])}), expected numbers in all but {limit:.1%} of them: "
            f"shrink the mask{RAISE}"
        )
    if n:
        logger.warning(
            "%d of %d voxels of the mask of %s are not finite in some session, left out in all",
            n,
            len(gone),
            subject,
        )
    missing = np.zeros(mask.size, bool)
    missing[voxels[gone]] = True
    missing = missing.reshape(mask.shape, order="F")
    found = {str(s): int(k) for s, k in zip(sessions, counts, strict=True) if k}
    return UsableMask(mask & ~missing, missing, found)
