"""Linear baseline: ridge regression from a subject's voxels to embeddings, one model a subject.

Leaves out anything non-linear, and features other than the voxels of the token store.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from neurovl.errors import DataError

ALPHAS = tuple(10.0**k for k in range(8))


class RidgeDecoder(RegressorMixin, BaseEstimator):
    r"""Ridge regression with the penalty of each target chosen by cross-validation over images.

    .. math:: \hat w_k = \operatorname{argmin}_w \|y_k - \bar y_k - \tilde X w\|_2^2 + \alpha_k \|w\|_2^2

    :math:`\tilde X` are the voxels standardised by mean and deviation of the training trials.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from; 1, 10, ... to 1e7 by default.
    n_folds : int
        Folds; all trials of an image fall in the same one.
    average_repeats : bool
        Fit on the mean over the repeats of each image instead of on single trials.
    n_targets_batch : int
        Targets solved at once, which bounds memory.

    Attributes
    ----------
    coef_ : array of shape (n_voxels, n_targets)
        Weights on standardised voxels.
    intercept_ : array of shape (n_targets,)
    best_alphas_ : array of shape (n_targets,)
    mean_, scale_ : array of shape (n_voxels,)
        Percent signal change of the training trials; a constant voxel has scale 1.

    References
    ----------
    Solved by himalaya (Dupré la Tour et al. 2022), in its kernel form where there are more voxels
    than trials. Ridge to embeddings is the high-level stage of Takagi and Nishimoto (2023) and of
    Brain-Diffuser (Ozcelik and VanRullen 2023).

    Examples
    --------
    >>> from neurovl.baselines.ridge import RidgeDecoder
    >>> rng = np.random.default_rng(0)
    >>> pictures = np.repeat(np.arange(40), 3)
    >>> targets = rng.normal(size=(40, 5))[pictures]
    >>> voxels = targets @ rng.normal(size=(5, 30)) + 0.1 * rng.normal(size=(120, 30))
    >>> decoder = RidgeDecoder().fit(voxels, targets, groups=pictures)
    >>> decoder.predict(voxels[:2]).shape
    (2, 5)
    """

    def __init__(
        self,
        alphas: Sequence[float] = ALPHAS,
        n_folds: int = 5,
        average_repeats: bool = False,
        n_targets_batch: int = 2048,
    ) -> None:
        self.alphas = alphas
        self.n_folds = n_folds
        self.average_repeats = average_repeats
        self.n_targets_batch = n_targets_batch

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike) -> "RidgeDecoder":
        """Fit on training trials.

        Parameters
        ----------
        X : array of shape (n_trials, n_voxels)
        y : array of shape (n_trials, n_targets)
        groups : array of shape (n_trials,)
            Image of each trial.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the lengths differ, an entry is not finite, or there are fewer than two images.
        """
        from himalaya.kernel_ridge import KernelRidgeCV
        from himalaya.ridge import RidgeCV
        from sklearn.model_selection import GroupKFold

        X, y = _matrix(X, "voxels"), _matrix(y, "targets")
        images, group = np.unique(np.asarray(groups), return_inverse=True)
        if not len(X) == len(y) == len(group):
            raise DataError(
                f"ridge got {len(X)} trials of voxels, {len(y)} of targets and {len(group)} image "
                "names, expected as many of each"
            )
        if len(images) < 2:
            raise DataError("ridge got trials of one image, expected two images or more")
        if self.average_repeats:
            X, y = _group_means(X, group), _group_means(y, group)
            group = np.arange(len(images))

        self.mean_ = X.mean(axis=0)
        scale = X.std(axis=0)
        constant = scale <= 1e-6 * np.maximum(np.abs(self.mean_), 1e-12)
        self.scale_ = np.where(constant, 1, scale).astype(X.dtype)
        X = (X - self.mean_) / self.scale_
        y = y.astype(X.dtype, copy=False)

        folds = GroupKFold(min(self.n_folds, len(images))).split(X, groups=group)
        batches = {"n_targets_batch": self.n_targets_batch, "n_alphas_batch": 1}
        common = {"alphas": list(self.alphas), "cv": list(folds), "fit_intercept": True}
        if X.shape[1] > X.shape[0]:
            model = KernelRidgeCV(kernel="linear", solver_params=batches, **common).fit(X, y)
            self.coef_ = X.T @ model.dual_coef_
        else:
            model = RidgeCV(solver_params=batches, **common).fit(X, y)
            self.coef_ = model.coef_
        self.intercept_ = model.intercept_
        self.best_alphas_ = model.best_alphas_
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Decode trials, or means over trials.

        Parameters
        ----------
        X : array of shape (n, n_voxels)

        Returns
        -------
        array of shape (n, n_targets)
        """
        check_is_fitted(self)
        X = _matrix(X, "voxels")
        if X.shape[1] != self.n_features_in_:
            raise DataError(
                f"ridge was fitted on {self.n_features_in_} voxels and got {X.shape[1]}: "
                "predict with the subject it was fitted on"
            )
        return ((X - self.mean_) / self.scale_) @ self.coef_ + self.intercept_


def _matrix(values: ArrayLike, name: str) -> np.ndarray:
    """Return float32 or float64 of shape (n_trials, n); half precision is widened."""
    values = np.asarray(values)
    if values.dtype != np.float64:
        values = values.astype(np.float32, copy=False)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise DataError(
            f"{name} have shape {values.shape} or hold NaN, expected finite numbers (n_trials, n)"
        )
    return values


def _group_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    sums = np.zeros((group.max() + 1, values.shape[1]), values.dtype)
    np.add.at(sums, group, values)
    return sums / np.bincount(group)[:, None].astype(values.dtype)
