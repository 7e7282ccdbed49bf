"""The token store: every trial's standardised, resized voxels once, patches of any size gathered from them.

Values are float16 of z-scores: the rounding error is at most 2^-11 of the value. Training and decoding read from here,
never from the volumes again.
"""

import json
import logging
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .datasets.base import find_subject
from .errors import DataError, MissingError
from .volumes import PatchPlan, Resizer

log = logging.getLogger(__name__)

MIN_TRAINING_TRIALS = 20


def layout_name(patch) -> str:
    """Name of a patch size: 5 -> 'p5', (5, 5, 1) -> 'p5x5x1'."""
    edges = (patch,) * 3 if np.ndim(patch) == 0 else tuple(patch)
    return f"p{edges[0]}" if len(set(edges)) == 1 else "p" + "x".join(map(str, edges))


def write_store(
    recordings,
    folder: Path,
    *,
    patches,
    target=None,
    off_mask: str = "zero",
    progress: str = "voxels",
) -> None:
    """Standardise, resize and store all trials of a data set.

    z = (beta - mean) / sd for each voxel, with mean and sd over the training trials of the session (or of all
    sessions, where `recordings.zscore` is 'subject'). A session with fewer than 20 training trials uses its own
    unlabelled statistics and is listed as transductive. Then the volume is resized (see `volumes`).

    Parameters
    ----------
    recordings : Recordings
    folder : Path
        Receives plan.json, plan.npz, trials.csv and for each subject SUBJECT.npy and SUBJECT_mask.nii.gz.
    patches : list of int or tuple of int
        Patch sizes in voxels of the common grid; the first is the main one.
    target : tuple of int, optional
        Common grid; the first subject's by default.
    off_mask : str
        'zero' or 'keep', see `PatchPlan`.
    """
    import nibabel
    from tqdm.auto import tqdm

    masks = {s: recordings.mask(s) for s in recordings.subjects}
    plans = {
        layout_name(p): PatchPlan.fit(masks, target=target, patch=p, off_mask=off_mask)
        for p in patches
    }
    region = np.unique(np.concatenate([p.region for p in plans.values()]))
    target = next(iter(plans.values())).target
    transductive = {}
    for subject in recordings.subjects:
        trials = recordings.trials[recordings.trials.subject == subject]
        resize = Resizer(masks[subject].shape, target, region)
        out = np.lib.format.open_memmap(
            folder / f"{subject}.npy", mode="w+", dtype=np.float16, shape=(len(trials), len(region))
        )
        is_train = (trials.split == "train").to_numpy()
        whole = _moments(recordings, subject, is_train) if recordings.zscore == "subject" else None
        sessions = tqdm(
            recordings.iter_sessions(subject),
            total=trials.session.nunique(),
            desc=f"{progress} {subject}",
            disable=None,
        )
        for session, rows, volumes in sessions:
            fit = is_train[rows]
            if whole is None and fit.sum() < MIN_TRAINING_TRIALS:
                transductive.setdefault(subject, []).append(str(session))
                fit = np.ones(len(rows), bool)
            mean, sd = whole or (
                volumes[fit].mean(0, dtype=np.float64),
                volumes[fit].std(0, dtype=np.float64),
            )
            scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-6)
            volumes = ((volumes - mean) * scale).astype(np.float32)
            out[rows] = resize(volumes)
        out.flush()
        affine = recordings.affine(subject)
        nibabel.save(
            nibabel.Nifti1Image(masks[subject].astype(np.uint8), affine),
            folder / f"{subject}_mask.nii.gz",
        )
    np.savez(
        folder / "plan.npz",
        region=region,
        **{f"{k}_kept": p.kept for k, p in plans.items()},
        **{f"{k}_region": p.region for k, p in plans.items()},
    )
    plan = {
        "target": target,
        "off_mask": off_mask,
        "patches": {k: p.patch for k, p in plans.items()},
        "transductive": transductive,
    }
    (folder / "plan.json").write_text(json.dumps(plan, indent=1))
    recordings.trials.to_csv(folder / "trials.csv", index=False)


def _moments(recordings, subject: str, is_train: np.ndarray):
    """Mean and standard deviation of each voxel over all training trials, one session in memory at a time."""
    n, total, square = 0, 0.0, 0.0
    for _, rows, volumes in recordings.iter_sessions(subject):
        chosen = volumes[is_train[rows]].astype(np.float64)
        n, total, square = n + len(chosen), total + chosen.sum(0), square + (chosen**2).sum(0)
    mean = total / n
    return mean, np.sqrt(np.maximum(square / n - mean**2, 0))


class TokenStore:
    """Read access to a folder written by `write_store`.

    Attributes
    ----------
    subjects : list of str
    trials : DataFrame
        subject, session, trial, image_id, repeat, split; `image_id` as text. The index counts all trials from 0.
    layouts : list of str
        'p5', 'p4', ... in the order of preprocessing (the first is the main one), and 'flat'.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not (self.folder / "plan.json").exists():
            raise MissingError(
                f"no token store in {self.folder.name}/ (expected plan.json); make it: neurovl preprocess --data DIR --out RUN"
            )
        plan = json.loads((self.folder / "plan.json").read_text())
        self.trials = pd.read_csv(
            self.folder / "trials.csv", dtype={"image_id": str, "subject": str}
        )
        self.subjects = list(dict.fromkeys(self.trials.subject))
        arrays = np.load(self.folder / "plan.npz")
        self.region, self.target, self.off_mask = (
            arrays["region"],
            tuple(plan["target"]),
            plan["off_mask"],
        )
        self.transductive = plan["transductive"]
        self.plans = {
            name: PatchPlan(
                self.target,
                tuple(patch),
                arrays[f"{name}_kept"],
                arrays[f"{name}_region"],
                self.off_mask,
            )
            for name, patch in plan["patches"].items()
        }
        self.layouts = [*self.plans, "flat"]
        self._columns: dict[str, torch.Tensor] = {}
        self._start = {
            s: int(self.trials.index[self.trials.subject == s][0]) for s in self.subjects
        }

    @cached_property
    def _voxels(self) -> dict[str, np.ndarray]:
        return {s: np.load(self.folder / f"{s}.npy", mmap_mode="r") for s in self.subjects}

    def subject_name(self, subject) -> str:
        """Full name of a subject; 1 and '1' stand for 'subj01'."""
        return find_subject(subject, self.subjects, "the token store")

    def shape(self, layout: str | None = None) -> tuple[int, int]:
        """(N, C): number of tokens and values in a token of a layout."""
        return tuple(self.columns(layout).shape)

    def columns(self, layout: str | None = None) -> torch.Tensor:
        """For every token the stored columns it consists of, shape (N, C); the number of columns stands for a zero.

        'flat' is the paper's ablation without 3D patches: the voxels in one row (C order), cut in as many tokens as the
        main layout has.
        """
        name = layout or self.layouts[0]
        if name not in self.layouts:
            raise DataError(
                f"layout {name!r} is not in the token store, expected one of {', '.join(self.layouts)}; preprocess with that patch size"
            )
        if name not in self._columns:
            if name == "flat":
                n = self.plans[self.layouts[0]].n_tokens
                size = -(-len(self.region) // n)
                table = np.minimum(np.arange(n * size), len(self.region)).reshape(n, size)
            else:
                table = self.plans[name].columns(self.region)
            self._columns[name] = torch.from_numpy(table)
        return self._columns[name]

    def voxels(self, subject, rows=None) -> np.ndarray:
        """Stored z-scores of the region, float32 (n, V); `rows` counts the subject's trials from 0."""
        stored = self._voxels[self.subject_name(subject)]
        return np.asarray(stored if rows is None else stored[np.asarray(rows)], dtype=np.float32)

    def rows(self, index) -> np.ndarray:
        """z-scores (n, V) of trials given by their index in `trials`, over all subjects, in the order asked for."""
        index = np.asarray(index)
        subjects = self.trials.subject.to_numpy()[index]
        out = np.empty((len(index), len(self.region)), np.float32)
        for subject in dict.fromkeys(subjects):
            chosen = subjects == subject
            out[chosen] = self._voxels[subject][index[chosen] - self._start[subject]]
        return out

    def cut(self, voxels, layout: str | None = None) -> torch.Tensor:
        """Tokens (n, N, C) from stored voxels (n, V)."""
        values = torch.as_tensor(voxels, dtype=torch.float32)
        return torch.nn.functional.pad(values, (0, 1))[:, self.columns(layout)]

    def batch(self, subject, rows, patch=None) -> torch.Tensor:
        """Tokens float32 (n, N, C) of a subject's trials; `patch` is a patch size, 'flat', or None for the main one."""
        return self.cut(self.voxels(subject, rows), self._layout(patch))

    def image_rows(self, subject, image_id) -> np.ndarray:
        """A subject's trials with a picture, in order of repeat."""
        subject = self.subject_name(subject)
        own = self.trials[self.trials.subject == subject].reset_index(drop=True)
        found = own[own.image_id == str(image_id)].sort_values("repeat")
        if found.empty:
            known = ", ".join(own.image_id[own.split == "test"].unique()[:5])
            raise DataError(
                f"{subject} did not see image {image_id}, expected an image of trials.csv; test images are for example {known}"
            )
        return found.index.to_numpy()

    def tokens(self, subject, image_id, repeat: int | None = None, patch=None) -> torch.Tensor:
        """Tokens (1, N, C) of one picture: the mean over its repeats, or one repeat counted from 0."""
        rows = self.image_rows(subject, image_id)
        if repeat is not None:
            if not 0 <= repeat < len(rows):
                raise DataError(
                    f"repeat {repeat} of image {image_id} does not exist, expected 0 to {len(rows) - 1}; count from 0"
                )
            rows = rows[repeat : repeat + 1]
        return self.cut(self.voxels(subject, rows).mean(0, keepdims=True), self._layout(patch))

    def _layout(self, patch) -> str | None:
        return patch if patch is None or isinstance(patch, str) else layout_name(patch)
