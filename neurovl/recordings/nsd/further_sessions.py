"""NSD's sessions beyond the core experiment, as test sets: what NSD-Imagery and NSD-synthetic have in common.

Each is one session with one file of betas, ``nsddata_betas/ppdata/subj0X/func1pt8mm/nsd{NAME}VERSION/betas_nsd{NAME}.*``, in the
subjects' own functional space, so that masks and regions are those of the core experiment. No trial is for training.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import Recordings, digest, fingerprint, subject_label
from neurovl.recordings.betas.stream import Betas, open_betas
from neurovl.recordings.nsd.nsd_files import BETAS, VERSIONS, fetch_command
from neurovl.recordings.nsd.nsd_folder import UNIT, NSDRecordings
from neurovl.recordings.volume_checks import check_grid, clean_voxels

SUFFIXES = (".nii.gz", ".nii", ".hdf5")


class FurtherSession(NSDRecordings):
    """One session of betas beyond the core experiment; every trial is for testing.

    Parameters
    ----------
    root : Path
        The NSD folder.
    subjects : sequence of str or int, optional
        All who have the session by default.
    betas : str
        Version of the core experiment's betas; the session's own of the same version are read.

    Attributes
    ----------
    trials : DataFrame
        As in `Recordings`; a `session` is what voxels are standardised within.
    places : dict of str to int array
        Position of each trial of a subject in its file of betas.
    """

    session_name = ""  # of the session's files
    n_volumes = 0

    def __init__(
        self,
        root: str | Path,
        subjects: Sequence[str | int] | None = None,
        betas: str = BETAS,
    ) -> None:
        root = Path(root)
        self._state_terms(root / "SIMULATED.json")
        self.name, self.split_name, self.betas = f"{self.name}-{self.session_name}", "", betas
        self._session_files = require_session(root, self.session_name, subjects, betas)
        self._masks: dict[str, np.ndarray] = {}
        self._silent: dict[tuple, np.ndarray] = {}
        self._surfaces: dict = {}
        self._read: tuple | None = None
        tables = {one: self._trials_of(root, one) for one in self._session_files}
        self.places = {one: table.pop("place").to_numpy() for one, table in tables.items()}
        Recordings.__init__(self, root, list(tables), pd.concat(tables.values()))

    def _trials_of(self, root: Path, subject: str) -> pd.DataFrame:
        """A subject's trials as in `Recordings`, and `place`, the position of each in the file of betas."""
        raise NotImplementedError

    @property
    def has_images(self) -> bool:
        return True

    def noise_ceiling(self, subject: str | int, n_repeats: int | Sequence[int] = 3) -> None:
        """None: the core experiment's are of other pictures and another task."""
        return None

    def volumes(
        self, subject: str | int, rows: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        return Recordings.volumes(self, subject, rows)

    def _session_volumes(self, subject: str, session: str, positions: np.ndarray) -> np.ndarray:
        mask = self.mask(subject)
        out = np.zeros((len(positions), *mask.shape), np.float32)
        voxels = np.flatnonzero(mask.ravel(order="F"))
        x, y, z = np.unravel_index(voxels, mask.shape, order="F")
        out[:, x, y, z] = self.session_voxels(subject, session, voxels)[positions] / UNIT
        return out

    def session_voxels(self, subject: str, session: str, voxels: np.ndarray) -> np.ndarray:
        subject = self.subject_name(subject)
        inside = self.mask(subject).ravel(order="F")[voxels]
        own = self.subject_trials(subject).session.to_numpy()
        values = self._all_voxels(subject, voxels)[self.places[subject][own == session]]
        return clean_voxels(values, inside, f"{session} of {subject}, {self.name}")

    def _all_voxels(self, subject: str, voxels: np.ndarray) -> np.ndarray:
        """All volumes of the file at some voxels; kept until others are asked for, as every part of the session asks."""
        key = (subject, voxels.tobytes())
        if self._read is None or self._read[0] != key:
            self._read = (key, self._open(subject, "").read_voxels(voxels))
        return self._read[1]

    def session_files(self, subject: str, session: str) -> list[Path]:
        return [self._session_files[self.subject_name(subject)]]

    def _open(self, subject: str, session: str) -> Betas:
        path = self._session_files[subject]
        betas = open_betas(path, fetch_command(subject, verify=True))
        if betas.shape[3] != self.n_volumes:
            raise DataError(
                f"{path.name} of {subject} holds {betas.shape[3]} volumes, expected {self.n_volumes}; the file may be cut "
                f"short: {fetch_command(subject, verify=True)}"
            )
        check_grid(
            betas.shape[:3],
            self.mask(subject),
            f"{path.name} of {subject}",
            fetch_command(subject, verify=True),
        )
        return betas

    def captions(self, image_id: str | int) -> list[str]:
        return []

    def objects(self, image_id: str | int) -> list[dict]:
        return []

    def checksum(self) -> str:
        files = [f"{path.name} {fingerprint(path)}" for path in self._session_files.values()]
        return digest(Recordings.checksum(self), self.betas, files)

    def _identity(self) -> list[Path]:
        mark = self.root / "SIMULATED.json"
        return [mark] if mark.is_file() else []


def session_file(name: str, subject: str, betas: str, suffix: str) -> str:
    """Where the betas of a session lie, relative to the NSD folder."""
    folder = f"nsddata_betas/ppdata/{subject}/func1pt8mm/nsd{name}{betas}"
    return f"{folder}/betas_nsd{name}{suffix}"


def find_session(root: Path, name: str, betas: str = BETAS) -> dict[str, Path]:
    """The files of betas of a session by subject, for those who have it."""
    if betas not in VERSIONS:
        return {}
    found: dict[str, Path] = {}
    for suffix in reversed(SUFFIXES):
        for path in root.glob(session_file(name, "subj0[1-8]", betas, suffix)):
            found[path.parents[2].name] = path
    return dict(sorted(found.items()))


def require_session(
    root: Path, name: str, subjects: Sequence[str | int] | None, betas: str
) -> dict[str, Path]:
    """`find_session` for the subjects asked for; a MissingError says who lacks the file."""
    found = find_session(root, name, betas)
    wanted = list(found) if subjects is None else [subject_label(one) for one in subjects]
    missing = [one for one in wanted if one not in found]
    if missing or not wanted:
        first = (missing or ["subj01"])[0]
        raise MissingError(
            f"{root} holds no NSD-{name} betas of {', '.join(missing) or 'any subject'} (found: {', '.join(found) or 'none'}), "
            f"expected {session_file(name, first, betas, '.nii.gz')}: neurovl download nsd "
            f"--subjects {re.sub('[^0-9]', '', first).lstrip('0')} --tests {name} --to DIR, or, for simulated data, neurovl "
            f"simulate --tests {name}"
        )
    return {one: found[one] for one in wanted}
