"""Mind-Reader, Gu et al., UMBRAE and OneLLM: their special parts by the formulas, and what they learn of toy brains."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from toy_brains import ToyBrains, identified

from neurovl.baselines import network_fitting
from neurovl.baselines.decoder import FrozenParts
from neurovl.baselines.gu import Details, Gu, VoxelTrunk, divergence
from neurovl.baselines.mind_reader import MindReader, VoxelMapper, contrast
from neurovl.baselines.onellm import FmriBranch, OneLLM, OwnTrunk
from neurovl.baselines.umbrae import Tokenizer, Umbrae
from neurovl.errors import DataError, MissingError
from neurovl.language import BrainLLM, Projector, fit_language
from neurovl.language.dialogues import PROMPTS, Dialogue
from neurovl.settings.sections import Language

SETTINGS = {
    MindReader: {
        "channels": 8,
        "blocks": 1,
        "hidden": 32,
        "clamp": 9.0,
        "lr": 5e-3,
        "epochs": 8,
        "batch_size": 64,
    },
    Gu: {
        "width": 2,
        "code": 6,
        "lr": 1e-2,
        "epochs": 15,
        "detail_lr": 1e-2,
        "detail_epochs": 15,
        "detail_batch_size": 32,
        "dropout": 0.1,
    },
    Umbrae: {
        "tokens": 6,
        "width": 24,
        "layers": 2,
        "heads": 2,
        "head_width": 8,
        "lr": 1e-2,
        "epochs": 10,
        "batch_size": 64,
        "new_epochs": 10,
    },
    OneLLM: {
        "tokens": 2,
        "frozen_clip": False,
        "width": 24,
        "blocks": 1,
        "queries": 3,
        "experts": 2,
        "expert_blocks": 1,
        "heads": 2,
        "lr": 3e-3,
        "epochs": 10,
        "batch_size": 24,
        "max_new_tokens": 12,
    },
}
# What a system must tell of test pictures.
TELLS = {
    MindReader: ("clip_image", "clip_text"),
    Gu: ("clip_image", "vae"),
    Umbrae: ("patch_tokens", "clip_image"),
}
PICTURES, EVERY = (
    pytest.mark.parametrize("system", list(those), ids=lambda one: one.name)
    for those in (TELLS, SETTINGS)
)


def epochs(system, n) -> dict:
    return {"epochs": n, **({"detail_epochs": n} if system is Gu else {})}


def made(system, **other):
    return system(**{**SETTINGS[system], "precision": "no", **other})


def parts(**given) -> FrozenParts:
    return FrozenParts(**{"device": "cpu", **given})


@pytest.fixture(scope="module")
def toy() -> ToyBrains:
    made = ToyBrains()
    arrays, rng = made.features.arrays, np.random.default_rng(0)
    # Captions of a picture differ a little, and their mean is what they have in common, as in real features.
    apart = 0.1 * rng.normal(size=arrays["clip_texts"].shape).astype(np.float32)
    arrays["clip_texts"] = arrays["clip_text"][:, None] + apart - apart.mean(1, keepdims=True)
    return made


@pytest.fixture(scope="module")
def one(toy):
    """The first subject alone, with fewer trials."""
    return {"subj01": toy.train["subj01"].take(np.arange(90))}


WORDS = ("A dog sleeps on the grass.", "A red car stands on a road.")


@pytest.fixture(scope="module")
def speaker(toy):
    """Parts with a language model that read true patch tokens, and captions that follow from the pictures' features."""
    from neurovl.foundation.llm import load_llm

    torch.manual_seed(0)
    llm, tokenizer = load_llm("tiny", device="cpu")
    brain_llm = BrainLLM(llm, tokenizer, Projector(8, llm.config.hidden_size))
    shown = toy.features.arrays["clip_image"][:, 0]
    which = dict(zip(toy.features.image_ids, shown > np.median(shown), strict=True))
    talks = {image: [talk(image, WORDS[int(yes)])] for image, yes in which.items()}
    seen = sorted(set(toy.train["subj01"].image_ids))
    tokens = torch.as_tensor(toy.features.of("patch_tokens", seen))
    quick = Language(steps=(60, 30), batch_size=(16, 16), lr=(1e-2, 1e-3), precision="no")
    fit_language(brain_llm, tokens, seen, talks, quick, device="cpu")
    return parts(captioner=lambda: brain_llm, captions=lambda image: [WORDS[int(which[image])]])


def talk(image, caption) -> Dialogue:
    return Dialogue("brief", image, ((PROMPTS["brief"][0], caption),), False)


def shuffled(voxels, seed=0):
    """Each subject's trials with the responses of other trials."""
    rng = np.random.default_rng(seed)
    return {s: v.with_values(v.values[rng.permutation(len(v))]) for s, v in voxels.items()}


def told(decoder, toy, name) -> float:
    """Two-way score of a feature on averaged test trials, mean over subjects."""
    scores = []
    for voxels in toy.test.values():
        own = voxels.averaged()
        said = decoder.predict(own)[name]
        assert said.dtype == np.float32
        assert said.shape == (len(own), *toy.features.shape(name))
        scores.append(identified(said, toy.features.of(name, own.image_ids)))
    return float(np.mean(scores))


@PICTURES
def test_a_system_learns_from_brains_and_nothing_from_shuffled_ones(toy, system):
    decoder = made(system).fit(toy.train, toy.features, parts())
    for name in TELLS[system]:
        assert told(decoder, toy, name) > 0.75, name
    blind = made(system).fit(shuffled(toy.train), toy.features, parts())
    for name in TELLS[system]:
        assert abs(told(blind, toy, name) - 0.5) < 0.2, name


@EVERY
def test_the_same_seed_gives_the_same_numbers(toy, one, speaker, system):
    said = [
        made(system, **epochs(system, 1))
        .fit(one, toy.features, replace(speaker, seed=seed))
        .predict(toy.test["subj01"])
        for seed in (0, 0, 1)
    ]
    for name, first in said[0].items():
        assert np.array_equal(first, said[1][name])
        assert not np.allclose(first, said[2][name])


class Killed(Exception):
    pass


@EVERY
def test_a_training_that_was_killed_goes_on(toy, one, speaker, system, tmp_path, monkeypatch):
    often = functools.partial(network_fitting.Schedule, checkpoint_every=2)
    monkeypatch.setattr(network_fitting, "Schedule", often)
    whole = made(system, **epochs(system, 3)).fit(one, toy.features, speaker)
    steps, rows = [], network_fitting.batch_rows

    def dying(n_rows, batch_size, step, seed):
        steps.append(step)
        if len(steps) == 4:
            raise Killed
        return rows(n_rows, batch_size, step, seed)

    monkeypatch.setattr(network_fitting, "batch_rows", dying)
    place = replace(speaker, checkpoint=tmp_path)
    with pytest.raises(Killed):
        made(system, **epochs(system, 3)).fit(one, toy.features, place)
    assert list((tmp_path / "subj01").rglob("checkpoint.pt"))
    del steps[:]
    monkeypatch.setattr(network_fitting, "batch_rows", lambda *a: steps.append(a[2]) or rows(*a))
    again = made(system, **epochs(system, 3)).fit(one, toy.features, place)
    assert steps[0] == 2
    wanted = whole.predict(toy.test["subj01"])
    for name, said in again.predict(toy.test["subj01"]).items():
        assert np.array_equal(said, wanted[name])


@EVERY
def test_cards_say_what_every_card_must(system):
    said = {choice.what for choice in system.card.choices}
    wanted = {"input", "map", "loss", "training", "predicts", "generator", "selection", "models"}
    assert wanted <= said
    assert set(system.search) <= set(system.defaults)
    assert {choice.source for choice in system.card.choices} <= {"code", "paper", "chosen"}


# Mind-Reader


def test_the_contrast_is_the_mean_of_both_directions():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    alike = unit[0] @ unit[1].T / 0.5
    rows, columns = (np.diag(log_softmax(alike, axis=axis)) for axis in (1, 0))
    wanted = -(rows + columns).sum() / (2 * 7)
    found = contrast(torch.tensor(a), torch.tensor(b), 0.5)
    assert float(found) == pytest.approx(wanted, abs=1e-12)


def test_the_loss_weighs_its_three_parts():
    rng = np.random.default_rng(1)
    a, b = torch.tensor(rng.normal(size=(2, 6, 4)))
    squared = ((a - b) ** 2).mean()
    cosine = 1 - np.mean([x @ y / (x.norm() * y.norm()) for x, y in zip(a, b, strict=True)])
    wanted = 0.2 * squared + 0.3 * cosine + 0.5 * contrast(a, b, 0.5)
    assert float(MindReader().loss(a, b)) == pytest.approx(float(wanted), abs=1e-6)


def convolved(x, layer, stride=1, padding=0):
    """A 1-D convolution as a sum over places: x (channels, L)."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    x = np.pad(x, ((0, 0), (padding, padding)))
    size = weight.shape[2]
    places = range(0, x.shape[1] - size + 1, stride)
    return np.stack([np.tensordot(weight, x[:, p : p + size], 2) + bias for p in places], 1)


@pytest.mark.parametrize("n_voxels", [12, 13])
def test_the_mapper_is_its_convolutions_written_out(n_voxels):
    torch.manual_seed(0)
    mapper = VoxelMapper(n_voxels, width=3, channels=2, blocks=1, hidden=4)
    voxels = torch.randn(2, n_voxels)
    first, _, block, last, _ = mapper.along
    a, _, b, _, c = block.inner
    for given, found in zip(voxels.numpy(), mapper(voxels).detach().numpy(), strict=True):
        x = np.maximum(convolved(given[None], first, stride=2, padding=1), 0)
        inner = np.maximum(convolved(x, a, padding=1), 0)
        inner = np.maximum(convolved(inner, b, padding=1), 0)
        x = np.maximum(x + convolved(inner, c), 0)
        x = np.maximum(convolved(x, last), 0)
        inner, out = mapper.over_places[0], mapper.over_places[2]
        wanted = [out(torch.relu(inner(torch.tensor(row).float()))).item() for row in x]
        assert found == pytest.approx(np.array(wanted), abs=1e-5)


def test_what_mind_reader_gives_to_the_generator(toy, one):
    decoder = made(MindReader, epochs=1).fit(one, toy.features, parts())
    said = decoder.predict(toy.test["subj01"].averaged())
    given = decoder.conditions(said)
    pictures = sorted(set(one["subj01"].image_ids))
    length = np.linalg.norm(toy.features.of("clip_image", pictures), axis=1).mean()
    assert np.linalg.norm(given.image, axis=1) == pytest.approx(length, rel=1e-5)
    texts = toy.features.of("clip_text", pictures)
    for row, text in zip(given.text, said["clip_text"], strict=True):
        cosines = [text @ other / np.linalg.norm(other) for other in texts]
        nearest = pictures[int(np.argmax(cosines))]
        assert np.array_equal(row, toy.features.of("text_states", [nearest])[0])


# Gu et al.


def test_the_divergence_is_that_of_normal_distributions():
    rng = np.random.default_rng(0)
    mean, log_variance = torch.tensor(rng.normal(size=(2, 5, 3)))
    code = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    wanted = torch.distributions.kl_divergence(code, standard).sum(1).mean()
    assert float(divergence(mean, log_variance)) == pytest.approx(float(wanted), abs=1e-12)


def test_what_lies_outside_the_mask_counts_for_nothing():
    rng = np.random.default_rng(0)
    mask = rng.random((6, 8, 5)) < 0.5
    wide = np.pad(mask, ((0, 8), (0, 8), (0, 8)))
    near, far = VoxelTrunk(mask, 2, 0.5).eval(), VoxelTrunk(wide, 2, 0.5).eval()
    far.load_state_dict(near.state_dict())
    volumes = torch.tensor(rng.normal(size=(3, *mask.shape)) * mask).float()
    found = near(volumes)
    assert found.shape == (3, 128)
    assert torch.allclose(found, far(torch.nn.functional.pad(volumes, (0, 8) * 3)), atol=1e-6)
    assert not torch.allclose(found[0], found[1], atol=1e-6)


def test_codes_are_drawn_in_training_alone_and_begin_at_the_mean_latent():
    torch.manual_seed(0)
    mean = np.arange(8.0, dtype=np.float32).reshape(2, 2, 2)
    details = Details(VoxelTrunk(np.ones((4, 4, 4), bool), 2, 0.0), 3, 4, mean)
    assert torch.equal(details.paint(torch.zeros(7)), torch.arange(8.0))
    volumes, seen = torch.randn(6, 4, 4, 4), torch.randn(6, 4)
    drawn = [details(volumes, seen)[0] for _ in range(2)]
    assert not torch.allclose(*drawn)
    details.eval()
    latents, code, _ = details(volumes, seen)
    assert torch.allclose(latents.flatten(1), details.paint(torch.cat([code, seen], 1)))


def test_gu_predicts_vectors_of_the_training_pictures_mean_length(toy, one):
    decoder = made(Gu, epochs=1, detail_epochs=1, strength=0.7).fit(one, toy.features, parts())
    said = decoder.predict(toy.test["subj01"].averaged())
    pictures = sorted(set(one["subj01"].image_ids))
    length = np.linalg.norm(toy.features.of("clip_image", pictures), axis=1).mean()
    assert np.linalg.norm(said["clip_image"], axis=1) == pytest.approx(length, rel=1e-5)
    given = decoder.conditions(said)
    assert given.start is said["vae"] and given.strength == 0.7 and given.samples == 1


# UMBRAE


def test_a_tokenizer_is_two_linear_maps_one_after_the_other():
    torch.manual_seed(0)
    tokenizer, voxels = Tokenizer(7, tokens=4, width=3), torch.randn(2, 7)
    each, read = tokenizer.each, tokenizer.read
    copies = each(voxels[:, :, None])  # (2, 7, 4), the voxels as a list of T numbers each
    wanted = read(copies.transpose(1, 2))
    found = tokenizer(voxels)
    assert torch.allclose(found, wanted, atol=1e-6)
    # Of one brain less another only the gains remain: a matrix of rank one.
    assert np.linalg.matrix_rank((found[0] - found[1]).detach().numpy(), tol=1e-5) == 1


def test_a_new_subject_is_learned_from_the_shared_perceiver(toy):
    first = made(Umbrae).fit({"subj01": toy.train["subj01"]}, toy.features, parts())
    own = toy.test["subj01"].averaged()
    before = first.predict(own)["patch_tokens"]
    few = toy.train["subj02"].take(np.arange(120))
    asked = toy.test["subj02"].averaged()
    true = toy.features.of("patch_tokens", asked.image_ids)
    new = first.fit_new_subject(few, toy.features, parts())
    assert identified(new.predict(asked)["patch_tokens"], true) > 0.75
    blind = first.fit_new_subject(shuffled({"": few})[""], toy.features, parts())
    assert abs(identified(blind.predict(asked)["patch_tokens"], true) - 0.5) < 0.2
    assert np.array_equal(first.predict(own)["patch_tokens"], before)

    frozen = made(Umbrae, freeze=True)
    frozen._network, frozen._embedding = first._network, first._embedding
    frozen = frozen.fit_new_subject(few, toy.features, parts())
    assert frozen.n_parameters == 2 * 6 + (few.n_voxels + 1) * 24
    kept, given = frozen._network.perceiver.state_dict(), first._network.perceiver.state_dict()
    assert all(torch.equal(kept[name], given[name]) for name in given)
    trained = new._network.perceiver.state_dict()
    assert not torch.equal(trained["latents"], given["latents"])


def test_the_embedding_is_read_from_true_tokens_as_from_predicted_ones(toy, one):
    decoder = made(Umbrae, epochs=1).fit(one, toy.features, parts())
    images = toy.test["subj01"].averaged().image_ids
    true = toy.features.of("patch_tokens", images)
    read = decoder._embedding.predict(true.mean(1))
    assert np.allclose(read, toy.features.of("clip_image", images), atol=0.05)
    said = decoder.predict(toy.test["subj01"])
    assert np.allclose(
        said["clip_image"], decoder._embedding.predict(said["patch_tokens"].mean(1)), atol=1e-5
    )
    assert decoder.speaks_from(said) is said["patch_tokens"] and decoder.n_models == 1


# OneLLM


def branch(n_experts):
    torch.manual_seed(0)
    mean, spread = np.arange(5, dtype=np.float32), np.full(5, 2, np.float32)
    return FmriBranch(9, 2, OwnTrunk(8, 2, 1), 3, n_experts, 1, 2, mean, spread)


def test_gates_share_a_whole_among_the_experts():
    several = branch(3)
    for expert in several.experts[1:]:
        expert.load_state_dict(several.experts[0].state_dict())
    alone = branch(1)
    state = {k: v for k, v in several.state_dict().items() if k in alone.state_dict()}
    state |= {k: v for k, v in alone.state_dict().items() if k.startswith("gates")}
    alone.load_state_dict(state)
    voxels = torch.randn(4, 9)
    assert several(voxels).shape == (4, 3, 5)
    assert torch.allclose(several(voxels), alone(voxels), atol=1e-5)


def test_its_tokens_begin_where_true_patch_tokens_lie():
    said = branch(2)(torch.randn(50, 9)).detach()
    centred = (said - torch.arange(5.0)) / 2
    assert torch.allclose(centred.mean(-1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(centred.var(-1, unbiased=False), torch.ones(()), atol=1e-2)


def caption_loss(decoder, voxels, speaker) -> float:
    talks = [talk(image, speaker.captions(image)[0]) for image in voxels.image_ids]
    with torch.no_grad():
        hidden = torch.as_tensor(decoder.predict(voxels)["hidden"])
        return float(speaker.captioner().loss(hidden, talks))


def test_onellm_learns_to_say_what_is_seen_and_nothing_from_shuffled_brains(toy, speaker):
    train, asked = {"subj01": toy.train["subj01"]}, toy.test["subj01"].averaged()
    true = [speaker.captions(image)[0] for image in asked.image_ids]
    weights = {k: v.clone() for k, v in speaker.captioner().state_dict().items()}

    decoder = made(OneLLM).fit(train, toy.features, speaker)
    said = decoder.captions(decoder.predict(asked), speaker)
    right = np.mean([a == b for a, b in zip(said, true, strict=True)])
    assert right > 0.75 and decoder.n_models == 1
    start = made(OneLLM, lr=0.0, epochs=1).fit(train, toy.features, speaker)
    assert caption_loss(decoder, asked, speaker) < caption_loss(start, asked, speaker) / 2
    assert decoder.conditions(decoder.predict(asked)) is None

    blind = made(OneLLM).fit(shuffled(train), toy.features, speaker)
    other = blind.captions(blind.predict(asked), speaker)
    assert np.mean([a == b for a, b in zip(other, true, strict=True)]) < right - 0.15
    now = speaker.captioner().state_dict()
    assert all(torch.equal(now[name], weights[name]) for name in weights)


def test_onellm_leaves_clip_as_it_is(toy, one, speaker):
    decoder = made(OneLLM, frozen_clip=True, heads=3, epochs=1).fit(one, toy.features, speaker)
    assert decoder.predict(toy.test["subj01"])["hidden"].shape[1:] == (3, 8)
    tower = speaker.clip().model.visual
    trunk = decoder._networks["subj01"].trunk
    for name, weight in tower.transformer.state_dict().items():
        assert torch.equal(trunk.blocks.state_dict()[name], weight), name
    own = sum(
        p.numel() for n, p in decoder._networks["subj01"].named_parameters() if "trunk" not in n
    )
    assert decoder.n_parameters == own


def test_onellm_says_what_it_lacks(toy, one, speaker):
    with pytest.raises(MissingError, match="no language model"):
        made(OneLLM).fit(one, toy.features, parts())
    mute = parts(captioner=speaker.captioner, captions=lambda image: [])
    with pytest.raises(MissingError, match="have no caption"):
        made(OneLLM).fit(one, toy.features, mute)


def test_another_kind_of_tower_is_refused():
    from neurovl.baselines.onellm import ClipTrunk

    with pytest.raises(DataError, match="Linear without ln_pre"):
        ClipTrunk(torch.nn.Linear(2, 2))
