"""Identification, classification and intervals: the evaluation protocol of decoding papers.

Leaves out feature extraction: every function takes features that a network has already given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from neurovl.errors import DataError

DRAWS = 100  # resamples drawn at once
_BLOCK = 512  # rows of the correlation matrix held at once
_TIE_DECIMALS = 10  # correlations that agree this far differ by rounding only


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    value: float
    low: float
    high: float


def _rows(features: ArrayLike, name: str) -> np.ndarray:
    """Centre and scale to unit norm, so that products are Pearson correlations; flat rows are 0."""
    features = np.asarray(features)
    if features.ndim < 2 or len(features) == 0 or features[0].size < 2:
        raise DataError(
            f"{name} features have shape {features.shape}, expected (n_images, n_features) "
            "with two features or more"
        )
    rows = features.reshape(len(features), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        raise DataError(f"{name} features hold NaN or infinity, expected finite numbers")
    scale = np.abs(rows).max(axis=1, keepdims=True)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = norms <= 1e-12 * np.sqrt(rows.shape[1]) * scale
    return np.divide(rows, norms, out=np.zeros_like(rows), where=~flat)


def _paired(pred: ArrayLike, true: ArrayLike, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    pred, true = _rows(pred, "predicted"), _rows(true, "true")
    if pred.shape != true.shape or len(pred) < at_least:
        raise DataError(
            f"predicted features are {pred.shape} and true ones {true.shape}, expected the same "
            f"shape with {at_least} images or more"
        )
    return pred, true


def _identification(pred: np.ndarray, true: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of rows i and score[i, k]: fraction of j != k that true_k beats for pred_i."""
    from scipy.stats import rankdata

    for start in range(0, len(pred), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(pred)))
        correlation = np.round(pred[rows] @ true.T, _TIE_DECIMALS)
        yield rows, (rankdata(correlation, axis=1) - 1) / (len(true) - 1)


def two_way(pred: ArrayLike, true: ArrayLike) -> np.ndarray:
    r"""Two-way identification of each image against all others.

    .. math:: s_i = \frac{1}{n-1} \sum_{j \ne i} [r(\hat f_i, f_i) > r(\hat f_i, f_j)]

    with Pearson's r over features; a tie counts one half, so a constant prediction scores .5.

    Parameters
    ----------
    pred, true : array, shape (n_images, n_features)
        Features of the decoded and of the seen images; further axes are flattened.

    Returns
    -------
    array, shape (n_images,)
        Fractions; the published score is their mean.

    Raises
    ------
    DataError
        If shapes differ, an entry is not finite, or there are fewer than two images.

    References
    ----------
    Section 4.2 of the paper; the code of MindEye (Scotti et al. 2023) for the direction of the
    comparison.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(4, 10))
    >>> neurovl.metrics.two_way(features, features)
    array([1., 1., 1., 1.])
    """
    pred, true = _paired(pred, true, at_least=2)
    return np.concatenate(
        [s[np.arange(len(rows)), rows] for rows, s in _identification(pred, true)]
    )


def two_way_chance(
    pred: ArrayLike, true: ArrayLike, seed: int, n_permutations: int = 200
) -> Interval:
    """Mean two-way score over permuted pairs, with its central 95 % range over permutations.

    Parameters
    ----------
    pred, true : array, shape (n_images, n_features)
    seed : int
    n_permutations : int

    Returns
    -------
    Interval
        Chance level, and the range in which a decoder without information falls.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(30, 10))
    >>> value, low, high = neurovl.metrics.two_way_chance(features, features, seed=0)
    >>> low < 0.5 < high
    True
    """
    pred, true = _paired(pred, true, at_least=2)
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.permutation(len(pred)) for _ in range(n_permutations)])
    means = np.zeros(n_permutations)
    for rows, scores in _identification(pred, true):
        means += scores[np.arange(len(rows)), pairs[:, rows]].sum(axis=1) / len(pred)
    return Interval(float(means.mean()), *map(float, np.quantile(means, [0.025, 0.975])))


def correlation_distance(pred: ArrayLike, true: ArrayLike) -> np.ndarray:
    r"""Correlation distance :math:`1 - r(\hat f_i, f_i)` of each image; lower is better.

    The EfficientNet and SwAV scores of the field. A constant row correlates 0.

    Parameters
    ----------
    pred, true : array, shape (n_images, n_features)

    Returns
    -------
    array, shape (n_images,)

    Examples
    --------
    >>> neurovl.metrics.correlation_distance([[1.0, 2, 3]], [[3.0, 2, 1]])
    array([2.])
    """
    pred, true = _paired(pred, true, at_least=1)
    return 1 - np.einsum("nf,nf->n", pred, true)


def nearest_label(pred: ArrayLike, label_embeddings: Mapping[str, np.ndarray]) -> list[str]:
    """Name the label whose embedding has the highest cosine with each prediction.

    Parameters
    ----------
    pred : array, shape (n_trials, n_features)
    label_embeddings : mapping of str to array, shape (n_features,)

    Returns
    -------
    list of str, one per trial; of equal cosines the first label wins.

    Examples
    --------
    >>> labels = {"face": np.array([1, 0]), "house": np.array([0, 1])}
    >>> neurovl.metrics.nearest_label([[0.9, 0.1]], labels)
    ['face']
    """
    labels = list(label_embeddings)
    pred = np.asarray(pred, dtype=np.float64)
    candidates = np.asarray([label_embeddings[label] for label in labels], dtype=np.float64)
    if pred.ndim != 2 or candidates.ndim != 2 or pred.shape[1] != candidates.shape[1]:
        raise DataError(
            f"predictions have shape {pred.shape} and label embeddings {candidates.shape}, "
            "expected (n_trials, n_features) and (n_labels, n_features)"
        )
    if not (np.isfinite(pred).all() and np.isfinite(candidates).all()):
        raise DataError("predictions or label embeddings hold NaN or infinity, expected numbers")
    norms = np.linalg.norm(candidates, axis=1)
    if not norms.all():
        raise DataError(f"the embedding of {labels[norms.argmin()]!r} is 0, expected a direction")
    return [labels[k] for k in (pred @ (candidates / norms[:, None]).T).argmax(axis=1)]


def accuracy(predicted: Sequence[str], true: Sequence[str]) -> np.ndarray:
    """Return 1.0 where the label is right and 0.0 where it is not, shape (n_trials,).

    Examples
    --------
    >>> neurovl.metrics.accuracy(["face", "house"], ["face", "face"])
    array([1., 0.])
    """
    if len(predicted) != len(true) or len(true) == 0:
        raise DataError(
            f"{len(predicted)} labels were predicted and {len(true)} are true, expected as many, "
            "and one or more"
        )
    return np.asarray([p == t for p, t in zip(predicted, true, strict=True)], dtype=np.float64)


def bootstrap(per_image: ArrayLike, seed: int, n: int = 2000, level: float = 0.95) -> Interval:
    """Mean over images with its percentile bootstrap interval.

    Scores are resampled, not recomputed: the pool that each image was compared with stays fixed.

    Parameters
    ----------
    per_image : array, shape (n_images,)
    seed : int
    n : int
        Number of resamples.
    level : float

    Returns
    -------
    Interval
        The ends are NaN for a single image, which has no spread to resample.

    Examples
    --------
    >>> value, low, high = neurovl.metrics.bootstrap([0.2, 0.4, 0.6, 0.8], seed=0)
    >>> low < value < high
    True
    """
    scores = np.asarray(per_image, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise DataError(
            f"per-image scores have shape {scores.shape} or hold NaN, expected finite (n_images,)"
        )
    n_images = len(scores)
    return bootstrap_corpus(lambda drawn: drawn @ scores / n_images, n_images, seed, n, level)


def bootstrap_corpus(
    statistic: Callable[[np.ndarray], np.ndarray],
    n_images: int,
    seed: int,
    n: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a score that is no mean over images, such as BLEU.

    Parameters
    ----------
    statistic : callable
        Takes how often each image is in each resample (k, n_images), and returns the scores of those corpora (k,).
    n_images : int
    seed : int
    n : int
        Number of resamples.
    level : float

    Examples
    --------
    Answers that are right, of all answers about an image:

    >>> right, asked = np.array([1, 2, 0, 3]), np.array([2, 2, 4, 4])
    >>> share = lambda drawn: (drawn @ right) / (drawn @ asked)
    >>> value, low, high = neurovl.metrics.bootstrap_corpus(share, 4, seed=0)
    >>> low < value == 0.5 < high
    True
    """
    value = float(statistic(np.ones((1, n_images)))[0])
    if n_images < 2:
        return Interval(value, float("nan"), float("nan"))
    draws = [statistic(drawn) for drawn in resamples(n_images, seed, n)]
    tail = (1 - level) / 2
    return Interval(value, *map(float, np.quantile(np.concatenate(draws), [tail, 1 - tail])))


def resamples(n_images: int, seed: int, n: int = 2000) -> Iterator[np.ndarray]:
    """How often each image is in each of `n` resamples, some at a time, (k, n_images); the same for a seed.

    Examples
    --------
    >>> [drawn.shape for drawn in neurovl.metrics.protocol.resamples(5, seed=0, n=150)]
    [(100, 5), (50, 5)]
    """
    rng = np.random.default_rng(seed)
    for start in range(0, n, DRAWS):
        rows = rng.integers(n_images, size=(min(DRAWS, n - start), n_images))
        drawn = np.zeros(rows.shape)
        np.add.at(drawn, (np.arange(len(rows))[:, None], rows), 1)
        yield drawn
