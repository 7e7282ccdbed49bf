"""Maps beside GradCAM against references: scipy, sums by hand, voxels that were made to answer to a concept; and exchanged brains."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError, DataError
from neurovl.evaluation.map_truth import areas, ridge, truth_scores, turned
from neurovl.localization.concept_maps import METHODS, SubjectPictures, find_maps, reliability
from neurovl.localization.concept_tuning import BY_CONCEPTS, BY_LOOKS, ConceptTuning, alike
from neurovl.localization.encoder_maps import (
    integrated_gradients,
    occlusion,
    patch_sets,
    rollout,
)
from neurovl.localization.heat import Heat, discoveries
from neurovl.localization.map_tests import chance, exchanged, halves
from neurovl.localization.picture_responses import PictureResponses, standard
from neurovl.localization.voxel_maps import contrast, searchlight, word_responses
from neurovl.localization.zeroing import silence
from neurovl.recordings.opening import open_recordings
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

N, SIDE = 240, 5  # pictures; voxels are a cube of SIDE^3
NAMES = ["dog", "cat", "car"]


@pytest.fixture(scope="module")
def store(tiny_nsd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_store(open_recordings(tiny_nsd), folder, patches=[5, 4], off_mask="zero")
    return TokenStore(folder)


@pytest.fixture(scope="module")
def encoder(store):
    torch.manual_seed(0)
    n, c = store.shape("p5")
    return BrainEncoder(n, c, 16, None, "p5", width=32, layers=3, heads=2, head_hidden=16).eval()


class World:
    """Voxels 0 to 9 answer to dogs, 10 to 19 to cats, 20 to 39 to what pictures look like, the rest to nothing; dogs look alike."""

    def __init__(self, noise=1.0, seed=0):
        rng = np.random.default_rng(seed)
        self.sizes = rng.uniform(0.2, 0.8, (N, 3)) * (rng.random((N, 3)) < 0.3)
        # A cat often stands beside a dog, and a dog makes its place in the picture bright.
        self.sizes[:, 1] *= (self.sizes[:, 0] > 0) | (rng.random(N) < 0.2)
        self.latents = rng.normal(size=(N, 2, 4, 4))
        self.latents[:, 0, :2, :2] += 2 * (self.sizes[:, :1] > 0)[:, :, None]
        y = noise * rng.normal(size=(N, SIDE**3))
        y[:, :10] += 2 * standard(self.sizes)[:, :1]
        y[:, 10:20] += 2 * standard(self.sizes)[:, 1:2]
        y[:, 20:40] += 2 * standard(self.latents[:, 0, 0, :1])
        self.voxels = standard(y).astype(np.float32)
        grid = np.indices((SIDE,) * 3).reshape(3, -1).T
        self.places, self.measured = grid * 3.0, np.ones(SIDE**3, bool)


def area(true, values):
    return areas(true[None], values[None])[0, 0]


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, values = rng.random((3, 80)) < 0.2, np.round(rng.random((4, 80)), 1)  # with ties
    expected = [[roc_auc_score(t, v) for v in values] for t in true]
    np.testing.assert_allclose(areas(true, values), expected)


def test_contrast_is_welchs_t():
    world = World()
    found = contrast(world.sizes > 0, world.voxels)
    for k in range(3):
        held = world.sizes[:, k] > 0
        t = stats.ttest_ind(world.voxels[held], world.voxels[~held], equal_var=False).statistic
        np.testing.assert_allclose(found[k], t, rtol=1e-4, atol=1e-4)
    few = np.zeros((N, 1), bool)
    few[0] = True
    assert not contrast(few, world.voxels).any()


def test_tuning_is_the_posterior_mean_of_the_model():
    """By the joint Gaussian of weights and responses, and evidence as scipy's density, for each pair of the grid."""
    world = World()
    sizes, looks = standard(world.sizes), alike(world.latents)
    y = standard(world.voxels[:, [0, 25, 60]].astype(float))
    together = sizes @ sizes.T
    scale, n = N / np.trace(together), len(y)
    found = ConceptTuning(world.sizes, world.latents).weights(world.voxels[:, [0, 25, 60]])
    for v, values in enumerate(y.T):
        logs, means = [], []
        for a in BY_CONCEPTS:
            for b in BY_LOOKS:
                spread = np.eye(n) + a * scale * together + b * looks
                sd2 = values @ np.linalg.solve(spread, values) / n
                logs.append(stats.multivariate_normal(np.zeros(n), sd2 * spread).logpdf(values))
                means.append(a * scale * sizes.T @ np.linalg.solve(spread, values))
        weights = np.exp(np.array(logs) - max(logs))
        expected = weights @ np.array(means) / weights.sum()
        np.testing.assert_allclose(found[:, v], expected, atol=0.01)


def test_tuning_leaves_out_what_looks_explain_and_what_stands_beside():
    """A contrast calls voxels of bright places, and of dogs, voxels of cats; the joint model does not."""
    world = World()
    tuning = ConceptTuning(world.sizes, world.latents).weights(world.voxels)
    plain = contrast(world.sizes > 0, world.voxels)
    assert tuning[0, :10].min() > 0.5 and tuning[1, 10:20].min() > 0.5
    assert np.abs(tuning[0, 20:40]).mean() < 0.1 and plain[0, 20:40].mean() > 4
    assert plain[1, :10].mean() > 2 and tuning[1, :10].mean() < 0.05
    true = np.arange(SIDE**3) < 10
    assert area(true, tuning[0]) > 0.99
    fit, rng = ConceptTuning(world.sizes, world.latents), np.random.default_rng(1)
    shuffled = [fit.weights(world.voxels[rng.permutation(N)])[0] for _ in range(20)]
    assert abs(np.mean([area(true, one) for one in shuffled]) - 0.5) < 0.15
    assert np.abs(shuffled).mean() < 0.1 * tuning[0, :10].mean()


def test_many_pictures_are_fitted_in_parts(monkeypatch):
    world = World()
    whole = ConceptTuning(world.sizes, world.latents).weights(world.voxels)
    monkeypatch.setattr("neurovl.localization.concept_tuning.TOGETHER", 100)
    parts = ConceptTuning(world.sizes, world.latents)
    assert [len(rows) for rows in parts.rows] == [80, 80, 80]
    found = parts.weights(world.voxels)
    assert found.shape == whole.shape
    assert np.corrcoef(found.ravel(), whole.ravel())[0, 1] > 0.9


def test_word_responses_find_the_direction_of_a_word():
    """Voxel k answers to the k-th direction of CLIP, which is the k-th word."""
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(N, 12)).astype(np.float32)
    unit = clip / np.linalg.norm(clip, axis=1, keepdims=True)
    voxels = standard(unit + 0.05 * rng.normal(size=unit.shape)).astype(np.float32)
    found = word_responses(clip, torch.eye(12), voxels)
    assert (found.argmax(1) == np.arange(12)).all()
    shuffled = word_responses(clip, torch.eye(12), voxels[rng.permutation(N)])
    assert np.abs(shuffled).max() < 0.5 * found.max()


def test_a_searchlight_decodes_by_pictures_it_was_not_fitted_to():
    world = World()
    found = searchlight(world.sizes, world.voxels, world.places, world.measured)
    assert found[0, :5].min() > 0.7 and abs(found[2].mean()) < 0.1
    order = np.random.default_rng(1).permutation(N)
    shuffled = searchlight(world.sizes, world.voxels[order], world.places, world.measured)
    assert np.abs(shuffled).mean() < 0.1 and np.abs(shuffled).max() < 0.35
    measured = world.measured.copy()
    measured[:10] = False
    assert not searchlight(world.sizes, world.voxels, world.places, measured)[:, :10].any()


def test_discoveries_are_benjamini_and_hochbergs():
    p = np.random.default_rng(0).random(500) ** 3
    expected = stats.false_discovery_control(p) <= 0.05
    assert 0 < expected.sum() < 500
    assert (discoveries(p) == expected).all()
    assert not discoveries(np.linspace(0.2, 1, 50)).any()


def test_chance_of_exchanged_brains_is_uniform():
    """Without a relation a twentieth of the voxels has p <= .05, and the family's p is at most .05 in a twentieth of the maps."""
    world, rng = World(), np.random.default_rng(2)
    holds, family = world.sizes > 0, []
    for draw in range(20):
        brains = rng.normal(size=(N, 60)).astype(np.float32)
        find = lambda voxels: contrast(holds, voxels)  # noqa: E731
        alone, whole = chance(find(brains), exchanged(find, brains, seed=draw), np.ones(60, bool))
        family.append(whole.min(1))
        assert abs((alone <= 0.05).mean() - 0.05) < 0.05
    assert np.mean(np.array(family) <= 0.05) < 0.15
    alone, whole = chance(
        contrast(holds, world.voxels),
        exchanged(lambda v: contrast(holds, v), world.voxels, 0),
        world.measured,
    )
    assert discoveries(alone[0])[:10].all() and (whole[0, :10] <= 0.05).all()


def test_halves_of_signal_agree_and_of_noise_do_not():
    world = World()
    of = lambda voxels: lambda rows: contrast(world.sizes[rows] > 0, voxels[rows])  # noqa: E731
    agree = halves(of(world.voxels), N, world.measured, 0)
    noise = np.random.default_rng(3).normal(size=world.voxels.shape)
    assert agree[:2].min() > 0.7 and np.abs(halves(of(noise), N, world.measured, 0)).max() < 0.4


def test_integrated_gradients_sum_to_what_the_cosine_gains(store, encoder):
    voxels, text = store.voxels(1, np.arange(6)), torch.randn(16)
    found = integrated_gradients(encoder, store, voxels, text, batch_size=4)

    def cosine(x):
        with torch.no_grad():
            said = encoder(store.cut(x, "p5")).clip
        return torch.nn.functional.cosine_similarity(said, text[None]).numpy()

    gained = cosine(voxels) - cosine(np.zeros_like(voxels))
    np.testing.assert_allclose(found.sum(1), gained, atol=0.02 * np.abs(gained).max() + 1e-3)


def test_rollout_by_hand(store, encoder):
    tokens = store.batch(1, [0, 1])
    x, product = None, None
    with torch.no_grad():
        x = torch.cat([encoder.class_token.expand(2, -1, -1), encoder.embed(tokens)], 1)
        x = x + encoder.position
        for block in encoder.blocks:
            q, k, _ = block.qkv(block.norm1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            attention = (q @ k.transpose(-1, -2) / 16**0.5).softmax(-1).mean(1)
            half = (attention + torch.eye(attention.shape[-1])) / 2
            product = half if product is None else half @ product
            x = block(x)
    found = rollout(encoder, tokens)
    torch.testing.assert_close(found, product[:, 0, 1:], atol=1e-6, rtol=1e-4)
    assert not any(block.norm1._forward_hooks for block in encoder.blocks)


def test_occlusion_by_hand(store, encoder):
    """Two patches silenced one after the other; a voxel in both has their mean, one in none has 0."""
    voxels, texts = store.voxels(1, np.arange(8)), torch.randn(2, 16)
    holds = np.stack([np.arange(8) < 3, np.arange(8) % 2 == 0], 1)
    sets = patch_sets(store, "p5")[:2].copy()
    both = np.flatnonzero(sets[0])[0]
    sets[1, both] = True

    def presence(x, k):
        with torch.no_grad():
            said = encoder(store.cut(x, "p5")).clip
        cosine = torch.nn.functional.cosine_similarity(said, texts[k][None]).numpy()
        return cosine[holds[:, k]].mean() - cosine[~holds[:, k]].mean()

    found = occlusion(encoder, store, voxels, texts, holds, sets)
    for k in range(2):
        lost = [presence(voxels, k) - presence(silence(voxels, one), k) for one in sets]
        only = np.flatnonzero(sets[0] & ~sets[1])[0]
        np.testing.assert_allclose(found[k, only], lost[0], atol=1e-5)
        np.testing.assert_allclose(found[k, both], np.mean(lost), atol=1e-5)
    assert not found[:, ~sets.any(0)].any()
    whole = patch_sets(store, "p5")
    assert (whole.sum(0) == 1).all()


@pytest.fixture(scope="module")
def pictures(store, encoder):
    rng = np.random.default_rng(0)
    n, measured = 120, store.measured("subj01")
    sizes = rng.uniform(0.3, 0.9, (n, 3)) * (rng.random((n, 3)) < 0.3)
    y = rng.normal(size=(n, store.n_voxels))
    known = np.flatnonzero(measured)
    for k in range(3):
        y[:, known[k::6]] += 2 * standard(sizes)[:, k : k + 1]
    responses = PictureResponses(
        "subj01",
        [str(k) for k in range(n)],
        NAMES,
        sizes.astype(np.float32),
        standard(y * measured).astype(np.float32),
        rng.normal(size=(n, 16)).astype(np.float32),
        rng.normal(size=(n, 4, 4, 4)).astype(np.float32),
    )
    voxels = store.voxels("subj01", np.arange(12))
    holds = np.arange(12)[:, None] % 3 == np.arange(3)
    half = np.arange(store.n_voxels) < store.n_voxels // 2
    texts = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    about = (
        store,
        "subj01",
        NAMES,
        texts,
        [encoder],
        voxels,
        holds,
        lambda: responses,
        [half, ~half],
    )
    return SubjectPictures(*about)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_maps_every_concept_in_the_subjects_space(store, pictures, method):
    heats = find_maps(method, pictures)
    mask = np.asarray(store.mask("subj01").dataobj) > 0
    assert list(heats) == NAMES
    for name, heat in heats.items():
        assert (heat.concept, heat.subject) == (name, "subj01")
        assert heat.values.shape == mask.shape and not heat.values[~mask].any()
        assert np.isfinite(heat.values).all() and heat.values.min() >= 0
        assert heat.values.max() == pytest.approx(1) or not heat.values.any()
        if heat.p is not None:
            assert (heat.p[~mask] == 1).all() and 0 < heat.p.min() <= heat.p.max() <= 1
    tested = {m for m in ("contrast", "word-responses", "tuning") if m == method}
    assert (heats["dog"].p is not None) == bool(tested)
    if method in ("contrast", "tuning"):
        assert heats["dog"].significant(mask).sum() > 0.05 * mask.sum()
        assert np.nanmin(reliability(method, pictures)) > 0.3


def test_what_a_method_rests_on_must_be_there(pictures):
    bare = SubjectPictures(
        *(pictures.store, "subj01", NAMES, pictures.texts, pictures.encoders),
        *(pictures.voxels, pictures.holds),
    )
    with pytest.raises(DataError, match="no responses to training pictures"):
        find_maps("tuning", bare)
    with pytest.raises(ConfigError, match="method is 'cam', expected one of gradcam"):
        find_maps("cam", bare)


def test_a_concept_that_too_few_pictures_hold_has_an_empty_map(pictures):
    few = SubjectPictures(
        *(pictures.store, "subj01", ["dog", "zebra"], pictures.texts[:2], pictures.encoders),
        *(pictures.voxels, pictures.holds[:, :2], pictures.responses),
    )
    heats = find_maps("contrast", few)
    assert heats["dog"].values.any() and not heats["zebra"].values.any()
    assert not heats["zebra"].significant(heats["zebra"].values >= 0).any()


def test_responses_are_of_training_pictures_alone(store, tiny_nsd):
    data = open_recordings(tiny_nsd)

    class Targets:
        clip, vae = torch.randn(1000, 4), None

        def rows(self, ids):
            return torch.arange(len(list(ids)))

    found = PictureResponses.of(store, Targets(), "subj01", data.objects)
    trials = store.trials[store.trials.subject == "subj01"]
    assert set(found.image_ids) == set(trials.image_id[trials.split == "train"])
    for name, column in zip(found.names, found.sizes.T, strict=True):
        held = [any(o["category"] == name for o in data.objects(i)) for i in found.image_ids]
        assert ((column > 0) == held).all() and 4 <= sum(held) <= len(held) - 4
    k = int(np.flatnonzero(found.sizes[:, 0])[0])
    boxes = [o["box"] for o in data.objects(found.image_ids[k]) if o["category"] == found.names[0]]
    largest = max((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    assert found.sizes[k, 0] == pytest.approx(largest**0.5)
    rows = trials.index[trials.image_id == found.image_ids[k]].to_numpy()
    means = [
        store.voxels_at(trials.index[trials.image_id == i].to_numpy()).mean(0)
        for i in found.image_ids
    ]
    assert len(rows) > 1
    np.testing.assert_allclose(found.voxels, standard(np.array(means)), atol=1e-3)


class Truth:
    """A run of a subject whose true map is a ramp along x."""

    class recordings:  # noqa: N801
        simulated, root = True, "truth"

        @staticmethod
        def mask(subject):
            return np.ones((10, 6, 4), bool)

        @staticmethod
        def affine(subject):
            return np.diag([2.0, 3.0, 4.0, 1.0])


def test_scores_of_a_perfect_a_turned_and_a_random_map(monkeypatch):
    ramp = np.broadcast_to(np.arange(10.0)[:, None, None], (10, 6, 4)).copy()
    monkeypatch.setattr("neurovl.evaluation.map_truth.true_maps", lambda *_: {"dog": ramp})
    monkeypatch.setattr("neurovl.evaluation.map_truth.TRUE", 0.85)

    def score(values, p=None):
        return truth_scores(Truth, "s", {"dog": Heat("dog", "s", values, np.eye(4), p, p)})[0]

    p = np.where(ramp > 8, 1e-4, 1.0)
    best = score(ramp / 9, p)
    assert best["average_precision"] == best["dice"] == 1 and best["peak_distance"] == 0
    assert best["map_correlation"] == pytest.approx(1) and best["auc_turned"] < 0.1
    assert (best["false_discoveries"], best["true_voxels_found"]) == (0, 1)
    worst = score(1 - ramp / 9, np.where(ramp < 1, 1e-4, 1.0))
    assert worst["dice"] == 0 and worst["auc_turned"] > 0.9 and worst["map_correlation"] < -0.99
    assert worst["peak_distance"] == pytest.approx(18)  # nine voxels of 2 mm
    assert (worst["false_discoveries"], worst["true_voxels_found"]) == (1, 0)
    noise = score(np.random.default_rng(0).random((10, 6, 4)))
    assert noise["dice"] < 0.35 and "false_discoveries" not in noise


def test_a_half_turn_twice_is_the_map_itself():
    mask = np.ones((6, 5, 4), bool)
    values = np.random.default_rng(0).random(mask.shape)
    once = turned(values, mask).reshape(mask.shape)
    np.testing.assert_array_equal(once, values[::-1, ::-1])
    np.testing.assert_array_equal(turned(once, mask).reshape(mask.shape), values)


def test_the_ceilings_ridge_finds_weights_and_shrinks_noise():
    rng = np.random.default_rng(0)
    features = rng.random((300, 6))
    weights = np.array([3.0, 0, 0, 1.0, 0, 2.0])
    np.testing.assert_allclose(
        ridge(features, features @ weights + 0.05 * rng.normal(size=300)), weights, atol=0.1
    )
    assert np.abs(ridge(features, rng.normal(size=300))).max() < 0.3


def test_the_known_model_makes_the_responses_of_the_simulation(tiny_nsd):
    """Its drives, weighted by the true maps, follow the responses that were written: above what other pictures' drives do."""
    from neurovl.smallworld.subjects import known_model, truth

    data = open_recordings(tiny_nsd)
    trials = data.trials[data.trials.subject == "subj01"]
    ids = sorted(trials.image_id.unique())
    model, maps = known_model(data.root, 1, ids), truth(data.root, 1)
    where = np.argwhere(model.sees)
    flat = np.ravel_multi_index(where.T, model.sees.shape, order="F")
    order = np.argsort(flat)
    weights = np.stack([maps[c][model.sees][order] for c in model.concepts])
    assert not any(maps[c][data.mask(1) & ~model.sees].any() for c in model.concepts)
    betas = np.concatenate(
        [data.session_voxels("subj01", s, flat[order]) for s in sorted(trials.session.unique())]
    )
    image = trials.image_id.to_numpy()
    means = np.stack([betas[image == i].mean(0) for i in ids])
    said = np.stack([model.drives(k) @ weights[:, n] for n, k in enumerate(order)], 1)
    alive = said.std(0) > 1e-6
    right = (standard(said) * standard(means)).mean(0)[alive]
    wrong = (standard(said[::-1]) * standard(means)).mean(0)[alive]
    assert right.mean() > 0.25 and abs(wrong.mean()) < 0.1
