"""The shipped tiny family: formats that the hub's own classes load, scores on fresh scenes, training that learns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurovl.errors import ConfigError, MissingError
from neurovl.family import build as family
from neurovl.family import member_scores as scores
from neurovl.family import model_cards as cards
from neurovl.family import tiny_clip, tiny_llm, tiny_scenenet, tiny_unclip, tiny_vae
from neurovl.family.build import Family, Recipe
from neurovl.family.scene_pictures import Pictures
from neurovl.foundation.clip import load_clip
from neurovl.foundation.llm import load_llm
from neurovl.foundation.scenenet import CATEGORIES
from neurovl.foundation.source import TINY, resolve
from neurovl.foundation.start_latents import sample
from neurovl.foundation.unclip import load_unclip
from neurovl.language.dialogues import prompt_ids
from neurovl.smallworld import scenes


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Scenes of a stream that neither the training nor the model cards have seen."""
    return Pictures(tmp_path_factory.mktemp("pictures"), 300, "foundation-test")


@pytest.fixture(scope="module")
def tiny():
    return Family("tiny", "cpu")


@pytest.fixture(scope="module")
def shipped_clip(tiny):
    return tiny.clip


@pytest.fixture(scope="module")
def found(tiny, fresh):
    """Scores of the shipped family on those scenes: (member, score) -> Score."""
    few = Pictures(fresh.path.parent, 30, fresh.stream)
    out = {m: tiny.score(m, fresh) for m in ("vae", "clip", "metric")}
    out["llm"] = tiny.score("llm", few)
    out["unclip"] = scores.score_unclip(
        tiny.unclip, tiny.codec, tiny.clip, tiny.network, few, betas=()
    )
    return {(m, name): score for m, own in out.items() for name, score in own.items()}


def test_the_family_is_small():
    assert sum(p.stat().st_size for p in TINY.rglob("*") if p.is_file()) < 8.0e6


def test_streams_of_foundation_and_brains_share_no_picture():
    seen = {scenes.render(scenes.make_scene("nsd", i), 32).tobytes() for i in range(150)}
    learned = {scenes.render(scenes.make_scene("foundation", i), 32).tobytes() for i in range(150)}
    assert len(seen) > 140 and not seen & learned


def test_open_clip_and_transformers_agree(shipped_clip, fresh):
    from transformers import CLIPVisionModelWithProjection

    tower = CLIPVisionModelWithProjection.from_pretrained(
        TINY / "unclip" / "image_encoder", dtype=torch.float32
    )
    images = [Image.fromarray(p) for p in fresh.pixels[:8]]
    pixels = torch.stack([shipped_clip.preprocess(im) for im in images])
    with torch.no_grad():
        theirs = tower.eval()(pixels).image_embeds
    torch.testing.assert_close(shipped_clip.embed_images(images), theirs, atol=2e-2, rtol=2e-2)


def test_the_haxby_words_are_far_apart(shipped_clip):
    words = ["face", "house", "cat", "bottle", "scissors", "shoe", "chair"]
    texts = [f"a picture of a {w} on a plain background" for w in words] + ["a scrambled picture"]
    unit = torch.nn.functional.normalize(shipped_clip.embed_texts(texts), dim=-1)
    assert float((unit @ unit.T).fill_diagonal_(-1).max()) < 0.95


def test_the_llm_answers_from_words():
    model, tokenizer = load_llm("tiny", "cpu")
    from transformers import LlamaForCausalLM

    assert isinstance(model, LlamaForCausalLM)

    def ask(context, question):
        ids = torch.tensor([prompt_ids(tokenizer, [], question, 0, context)])
        out = model.generate(
            ids, max_new_tokens=12, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()

    scene = "A red car is parked in the city. car middle"
    assert (ask(scene, "Is there a car?"), ask(scene, "Is there a horse?")) == ("yes", "no")
    assert (
        tokenizer.decode(
            tokenizer(" any words, even żółw", add_special_tokens=False)["input_ids"]
        ).strip()
        == "any words, even żółw"
    )


def test_scores_are_far_from_chance(found):
    least = {
        ("clip", "recall@1"): 0.5,  # chance .01
        ("clip", "recall@5"): 0.85,  # chance .05
        ("clip", "zero_shot_auc"): 0.9,  # chance .5
        ("metric", "category_auc"): 0.95,  # chance .5
        ("metric", "background_accuracy"): 0.9,  # chance .05
        ("unclip", "two_way_late"): 0.8,  # chance .5
    }
    assert {k: found[k].value for k in least if found[k].value <= least[k]} == {}
    assert found["llm", "perplexity"].value < 3  # untrained: the size of the vocabulary
    assert found["unclip", "objects"].value <= found["unclip", "objects_true"].value + 0.1


def test_the_cards_scores_are_found_again(found):
    """Within the error of sampling, which follows from both numbers of scenes; one of 1,000 runs would fail by chance."""
    from scipy.stats import norm

    told = family.card_scores("tiny")
    both = sorted(set(told) & set(found))
    assert {m for m, _ in both} == set(family.MEMBERS)
    bound = norm.isf(0.001 / 2 / len(both))
    off = {}
    for key in both:
        (card, n), new = told[key], found[key]
        z = (new.value - card) / (new.se * np.sqrt(1 + new.n / n))
        if abs(z) > bound:
            off[key] = (card, new.value, round(float(z), 1))
    assert off == {}


def test_what_is_shipped_has_the_configuration_in_the_code():
    def config(*names):
        return json.loads(TINY.joinpath(*names).read_text())

    def plain(settings):  # as JSON has it: lists for tuples
        return json.loads(json.dumps(settings))

    shipped = {
        ("unclip", "vae", "config.json"): tiny_vae.CONFIG,
        ("unclip", "unet", "config.json"): tiny_unclip.UNET,
        ("unclip", "text_encoder", "config.json"): tiny_unclip.TEXT,
        ("unclip", "scheduler", "scheduler_config.json"): tiny_unclip.NOISE,
        ("llm", "config.json"): {**tiny_llm.CONFIG, "vocab_size": tiny_llm.VOCABULARY},
    }
    for names, settings in shipped.items():
        there = config(*names)
        assert {k: there[k] for k in settings} == plain(settings), names
    assert config("clip", "open_clip_config.json")["model_cfg"] == plain(tiny_clip.CONFIG)
    net = config("metric", "config.json")
    assert net["arguments"] == {"width": 16}
    assert net["categories"] == list(CATEGORIES)
    assert net["backgrounds"] == list(scenes.BACKGROUNDS)


@pytest.mark.parametrize("folder", cards.MEMBERS_OF)
def test_what_is_shipped_was_made_by_the_recipe(folder):
    facts = json.loads((TINY / folder / "provenance.json").read_text())
    own = ("pictures", "seed", *cards.MEMBERS_OF[folder])
    assert {k: facts["recipe"][k] for k in own} == {k: getattr(Recipe(), k) for k in own}
    assert facts["stream"] == family.HELDOUT and set(facts["members"]) == set(own[2:])


def test_cards_are_what_the_records_say(tmp_path):
    shutil.copytree(TINY, tmp_path / "tiny")
    for card in (tmp_path / "tiny").glob("*/README.md"):
        card.unlink()
    written = cards.write_cards(tmp_path / "tiny")
    assert [c.parent.name for c in written] == ["clip", "unclip", "llm", "metric"]
    for card in written:
        text = card.read_text()
        assert text == (TINY / card.parent.name / "README.md").read_text()
        for part in ("Data", "Training", "Scores", "Limits", "Licence"):
            assert f"\n## {part}\n" in text


def test_errors_of_scores_and_areas_under_curves():
    from sklearn.metrics import roc_auc_score

    some = scores.mean_score([1] * 100)  # Agresti and Coull: p = 102/104
    assert some.value == 1 and some.se == pytest.approx((102 / 104 * 2 / 104 / 104) ** 0.5)
    assert scores.mean_score([1.0, 2.0, 4.0]).se == pytest.approx(
        np.std([1, 2, 4], ddof=1) / 3**0.5
    )
    rng = np.random.default_rng(0)
    present = rng.random((60, 4)) < [0.2, 0.5, 0.7, 0.0]  # the last is never there: left out
    readout = np.round(rng.normal(size=(60, 4)) + present, 1)  # with ties
    expected = [roc_auc_score(present[:, k], readout[:, k]) for k in range(3)]
    assert scores.mean_auc(present, readout) == pytest.approx(np.mean(expected))
    mean = scores.resampled_score(lambda r: readout[r, 0].mean(), 60, n_resamples=2000)
    assert mean.se == pytest.approx(readout[:, 0].std() / 60**0.5, rel=0.1)


def test_a_caption_names_what_it_names():
    assert scores.names("two brown teddy bears on a bed", "teddy bear")
    assert not scores.names("two brown teddy bears on a bed", "bear")
    assert scores.names("a man in a red shirt", "person") and not scores.names("a carpet", "car")
    assert scores.names("a pair of red scissors on a desk", "scissors")


def test_two_readings_of_beta(tiny, fresh):
    true = [Image.fromarray(p) for p in fresh.pixels[:2]]
    words, embeds = [five[0] for five in fresh.captions[:2]], tiny.clip.embed_images(true)
    latents, scheduler = tiny.codec.encode(true), tiny.unclip.scheduler

    def made(latents, beta, reading):
        drawn = sample(tiny.unclip, words, embeds, latents, beta, reading, steps=4)
        return np.stack([np.asarray(im, dtype=int) for im in drawn])

    back = np.stack([np.asarray(im, dtype=int) for im in tiny.codec.decode(latents)])
    assert np.abs(made(latents, 0.0, "strength") - back).max() <= 1  # no step is done
    unused = made(latents, 1.0, "mix") - made(None, 1.0, "mix")
    assert np.abs(unused).max() <= 2  # the latent is not used; sums may round otherwise
    near, far = (np.abs(made(latents, b, "strength") - back).mean() for b in (0.5, 1.0))
    assert near < far and tiny.unclip.scheduler is scheduler
    with pytest.raises(ConfigError, match="beta is 0.5, expected 1 where no latent"):
        made(None, 0.5, "mix")
    with pytest.raises(ConfigError, match="expected mix or strength"):
        made(latents, 0.5, "other")


def test_foundation_evaluate_writes_a_table(tmp_path):
    import pandas as pd
    from typer.testing import CliRunner

    from neurovl.cli.options import app

    def call(*options):
        return CliRunner().invoke(app, ["foundation", "evaluate", *options])

    done = call("--members", "metric", "--n", "2", "--seed", "7", "--out", f"{tmp_path}/t.csv")
    assert done.exit_code == 0 and "category_auc" in done.output
    table = pd.read_csv(tmp_path / "t.csv")
    assert table.columns.tolist() == "member score value se n target met card".split()
    assert table.n.tolist() == [100, 100] and table.value.between(0.9, 1).all()
    for options, message in (
        (("--members", "vea"), "--members names vea"),
        (("--n", "1"), "n is 1, expected 2 scenes"),
        (("--models", f"{tmp_path}/none"), "there is no folder"),
        (("--cards",), "--models is tiny, expected a folder"),
    ):
        assert message in str(call(*options).exception)


def test_a_minute_of_training_lowers_the_losses(tmp_path):
    pictures = Pictures(tmp_path / "pictures", 200)
    curves = {
        "vae": tiny_vae.train_vae(
            tmp_path / "unclip/vae", pictures, steps=12, seed=0, device="cpu"
        ),
        "clip": tiny_clip.train_clip(
            tmp_path / "clip", pictures, steps=30, seed=0, device="cpu", batch_size=64
        ),
        "metric": tiny_scenenet.train_scenenet(
            tmp_path / "metric", pictures, steps=30, seed=0, device="cpu", batch_size=64
        ),
        "llm": tiny_llm.train_llm(
            tmp_path / "llm", pictures, steps=25, seed=0, device="cpu", batch_size=16
        ),
    }
    curves["unclip"] = tiny_unclip.train_unclip(
        tmp_path / "unclip",
        pictures,
        tmp_path / "clip",
        steps=25,
        seed=0,
        device="cpu",
        batch_size=16,
    )
    for name, curve in curves.items():
        assert np.mean([c["loss"] for c in curve[-4:]]) < np.mean([c["loss"] for c in curve[:4]]), (
            name
        )
    assert load_clip(str(tmp_path / "clip"), "cpu").width == 64
    assert (
        type(load_unclip(str(tmp_path / "unclip"), "cpu")).__name__ == "StableUnCLIPImg2ImgPipeline"
    )


def test_a_model_that_is_not_here_is_named():
    with pytest.raises(MissingError, match="no clip model at ./nowhere"):
        resolve("./nowhere", "clip")
    assert Path(resolve("tiny", "llm")).is_dir()
    with pytest.raises(MissingError, match="hf download org/name"):
        resolve("org/name", "llm")
