"""NSD's experiment: who saw which picture in which trial, and how programs split pictures.

In ``nsd_expdesign.mat`` all numbers are 1-based: trial t shows slot m = masterordering[t] of 10,000,
which is picture subjectim[subject, m] of 73,000 (nsdId + 1). Slots 1 to 1000 are shared by all eight
subjects; they are never trained on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import ConfigError, DataError, MissingError

EXPERIMENT = Path("nsddata/experiments/nsd")
TRIALS, SHARED = 750, 1000  # trials of a session, pictures that all subjects share
SESSIONS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}
WITHHELD = 3  # last sessions of each subject, held back until 2023-08-20
SPLITS = ("shared1000", "shared982")


def require_split(split: str) -> None:
    """Refuse, by a ConfigError, the name of a split that NSD does not have."""
    if split not in SPLITS:
        raise ConfigError(f"NSD has no split {split!r}: choose from {', '.join(SPLITS)}")


def last_session(subject: str, split: str) -> int:
    """The last session that a split uses, whether it is on disk or not."""
    return max(SESSIONS.values()) if split == SPLITS[0] else SESSIONS[int(subject[-2:])] - WITHHELD


def read_design(root: Path) -> dict[str, np.ndarray]:
    """`masterordering` (30000,) and `subjectim` (8, 10000), 1-based as they are stored."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = root / EXPERIMENT / "nsd_expdesign.mat"
    if not path.is_file():
        raise MissingError(f"{path} is missing: neurovl download nsd --to DIR")
    try:
        design = loadmat(path, variable_names=("masterordering", "subjectim"))
        order = design["masterordering"].ravel().astype(int)
        subjectim = design["subjectim"].astype(int)
    except (MatReadError, KeyError, ValueError, TypeError, OSError, NotImplementedError) as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected a MATLAB file with masterordering "
            "and subjectim: neurovl download nsd --verify --to DIR"
        ) from problem
    if len(order) != 30_000 or subjectim.shape != (8, 10_000):
        raise DataError(
            f"{path.name} holds masterordering of {len(order)} trials and subjectim of "
            f"{subjectim.shape}, expected 30000 and (8, 10000): neurovl download nsd --verify --to DIR"
        )
    for name, values, top in (
        ("masterordering", order, 10_000),
        ("subjectim", subjectim, 73_000),
    ):
        if values.min() < 1 or values.max() > top:
            raise DataError(
                f"{path.name} holds {name} from {values.min()} to {values.max()}, expected 1 to "
                f"{top}: neurovl download nsd --verify --to DIR"
            )
    return {"masterordering": order, "subjectim": subjectim}


def compare_responses(root: Path, subject: str, trials: pd.DataFrame) -> None:
    """Refuse trials that the subject's own record (behav/responses.tsv, ``73KID`` from 1) has with other pictures; it may be missing.

    Parameters
    ----------
    root : Path
    subject : str
    trials : DataFrame
        As `make_trials` returns; of sessions that the record does not have, nothing is said.
    """
    path = root / "nsddata/ppdata" / subject / "behav/responses.tsv"
    if not path.is_file():
        return
    fix = f"neurovl download nsd --subjects {int(subject[-2:])} --verify --to DIR"
    try:
        table = pd.read_csv(path, sep="\t", usecols=["SESSION", "73KID"], dtype=int)
    except (ValueError, OSError) as problem:
        raise DataError(
            f"{path.name} of {subject} cannot be read ({str(problem).strip()}), expected whole numbers in the columns SESSION "
            f"and 73KID: {fix}"
        ) from problem
    seen = {session: own["73KID"].to_numpy() - 1 for session, own in table.groupby("SESSION")}
    for session, own in trials.groupby("session"):
        said, planned = seen.get(session), own.image_id.astype(int).to_numpy()
        if said is not None and not np.array_equal(said, planned):
            where = f"{len(said)} trials" if len(said) != len(planned) else "other pictures"
            raise DataError(
                f"{path.name} of {subject} has {where} in session {session} than nsd_expdesign.mat, expected the same "
                f"{len(planned)}: one of the two is of other data; {fix}"
            )


def make_trials(design: Mapping, subject: str, sessions: Sequence[int]) -> pd.DataFrame:
    """The trials of some sessions, in presentation order.

    Parameters
    ----------
    design : dict
        As `read_design` returns.
    subject : str
        Such as ``'subj01'``.
    sessions : sequence of int
        Sorted, from 1; there may be gaps.

    Returns
    -------
    DataFrame with the columns of `Recordings.trials`
        ``repeat`` counts the showings of a picture in the whole experiment, as NSD's columns
        ``subjectX_rep0`` to ``rep2`` do, so that a missing session leaves a gap.
    """
    order = design["masterordering"]
    repeat = pd.Series(order).groupby(order).cumcount().to_numpy()
    at = np.concatenate([np.arange((s - 1) * TRIALS, s * TRIALS) for s in sessions])
    slots = order[at]
    nsd_ids = design["subjectim"][int(subject[-2:]) - 1, slots - 1] - 1
    return pd.DataFrame(
        {
            "subject": subject,
            "session": at // TRIALS + 1,
            "trial": np.arange(len(at)),
            "image_id": nsd_ids.astype(str),
            "repeat": repeat[at],
            "split": np.where(slots <= SHARED, "test", "train"),
        }
    )
