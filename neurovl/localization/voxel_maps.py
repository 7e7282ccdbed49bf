"""Maps by what each voxel does over many pictures: contrast, encoding model of the word, searchlight.

They do not ask the encoder. All give (C, V), a row for each concept; see `PictureResponses` for what they take.
"""

import numpy as np
import torch

from neurovl.encoder.encoding_models import RIDGE, TargetBasis
from neurovl.localization.picture_responses import standard

COMPONENTS = 64  # of the CLIP embedding
BALL = 33  # voxels of a searchlight, the nearest; a ball with a radius of two voxels has as many
FOLDS = 5
PENALTY = (
    0.3  # of a searchlight's decoder, in units of the mean variance of a voxel times the trials
)


def contrast(holds: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Welch's t of the responses to pictures with against without each concept (univariate GLM), float32 (C, V).

    t = (m_1 - m_0) / sqrt(s_1^2 / n_1 + s_0^2 / n_0); 0 with less than two pictures on either side.

    Parameters
    ----------
    holds : bool array, shape (n, C)
    voxels : array, shape (n, V)

    Examples
    --------
    >>> from neurovl.localization.voxel_maps import contrast
    >>> holds = np.array([[1], [1], [0], [0]], bool)
    >>> t = contrast(holds, np.array([[5.0], [4.0], [1.0], [2.0]]))
    >>> round(float(t[0, 0]), 2)
    4.24
    """
    y, counts, groups = np.asarray(voxels, np.float64), [], []
    for weights in (holds.astype(float), (~holds).astype(float)):
        count = weights.sum(0)[:, None]
        n = np.maximum(count, 2)
        mean = weights.T @ y / n
        variance = np.maximum(weights.T @ y**2 / n - mean**2, 0) / (n - 1)
        groups.append((mean, variance))
        counts.append(count)
    (with_it, one), (without, other) = groups
    error = np.sqrt(one + other)
    known = (np.minimum(*counts) >= 2) & (error > 1e-9)
    t = np.divide(with_it - without, error, out=np.zeros_like(error), where=known)
    return t.astype(np.float32)


def word_responses(clip: np.ndarray, texts: torch.Tensor, voxels: np.ndarray) -> np.ndarray:
    """What a voxelwise encoding model of CLIP's image embedding expects for a word, float32 (C, V).

    x = m + B f with f the principal components of the pictures' embeddings, by ridge regression; the value is B f(t_c - mean of
    the words), since words and pictures lie apart in CLIP. The question of BrainSCUBA (Luo et al. 2024, ICLR), asked of a word.

    Parameters
    ----------
    clip : array, shape (n, E)
        CLIP embeddings of the pictures.
    texts : tensor, shape (C, E)
        CLIP text embeddings of the concepts.
    voxels : array, shape (n, V)
    """
    pictures = torch.nn.functional.normalize(torch.as_tensor(clip), dim=1)
    size = min(COMPONENTS, len(pictures) - 1)
    basis = TargetBasis.fit(pictures, size, torch.ones(pictures.shape[1]))
    f = basis.features(pictures).numpy()
    gram = f.T @ f + RIDGE * f.shape[1] * np.eye(f.shape[1], dtype=np.float32)
    weights = np.linalg.solve(gram, f.T @ voxels)
    words = torch.nn.functional.normalize(texts.float().cpu(), dim=1)
    return (((words - words.mean(0)) @ basis.analysis).numpy() @ weights).astype(np.float32)


def searchlight(
    sizes: np.ndarray, voxels: np.ndarray, places: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """How well each concept is decoded from the ball around a voxel, float32 (C, V): the field's reference.

    A ridge regression of the concepts' sizes on the voxels of the ball, in five parts by picture; the value is the correlation over
    pictures of what is decoded with what is there (Kriegeskorte et al. 2006, PNAS 103:3863).

    Parameters
    ----------
    sizes : array, shape (n, C)
        How large each concept is in the pictures.
    voxels : array, shape (n, V)
        Standardised.
    places : array, shape (V, 3)
        Of the voxels, mm.
    measured : bool array, shape (V,)
        The subject's own voxels; others are neither read nor mapped, their value is 0.
    """
    from scipy.spatial import cKDTree

    own = np.flatnonzero(measured & voxels.any(0))
    x, y, tree = voxels[:, own], standard(sizes), cKDTree(places[own])
    balls = tree.query(places[own], k=min(BALL, len(own)))[1].reshape(len(own), -1)
    fold = np.arange(len(x)) % FOLDS
    out = np.zeros((y.shape[1], len(measured)), np.float32)
    for column, ball in zip(own, balls, strict=True):
        said, near = np.empty_like(y), x[:, ball]
        for k in range(FOLDS):
            here, there = near[fold != k], near[fold == k]
            gram = here.T @ here
            gram[np.diag_indices_from(gram)] += PENALTY * len(here)
            said[fold == k] = there @ np.linalg.solve(gram, here.T @ y[fold != k])
        out[:, column] = (standard(said) * y).mean(0)
    return out
