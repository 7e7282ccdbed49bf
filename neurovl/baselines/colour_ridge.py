"""DREAM's colours: a ridge regression whose predictions are brought to the spread of the training targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError

FOLDS = 5


@dataclass(frozen=True)
class ColourRidge:
    """A fitted regression.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of what it predicts, for one picture.
    weights : array, shape (V, T)
    intercept, mean, deviation : array, shape (T,)
        Mean and standard deviation of the training targets.
    spread : array, shape (T,)
        Standard deviation of predictions for held-out training pictures about the mean of the targets.
    """

    shapes: dict[str, tuple[int, ...]]
    weights: np.ndarray
    intercept: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    spread: np.ndarray

    def predict(self, voxels: SubjectVoxels, within: bool = False) -> dict[str, np.ndarray]:
        r"""Float32 (n, ...) by name, rescaled.

        .. math:: \hat y' = \bar y + s(y) (\hat y - m) / s(\hat y)

        with m and :math:`s(\hat y)` of the training pictures, or `within` the rows themselves, as published.

        Raises
        ------
        DataError
            `within` one row alone.
        """
        said = voxels.read() @ self.weights + self.intercept
        centre, spread = self.mean, self.spread
        if within:
            if len(said) < 2:
                raise DataError(
                    "one row came to a system as published, which rescales by the deviation of the rows themselves, expected "
                    "two at least: predict several together, or leave as_published out"
                )
            centre, spread = said.mean(0), said.std(0)
        factor = np.where(spread > 0, self.deviation / np.where(spread > 0, spread, 1), 0)
        said = (self.mean + (said - centre) * factor).astype(np.float32)
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes.values()])
        blocks = np.split(said, ends[:-1], axis=1)
        return {
            name: block.reshape(-1, *shape)
            for (name, shape), block in zip(self.shapes.items(), blocks, strict=True)
        }


def fit_colour_ridge(
    voxels: SubjectVoxels, targets: PictureFeatures, names: Sequence[str], penalty: float, seed: int
) -> ColourRidge:
    """Fit to the mean over the repeats of each training picture.

    Parameters
    ----------
    voxels : SubjectVoxels
        Single trials.
    targets : PictureFeatures
    names : sequence of str
        What is predicted.
    penalty : float
    seed : int
        Of the folds by which the spread is found.

    References
    ----------
    Ozcelik and VanRullen 2023 (Brain-Diffuser), whose regression DREAM's code takes.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold

    seen = voxels.averaged()
    x = seen.read()
    y = np.concatenate([targets.of(name, seen.image_ids).reshape(len(x), -1) for name in names], 1)
    mean, total = y.mean(0), np.zeros(y.shape[1])
    for train, held in KFold(min(FOLDS, len(x)), shuffle=True, random_state=seed).split(x):
        said = Ridge(alpha=penalty).fit(x[train], y[train]).predict(x[held])
        total += ((said - mean) ** 2).sum(0)
    ridge = Ridge(alpha=penalty).fit(x, y)
    shapes = {name: targets.shape(name) for name in names}
    spread = np.sqrt(total / len(x))
    return ColourRidge(
        shapes, ridge.coef_.T.astype(np.float32), ridge.intercept_, mean, y.std(0), spread
    )
