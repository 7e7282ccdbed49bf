"""Noise ceilings from repeats, against known variances and plain numpy and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from neurovl.errors import DataError
from neurovl.recordings import reliability
from neurovl.recordings.base import Recordings
from neurovl.recordings.reliability import ncsnr, noise_ceiling, voxel_reliability

SHAPE = (4, 3, 5)


class InMemory(Recordings):
    """Sessions as arrays (n_trials, x, y, z); counts how often one is read."""

    name = "in-memory"

    def __init__(self, sessions, images, split=None, mask=None):
        self.responses = dict(enumerate(map(np.asarray, sessions), 1))
        self.reads = 0
        self._mask = np.ones(SHAPE, bool) if mask is None else mask
        sizes = [len(one) for one in sessions]
        table = pd.DataFrame({"session": np.repeat(np.arange(1, len(sizes) + 1), sizes)})
        table["image_id"] = np.concatenate([np.asarray(one) for one in images])
        table["subject"], table["trial"] = "subj01", range(len(table))
        table["repeat"] = table.groupby("image_id").cumcount()
        table["split"] = [(split or {}).get(one, "train") for one in table.image_id]
        super().__init__("nowhere", ["subj01"], table)

    def mask(self, subject):
        return self._mask.copy()

    def _session_volumes(self, subject, session, positions):
        self.reads += 1
        return self.responses[session][positions]


def simulate(seed=0, n_sessions=6, per_session=100, signal=1.0, noise=2.0, counts=(1, 2, 3, 4)):
    """Signal of each picture plus noise of each trial, with another scale and level each session."""
    rng = np.random.default_rng(seed)
    n_trials = n_sessions * per_session
    n_images = n_trials // int(np.mean(counts)) + n_trials
    pool = np.repeat(np.arange(n_images), rng.choice(counts, n_images))[:n_trials]
    images = rng.permutation(pool)
    patterns = signal * rng.normal(size=(n_images, *SHAPE))
    trials = patterns[images] + noise * rng.normal(size=(n_trials, *SHAPE))
    sessions = [
        (10 * rng.normal(size=SHAPE) + np.exp(rng.normal(size=SHAPE)) * part).astype(np.float32)
        for part in np.split(trials, n_sessions)
    ]
    return sessions, np.split(images, n_sessions)


def plain_z(sessions):
    return np.concatenate([stats.zscore(one.astype(float), ddof=1) for one in sessions])


def plain_ncsnr(sessions, images):
    """NSD's definition with all data in memory."""
    z, ids = plain_z(sessions), np.concatenate(images)
    shown = [z[ids == one] for one in np.unique(ids)]
    noise = np.mean([np.var(one, axis=0, ddof=1) for one in shown if len(one) > 1], axis=0)
    return np.sqrt(np.maximum(1 - noise, 0)) / np.sqrt(noise)


def test_equals_the_definition():
    sessions, images = simulate()
    found = ncsnr(InMemory(sessions, images), 1)
    assert found.shape == SHAPE and found.dtype == np.float32
    np.testing.assert_allclose(found, plain_ncsnr(sessions, images), atol=2e-4)


@pytest.mark.parametrize("signal, noise", [(1, 2), (1, 1), (2, 1)])
def test_recovers_known_variances(signal, noise):
    """Within sampling error, over 60 voxels."""
    sessions, images = simulate(3, 10, 200, signal, noise, counts=(3,))
    found = ncsnr(InMemory(sessions, images), "subj01")
    spread = found.std() / np.sqrt(found.size)
    assert abs(found.mean() - signal / noise) < 4 * spread + 0.02
    ceiling = InMemory(sessions, images).noise_ceiling(1, 3)
    expected = signal**2 / (signal**2 + noise**2 / 3)
    np.testing.assert_allclose(np.median(ceiling), expected, atol=0.03)


def test_the_ceiling_is_met():
    """The mean of three repeats correlates with the true signal as the ceiling says (r^2)."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(3000, *SHAPE))
    images = np.concatenate([rng.permutation(3000) for _ in range(3)])
    trials = patterns[images] + 1.5 * rng.normal(size=(9000, *SHAPE))
    data = InMemory(np.split(trials, 6), np.split(images, 6))
    means = np.stack([trials[images == one].mean(0) for one in range(3000)])
    r = [
        stats.pearsonr(a, b)[0]
        for a, b in zip(means.reshape(3000, -1).T, patterns.reshape(3000, -1).T, strict=True)
    ]
    np.testing.assert_allclose(data.noise_ceiling(1, 3).ravel(), np.square(r), atol=0.04)
    whole = voxel_reliability(data, 1)
    # Spearman-Brown from halves of 2 and 1 repeats: between the reliabilities of 2 and of 3
    one, two = 1 / (1 + 1.5**2), 2 / (2 + 1.5**2)
    expected = 2 * np.sqrt(one * two) / (1 + np.sqrt(one * two))
    np.testing.assert_allclose(whole.mean(), expected, atol=0.01)


@pytest.mark.parametrize("counts", [(1, 2, 3, 4), (2,), (1, 2)])
def test_odd_and_even_repeats(counts):
    sessions, images = simulate(1, counts=counts)
    z, ids = plain_z(sessions), np.concatenate(images)
    shown = [z[ids == one] for one in np.unique(ids) if (ids == one).sum() > 1]
    odd = np.stack([one[0::2].mean(0) for one in shown])
    even = np.stack([one[1::2].mean(0) for one in shown])
    found = voxel_reliability(InMemory(sessions, images), 1)
    for place in ((0, 0, 0), (3, 1, 2), (2, 2, 4)):
        r = stats.pearsonr(odd[:, *place], even[:, *place])[0]
        np.testing.assert_allclose(found[place], 2 * r / (1 + r), atol=2e-4)


def test_several_passes_give_the_same(monkeypatch):
    sessions, images = simulate()
    whole = InMemory(sessions, images)
    expected = ncsnr(whole, 1), voxel_reliability(whole, 1)
    monkeypatch.setattr(reliability, "POOL", 10_000)
    parts = InMemory(sessions, images)
    np.testing.assert_array_equal(ncsnr(parts, 1), expected[0])
    np.testing.assert_array_equal(voxel_reliability(parts, 1), expected[1])
    assert parts.reads > 2 * whole.reads


def test_sums_are_given_up_when_the_last_repeat_came():
    """Ten sessions of other pictures each need no more places than one session."""
    rng = np.random.default_rng(0)
    images = [rng.permutation(np.repeat(np.arange(20), 2)) + 20 * s for s in range(10)]
    sessions = [rng.normal(size=(40, *SHAPE)) for _ in images]
    data = InMemory(sessions, images)
    assert reliability._make_plan(data, 1, None, halves=1).n_slots == 20
    np.testing.assert_allclose(ncsnr(data, 1), plain_ncsnr(sessions, images), atol=2e-4)


def test_one_split_alone():
    """The test pictures' trials change nothing, neither noise nor standardising."""
    sessions, images = simulate()
    held_out = {one: "test" for one in np.unique(np.concatenate(images))[::3]}
    data = InMemory(sessions, images, held_out)
    train = [[one not in held_out for one in part] for part in images]
    expected = plain_ncsnr(
        [one[keep] for one, keep in zip(sessions, train, strict=True)],
        [one[keep] for one, keep in zip(images, train, strict=True)],
    )
    found = ncsnr(data, 1, split="train")
    np.testing.assert_allclose(found, expected, atol=2e-4)
    for session, keep in zip(data.responses.values(), train, strict=True):
        session[~np.array(keep)] += 1000
    np.testing.assert_array_equal(ncsnr(data, 1, split="train"), found)


def test_outside_the_mask_and_silent_voxels():
    sessions, images = simulate()
    mask = np.zeros(SHAPE, bool)
    mask[1:] = True
    for session in sessions:
        session[:, 2, 1, 0] = 7
    for function in (ncsnr, voxel_reliability):
        found = function(InMemory(sessions, images, mask=mask), 1)
        assert not found[~mask].any() and found[2, 1, 0] == 0 and np.isfinite(found).all()
        assert found[mask].mean() > 0.1
    found = ncsnr(InMemory(sessions, images, mask=mask), 1)
    expected = plain_ncsnr([one[:, 3:] for one in sessions], images)
    np.testing.assert_allclose(found[3:], expected, atol=2e-4)


def test_noise_alone_is_floored():
    sessions, images = simulate(signal=0.0)
    found = ncsnr(InMemory(sessions, images), 1)
    assert (found >= 0).all() and (found == 0).mean() > 0.2
    reliable = voxel_reliability(InMemory(sessions, images), 1)
    assert (reliable >= -1).all() and abs(np.median(reliable)) < 0.15


def test_no_repeats():
    rng = np.random.default_rng(0)
    data = InMemory([rng.normal(size=(20, *SHAPE))], [np.arange(20)])
    assert ncsnr(data, 1) is None and voxel_reliability(data, 1) is None
    assert data.noise_ceiling(1) is None and data.reads == 0
    two = InMemory([rng.normal(size=(20, *SHAPE))], [[*range(18), 0, 1]])
    assert ncsnr(two, 1) is not None and voxel_reliability(two, 1) is None


def test_ceiling_is_computed_once():
    sessions, images = simulate()
    data = InMemory(sessions, images)
    first = data.noise_ceiling(1, 1)
    reads = data.reads
    np.testing.assert_allclose(
        first,
        plain_ncsnr(sessions, images) ** 2 / (plain_ncsnr(sessions, images) ** 2 + 1),
        atol=2e-4,
    )
    assert (data.noise_ceiling("1", [3, 3, 2]) >= first).all() and data.reads == reads


def test_unequal_numbers_of_repeats():
    """4 / (4 + mean(1, 1/2, 1/3)) by hand."""
    np.testing.assert_allclose(noise_ceiling([2.0], [1, 2, 3]), 4 / (4 + 11 / 18), rtol=1e-6)
    np.testing.assert_allclose(noise_ceiling([[1.0, 0.0]], 3), [[0.75, 0]])
    np.testing.assert_array_equal(noise_ceiling([2.0], [3, 3]), noise_ceiling([2.0], 3))
    for bad in (0, [3, 0], [], [np.nan]):
        with pytest.raises(DataError, match="n_repeats is .*expected 1 or more"):
            noise_ceiling([1.0], bad)
