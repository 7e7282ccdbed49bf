"""The Natural Scenes Dataset, real or simulated, as `Recordings`.

Reads single-trial betas of ``betas_fithrf_GLMdenoise_RR`` in the 1.8-mm functional space
(``.nii.gz`` or ``.hdf5``, whichever is there), of the sessions that are on disk. Only a session at a
time is in memory. ``image_id`` is the 0-based nsdId; the 1,000 pictures that all subjects share are
the test set. Leaves out surface data and other versions of the betas.

Allen et al. 2022, Nat. Neurosci. 25:116; NSD Data Manual, cvnlab.slite.page.
"""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.datasets.anatomy import ATLASES
from neurovl.datasets.base import (
    Recordings,
    check_grid,
    clean_session,
    digest,
    load_nifti,
    nifti_array,
    noise_ceiling,
    subject_label,
)
from neurovl.errors import DataError, MissingError

TRIALS, SHARED, UNIT = 750, 1000, 300
EXPERIMENT = Path("nsddata/experiments/nsd")
STIMULI = Path("nsddata_stimuli/stimuli/nsd")
BETAS = "betas_fithrf_GLMdenoise_RR"
VISIBLE = 0.1  # share of a box that the crop must leave for the object to count as in the picture


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
    """

    def __init__(self, root, subjects=None, fold: int = 0):
        root = Path(root)
        mark = root / "SIMULATED.json"
        self.simulated = mark.is_file()
        self.name = "simulated-nsd" if self.simulated else "nsd"
        self.publish_images = self.simulated
        if self.simulated:
            self.licence = "CC0-1.0"
            self.terms = "simulated: rendered scenes and computed voxels, no brain was scanned"
            if not json.loads(mark.read_text()).get("complete", True):
                raise DataError(
                    f"the simulation in {root} was interrupted: run neurovl simulate with the same "
                    "settings again, it goes on where it stopped"
                )
        else:
            self.licence = "NSD Terms and Conditions"
            self.terms = "access by agreement; neither betas nor pictures may be passed on"
        design = _read_design(root / EXPERIMENT / "nsd_expdesign.mat")
        available = _available(root)
        wanted = list(available) if subjects is None else [subject_label(one) for one in subjects]
        missing = [one for one in wanted if one not in available]
        if missing or not wanted:
            raise MissingError(
                f"{root} holds no betas of {', '.join(missing) or 'any subject'} "
                f"(found: {', '.join(available) or 'none'}), expected "
                f"nsddata_betas/ppdata/{(missing or ['subj01'])[0]}/func1pt8mm/{BETAS}/"
                f"betas_session01.nii.gz: {_fetch((missing or ['subj01'])[0])}"
            )
        self._files = {one: available[one] for one in wanted}
        self._masks: dict[str, np.ndarray] = {}
        self._session: tuple | None = None  # the one session in memory
        self._pictures: pd.DataFrame | None = None
        self._annotations: dict[str, dict] = {}
        tables = [_trials(design, one, sorted(self._files[one])) for one in wanted]
        super().__init__(root, wanted, pd.concat(tables))

    @property
    def has_images(self) -> bool:
        return (self.root / STIMULI / "nsd_stimuli.hdf5").is_file()

    def _functional(self, subject) -> Path:
        return self.root / "nsddata/ppdata" / self.subject_name(subject) / "func1pt8mm"

    def affine(self, subject) -> np.ndarray:
        path = self._functional(subject) / "roi/nsdgeneral.nii.gz"
        return load_nifti(path, _fetch(subject)).affine.copy()

    def mask(self, subject) -> np.ndarray:
        subject = self.subject_name(subject)
        if subject not in self._masks:
            path = self._functional(subject) / "roi/nsdgeneral.nii.gz"
            labels = nifti_array(load_nifti(path, _fetch(subject)), path, _fetch(subject))
            self._masks[subject] = labels > 0  # -1 is outside cortex, 0 unlabelled
        return self._masks[subject].copy()

    def rois(self, subject) -> dict[str, np.ndarray]:
        subject = self.subject_name(subject)
        regions = {}
        for atlas, default in ATLASES.items():
            path = self._functional(subject) / "roi" / f"{atlas}.nii.gz"
            if path.is_file():
                labels = nifti_array(load_nifti(path), path)
                for number, name in _label_names(self.root, subject, atlas, default).items():
                    regions[name] = labels == number
        for area in ("V1", "V2", "V3"):
            if f"{area}v" in regions:
                regions[area] = regions[f"{area}v"] | regions[f"{area}d"]
        return {name: region for name, region in regions.items() if region.any()}

    def noise_ceiling(self, subject, n_repeats: int = 3) -> np.ndarray | None:
        subject = self.subject_name(subject)
        path = next(iter(self._files[subject].values())).with_name("ncsnr.nii.gz")
        if not path.is_file():
            return None
        return noise_ceiling(np.nan_to_num(nifti_array(load_nifti(path), path)), n_repeats)

    def _session_volumes(self, subject, session, positions):
        if self._session is None or self._session[:2] != (subject, session):
            self._session = None  # give the memory back before the next session comes
            self._session = (subject, session, self._read_session(subject, session))
        return self._session[2][positions].astype(np.float32) / UNIT

    def _read_session(self, subject, session) -> np.ndarray:
        """All betas of a session (750, x, y, z) as stored, 300 times percent signal change."""
        path = self._files[subject][session]
        what, mask = f"{path.name} of {subject}", self.mask(subject)
        fetch = _fetch(subject, verify=True)
        if path.suffix == ".hdf5":
            betas = np.moveaxis(_read_hdf5(path, fetch), (0, 1, 2, 3), (0, 3, 2, 1))
        else:
            image = load_nifti(path, fetch)
            if len(image.shape) != 4:
                raise DataError(
                    f"{what} has the shape {tuple(image.shape)}, "
                    f"expected (x, y, z, {TRIALS}): {fetch}"
                )
            _check_trials(image.shape[3], path, fetch)
            check_grid(image.shape[:3], mask, what)
            betas = np.moveaxis(nifti_array(image, path, fetch), -1, 0)
        _check_trials(len(betas), path, fetch)
        check_grid(betas.shape[1:], mask, what)
        return clean_session(betas, mask, what)

    def image(self, image_id):
        import h5py
        from PIL import Image

        number = self._nsd_id(image_id)
        path = self.root / STIMULI / "nsd_stimuli.hdf5"
        if not path.is_file():
            raise MissingError(
                f"{path} is missing, so there is no picture of image {number}: "
                "neurovl download nsd, or use the text targets"
            )
        with h5py.File(path, "r") as file:
            brick = file["imgBrick"]
            picture = brick[number] if number < len(brick) else np.zeros(1)
        if not picture.any():  # a slot that was never written reads as zeros
            raise MissingError(
                f"image {number} has no picture in {path.name} (its slot was never written): no "
                f"subject saw it; choose an image_id from trials"
            )
        return Image.fromarray(picture)

    def captions(self, image_id) -> list[str]:
        row = self._picture(image_id)
        return list(self._annotation("captions", row.cocoSplit).get(row.cocoId, []))

    def objects(self, image_id) -> list[dict]:
        row = self._picture(image_id)
        top, bottom, left, right = ast.literal_eval(row.cropBox)
        found = []
        for category, supercategory, box, (width, height) in self._annotation(
            "instances", row.cocoSplit
        ).get(row.cocoId, []):
            x, y, w, h = box
            span = np.array([1 - left - right, 1 - top - bottom] * 2)
            corners = np.array([x / width, y / height, (x + w) / width, (y + h) / height])
            whole = (corners - [left, top, left, top]) / span
            x0, y0, x1, y1 = np.clip(whole, 0, 1)
            area = (whole[2] - whole[0]) * (whole[3] - whole[1])
            if (x1 - x0) * (y1 - y0) > VISIBLE * area:
                box = tuple(float(value) for value in (x0, y0, x1, y1))
                found.append({"category": category, "supercategory": supercategory, "box": box})
        return found

    def checksum(self) -> str:
        sizes = [
            f"{path.name} {path.stat().st_size}"
            for files in self._files.values()
            for path in files.values()
        ]
        return digest(super().checksum(), sizes)

    def _identity(self) -> list[Path]:
        first = [next(iter(files.values())) for files in self._files.values()]
        paths = [self.root / "SIMULATED.json", *(path.with_name("ncsnr.nii.gz") for path in first)]
        return [path for path in paths if path.is_file()]

    def _nsd_id(self, image_id) -> int:
        text = str(image_id)
        if not text.isdigit() or int(text) >= 73_000:
            raise DataError(f"{image_id!r} is no nsdId: expected an integer from 0 to 72999")
        return int(text)

    def _picture(self, image_id):
        """The picture's row of nsd_stim_info_merged.csv."""
        if self._pictures is None:
            path = self.root / EXPERIMENT / "nsd_stim_info_merged.csv"
            if not path.is_file():
                raise MissingError(f"{path} is missing: neurovl download nsd")
            columns = ["nsdId", "cocoId", "cocoSplit", "cropBox"]
            try:
                table = pd.read_csv(path, usecols=columns)
            except ValueError as problem:
                raise DataError(
                    f"{path.name} has not the columns {', '.join(columns)} ({problem}): "
                    "neurovl download nsd --verify"
                ) from problem
            self._pictures = table.set_index("nsdId")
        return self._pictures.loc[self._nsd_id(image_id)]

    def _annotation(self, kind: str, split: str) -> dict[int, list]:
        """COCO's annotations of the pictures in `trials`, by cocoId; read once."""
        name = f"{kind}_{split}.json"
        if name not in self._annotations:
            path = self.root / STIMULI / "annotations" / name
            if not path.is_file():
                raise MissingError(
                    f"{path} is missing: neurovl download nsd fetches COCO's annotations"
                )
            wanted = self._pictures.cocoId.loc[self.trials.image_id.unique()]
            self._annotations[name] = _read_annotations(path, kind, set(wanted.tolist()))
        return self._annotations[name]


def _fetch(subject, verify: bool = False) -> str:
    number = int(subject_label(subject)[-2:])
    return f"neurovl download nsd --subjects {number}" + (" --verify" if verify else "")


def _read_design(path: Path) -> dict:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise MissingError(f"{path} is missing: neurovl download nsd")
    try:
        design = loadmat(path, variable_names=("masterordering", "subjectim"))
        order = design["masterordering"].ravel().astype(int)
        subjectim = design["subjectim"].astype(int)
    except (MatReadError, KeyError, ValueError, TypeError, OSError, NotImplementedError) as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected a MATLAB file with masterordering "
            "and subjectim: neurovl download nsd --verify"
        ) from problem
    if len(order) != 30_000 or subjectim.shape != (8, 10_000):
        raise DataError(
            f"{path.name} holds masterordering of {len(order)} trials and subjectim of "
            f"{subjectim.shape}, expected 30000 and (8, 10000): neurovl download nsd --verify"
        )
    return {"masterordering": order, "subjectim": subjectim}


def _available(root: Path) -> dict[str, dict[int, Path]]:
    """Beta files on disk, by subject and session; .nii.gz is preferred to .hdf5."""
    found: dict[str, dict[int, Path]] = {}
    for suffix in (".hdf5", ".nii.gz"):
        pattern = f"subj0[1-8]/func1pt8mm/{BETAS}/betas_session[0-9][0-9]{suffix}"
        for path in sorted((root / "nsddata_betas/ppdata").glob(pattern)):
            session = int(path.name.removesuffix(suffix)[-2:])
            found.setdefault(path.parents[2].name, {})[session] = path
    return {subject: dict(sorted(files.items())) for subject, files in sorted(found.items())}


def _trials(design, subject: str, sessions: list[int]) -> pd.DataFrame:
    """The trials of the sessions on disk; all numbers in `design` are 1-based."""
    order = design["masterordering"]
    repeat = pd.Series(order).groupby(order).cumcount().to_numpy()
    at = np.concatenate([np.arange((s - 1) * TRIALS, s * TRIALS) for s in sessions])
    slots = order[at]
    return pd.DataFrame(
        {
            "subject": subject,
            "session": at // TRIALS + 1,
            "trial": np.arange(len(at)),
            "image_id": design["subjectim"][int(subject[-2:]) - 1, slots - 1] - 1,
            "repeat": repeat[at],
            "split": np.where(slots <= SHARED, "test", "train"),
        }
    )


def _check_trials(n_volumes: int, path: Path, fetch: str) -> None:
    if n_volumes != TRIALS:
        raise DataError(
            f"{path.name} holds {n_volumes} volumes, expected {TRIALS} (nsd_expdesign.mat); "
            f"the file may be cut short: {fetch}"
        )


def _read_hdf5(path: Path, fetch: str) -> np.ndarray:
    """The dataset ``betas`` as h5py shows it, (750, z, y, x)."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file["betas"].ndim != 4:
                raise DataError(
                    f"{path.name} has betas of shape {file['betas'].shape}, "
                    f"expected ({TRIALS}, z, y, x): {fetch}"
                )
            return file["betas"][:]
    except (OSError, KeyError, RuntimeError) as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected an HDF5 file with the dataset betas; "
            f"the file may be cut short: {fetch}"
        ) from problem


def _label_names(root: Path, subject: str, atlas: str, default) -> dict[int, str]:
    """Names of an atlas's labels, from its .ctab file where there is one."""
    for folder in (subject, "fsaverage"):
        path = root / "nsddata/freesurfer" / folder / "label" / f"{atlas}.mgz.ctab"
        if path.is_file():
            rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
            return {int(row[0]): row[1] for row in rows if int(row[0]) > 0}
    return dict(enumerate(default, 1))


def _read_annotations(path: Path, kind: str, wanted: set[int]) -> dict[int, list]:
    """Captions, or (category, supercategory, box, picture size), of the wanted pictures."""

    def slim(entry: dict) -> dict:  # COCO's outlines are most of the file and not needed
        entry.pop("segmentation", None)
        return entry

    try:
        content = json.loads(path.read_text(), object_hook=slim)
        found: dict[int, list] = {}
        entries = [one for one in content["annotations"] if one["image_id"] in wanted]
        if kind == "captions":
            for one in entries:
                found.setdefault(one["image_id"], []).append(one["caption"].strip())
            return found
        names = {one["id"]: (one["name"], one["supercategory"]) for one in content["categories"]}
        sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
        for one in entries:
            entry = (*names[one["category_id"]], one["bbox"], sizes[one["image_id"]])
            found.setdefault(one["image_id"], []).append(entry)
        return found
    except (json.JSONDecodeError, KeyError, TypeError) as problem:
        raise DataError(
            f"{path.name} is no COCO annotation file ({type(problem).__name__}: {problem}); "
            "it may be cut short: neurovl download nsd --verify"
        ) from problem
