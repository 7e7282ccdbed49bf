r"""Predictions brought to the spread of the training targets: a ridge regression shrinks towards the mean, a generator must not.

.. math:: \hat y' = \bar y + \frac{s(y)}{s_k(\hat y)} (\hat y - \bar y)

for each target, with mean and deviation of the training targets, and :math:`s_k` the deviation of what is said of means over k
trials. Published systems (Ozcelik and VanRullen 2023, Ferrante et al. 2023) take mean and deviation of the predictions from
the test rows themselves. Here the deviation comes from training pictures, each predicted by a regression that did not see it:
if `h_i` are the weights of all pictures for the row of picture i, they are without this picture
:math:`(h_i - h_{ii} e_i) / (1 - h_{ii})`, as of any ridge regression (Allen 1974).

A mean over k trials has the noise of one divided by k, and what is said is linear in the voxels:
:math:`s_k^2 = s_\infty^2 + (s_1^2 - s_\infty^2) / k`. The line is drawn through single trials and the training averages.
"""

from dataclasses import dataclass

import numpy as np
import torch

from neurovl.baselines.linear_maps import Ridge, TrainingRows
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError

ROWS = 4096  # predicted at once


@dataclass(frozen=True)
class Rescaling:
    """What predictions of one feature are rescaled by.

    Attributes
    ----------
    mean, deviation : array, shape (T,)
        Of the training targets.
    averages, singles : array, shape (T,)
        Variance of what is said of held-out averages, and of held-out single trials, about `mean`.
    inverse : float
        Mean of 1 / k over the averages of k trials.
    """

    mean: np.ndarray
    deviation: np.ndarray
    averages: np.ndarray
    singles: np.ndarray
    inverse: float

    def variance(self, k: int) -> np.ndarray:
        """Of what is said of means over k trials, (T,); beyond the training averages it stays as it is there."""
        share = (1 - 1 / k) / (1 - self.inverse) if self.inverse < 1 else 0.0
        return self.singles + min(share, 1.0) * (self.averages - self.singles)

    def apply(self, said: np.ndarray, n_averaged: np.ndarray) -> None:
        """Rescale predictions (m, T) in place, by the number of trials in each row (m,)."""
        for k in np.unique(n_averaged):
            rows = n_averaged == k
            said[rows] = self.mean + (said[rows] - self.mean) * self._factor(self.variance(int(k)))

    def apply_within(self, said: np.ndarray) -> None:
        """Rescale predictions (m, T) in place by their own mean and deviation, as published: each row depends on the others.

        Raises
        ------
        DataError
            There is one row alone.
        """
        if len(said) < 2:
            raise DataError(
                f"{len(said)} row of voxels came to a system as published, which rescales by the mean and deviation of the "
                "rows themselves, expected two at least: predict several together, or leave as_published out"
            )
        said[:] = self.mean + (said - said.mean(0)) * self._factor(said.var(0))

    def _factor(self, variance: np.ndarray) -> np.ndarray:
        spread = np.sqrt(variance).astype(np.float32)
        constant = spread <= 1e-6 * np.maximum(np.abs(self.mean), 1e-12)
        return self.deviation / np.where(constant, np.inf, spread)


def rescalings(
    ridge: Ridge, averages: SubjectVoxels, singles: SubjectVoxels
) -> dict[str, Rescaling]:
    """What the predictions of a regression with one penalty are rescaled by, for each of its features.

    Parameters
    ----------
    ridge : Ridge
        Fitted to the averages.
    averages, singles : SubjectVoxels
        The training trials, one row a picture and all.
    """
    targets = {name: _moments(ridge, name) for name in ridge.names}
    means = {name: mean for name, (mean, _) in targets.items()}
    of_averages = _variances(ridge, averages, means)
    repeated = len(singles) > len(averages)
    of_singles = _variances(ridge, singles, means) if repeated else of_averages
    inverse = float(np.mean(1 / averages.n_averaged))
    return {
        name: Rescaling(mean, deviation, of_averages[name], of_singles[name], inverse)
        for name, (mean, deviation) in targets.items()
    }


def _moments(ridge: Ridge, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the training targets, (T,)."""
    mean, deviation = np.empty((2, len(ridge.chosen[name])), np.float32)
    for part, y in ridge.blocks(name):
        mean[part] = y.mean(0).cpu().numpy()
        deviation[part] = y.std(0, correction=0).cpu().numpy()
    return mean, deviation


def _variances(
    ridge: Ridge, voxels: SubjectVoxels, means: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Mean squared distance from the targets' mean, (T,), of what is said of rows by regressions that did not see their pictures."""
    place = np.searchsorted(ridge.rows.pictures, voxels.image_ids)
    squares = {name: np.zeros(len(mean)) for name, mean in means.items()}
    for start in range(0, len(voxels), ROWS):
        part = np.arange(start, min(start + ROWS, len(voxels)))
        weights = weights_without(ridge.rows, voxels.take(part), place[part], ridge.alphas[0])
        for name in ridge.names:
            for block, y in ridge.blocks(name):
                mean = torch.as_tensor(means[name][block], device=y.device)
                squares[name][block] += (weights @ y - mean).square().sum(0).cpu().numpy()
    return {name: total / len(voxels) for name, total in squares.items()}


def weights_without(
    rows: TrainingRows, voxels: SubjectVoxels, place: np.ndarray, alpha: float
) -> torch.Tensor:
    """Weights of the pictures' targets for rows of training pictures, by regressions without the picture of each row.

    Parameters
    ----------
    rows : TrainingRows
        One row a picture, in order of name.
    voxels : SubjectVoxels
        m of its trials, single or averaged.
    place : int array, shape (m,)
        The picture of each.
    alpha : float
        Penalty.

    Returns
    -------
    float32 tensor, shape (m, N)
        0 for the row's own picture.
    """
    those, row = np.unique(place, return_inverse=True)
    of_pictures = next(rows.weights(rows.x[torch.as_tensor(those, device=rows.device)], [alpha]))
    own = torch.arange(len(those), device=rows.device), torch.as_tensor(those, device=rows.device)
    kept = of_pictures[own].clone()
    of_pictures[own] = 0
    of_pictures /= 1 - kept[:, None]
    # A fit to what the others say of the picture is the fit without it.
    out = next(rows.weights(rows.standardised(voxels), [alpha]))
    own = torch.arange(len(place), device=rows.device), torch.as_tensor(place, device=rows.device)
    kept = out[own].clone()
    out[own] = 0
    out += kept[:, None] * of_pictures[torch.as_tensor(row, device=rows.device)]
    return out.float()
