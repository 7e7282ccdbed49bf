"""Encoding models against sklearn, the joint Gaussian's precision matrix, and worlds whose posterior mean is known."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from neurovl.encoder.encoding_models import (
    PRIOR,
    RIDGE,
    SHRINKAGE,
    ResponseModel,
    TargetBasis,
)
from neurovl.errors import DataError


def drawn(n, size, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)
    return torch.from_numpy(mixed).float()


def test_features_are_standardised_and_uncorrelated_over_the_pictures():
    targets = drawn(200, 30)
    f = TargetBasis.fit(targets, 12, torch.ones(30)).features(targets).double()
    assert f.shape == (200, 12)
    torch.testing.assert_close(f.mean(0), torch.zeros(12).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(f.T @ f / 200, torch.eye(12).double(), atol=1e-3, rtol=0)


def test_the_basis_is_that_of_principal_components():
    targets = drawn(200, 30)
    basis = TargetBasis.fit(targets, 12, torch.ones(30))
    pca = PCA(12).fit(targets.double().numpy())
    rebuilt = basis.mean + basis.features(targets) @ basis.components
    expected = pca.inverse_transform(pca.transform(targets.double().numpy()))
    np.testing.assert_allclose(rebuilt, expected, atol=1e-3)
    whitened = pca.transform(targets.double().numpy()) / (pca.singular_values_ / 200**0.5)
    np.testing.assert_allclose(np.abs(basis.features(targets).numpy()), np.abs(whitened), atol=1e-2)


@pytest.mark.parametrize("weight", [1.0, 1 / 64, 0.0])
def test_targets_are_rebuilt_exactly_from_all_components(weight):
    """Also those that do not count, where they are linear in those that do."""
    one, rng = drawn(90, 8), np.random.default_rng(1)
    linear = one @ torch.from_numpy(rng.normal(size=(8, 5))).float()
    targets = torch.cat([one, linear], dim=1)
    weights = torch.tensor([1.0] * 8 + [weight] * 5)
    basis = TargetBasis.fit(targets, 99, weights)
    assert len(basis.components) == 8
    rebuilt = basis.mean + basis.features(targets) @ basis.components
    torch.testing.assert_close(rebuilt, targets, atol=2e-3, rtol=1e-3)


def test_the_weights_decide_which_values_the_components_keep():
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.normal(size=(300, 10))).float()
    basis = TargetBasis.fit(targets, 5, torch.tensor([100.0] * 5 + [1.0] * 5))
    lost = (targets - basis.mean - basis.features(targets) @ basis.components).var(0)
    assert (lost[:5] < 0.05).all() and (lost[5:] > 0.8).all()


@pytest.mark.parametrize("weight", [1.0, 1 / 64])
def test_a_basis_is_made_again_from_what_an_encoder_keeps(weight):
    targets, weights = drawn(200, 20), torch.tensor([1.0] * 8 + [weight] * 12)
    basis = TargetBasis.fit(targets, 6, weights)
    again = TargetBasis.of(basis.mean, basis.components, weights)
    torch.testing.assert_close(again.features(targets), basis.features(targets), atol=1e-3, rtol=0)


def test_eight_categories_span_seven_components():
    categories = drawn(8, 40)
    basis = TargetBasis.fit(categories[torch.arange(96) % 8], 64, torch.ones(40))
    assert basis.components.shape == (7, 40)
    rebuilt = basis.mean + basis.features(categories) @ basis.components
    torch.testing.assert_close(rebuilt, categories, atol=1e-3, rtol=1e-3)


def test_targets_that_are_all_the_same_are_refused():
    with pytest.raises(DataError, match="all the same.*encoder.readout"):
        TargetBasis.fit(drawn(1, 40).expand(20, 40) * 100, 8, torch.ones(40))


def world(n, k=6, v=25, seed=0, correlated=True):
    """Features, weights, mean, noise covariance and voxels of a linear Gaussian world."""
    rng = np.random.default_rng(seed)
    f, b, m = rng.normal(size=(n, k)), rng.normal(size=(k, v)) * 0.4, rng.normal(size=v)
    root = rng.normal(size=(v, v)) * 0.3 if correlated else np.zeros((v, v))
    root = root + np.diag(rng.uniform(0.5, 2, v))
    x = m + f @ b + rng.normal(size=(n, v)) @ root
    return f, b, m, root.T @ root, x


def test_the_model_is_sklearn_s_ridge():
    """With an intercept, though this subject's pictures are not the average ones."""
    f, _, _, _, x = world(400)
    model = ResponseModel(x, f + 0.7)
    ridge = Ridge(alpha=RIDGE * f.shape[1]).fit(f + 0.7, x)
    np.testing.assert_allclose(model.weights, ridge.coef_.T, atol=1e-4)
    np.testing.assert_allclose(model.mean, ridge.intercept_, atol=1e-4)
    np.testing.assert_allclose(model.residuals, x - ridge.predict(f + 0.7), atol=1e-4)


def test_the_decoder_is_the_conditional_mean_of_the_joint_gaussian():
    """By blocks of the precision matrix: E[f | x] = - L_ff^-1 L_fx (x - m)."""
    f, _, _, _, x = world(400)
    ridge = Ridge(alpha=RIDGE * f.shape[1]).fit(f, x)
    e, b = x - ridge.predict(f), ridge.coef_.T
    noise = (1 - SHRINKAGE) * np.cov(e.T, bias=True) + SHRINKAGE * np.diag(e.var(0))
    joint = np.linalg.inv(np.block([[np.eye(6), b], [b.T, b.T @ b + noise]]))
    expected = -(x - ridge.intercept_) @ np.linalg.solve(joint[:6, :6], joint[:6, 6:]).T
    weights, offset = ResponseModel(x, f).decoder()
    np.testing.assert_allclose(offset + x @ weights, expected, atol=1e-3)


def test_other_subjects_noise_counts_like_some_trials():
    """As if that many trials of exactly this covariance had been measured besides."""
    f, _, _, noise, x = world(200)
    ridge = Ridge(alpha=RIDGE * f.shape[1]).fit(f, x)
    e, b = x - ridge.predict(f), ridge.coef_.T
    extra = np.linalg.cholesky(
        noise * PRIOR
    ).T  # 25 rows, the sum of whose squares is PRIOR times the noise
    every = np.concatenate([e, extra])
    pooled = every.T @ every / (200 + PRIOR)
    pooled = (1 - SHRINKAGE) * pooled + SHRINKAGE * np.diag(np.diag(pooled))
    expected = np.linalg.solve(b.T @ b + pooled, b.T)
    others = np.zeros((26, 26))
    kept = np.arange(26) != 4
    others[np.ix_(kept, kept)] = noise
    weights, _ = ResponseModel(np.insert(x, 4, 0.0, axis=1), f, others).decoder()
    np.testing.assert_allclose(weights[kept], expected, atol=1e-4)


def test_with_many_trials_the_decoder_is_the_world_s_posterior_mean():
    f, b, m, noise, x = world(60_000, correlated=False)
    # In information form, from the world's own values.
    precise = np.linalg.inv(noise)
    posterior = np.linalg.solve(np.eye(6) + b @ precise @ b.T, b @ precise @ (x[:500] - m).T).T
    weights, offset = ResponseModel(x, f).decoder()
    ours = offset + x[:500] @ weights
    assert np.sqrt(np.mean((ours - posterior) ** 2) / np.mean(posterior**2)) < 0.03
    # No linear estimate has a smaller error.
    assert np.mean((ours - f[:500]) ** 2) < 1.01 * np.mean((posterior - f[:500]) ** 2)


def test_voxels_that_are_not_the_subject_s_have_no_weight():
    f, _, _, _, x = world(300)
    wide = np.insert(x, [3, 10], 0.0, axis=1)
    weights, offset = ResponseModel(wide, f).decoder()
    expected, same = ResponseModel(x, f).decoder()
    assert np.array_equal(np.flatnonzero((weights == 0).all(1)), [3, 11])
    np.testing.assert_allclose(np.delete(weights, [3, 11], axis=0), expected, atol=1e-6)
    np.testing.assert_allclose(offset, same, atol=1e-6)


def test_the_training_trials_are_left_as_they_are():
    f, _, _, _, x = world(50)
    x = x.astype(np.float32)
    before = x.copy()
    ResponseModel(x, f)
    np.testing.assert_array_equal(x, before)


def test_a_subject_without_a_voxel_that_varies_is_refused():
    with pytest.raises(DataError, match="all 25 voxels are constant over 30 training trials"):
        ResponseModel(np.full((30, 25), 1.5), world(30)[0])


@pytest.mark.parametrize("repeats", [1, 3])
def test_drawn_responses_have_the_model_s_mean_and_the_noise_of_their_repeats(repeats):
    f, _, _, _, x = world(300)
    model = ResponseModel(np.insert(x, 4, 0.0, axis=1), f)
    rng = np.random.default_rng(3)
    n = 40_000
    got = model.sample(np.tile(f[:1], (n, 1)), np.full(n, repeats), rng.random((n, repeats)))
    assert got.dtype == np.float32 and (got[:, 4] == 0).all()
    got = np.delete(got, 4, axis=1).astype(np.float64)
    ridge = Ridge(alpha=RIDGE * f.shape[1]).fit(f, x)
    noise = np.cov((x - ridge.predict(f)).T, bias=True) / repeats
    spread = np.sqrt(np.diag(noise))
    assert (np.abs(got.mean(0) - ridge.predict(f[:1])[0]) < 5 * spread / n**0.5).all()
    # A covariance of n draws is off by about s_i s_j / sqrt(n).
    assert (np.abs(np.cov(got.T) - noise) < 7 * np.outer(spread, spread) / n**0.5).all()


def test_each_drawn_response_has_its_own_number_of_repeats():
    f, _, _, _, x = world(300)
    model = ResponseModel(x, f)
    repeats = np.resize([1, 2, 3], 30_000)
    got = model.sample(np.zeros((30_000, 6)), repeats, np.random.default_rng(0).random((30_000, 3)))
    for k in (1, 2, 3):
        ratio = got[repeats == k].var(0) / model.residuals.var(0)
        np.testing.assert_allclose(ratio, 1 / k, rtol=0.1)


def test_components_of_large_targets_are_those_of_the_exact_decomposition(monkeypatch):
    rng = torch.Generator().manual_seed(1)
    scale = 0.8 ** torch.arange(150)
    targets = torch.randn(400, 150, generator=rng) * scale @ torch.randn(150, 150, generator=rng)
    weights = torch.rand(150, generator=rng) + 0.5
    exact = TargetBasis.fit(targets, 12, weights)
    monkeypatch.setattr("neurovl.encoder.encoding_models.EXACT", 50)
    state = torch.random.get_rng_state()
    found = TargetBasis.fit(targets, 12, weights)
    assert torch.equal(state, torch.random.get_rng_state())
    again = TargetBasis.fit(targets, 12, weights)
    assert torch.equal(found.components, again.components)
    a, b = exact.features(targets), found.features(targets)
    sign = (a * b).mean(0).sign()
    torch.testing.assert_close(a, b * sign, atol=2e-3, rtol=0)
    torch.testing.assert_close(
        found.components * sign[:, None], exact.components, atol=2e-3, rtol=1e-3
    )


def test_too_many_voxels_for_their_covariance_are_refused(monkeypatch):
    f, _, _, _, x = world(30)
    monkeypatch.setattr("neurovl.encoder.encoding_models.MOST_VOXELS", x.shape[1] - 1)
    with pytest.raises(DataError, match="off_mask to own"):
        ResponseModel(x, f)
