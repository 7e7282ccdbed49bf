"""The single-trial model of a run: its regressors, and betas of all trials as one matrix product.

Least squares separate fits a model of its own to each trial, with one regressor for the trial, one for all
others together, and the nuisance (Mumford et al. 2012, NeuroImage 59:2636). With the nuisance projected out, each of
these is a regression on two columns, whose solution is linear in the time series: a row of weights. Least
squares all has a regressor for every trial in one model (Rissman et al. 2004, NeuroImage 23:752).
Errors are taken as independent (ordinary least squares); autocorrelation does not bias betas.
"""

import functools
import warnings
from collections.abc import Sequence

import numpy as np

from neurovl.errors import DataError

STEP = 0.1  # seconds between the values of a response; nilearn convolves ten times as finely
RESPONSE = 32.0  # seconds that nilearn's canonical responses last
TELLABLE = 1e-6  # least share of a regressor's sum of squares that its rivals may leave


def trial_columns(
    onsets: Sequence[float] | np.ndarray,
    durations: Sequence[float] | np.ndarray,
    times: np.ndarray,
    hrf: str = "glover",
) -> tuple[np.ndarray, np.ndarray]:
    """A regressor for each event, from nilearn's responses, and the peak that the response to an event so long has.

    Parameters
    ----------
    onsets, durations : array of shape (n_events,)
        In seconds; a duration of 0 is an impulse.
    times : array of shape (n_volumes,)
        When each volume was measured, in seconds.
    hrf : str
        Name of nilearn's model of the haemodynamic response, 'glover' or 'spm'.

    Returns
    -------
    columns : array of shape (n_volumes, n_events)
    peaks : array of shape (n_events,)
        Between volumes too, and whether or not the run lasts so long.

    Examples
    --------
    >>> from neurovl.recordings.timeseries.trial_model import trial_columns
    >>> columns, peaks = trial_columns([4.0, 20.0], [3.0, 3.0], 2.0 * np.arange(30))
    >>> columns.shape, bool(peaks[0] == peaks[1]), bool((columns.max(0) <= peaks).all())
    ((30, 2), True, True)
    """
    shapes = [_response(round(float(duration), 3), hrf) for duration in durations]
    columns = [
        np.interp(times - onset, STEP * np.arange(len(shape)), shape, left=0, right=0)
        for onset, shape in zip(onsets, shapes, strict=True)
    ]
    return np.array(columns).reshape(-1, len(times)).T, np.array([s.max() for s in shapes])


@functools.lru_cache(maxsize=4096)
def _response(duration: float, hrf: str) -> np.ndarray:
    """The response to an event at 0, every `STEP`.

    Sampled once and finely: on a design's own grid, TR / 50, an event of half a second would be too long or too short by
    up to 8 percent, as its onset falls.
    """
    from nilearn.glm.first_level import compute_regressor

    times = STEP * np.arange(int((duration + RESPONSE) / STEP) + 2)
    return compute_regressor(np.array([[0], [duration], [1.0]]), hrf, times, oversampling=10)[0][
        :, 0
    ]


def drift_columns(times: np.ndarray, high_pass: float, order: int | None = None) -> np.ndarray:
    """Slow drifts and the constant, by nilearn.

    Parameters
    ----------
    times : array of shape (n_volumes,)
        In seconds.
    high_pass : float
        Cosines of lower frequencies (Hz); 0 for the constant alone.
    order : int, optional
        Polynomials up to this degree instead.

    Returns
    -------
    array of shape (n_volumes, n_columns)

    Examples
    --------
    >>> from neurovl.recordings.timeseries.trial_model import drift_columns
    >>> drift_columns(2.0 * np.arange(150), 0.01).shape, drift_columns(np.arange(150), 0, 1).shape
    ((150, 7), (150, 2))
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    model = "polynomial" if order is not None else "cosine" if high_pass > 0 else None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # `beta_weights` refuses a drift that takes all
        return make_first_level_design_matrix(
            times, None, drift_model=model, high_pass=high_pass, drift_order=order or 0
        ).to_numpy()


def beta_weights(
    columns: np.ndarray, nuisance: np.ndarray, method: str = "lss", what: str = "the run"
) -> np.ndarray:
    """What turns a run's time series into the betas of its trials: ``betas = weights @ series``.

    Parameters
    ----------
    columns : array of shape (n_volumes, n_trials)
        A regressor for each trial.
    nuisance : array of shape (n_volumes, n_columns)
        Drifts, the constant, confounds, events of no interest; may be linearly dependent.
    method : str
        'lss' (least squares separate) or 'lsa' (least squares all).
    what : str
        How messages name the run.

    Returns
    -------
    array of shape (n_trials, n_volumes)

    Raises
    ------
    DataError
        If the volumes are too few, or a trial cannot be told from the nuisance and the other trials.

    Examples
    --------
    >>> from neurovl.recordings.timeseries.trial_model import beta_weights, trial_columns
    >>> columns, _ = trial_columns([4.0, 20.0, 36.0], [3.0] * 3, 2.0 * np.arange(30))
    >>> series = 500 + columns @ np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])  # two voxels
    >>> (beta_weights(columns, np.ones((30, 1)), "lsa") @ series).round(3).tolist()
    [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
    """
    basis = _basis(nuisance)
    n_volumes, n_trials = columns.shape
    beside = n_trials if method == "lsa" else min(n_trials, 2)
    if n_volumes <= basis.shape[1] + beside:
        raise DataError(
            f"{what} has {n_volumes} volumes for {basis.shape[1]} columns of drift and confounds and {beside} of trials, expected "
            "more volumes than columns: name fewer --confounds, or less drift (--high-pass, --drift-order)"
        )
    own = columns - basis @ (basis.T @ columns)
    before = (columns**2).sum(0)
    if method == "lsa":
        weights, left = _together(own, before)
    else:
        weights, left = _separate(own, before)
    lost = np.flatnonzero(~(left > TELLABLE))
    if len(lost):
        raise DataError(
            f"{what} cannot tell trial {lost[0] + 1} of {n_trials} from the drift, the confounds and the other trials, expected "
            "onsets that differ and confounds that do not follow them: look at its events, name fewer --confounds, or less drift (--high-pass, --drift-order)"
        )
    return weights


def _separate(own: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of least squares separate from regressors without nuisance, and what the rivals leave of each."""
    squares = (own**2).sum(0)
    if own.shape[1] == 1:
        return own.T / squares[:, None], squares / before
    others = own.sum(1, keepdims=True) - own
    cross, rest = (own * others).sum(0), (others**2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        clean = own - others * (cross / rest)
        remain = squares - cross**2 / rest
        return (clean / remain).T, remain / before


def _together(own: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for least squares all."""
    left, values, right = np.linalg.svd(own, full_matrices=False)
    if values[-1] ** 2 <= TELLABLE * before.max():
        return own.T, np.where(np.arange(len(before)) == np.abs(right[-1]).argmax(), 0.0, 1.0)
    weights = (right.T / values) @ left.T
    return weights, 1 / ((weights**2).sum(1) * before)


def _basis(nuisance: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the nuisance, whatever its scales and however dependent its columns."""
    size = np.linalg.norm(nuisance, axis=0)
    left, values, _ = np.linalg.svd(nuisance[:, size > 0] / size[size > 0], full_matrices=False)
    return left[:, values > 1e-8 * values.max(initial=0)]
