"""Which pictures are watched instead of trained on."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from neurovl.errors import ConfigError

HELD_OUT = "held-out"  # what is trained without the tune pictures


def split_pictures(
    trials: pd.DataFrame, share: float, seed: int, section: str = "alignment"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training trials in two: those to train on, and those of a share of the pictures, of all subjects, to watch.

    Parameters
    ----------
    trials : DataFrame
        With a column image_id.
    share : float
        Of the pictures; 0 leaves all to train on.
    seed : int
        The same pictures and seed give the same share, whatever is trained.
    section : str
        The section of the profile whose `validation` the share is.

    Returns
    -------
    DataFrame, DataFrame

    Raises
    ------
    ConfigError
        A share that leaves none to train on, or none to watch.
    """
    pictures = np.sort(trials.image_id.unique())
    n = round(share * len(pictures))
    if share and not 0 < n < len(pictures):
        raise ConfigError(
            f"{section}.validation is {share:g}, which is {n} of {len(pictures)} training pictures, expected some to watch "
            "and some to train on; choose a share between"
        )
    held = np.random.default_rng([seed, 23]).permutation(pictures)[:n]
    watched = trials.image_id.isin(held)
    return trials[~watched], trials[watched]


def tune_pictures(training: Iterable[str]) -> list[str]:
    """The fixed tenth of the training pictures on which settings, searches and methods are chosen; no seed changes it.

    Examples
    --------
    >>> from neurovl.training.validation import tune_pictures
    >>> len(tune_pictures(str(k) for k in range(400)))
    40
    """
    pictures = np.unique(list(training))
    order = np.random.default_rng(10).permutation(pictures)
    return sorted(order[: max(1, len(pictures) // 10)].tolist())
