"""Which voxels to silence for a concept, which others for comparison, and how much of the concept is there.

Located voxels and controls are equally many and a subject's own measured voxels: the stored region is larger, up to ten
times under `off_mask: keep`, and a voxel that was not measured has nothing to lose. A control keeps its voxels together as the
located ones are, since neighbours say the same and scattered voxels leave it standing.
"""

from collections.abc import Sequence

import numpy as np
import torch

from neurovl.errors import DataError
from neurovl.localization.heat import Heat
from neurovl.tokens.resize import resize_linear
from neurovl.tokens.store import TokenStore

SILENT = 1e-6  # not 0, which says that a voxel was not measured, and so whose volume it is
CONTROLS = 8  # moved sets of a concept; the spread of their mean is about a third of one set's


def silence(voxels: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The voxels (n, V) with some columns at their mean, a z-score of (all but) 0.

    Parameters
    ----------
    columns : bool array, shape (V,)

    Examples
    --------
    >>> from neurovl.localization.zeroing import silence
    >>> silence(np.ones((1, 3), np.float32), np.array([True, False, False])).round(3).tolist()
    [[0.0, 1.0, 1.0]]
    """
    return np.where(columns & (voxels != 0), np.float32(SILENT), voxels)


def nearest(where: np.ndarray, place: np.ndarray) -> np.ndarray:
    """All voxels (V, 3) in the order of their distance from a place."""
    return np.argsort(np.square(where - place).sum(1), kind="stable")


def balls(where: np.ndarray, sizes: Sequence[int], to: np.ndarray) -> list[np.ndarray]:
    """Regions that share no voxel, one after the other: of each size the voxels nearest to its place that are still free.

    Parameters
    ----------
    where : array, shape (V, 3)
    sizes : sequence of int, length R
        Together V at most.
    to : array, shape (R, 3)

    Returns
    -------
    list of int array
        Rows of `where`.

    Examples
    --------
    >>> from neurovl.localization.zeroing import balls
    >>> line = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    >>> [ball.tolist() for ball in balls(line, [2, 1], line[[0, 1]])]
    [[0, 1], [2]]
    """
    free, found = np.arange(len(where)), []
    for size, place in zip(sizes, to, strict=True):
        chosen = nearest(where[free], place)[:size]
        found.append(free[chosen])
        free = np.delete(free, chosen)
    return found


def located_voxels(
    store: TokenStore, heat: Heat, measured: np.ndarray, share: float = 0.15
) -> np.ndarray:
    """The hottest of a subject's measured voxels.

    Parameters
    ----------
    measured : bool array, shape (V,)
        See `TokenStore.measured`.
    share : float
        Of the measured voxels, above 0 and at most a half, so that controls of as many voxels find room elsewhere.

    Returns
    -------
    bool array, shape (V,)

    Raises
    ------
    DataError
        Too few voxels were measured, or the share is too large.

    Examples
    --------
    >>> from neurovl.localization.zeroing import located_voxels
    >>> measured = run.store.measured(subject=1)
    >>> found = located_voxels(run.store, run.locate("person", subject=1), measured, share=0.5)
    >>> int(found.sum()) == round(0.5 * measured.sum()), bool(measured[found].all())
    (True, True)
    """
    own = np.flatnonzero(measured)
    n = max(1, round(share * len(own)))
    if share <= 0 or 2 * n > len(own):
        raise DataError(
            f"{heat.subject} has {len(own)} measured voxels, of which a share of {share:g} is to be silenced, expected at "
            "least two voxels and a share of at most a half; correct localization.share of the profile, or see to the mask"
        )
    values = resize_linear(heat.values, store.target).ravel()[store.region[own]]
    found = np.zeros(len(measured), bool)
    found[own[np.argsort(-values, kind="stable")[:n]]] = True
    return found


def moved_voxels(
    store: TokenStore,
    located: np.ndarray,
    measured: np.ndarray,
    rng: np.random.Generator,
    draws: int = CONTROLS,
) -> np.ndarray:
    """Located voxels moved elsewhere: for each of their connected pieces a ball as large, among the other measured voxels.

    Parameters
    ----------
    located, measured : bool array, shape (V,)

    Returns
    -------
    bool array, shape (draws, V)
        As many voxels each as `located`, none of them located.

    Examples
    --------
    >>> from neurovl.localization.zeroing import located_voxels, moved_voxels
    >>> measured = run.store.measured(subject=1)
    >>> found = located_voxels(run.store, run.locate("person", subject=1), measured)
    >>> moved = moved_voxels(run.store, found, measured, np.random.default_rng(0))
    >>> bool((moved.sum(1) == found.sum()).all()), bool((moved & found).any())
    (True, False)
    """
    from scipy.ndimage import label

    grid = np.zeros(int(np.prod(store.target)), bool)
    grid[store.region[located]] = True
    pieces, _ = label(grid.reshape(store.target), np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
    free = np.flatnonzero(measured & ~located)
    where = store.places[free]
    moved = np.zeros((draws, len(located)), bool)
    for one in moved:
        to = where[rng.integers(len(where), size=len(sizes))]
        one[free[np.concatenate(balls(where, sizes, to))]] = True
    return moved


def presence(said: torch.Tensor, text: torch.Tensor, holds: np.ndarray) -> np.ndarray:
    """How much of a concept is in the predictions of the pictures that hold it, beyond those that do not.

    p_i = cos(z_i, t) - mean_j cos(z_j, t), i with and j without the concept. What moves all predictions alike is no
    knowledge of the concept, and takes nothing from it.

    Parameters
    ----------
    said : tensor, shape (n, E)
        Predicted CLIP embeddings.
    text : tensor, shape (E,)
    holds : bool array, shape (n,)
        Pictures with the concept.

    Returns
    -------
    array, shape (holds.sum(),)

    Examples
    --------
    >>> from neurovl.localization.zeroing import presence
    >>> said, word = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0])
    >>> presence(said, word, np.array([True, False])).tolist()
    [1.0]
    """
    cosine = torch.nn.functional.cosine_similarity(said, text[None], dim=1).double().numpy()
    return cosine[holds] - cosine[~holds].mean()
