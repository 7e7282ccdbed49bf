"""ViT3D against torch's own transformer layer, the loss by hand, MixUp partners, and learning from toy brains."""

import pytest
import torch

from neurovl.alignment import alignment_loss, partners, predict
from neurovl.config import Alignment
from neurovl.encoder import Block, BrainEmbedding, BrainEncoder
from neurovl.errors import ConfigError, DataError

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
        "self_attn.in_proj_weight": "qkv.weight", "self_attn.in_proj_bias": "qkv.bias", "self_attn.out_proj.weight": "out.weight",
        "self_attn.out_proj.bias": "out.bias", "linear1.weight": "mlp.0.weight", "linear1.bias": "mlp.0.bias",
        "linear2.weight": "mlp.2.weight", "linear2.bias": "mlp.2.bias", "norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias",
    }  # fmt: skip
    own = ours.state_dict()
    theirs.load_state_dict({k: own[v] for k, v in names.items()})
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


def test_shapes_and_the_penultimate_layer(encoder):
    z = encoder(torch.randn(3, 7, 27))
    assert z.clip.shape == (3, 10) and z.vae.shape == (3, 4, 2, 2) and z.hidden.shape == (3, 8, 32)
    again = encoder.read_out(z.hidden)
    torch.testing.assert_close(again.clip, z.clip)


def test_tokens_of_another_plan_are_refused(encoder):
    with pytest.raises(DataError, match=r"expected \(B, 7, 27\)"):
        encoder(torch.randn(3, 6, 27))


def test_an_unknown_embedding_is_refused():
    with pytest.raises(ConfigError, match="expected 'shared' or 'local'"):
        BrainEncoder(**SHAPE, embedding="share")


def test_a_local_embedding_is_a_linear_map_for_each_patch():
    layer = BrainEncoder(**SHAPE, embedding="local").embed
    x = torch.randn(2, 7, 27)
    expected = torch.stack([x[:, n] @ layer.weight[n] + layer.bias for n in range(7)], dim=1)
    torch.testing.assert_close(layer(x), expected)


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
