"""The Natural Scenes Dataset, real or simulated, as `Recordings`.

Reads single-trial betas in the 1.8-mm functional space (``.nii.gz``, ``.nii`` or ``.hdf5``, whichever
is there), of the sessions that are on disk. ``image_id`` is the 0-based nsdId in digits; the pictures that all
subjects share are the test set. Leaves out betas on surfaces and those of the simplest model (b1).

Allen et al. 2022, Nat. Neurosci. 25:116; NSD Data Manual, cvnlab.slite.page.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import Recordings, digest, fingerprint
from neurovl.recordings.betas.stream import Betas
from neurovl.recordings.nsd.atlases import ATLASES
from neurovl.recordings.nsd.design import (
    SPLITS,
    compare_responses,
    last_session,
    make_trials,
    read_design,
    require_split,
)
from neurovl.recordings.nsd.imagery_pictures import imagined_images
from neurovl.recordings.nsd.nsd_files import (
    BETAS,
    fetch_command,
    label_names,
    open_session,
    require_betas,
)
from neurovl.recordings.nsd.stimuli import Stimuli
from neurovl.recordings.nsd.surfaces import Surface, read_surface
from neurovl.recordings.reliability import noise_ceiling
from neurovl.recordings.volume_checks import (
    check_grid,
    check_rows,
    clean_voxels,
    load_nifti,
    nifti_array,
)

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_NCSNR = 10  # a noise ceiling of 99 % of the variance of single trials
UNIT = 300  # counts of one percent signal change


class NSDRecordings(Recordings):
    """Single-trial betas of NSD.

    Parameters
    ----------
    root : Path
        The folder that holds ``nsddata/``, ``nsddata_betas/`` and ``nsddata_stimuli/``.
    subjects : sequence of str or int, optional
        All with betas on disk by default.
    fold : int
        NSD has one partition only.
    split : {'shared1000', 'shared982'}
        Which trials there are; the test set is always the shared pictures among them, and scores on
        pools of different size are not comparable.

        ``'shared1000'``: all sessions (40, 40, 32, 30, 40, 32, 40, 30 of subjects 1 to 8). The
        subjects with 40 saw 1,000 shared pictures three times (3,000 test trials), 3 and 6 saw 930
        (2,371), 4 and 8 saw 907 (2,188). Used by MindEye2, Brain-IT, ROITok.

        ``'shared982'``: without the last three sessions of each subject, which NSD held back until
        2023-08-20, so 37, 37, 29, 27, 37, 29, 37, 27. In 37 sessions 982 shared pictures were shown
        at least once (2,770 test trials, so not all three times) and 8,859 others (24,980 trials).
        2,113 test trials of subjects 3 and 6, 1,985 of 4 and 8. Used by Shen et al. 2024, MindEye1,
        brain-diffuser, UMBRAE, MindBridge.
    betas : {'betas_fithrf_GLMdenoise_RR', 'betas_fithrf'}
        Version of the betas: with denoising and ridge regression (b3), or with fitted haemodynamic
        responses only (b2).

    Attributes
    ----------
    split_name : str
        The split, to be printed with every score.
    betas : str
        The version.

    Raises
    ------
    ConfigError
        For another split or version.
    MissingError
        If betas or the experiment's design are not there.
    """

    splits = SPLITS

    space = "func1pt8"  # as the transforms call it, whatever a simulation divided the grid by

    distinct_pictures = True  # NSD's 73,000 photos, by their numbers

    def __init__(
        self,
        root: str | Path,
        subjects: Sequence[str | int] | None = None,
        fold: int = 0,
        split: str = SPLITS[0],
        betas: str = BETAS,
    ) -> None:
        root = Path(root)
        self._state_terms(root / "SIMULATED.json")
        self.split_name, self.betas = split, betas
        require_split(split)
        design = read_design(root)
        self._files = {}
        for subject, files in require_betas(root, subjects, betas).items():
            last = last_session(subject, split)
            self._files[subject] = {s: path for s, path in files.items() if s <= last}
            if not self._files[subject]:
                raise MissingError(
                    f"{root} holds the sessions {', '.join(map(str, files))} of {subject} only, the "
                    f"split {split} ends with session {last}: {fetch_command(subject)}"
                )
        self._masks: dict[str, np.ndarray] = {}
        self._silent: dict[tuple, np.ndarray] = {}
        self._surfaces: dict[str, Surface | None] = {}
        tables = [make_trials(design, one, list(files)) for one, files in self._files.items()]
        for one, table in zip(self._files, tables, strict=True):
            compare_responses(root, one, table)
        super().__init__(root, list(self._files), pd.concat(tables))
        self._stimuli = Stimuli(root, [*self.trials.image_id.unique(), *imagined_images()])

    def _state_terms(self, mark: Path) -> None:
        self.simulated = mark.is_file()
        self.name = "simulated-nsd" if self.simulated else "nsd"
        self.publish_images = self.simulated
        self.licence = "CC0-1.0" if self.simulated else "NSD Terms and Conditions"
        self.terms = "access by agreement; neither betas nor pictures may be passed on"
        if self.simulated:
            self.terms = "simulated: rendered scenes and computed voxels, no brain was scanned"
            if not _read_mark(mark).get("complete", True):
                raise DataError(
                    f"the simulation in {mark.parent} was interrupted: run neurovl simulate with "
                    "the same settings again, it goes on where it stopped"
                )

    @property
    def has_images(self) -> bool:
        return self._stimuli.has_images

    def _functional(self, subject: str | int) -> Path:
        return self.root / "nsddata/ppdata" / self.subject_name(subject) / "func1pt8mm"

    def affine(self, subject: str | int) -> np.ndarray:
        path = self._functional(subject) / "roi/nsdgeneral.nii.gz"
        return load_nifti(path, fetch_command(subject)).affine.copy()

    def mask(self, subject: str | int) -> np.ndarray:
        subject = self.subject_name(subject)
        if subject not in self._masks:
            path, fetch = (
                self._functional(subject) / "roi/nsdgeneral.nii.gz",
                fetch_command(subject),
            )
            labels = nifti_array(load_nifti(path, fetch), path, fetch)
            mask = labels > 0  # -1 is outside cortex, 0 unlabelled
            if mask.ndim != 3 or not mask.any():
                raise DataError(
                    f"{path.name} of {subject} has the shape {mask.shape} and {int(mask.sum())} voxels "
                    f"above 0, expected (x, y, z) and some: {fetch_command(subject, verify=True)}"
                )
            self._masks[subject] = mask
        return self._masks[subject].copy()

    def rois(self, subject: str | int) -> dict[str, np.ndarray]:
        subject = self.subject_name(subject)
        regions = {}
        for atlas, default in ATLASES.items():
            path = self._functional(subject) / "roi" / f"{atlas}.nii.gz"
            if path.is_file():
                fetch = fetch_command(subject, verify=True)
                labels = nifti_array(load_nifti(path, fetch), path, fetch)
                check_grid(labels.shape, self.mask(subject), f"{path.name} of {subject}", fetch)
                for number, name in label_names(self.root, subject, atlas, default).items():
                    regions[name] = labels == number
        for area in ("V1", "V2", "V3"):
            if f"{area}v" in regions and f"{area}d" in regions:
                regions[area] = regions[f"{area}v"] | regions[f"{area}d"]
        return {name: region for name, region in regions.items() if region.any()}

    def surface(self, subject: str | int) -> Surface | None:
        subject = self.subject_name(subject)
        if subject not in self._surfaces:
            fetch = fetch_command(subject, verify=True)
            grid = self.mask(subject).shape
            self._surfaces[subject] = read_surface(self.root, subject, grid, fetch)
        return self._surfaces[subject]

    def noise_ceiling(
        self, subject: str | int, n_repeats: int | Sequence[int] = 3
    ) -> np.ndarray | None:
        """From NSD's own ``ncsnr.nii.gz``, or from the repeats where that is not there."""
        subject = self.subject_name(subject)
        path = next(iter(self._files[subject].values())).with_name("ncsnr.nii.gz")
        if not path.is_file():
            return super().noise_ceiling(subject, n_repeats)
        fetch = fetch_command(subject, verify=True)
        ncsnr = nifti_array(load_nifti(path, fetch), path, fetch)
        check_grid(ncsnr.shape, self.mask(subject), f"{path.name} of {subject}", fetch)
        odd = ncsnr[(ncsnr < 0) | (ncsnr > MAX_NCSNR)]
        if odd.size:
            raise DataError(
                f"{path.name} of {subject} holds {odd[0]:.3g}, expected 0 to {MAX_NCSNR}, the ratio of the standard deviations of "
                f"signal and noise, no noise ceiling in percent: {fetch}"
            )
        return noise_ceiling(np.nan_to_num(ncsnr), n_repeats)

    def volumes(
        self, subject: str | int, rows: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """As `Recordings.volumes`; each session's file is read through once, a volume at a time.

        When a session is first touched, all its trials are checked at the mask's voxels.
        """
        subject = self.subject_name(subject)
        sessions = self.subject_trials(subject).session.to_numpy()
        rows = check_rows(rows, len(sessions), f"{self.name} {subject}")
        out = np.empty((len(rows), *self.mask(subject).shape), np.float32)
        for session in dict.fromkeys(sessions[rows].tolist()):
            silent = self._silent_voxels(subject, session)
            wanted = np.flatnonzero(sessions[rows] == session)
            positions = rows[wanted] - np.flatnonzero(sessions == session)[0]
            self._open(subject, session).read_volumes(positions, out=out, rows=wanted)
            for row in wanted:
                out[row] /= UNIT
                out[row][silent] = 0
                np.nan_to_num(out[row], copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        return out

    def session_voxels(self, subject: str, session: int, voxels: np.ndarray) -> np.ndarray:
        subject = self.subject_name(subject)
        inside = self.mask(subject).ravel(order="F")[voxels]
        values = self._open(subject, session).read_voxels(voxels)
        what = f"{self._files[subject][session].name} of {subject}"
        values = clean_voxels(values, inside, what, self.max_missing_voxels)
        if values.dtype.kind == "f" and len(values) > 1:
            _require_counts(values[:, inside], what)
        return values

    def not_finite(self, subject: str, session: int, voxels: np.ndarray) -> np.ndarray:
        betas = self._open(subject, session)
        if betas.dtype.kind != "f":
            return np.zeros(len(voxels), bool)
        return ~np.isfinite(betas.read_voxels(voxels)).all(0)

    def session_files(self, subject: str, session: int) -> list[Path]:
        return [self._files[self.subject_name(subject)][session]]

    def _open(self, subject: str, session: int) -> Betas:
        files = self._files[subject]
        if session not in files:
            raise DataError(
                f"there is no session {session!r} of {subject} (found: "
                f"{', '.join(map(str, files))}): {fetch_command(subject)}"
            )
        return open_session(files[session], subject, self.mask(subject))

    def _silent_voxels(self, subject: str, session: int) -> tuple[np.ndarray, ...]:
        """Indices (x, y, z) of the mask's voxels that are constant within a session."""
        if (subject, session) not in self._silent:
            mask = self.mask(subject)
            voxels = np.flatnonzero(mask.ravel(order="F"))
            voxels = voxels[~self.session_voxels(subject, session, voxels).any(0)]
            self._silent[subject, session] = np.unravel_index(voxels, mask.shape, order="F")
        return self._silent[subject, session]

    def image(self, image_id: str | int) -> "Image":
        return self._stimuli.image(image_id)

    def captions(self, image_id: str | int) -> list[str]:
        return self._stimuli.captions(image_id)

    def objects(self, image_id: str | int) -> list[dict]:
        return self._stimuli.objects(image_id)

    def checksum(self) -> str:
        marks = [
            f"{path.name} {fingerprint(path)}"
            for files in self._files.values()
            for path in files.values()
        ]
        return digest(super().checksum(), self.split_name, self.betas, marks)

    def _identity(self) -> list[Path]:
        first = [next(iter(files.values())) for files in self._files.values()]
        paths = [self.root / "SIMULATED.json", *(path.with_name("ncsnr.nii.gz") for path in first)]
        return [path for path in paths if path.is_file()]


def _require_counts(values: np.ndarray, what: str) -> None:
    """Refuse responses that were divided by 300 already; NSD's own files hold int16, so only others can be."""
    spread = float(np.median(values.std(0))) if values.size else 0.0
    if 0 < spread < UNIT / 10:
        raise DataError(
            f"{what} holds real numbers that vary by {spread:.3g}, expected {UNIT} times percent signal change as in NSD's own "
            "files, which vary by hundreds: multiply them again, or fetch the file anew"
        )


def _read_mark(path: Path) -> dict:
    """Content of SIMULATED.json."""
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
        problem = "no object"
    except ValueError as error:
        problem = error
    raise DataError(
        f"{path.name} is not what neurovl simulate wrote ({problem}), expected a JSON object: run "
        "neurovl simulate with the same settings again"
    )
