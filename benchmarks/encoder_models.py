"""What ViT3D is compared with, and how many operations each of them is.

`PlainViT` is a Vision Transformer over every patch of the grid as a textbook writes it; `LibraryEncoder` is ours with
PyTorch's own layers in place of our blocks.
"""

import math

import torch
from torch import nn

from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.settings.sections import EncoderShape


class PlainViT(nn.Module):
    """A ViT over all patches of the padded grid: the patch embedding a convolution, attention written out.

    Parameters
    ----------
    grid : tuple of int
        Common grid (x, y, z), padded to a multiple of the patch.
    patch : tuple of int
    clip_width : int
    vae_shape : tuple of int
    shape : EncoderShape
        Width, layers, heads, MLP ratio and hidden width of the heads.
    """

    def __init__(self, grid, patch, clip_width: int, vae_shape, shape: EncoderShape):
        super().__init__()
        d, n_tokens = shape.width, math.prod(g // p for g, p in zip(grid, patch, strict=True))
        self.grid, self.vae_shape = tuple(grid), tuple(vae_shape)
        self.embed = nn.Conv3d(1, d, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, d))
        self.position = nn.Parameter(torch.randn(1, n_tokens + 1, d) * 0.02)
        self.layers = nn.ModuleList(PlainLayer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(d)
        self.clip_head, self.vae_head = (
            nn.Sequential(
                nn.Linear(d, shape.head_hidden), nn.GELU(), nn.Linear(shape.head_hidden, n)
            )
            for n in (clip_width, math.prod(vae_shape))
        )

    def forward(self, volumes: torch.Tensor) -> BrainEmbedding:
        """Read volumes (B, x, y, z)."""
        x = self.embed(volumes[:, None]).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.position
        for layer in self.layers:
            x = layer(x)
        h = self.norm(x)[:, 0]
        return BrainEmbedding(
            self.clip_head(h), self.vae_head(h).unflatten(1, self.vae_shape), hidden=x
        )


class PlainLayer(nn.Module):
    """Pre-norm layer; attention is softmax(q k^T / sqrt(d)) v."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        d, inner = shape.width, int(shape.width * shape.mlp_ratio)
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, inner), nn.GELU(), nn.Linear(inner, d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class LibraryEncoder(BrainEncoder):
    """BrainEncoder with `torch.nn.TransformerEncoder` for its blocks; the rest is the same, readout is not supported."""

    def __init__(self, *args, width=768, layers=16, heads=12, mlp_ratio=4.0, dropout=0.0, **rest):
        super().__init__(
            *args, width=width, layers=0, heads=heads, mlp_ratio=mlp_ratio, dropout=dropout, **rest
        )
        layer = nn.TransformerEncoderLayer(
            width, heads, int(width * mlp_ratio), dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> BrainEmbedding:
        first = self.class_token.expand(len(tokens), -1, -1)
        x = self.blocks(torch.cat([first, self.embed(tokens)], dim=1) + self.position)
        h = self.norm(x[:, 0])
        return BrainEmbedding(
            self.clip_head(h), self.vae_head(h).unflatten(1, self.vae_shape), hidden=x
        )


def flops(
    n_tokens: int,
    token_size: int,
    shape: EncoderShape,
    n_targets: int,
    last_layer: str = "class token",
) -> tuple[int, int]:
    """Operations of the matrix products for one sample: (forward, backward).

    With T = N + 1 tokens of width D, MLP width M and Q of the tokens asked for (all, but in the last layer the class
    token alone), a layer's products are

        queries and output 2 x 2 Q D^2,  keys and values 4 T D^2,  attention 4 Q T D,  MLP 4 Q D M,

    the patch embedding's 2 N C D, the heads' 2 H (2 D + targets). Backward is twice the forward, but for the embedding,
    where nobody asks for the gradient of the voxels. Summed over a training step of full layers this is
    6 x parameters x tokens + 12 x layers x D x T^2.

    Parameters
    ----------
    n_tokens, token_size : int
        N patches of C voxels.
    n_targets : int
        Values of both heads' results.
    last_layer : str
        'class token', or 'all tokens' where the last layer computes what nobody reads.
    """
    d, m, t = shape.width, int(shape.width * shape.mlp_ratio), n_tokens + 1

    def layer(asked: int) -> int:
        return 4 * asked * d**2 + 4 * t * d**2 + 4 * asked * t * d + 4 * asked * d * m

    last = layer(1 if last_layer == "class token" else t)
    heads = 2 * shape.head_hidden * (2 * d + n_targets)
    inside, embed = (shape.layers - 1) * layer(t) + last + heads, 2 * n_tokens * token_size * d
    return inside + embed, 2 * inside + embed
