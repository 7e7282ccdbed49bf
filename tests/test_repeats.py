"""Correlation after centring, and what endless repeats would give, against numpy and a world whose noise is known."""

import numpy as np
import pytest

from neurovl.evaluation.repeats import correlation, endless


def test_correlation_is_numpy_s_after_centring_the_columns():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 12)) + 5
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a - a.mean(0), b - b.mean(0), strict=True)]
    np.testing.assert_allclose(correlation(a, b), expected, rtol=1e-12)


@pytest.mark.parametrize("noise", [0.5, 2.0])
@pytest.mark.parametrize("n", [1, 3])
def test_endless_repeats_are_foreseen_from_few(noise, n):
    rng = np.random.default_rng(1)
    true = rng.normal(size=(60, 2000))
    signal = 0.6 * true + 0.8 * rng.normal(size=true.shape)  # correlates by .6 with the truth
    trials = signal + noise * rng.normal(size=(3, *true.shape))
    q = correlation(trials[0], trials[1]).mean()
    assert q == pytest.approx(1 / (1 + noise**2), abs=0.02)
    found = endless(correlation(trials[:n].mean(0), true).mean(), q, n)
    assert found == pytest.approx(0.6, abs=0.02)


def test_repeats_that_do_not_agree_foresee_nothing():
    assert endless(0.3, -0.1, 3) is None and endless(0.0, 0.0, 1) is None
    assert endless(0.9, 0.2, 1) == 1.0
