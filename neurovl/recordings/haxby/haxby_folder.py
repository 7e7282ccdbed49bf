"""Haxby et al. 2001: blocks of single objects, as `Recordings` whose trials are block means.

A trial is the mean of a run's volumes of one category, so there is one for each run and category;
its ``image_id`` names both (``run03-face``) and its session is the run. Scaling uses no labels:
within a run every voxel is linearly detrended and brought to unit variance. Runs, not pictures, are
held out: fold k of 4 tests a quarter of them. The pictures themselves are not read: the targets are
the category names. Percent signal change is not recoverable; values are standard deviations.

Haxby et al. 2001, Science 293:2425.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import Recordings, digest, subject_label
from neurovl.recordings.volume_checks import (
    as_region,
    check_grid,
    clean_session,
    load_nifti,
    nifti_array,
)

CATEGORIES = ("face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambled")
SPOKEN = {"scrambledpix": "scrambled"}
SENTENCES = {
    "scissors": "a photo of scissors.",
    "scrambled": "a scrambled photo.",
}
HINT = "neurovl download haxby --to DIR"


def find(root: Path) -> dict[str, Path]:
    """Folders of the subjects below `root`, by name ``subj01``; empty if it is no Haxby folder."""
    root = Path(root)
    for place in (root, root / "haxby2001", root.parent):
        files = sorted(place.glob("subj*/bold.nii.gz"))
        if place == root.parent:  # the path of a single subject's folder
            files = [file for file in files if file.parent == root]
        if files:
            return {subject_label(file.parent.name): file.parent for file in files}
    return {}


class HaxbyRecordings(Recordings):
    """Block means of Haxby et al. 2001.

    Parameters
    ----------
    root : Path
        Folder with ``subj*/bold.nii.gz``, ``labels.txt`` and ``mask.nii.gz``, also below
        ``haxby2001/``; nilearn's own download has this layout.
    subjects : sequence of str or int, optional
    fold : int
        0 to 3: which quarter of the runs is the test set.
    """

    name = "haxby"
    licence = "CC BY-SA 3.0"
    terms = "Haxby et al. 2001; shared by the authors under CC BY-SA 3.0, cite the paper"
    units = "standard deviations within a run"
    n_folds = 4
    zscore = "subject"

    def __init__(
        self, root: str | Path, subjects: Sequence[str | int] | None = None, fold: int = 0
    ) -> None:
        folders = find(root)
        wanted = (
            list(folders) if subjects is None else list(dict.fromkeys(map(subject_label, subjects)))
        )
        missing = [one for one in wanted if one not in folders]
        if missing:
            raise MissingError(
                f"{root} holds no {', '.join(missing)}, only {', '.join(folders)}: {HINT}"
            )
        self.fold = fold
        self._folders = {one: folders[one] for one in wanted}
        self._labels = {one: _read_labels(folder) for one, folder in self._folders.items()}
        self._masks: dict[str, np.ndarray] = {}
        self._blocks: dict[str, np.ndarray] = {}
        tables = [_trials(one, self._labels[one], fold) for one in wanted]
        super().__init__(root, wanted, pd.concat(tables))

    def affine(self, subject: str | int) -> np.ndarray:
        path = self._folders[self.subject_name(subject)] / "bold.nii.gz"
        return load_nifti(path, HINT).affine.copy()

    def mask(self, subject: str | int) -> np.ndarray:
        subject = self.subject_name(subject)
        if subject not in self._masks:
            folder = self._folders[subject]
            own, common = folder / "mask.nii.gz", folder.parent / "mask.nii.gz"
            path = own if own.is_file() else common
            mask = as_region(nifti_array(load_nifti(path, HINT), path, HINT), path.name)
            if mask.ndim != 3 or not mask.any():
                raise DataError(
                    f"{path.name} of {subject} has the shape {mask.shape} and {int(mask.sum())} voxels "
                    f"above 0, expected (x, y, z) and some: {HINT}"
                )
            self._masks[subject] = mask
        return self._masks[subject].copy()

    def rois(self, subject: str | int) -> dict[str, np.ndarray]:
        regions = {"mask": self.mask(subject)}
        for path in sorted(self._folders[self.subject_name(subject)].glob("mask*_*.nii.gz")):
            name = path.name.removesuffix(".nii.gz").split("_", 1)[1]
            region = as_region(nifti_array(load_nifti(path, HINT), path, HINT), path.name)
            check_grid(region.shape, regions["mask"], f"{path.name} of {subject}", HINT)
            regions[name] = regions.get(name, False) | region
        return regions

    def _session_volumes(self, subject: str, session: int, positions: np.ndarray) -> np.ndarray:
        in_session = np.flatnonzero(self.subject_trials(subject).session.to_numpy() == session)
        if subject not in self._blocks:
            self._blocks[subject] = self._block_means(subject)
        mask = self.mask(subject)
        out = np.zeros((len(positions), *mask.shape), np.float32)
        out[:, mask] = self._blocks[subject][in_session[positions]]
        return out

    def _block_means(self, subject: str) -> np.ndarray:
        """Detrended and scaled responses of every block, (n_blocks, n_mask_voxels)."""
        from scipy.signal import detrend

        path, labels, mask = (
            self._folders[subject] / "bold.nii.gz",
            self._labels[subject],
            self.mask(subject),
        )
        image = load_nifti(path, HINT)
        if len(image.shape) != 4 or image.shape[3] != len(labels):
            raise DataError(
                f"{path.name} of {subject} has the shape {tuple(image.shape)}, expected "
                f"{len(labels)} volumes as in labels.txt; the file may be cut short: {HINT}"
            )
        if image.get_data_dtype().kind not in "iuf":
            raise DataError(
                f"{path.name} of {subject} holds numbers of type {image.get_data_dtype()}, expected "
                f"integers or real numbers: {HINT}"
            )
        check_grid(image.shape[:3], mask, f"{path.name} of {subject}", HINT)
        series = nifti_array(image, path, HINT)[mask].T  # (n_volumes, n_voxels)
        blocks = []
        for run, rows in labels.groupby("run").indices.items():
            voxels = series[rows].astype(np.float32)
            grid = voxels[:, :, None, None]
            clean_session(
                grid, np.ones(grid.shape[1:], bool), f"{path.name} of {subject} run {run}"
            )
            voxels = detrend(grid[:, :, 0, 0], axis=0)
            spread = voxels.std(0)
            voxels = voxels / np.where(spread > 0, spread, 1)
            names = labels.label.to_numpy()[rows]
            blocks += [voxels[names == name].mean(0) for name in _in_order(names)]
        return np.asarray(blocks, np.float32)

    def captions(self, image_id: str | int) -> list[str]:
        name = self.label(image_id)
        return [SENTENCES.get(name, f"a photo of a {name}.")]

    def objects(self, image_id: str | int) -> list[dict]:
        return []

    def label(self, image_id: str | int) -> str:
        name = str(image_id).partition("-")[2]
        if name not in CATEGORIES:
            raise DataError(
                f"{image_id!r} is no block of {self.name}: expected a run and a category, "
                f"such as 'run03-face', with one of {', '.join(CATEGORIES)}"
            )
        return name

    def checksum(self) -> str:
        shapes = [str(load_nifti(f / "bold.nii.gz", HINT).shape) for f in self._folders.values()]
        return digest(super().checksum(), shapes)

    def _identity(self) -> list[Path]:
        return [folder / "labels.txt" for folder in self._folders.values()]


def _read_labels(folder: Path) -> pd.DataFrame:
    """Label and run (from 1) of every volume."""
    path = folder / "labels.txt"
    if not path.is_file():
        raise MissingError(f"{path} is missing: {HINT}")
    try:
        table = pd.read_csv(path, sep=r"\s+")
    except (ValueError, OSError) as problem:
        raise DataError(
            f"{path.name} of {folder.name} cannot be read ({str(problem).strip()}), expected the columns labels and "
            f"chunks: {HINT}"
        ) from problem
    if list(table.columns[:2]) != ["labels", "chunks"]:
        raise DataError(
            f"{path.name} of {folder.name} has the columns {list(table.columns)}, "
            f"expected labels and chunks: {HINT}"
        )
    label = table.labels.astype(str).map(lambda name: SPOKEN.get(name, name))
    unknown = sorted(set(label) - {"rest", *CATEGORIES})
    if unknown:
        raise DataError(
            f"{path.name} of {folder.name} has the labels {', '.join(unknown)}, "
            f"expected rest and {', '.join(CATEGORIES)}: {HINT}"
        )
    odd = table.index[~table.chunks.astype(str).str.fullmatch(r"\d+(\.0)?")]
    if len(odd):
        raise DataError(
            f"{path.name} of {folder.name} has the chunk {table.chunks[odd[0]]} in line {odd[0] + 2}, "
            f"expected the number of a run: {HINT}"
        )
    runs = table.chunks.astype(float).astype(int) + 1
    shown = runs[label != "rest"].nunique()
    if shown < HaxbyRecordings.n_folds:
        raise DataError(
            f"{path.name} of {folder.name} has {shown} runs with pictures, expected "
            f"{HaxbyRecordings.n_folds} or more, because a quarter of them is tested: {HINT}"
        )
    return pd.DataFrame({"label": label, "run": runs})


def _in_order(names: Iterable[str]) -> list[str]:
    """Categories of a run in the order in which they were shown."""
    return [name for name in dict.fromkeys(names) if name != "rest"]


def _trials(subject: str, labels: pd.DataFrame, fold: int) -> pd.DataFrame:
    runs = sorted(labels.run.unique())
    held_out = set(np.array_split(runs, HaxbyRecordings.n_folds)[fold])
    rows = [
        {
            "subject": subject,
            "session": int(run),
            "image_id": f"run{run:02d}-{name}",
            "repeat": 0,
            "split": "test" if run in held_out else "train",
        }
        for run in runs
        for name in _in_order(labels.label[labels.run == run])
    ]
    return pd.DataFrame(rows).assign(trial=range(len(rows)))
