"""Batches of training trials: read from the token store, mixed, and drawn from encoding models (paper section 3.1)."""

import logging
from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from neurovl.encoder.encoding_models import ResponseModel, TargetBasis
from neurovl.encoder.targets import Targets
from neurovl.errors import DataError
from neurovl.training.loop import WHOLE, Part, batch_rows

logger = logging.getLogger(__name__)

APART = 10  # voxels that one of two subjects measured alone, at least, to tell their volumes apart
REPEATS = 3  # a drawn response is the mean of 1 to 3 trials, as test pictures are seen


def partners(subjects: Sequence[str], targets: Sequence[int]) -> np.ndarray:
    """For every trial the trials of the same subject with the same target, itself included, shape (n, most partners).

    A picture is a target of its own, so these are its repeats; where the targets are category names, they are the trials
    of the category. Rows with fewer partners are filled by repeating them, so that each is about equally likely.

    Parameters
    ----------
    subjects : sequence of str, length n
    targets : sequence of int, length n
        Equal numbers for equal targets.
    """
    groups = (
        pd.DataFrame({"s": np.asarray(subjects), "t": np.asarray(targets)})
        .groupby(["s", "t"], sort=False)
        .indices
    )
    width = max(len(g) for g in groups.values())
    table = np.empty((len(subjects), width), int)
    for group in groups.values():
        table[group] = np.resize(group, width)
    return table


class TrialVoxels(Protocol):
    """Stored voxels of trials: a token store, or what is like one."""

    n_voxels: int

    def voxels_at(self, index: np.ndarray) -> np.ndarray:
        """z-scores of trials, float32 (n, V), in the order asked for."""


class TrainingTrials:
    """Batches of training trials, read from the token store as they are needed.

    Parameters
    ----------
    trials : DataFrame
        Rows of `store.trials`.
    mixup : bool
        Mix each trial with another of the same subject and target, x = l x1 + (1 - l) x2 with l ~ U(0, 1).
    synthetic : float
        Share of a batch in which the trial gives way to a response drawn from its subject's encoding model, to any
        picture of the training trials.
    """

    def __init__(
        self,
        store: TrialVoxels,
        trials: pd.DataFrame,
        targets: Targets,
        batch_size: int,
        mixup: bool,
        synthetic: float,
        seed: int,
    ) -> None:
        self.store, self.targets = store, targets
        self.index, self.seed = trials.index.to_numpy(), seed
        self.batch_size, self.n_drawn = batch_size, round(synthetic * batch_size)
        self.pictures = targets.rows(trials.image_id).numpy()
        same = torch.unique(targets.clip, dim=0, return_inverse=True)[1].numpy()
        self.mates = partners(trials.subject, same[self.pictures]) if mixup else None
        self.width = self.mates.shape[1] if mixup else 1
        self.subjects = trials.subject.to_numpy()
        self.pool = np.unique(self.pictures)
        self.models: dict[str, ResponseModel] = {}
        self.features: np.ndarray | None = None

    def fit_responses(self, basis: TargetBasis, flat: torch.Tensor, common: bool) -> None:
        """Fit the encoding model of each subject; or one for all of them, also where volumes do not say whose they are.

        Raises
        ------
        DataError
            A subject's voxels are constant.
        """
        self.features = basis.features(flat).numpy()
        subjects = list(dict.fromkeys(self.subjects))
        if not common:
            self.models = {subject: self._fit(subject) for subject in subjects}
            pairs = combinations(subjects, 2)
            alike = [pair for pair in pairs if self._apart(*pair) < APART]
            if alike:
                logger.warning(
                    "%s and %s measured the same voxels, so that a volume does not say whose it is: one encoding model is "
                    "fitted to all subjects (as with encoder.readout_of: all)",
                    *alike[0],
                )
            common = bool(alike)
        if common:
            self.models = dict.fromkeys(subjects, self._fit(None))

    def _fit(self, subject: str | None) -> ResponseModel:
        rows = slice(None) if subject is None else self.subjects == subject
        try:
            voxels = self.store.voxels_at(self.index[rows])
            return ResponseModel(voxels, self.features[self.pictures[rows]])
        except DataError as problem:
            raise DataError(f"{subject or 'all subjects'}: {problem}") from problem

    def _apart(self, a: str, b: str) -> int:
        return int((self.models[a].measured ^ self.models[b].measured).sum())

    def batch(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
        """Voxels (B, V) of a part of a batch and its pictures' rows in the targets (B,), by seed and step alone."""
        size, rng = self.batch_size, np.random.default_rng([self.seed, step, 1])
        rows = batch_rows(len(self.index), size, step, self.seed)
        # Everything random is drawn for the whole batch, so that its parts together are the batch.
        mate = rng.integers(self.width, size=size)
        share = rng.random((size, 1), np.float32)
        is_drawn = np.arange(size) < self.n_drawn
        pictures = np.where(is_drawn, rng.choice(self.pool, size), self.pictures[rows])
        repeats, noise = rng.integers(1, REPEATS + 1, size), rng.random((size, REPEATS))
        rows, mate, share, is_drawn, pictures, repeats, noise = map(
            part.of, (rows, mate, share, is_drawn, pictures, repeats, noise)
        )
        voxels = np.empty((len(rows), self.store.n_voxels), np.float32)
        kept = rows[~is_drawn]
        voxels[~is_drawn] = self.store.voxels_at(self.index[kept])
        if self.mates is not None:
            other = self.mates[kept, mate[~is_drawn]]
            weight = share[~is_drawn]
            mixed = weight * voxels[~is_drawn] + (1 - weight) * self.store.voxels_at(
                self.index[other]
            )
            voxels[~is_drawn] = mixed
        for subject in dict.fromkeys(self.subjects[rows[is_drawn]]):
            own = np.flatnonzero(is_drawn & (self.subjects[rows] == subject))
            seen = self.features[pictures[own]]
            voxels[own] = self.models[subject].sample(seen, repeats[own], noise[own])
        return torch.from_numpy(voxels), torch.from_numpy(pictures)
