"""Which voxels answer to a concept itself: an encoding model of all concepts at once, beside what the eye sees.

Things stand together, and what a thing looks like drives early visual areas too. So the responses to many pictures are explained by
all concepts and by the pictures' VAE latents at the same time, and each voxel says how much of either it needs.
"""

import itertools

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve

from neurovl.localization.picture_responses import standard

# Variance that concepts and looks may explain, in units of the noise's; chosen on other simulations than those that are reported.
BY_CONCEPTS = (0.0, 0.02, 0.08, 0.3, 1.2)
BY_LOOKS = (0.0, 0.25, 1.0, 4.0)
TOGETHER = (
    2000  # pictures of one fit, whose kernels are that large; more are fitted in parts and averaged
)
SIDE, CELLS = 16, 8  # places in a row at most: of latents, and of their edges


class ConceptTuning:
    r"""Banded encoding model with the penalties of each voxel averaged by their evidence.

    .. math::

        y_v = L w_v + u_v + e_v, \qquad w_v \sim N(0, a_v s_v^2 I), \quad u_v \sim N(0, b_v s_v^2 K),
        \quad e_v \sim N(0, s_v^2 I)

    y_v are a voxel's responses to n pictures, L (n, C) how large each concept is in them (standardised), K (n, n) how alike
    the pictures look, see `alike`. Given a and b the posterior mean is :math:`\hat w_v = a L^T (I + a L L^T + b K)^{-1} y_v` (kernels scaled to trace n). It is
    averaged over the pairs (a, b) of a grid, weighted by the marginal likelihood of y_v with s_v at its maximum. A voxel that looks
    explain gets a near 0 and so no tuning.

    Parameters
    ----------
    sizes : array, shape (n, C)
        See `PictureResponses.sizes`.
    latents : array, shape (n, c, h, w), optional
        Without them there is no K.

    References
    ----------
    Nunez-Elizalde et al. 2019, NeuroImage 197:482; Dupre la Tour et al. 2022, NeuroImage 264:119728 (banded ridge regression).

    Examples
    --------
    >>> from neurovl.localization.concept_tuning import ConceptTuning
    >>> rng = np.random.default_rng(0)
    >>> sizes = rng.random((60, 2)) * (rng.random((60, 2)) < 0.4)
    >>> voxels = sizes @ [[3.0, 0.0], [0.0, 3.0]] + 0.1 * rng.standard_normal((60, 2))
    >>> ConceptTuning(sizes).weights(voxels).argmax(0).tolist()
    [0, 1]
    """

    def __init__(self, sizes: np.ndarray, latents: np.ndarray | None = None) -> None:
        n = len(sizes)
        parts = -(-n // TOGETHER)
        self.rows = [np.arange(k, n, parts) for k in range(parts)]
        self.fits = [
            _Fit(np.asarray(sizes[rows], np.float64), None if latents is None else latents[rows])
            for rows in self.rows
        ]

    def weights(self, voxels: np.ndarray) -> np.ndarray:
        """Tuning to each concept, standard deviations of the voxel for one of the concept's size, float32 (C, V).

        Parameters
        ----------
        voxels : array, shape (n, V)
        """
        pairs = zip(self.fits, self.rows, strict=True)
        return np.mean([fit.weights(voxels[rows]) for fit, rows in pairs], axis=0)


class _Fit:
    """Of pictures that are fitted together: for each pair of the grid the inverse covariance and its log determinant."""

    def __init__(self, sizes: np.ndarray, latents: np.ndarray | None) -> None:
        sizes, n = standard(sizes), len(sizes)
        together = sizes @ sizes.T
        self.sizes, self.scale = sizes.astype(np.float32), n / max(np.trace(together), 1e-12)
        looks = np.zeros((n, n)) if latents is None else alike(latents)
        self.parts = []
        for a, b in itertools.product(BY_CONCEPTS, BY_LOOKS if latents is not None else (0.0,)):
            factor = cho_factor(np.eye(n) + a * self.scale * together + b * looks, lower=True)
            inverse = cho_solve(factor, np.eye(n)).astype(np.float32)
            self.parts.append((a, inverse, 2 * np.log(np.diag(factor[0])).sum()))

    def weights(self, voxels: np.ndarray) -> np.ndarray:
        y = standard(np.asarray(voxels, np.float32))
        evidence, found = [], []
        for a, inverse, log_determinant in self.parts:
            z = inverse @ y
            # All values of a constant voxel are 0; its tuning is too, whatever its evidence.
            misfit = np.maximum(np.einsum("nv,nv->v", y, z), 1e-6)
            evidence.append(-0.5 * (len(y) - 1) * np.log(misfit) - 0.5 * log_determinant)
            found.append(a * self.scale * (self.sizes.T @ z))
        likely = np.exp(np.stack(evidence) - np.max(evidence, axis=0))
        likely /= likely.sum(0)
        return np.einsum("gv,gcv->cv", likely, np.stack(found)).astype(np.float32)


def alike(latents: np.ndarray) -> np.ndarray:
    """How alike pictures look, centred, with trace n: (n, n) from their VAE latents (n, c, h, w).

    The sum of two kernels of equal trace. Colours and surfaces: over all places, the mean of exp(-d^2 / 2c) with d the distance of two
    pictures' c channels. Edges: the inner product of the root mean squared steps from each place to the next, in 8 x 8 cells.
    """
    latents = torch.as_tensor(latents, dtype=torch.float32)
    return (_centred(_surfaces(latents)) + _centred(_edges(latents))) / 2


def _surfaces(latents: torch.Tensor) -> np.ndarray:
    sides = [min(SIDE, side) for side in latents.shape[2:]]
    pooled = torch.nn.functional.adaptive_avg_pool2d(latents, sides).double().numpy()
    n, channels = pooled.shape[:2]
    local = standard(pooled.reshape(n, -1)).reshape(n, channels, -1)
    kernel = np.zeros((n, n))
    for place in np.moveaxis(local, 2, 0):
        square = np.square(place).sum(1)
        distance = square[:, None] + square - 2 * place @ place.T
        kernel += np.exp(-np.maximum(distance, 0) / (2 * channels))
    return kernel


def _edges(latents: torch.Tensor) -> np.ndarray:
    down, right = (latents.diff(dim=axis).square() for axis in (2, 3))
    steps = torch.cat([down[:, :, :, :-1], right[:, :, :-1]], 1)
    cells = [min(CELLS, side) for side in steps.shape[2:]]
    energy = torch.nn.functional.adaptive_avg_pool2d(steps, cells).sqrt().flatten(1).double()
    energy = energy.numpy() - energy.numpy().mean(0)
    return energy @ energy.T


def _centred(kernel: np.ndarray) -> np.ndarray:
    kernel = kernel - kernel.mean(0)
    kernel -= kernel.mean(1, keepdims=True)
    return kernel * (len(kernel) / max(np.trace(kernel), 1e-12))
