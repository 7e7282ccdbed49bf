"""Retrieval: is the right one among the first k of a pool, and at which rank does it stand among all?"""

import numpy as np
from numpy.typing import ArrayLike

from neurovl.errors import DataError

_BLOCK = 512  # queries compared at once
_TIE_DECIMALS = 10  # cosines that agree this far differ by rounding only


def retrieval(queries: ArrayLike, candidates: ArrayLike, k: int = 1, pool: int = 300) -> np.ndarray:
    r"""How often each query finds its own candidate among the first `k` of a random pool.

    MindEye draws 300 of the test pictures 30 times, and counts how often the candidate of the highest cosine is the
    right one. What many such draws tend to is known without drawing: where :math:`b_i` of the other
    :math:`n - 1` candidates are more alike, the number of them in a pool of :math:`m` is hypergeometric, and

    .. math:: s_i = P(X_i < k), \quad X_i \sim \mathrm{Hypergeometric}(n - 1, b_i, m - 1).

    Parameters
    ----------
    queries, candidates : array, shape (n, n_features)
        Row i of one belongs to row i of the other; further axes are flattened. Embeddings of brains and of pictures find
        pictures; the other way round they find brains.
    k : int
    pool : int
        Size of the pool with the right one in it; all `n` where there are fewer.

    Returns
    -------
    array, shape (n,)
        Probabilities; chance is ``k / min(pool, n)``. Candidates that are equally alike come in random order.

    Raises
    ------
    DataError
        If shapes differ, an entry is not finite, a row is 0, or there are fewer than two rows.

    References
    ----------
    Scotti et al. 2023 (MindEye), section 3.2 and the published code, for the pool, the draws and the cosine.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(4, 10))
    >>> neurovl.metrics.retrieval(features, features)
    array([1., 1., 1., 1.])
    """
    from scipy.stats import hypergeom

    above, equal = _more_alike(queries, candidates)
    n = len(above)
    if not 1 <= k <= min(pool, n):
        raise DataError(f"k is {k}, expected 1 to {min(pool, n)}, the size of the pool")
    found = hypergeom.cdf(k - 1, n - 1, np.arange(n), min(pool, n) - 1)  # by how many are above
    summed = np.concatenate([[0.0], np.cumsum(found)])
    return np.clip((summed[above + equal + 1] - summed[above]) / (equal + 1), 0, 1)


def retrieval_rank(queries: ArrayLike, candidates: ArrayLike) -> np.ndarray:
    """At which rank each query's own candidate stands among all of them, from 1; of equals the middle rank.

    Parameters
    ----------
    queries, candidates : array, shape (n, n_features)
        As for `retrieval`.

    Returns
    -------
    array, shape (n,)
        Chance is ``(n + 1) / 2``.

    Raises
    ------
    DataError
        As `retrieval`.

    Examples
    --------
    >>> features = np.eye(3)
    >>> neurovl.metrics.retrieval_rank([[1.0, 0, 0], [1, 0.5, 0.2], [0, 1, 1]], features)
    array([1. , 2. , 1.5])
    """
    above, equal = _more_alike(queries, candidates)
    return 1 + above + equal / 2


def _more_alike(queries: ArrayLike, candidates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """How many other candidates are more alike to each query than its own, and how many equally."""
    a, b = _unit(queries, "queries"), _unit(candidates, "candidates")
    if a.shape != b.shape or len(a) < 2:
        raise DataError(
            f"queries are {a.shape} and candidates {b.shape}, expected the same shape with two rows or more"
        )
    above, equal = np.empty(len(a), int), np.empty(len(a), int)
    for start in range(0, len(a), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(a)))
        cosine = np.round(a[rows] @ b.T, _TIE_DECIMALS)
        own = cosine[np.arange(len(rows)), rows][:, None]
        above[rows] = (cosine > own).sum(1)
        equal[rows] = (cosine == own).sum(1) - 1
    return above, equal


def _unit(features: ArrayLike, name: str) -> np.ndarray:
    rows = np.asarray(features, np.float64)
    if rows.ndim < 2 or rows.size == 0:
        raise DataError(f"{name} have shape {rows.shape}, expected (n, n_features)")
    rows = rows.reshape(len(rows), -1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and norms.all()):
        raise DataError(f"{name} hold a row of zeros, NaN or infinity, expected directions")
    return rows / norms
