"""Voxelwise encoding models of one subject: fitted, inverted to a linear decoder, and sampled for training.

The targets' principal components f (zero mean, unit variance over the training pictures) predict the voxels,
x = m + B f + e with e ~ N(0, S); under the prior f ~ N(0, I) the posterior mean is linear in x. Regressing voxels on
pictures needs far fewer trials than regressing pictures on voxels, as there are fewer components than voxels.
"""

from dataclasses import dataclass

import numpy as np
import torch

from neurovl.errors import DataError

RIDGE = 2.0  # penalty of the encoding weights, in trials for each component
PRIOR = 100.0  # trials that the noise covariance of other subjects counts for; by held-out training pictures
SHRINKAGE = 0.1  # of the noise covariance towards its diagonal
EXACT = 4096  # side of a matrix from which components are found by random projection
MOST_VOXELS = 40_000  # of one subject; their covariance takes 13 GB


@dataclass(frozen=True)
class TargetBasis:
    """Principal components of the targets, in which responses are modelled.

    Attributes
    ----------
    mean : tensor, shape (T,)
    components : tensor, shape (K, T)
        One standard deviation of each component, so that target = mean + f components.
    analysis : tensor, shape (T, K)
        The other way round: f = (target - mean) analysis.
    """

    mean: torch.Tensor
    components: torch.Tensor
    analysis: torch.Tensor

    @classmethod
    def fit(cls, targets: torch.Tensor, size: int, weights: torch.Tensor) -> "TargetBasis":
        """Components of the training pictures' targets (n, T); at most `size`, fewer where the targets span fewer.

        Parameters
        ----------
        weights : tensor, shape (T,)
            How much each value counts, as in the loss that the decoder is for.

        Raises
        ------
        DataError
            All targets are the same.
        """
        mean = targets.mean(0)
        scaled = (targets - mean) * weights.sqrt()
        scores, spread, directions = _decompose(scaled, size)
        # Equal targets differ from their mean by rounding alone.
        least = max(1e-4 * float(spread[0]), 1e-5 * float((targets * weights.sqrt()).norm()))
        size = min(size, int((spread > least).sum()))
        if not size:
            raise DataError(
                f"the targets of the {len(targets)} training pictures are all the same, expected at least two that differ; "
                "give more pictures to the training split, or set encoder.readout to 0 in the profile"
            )
        deviation = (spread[:size] / len(targets) ** 0.5)[:, None]
        components = scores[:, :size].T @ (targets - mean) / len(targets) ** 0.5
        return cls(mean, components, (directions[:size] * weights.sqrt() / deviation).T)

    @classmethod
    def of(
        cls, mean: torch.Tensor, components: torch.Tensor, weights: torch.Tensor
    ) -> "TargetBasis":
        """The basis that has these components, as an encoder keeps them, and was fitted with these weights."""
        scaled = components * weights
        return cls(mean, components, (scaled / (scaled * components).sum(1, keepdim=True)).T)

    def features(self, targets: torch.Tensor) -> torch.Tensor:
        """f (n, K) of targets (n, T)."""
        return (targets - self.mean) @ self.analysis


def _decompose(matrix: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular value decomposition (U, S, V^T); of a large matrix its first components (Halko et al. 2011, SIAM Rev 53:217)."""
    if min(matrix.shape) <= max(EXACT, 2 * size):
        return torch.linalg.svd(matrix, full_matrices=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(matrix, q=size + 32, niter=4)
    return u, s, v.T


class ResponseModel:
    """x = mean + f B + e, fitted to one subject's training trials.

    Parameters
    ----------
    voxels : array, shape (n, V)
        z-scores; voxels that are constant are not this subject's.
    features : array, shape (n, K)
        Components of the picture shown in each trial.
    others : array, shape (V, V), optional
        Noise covariance of other subjects, from which one of few trials profits; it counts like `PRIOR` trials.

    Raises
    ------
    DataError
        Every voxel is constant, or there are too many for their covariance.

    Attributes
    ----------
    measured : bool array, shape (V,)

    References
    ----------
    Thirion et al. 2006, NeuroImage 33:1104; Naselaris et al. 2009, Neuron 63:902.
    """

    def __init__(
        self, voxels: np.ndarray, features: np.ndarray, others: "ResponseModel | None" = None
    ) -> None:
        voxels = np.asarray(voxels, np.float32)
        self.measured = voxels.std(0) > 1e-6
        if not self.measured.any():
            raise DataError(
                f"all {voxels.shape[1]} voxels are constant over {len(voxels)} training trials, expected responses that "
                "differ; check the mask and the volumes, or leave the subject out with preprocessing.subjects"
            )
        n = int(self.measured.sum())
        if n > MOST_VOXELS:
            raise DataError(
                f"{n} voxels are measured, expected at most {MOST_VOXELS}, as the encoding model inverts their covariance; set "
                "preprocessing.off_mask to own, take a smaller mask, or set encoder.readout to 0 in the profile"
            )
        x, f = voxels[:, self.measured], np.asarray(features, np.float32)
        # Not zero where a subject saw some of the pictures, or some of them more often.
        centre = f.mean(0)
        mean = x.mean(0, dtype=np.float64).astype(np.float32)
        x -= mean
        f = f - centre
        gram = f.T @ f + RIDGE * f.shape[1] * np.eye(f.shape[1], dtype=np.float32)
        self.weights = np.linalg.solve(gram, f.T @ x)
        x -= f @ self.weights
        self.mean, self.residuals, self.others = mean - centre @ self.weights, x, others

    def decoder(self) -> tuple[np.ndarray, np.ndarray]:
        """E[f | x] = offset + x A: weights A (V, K), zero for voxels that are not the subject's, and offset (K,)."""
        from scipy.linalg import cho_factor, cho_solve

        b, e = self.weights.astype(np.float64), self.residuals
        noise = (e.T @ e / len(e)).astype(np.float64)
        if self.others is not None:
            pair = np.ix_(self.measured, self.measured)
            noise = (len(e) * noise + PRIOR * self.others[pair]) / (len(e) + PRIOR)
        noise *= 1 - SHRINKAGE
        noise[np.diag_indices_from(noise)] /= 1 - SHRINKAGE
        noise += b.T @ b
        own = cho_solve(cho_factor(noise), b.T)
        full = np.zeros((len(self.measured), len(b)), np.float32)
        full[self.measured] = own
        return full, (-self.mean @ own).astype(np.float32)

    def sample(self, features: np.ndarray, repeats: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Responses (n, V) to pictures with these features (n, K), each the mean of some repeats.

        The noise is that of training trials, drawn with replacement, so that its correlations between voxels are kept.

        Parameters
        ----------
        repeats : int array, shape (n,)
            How many trials are averaged.
        draws : array, shape (n, most repeats)
            Uniform from 0 to 1: which trials' noise is taken.
        """
        out = np.zeros((len(features), len(self.measured)), np.float32)
        noise = np.zeros((len(features), len(self.mean)), np.float32)
        for k in range(int(repeats.max(initial=0))):
            drawn = (draws[:, k] * len(self.residuals)).astype(int)
            noise += self.residuals[drawn] * ((k < repeats) / repeats)[:, None].astype(np.float32)
        # By torch: numpy's threads spin on after a product, and would slow each training step that follows.
        seen = torch.from_numpy(np.asarray(features, np.float32)) @ torch.from_numpy(self.weights)
        out[:, self.measured] = self.mean + seen.numpy() + noise
        return out
