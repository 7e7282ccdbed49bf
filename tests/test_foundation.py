"""The shipped tiny family: formats that the hub's own classes load, scores on fresh scenes, training that learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurovl.datasets import scenes
from neurovl.errors import MissingError
from neurovl.foundation import clip, llm, metric, unclip, vae
from neurovl.foundation.pictures import Pictures
from neurovl.foundation.source import TINY, resolve
from neurovl.instructions import prompt_ids


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Scenes of a stream that neither the training nor the model cards have seen."""
    return Pictures(tmp_path_factory.mktemp("pictures"), 300, "foundation-test")


@pytest.fixture(scope="module")
def tiny_clip():
    return clip.load_clip("tiny", "cpu")


def test_the_family_is_small():
    assert sum(p.stat().st_size for p in TINY.rglob("*") if p.is_file()) < 6.0e6


def test_streams_of_foundation_and_brains_share_no_picture():
    seen = {scenes.render(scenes.make_scene("nsd", i), 32).tobytes() for i in range(150)}
    learned = {scenes.render(scenes.make_scene("foundation", i), 32).tobytes() for i in range(150)}
    assert len(seen) > 140 and not seen & learned


def test_clip_finds_the_caption(tiny_clip, fresh):
    scores = clip.score_clip(tiny_clip, fresh)
    assert scores["recall@1"] > 0.5 and scores["recall@5"] > 0.85  # chance .01 and .05


def test_open_clip_and_transformers_agree(tiny_clip, fresh):
    from transformers import CLIPVisionModelWithProjection

    tower = CLIPVisionModelWithProjection.from_pretrained(
        TINY / "unclip" / "image_encoder", dtype=torch.float32
    )
    images = [Image.fromarray(p) for p in fresh.pixels[:8]]
    pixels = torch.stack([tiny_clip.preprocess(im) for im in images])
    with torch.no_grad():
        theirs = tower.eval()(pixels).image_embeds
    torch.testing.assert_close(tiny_clip.embed_images(images), theirs, atol=2e-2, rtol=2e-2)


def test_the_haxby_words_are_far_apart(tiny_clip):
    words = ["face", "house", "cat", "bottle", "scissors", "shoe", "chair"]
    texts = [f"a picture of a {w} on a plain background" for w in words] + ["a scrambled picture"]
    unit = torch.nn.functional.normalize(tiny_clip.embed_texts(texts), dim=-1)
    assert float((unit @ unit.T).fill_diagonal_(-1).max()) < 0.95


def test_vae_reconstructs_scenes(fresh):
    scores = vae.score_vae(vae.load_vae("tiny", "cpu"), fresh)
    assert scores["psnr"] > 26 and 0.8 < scores["latent_std"] < 1.2


def test_metric_network_sees_what_is_there(fresh):
    scores = metric.score_metric(metric.load_metric("tiny", "cpu"), fresh)
    assert scores["category_auc"] > 0.97 and scores["background_accuracy"] > 0.9


def test_the_llm_answers_from_words():
    model, tokenizer = llm.load_llm("tiny", "cpu")
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


def test_llm_perplexity_on_fresh_dialogues(fresh):
    few = Pictures(fresh.path.parent, 30, "foundation-test")
    scores = llm.score_llm(*llm.load_llm("tiny", "cpu"), few)
    assert scores["perplexity"] < 3  # untrained: the size of the vocabulary


def test_unclip_follows_the_embedding(tiny_clip, fresh):
    """Pictures sampled from true embeddings resemble their own picture more than others, by the metric network."""
    from neurovl.metrics import two_way

    pipeline, network = unclip.load_unclip("tiny", "cpu"), metric.load_metric("tiny", "cpu")
    true = [Image.fromarray(p) for p in fresh.pixels[:40]]
    made = pipeline(
        prompt=[five[0] for five in fresh.captions[:40]],
        image_embeds=tiny_clip.embed_images(true),
        num_inference_steps=10,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
    ).images
    score = two_way(
        network.features(made)["scenenet_late"], network.features(true)["scenenet_late"]
    )
    assert np.mean(score) > 0.6  # chance .5


def test_a_minute_of_training_lowers_the_losses(tmp_path):
    pictures = Pictures(tmp_path / "pictures", 200)
    curves = {
        "vae": vae.train_vae(tmp_path / "unclip/vae", pictures, steps=12, seed=0, device="cpu"),
        "clip": clip.train_clip(
            tmp_path / "clip", pictures, steps=30, seed=0, device="cpu", batch_size=64
        ),
        "metric": metric.train_metric(
            tmp_path / "metric", pictures, steps=30, seed=0, device="cpu", batch_size=64
        ),
        "llm": llm.train_llm(
            tmp_path / "llm", pictures, steps=25, seed=0, device="cpu", batch_size=16
        ),
    }
    curves["unclip"] = unclip.train_unclip(
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
    assert clip.load_clip(str(tmp_path / "clip"), "cpu").width == 64
    assert (
        type(unclip.load_unclip(str(tmp_path / "unclip"), "cpu")).__name__
        == "StableUnCLIPImg2ImgPipeline"
    )


def test_shipped_members_say_how_they_were_made():
    for member in ("clip", "unclip", "llm", "metric"):
        card = (TINY / member / "README.md").read_text()
        assert "rendered scenes" in card and (TINY / member / "provenance.json").exists()


def test_a_model_that_is_not_here_is_named():
    with pytest.raises(MissingError, match="no clip model at ./nowhere"):
        resolve("./nowhere", "clip")
    assert Path(resolve("tiny", "llm")).is_dir()
    with pytest.raises(MissingError, match="hf download org/name"):
        resolve("org/name", "llm")
