"""Chance of a map: brains exchanged between pictures, and the same map from each half of the pictures."""

from collections.abc import Callable

import numpy as np

DRAWS = 40


def exchanged(
    find: Callable[[np.ndarray], np.ndarray], voxels: np.ndarray, seed: int, draws: int = DRAWS
) -> np.ndarray:
    """Maps (draws, C, V) of brains that have nothing to do with the pictures: the rows of `voxels` in an order drawn at random.

    Parameters
    ----------
    find : callable
        From voxels (n, V) to maps (C, V).
    voxels : array, shape (n, V)
    """
    rng = np.random.default_rng([seed, 41])
    return np.stack([find(voxels[rng.permutation(len(voxels))]) for _ in range(draws)])


def chance(
    observed: np.ndarray, null: np.ndarray, measured: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """p of each voxel for each concept, alone and over the family of all voxels, both (C, V).

    Alone: the share of all voxels of all exchanged maps of the concept that are at least as high, for voxels are standardised alike.
    Family: the share of exchanged maps whose highest voxel is at least as high (maximum statistic; Nichols and Holmes 2002,
    Hum. Brain Mapp. 15:1), never below 1 / (draws + 1).

    Parameters
    ----------
    observed : array, shape (C, V)
    null : array, shape (draws, C, V)
    measured : bool array, shape (V,)
        Voxels of the family; p of others is 1.

    Examples
    --------
    >>> from neurovl.localization.map_tests import chance
    >>> null = np.zeros((3, 1, 2))
    >>> alone, family = chance(np.array([[1.0, 0.0]]), null, np.array([True, True]))
    >>> alone.round(2).tolist(), family.tolist()
    ([[0.14, 1.0]], [[0.25, 1.0]])
    """
    draws = len(null)
    alone, family = np.ones(observed.shape), np.ones(observed.shape)
    for k, values in enumerate(observed):
        pool = np.sort(null[:, k][:, measured].ravel())
        higher = len(pool) - np.searchsorted(pool, values[measured], side="left")
        alone[k, measured] = (1 + higher) / (1 + len(pool))
        highest = np.sort(null[:, k][:, measured].max(1))
        higher = draws - np.searchsorted(highest, values[measured], side="left")
        family[k, measured] = (1 + higher) / (1 + draws)
    return alone, family


def halves(
    find: Callable[[np.ndarray], np.ndarray], n: int, measured: np.ndarray, seed: int
) -> np.ndarray:
    """Correlation over measured voxels of the maps from two halves of the pictures, drawn at random, (C,).

    Parameters
    ----------
    find : callable
        From rows (int array) of the n pictures to maps (C, V).
    """
    order = np.random.default_rng([seed, 43]).permutation(n)
    first, second = (find(np.sort(order[k::2]))[:, measured] for k in (0, 1))
    first, second = (one - one.mean(1, keepdims=True) for one in (first, second))
    norm = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    together = (first * second).sum(1)
    return np.divide(together, norm, out=np.full(len(norm), np.nan), where=norm > 0)
