"""Training batches, readout in a trained encoder, and targets made of words, on toy brains linear in their targets."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_store import VAE, E, ToyStore

from neurovl.encoder.alignment import (
    alignment_loss,
    fit_encoder,
    held_out_voxels,
    loss_weights,
    predict,
)
from neurovl.encoder.batches import TrainingTrials
from neurovl.encoder.encoding_models import ResponseModel, TargetBasis
from neurovl.encoder.targets import Targets, write_targets
from neurovl.encoder.variants import Variant
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.errors import ConfigError, DataError
from neurovl.recordings.opening import open_recordings
from neurovl.settings.sections import Alignment, Compute, EncoderShape
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store
from neurovl.training.loop import Part, batch_rows
from neurovl.training.prefetch import Prefetcher
from neurovl.training.validation import split_pictures

SHAPE = EncoderShape(width=16, layers=2, heads=2, head_hidden=16, readout=32)
STILL = Alignment(epochs=1, batch_size=40, lr=0.0, synthetic=0.5, ema=0.9, precision="no")
CPU = Compute(device="cpu")
MAIN = Variant("main", "p3", SHAPE, STILL)


@pytest.fixture(scope="module")
def store():
    return ToyStore()


@pytest.fixture(scope="module")
def targets(store, tmp_path_factory):
    return store.targets(tmp_path_factory.mktemp("targets"))


def trained(store, targets, system, seed=0):
    return fit_encoder(store, targets, system, seed=seed, compute=CPU)[0]


def training(store):
    return store.trials[store.trials.split == "train"]


def trials_for(store, targets, mixup=True, synthetic=0.0, seed=0):
    data = TrainingTrials(store, training(store), targets, 40, mixup, synthetic, seed)
    flat = targets.flat()
    data.fit_responses(TargetBasis.fit(flat[data.pool], 32, torch.ones(flat.shape[1])), flat, False)
    return data


def linear_decoder(store, targets, subjects, x, values):
    """Mean + (offset + x A) P, with the models fitted to these subjects' trials one by one."""
    trials = training(store)
    rows = targets.rows(trials.image_id).numpy()
    seen = values[np.unique(rows)]
    weights = torch.ones(values.shape[1])
    weights[E:] = STILL.alpha
    basis = TargetBasis.fit(seen, 32, weights)
    own = trials.subject.isin(subjects).to_numpy()
    model = ResponseModel(store.x[trials.index[own]], basis.features(values).numpy()[rows[own]])
    a, offset = model.decoder()
    return basis.mean.numpy() + (offset + x @ a) @ basis.components.numpy()


# Batches


def test_batches_are_a_function_of_seed_and_step_alone(store, targets):
    one, other = (
        trials_for(store, targets, synthetic=0.5),
        trials_for(store, targets, synthetic=0.5),
    )
    first = [one.batch(step) for step in (0, 1, 7)]
    again = [other.batch(step) for step in (7, 1, 0)][::-1]
    for (x, p), (y, q) in zip(first, again, strict=True):
        assert torch.equal(x, y) and torch.equal(p, q)
    another = trials_for(store, targets, synthetic=0.5, seed=1).batch(0)
    assert not torch.equal(another[0], first[0][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_without_mixup_an_epoch_holds_every_training_trial_once(store, targets):
    data = trials_for(store, targets, mixup=False)
    trials = training(store)
    batches = [data.batch(step) for step in range(len(trials) // 40)]
    x, pictures = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    expected = {
        row.tobytes(): image
        for row, image in zip(store.x[trials.index], trials.image_id, strict=True)
    }
    got = {row.tobytes(): targets.image_ids[p] for row, p in zip(x, pictures, strict=True)}
    assert len(expected) == len(trials) and got == expected


def test_mixup_stays_within_subject_and_picture(store, targets):
    marked = ToyStore()
    trials = marked.trials
    who, (what, names) = pd.factorize(trials.subject)[0], pd.factorize(trials.image_id)
    marked.x = np.zeros_like(store.x)
    marked.x[:, :3] = np.stack([who, what, trials.repeat], axis=1)
    data = TrainingTrials(marked, training(marked), targets, 40, True, 0.0, 0)
    seen = []
    for step in range(12):
        x, pictures = data.batch(step)
        # Subject and picture of both trials are the same, so every mix of them has their numbers.
        assert torch.allclose(x[:, 0], x[:, 0].round(), atol=1e-5)
        told = [names[round(float(k))] for k in x[:, 1]]
        assert told == [targets.image_ids[p] for p in pictures]
        seen.append(x[:, 2])
    repeat = torch.cat(seen).numpy()
    assert repeat.min() >= 0 and repeat.max() <= 2
    # A third of the trials meets itself; the others are mixed, evenly.
    mixed = np.abs(repeat - repeat.round()) > 1e-3
    assert 0.55 < mixed.mean() < 0.8 and abs(repeat.mean() - 1) < 0.1


def test_drawn_responses_are_the_asked_share_and_of_training_pictures_alone(store, targets):
    data = trials_for(store, targets, mixup=False, synthetic=0.25)
    trials = training(store)
    measured = {row.tobytes() for row in store.x[trials.index]}
    allowed, seen = set(trials.image_id), set()
    for step in range(100):
        x, pictures = data.batch(step)
        is_measured = [row.tobytes() in measured for row in x.numpy()]
        assert sum(is_measured) == 30
        drawn = ~np.array(is_measured)
        seen |= {targets.image_ids[p] for p in pictures[drawn]}
        for row in x.numpy()[drawn]:
            # Exactly one subject's voxels.
            assert any(np.array_equal(row != 0, own) for own in store.own.values())
    assert seen == allowed  # 1,000 draws of 80 pictures
    test = set(store.trials.image_id[store.trials.split == "test"])
    assert not seen & test


def test_drawn_responses_are_those_of_the_picture_and_the_trial_s_subject(store, targets):
    data = trials_for(store, targets, mixup=False, synthetic=1.0)
    error, spread = [], []
    for step in range(20):
        x, pictures = data.batch(step)
        whose = data.subjects[batch_rows(len(data.index), 40, step, 0)]
        for row, picture, name in zip(x.numpy(), pictures, whose, strict=True):
            assert np.array_equal(row != 0, store.own[name])
            model, own = data.models[name], store.own[name]
            expected = model.mean + data.features[picture] @ model.weights
            error.append(np.mean((row[own] - expected) / model.residuals.std(0)))
            spread.append(np.mean(((row[own] - expected) / model.residuals.std(0)) ** 2))
    assert abs(np.mean(error)) < 0.02
    # Means of 1, 2 or 3 trials: variances 1, 1/2, 1/3.
    assert np.mean(spread) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, rel=0.1)


# LinearReadout in an encoder


@pytest.mark.parametrize("system", ["main", "common", "no-vae", "b"])
def test_before_training_the_encoder_is_the_linear_decoder(store, targets, system):
    changed = {
        "main": MAIN,
        "common": replace(MAIN, shape=replace(SHAPE, readout_of="all")),
        "no-vae": replace(MAIN, use_vae=False),
        "b": replace(MAIN, subjects=["b"]),
    }[system]
    encoder = trained(store, targets, changed)
    values = targets.flat(changed.use_vae)
    assert len(encoder.readout.weight) == (2 if system in ("main", "no-vae") else 1)
    for subject in changed.subjects or store.subjects:
        rows = store.trials.index[
            (store.trials.subject == subject) & (store.trials.split == "test")
        ]
        x = store.voxels_at(rows)
        fitted_to = store.subjects if system == "common" else [subject]
        expected = linear_decoder(store, targets, fitted_to, x, values)
        z = predict(encoder, store.cut(x))
        np.testing.assert_allclose(z.clip, expected[:, :E], atol=2e-4)
        if changed.use_vae:
            np.testing.assert_allclose(z.vae.flatten(1), expected[:, E:], atol=2e-4)
            assert z.vae.shape[1:] == VAE
        else:
            assert z.vae is None


def two_way(predicted, clip):
    """Share of pairs in which the right picture correlates more with the prediction."""
    unit = [np.asarray(a) - np.asarray(clip).mean(0) for a in (predicted, clip)]
    a, b = (u / np.linalg.norm(u, axis=1, keepdims=True) for u in unit)
    score = a @ b.T
    return (np.diag(score)[:, None] > score)[~np.eye(len(score), dtype=bool)].mean()


def identified(store, targets, encoder):
    found = []
    for subject in store.subjects:
        ids, voxels = held_out_voxels(store, subject, "average")
        clip = targets.clip[targets.rows(ids)]
        found.append(two_way(predict(encoder, store.cut(voxels)).clip, clip))
    return np.mean(found)


def test_shuffled_brains_fall_to_chance_on_held_out_pictures(targets):
    learning = replace(STILL, lr=1e-3, epochs=2)
    real, shuffled = ToyStore(), ToyStore()
    trials, rng = shuffled.trials, np.random.default_rng(5)
    for subject in shuffled.subjects:
        own = trials.index[(trials.subject == subject) & (trials.split == "train")]
        pictures = trials.image_id[own].unique()
        other = dict(zip(pictures, rng.permutation(pictures), strict=True))
        trials.loc[own, "image_id"] = trials.image_id[own].map(other)
    system = replace(MAIN, settings=learning)
    assert identified(real, targets, trained(real, targets, system)) > 0.9
    assert abs(identified(shuffled, targets, trained(shuffled, targets, system)) - 0.5) < 0.15


def test_training_lowers_the_loss_and_leaves_the_readout(store, targets):
    still = trained(store, targets, MAIN)
    moved = trained(
        store, targets, replace(MAIN, settings=replace(STILL, lr=3e-3, epochs=4, synthetic=0.25))
    )
    for (name, a), (_, b) in zip(still.named_buffers(), moved.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(still.clip_head[-1].weight, moved.clip_head[-1].weight)


def test_a_killed_training_goes_on_to_the_same_weights(store, targets, tmp_path, monkeypatch):
    system = replace(MAIN, settings=replace(STILL, lr=1e-3, epochs=3))
    whole = trained(store, targets, system)
    calls, batch = [], TrainingTrials.batch

    def killed(self, step, part):
        calls.append(step)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return batch(self, step, part)

    import neurovl.training.loop

    schedule = neurovl.training.loop.Schedule
    monkeypatch.setattr(
        "neurovl.encoder.alignment.Schedule", lambda *a, **k: schedule(*a, **k, checkpoint_every=5)
    )
    monkeypatch.setattr(TrainingTrials, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_encoder(store, targets, system, seed=0, compute=CPU, checkpoint=tmp_path)
    again, _ = fit_encoder(store, targets, system, seed=0, compute=CPU, checkpoint=tmp_path)
    assert calls[8] == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_drawn_in_float32_whatever_the_training_s_precision(
    store, targets, workers, monkeypatch
):
    drawn, batch = {"no": [], "bf16": []}, TrainingTrials.batch
    for precision, seen in drawn.items():

        def kept(self, step, part, seen=seen):
            seen.append(batch(self, step, part))
            return seen[-1]

        monkeypatch.setattr(TrainingTrials, "batch", kept)
        system = replace(MAIN, settings=replace(STILL, precision=precision))
        fit_encoder(store, targets, system, seed=0, compute=replace(CPU, workers=workers))
    pairs = list(zip(drawn["no"], drawn["bf16"], strict=True))
    assert len(pairs) > 5 and all(x.dtype == torch.float32 for (x, _), _ in pairs)
    if workers == 0:  # threads end in any order
        assert all(torch.equal(x, y) for (x, _), (y, _) in pairs)


def test_the_shipped_layouts_tell_simulated_subjects_apart(tiny_nsd, tmp_path):
    """A store of simulated NSD: every volume is read with its own subject's weights, in every layout."""
    write_store(open_recordings(tiny_nsd), tmp_path, patches=[5, 4], off_mask="keep")
    real = TokenStore(tmp_path)
    ids = list(dict.fromkeys(real.trials.image_id))
    rng = np.random.default_rng(0)
    made = SimpleNamespace(
        clip=torch.from_numpy(rng.normal(size=(len(ids), 6))).float(), vae=None, image_ids=ids
    )
    made.flat = lambda vae=True: made.clip
    made.rows = lambda images: torch.tensor([ids.index(i) for i in images])
    settings = replace(STILL, synthetic=0.0, batch_size=1200)
    for layout in real.layouts:
        encoder = trained(real, made, Variant("main", layout, SHAPE, settings))
        for number, subject in enumerate(real.subjects):
            x = real.voxels(subject, np.arange(60))
            x[30:, rng.permutation(x.shape[1])[: round(0.15 * x.shape[1])]] = 0
            assert (encoder.readout.subject(real.cut(x, layout)) == number).all()


def test_a_subject_whose_voxels_are_all_constant_is_named(targets):
    flat = ToyStore()
    flat.x[(flat.trials.subject == "b").to_numpy()] = 2.0
    with pytest.raises(DataError, match="b: all 60 voxels are constant over 240 training trials"):
        trained(flat, targets, MAIN)


def test_subjects_whose_volumes_cannot_be_told_apart_share_their_readout(targets, caplog):
    alike = ToyStore()
    alike.x[:, (alike.own["a"] & alike.own["b"]) == 0] = 0
    encoder = trained(alike, targets, MAIN)
    assert "a and b measured the same voxels" in caplog.text
    common = trained(alike, targets, replace(MAIN, shape=replace(SHAPE, readout_of="all")))
    assert len(encoder.readout.weight) == len(common.readout.weight) == 1
    torch.testing.assert_close(encoder.readout.weight, common.readout.weight)
    assert len(trained(ToyStore(), targets, MAIN).readout.weight) > 1


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_components_weigh_values_as_the_loss_does(reduction):
    settings = Alignment(alpha=0.25, reduction=reduction)
    torch.manual_seed(0)
    made, wanted = torch.randn(3, 14), torch.randn(3, 14)
    z = BrainEmbedding(made[:, :6], made[:, 6:].reshape(3, 2, 2, 2), None)
    loss = alignment_loss(z, wanted[:, :6], wanted[:, 6:].reshape(3, 2, 2, 2), settings)["loss"]
    weights = loss_weights(6, 14, settings)
    assert float(((made - wanted).square() * weights).sum(1).mean()) == pytest.approx(float(loss))


# Targets


class Words:
    """A CLIP whose text embedding is the sentence's length and its number of words."""

    def embed_texts(self, texts):
        return torch.tensor([[float(len(t)), float(len(t.split()))] for t in texts])


def told(captions=None, labels=None):
    ids = list(captions or labels)
    return SimpleNamespace(
        has_images=False,
        trials=pd.DataFrame({"image_id": [*ids, *ids]}),
        captions=lambda i: (captions or {}).get(i, []),
        label=lambda i: (labels or {}).get(i),
    )


def test_the_target_of_a_picture_with_captions_alone_is_their_mean(tmp_path):
    write_targets(told({"7": ["a dog", "a big dog"], "9": ["snow"]}), tmp_path, Words(), batch=1)
    targets = Targets.load(tmp_path)
    # 5 and 9 letters in 2 and 3 words; 4 letters in one.
    torch.testing.assert_close(targets.clip, torch.tensor([[7.0, 2.5], [4.0, 1.0]]))
    assert targets.vae is None and targets.image_ids == ["7", "9"]
    assert json.loads((tmp_path / "image_ids.json").read_text()) == ["7", "9"]
    assert list(load_file(tmp_path / "targets.safetensors")) == ["clip"]


def test_the_target_of_a_label_is_its_sentence(tmp_path):
    sentence = "a picture of a cat on a plain background"
    labels = {"x": "cat", "y": "cat"}
    write_targets(told(labels=labels), tmp_path, Words())
    expected = torch.tensor([[float(len(sentence)), 9.0]] * 2)
    torch.testing.assert_close(Targets.load(tmp_path).clip, expected)


def test_labels_that_clip_cannot_tell_apart_are_named(tmp_path):
    with pytest.raises(DataError, match="'cat' and 'dog' have cosine 1.000"):
        write_targets(told(labels={"x": "cat", "y": "dog"}), tmp_path, Words())


def test_a_picture_of_which_nothing_is_known_is_named(tmp_path):
    with pytest.raises(DataError, match="image 9 has neither picture nor caption nor label"):
        write_targets(told({"7": ["a dog"], "9": []}), tmp_path, Words())


def test_an_encoder_keeps_its_readout_on_disk(store, targets, tmp_path):
    encoder = trained(store, targets, MAIN)
    encoder.save_pretrained(tmp_path)
    again = BrainEncoder.from_pretrained(tmp_path).eval()
    assert torch.equal(again.readout.measured, encoder.readout.measured)
    x = store.cut(store.x[::40])
    torch.testing.assert_close(predict(again, x).clip, predict(encoder, x).clip)
    assert (predict(again, x).clip.std(0) > 0.1).all()


@pytest.mark.parametrize("synthetic", [0.0, 0.6])
def test_the_parts_of_a_batch_are_the_batch(store, targets, synthetic):
    data = trials_for(store, targets, mixup=True, synthetic=synthetic)
    x, pictures = data.batch(3)
    parts = [data.batch(3, Part(k, 4)) for k in range(4)]
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), x, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.cat([p[1] for p in parts]), pictures)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_read_ahead_are_those_read_when_asked(workers):
    asked = []

    def compute(step, part):
        asked.append(step)
        return step, part.index

    ahead = Prefetcher(compute, workers, steps=6)
    got = [ahead(step, Part(k, 2)) for step in range(6) for k in range(2)]
    ahead.close()
    assert got == [(step, k) for step in range(6) for k in range(2)]
    assert sorted(asked) == sorted([*range(6), *range(6)])


def test_watched_pictures_are_nobody_s_training_pictures(store):
    trials = training(store)
    rest, watched = split_pictures(trials, 0.1, seed=4)
    assert set(watched.image_id) & set(rest.image_id) == set()
    assert watched.image_id.nunique() == round(0.1 * trials.image_id.nunique())
    assert set(watched.subject) == set(trials.subject) and len(rest) + len(watched) == len(trials)
    assert set(split_pictures(trials, 0.1, seed=5)[1].image_id) != set(watched.image_id)
    with pytest.raises(ConfigError, match="alignment.validation is 0.001"):
        split_pictures(trials, 0.001, seed=0)


def test_the_validation_loss_is_that_of_averaged_repeats_left_out_of_training(store, targets):
    settings = replace(STILL, validation=0.2, patience=0)
    encoder, curve = fit_encoder(
        store, targets, replace(MAIN, settings=settings), seed=0, compute=CPU
    )
    _, watched = split_pictures(training(store), 0.2, seed=0)
    losses = []
    for (_, image), own in watched.groupby(["subject", "image_id"]):
        z = predict(encoder, store.cut(store.voxels_at(own.index).mean(0, keepdims=True)))
        row = targets.rows([image])
        clip = (z.clip - targets.clip[row]).square()
        vae = (z.vae - targets.vae[row]).square()
        by = {"sum": (clip.sum(), vae.sum()), "mean": (clip.mean(), vae.mean())}[settings.reduction]
        losses.append(float(by[0] + settings.alpha * by[1]))
    assert curve[-1]["validation"] == pytest.approx(np.mean(losses), rel=1e-3)
