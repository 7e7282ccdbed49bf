"""Your own data: a folder with one table of trials and NIfTI files, as `Recordings`.

============== ====================================================================================
trials.tsv     ``subject session volume index image_id repeat split``: `volume` a NIfTI file relative
               to the folder, `index` its 0-based position on the fourth axis (empty for a 3-D file),
               `split` train or test; a subject's rows in presentation order
subjects.tsv   ``subject mask``; every further column holds files of one region of interest
captions.tsv   ``image_id caption``, one or more a picture; optional
objects.tsv    ``image_id category x0 y0 x1 y1``, boxes as shares of the picture from its left upper corner;
               ``supercategory`` if known; optional
stimuli/       IMAGE_ID.png, .jpg or what else Pillow reads; optional, without it the text targets alone are trained
dataset.json   name, units, licence, terms, publish_images, zscore, background (the colour behind
               transparent pictures), index_from (0 or 1, where no row has the index 0); optional
============== ====================================================================================

Values may have any unit: they are z-scored later in any case, by the training trials of each session, or of all sessions with ``"zscore":
"subject"``, as it should be where whole sessions are held out. Every subject is on a grid of its own,
the mask's, with the axes turned to run as in the first subject's mask; volumes stored in any other
orientation are read as if turned too. The text files are checked in ``files.py``, the volumes read by `Volumes`. Leaves out resampling: a volume
on another grid is refused.
"""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import Recordings, digest, find_subject, fingerprint
from neurovl.recordings.betas.nifti_volumes import (
    Frame,
    Volumes,
    apart,
    lie_alike,
    number_type,
    open_volumes,
    same_voxels,
    unplaced,
)
from neurovl.recordings.pictures import endings, read_picture
from neurovl.recordings.table.annotation_files import read_captions, read_objects, require_known
from neurovl.recordings.table.table_files import (
    inside,
    read_about,
    read_subjects,
    read_trials,
)
from neurovl.recordings.volume_checks import as_region, check_rows, clean_voxels

if TYPE_CHECKING:
    import PIL.Image

logger = logging.getLogger(__name__)


class TableRecordings(Recordings):
    """Trials of your own, described by tables.

    Parameters
    ----------
    root : Path
        Folder with ``trials.tsv`` and ``subjects.tsv``.
    subjects : sequence of str or int, optional
    fold : int
        A table has one partition only, its column ``split``.
    """

    def __init__(
        self, root: str | Path, subjects: Sequence[str | int] | None = None, fold: int = 0
    ) -> None:
        root = Path(root)
        about = read_about(root / "dataset.json")
        self.name = about.get("name") or root.resolve().name
        self.units = about.get("units") or "not stated (dataset.json)"
        self.licence = about.get("licence") or "not stated (dataset.json)"
        self.terms = about.get("terms") or "not stated (dataset.json)"
        self.publish_images = about.get("publish_images", False)
        self.zscore = about.get("zscore", "session")
        self._background = about.get("background")
        self.has_images = (root / "stimuli").is_dir()
        table = read_trials(root)
        names = list(dict.fromkeys(table.subject))
        first, shown = names[0], set(table.image_id)
        if subjects is not None:
            names = list(dict.fromkeys(find_subject(one, names, self.name) for one in subjects))
        table = pd.concat([table[table.subject == one] for one in names], ignore_index=True)
        self._places = table[["subject", "session", "volume", "index"]]
        self._regions = read_subjects(root, list(dict.fromkeys([first, *names])))
        self._first = first
        self._masks: dict[str, tuple[Frame, np.ndarray]] = {}
        self._silent: dict[tuple, np.ndarray] = {}
        self._sentences = read_captions(root / "captions.tsv")
        self._objects = read_objects(root / "objects.tsv")
        require_known("objects.tsv", self._objects, shown)
        require_known("captions.tsv", self._sentences, shown)
        super().__init__(root, names, table)
        real = {path: inside(root, path, "trials.tsv") for path in table.volume.unique()}
        _refuse_one_volume_under_two_names(table, real)
        for files in self._regions.values():
            for path in filter(None, files.values()):
                inside(root, path, "subjects.tsv")
        self._pictures = _pictures(root / "stimuli") if self.has_images else {}
        if self.has_images:
            for image_id in self.trials.image_id.unique():
                self._picture(image_id)
        self._check_captions()

    def _check_captions(self) -> None:
        images = self.trials.image_id.unique()
        silent = [image for image in images if image not in self._sentences]
        if self._sentences and silent:
            raise DataError(
                f"captions.tsv has no sentence for {len(silent)} of {len(images)} pictures, the first "
                f"is {silent[0]!r}, expected one or more for each: add them, or remove captions.tsv"
            )

    def _mask(self, subject: str | int) -> tuple[Frame, np.ndarray]:
        """Where a subject's voxels lie, and the mask, bool (x, y, z).

        The axes run as in the table's first subject: patches of all subjects must lie at the same place of the brain.
        """
        subject = self.subject_name(subject)
        if subject not in self._masks:
            file = self._open(self._regions[subject]["mask"], "subjects.tsv")
            mask = file.turned(self._open(self._regions[self._first]["mask"], "subjects.tsv"))
            order = same_voxels(file, mask, np.arange(mask.n_voxels))
            values = as_region(_whole(file), f"the mask {mask.name} of {subject}")
            voxels = values[order].reshape(mask.grid, order="F")
            if not voxels.any():
                raise DataError(
                    f"the mask {mask.name} of {subject} holds no voxel above 0, expected some: "
                    "name another file in subjects.tsv"
                )
            first = self._places.volume[self._places.subject == subject].iloc[0]
            self._fits(self._open(first, "trials.tsv"), mask, subject)
            self._masks[subject] = mask, voxels
        return self._masks[subject]

    def mask(self, subject: str | int) -> np.ndarray:
        return self._mask(subject)[1].copy()

    def affine(self, subject: str | int) -> np.ndarray:
        return self._mask(subject)[0].affine.copy()

    def rois(self, subject: str | int) -> dict[str, np.ndarray]:
        subject = self.subject_name(subject)
        mask, voxels = self._mask(subject)
        regions = {"mask": voxels.copy()}
        for region, name in self._regions[subject].items():
            if region == "mask" or not name:
                continue
            file = self._open(name, "subjects.tsv")
            if not lie_alike(file, mask):
                raise DataError(
                    f"the region {region} of {subject}, {file.name}, {apart(file, mask)}, expected "
                    f"the same place: {_resample(file, mask)}"
                )
            order = same_voxels(file, mask, np.arange(voxels.size))
            values = as_region(_whole(file), f"the region {region} of {subject}, {name},")[order]
            if not values.any():
                logger.warning("region %s of %s (%s) is empty, left out", region, subject, name)
                continue
            regions[region] = values.reshape(mask.grid, order="F")
            if not (regions[region] & voxels).any():
                logger.warning(
                    "region %s of %s (%s) has no voxel in the mask", region, subject, name
                )
        return regions

    def session_voxels(self, subject: str, session: int | str, voxels: np.ndarray) -> np.ndarray:
        subject = self.subject_name(subject)
        mask, inside_mask = self._mask(subject)
        out = self._read(subject, session, np.asarray(voxels))
        within = inside_mask.ravel(order="F")[voxels]
        files = self._session(subject, session).volume.unique()
        others = f" and {len(files) - 1} more" if len(files) > 1 else ""
        what = f"session {session} of {subject} ({files[0]}{others})"
        return clean_voxels(out, within, what, self.max_missing_voxels)

    def not_finite(self, subject: str, session: int | str, voxels: np.ndarray) -> np.ndarray:
        names = self._session(subject, session).volume.unique()
        if number_type([self._open(name, "trials.tsv") for name in names]).kind != "f":
            return np.zeros(len(voxels), bool)
        return ~np.isfinite(self._read(subject, session, voxels)).all(0)

    def volumes(
        self, subject: str | int, rows: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        subject = self.subject_name(subject)
        mask, _ = self._mask(subject)
        sessions = self.subject_trials(subject).session.to_numpy()
        rows = check_rows(rows, len(sessions), f"{self.name} {subject}")
        out = np.empty((len(rows), *mask.grid), np.float32)
        for session in dict.fromkeys(sessions[rows].tolist()):
            in_session = np.flatnonzero(sessions == session)
            wanted = np.flatnonzero(sessions[rows] == session)
            positions = np.searchsorted(in_session, rows[wanted])
            out[wanted] = self._session_volumes(subject, session, positions)
        return out

    def _session_volumes(
        self, subject: str, session: int | str, positions: np.ndarray
    ) -> np.ndarray:
        mask, within = self._mask(subject)
        if (subject, session) not in self._silent:  # the checks need the whole session once
            voxels = np.flatnonzero(within.ravel(order="F"))
            values = self.session_voxels(subject, session, voxels)
            self._silent[subject, session] = voxels[~values.any(axis=0)]
        values = self._read(subject, session, np.arange(within.size), positions)
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        values[:, self._silent[subject, session]] = 0
        return values.reshape(len(values), *mask.grid[::-1]).transpose(0, 3, 2, 1)

    def _read(
        self,
        subject: str,
        session: int | str,
        voxels: np.ndarray,
        positions: np.ndarray | None = None,
    ) -> np.ndarray:
        """Values (n_trials, n_voxels) of a session's trials, unchecked."""
        mask, _ = self._mask(subject)
        places = self._session(subject, session)
        if positions is not None:
            places = places.iloc[positions].reset_index(drop=True)
        files = {name: self._open(name, "trials.tsv") for name in places.volume.unique()}
        kind = number_type(list(files.values()))
        out = np.empty((len(places) if len(files) > 1 else 0, len(voxels)), kind)
        known: dict[tuple, np.ndarray] = {}
        for name, rows in places.groupby("volume", sort=False).indices.items():
            file = files[name]
            self._fits(file, mask, subject)
            key = file.grid, file.affine.tobytes(), file.placed
            if key not in known:
                known[key] = same_voxels(file, mask, voxels)
            wanted = np.array([_position(file, places["index"][row]) for row in rows])
            values = file.read(known[key], wanted)
            if len(files) == 1:
                return values
            out[rows] = values
        return out

    def session_files(self, subject: str, session: int | str) -> list[Path]:
        return [self.root / name for name in self._session(subject, session).volume.unique()]

    def session_identity(self, subject: str, session: int | str) -> str:
        places = self._session(subject, session)
        marks = [fingerprint(path) for path in self.session_files(subject, session)]
        return digest(marks, list(places.volume), list(places["index"]))

    def _session(self, subject: str, session: int | str) -> pd.DataFrame:
        """Where the volumes of a session lie, in presentation order."""
        subject = self.subject_name(subject)
        here = (self._places.subject == subject) & (self._places.session == session)
        return self._places[here].reset_index(drop=True)

    def _open(self, name: str, table: str) -> Volumes:
        return open_volumes(inside(self.root, name, table), name)

    def _fits(self, file: Volumes, mask: Frame, subject: str) -> None:
        """Refuse a volume that does not lie as the subject's mask."""
        if lie_alike(file, mask):
            return
        first = self._places.volume[self._places.subject == subject].iloc[0]
        if file.name != first:
            raise DataError(
                f"the volume {file.name} of {subject} {apart(file, mask)}, as have the volumes before "
                f"it, from {first} on, expected one grid a subject: reslice {file.name} to that "
                "grid, or remove its rows from trials.tsv"
            )
        raise DataError(
            f"the volume {file.name} of {subject} {apart(file, mask)}, expected the mask on the grid of "
            f"the volumes: {_resample(mask, file)}"
        )

    def image(self, image_id: str | int) -> "PIL.Image.Image":
        if not self.has_images:
            return super().image(image_id)
        path = self._picture(str(image_id))
        inside(self.root, f"stimuli/{path.name}", "trials.tsv")
        return read_picture(path, f"stimuli/{path.name}", self._background)

    def _picture(self, name: str) -> Path:
        found = self._pictures.get(name, [])
        if len(found) > 1:
            raise DataError(
                f"image {name!r} has {len(found)} files, {' and '.join(p.name for p in found[:2])} in stimuli/, expected one: "
                "remove those that were not shown"
            )
        if not found:
            raise MissingError(
                f"image {name!r} has no picture: expected stimuli/{name}.png or stimuli/{name}.jpg; "
                "add it, or remove the folder stimuli to train the text targets alone"
            )
        return found[0]

    def captions(self, image_id: str | int) -> list[str]:
        return list(self._sentences.get(str(image_id), []))

    def objects(self, image_id: str | int) -> list[dict]:
        return list(self._objects.get(str(image_id), []))

    def checksum(self) -> str:
        files = [self.root / name for name in self._places.volume.unique()]
        for subject in self.subjects:
            files += [self.root / name for name in self._regions[subject].values() if name]
        return digest(super().checksum(), [_mark(path) for path in files])

    def _identity(self) -> list[Path]:
        names = ("trials.tsv", "subjects.tsv", "captions.tsv", "objects.tsv", "dataset.json")
        return [self.root / name for name in names if (self.root / name).is_file()]


def _refuse_one_volume_under_two_names(table: pd.DataFrame, real: dict[str, Path]) -> None:
    """Refuse links by which two rows name the same volume."""
    twice = table.assign(volume=table.volume.map(real)).duplicated(["volume", "index"], keep=False)
    if twice.any():
        names = table.volume[twice].unique()
        raise DataError(
            f"trials.tsv names one file as {names[0]} and as {names[1]} (a link), and a volume of it twice, expected every trial "
            "once: correct the table"
        )


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """Files of pictures by their names without ending."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in endings():
            found.setdefault(path.stem, []).append(path)
    return found


def _mark(path: Path) -> bytes:
    """Size and last bytes of a file; those of a .gz file are its checksum."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 64, 0))
        return f"{size} ".encode() + file.read()


def _whole(file: Volumes) -> np.ndarray:
    """The only volume of a file, (x * y * z,) in Fortran order."""
    if file.shape[3] != 1:
        raise DataError(
            f"{file.name} has the shape {file.shape}, expected three axes (x, y, z): "
            "name a file with one volume in subjects.tsv"
        )
    return file.read(np.arange(file.n_voxels), [0])[0]


def _position(file: Volumes, index: str) -> int:
    """The volume of a file that a row of the table means."""
    if index == "":
        if file.shape[3] != 1:
            raise DataError(
                f"{file.name} holds {file.shape[3]} volumes and trials.tsv gives no index for it: "
                "add the 0-based position in the column index"
            )
        return 0
    if int(index) >= file.shape[3]:
        raise DataError(
            f"{file.name} has the shape {file.shape}, index {index} was expected on its fourth axis "
            "(counted from 0); correct the table, or copy the file again if it was cut short"
        )
    return int(index)


def _resample(mask: Frame, like: Frame) -> str:
    """The command that brings a mask to a grid, and what to do with its result; where it cannot, what else to do."""
    if why := unplaced(mask, like):
        return why
    path = Path(mask.name)
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    out = path.with_name(f"{path.name.removesuffix(ending)}_resampled.nii.gz").as_posix()
    words = " ".join(
        shlex.quote(part) for part in ("--mask", mask.name, "--like", like.name, "--out", out)
    )
    return f"run in the data folder: neurovl resample {words}, and name {out} in subjects.tsv"
