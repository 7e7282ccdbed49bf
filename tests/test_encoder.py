"""ViT3D against torch's own transformer layer, the loss by hand, MixUp partners, and learning from toy brains."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neurovl.encoder.alignment import alignment_loss, place_readout, predict
from neurovl.encoder.batches import partners
from neurovl.encoder.vit3d import Block, BrainEmbedding, BrainEncoder, _attend
from neurovl.errors import DataError
from neurovl.localization.encoder_maps import gradcam
from neurovl.settings.sections import Alignment

SHAPE = {
    "n_tokens": 7,
    "token_size": 27,
    "clip_width": 10,
    "vae_shape": [4, 2, 2],
    "width": 32,
    "layers": 3,
    "heads": 4,
}


@pytest.fixture()
def encoder():
    torch.manual_seed(0)
    return BrainEncoder(**SHAPE).eval()


def test_a_block_is_torch_s_pre_norm_layer():
    torch.manual_seed(1)
    ours = Block(32, 4, 2.0, 0.0).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True
    ).eval()
    names = {
        "self_attn.in_proj_weight": "qkv.weight",
        "self_attn.in_proj_bias": "qkv.bias",
        "self_attn.out_proj.weight": "out.weight",
        "self_attn.out_proj.bias": "out.bias",
        "linear1.weight": "mlp.0.weight",
        "linear1.bias": "mlp.0.bias",
        "linear2.weight": "mlp.2.weight",
        "linear2.bias": "mlp.2.bias",
        "norm1.weight": "norm1.weight",
        "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight",
        "norm2.bias": "norm2.bias",
    }
    own = ours.state_dict()
    theirs.load_state_dict({k: own[v] for k, v in names.items()})
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


def test_shapes_and_the_penultimate_layer(encoder):
    z = encoder(torch.randn(3, 7, 27))
    assert z.clip.shape == (3, 10) and z.vae.shape == (3, 4, 2, 2) and z.hidden.shape == (3, 8, 32)
    again = encoder.from_hidden(z.hidden)
    torch.testing.assert_close(again.clip, z.clip)


def test_tokens_of_another_plan_are_refused(encoder):
    with pytest.raises(DataError, match=r"expected \(B, 7, 27\)"):
        encoder(torch.randn(3, 6, 27))


def test_heads_start_at_the_mean_target(encoder):
    clip, vae = torch.randn(10), torch.randn(4, 2, 2)
    encoder.start_at(clip, vae)
    torch.testing.assert_close(encoder.clip_head[-1].bias, clip)
    torch.testing.assert_close(encoder.vae_head[-1].bias, vae.flatten())


def test_save_and_load(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    x = torch.randn(2, 7, 27)
    torch.testing.assert_close(
        BrainEncoder.from_pretrained(tmp_path).eval()(x).clip, encoder(x).clip
    )
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".md", ".safetensors"]


def test_the_loss_is_equation_2():
    predicted = BrainEmbedding(
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 1)
    )
    clip, vae = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.zeros(2, 1, 2, 2)
    loss = alignment_loss(predicted, clip, vae, Alignment(alpha=0.25))
    assert float(loss["clip"]) == pytest.approx((1 + 4 + 9 + 16) / 2)
    assert float(loss["loss"]) == pytest.approx(15 + 0.25 * 4)
    mean = alignment_loss(predicted, clip, vae, Alignment(alpha=0.25, reduction="mean"))
    assert float(mean["loss"]) == pytest.approx(7.5 + 0.25)


def test_partners_share_subject_and_target():
    table = partners(list("aaabba"), [1, 2, 1, 1, 1, 1])
    assert table.shape == (6, 3)
    assert set(table[0]) == {0, 2, 5} and set(table[1]) == {1} and set(table[3]) == {3, 4}


def test_prediction_in_batches_is_prediction_at_once(encoder):
    x = torch.randn(10, 7, 27)
    torch.testing.assert_close(predict(encoder, x, batch_size=3).vae, predict(encoder, x).vae)


# LinearReadout: two subjects on 150 voxels, of which each measured about 100; tokens in an order of their own.

N_VOXELS, K, T = 150, 5, 10 + 16


@pytest.fixture(scope="module")
def linear():
    """Decoders of two subjects with their voxels, and the way from 150 voxels to tokens (7, 27)."""
    rng = np.random.default_rng(0)
    order = np.append(rng.permutation(N_VOXELS), np.full(7 * 27 - N_VOXELS, N_VOXELS))
    columns = torch.from_numpy(rng.permutation(order).reshape(7, 27))
    models = []
    for own in (np.arange(N_VOXELS) < 100, np.arange(N_VOXELS) >= 55):
        a = (rng.normal(size=(N_VOXELS, K)) * own[:, None]).astype(np.float32)
        offset = rng.normal(size=K).astype(np.float32)
        models.append(SimpleNamespace(measured=own, decoder=lambda a=a, offset=offset: (a, offset)))
    basis = SimpleNamespace(
        mean=torch.from_numpy(rng.normal(size=T)).float(),
        components=torch.from_numpy(rng.normal(size=(K, T))).float(),
    )
    x = [np.where(m.measured, rng.normal(size=(6, N_VOXELS)), 0).astype(np.float32) for m in models]
    return SimpleNamespace(models=models, basis=basis, columns=columns, x=x)


def tokens_of(linear, x):
    return torch.nn.functional.pad(torch.from_numpy(x), (0, 1))[:, linear.columns]


@pytest.fixture()
def informed(linear):
    torch.manual_seed(0)
    made = BrainEncoder(**SHAPE, readout=K, n_subjects=2).eval()
    place_readout(made.readout, linear.basis, linear.models, linear.columns)
    return made


def flat_decoder(linear, subject, x):
    a, offset = linear.models[subject].decoder()
    return linear.basis.mean + torch.from_numpy(offset + x @ a) @ linear.basis.components


@pytest.mark.parametrize("subject", [0, 1])
def test_readout_sums_to_the_linear_decoder_of_the_whole_volume(informed, linear, subject):
    x = linear.x[subject]
    said = informed.readout(tokens_of(linear, x))
    assert said.shape == (6, 8, K)
    made = informed.readout.decode(said.sum(1))
    torch.testing.assert_close(made, flat_decoder(linear, subject, x), atol=1e-3, rtol=1e-4)


def test_a_patch_says_what_its_own_voxels_say(informed, linear):
    a, _ = linear.models[1].decoder()
    said = informed.readout(tokens_of(linear, linear.x[1]))[:, 1:]
    for n, columns in enumerate(linear.columns):
        own = columns[columns < N_VOXELS]
        expected = linear.x[1][:, own] @ a[own]
        np.testing.assert_allclose(said[:, n], expected, atol=1e-4)


def test_both_heads_add_what_they_learned_to_the_linear_decoder(informed, linear):
    """The heads' own part is that of the same network whose decoder says nothing."""
    x = np.concatenate(linear.x)
    z = informed(tokens_of(linear, x))
    expected = torch.cat([flat_decoder(linear, s, linear.x[s]) for s in (0, 1)])
    informed.readout.components.zero_()
    informed.readout.mean.zero_()
    rest = informed(tokens_of(linear, x))
    torch.testing.assert_close(z.clip - rest.clip, expected[:, :10], atol=2e-3, rtol=1e-3)
    more = (z.vae - rest.vae).flatten(1)
    torch.testing.assert_close(more, expected[:, 10:], atol=2e-3, rtol=1e-3)
    assert rest.clip.std(0).min() > 0


def test_heads_with_readout_start_at_nothing(informed, linear):
    informed.start_at(torch.randn(10), torch.randn(4, 2, 2))
    z = informed(tokens_of(linear, linear.x[1]))
    expected = flat_decoder(linear, 1, linear.x[1])
    torch.testing.assert_close(z.clip, expected[:, :10], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(z.vae.flatten(1), expected[:, 10:], atol=1e-3, rtol=1e-4)


def test_volumes_find_their_subject(informed, linear):
    """In mixed batches: single trials, averages, and with 15 % of the voxels set to zero."""
    rng = np.random.default_rng(1)
    both = np.concatenate([linear.x[0], linear.x[1]])
    whose = torch.tensor([0] * 6 + [1] * 6)
    order = torch.randperm(12)
    subject = informed.readout.subject
    assert torch.equal(subject(tokens_of(linear, both)[order]), whose[order])
    means = np.stack([x.mean(0) for x in linear.x])
    assert subject(tokens_of(linear, means)).tolist() == [0, 1]
    for _ in range(20):
        less = both.copy()
        less[:, rng.permutation(N_VOXELS)[: round(0.15 * N_VOXELS)]] = 0
        assert torch.equal(subject(tokens_of(linear, less)), whose)
    mixed = informed.readout(tokens_of(linear, both)[order])
    alone = torch.cat([informed.readout(tokens_of(linear, x)) for x in linear.x])
    torch.testing.assert_close(mixed, alone[order])


def test_a_volume_of_zeros_is_read_as_someone_s_offset(informed):
    z = informed(torch.zeros(2, 7, 27))
    assert z.clip.isfinite().all() and z.vae.isfinite().all()
    said = informed.readout(torch.zeros(2, 7, 27))
    assert (said[:, 1:] == 0).all() and (said[0, 0] == informed.readout.offset).all(1).any()
    blank = BrainEncoder(**SHAPE, readout=K, n_subjects=2).eval()
    assert blank(torch.zeros(2, 7, 27)).clip.isfinite().all()


def test_hidden_states_hold_the_readout_and_are_decoded_again(informed, linear):
    tokens = tokens_of(linear, linear.x[0])
    z = informed(tokens)
    assert z.hidden.shape == (6, 8, 32 + K)
    torch.testing.assert_close(z.hidden[..., 32:], informed.readout(tokens))
    again = informed.from_hidden(z.hidden)
    torch.testing.assert_close(again.clip, z.clip)
    torch.testing.assert_close(again.vae, z.vae)


def test_the_gradient_reaches_each_patch_s_readout_alike(informed, linear):
    """d(clip . t) / d e_n = P t for every patch, so that GradCAM on readout is CAM."""
    text = torch.randn(10)
    hidden = informed(tokens_of(linear, linear.x[0])).hidden.detach().requires_grad_(True)
    (informed.from_hidden(hidden).clip @ text).sum().backward()
    expected = linear.basis.components[:, :10] @ text
    got = hidden.grad[..., 32:]
    torch.testing.assert_close(got, expected.expand_as(got), atol=1e-4, rtol=1e-4)


def test_heat_of_the_linear_decoder_is_each_patch_s_share(informed, linear):
    """With heads that say nothing: cam_n = ReLU(e_n . P d cos / d clip)."""
    informed.start_at(torch.zeros(10), torch.zeros(4, 2, 2))
    text, x = torch.randn(10), linear.x[1]
    clip = flat_decoder(linear, 1, x)[:, :10].double()
    size, t = clip.norm(dim=1, keepdim=True), text.double() / text.double().norm()
    slope = t / size - clip * (clip @ t)[:, None] / size**3
    along = slope @ linear.basis.components[:, :10].double().T
    a, _ = linear.models[1].decoder()
    said = [x[:, c[c < N_VOXELS]] @ a[c[c < N_VOXELS]] for c in linear.columns]
    expected = np.maximum(np.einsum("nbk,bk->bn", np.stack(said), along.numpy()), 0)
    np.testing.assert_allclose(gradcam(informed, tokens_of(linear, x), text), expected, atol=1e-4)


def test_readout_is_saved_loaded_and_never_trained(informed, linear, tmp_path):
    assert not any(name.startswith("readout") for name, _ in informed.named_parameters())
    informed.save_pretrained(tmp_path)
    again = BrainEncoder.from_pretrained(tmp_path).eval()
    for name, value in informed.readout.state_dict().items():
        assert torch.equal(again.readout.state_dict()[name], value), name
    tokens = tokens_of(linear, linear.x[1])
    torch.testing.assert_close(again(tokens).clip, informed(tokens).clip)


def test_readout_is_exact_under_autocast(informed, linear):
    tokens = tokens_of(linear, np.concatenate(linear.x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = informed.readout(tokens)
        made = informed.readout.decode(said.sum(1))
        z = informed(tokens)
    assert said.dtype == made.dtype == torch.float32
    torch.testing.assert_close(said, informed.readout(tokens))
    torch.testing.assert_close(z.hidden[..., 32:], said)


def test_an_encoder_without_vae_decodes_clip_alone(linear):
    made = BrainEncoder(**SHAPE | {"vae_shape": None}, readout=K, n_subjects=1).eval()
    z = made(tokens_of(linear, linear.x[0]))
    assert z.vae is None and made.readout.components.shape == (K, 10) and z.clip.shape == (6, 10)


@pytest.mark.parametrize("precise", [torch.float32, torch.bfloat16])
def test_attention_is_the_formula_in_either_precision(precise):
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).to(precise)
    logits = torch.einsum("bhnd,bhmd->bhnm", q.double(), k.double()) / 8**0.5
    expected = torch.einsum(
        "bhnm,bhmd->bhnd", logits.exp() / logits.exp().sum(-1, keepdim=True), v.double()
    )
    got = _attend(q, k, v)
    assert got.dtype == precise
    torch.testing.assert_close(
        got.double(), expected, atol=0.02 if precise == torch.bfloat16 else 1e-5, rtol=0
    )


def test_the_last_block_s_first_token_is_the_whole_block_s():
    torch.manual_seed(0)
    block, x = Block(16, 4, 2.0, 0.0), torch.randn(3, 7, 16)
    torch.testing.assert_close(block.first(x), block(x)[:, 0])


def test_weights_saved_from_python_get_a_card_that_says_what_it_lacks(tmp_path):
    from huggingface_hub import ModelCard

    BrainEncoder(3, 4, 5, None, width=8, layers=1, heads=2).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "neurovl" and card.data.license is None
    assert "neurovl export encoder" in card.text and "More Information Needed" not in card.text
