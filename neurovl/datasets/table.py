"""Your own data: a folder with one table of trials and NIfTI files, as `Recordings`.

============== ====================================================================================
trials.tsv     ``subject session volume index image_id repeat split``: `volume` a NIfTI file relative
               to the folder, `index` its 0-based position on the fourth axis (empty for a 3-D file),
               `split` train or test; a subject's rows in presentation order
subjects.tsv   ``subject mask``; every further column holds files of one region of interest
captions.tsv   ``image_id caption``, any number a picture; optional
stimuli/       IMAGE_ID.png or .jpg; optional, without it the text targets alone are trained
dataset.json   name, units, licence, terms, publish_images; optional
============== ====================================================================================

Values are taken to be percent signal change unless dataset.json says otherwise; they are z-scored
later in any case. Every subject is on a grid of its own, the mask's; volumes stored in another
orientation are turned to it. Leaves out resampling: a volume on another grid is refused.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.datasets.base import (
    Recordings,
    check_grid,
    clean_session,
    digest,
    find_subject,
    load_nifti,
    nifti_array,
)
from neurovl.errors import DataError, MissingError

REQUIRED = ["subject", "session", "volume", "image_id", "split"]


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

    def __init__(self, root, subjects=None, fold: int = 0):
        root = Path(root)
        about = _read_about(root / "dataset.json")
        self.name = str(about.get("name") or root.resolve().name)
        self.units = str(about.get("units") or "percent signal change")
        self.licence = str(about.get("licence") or "not stated (dataset.json)")
        self.terms = str(about.get("terms") or "not stated (dataset.json)")
        self.publish_images = about.get("publish_images") is True
        self.has_images = (root / "stimuli").is_dir()
        table = _read_trials(root)
        names = list(dict.fromkeys(table.subject))
        if subjects is not None:
            names = [find_subject(one, names, self.name) for one in subjects]
            table = table[table.subject.isin(names)]
        table = pd.concat([table[table.subject == one] for one in names], ignore_index=True)
        self._volumes = table[["subject", "volume", "index"]]
        self._regions = _read_subjects(root, names)
        self._grids: dict[str, tuple] = {}
        self._session: tuple | None = None  # the one session in memory
        self._sentences = _read_captions(root / "captions.tsv")
        super().__init__(root, names, table)
        for path in table.volume.unique():
            _inside(root, path, "trials.tsv")
        if self.has_images:
            for image_id in self.trials.image_id.unique():
                self._picture(image_id)

    def _grid(self, subject) -> tuple[np.ndarray, np.ndarray, object]:
        """A subject's mask, affine, and the mask's image for its orientation."""
        subject = self.subject_name(subject)
        if subject not in self._grids:
            name = self._regions[subject]["mask"]
            path = _inside(self.root, name, "subjects.tsv")
            image = load_nifti(path)
            mask = _squeeze(nifti_array(image, path), name) > 0
            if not mask.any():
                raise DataError(
                    f"the mask {name} of {subject} holds no voxel above 0, expected some: "
                    "name another file in subjects.tsv"
                )
            self._grids[subject] = mask, image.affine, image
        return self._grids[subject]

    def mask(self, subject) -> np.ndarray:
        return self._grid(subject)[0].copy()

    def affine(self, subject) -> np.ndarray:
        return self._grid(subject)[1].copy()

    def rois(self, subject) -> dict[str, np.ndarray]:
        subject = self.subject_name(subject)
        regions = {"mask": self.mask(subject)}
        for region, name in self._regions[subject].items():
            if region != "mask" and name:
                path = _inside(self.root, name, "subjects.tsv")
                data = _squeeze(nifti_array(load_nifti(path), path), name)
                data = _turn(data, load_nifti(path), self._grid(subject)[2], name)
                check_grid(data.shape, regions["mask"], f"region {region} of {subject} ({name})")
                regions[region] = data > 0
        return regions

    def _session_volumes(self, subject, session, positions):
        if self._session is None or self._session[:2] != (subject, session):
            self._session = None  # give the memory back before the next session comes
            self._session = (subject, session, self._read_session(subject, session))
        return self._session[2][positions]

    def _read_session(self, subject, session) -> np.ndarray:
        """All volumes of a session, float32 (n, x, y, z), on the grid of the mask."""
        mask, _, like = self._grid(subject)
        here = (self.trials.subject == subject) & (self.trials.session == session)
        rows = self._volumes[here].reset_index(drop=True)
        out = np.empty((len(rows), *mask.shape), np.float32)
        for name, positions in rows.groupby("volume").indices.items():
            path = _inside(self.root, name, "trials.tsv")
            image = load_nifti(path)
            data = nifti_array(image, path, dtype=np.float32)
            data = _turn(data, image, like, name)
            check_grid(data.shape[:3], mask, f"volume {name}")
            for position in positions:
                out[position] = _pick(data, rows["index"][position], name)
        return clean_session(out, mask, f"session {session} of {subject}")

    def image(self, image_id):
        from PIL import Image, UnidentifiedImageError

        if not self.has_images:
            return super().image(image_id)
        path = self._picture(image_id)
        try:
            with Image.open(path) as picture:
                return picture.convert("RGB")
        except (UnidentifiedImageError, OSError) as problem:
            raise DataError(
                f"stimuli/{path.name} is not a readable picture ({problem}), "
                "expected a PNG or JPEG file: export it again"
            ) from problem

    def _picture(self, image_id) -> Path:
        name = str(image_id)
        for ending in ("png", "jpg", "jpeg"):
            path = self.root / "stimuli" / f"{name}.{ending}"
            if Path(name).name == name and path.is_file():
                return path
        raise MissingError(
            f"image {name!r} has no picture: expected stimuli/{name}.png or stimuli/{name}.jpg; "
            "add it, or remove the folder stimuli to train the text targets alone"
        )

    def captions(self, image_id) -> list[str]:
        return list(self._sentences.get(str(image_id), []))

    def checksum(self) -> str:
        sizes = [
            f"{name} {(self.root / name).stat().st_size}" for name in self._volumes.volume.unique()
        ]
        return digest(super().checksum(), sizes)

    def _identity(self) -> list[Path]:
        names = ("trials.tsv", "subjects.tsv", "captions.tsv", "dataset.json")
        return [self.root / name for name in names if (self.root / name).is_file()]


def _inside(root: Path, name: str, table: str) -> Path:
    """The file `name` of the folder; a path that leads out of the folder is refused."""
    path = (root / name).resolve()
    if Path(name).is_absolute() or not path.is_relative_to(root.resolve()):
        raise DataError(
            f"{table} names {name!r}, which lies outside the data folder: expected a path relative "
            "to the folder and within it; copy the file there"
        )
    if not path.is_file():
        raise MissingError(
            f"{table} names {name!r}, which is missing from {root}: copy the file there, "
            "or correct the table"
        )
    return path


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise MissingError(
            f"{path} is missing: expected a table with the columns {', '.join(columns)}"
        )
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as problem:
        raise DataError(
            f"{path.name} is no table with tabs between its columns ({problem}): save it as .tsv"
        ) from problem
    missing = [name for name in columns if name not in table]
    if missing:
        raise DataError(
            f"{path.name} has the columns {', '.join(table.columns)}, expected also "
            f"{', '.join(missing)}, separated by tabs: add them"
        )
    return table.apply(lambda column: column.str.strip())


def _read_trials(root: Path) -> pd.DataFrame:
    table = _read_table(root / "trials.tsv", REQUIRED)
    if table.empty:
        raise DataError("trials.tsv holds no trials, expected a row for each: add them")
    for column in REQUIRED:
        if (table[column] == "").any():
            row = int(np.flatnonzero(table[column] == "")[0])
            raise DataError(f"trials.tsv has no {column} in row {row + 2}: fill it in")
    wrong = sorted(set(table.split) - {"train", "test"})
    if wrong:
        raise DataError(
            f"trials.tsv has the split {', '.join(wrong)}, expected train or test: correct it"
        )
    if "index" not in table:
        table["index"] = ""
    bad = ~table["index"].str.fullmatch(r"\d*")
    if bad.any():
        raise DataError(
            f"trials.tsv has the index {table['index'][bad].iloc[0]!r}, expected a whole number "
            "from 0, or nothing for a 3-D file: correct it"
        )
    if table.session.str.fullmatch(r"\d+").all():
        table["session"] = table.session.astype(int)
    by_image = table.groupby(["subject", "image_id"])
    given = pd.to_numeric(table["repeat"], errors="coerce") if "repeat" in table else None
    if given is None or given.isna().any():
        table["repeat"] = by_image.cumcount()
    else:
        keys = [table.subject, table.image_id]
        table["repeat"] = given.groupby(keys).rank(method="first").astype(int) - 1
    table["trial"] = table.groupby("subject").cumcount()
    return table


def _read_subjects(root: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Files of the mask and the regions of each subject."""
    table = _read_table(root / "subjects.tsv", ["subject", "mask"]).set_index("subject")
    for name in names:
        if name not in table.index or not table["mask"][name]:
            raise DataError(
                f"subjects.tsv has no mask for {name}, who has trials in trials.tsv: "
                "add a row with the path of a NIfTI file"
            )
    return {name: table.loc[name].to_dict() for name in names}


def _read_captions(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    table = _read_table(path, ["image_id", "caption"])
    return table.groupby("image_id").caption.apply(list).to_dict()


def _read_about(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise DataError(f"dataset.json is not valid JSON ({problem}): correct it") from problem
    if not isinstance(about, dict):
        raise DataError("dataset.json holds no object, expected name, units, licence, terms")
    return about


def _squeeze(data: np.ndarray, name: str) -> np.ndarray:
    """A volume without trailing axes of length 1."""
    if data.ndim > 3 and all(size == 1 for size in data.shape[3:]):
        data = data.reshape(data.shape[:3])
    if data.ndim != 3:
        raise DataError(f"{name} has the shape {data.shape}, expected three axes (x, y, z)")
    return data


def _pick(data: np.ndarray, index: str, name: str) -> np.ndarray:
    """The volume of a file that a row of the table means."""
    if index == "":
        if data.ndim > 3 and data.size != np.prod(data.shape[:3]):
            raise DataError(
                f"{name} holds {data.shape[3]} volumes and trials.tsv gives no index for it: "
                "add the 0-based position in the column index"
            )
        return _squeeze(data, name)
    data = data[..., None] if data.ndim == 3 else data
    if data.ndim != 4 or int(index) >= data.shape[3]:
        raise DataError(
            f"{name} has the shape {data.shape}, index {index} was expected on its fourth axis "
            "(counted from 0); the file may be cut short, or the table wrong"
        )
    return data[..., int(index)]


def _turn(data: np.ndarray, image, like, name: str) -> np.ndarray:
    """Flip and permute axes so that `data` lies as the image `like`; refuse another position."""
    from nibabel import orientations

    if not (_placed(image) and _placed(like)):
        return data
    turn = orientations.ornt_transform(
        orientations.io_orientation(image.affine), orientations.io_orientation(like.affine)
    )
    affine = image.affine @ orientations.inv_ornt_aff(turn, image.shape[:3])
    data = orientations.apply_orientation(data, turn)
    voxel = np.linalg.norm(like.affine[:3, :3], axis=0)
    corner = np.append(np.array(like.shape[:3]) - 1, 1)
    shift = max(
        np.abs((affine - like.affine)[:3] @ point).max() for point in (np.eye(4)[3], corner)
    )
    if data.shape[:3] == tuple(like.shape[:3]) and shift > voxel.min() / 2:
        raise DataError(
            f"{name} lies {shift:.1f} mm away from the subject's mask although both have the grid "
            f"{data.shape[:3]}, expected the same place: resample one to the other (neurovl resample)"
        )
    return data


def _placed(image) -> bool:
    """Whether the header says where the volume lies."""
    header = image.header
    return bool(header.get("sform_code", 1) or header.get("qform_code", 1))
