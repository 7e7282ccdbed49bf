"""Brain tokens of what the encoder predicts: each part where it belongs, kept with the language model, read by all that asks it."""

import dataclasses

import pytest
import torch
from test_language import make_model

from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.errors import DataError
from neurovl.language import BrainLLM, Conversations, PredictionTokens, Projector

D, E, SHAPE = 5, 7, (2, 8, 12)


def predicted(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    clip, vae, hidden = (
        torch.randn(n, *shape, generator=rng) * scale + 1
        for shape, scale in (((E,), 3.0), (SHAPE, 0.2), ((10, D), 1.0))
    )
    return BrainEmbedding(clip, vae, hidden)


def reading_model():
    """A tiny language model that reads predictions."""
    plain, reading = make_model(), PredictionTokens.fit(predicted(50))
    wide = reading(predicted(1)).shape[-1]
    torch.manual_seed(0)
    projector = Projector(wide, plain.projector.second.out_features)
    return BrainLLM(plain.llm, plain.tokenizer, projector, reading).eval()


def test_each_part_has_columns_and_tokens_of_its_own():
    z = predicted(4)
    tokens = PredictionTokens.fit(predicted(50))(z)
    patch = 2 * 2 * 3
    assert tokens.shape == (4, 18, D + E + patch + 17)
    torch.testing.assert_close(tokens[:, 0, :D], z.hidden[:, 0])
    assert not tokens[:, 0, D:].any() and not tokens[:, 1:, :D].any()
    assert not tokens[:, 2:, D : D + E].any() and not tokens[:, 1, D + E : -17].any()
    torch.testing.assert_close(tokens[:, 1:, -17:], torch.eye(17).expand(4, -1, -1))


def test_standardised_over_what_it_was_fitted_to():
    z = predicted(500)
    tokens = PredictionTokens.fit(z)(z)
    for part in (tokens[:, 1, D : D + E], tokens[:, 2:, D + E : -17]):
        torch.testing.assert_close(part.mean(0), torch.zeros_like(part[0]), atol=1e-5, rtol=0)
        assert float(part.square().mean()) == pytest.approx(1, abs=1e-4)


def test_places_are_those_of_the_latent():
    """A bump in one place of the latent is seen by that token alone: rows from the top, columns from the left."""
    z = predicted(1)
    reading = PredictionTokens.fit(predicted(50))
    moved = z.vae.clone()
    moved[:, :, 2:4, 9:12] += 1  # second row of places, fourth column
    change = reading(dataclasses.replace(z, vae=moved)) - reading(z)
    assert change.abs().sum((0, 2)).nonzero()[:, 0].tolist() == [2 + 4 + 3]


def test_without_a_latent():
    z = dataclasses.replace(predicted(3), vae=None)
    assert PredictionTokens.fit(z)(z).shape == (3, 2, D + E + 1)


def test_a_latent_that_cannot_be_cut_is_refused():
    z = dataclasses.replace(predicted(3), vae=torch.randn(3, 2, 6, 8))
    with pytest.raises(DataError, match="language.reads"):
        PredictionTokens.fit(z)


def test_all_that_asks_reads_the_same(tmp_path):
    """The tokens made by hand and the embedding are answered alike, by the model and as it is read from its folder."""
    model, z = reading_model(), predicted(2, seed=3)
    questions = ["What is it?", "Is there a dog?"]
    said = model.generate(model.read(z), questions, max_new_tokens=6)
    assert model.generate(z, questions, max_new_tokens=6) == said
    assert Conversations(model, z).ask(questions) == model.generate(z, questions)
    assert model.chat(z.take([1])).ask(questions[1], 6) == said[1]
    model.save_pretrained(tmp_path)
    again = BrainLLM.from_pretrained(tmp_path, device="cpu")
    assert again.generate(z, questions, max_new_tokens=6) == said
    (tmp_path / "reading.safetensors").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        BrainLLM.from_pretrained(tmp_path, device="cpu")


def test_another_picture_is_read_differently():
    model = reading_model()
    one, other = predicted(2, seed=3), predicted(2, seed=4)
    assert not torch.equal(model.projector(model.read(one)), model.projector(model.read(other)))
    faded = dataclasses.replace(
        one, hidden=one.hidden * torch.cat([torch.ones(1), torch.zeros(9)])[:, None]
    )
    torch.testing.assert_close(model.read(faded), model.read(one))
