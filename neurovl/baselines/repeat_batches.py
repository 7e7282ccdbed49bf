"""Batches for systems that learn from single trials: pictures once an epoch, each with one of its repeats."""

from typing import Any

import numpy as np
import torch

from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.training.loop import Part, Schedule, batch_rows

# How the low-level branch of MindEye takes repeats together, and how often.
MIXES, MEANS = 0.5, 0.3


class RepeatBatches:
    """What one subject saw in training, and its responses.

    Parameters
    ----------
    voxels : SubjectVoxels
        Single trials.
    targets : PictureFeatures
    batch_size : int
        At most all pictures.
    seed : int
        Of the order of pictures.

    Attributes
    ----------
    pictures : array of str
        In order of name.
    """

    def __init__(
        self, voxels: SubjectVoxels, targets: PictureFeatures, batch_size: int, seed: int
    ) -> None:
        self.voxels, self.targets, self.seed = voxels, targets, seed
        self.pictures, group, self.counts = np.unique(
            voxels.image_ids, return_inverse=True, return_counts=True
        )
        self.order = np.lexsort((voxels.repeats, group))
        self.starts = np.cumsum(self.counts) - self.counts
        self.batch_size = min(batch_size, len(self.pictures))

    def steps(self, epochs: float) -> int:
        """How many steps go through the pictures so often."""
        return max(1, round(epochs * len(self.pictures) / self.batch_size))

    def at(self, step: int, part: Part) -> np.ndarray:
        """Numbers of the pictures of a step, int (b,)."""
        return part.of(batch_rows(len(self.pictures), self.batch_size, step, self.seed))

    def trials(self, pictures: np.ndarray, repeat: int) -> torch.Tensor:
        """Tensor (b, V): of each picture one trial, that of the repeat, counted on from the first where there are fewer."""
        rows = self.order[self.starts[pictures] + repeat % self.counts[pictures]]
        return torch.from_numpy(self.voxels.read(rows))

    def repeats_together(self, pictures: np.ndarray, seed: tuple[int, ...]) -> torch.Tensor:
        """Tensor (b, V): of each picture a random convex mixture of its trials, their mean, or one of them.

        A mixture has the probability .5 and weights drawn uniformly, then divided by their sum; the mean has .3.
        """
        rng = np.random.default_rng(seed)
        kind, weights = rng.random(len(pictures)), rng.random((len(pictures), self.counts.max()))
        out = np.zeros((len(pictures), self.voxels.n_voxels), np.float32)
        for k, picture in enumerate(pictures):
            n = self.counts[picture]
            weight = np.ones(n) if kind[k] < MIXES + MEANS else np.arange(n) == rng.integers(n)
            weight = weights[k, :n] if kind[k] < MIXES else weight
            rows = self.order[self.starts[picture] + np.arange(n)]
            out[k] = (weight / weight.sum()).astype(np.float32) @ self.voxels.read(rows)
        return torch.from_numpy(out)

    def target(self, name: str, pictures: np.ndarray) -> torch.Tensor:
        """A feature of some of the pictures, tensor (b, ...)."""
        return torch.from_numpy(self.targets.of(name, self.pictures[pictures]))


def one_cycle(settings: dict[str, Any], steps: int, epochs: float, lr: float) -> Schedule:
    """Warm-up over two epochs, then half a cosine, as near to OneCycle as the one training loop has it."""
    return Schedule(
        steps=steps,
        lr=lr,
        weight_decay=settings["weight_decay"],
        warmup=min(0.5, 2 / epochs),
        precision=settings["precision"],
    )


def seeded(seed: int, make: Any, *args: Any) -> Any:
    """A module whose first weights depend on the seed alone; torch's own random numbers stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*args)
