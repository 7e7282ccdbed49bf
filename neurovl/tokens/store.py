"""The token store: every trial's standardised, resized voxels once, patches of any size gathered from them.

A session is one memory-mapped file, so any trial is read without its neighbours. Training and decoding read from here,
never from the volumes again; how it is written is in `preprocessing`.
"""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import TRIAL_COLUMNS, find_subject
from neurovl.results import read_named
from neurovl.tokens.patch_plan import PatchPlan, layout_name
from neurovl.tokens.writing import is_intact, measured_columns, session_name

if TYPE_CHECKING:
    from nibabel import Nifti1Image


class _Voxels:
    """The sessions of one subject as one array (n_trials, V) of float16 on disk."""

    def __init__(self, folder: Path, sessions: pd.Series, width: int) -> None:
        names = list(dict.fromkeys(sessions))
        self.files = [folder / f"{session_name(name)}.npy" for name in names]
        self.session = sessions.map({name: i for i, name in enumerate(names)}).to_numpy()
        self.row = sessions.groupby(sessions).cumcount().to_numpy()
        self.width = width
        self._open: dict[int, np.ndarray] = {}

    def _file(self, number: int) -> np.ndarray:
        if number not in self._open:
            path, n_trials = self.files[number], int((self.session == number).sum())
            try:
                voxels = np.load(path, mmap_mode="r")
                if voxels.shape != (n_trials, self.width):
                    raise ValueError(f"it has the shape {voxels.shape}")
            except (OSError, ValueError, EOFError) as problem:
                raise DataError(
                    f"{path.parent.name}/{path.name} of the token store cannot be read ({problem}), expected "
                    f"{n_trials} trials of {self.width} voxels; remove it and make it again: neurovl preprocess --data DIR --out RUN"
                ) from problem
            self._open[number] = voxels
        return self._open[number]

    def take(self, rows: Sequence[int] | np.ndarray, out: np.ndarray) -> None:
        """Copy trials, in the order asked for, into the float32 array `out` (n, V)."""
        rows = np.asarray(rows)
        sessions = self.session[rows]
        for number in np.unique(sessions):
            chosen = np.flatnonzero(sessions == number)
            out[chosen] = self._file(number)[self.row[rows[chosen]]]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What reading one of the store's own files may raise, as one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as problem:
        words = " ".join(str(problem).split())
        raise DataError(
            f"{path.name} of the token store cannot be read ({type(problem).__name__}: {words[:150]}), expected what "
            f"preprocessing wrote; remove {path.parent.name}/ and make it again: neurovl preprocess --data DIR --out RUN"
        ) from problem


class TokenPlan:
    """Which voxels of the common grid are stored and how tokens are cut from them; read from plan.json and plan.npz.

    Attributes
    ----------
    target : tuple of int
        Common grid (x, y, z).
    region : int array, shape (V,)
        Flat indices in the common grid of the stored voxels.
    off_mask : str
        See `PatchPlan`.
    missing_voxels : dict of str to dict
        For each subject with voxels that are not finite in some session: how many of the mask's voxels were left out, and how
        many each session has.
    plans : dict of str to PatchPlan
    layouts : list of str
        'p5', 'p4', ... in the order of preprocessing (the first is the main one), and 'flat'.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "plan.json").exists():
            raise MissingError(
                f"no token store in {self.folder.name}/ (expected plan.json); make it: neurovl preprocess --data DIR --out RUN"
            )
        with _reading(self.folder / "plan.json"):
            plan = json.loads((self.folder / "plan.json").read_text())
            self.target, self.off_mask = tuple(plan["target"]), plan["off_mask"]
            self.transductive, self.missing_voxels = (
                plan["transductive"],
                plan.get("missing_voxels", {}),
            )
            patches = {name: tuple(patch) for name, patch in plan["patches"].items()}
        with _reading(self.folder / "plan.npz"), np.load(self.folder / "plan.npz") as arrays:
            self.region = arrays["region"]
            kept = {name: (arrays[f"{name}_kept"], arrays[f"{name}_region"]) for name in patches}
        self.plans = {
            name: PatchPlan(self.target, patch, *kept[name], self.off_mask)
            for name, patch in patches.items()
        }
        self.layouts = [*self.plans, "flat"]
        self._columns: dict[str, torch.Tensor] = {}

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

    def cut(self, voxels: np.ndarray | torch.Tensor, layout: str | None = None) -> torch.Tensor:
        """Tokens (n, N, C) from stored voxels (n, V)."""
        values = torch.as_tensor(voxels, dtype=torch.float32)
        columns = self.columns(layout).to(values.device)
        padded = torch.nn.functional.pad(values, (0, 1))
        return padded.index_select(1, columns.flatten()).unflatten(1, columns.shape)


class TokenStore(TokenPlan):
    """Read access to a folder written by `preprocessing.write_store`.

    Attributes
    ----------
    subjects : list of str
    trials : DataFrame
        subject, session, trial, image_id, repeat, split; `image_id` as text. The index counts all trials from 0.

    Examples
    --------
    >>> store = neurovl.TokenStore(run.folder / "tokens")
    >>> n_tokens, width = store.shape("p5")
    >>> image_id = store.trials.image_id[0]
    >>> tokens = store.tokens(subject=1, image_id=image_id)
    >>> tokens.shape == (1, n_tokens, width)
    True
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        with _reading(self.folder / "trials.csv"):
            names = ("image_id", "subject", "session")
            table = read_named(self.folder / "trials.csv", names)
            if missing := [column for column in TRIAL_COLUMNS if column not in table]:
                raise ValueError(f"columns {', '.join(missing)} not found")
            self.trials = table[TRIAL_COLUMNS]
            if self.trials.session.str.fullmatch(r"[0-9]+").all():
                self.trials["session"] = self.trials.session.astype(int)
            self.subjects = list(dict.fromkeys(self.trials.subject))
        self._start = {
            s: int(self.trials.index[self.trials.subject == s][0]) for s in self.subjects
        }

    @property
    def n_voxels(self) -> int:
        """V, the number of voxels of the region."""
        return len(self.region)

    @cached_property
    def _voxels(self) -> dict[str, _Voxels]:
        sessions = self.trials.groupby("subject").session
        width = len(self.region)
        return {s: _Voxels(self.folder / s, sessions.get_group(s), width) for s in self.subjects}

    def damaged(self) -> list[str]:
        """Session files whose bytes are not those that were written, such as 'subj01/session07.npy'."""
        files = [file for voxels in self._voxels.values() for file in voxels.files]
        return [f"{f.parent.name}/{f.name}" for f in files if not f.exists() or not is_intact(f)]

    @property
    def tested(self) -> list[str]:
        """The subjects who have test trials."""
        with_test = set(self.trials.subject[self.trials.split == "test"])
        return [subject for subject in self.subjects if subject in with_test]

    def subject_name(self, subject: str | int) -> str:
        """Full name of a subject; 1 and '1' stand for 'subj01'."""
        return find_subject(subject, self.subjects, "the token store")

    def mask(self, subject: str | int) -> "Nifti1Image":
        """A subject's mask on its own grid."""
        import nibabel

        name = self.subject_name(subject)
        with _reading(self.folder / f"{name}_mask.nii.gz"):
            return nibabel.load(self.folder / f"{name}_mask.nii.gz")

    def measured(self, subject: str | int) -> np.ndarray:
        """Which stored voxels lie in a subject's own mask, bool (V,).

        The others carry the values around it, nothing, or what other subjects measured, see `PatchPlan.off_mask`.

        Examples
        --------
        >>> measured = run.store.measured(subject=1)
        >>> measured.shape == (run.store.n_voxels,), bool(measured.any())
        (True, True)
        """
        mask = np.asarray(self.mask(subject).dataobj) > 0
        return measured_columns(mask, self.target, self.region)

    @cached_property
    def places(self) -> np.ndarray:
        """Where the stored voxels lie in the common space, mm, shape (V, 3)."""
        first = self.mask(self.subjects[0])
        edges = np.linalg.norm(first.affine[:3, :3], axis=0) * first.shape / self.target
        return np.stack(np.unravel_index(self.region, self.target), -1) * edges

    def voxels(
        self, subject: str | int, rows: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """Stored z-scores of the region, float32 (n, V); `rows` counts the subject's trials from 0."""
        stored = self._voxels[self.subject_name(subject)]
        rows = np.arange(len(stored.session))[slice(None) if rows is None else np.asarray(rows)]
        out = np.empty((len(rows), len(self.region)), np.float32)
        stored.take(rows, out)
        return out

    def voxels_at(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """z-scores (n, V) of trials given by their index in `trials`, over all subjects, in the order asked for."""
        index = np.asarray(index)
        subjects = self.trials.subject.to_numpy()[index]
        out = np.empty((len(index), len(self.region)), np.float32)
        for subject in dict.fromkeys(subjects):
            chosen = np.flatnonzero(subjects == subject)
            part = (
                out
                if len(chosen) == len(out)
                else np.empty((len(chosen), out.shape[1]), np.float32)
            )
            self._voxels[subject].take(index[chosen] - self._start[subject], part)
            if part is not out:
                out[chosen] = part
        return out

    def batch(
        self,
        subject: str | int,
        rows: Sequence[int] | np.ndarray,
        patch: int | tuple[int, ...] | str | None = None,
    ) -> torch.Tensor:
        """Tokens float32 (n, N, C) of a subject's trials; `patch` is a patch size, 'flat', or None for the main one."""
        return self.cut(self.voxels(subject, rows), self._layout(patch))

    def image_rows(self, subject: str | int, image_id: str | int) -> np.ndarray:
        """A subject's trials with a picture, in order of repeat."""
        subject = self.subject_name(subject)
        own = self.trials[self.trials.subject == subject].reset_index(drop=True)
        found = own[own.image_id == str(image_id)].sort_values("repeat")
        if found.empty:
            known = ", ".join(own.image_id[own.split == "test"].unique()[:5])
            raise DataError(
                f"{subject} did not see image {image_id}, expected an image of trials.csv; choose one with --image-id; "
                f"test images are for example {known}"
            )
        return found.index.to_numpy()

    def tokens(
        self,
        subject: str | int,
        image_id: str | int,
        repeat: int | None = None,
        patch: int | tuple[int, ...] | str | None = None,
    ) -> torch.Tensor:
        """Tokens (1, N, C) of one picture: the mean over its repeats, or one repeat counted from 0."""
        rows = self.image_rows(subject, image_id)
        if repeat is not None:
            if not 0 <= repeat < len(rows):
                raise DataError(
                    f"repeat {repeat} of image {image_id} does not exist, expected 0 to {len(rows) - 1}; count from 0"
                )
            rows = rows[repeat : repeat + 1]
        return self.cut(self.voxels(subject, rows).mean(0, keepdims=True), self._layout(patch))

    def _layout(self, patch: int | tuple[int, ...] | str | None) -> str | None:
        return patch if patch is None or isinstance(patch, str) else layout_name(patch)
