r"""Ridge regressions from a subject's voxels to hundreds of thousands of targets, without holding their weights.

What a ridge regression says of a row is a weighted sum of the targets that it was fitted to,

.. math:: \hat Y = W Y, \qquad
    W = \tfrac{1}{n} 1 1^\top + \tilde x \tilde X^\top (\tilde X \tilde X^\top + \alpha I)^{-1}
      = \tfrac{1}{n} 1 1^\top + \tilde x (\tilde X^\top \tilde X + \alpha I)^{-1} \tilde X^\top

with :math:`\tilde X` the centred training rows and :math:`\tilde x` the new ones; the first form where there are more voxels
than rows, the second otherwise. `W` is the same for all targets, and columns of rows with the same picture are added up:
(rows, pictures). The targets stay where they lie, and are read in blocks.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError

FOLDS = 5
TARGETS = 4096  # read at once
COLUMNS = 1024  # widened to float64 at once
LEAST = 1e-12  # a smaller share of the trace would be decided by rounding


class TrainingRows:
    """Standardised training rows of one subject: what all its regressions share.

    Parameters
    ----------
    voxels : SubjectVoxels
        Single trials, or means over trials.
    columns : bool array, shape (V,), optional
        Voxels that are read; all without.
    intercept : bool
        Add the mean of the targets; without, 0 is said of a mean row, as the voxels are centred in any case.
    device : str

    Attributes
    ----------
    x : float32 tensor, shape (n, V)
        By the mean and deviation of these rows; a constant voxel is 0.
    pictures : array of str, shape (N,)
        In order of name.
    place : int tensor, shape (n,)
        The picture of each row.

    Raises
    ------
    DataError
        Fewer than two pictures, or values that are not finite.
    """

    def __init__(
        self,
        voxels: SubjectVoxels,
        columns: np.ndarray | None = None,
        intercept: bool = True,
        device: str = "cpu",
    ) -> None:
        self.subject, self.columns, self.intercept = voxels.subject, columns, intercept
        self.device = "cpu" if device == "mps" else device  # which has no float64
        self.pictures, place = np.unique(voxels.image_ids, return_inverse=True)
        self.place = torch.as_tensor(place, device=self.device)
        if len(self.pictures) < 2:
            raise DataError(
                f"{self.subject} has training trials of {len(self.pictures)} pictures, expected two at least for a ridge "
                "regression: train on more"
            )
        values = self._read(voxels)
        self._mean, scale = values.mean(0), values.std(0)
        constant = scale <= 1e-6 * np.maximum(np.abs(self._mean), 1e-12)
        self._scale = np.where(constant, np.inf, scale).astype(np.float32)
        self.x = self.standardised(voxels)
        self._dual = self.x.shape[1] > len(self.x)
        self._gram = _inner(self.x) if self._dual else _inner(self.x.T)

    @property
    def n_voxels(self) -> int:
        """Voxels that are read."""
        return self.x.shape[1]

    def standardised(self, voxels: SubjectVoxels) -> torch.Tensor:
        """Rows of the same subject by the training rows' mean and deviation, float32 (m, V)."""
        values = self._read(voxels)
        if values.shape[1] != len(self._mean):
            raise DataError(
                f"{voxels.subject} has {values.shape[1]} voxels, expected the {len(self._mean)} that the regressions of "
                f"{self.subject} were fitted on: predict with the same subject and mask"
            )
        values = (values - self._mean) / self._scale
        return torch.as_tensor(values, device=self.device)

    def _read(self, voxels: SubjectVoxels) -> np.ndarray:
        values = voxels.read()
        values = values if self.columns is None else values[:, self.columns]
        if not np.isfinite(values).all():
            raise DataError(
                f"voxels of {voxels.subject} are NaN or infinite, expected finite z-scores: mend the data, or leave these "
                "trials out"
            )
        return values

    def weights(
        self, x: torch.Tensor, alphas: Sequence[float], without: torch.Tensor | None = None
    ) -> Iterator[torch.Tensor]:
        """Weights of the pictures' targets in what is said of some rows.

        Parameters
        ----------
        x : tensor, shape (m, V)
            Rows, standardised.
        alphas : sequence of float
            Penalties.
        without : bool tensor, shape (n,), optional
            Training rows that are left out.

        Yields
        ------
        float64 tensor, shape (m, N)
            For each penalty.
        """
        kept = torch.ones_like(self.place, dtype=torch.bool) if without is None else ~without
        solve = self._dual_form(x, kept) if self._dual else self._primal_form(x, kept)
        for alpha in alphas:
            rows = solve(alpha)
            if self.intercept:
                rows += 1 / int(kept.sum())
            out = torch.zeros(len(x), len(self.pictures), dtype=rows.dtype, device=self.device)
            yield out.index_add_(1, self.place[kept], rows)

    def _dual_form(self, x: torch.Tensor, kept: torch.Tensor) -> "Solver":
        gram, cross = self._gram[kept][:, kept], _inner(x, self.x[kept])
        mean = gram.mean(0)
        cross -= cross.mean(1, keepdim=True) + mean - mean.mean()
        gram = gram - mean - mean[:, None] + mean.mean()
        return Solver(gram, cross)

    def _primal_form(self, x: torch.Tensor, kept: torch.Tensor) -> "Solver":
        gram = self._gram if kept.all() else self._gram - _inner(self.x[~kept].T)
        training = self.x[kept]
        mean = training.mean(0, dtype=torch.float64)
        gram = gram - len(training) * torch.outer(mean, mean)
        return Solver(gram, x.double() - mean, training, mean)


class Solver:
    """Rows times the inverse of a penalised matrix, and times the centred training rows where there are some."""

    def __init__(
        self,
        gram: torch.Tensor,
        rows: torch.Tensor,
        training: torch.Tensor | None = None,
        mean: torch.Tensor | None = None,
    ) -> None:
        self.gram, self.rows, self.training, self.mean = gram, rows, training, mean

    def __call__(self, alpha: float) -> torch.Tensor:
        penalised = self.gram.clone()
        penalised.diagonal().add_(max(alpha, LEAST * float(self.gram.trace())))
        solved = torch.cholesky_solve(self.rows.T, torch.linalg.cholesky(penalised)).T
        if self.training is None:
            return solved
        return _inner(solved, self.training) - (solved @ self.mean)[:, None]


class Ridge:
    """Regressions of one subject to features of pictures.

    Parameters
    ----------
    rows : TrainingRows
    targets : PictureFeatures
    names : sequence of str
        Features that are predicted.
    alphas : sequence of float
        One penalty for all targets; of several, each target has its own, chosen by cross-validation over pictures.
    seed : int
        Of the folds.

    Attributes
    ----------
    chosen : dict of str to int array, shape (T,)
        Which penalty each target has.
    n_parameters : int
        Weights and intercepts.
    """

    def __init__(
        self,
        rows: TrainingRows,
        targets: PictureFeatures,
        names: Sequence[str],
        alphas: Sequence[float],
        seed: int = 0,
    ) -> None:
        self.rows, self.targets, self.names, self.alphas = rows, targets, names, alphas
        sizes = {name: int(np.prod(targets.shape(name))) for name in names}
        self.n_parameters = sum(sizes.values()) * (rows.n_voxels + rows.intercept)
        self.chosen = {name: np.zeros(size, int) for name, size in sizes.items()}
        if len(alphas) > 1:
            self._choose(seed)

    def _choose(self, seed: int) -> None:
        """The penalty of each target with the smallest squared error for the trials of held-out pictures."""
        rows = self.rows
        errors = {name: np.zeros((len(self.alphas), len(self.chosen[name]))) for name in self.names}
        for fold in folds(len(rows.pictures), seed):
            those = torch.isin(rows.place, torch.as_tensor(fold, device=rows.device))
            weights = [w.float() for w in rows.weights(rows.x[those], self.alphas, without=those)]
            for name in self.names:
                for part, y in self.blocks(name):
                    true = y[rows.place[those]]
                    for error, w in zip(errors[name], weights, strict=True):
                        error[part] += (w @ y - true).square().mean(0).cpu().numpy()
        self.chosen = {name: error.argmin(0) for name, error in errors.items()}

    def blocks(self, name: str) -> Iterator[tuple[slice, torch.Tensor]]:
        """The training pictures' targets, float32 (N, some), and which of them they are."""
        for part, y in self.targets.blocks(name, self.rows.pictures, TARGETS):
            yield part, torch.as_tensor(y, device=self.rows.device)

    def predict(self, voxels: SubjectVoxels) -> dict[str, np.ndarray]:
        """For each feature float32 (m, T)."""
        x = self.rows.standardised(voxels)
        weights = [w.float() for w in self.rows.weights(x, self.alphas)]
        out = {}
        for name in self.names:
            out[name] = np.empty((len(voxels), len(self.chosen[name])), np.float32)
            for part, y in self.blocks(name):
                for k, w in enumerate(weights):
                    here = self.chosen[name][part] == k
                    if here.any():
                        columns = torch.as_tensor(np.flatnonzero(here), device=y.device)
                        out[name][:, part][:, here] = (w @ y[:, columns]).cpu().numpy()
        return out


def folds(n: int, seed: int) -> list[np.ndarray]:
    """The numbers 0 to n - 1, dealt out at random into `FOLDS` parts of one size (or n of them, where these are fewer)."""
    order = np.random.default_rng([seed, 13]).permutation(n)
    return [np.sort(part) for part in np.array_split(order, min(FOLDS, n))]


def _inner(a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    """a b^T (a a^T without b) in float64, over few columns at a time."""
    b = a if b is None else b
    out = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    for start in range(0, a.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        out += a[:, part].double() @ b[:, part].double().T
    return out
