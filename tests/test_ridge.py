"""The ridge baseline against scikit-learn and simulated weights."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toy_store import ToyStore

from neurovl import pipeline
from neurovl.baselines.ridge import RidgeDecoder
from neurovl.errors import DataError
from neurovl.evaluation import embeddings
from neurovl.settings.profile_files import profile_from_dict


def simulated(n_images=40, n_voxels=15, n_targets=6, noise=1.0, seed=0):
    """Three noisy repeats of voxels that are linear in the targets."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_images, n_targets))
    groups = np.repeat(np.arange(n_images), 3)
    voxels = latent @ rng.normal(size=(n_targets, n_voxels))
    X = voxels[groups] + noise * rng.normal(size=(3 * n_images, n_voxels))
    return 5 + 2 * X, latent[groups] + 3, groups


@pytest.mark.parametrize("n_voxels", [15, 200], ids=["primal", "kernel"])
@pytest.mark.parametrize("alpha", [0.5, 300.0])
def test_one_penalty_is_scikit_learns_ridge(n_voxels, alpha):
    X, y, groups = simulated(n_voxels=n_voxels)
    ours = RidgeDecoder(alphas=[alpha]).fit(X, y, groups)
    theirs = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(X, y)
    np.testing.assert_allclose(ours.predict(X[:9]), theirs.predict(X[:9]), rtol=1e-6)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y))


@pytest.mark.parametrize("n_voxels", [15, 200], ids=["primal", "kernel"])
def test_penalties_are_chosen_across_images(n_voxels):
    """The same choice as an explicit loop over penalties and grouped folds."""
    alphas = [0.1, 10.0, 1000.0, 1e5]
    X, y, groups = simulated(n_voxels=n_voxels, noise=3.0)
    ours = RidgeDecoder(alphas=alphas, n_folds=4).fit(X, y, groups)
    Z = StandardScaler().fit_transform(X)
    errors = np.zeros((len(alphas), y.shape[1]))
    for train, test in GroupKFold(4).split(Z, groups=groups):
        for a, alpha in enumerate(alphas):
            fold = Ridge(alpha=alpha).fit(Z[train], y[train])
            errors[a] += ((fold.predict(Z[test]) - y[test]) ** 2).mean(axis=0)
    np.testing.assert_allclose(ours.best_alphas_, np.asarray(alphas)[errors.argmin(axis=0)])


def test_repeats_can_be_averaged_and_their_order_does_not_matter():
    X, y, groups = simulated()
    order = np.random.default_rng(1).permutation(len(X))
    names = np.asarray([f"image{g:02d}" for g in groups])
    ours = RidgeDecoder(alphas=[10.0], average_repeats=True).fit(X[order], y[order], names[order])
    Xm, ym = X.reshape(40, 3, -1).mean(axis=1), y[::3]
    theirs = make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(Xm, ym)
    np.testing.assert_allclose(ours.predict(X[:5]), theirs.predict(X[:5]), rtol=1e-6)


def test_it_decodes_new_images_and_falls_to_the_mean_on_noise():
    from neurovl.metrics import two_way

    X, y, groups = simulated(n_images=90, noise=0.5)
    train = groups < 60
    model = RidgeDecoder().fit(X[train], y[train], groups[train])
    assert two_way(model.predict(X[~train])[::3], y[~train][::3]).mean() > 0.9
    rng = np.random.default_rng(2)
    noise = RidgeDecoder().fit(rng.normal(size=X.shape)[train], y[train], groups[train])
    assert noise.score(rng.normal(size=X[~train].shape), y[~train]) < 0.05


def test_half_precision_and_constant_voxels():
    X, y, groups = simulated()
    X[:, 3] = 7
    X = X.astype(np.float16)
    model = RidgeDecoder().fit(X, y, groups)
    assert model.predict(X).dtype == np.float32
    assert np.isfinite(model.predict(X)).all()
    np.testing.assert_allclose(model.coef_[3], 0, atol=1e-6)


def test_batches_of_targets_change_nothing():
    X, y, groups = simulated()
    whole = RidgeDecoder().fit(X, y, groups).predict(X)
    parts = RidgeDecoder(n_targets_batch=2).fit(X, y, groups).predict(X)
    np.testing.assert_allclose(parts, whole)


def test_bad_input_is_named():
    X, y, groups = simulated()
    with pytest.raises(DataError, match="120 trials of voxels, 119 of targets"):
        RidgeDecoder().fit(X, y[1:], groups)
    with pytest.raises(DataError, match="trials of one image"):
        RidgeDecoder().fit(X, y, np.zeros(len(X)))
    with pytest.raises(DataError, match="hold NaN"):
        RidgeDecoder().fit(np.full_like(X, np.nan), y, groups)
    with pytest.raises(DataError, match="fitted on 15 voxels and got 4"):
        RidgeDecoder().fit(X, y, groups).predict(X[:, :4])


def test_own_voxels_are_those_that_the_subject_measured_in_the_order_of_the_trials(monkeypatch):
    monkeypatch.setattr(embeddings, "AT_A_TIME", 7)
    store = ToyStore()
    rows = np.flatnonzero(store.trials.subject == "b")[::-1]
    found = embeddings.own_voxels(store, rows, store.own["b"])
    assert found.shape == (len(rows), store.own["b"].sum()) and found.shape[1] < store.n_voxels
    assert np.array_equal(found, store.voxels_at(rows)[:, store.own["b"]])


@pytest.mark.parametrize("off_mask", ["keep", "own"])
def test_the_run_s_ridge_reads_the_subject_s_own_voxels_alone(tiny_nsd, tmp_path, off_mask):
    profile = profile_from_dict(
        {
            "name": "mine",
            "compute": {"device": "cpu"},
            "preprocessing": {"subjects": [1], "patches": [5], "off_mask": off_mask},
        }
    )
    run = pipeline.start(tiny_nsd, tmp_path / "run", profile)
    pipeline.write_tokens(run)
    pipeline.embed_targets(run)
    measured = run.store.measured(1)
    # Of one subject's region only what surrounds its voxels is stored besides, and 'own' leaves that out.
    assert 0 < measured.sum() <= len(measured) - (off_mask == "keep")
    assert embeddings.ridge_of(run, "subj01").n_features_in_ == measured.sum()
