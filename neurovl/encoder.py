"""ViT3D: one Vision Transformer over 3D brain patches for all subjects, with a CLIP and a VAE head (paper section 3.1).

The class token of the last layer feeds both heads; the hidden states of the penultimate layer feed the language model
and the localization.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from .errors import ConfigError, DataError, MissingError


@dataclass(frozen=True)
class BrainEmbedding:
    """What the encoder reads from a batch of brains.

    Attributes
    ----------
    clip : tensor, shape (B, E)
        Predicted CLIP image embedding, un-normalised.
    vae : tensor, shape (B, c, h, w), or None
        Predicted scaled VAE latent.
    hidden : tensor, shape (B, N + 1, D)
        Hidden states of the penultimate layer, class token first.
    """

    clip: torch.Tensor
    vae: torch.Tensor | None
    hidden: torch.Tensor

    def __len__(self) -> int:
        return len(self.clip)

    def take(self, rows) -> "BrainEmbedding":
        """The embeddings of some rows of the batch."""
        vae = None if self.vae is None else self.vae[rows]
        return BrainEmbedding(self.clip[rows], vae, self.hidden[rows])


class BrainEncoder(nn.Module, PyTorchModelHubMixin, library_name="neurovl", license="bsd-3-clause"):
    """Transformer over the kept patches of a volume.

    Parameters
    ----------
    n_tokens, token_size : int
        N patches of C voxel values each.
    clip_width : int
        E, width of the CLIP embedding.
    vae_shape : tuple of int, optional
        (c, h, w) of the latent; None trains without the VAE head.
    layout : str
        Layout of the token store that the encoder reads ('p14', 'flat', ...).
    width, layers, heads, mlp_ratio, head_hidden, dropout, embedding
        See `config.EncoderShape`.
    """

    def __init__(
        self,
        n_tokens: int,
        token_size: int,
        clip_width: int,
        vae_shape: tuple[int, int, int] | None = None,
        layout: str = "p14",
        width: int = 768,
        layers: int = 16,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        head_hidden: int = 1024,
        dropout: float = 0.0,
        embedding: str = "shared",
    ):
        super().__init__()
        if embedding not in ("shared", "local"):
            raise ConfigError(
                f"embedding is {embedding!r}, expected 'shared' or 'local'; correct it in the profile"
            )
        self.n_tokens, self.token_size, self.layout = n_tokens, token_size, layout
        self.vae_shape = None if vae_shape is None else tuple(vae_shape)
        self.embed = (
            nn.Linear(token_size, width)
            if embedding == "shared"
            else LocalLinear(n_tokens, token_size, width)
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, n_tokens + 1, width) * 0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.clip_head = _head(width, head_hidden, clip_width)
        self.vae_head = (
            None
            if vae_shape is None
            else _head(width, head_hidden, int(torch.tensor(vae_shape).prod()))
        )

    @classmethod
    def _from_pretrained(cls, **arguments):
        # The hub's mixin prints where it loads from.
        with contextlib.redirect_stdout(io.StringIO()):
            return super()._from_pretrained(**arguments)

    @torch.no_grad()
    def start_at(self, clip_mean: torch.Tensor, vae_mean: torch.Tensor | None) -> None:
        """Let both heads begin at the mean target of the training images, so that only differences are learned."""
        self.clip_head[-1].bias.copy_(clip_mean)
        if self.vae_head is not None:
            self.vae_head[-1].bias.copy_(vae_mean.flatten())

    def forward(self, tokens: torch.Tensor) -> BrainEmbedding:
        """Read tokens (B, N, C)."""
        if tokens.shape[1:] != (self.n_tokens, self.token_size):
            raise DataError(
                f"tokens have the shape {tuple(tokens.shape)}, expected (B, {self.n_tokens}, {self.token_size}) as this encoder was "
                f"trained on; take them from its own run with layout {self.layout!r}"
            )
        x = torch.cat([self.class_token.expand(len(tokens), -1, -1), self.embed(tokens)], dim=1)
        x = self.drop(x + self.position)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.read_out(x)

    def read_out(self, hidden: torch.Tensor) -> BrainEmbedding:
        """The last layer and the heads, from the penultimate hidden states (B, N + 1, D)."""
        h0 = self.norm(self.blocks[-1](hidden)[:, 0])
        vae = None if self.vae_head is None else self.vae_head(h0).unflatten(1, self.vae_shape)
        return BrainEmbedding(self.clip_head(h0), vae, hidden)


def load_encoder(folder) -> BrainEncoder:
    """A trained encoder of a run, ready to decode.

    Raises
    ------
    MissingError, DataError
        If it is not there, or its files are not what training wrote.
    """
    from safetensors import SafetensorError

    folder, step = Path(folder), "neurovl train encoder --run RUN"
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise MissingError(
            f"encoder {folder.name!r} is not in this run (expected encoders/{folder.name}/ with config.json and "
            f"model.safetensors); train it: {step}"
        )
    try:
        return BrainEncoder.from_pretrained(folder).eval()
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as problem:
        raise DataError(
            f"encoders/{folder.name}/ cannot be read ({str(problem).splitlines()[0][:120]}), expected config.json and "
            f"model.safetensors of one training; remove the folder and train it again: {step}"
        ) from problem


class LocalLinear(nn.Module):
    """A linear map of its own for every patch, y_n = x_n W_n + b, from (B, N, C) to (B, N, D).

    Brains have no translation symmetry: what a voxel means depends on where it is.
    """

    def __init__(self, n_tokens: int, token_size: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_tokens, token_size, width) * token_size**-0.5)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bnc,ncd->bnd", x, self.weight) + self.bias


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        inner = int(width * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width), nn.Dropout(dropout)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.mlp(self.norm2(x))


def _head(width: int, hidden: int, out: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
    nn.init.normal_(head[-1].weight, std=0.02)
    nn.init.zeros_(head[-1].bias)
    return head
