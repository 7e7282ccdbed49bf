"""What every data set looks like from above: trials, volumes, masks, pictures and words.

Holds the base class of the readers. It reads no particular layout: that is done in ``nsd/``, ``haxby/`` and ``table/``.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.reliability import ncsnr, noise_ceiling
from neurovl.recordings.volume_checks import (
    MAX_MISSING,
    check_rows,
    clean_voxels,
    require_split_by_image,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from neurovl.recordings.nsd.surfaces import Surface

TRIAL_COLUMNS = ["subject", "session", "trial", "image_id", "repeat", "split"]


def subject_label(subject: str | int) -> str:
    """Name a subject as NSD does: ``1``, ``'1'``, ``'subj1'`` and ``'subj01'`` are all ``'subj01'``."""
    text = str(subject).strip()
    number = text.removeprefix("subj")
    return f"subj{int(number):02d}" if number.isdigit() else text


def find_subject(subject: str | int, names: list[str], where: str) -> str:
    """The one of `names` that `subject` means: the same, or with the same number at its end."""
    for candidate in (str(subject), subject_label(subject)):
        if candidate in names:
            return candidate
    text = str(subject).strip()
    numbered = [
        name
        for name in names
        if (found := re.search(r"(\d+)$", name)) and text.isdigit() and int(found[1]) == int(text)
    ]
    if len(numbered) == 1:
        return numbered[0]
    raise DataError(f"there is no subject {subject!r} in {where}: choose from {', '.join(names)}")


class Recordings:
    """Brain responses to pictures: one interface to any data set.

    Attributes
    ----------
    name : str
        Goes into the column ``data`` of every table.
    simulated : bool
        Whether the responses come from a simulation.
    licence, terms : str
        One line each.
    units : str
        Of the responses.
    publish_images : bool
        Whether a public page may show the pictures.
    split_name : str
        Name of the partition where a data set has several named ones; printed with every score.
    n_folds : int
        Number of train/test partitions that `open_recordings` can choose from by ``fold``.
    zscore : str
        What voxels are standardised by: the training trials of each ``'session'``, or all training
        trials of the ``'subject'`` where whole sessions are held out.
    space : str
        What BIDS names of maps call the space of the volumes; empty where it has no name.
    max_missing_voxels : float
        Share of a mask's voxels that may hold values that are not finite; see `missing_voxels.usable_mask`.
    distinct_pictures : bool
        Whether two names are always two pictures, as where they are named by the photo.
    subjects : list of str
        Such as ``'subj01'``.
    trials : DataFrame
        Columns ``subject, session, trial, image_id, repeat, split``, a subject's rows in
        presentation order; ``trial`` counts a subject's trials from 0 and is what `volumes` takes
        as ``rows``; ``image_id`` is text in every data set; ``repeat`` counts from 0.

    Examples
    --------
    >>> data.subjects
    ['subj01', 'subj02']
    >>> data.volumes(1, rows=[0, 1]).shape
    (2, 14, 17, 14)
    >>> image_id = data.trials.image_id[0]
    >>> data.image(image_id).size
    (425, 425)
    >>> len(data.captions(image_id))
    5
    """

    name = ""
    simulated = False
    licence = ""
    terms = ""
    units = "percent signal change"
    publish_images = False
    has_images = False
    split_name = ""
    n_folds = 1
    zscore = "session"
    space = ""
    max_missing_voxels = MAX_MISSING
    distinct_pictures = False

    def __init__(self, root: Path, subjects: list[str], trials: pd.DataFrame) -> None:
        self.root = Path(root)
        self.subjects = subjects
        self.trials = trials.reset_index(drop=True)[TRIAL_COLUMNS]
        self._ncsnr: dict[str, np.ndarray | None] = {}  # from repeats, when first asked for
        require_split_by_image(self.trials)

    def __repr__(self) -> str:
        n_images = self.trials.image_id.nunique()
        return (
            f"{type(self).__name__}({self.name!r}, subjects={self.subjects}, "
            f"{len(self.trials)} trials of {n_images} images)"
        )

    def subject_name(self, subject: str | int) -> str:
        """The subject's name in this data set; ``1`` stands for ``'subj01'``."""
        return find_subject(subject, self.subjects, self.name)

    def subject_trials(self, subject: str | int) -> pd.DataFrame:
        """The rows of `trials` that belong to one subject, in presentation order."""
        return self.trials[self.trials.subject == self.subject_name(subject)]

    def volumes(
        self, subject: str | int, rows: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """Responses of some of a subject's trials.

        Parameters
        ----------
        subject : str or int
        rows : sequence of int, optional
            Trials of this subject, counted from 0 in presentation order; all by default.

        Returns
        -------
        float32 array of shape (n_trials, x, y, z), in `units`
        """
        subject = self.subject_name(subject)
        sessions = self.subject_trials(subject).session.to_numpy()
        rows = check_rows(rows, len(sessions), f"{self.name} {subject}")
        out = np.empty((len(rows), *self.mask(subject).shape), np.float32)
        for session in dict.fromkeys(sessions[rows].tolist()):
            in_session = np.flatnonzero(sessions == session)
            wanted = np.flatnonzero(sessions[rows] == session)
            positions = np.searchsorted(in_session, rows[wanted])
            for start in range(0, len(wanted), 64):  # readers' copies stay small
                part = slice(start, start + 64)
                out[wanted[part]] = self._session_volumes(subject, session, positions[part])
        return out

    def iter_sessions(
        self, subject: str | int
    ) -> Iterator[tuple[int | str, np.ndarray, np.ndarray]]:
        """Yield ``(session, rows, volumes)`` one session at a time, so that memory holds one."""
        subject = self.subject_name(subject)
        sessions = self.subject_trials(subject).session.to_numpy()
        for session in dict.fromkeys(sessions.tolist()):
            rows = np.flatnonzero(sessions == session)
            yield session, rows, self.volumes(subject, rows)

    def session_voxels(self, subject: str, session: int | str, voxels: np.ndarray) -> np.ndarray:
        """All trials of one session at some voxels: what preprocessing reads.

        Memory holds the result and a few volumes, never the whole session.

        Parameters
        ----------
        subject : str
        session : int or str
            As in `trials`.
        voxels : int array of shape (n_voxels,)
            Sorted flat indices of the subject's grid in Fortran order (x runs fastest, as in NIfTI files).

        Returns
        -------
        array of shape (n_trials, n_voxels)
            In presentation order, in the file's unit and number type (NSD: int16, 300 times percent signal change).
            Voxels of the mask that are constant, or not finite in some trial of the session, are 0.

        Raises
        ------
        DataError
            As `clean_session`, for the voxels that lie inside the mask.
        """
        inside = self.mask(subject).ravel(order="F")[voxels]
        sessions = self.subject_trials(subject).session.to_numpy()
        n_trials = int((sessions == session).sum())
        out = np.empty((n_trials, len(voxels)), np.float32)
        for start in range(0, n_trials, 16):
            block = np.arange(start, min(start + 16, n_trials))
            volumes = self._session_volumes(subject, session, block)
            out[block] = volumes.transpose(0, 3, 2, 1).reshape(len(block), -1)[:, voxels]
        return clean_voxels(out, inside, f"session {session} of {subject}")

    def not_finite(self, subject: str, session: int | str, voxels: np.ndarray) -> np.ndarray:
        """Which voxels hold a value that is not finite in some trial of a session, bool (n_voxels,); none where a reader refuses them.

        Parameters
        ----------
        subject, session, voxels
            As for `session_voxels`.
        """
        return np.zeros(len(voxels), bool)

    def session_files(self, subject: str, session: int | str) -> list[Path]:
        """Files that hold a session's responses; empty where a reader cannot tell."""
        return []

    def session_identity(self, subject: str, session: int | str) -> str:
        """Changes when a session's responses may have changed."""
        files = self.session_files(subject, session)
        return digest([fingerprint(path) for path in files]) if files else self.checksum()

    def _session_volumes(self, subject: str, session: int, positions: np.ndarray) -> np.ndarray:
        """Responses (n, x, y, z) at `positions` within one session; each reader has its own."""
        raise NotImplementedError

    def mask(self, subject: str | int) -> np.ndarray:
        """The voxels to decode from: bool array of shape (x, y, z)."""
        raise NotImplementedError

    def rois(self, subject: str | int) -> dict[str, np.ndarray]:
        """Regions of interest by name: bool arrays of shape (x, y, z)."""
        return {"mask": self.mask(subject)}

    def affine(self, subject: str | int) -> np.ndarray:
        """Voxel indices to millimetres: array of shape (4, 4)."""
        raise NotImplementedError

    def surface(self, subject: str | int) -> "Surface | None":
        """The way from a subject's volumes to the cortical surface; None where the data set does not know it."""
        return None

    def noise_ceiling(
        self, subject: str | int, n_repeats: int | Sequence[int] = 3
    ) -> np.ndarray | None:
        """Share of a voxel's variance that the picture can explain.

        Parameters
        ----------
        subject : str or int
        n_repeats : int or sequence of int
            Trials averaged for each picture, as for `reliability.noise_ceiling`.

        Returns
        -------
        float32 array of shape (x, y, z)
            From the repeats of all trials (``reliability.py``), which are read when it is first asked
            for; None where no picture was shown twice.
        """
        subject = self.subject_name(subject)
        if subject not in self._ncsnr:
            self._ncsnr[subject] = ncsnr(self, subject)
        found = self._ncsnr[subject]
        return None if found is None else noise_ceiling(found, n_repeats)

    def image(self, image_id: str | int) -> "Image":
        """The picture as a PIL image.

        Here and below, `image_id` is text as in `trials`; a whole number stands for its digits.
        """
        raise MissingError(
            f"{self.name} has no pictures, so there is none for image {image_id!r}: "
            "use the text targets"
        )

    def captions(self, image_id: str | int) -> list[str]:
        """Sentences that describe the picture; empty where there are none."""
        return []

    def objects(self, image_id: str | int) -> list[dict]:
        """Objects in the picture: ``category``, ``supercategory``, ``box`` (x0, y0, x1, y1) in 0..1."""
        return []

    def label(self, image_id: str | int) -> str | None:
        """The picture's only category, in data sets of single objects."""
        return None

    def checksum(self) -> str:
        """Fingerprint of the small files that define the experiment, for the provenance records."""
        return digest(
            [self.name, *(path.name for path in self._identity())],
            [path.read_bytes() for path in self._identity()],
            pd.util.hash_pandas_object(self.trials, index=False).to_numpy().tobytes(),
        )

    def _identity(self) -> list[Path]:
        """Small files whose content `checksum` covers."""
        return []


def digest(*parts: object) -> str:
    """SHA-256 of names and bytes, shortened to 16 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        for item in part if isinstance(part, list) else [part]:
            total.update(item if isinstance(item, bytes) else str(item).encode())
            total.update(b"\0")
    return total.hexdigest()[:16]


def fingerprint(path: Path) -> str:
    """Cheap checksum of a big file: its size and 16 blocks of 4 KiB spread over it, the first and the last among them.

    The last block of a gzip file holds the CRC of all of it.
    """
    path, block = Path(path), 4096
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            parts = [f"{size}".encode()]
            for start in np.linspace(0, max(0, size - block), 16).astype(int):
                file.seek(start)
                parts.append(file.read(block))
    except OSError as problem:
        raise DataError(
            f"{path} cannot be read ({problem.strerror}), expected a file that you may read: give "
            f"yourself the right (chmod u+r {path.name}), or copy it again"
        ) from problem
    return digest(parts)
