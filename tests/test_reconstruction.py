"""Start latents by arithmetic, and the sampler on the shipped unCLIP."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.errors import ConfigError, DataError
from neurovl.family.tiny_unclip import noisy_embedding
from neurovl.foundation.start_latents import start_latents
from neurovl.foundation.unclip import load_unclip
from neurovl.reconstruction.reconstructor import Reconstructor, contact_sheet


def embedding(n=2, width=64):
    torch.manual_seed(0)
    return BrainEmbedding(torch.randn(n, width), torch.randn(n, 4, 16, 16), torch.zeros(n, 1, 1))


@pytest.fixture(scope="module")
def sampler():
    return Reconstructor(load_unclip("tiny", "cpu"), steps=3, guidance=2.0)


def test_the_start_is_equation_4():
    vae = torch.ones(1, 4, 2, 2)
    noise = torch.randn((4, 2, 2), generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(start_latents(vae, 0.25, (4, 2, 2), [9])[0], 0.75 + 0.25 * noise)
    torch.testing.assert_close(start_latents(None, 1.0, (4, 2, 2), [9])[0], noise)


def test_a_picture_does_not_depend_on_its_batch(sampler):
    z = embedding()
    both = sampler.batch(z, ["a dog", "a red car"], seeds=[4, 5])
    second = sampler.batch(z.take([1]), ["a red car"], seeds=[5])[0]
    difference = np.abs(np.asarray(both[1], int) - np.asarray(second, int))
    assert both[0].size == (64, 64) and difference.max() <= 2


def test_embedding_prompt_latent_and_seed_all_matter(sampler):
    z = embedding(1)
    base = np.asarray(sampler(z, "a dog on the beach", beta=0.6, seed=1), int)
    other = embedding(2).take([1])
    for changed in (
        sampler(
            BrainEmbedding(other.clip, z.vae, z.hidden), "a dog on the beach", beta=0.6, seed=1
        ),
        sampler(z, "a red bus in a city at night", beta=0.6, seed=1),
        sampler(
            BrainEmbedding(z.clip, other.vae, z.hidden), "a dog on the beach", beta=0.6, seed=1
        ),
        sampler(z, "a dog on the beach", beta=0.6, seed=2),
    ):
        assert np.abs(np.asarray(changed, int) - base).max() > 2


def test_bf16_gives_the_same_pictures_but_for_its_rounding(sampler):
    z, sampler_in = embedding(), {"no": copy(sampler), "bf16": copy(sampler)}
    for precision, one in sampler_in.items():
        one.precision = precision
    whole, rounded = (
        one.pixels(z, ["a dog", "a red car"], 0.9, [4, 5]) for one in sampler_in.values()
    )
    assert whole.dtype == rounded.dtype == torch.float32
    assert 0 < (whole - rounded).abs().mean() < 0.01
    other = sampler_in["no"].pixels(z, ["a dog", "a red car"], 0.9, [5, 4])
    assert (whole - other).abs().mean() > 0.05


def test_pictures_decoded_in_slices_are_those_decoded_at_once(sampler, monkeypatch):
    from diffusers import AutoencoderKL

    latents, counts, decode = torch.randn(5, 4, 16, 16), [], AutoencoderKL.decode

    def counted(self, z, *args, **kwargs):
        counts.append(len(z))
        return decode(self, z, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "decode", counted)
    with torch.no_grad():
        whole = sampler._decode(latents)
        monkeypatch.setattr("neurovl.foundation.vae.AT_ONCE", 2 * 64 * 64 + 5)
        torch.testing.assert_close(sampler._decode(latents), whole, rtol=0, atol=1e-5)
        vae = sampler.pipeline.vae
        made = decode(vae, latents / vae.config.scaling_factor).sample
    assert counts == [5, 2, 2, 1]
    torch.testing.assert_close(whole, (made / 2 + 0.5).clamp(0, 1))


def test_where_memory_is_short_fewer_pictures_are_painted_at_a_time(sampler, monkeypatch, caplog):
    z, tried = embedding(7), []

    def short(self, z, prompts, beta, seeds):
        tried.append(len(z))
        if len(z) > 2:
            raise torch.OutOfMemoryError("full")
        return torch.zeros(len(z), 3, 4, 4)

    monkeypatch.setattr(Reconstructor, "pixels", short)
    assert len(sampler.batch(z, batch_size=8)) == 7
    assert tried == [7, 4, 2, 2, 2, 1]
    assert "2 pictures at a time" in caplog.text

    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(Reconstructor, "pixels", full)
    with pytest.raises(torch.OutOfMemoryError):
        sampler.batch(z, batch_size=2)


def test_rescaling_sets_the_length():
    sampler = Reconstructor(None, clip_norm=5.0)
    assert sampler.scaled(torch.tensor([[3.0, 4.0]])).tolist() == [[3.0, 4.0]]
    assert sampler.scaled(torch.tensor([[0.3, 0.4]]))[0].norm() == pytest.approx(5.0)


def test_the_condition_is_the_pipeline_s_own(sampler):
    pipeline, embeds = sampler.pipeline, torch.randn(2, 64)
    noise = torch.randn(2, 64)
    theirs = pipeline.noise_image_embeddings(embeds, noise_level=7, noise=noise)
    ours = noisy_embedding(
        embeds,
        torch.tensor([7, 7]),
        pipeline.image_normalizer,
        pipeline.image_noising_scheduler,
        noise,
    )
    torch.testing.assert_close(ours, theirs)


def test_bad_requests_are_named(sampler):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        sampler(embedding(1), beta=1.5)
    with pytest.raises(ConfigError, match="beta must be 1"):
        sampler(replace(embedding(1), vae=None), beta=0.9)
    with pytest.raises(DataError, match="2 trials"):
        sampler(embedding(2))


def test_contact_sheet_size():
    from PIL import Image

    tile = Image.new("RGB", (10, 10))
    assert contact_sheet([[tile] * 3, [tile]], size=20, gap=2).size == (64, 42)
