"""MindEye, DREAM and MindBridge: losses by their formulas, a prior that needs its condition, toy brains and shuffled ones."""

import copy
import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import Ridge
from toy_brains import ToyBrains, identified

from neurovl.baselines import repeat_batches
from neurovl.baselines.colour_ridge import fit_colour_ridge
from neurovl.baselines.contrastive import Mixture, bimixco_loss, mixco, softclip_loss
from neurovl.baselines.decoder import FrozenParts
from neurovl.baselines.diffusion_prior import DiffusionPrior, cosine_schedule
from neurovl.baselines.dream import Dream
from neurovl.baselines.mindbridge import MindBridge
from neurovl.baselines.mindeye import MindEye
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import RepeatBatches
from neurovl.baselines.subject_bridge import pooled, reading_loss
from neurovl.errors import DataError
from neurovl.training.loop import WHOLE, Schedule
from neurovl.training.state import TrainingState

SMALL = {
    MindEye: dict(
        width=48,
        blocks=1,
        projector=16,
        dropout=0.2,
        prior_layers=1,
        prior_steps=5,
        prior_skip=True,
        prior_weight=3.0,
        lr=5e-3,
        epochs=40,
        batch_size=60,
        low_width=48,
        low_channels=32,
        low_dropout=0.2,
        low_lr=1e-2,
        low_epochs=40,
        low_batch_size=60,
    ),
    Dream: dict(width=48, blocks=1, projector=16, dropout=0.2, lr=5e-3, epochs=60, batch_size=60),
    MindBridge: dict(
        length=48,
        width=48,
        adapter=8,
        blocks=1,
        dropout=0.2,
        lr=5e-3,
        epochs=50,
        new_subject_epochs=50,
        batch_size=60,
    ),
}
SAYS = {
    MindEye: ("clip_image", "image_tokens", "vae", "retrieval"),
    Dream: ("clip_text", "clip_image", "vae", "palette"),
    MindBridge: ("image_tokens", "clip_image", "text_states"),
}
TRUE = {"retrieval": "image_tokens"}
SYSTEMS = list(SMALL)


def small(system, **changed):
    return system(**(SMALL[system] | {"precision": "no"} | changed))


@pytest.fixture(scope="module")
def toy():
    """Toy brains whose features hang together as CLIP's do: the first token is the embedding, texts lie beside pictures."""
    toy = ToyBrains()
    arrays = dict(toy.features.arrays)
    image = arrays["clip_image"]
    tokens = np.concatenate([image[:, None], arrays["image_tokens"][:, 1:]], 1)
    length = np.linalg.norm(image, axis=1)[:, None, None]
    arrays |= {"image_tokens": tokens / length, "clip_text": image - [4, 0, 0, 2, 0, 0]}
    toy.features = PictureFeatures(toy.features.image_ids, arrays)
    return toy


@pytest.fixture(scope="module")
def fitted(toy):
    return {system: small(system).fit(toy.train, toy.features, FrozenParts()) for system in SYSTEMS}


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_bimixco_is_its_formula_for_a_batch_mixed_by_hand():
    rng = np.random.default_rng(0)
    said, true = rng.normal(size=(2, 4, 6))
    partner, share, temperature = np.array([2, 0, 3, 1]), np.array([0.7, 1.0, 0.2, 0.5]), 0.1
    cosines = unit(said) @ unit(true).T / temperature
    expected = 0.0
    for i in range(4):
        for j in range(4):
            belongs = share[i] * (i == j) + (1 - share[i]) * (partner[i] == j)
            expected -= belongs * log_softmax(cosines[i])[j] / 8
            expected -= belongs * log_softmax(cosines[:, j])[i] / 8
    mixture = Mixture(
        torch.zeros(4, 1), torch.tensor(partner), torch.tensor(share, dtype=torch.float32)
    )
    said, true = torch.tensor(said), torch.tensor(true)
    assert float(bimixco_loss(said, true, temperature, mixture)) == pytest.approx(
        expected, rel=1e-5
    )
    alone = -np.mean(np.diag(log_softmax(cosines, 1)) + np.diag(log_softmax(cosines, 0))) / 2
    assert float(bimixco_loss(said, true, temperature)) == pytest.approx(alone, rel=1e-5)


def test_mixed_voxels_are_shares_of_two_rows_and_about_half_are_left_alone():
    torch.manual_seed(0)
    batch = torch.randn(400, 3)
    mixture = mixco(batch)
    other, share = batch[mixture.partner], mixture.share[:, None]
    assert torch.allclose(mixture.voxels, share * batch + (1 - share) * other)
    assert sorted(mixture.partner.tolist()) == list(range(400))
    assert float((mixture.share == 1).float().mean()) == pytest.approx(0.5, abs=0.1)
    drawn = mixture.share[mixture.share < 1]  # Beta(.15, .15): mean .5, variance 1 / (4 * 1.3)
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(drawn.var()) == pytest.approx(1 / 5.2, abs=0.03)


def test_softclip_is_its_formula():
    rng = np.random.default_rng(1)
    said, true = rng.normal(size=(2, 5, 2, 3))
    a, b = unit(said.reshape(5, 6)), unit(true.reshape(5, 6))
    soft = softmax(b @ b.T / 0.2, axis=1)
    forth = (soft * log_softmax(a @ b.T / 0.2, axis=1)).sum(1).mean()
    back = (soft * log_softmax(b @ a.T / 0.2, axis=1)).sum(1).mean()
    found = softclip_loss(torch.tensor(said), torch.tensor(true), 0.2)
    assert float(found) == pytest.approx(-(forth + back) / 2, rel=1e-5)


def test_the_loss_of_mindbridge_is_contrast_and_squared_error_of_directions():
    rng = np.random.default_rng(2)
    said, true = rng.normal(size=(2, 4, 2, 3))
    a, b = unit(said.reshape(4, 6)), unit(true.reshape(4, 6))
    contrast = float(softclip_loss(torch.tensor(a), torch.tensor(b), 0.05))
    found = reading_loss({"x": torch.tensor(said)}, {"x": torch.tensor(true)}, 0.05, 1e4)
    assert float(found) == pytest.approx(contrast + 1e4 * ((a - b) ** 2).mean(), rel=1e-5)


def test_pooling_is_the_largest_of_each_stretch_of_voxels():
    x = np.random.default_rng(3).normal(size=(2, 11))
    expected = [
        [max(row[k * 11 // 4 : -(-(k + 1) * 11 // 4)]) for k in range(4)] for row in x.tolist()
    ]
    np.testing.assert_allclose(pooled(torch.tensor(x), 4), expected)
    assert pooled(torch.tensor(x), 30).shape == (2, 30)


def test_batches_take_one_repeat_at_a_time_and_every_picture_once_an_epoch(toy):
    voxels = toy.train["subj01"]
    voxels = voxels.take(np.flatnonzero((voxels.image_ids != "img000") | (voxels.repeats == 1)))
    batches = RepeatBatches(voxels, toy.features, 40, seed=0)
    assert batches.steps(2) == 6
    seen = np.concatenate([batches.at(step, WHOLE) for step in range(3)])
    assert sorted(seen) == list(range(120))
    some = np.array([0, 5, 7])  # of img000 there is one trial alone
    rows = [
        np.flatnonzero((voxels.image_ids == batches.pictures[p]) & (voxels.repeats == r))[0]
        for p, r in zip(some, (1, 2, 2), strict=True)
    ]
    np.testing.assert_array_equal(batches.trials(some, 5), voxels.read(rows))


def test_repeats_are_mixed_averaged_or_alone_as_often_as_said(toy):
    voxels = toy.train["subj01"].only(["img003"])
    batches = RepeatBatches(voxels, toy.features, 1, seed=0)
    mixed = batches.repeats_together(np.zeros(600, int), (0, 1)).numpy()
    trials = voxels.read()
    weights = np.linalg.lstsq(trials.T, mixed.T, rcond=None)[0].T
    np.testing.assert_allclose(weights @ trials, mixed, atol=1e-4)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-4)
    assert np.isclose(weights.max(1), 1, atol=1e-4).mean() == pytest.approx(0.2, abs=0.05)
    assert np.isclose(weights.max(1), 1 / 3, atol=1e-4).mean() == pytest.approx(0.3, abs=0.06)


def test_the_schedule_falls_as_a_squared_cosine():
    k = np.arange(51)
    f = np.cos((k / 50 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine_schedule(50)[:-1], (f / f[0])[1:-1], rtol=1e-5)
    assert 0 < cosine_schedule(50)[-1] < 1e-3


@pytest.mark.parametrize("skip, least", [(True, 0.8), (False, 0.3)])
def test_the_prior_says_what_its_condition_says_and_nothing_of_a_shuffled_one(skip, least):
    rng = torch.Generator().manual_seed(0)
    condition = torch.randn(600, 2, 8, generator=rng) / 8**0.5
    mean = condition.flip(2) + 0.3
    clean = mean + 0.1 * torch.randn(600, 2, 8, generator=rng)
    torch.manual_seed(0)
    prior = DiffusionPrior(2, 8, layers=1, steps=8, skip=skip)

    def agreement(given):
        model = copy.deepcopy(prior)
        optimizer = torch.optim.Adam(model.parameters(), 2e-2)
        for _ in range(300):
            rows = torch.randperm(500)[:50]
            optimizer.zero_grad()
            model.loss(given[rows], clean[rows]).backward()
            optimizer.step()
        said = model.eval().sample(given[500:], torch.Generator().manual_seed(1))
        assert said.mean() == pytest.approx(0.3, abs=0.1)
        both = torch.stack([said.flatten(), mean[500:].flatten()])
        return float(torch.corrcoef(both)[0, 1])

    assert agreement(condition) > least
    assert abs(agreement(condition[torch.randperm(600)])) < 0.15


def test_colours_are_ridge_rescaled_by_held_out_training_pictures(toy):
    seen, test = toy.train["subj01"], toy.test["subj01"].averaged()
    colour = fit_colour_ridge(seen, toy.features, ("vae", "palette"), 10.0, seed=0)
    said = colour.predict(test)
    averaged = seen.averaged()
    y = toy.features.of("palette", averaged.image_ids).reshape(120, -1)
    ridge = Ridge(alpha=10.0).fit(averaged.read(), y).predict(test.read())
    found = said["palette"].reshape(40, -1)
    for k in (0, 17):  # a rescaled target is the regression's, stretched about the mean
        slope = (found[:, k] - y[:, k].mean()) / (ridge[:, k] - y[:, k].mean())
        np.testing.assert_allclose(slope, slope[0], rtol=1e-3)
        assert slope[0] > 1
    # No row depends on another; as published all do.
    np.testing.assert_allclose(colour.predict(test.take([3]))["vae"], said["vae"][3:4], rtol=1e-5)
    within = colour.predict(test, within=True)["palette"].reshape(40, -1)
    np.testing.assert_allclose(within.std(0), y.std(0), rtol=1e-3)
    np.testing.assert_allclose(within.mean(0), y.mean(0), rtol=1e-3)
    with pytest.raises(DataError, match="one row"):
        colour.predict(test.take([3]), within=True)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_learns_toy_brains_and_says_nothing_of_shuffled_ones(system, toy, fitted):
    decoder = fitted[system]
    rng = np.random.default_rng(0)
    for voxels in toy.test.values():
        seen = voxels.averaged()
        said = decoder.predict(seen)
        assert set(said) == set(SAYS[system])
        shuffled = [
            decoder.predict(seen.with_values(seen.values[rng.permutation(len(seen))]))
            for _ in range(4)
        ]
        for name in SAYS[system]:
            true = toy.features.of(TRUE.get(name, name), seen.image_ids)
            assert said[name].dtype == np.float32
            assert said[name].reshape(len(seen), -1).shape == true.reshape(len(seen), -1).shape
            assert identified(said[name], true) > 0.75, name
            chance = np.mean([identified(one[name], true) for one in shuffled])
            assert chance == pytest.approx(0.5, abs=0.08), name


@pytest.mark.parametrize("system", SYSTEMS)
def test_learned_from_shuffled_brains_it_says_nothing(system, toy):
    rng = np.random.default_rng(1)
    seen, voxels = toy.test["subj01"].averaged(), toy.train["subj01"]
    train = voxels.with_values(voxels.values[rng.permutation(len(voxels))])
    decoder = small(system).fit({"subj01": train}, toy.features, FrozenParts())
    said = decoder.predict(seen)
    scores = [
        identified(said[name], toy.features.of(TRUE.get(name, name), seen.image_ids))
        for name in SAYS[system]
    ]
    assert np.mean(scores) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_interrupted_training_goes_on_to_the_same_predictions(
    system, toy, fitted, tmp_path, monkeypatch
):
    voxels = toy.test["subj02"].averaged()
    # Models of one subject are the same, whoever else is fitted.
    train = toy.train if system is MindBridge else {"subj02": toy.train["subj02"]}
    update, done = TrainingState.update, []

    def killed(self):
        if len(done) == 25:
            raise KeyboardInterrupt
        done.append(self)
        update(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "may_save", lambda self: True)
        patch.setattr(repeat_batches, "Schedule", partial(Schedule, checkpoint_every=10))
        patch.setattr(TrainingState, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            small(system).fit(train, toy.features, FrozenParts(checkpoint=tmp_path))
    (written,) = tmp_path.rglob("checkpoint.pt")
    assert torch.load(written, weights_only=True)["step"] == 20
    again = small(system).fit(train, toy.features, FrozenParts(checkpoint=tmp_path))
    for name, whole in fitted[system].predict(voxels).items():
        np.testing.assert_array_equal(again.predict(voxels)[name], whole)


def test_a_new_subject_changes_no_shared_weight_and_is_read_by_it(toy):
    first, second = toy.train
    decoder = small(MindBridge).fit({first: toy.train[first]}, toy.features, FrozenParts())
    before = {name: w.clone() for name, w in decoder.model.state_dict().items()}
    old = decoder.predict(toy.test[first])
    n = decoder.n_parameters
    decoder.fit_new_subject(toy.train[second], toy.features, FrozenParts())
    after = decoder.model.state_dict()
    for name, weight in before.items():
        assert torch.equal(after[name], weight), name
    new = {name: w for name, w in after.items() if name not in before}
    assert new and all(second in name for name in new)
    assert decoder.n_parameters - n == sum(w.numel() for w in new.values())
    for name, said in decoder.predict(toy.test[first]).items():
        np.testing.assert_array_equal(said, old[name])
    seen = toy.test[second].averaged()
    true = toy.features.of("clip_image", seen.image_ids)
    assert identified(decoder.predict(seen)["clip_image"], true) > 0.75
    # A second time it begins anew.
    learned = decoder.predict(seen)["clip_image"]
    decoder.fit_new_subject(toy.train[second], toy.features, FrozenParts())
    np.testing.assert_array_equal(decoder.predict(seen)["clip_image"], learned)
    dealt = np.random.default_rng(0).permutation(toy.train[second].image_ids)
    blind = dataclasses.replace(toy.train[second], image_ids=dealt)
    decoder.fit_new_subject(blind, toy.features, FrozenParts())
    assert abs(identified(decoder.predict(seen)["clip_image"], true) - 0.5) < 0.2
    with pytest.raises(DataError, match=f"{first} is one of the subjects"):
        decoder.fit_new_subject(toy.train[first], toy.features, FrozenParts())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_subject_that_was_not_fitted_is_named(system, toy, fitted):
    voxels = dataclasses.replace(toy.test["subj01"], subject="subj09")
    with pytest.raises(DataError, match="subj09.*subj01, subj02"):
        fitted[system].predict(voxels)


def test_what_is_said_has_the_units_that_the_features_have(toy, fitted):
    seen, train = toy.test["subj01"], toy.train["subj01"].averaged().image_ids
    mindeye, dream, bridge = (fitted[system].predict(seen) for system in SYSTEMS)
    length = np.linalg.norm(toy.features.of("clip_image", train), axis=1).mean()
    for said in (mindeye, dream, bridge):
        np.testing.assert_allclose(np.linalg.norm(said["clip_image"], axis=1), length, rtol=1e-4)
    for said in (mindeye, bridge):
        np.testing.assert_allclose(np.linalg.norm(said["image_tokens"][:, 0], axis=1), 1, rtol=1e-4)
        np.testing.assert_allclose(
            said["clip_image"], said["image_tokens"][:, 0] * length, rtol=1e-4
        )
    np.testing.assert_allclose(np.linalg.norm(mindeye["retrieval"], axis=1), 1, rtol=1e-4)
    states = toy.features.of("text_states", train).reshape(len(train), -1)
    np.testing.assert_allclose(
        np.linalg.norm(bridge["text_states"].reshape(len(seen), -1), axis=1),
        np.linalg.norm(states, axis=1).mean(),
        rtol=1e-4,
    )


def test_what_the_generator_gets(toy, fitted):
    seen = toy.test["subj01"].first().take(np.arange(3))
    one = fitted[MindEye].conditions(said := fitted[MindEye].predict(seen))
    assert one.image is said["clip_image"] and one.start is said["vae"] and one.text is None
    assert (one.strength, one.samples, one.kept_by) == (0.85, 1, "")
    published = MindEye(as_published=True).conditions(said)
    assert (published.samples, published.kept_by) == (16, "clip_image")

    two = fitted[MindBridge].conditions(said := fitted[MindBridge].predict(seen))
    assert two.text is said["text_states"] and two.start is None and two.samples == 1
    published = MindBridge(as_published=True).conditions(said)
    assert (published.samples, published.kept_by) == (8, "true picture")

    said = fitted[Dream].predict(seen)
    three = Dream(cells=2).conditions(said)
    blocks = said["vae"].reshape(3, 4, 2, 2, 2, 2).mean((3, 5))
    np.testing.assert_allclose(three.start, blocks.repeat(2, 2).repeat(2, 3), rtol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_cards_say_what_is_published_and_what_is_ours(system):
    card = system.card
    said = {choice.what.split(":")[-1].strip() for choice in card.choices}
    assert {"input", "map", "loss", "training", "predicts", "generator", "selection"} <= said
    assert "number of models" in said and card.as_published and card.lacking
    assert {choice.source for choice in card.choices} <= {"code", "paper", "chosen"}
    assert all(choice.published for choice in card.choices)
    assert set(system.search) <= set(system.defaults)
