"""The linear systems: their regressions against scikit-learn, their rescaling against arithmetic, what they learn and must not."""

import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge
from toy_brains import ToyBrains, identified

from neurovl.baselines import linear_maps
from neurovl.baselines.braincap import BrainCap
from neurovl.baselines.decoder import FrozenParts
from neurovl.baselines.linear_maps import Ridge, TrainingRows, folds
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.registry import LINEAR, find
from neurovl.baselines.rescaling import rescalings, weights_without
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError, MissingError

RESCALED = ("brain-diffuser", "unibrain", "braincap")
FORMS = pytest.mark.parametrize("n_voxels", [12, 90], ids=["primal", "dual"])


def recorded(n_voxels, n_pictures=20, repeats=3, noise=1.0, seed=0, n_targets=7):
    """Trials of one subject, and one feature of its pictures; in some order of trials."""
    rng = np.random.default_rng(seed)
    ids = [f"p{k:02d}" for k in range(n_pictures)]
    y = rng.normal(size=(n_pictures, n_targets)) + 5 * rng.normal(size=n_targets)
    which = rng.permutation(np.repeat(np.arange(n_pictures), repeats))
    x = y[which] @ rng.normal(size=(n_targets, n_voxels)) + noise * rng.normal(
        size=(len(which), n_voxels)
    )
    x = 3 + 2 * x
    repeat = np.array([np.sum(which[:i] == k) for i, k in enumerate(which)])
    mask = np.ones((n_voxels, 1, 1), bool)
    voxels = SubjectVoxels("subj01", x.astype(np.float32), np.array(ids)[which], repeat, mask, {})
    return voxels, PictureFeatures(ids, {"clip_image": y.astype(np.float32)})


def standardised(voxels, by):
    x = by.read().astype(float)
    return (voxels.read() - x.mean(0)) / x.std(0)


def targets_of(features, voxels):
    return features.of("clip_image", voxels.image_ids)


@FORMS
@pytest.mark.parametrize("intercept", [True, False], ids=["intercept", "none"])
@pytest.mark.parametrize("alpha", [1e-3, 30.0, 1e5])
@pytest.mark.parametrize("averaged", [False, True], ids=["single", "averaged"])
def test_one_penalty_is_scikit_learns_ridge(n_voxels, intercept, alpha, averaged):
    voxels, features = recorded(n_voxels)
    voxels = voxels.averaged() if averaged else voxels
    train, test = voxels.take(np.arange(15)), voxels.take(np.arange(15, len(voxels)))
    rows = TrainingRows(train, intercept=intercept)
    said = Ridge(rows, features, ["clip_image"], [alpha]).predict(test)["clip_image"]
    theirs = SklearnRidge(alpha=alpha, fit_intercept=intercept, solver="svd").fit(
        standardised(train, train), targets_of(features, train)
    )
    np.testing.assert_allclose(
        said, theirs.predict(standardised(test, train)), rtol=2e-4, atol=2e-5
    )


@FORMS
def test_rows_left_out_are_as_if_they_had_not_been_there(n_voxels):
    voxels, features = recorded(n_voxels)
    rows = TrainingRows(voxels)
    out = np.isin(voxels.image_ids, ["p03", "p11"])
    (weights,) = rows.weights(rows.x[out], [10.0], without=torch.as_tensor(out))
    z, y = standardised(voxels, voxels), targets_of(features, voxels)
    theirs = SklearnRidge(alpha=10.0).fit(z[~out], y[~out]).predict(z[out])
    said = weights.numpy() @ features.arrays["clip_image"]
    np.testing.assert_allclose(said, theirs, rtol=1e-4, atol=1e-5)


@FORMS
def test_each_target_has_the_penalty_that_predicts_other_pictures_best(n_voxels):
    alphas = [1.0, 100.0, 1e4]
    voxels, features = recorded(n_voxels, noise=8.0, n_targets=20)
    ridge = Ridge(TrainingRows(voxels), features, ["clip_image"], alphas, seed=3)
    z, y = standardised(voxels, voxels), targets_of(features, voxels)
    errors = np.zeros((3, 20))
    for fold in folds(20, seed=3):
        out = np.isin(voxels.image_ids, [f"p{k:02d}" for k in fold])
        for k, alpha in enumerate(alphas):
            said = SklearnRidge(alpha=alpha).fit(z[~out], y[~out]).predict(z[out])
            errors[k] += ((said - y[out]) ** 2).mean(0)
    chosen = ridge.chosen["clip_image"]
    assert len(set(chosen)) > 1
    np.testing.assert_array_equal(chosen, errors.argmin(0))
    said = ridge.predict(voxels)["clip_image"]
    for k in set(chosen):
        theirs = SklearnRidge(alpha=alphas[k]).fit(z, y).predict(z)
        np.testing.assert_allclose(
            said[:, chosen == k], theirs[:, chosen == k], rtol=1e-4, atol=1e-5
        )


def test_folds_are_all_pictures_once():
    dealt = folds(23, seed=1)
    assert sorted(np.concatenate(dealt)) == list(range(23)) and len(dealt) == linear_maps.FOLDS
    assert {len(fold) for fold in dealt} == {4, 5}
    assert len(folds(3, seed=1)) == 3


@FORMS
def test_a_penalty_of_nothing_with_dependent_and_constant_voxels_is_the_least_squares_fit(n_voxels):
    voxels, features = recorded(n_voxels, noise=0.1)
    values = voxels.read()
    values[:, 1], values[:, 2] = values[:, 0], 4
    voxels = voxels.with_values(values)
    said = Ridge(TrainingRows(voxels), features, ["clip_image"], [0.0]).predict(voxels)[
        "clip_image"
    ]
    z, y = values - values.mean(0), targets_of(features, voxels)
    theirs = z @ np.linalg.pinv(z.astype(float)) @ (y - y.mean(0)) + y.mean(0)
    np.testing.assert_allclose(said, theirs, rtol=1e-3, atol=1e-3)


@FORMS
def test_blocks_change_nothing(monkeypatch, n_voxels):
    voxels, features = recorded(n_voxels)

    def said():
        ridge = Ridge(TrainingRows(voxels), features, ["clip_image"], [1.0, 1e3])
        return ridge.predict(voxels)["clip_image"]

    whole = said()
    monkeypatch.setattr(linear_maps, "TARGETS", 2)
    monkeypatch.setattr(linear_maps, "COLUMNS", 5)
    np.testing.assert_allclose(said(), whole, rtol=1e-5)


def test_targets_stay_on_the_disk(tmp_path):
    """Neither the targets nor the weights, 48 and 40 million bytes, are ever held; of 4 rows 3.2 million are said."""
    voxels, _ = recorded(50, n_pictures=60)
    on_disk = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.float16, (60, 200, 1000))
    on_disk[:] = np.random.default_rng(0).normal(size=on_disk.shape)
    features = PictureFeatures([f"p{k:02d}" for k in range(60)], {"image_tokens": on_disk})
    tracemalloc.start()
    ridge = Ridge(TrainingRows(voxels.averaged()), features, ["image_tokens"], [10.0])
    said = ridge.predict(voxels.take(np.arange(4)))["image_tokens"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said.shape == (4, 200_000) and peak < 10e6


def test_features_come_in_blocks_as_they_come_whole():
    rng = np.random.default_rng(0)
    features = PictureFeatures(["a", "b", "c"], {"vae": rng.normal(size=(3, 2, 5)).astype("f2")})
    blocks = list(features.blocks("vae", ["c", "a", "c"], 4))
    assert [part for part, _ in blocks] == [slice(0, 4), slice(4, 8), slice(8, 10)]
    whole = np.concatenate([block for _, block in blocks], 1).reshape(3, 2, 5)
    np.testing.assert_array_equal(whole, features.of("vae", ["c", "a", "c"]))
    with pytest.raises(MissingError, match="no feature 'clip_text'"):
        next(features.blocks("clip_text", ["a"], 4))
    with pytest.raises(MissingError, match="picture d has no features"):
        next(features.blocks("vae", ["d"], 4))


@FORMS
@pytest.mark.parametrize("averaged", [False, True], ids=["single", "averaged"])
def test_weights_without_a_picture_are_those_of_a_fit_without_it(n_voxels, averaged):
    trials, features = recorded(n_voxels)
    averages = trials.averaged()
    asked = averages if averaged else trials
    rows = TrainingRows(averages)
    place = np.searchsorted(averages.image_ids, asked.image_ids)
    said = weights_without(rows, asked, place, 10.0).numpy() @ features.arrays["clip_image"]
    z, y = standardised(averages, averages), targets_of(features, averages)
    for row, picture in enumerate(place):
        rest = np.arange(len(y)) != picture
        theirs = SklearnRidge(alpha=10.0).fit(z[rest], y[rest])
        x = standardised(asked, averages)[row : row + 1]
        np.testing.assert_allclose(said[row], theirs.predict(x)[0], rtol=1e-3, atol=1e-4)


def test_rescaling_is_the_arithmetic_of_its_formula():
    """Penalty by the number of voxels, fit to averages, deviation over held-out pictures, and means of two between one and three."""
    brains = ToyBrains(noise=2.0)
    train, test = brains.train["subj01"], brains.test["subj01"]
    system = BrainCap(token_penalty=900.0, reference_voxels=300)
    system.fit({"subj01": train}, brains.features, FrozenParts())
    averages = train.averaged()
    y = brains.features.of("patch_tokens", averages.image_ids).reshape(len(averages), -1)
    z, singles = standardised(averages, averages), standardised(train, averages)
    alpha = 900 * train.n_voxels / 300
    variance = {1: np.zeros(y.shape[1]), 3: np.zeros(y.shape[1])}
    for k, picture in enumerate(averages.image_ids):
        rest = np.arange(len(y)) != k
        model = SklearnRidge(alpha=alpha).fit(z[rest], y[rest])
        variance[3] += (model.predict(z[k : k + 1])[0] - y.mean(0)) ** 2 / len(z)
        mine = singles[train.image_ids == picture]
        variance[1] += ((model.predict(mine) - y.mean(0)) ** 2).sum(0) / len(singles)
    signal = (3 * variance[3] - variance[1]) / 2
    variance[2] = signal + (variance[1] - signal) / 2
    model = SklearnRidge(alpha=alpha).fit(z, y)
    two = test.take(test.repeats < 2).averaged()
    for k, rows in ((1, test.first()), (2, two), (3, test.averaged())):
        assert set(rows.n_averaged) == {k}
        plain = model.predict(standardised(rows, averages))
        expected = y.mean(0) + (plain - y.mean(0)) * y.std(0) / np.sqrt(variance[k])
        said = system.predict(rows)["patch_tokens"].reshape(len(rows), -1)
        np.testing.assert_allclose(said, expected, rtol=1e-3, atol=1e-3)
        many = rows.with_values(rows.values, n_averaged=np.full(len(rows), 100 * k))
        beyond = system.predict(many)["patch_tokens"].reshape(len(rows), -1)
        shrunk = np.sqrt(variance[k] / variance[3])
        np.testing.assert_allclose(
            beyond - y.mean(0), (said - y.mean(0)) * shrunk, rtol=1e-3, atol=1e-3
        )
    assert np.all(variance[1] > 1.02 * variance[3])


@pytest.mark.parametrize("protocol", ["first", "averaged"])
def test_rescaled_predictions_of_new_pictures_spread_as_their_targets(protocol):
    brains = ToyBrains(n_train=300, n_test=300, noise=8.0)
    system = find("brain-diffuser")(reference_voxels=15724 * 20)
    system.fit(brains.train, brains.features, FrozenParts())
    rows = getattr(brains.test["subj01"], protocol)()
    said = system.predict(rows)
    for name in said:
        ratio = said[name].std(0) / brains.features.of(name, rows.image_ids).std(0)
        assert np.median(ratio) == pytest.approx(1, abs=0.08)
    other = system.predict(rows.with_values(rows.values, n_averaged=4 - rows.n_averaged))
    assert abs(np.median(other["vae"].std(0) / said["vae"].std(0)) - 1) > 0.1


def test_targets_that_do_not_vary_are_said_as_they_are():
    voxels, features = recorded(12)
    features.arrays["clip_image"][:, 2] = 7
    averages = voxels.averaged()
    ridge = Ridge(TrainingRows(averages), features, ["clip_image"], [10.0])
    rescaling = rescalings(ridge, averages, voxels)["clip_image"]
    said = ridge.predict(voxels)["clip_image"]
    rescaling.apply(said, voxels.n_averaged)
    np.testing.assert_allclose(said[:, 2], 7, rtol=1e-5)


@pytest.fixture(scope="module")
def brains():
    return ToyBrains()


@pytest.fixture(scope="module")
def systems(brains):
    return {
        (name, published): find(name)(as_published=published).fit(
            brains.train, brains.features, FrozenParts()
        )
        for name in LINEAR
        for published in (False, True)
    }


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("published", [False, True], ids=["main", "as published"])
@pytest.mark.parametrize("protocol", ["first", "averaged"])
def test_it_decodes_new_pictures(brains, systems, name, published, protocol):
    system = systems[name, published]
    for test in brains.test.values():
        rows = getattr(test, protocol)()
        said = system.predict(rows)
        assert set(said) == set(system.needs)
        for feature, values in said.items():
            true = brains.features.of(feature, rows.image_ids)
            assert values.shape == true.shape and values.dtype == np.float32
            assert identified(values, true) > 0.8, feature


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("published", [False, True], ids=["main", "as published"])
def test_it_falls_to_chance_on_the_brains_of_other_pictures(brains, systems, name, published):
    """Test brains dealt out among the pictures, and training brains too: mean over ten orders and all features."""
    rows = brains.test["subj01"].averaged()
    scores = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(rows))
        said = systems[name, published].predict(rows.with_values(rows.values[order]))
        scores.append(
            [identified(v, brains.features.of(k, rows.image_ids)) for k, v in said.items()]
        )
    assert np.mean(scores) == pytest.approx(0.5, abs=0.06)
    scores = []
    train = brains.train["subj01"]
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(train))
        system = find(name)(as_published=published)
        shuffled = {"subj01": train.with_values(train.values[order])}
        said = system.fit(shuffled, brains.features, FrozenParts()).predict(rows)
        scores.append(
            [identified(v, brains.features.of(k, rows.image_ids)) for k, v in said.items()]
        )
    assert np.mean(scores) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", LINEAR)
def test_no_row_depends_on_the_others_but_where_it_was_published_so(brains, systems, name):
    rows = brains.test["subj01"].averaged()
    part = np.arange(5)
    for published in (False, True):
        whole = systems[name, published].predict(rows)
        alone = systems[name, published].predict(rows.take(part))
        leaks = published and name in RESCALED
        for feature in whole:
            near = np.allclose(alone[feature], whole[feature][part], rtol=1e-4, atol=1e-5)
            assert near != leaks, feature


@pytest.mark.parametrize("name", RESCALED)
def test_as_published_has_mean_and_deviation_of_the_training_targets_on_the_test_rows(
    brains, systems, name
):
    rows = brains.test["subj02"].first()
    for feature, said in systems[name, True].predict(rows).items():
        y = brains.features.of(feature, np.unique(brains.train["subj02"].image_ids))
        np.testing.assert_allclose(said.mean(0), y.mean(0), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(said.std(0), y.std(0), rtol=1e-3)
        twice = systems[name, True].predict(rows.take([0, 0]))[feature]
        np.testing.assert_allclose(twice, [y.mean(0)] * 2, rtol=1e-3, atol=1e-3)
    with pytest.raises(DataError, match="1 row of voxels"):
        systems[name, True].predict(rows.take([0]))


def test_without_an_intercept_takagis_predictions_lack_the_mean(brains, systems):
    """Of all features here the mean is 1."""
    rows = brains.train["subj01"]
    for name, said in systems["takagi", True].predict(rows).items():
        mean = brains.features.of(name, rows.image_ids).mean(0)
        np.testing.assert_allclose(said.mean(0), 0, atol=1e-3)
        with_it = systems["takagi", False].predict(rows)[name]
        np.testing.assert_allclose(with_it.mean(0), mean, atol=1e-3)
        assert np.abs(mean).max() > 0.5


def test_takagi_reads_the_latent_from_early_and_the_text_from_ventral_areas(brains, systems):
    rows = brains.test["subj01"].averaged()
    whole = systems["takagi", False].predict(rows)
    values = rows.values.copy()
    values[:, ~rows.rois["early"]] = 0
    early = systems["takagi", False].predict(rows.with_values(values))
    np.testing.assert_array_equal(early["vae"], whole["vae"])
    assert np.ptp(early["text_states"], 0).max() < 1e-4
    assert not np.allclose(early["patch_tokens"], whole["patch_tokens"])
    train = brains.train["subj01"]
    bare = SubjectVoxels("s", train.values, train.image_ids, train.repeats, train.mask, {})
    with pytest.raises(DataError, match="no voxel in early"):
        find("takagi")().fit({"s": bare}, brains.features, FrozenParts())


def test_what_the_generators_get(brains, systems):
    rows = brains.test["subj01"].first()
    said = {name: systems[name, False].predict(rows) for name in LINEAR}
    got = {name: systems[name, False].conditions(said[name]) for name in LINEAR}
    assert {name: one.strength for name, one in got.items()} == {
        "takagi": 0.8,
        "brain-diffuser": 0.75,
        "unibrain": 0.75,
        "braincap": 0.6,
    }
    for name, one in got.items():
        assert one.start is said[name]["vae"] and one.samples == 1 and not one.kept_by
        assert one.says_caption == (name == "braincap") and one.prompts is None
        speaks = systems[name, False].speaks_from(said[name])
        assert (speaks is None) == (name == "brain-diffuser")
        assert speaks is None or speaks is said[name]["patch_tokens"]
    assert got["takagi"].image is got["braincap"].image is got["braincap"].text is None
    assert got["takagi"].text is said["takagi"]["text_states"]
    for name in ("brain-diffuser", "unibrain"):
        assert got[name].image is said[name]["clip_image"]
        assert got[name].text is said[name]["text_states"]


@pytest.mark.parametrize("name", LINEAR)
def test_parameters_are_counted_and_settings_are_known(brains, systems, name):
    system = systems[name, False]
    expected, regions = 0, {"vae": "early", "text_states": "ventral"}
    for train in brains.train.values():
        for feature in system.needs:
            region = regions.get(feature) if name == "takagi" else None
            v = train.rois[region].sum() if region else train.n_voxels
            expected += (v + 1) * int(np.prod(brains.features.shape(feature)))
    assert system.n_parameters == expected
    assert system.n_models == len(brains.train) * len(system.needs)
    assert set(system.search) <= set(system.defaults)
    for setting, choices in system.search.items():
        assert system.defaults[setting] in choices and len(set(choices)) == len(choices)


@pytest.mark.parametrize("name", LINEAR)
def test_its_card_settles_everything(name):
    card = find(name).card
    told = {choice.what for choice in card.choices}
    needed = "input,map,loss,training,what it predicts,generator,selection,number of models"
    assert told >= set(needed.split(",")) and len(told) == len(card.choices)
    assert card.title and card.reference and card.as_published and card.lacking
    assert card.code.startswith("https://github.com/") or name == "unibrain"
    for choice in card.choices:
        assert choice.source in ("code", "paper", "chosen")
        assert choice.published or (choice.here and choice.source == "chosen")


def test_bad_input_is_named(brains, systems):
    test = brains.test["subj01"]
    other = SubjectVoxels("subj09", test.values, test.image_ids, test.repeats, test.mask, {})
    with pytest.raises(DataError, match="braincap was not fitted to subj09"):
        systems["braincap", False].predict(other)
    fewer = test.mask.copy()
    fewer[tuple(np.argwhere(fewer)[0])] = False
    less = SubjectVoxels("subj01", test.values[:, 1:], test.image_ids, test.repeats, fewer, {})
    with pytest.raises(DataError, match=f"expected the {test.n_voxels} that"):
        systems["braincap", False].predict(less)
    with pytest.raises(DataError, match="trials of 1 pictures"):
        TrainingRows(test.only(test.image_ids[:1]))
    with pytest.raises(DataError, match="NaN"):
        TrainingRows(test.with_values(np.full_like(test.values, np.nan)))


def test_a_mean_knows_how_many_trials_it_is_of(brains):
    test = brains.test["subj01"]
    some = test.take((test.repeats == 0) | (test.image_ids == test.image_ids[0]))
    averages = some.averaged()
    assert averages.n_averaged.tolist() == [3] + [1] * (len(averages) - 1)
    assert averages.take([0, 1]).n_averaged.tolist() == [3, 1]
    assert averages.with_values(averages.values).averaged().n_averaged[0] == 3
    assert set(test.first().n_averaged) == {1}
    with pytest.raises(DataError, match="40 pictures, 40 repeats, 1 numbers of trials"):
        averages.with_values(averages.values, n_averaged=np.ones(1, int))
