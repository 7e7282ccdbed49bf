"""ViT3D: one Vision Transformer over 3D brain patches for all subjects, with a CLIP and a VAE head (paper section 3.1).

The class token of the last layer feeds both heads; the hidden states of the penultimate layer feed the language model
and the localization. Our addition, where asked for: a linear readout of each patch beside them (`LinearReadout`).
"""

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from neurovl.encoder.readout import LinearReadout
from neurovl.errors import DataError, MissingError

CARD = """\
---
{{ card_data }}
---

Weights of a ViT3D, which reads patches of fMRI volumes: `neurovl.BrainEncoder.from_pretrained`. This card does not know the
recordings that they were trained on, whose terms apply to them. `neurovl export encoder --run RUN --out DIR` writes them with
the patch plan that they need and a card that names data, terms, training and scores.
"""


@dataclass(frozen=True)
class BrainEmbedding:
    """What the encoder reads from a batch of brains.

    Attributes
    ----------
    clip : tensor, shape (B, E)
        Predicted CLIP image embedding, un-normalised.
    vae : tensor, shape (B, c, h, w), or None
        Predicted scaled VAE latent.
    hidden : tensor, shape (B, N + 1, D + K)
        Hidden states of the penultimate layer, class token first, and beside each token its readout (K is 0 without).

    Examples
    --------
    >>> z = neurovl.BrainEmbedding(clip=torch.zeros(4, 8), vae=None, hidden=torch.zeros(4, 13, 16))
    >>> len(z), len(z.take([0, 2]))
    (4, 2)
    """

    clip: torch.Tensor
    vae: torch.Tensor | None
    hidden: torch.Tensor

    def __len__(self) -> int:
        return len(self.clip)

    def take(self, rows: slice | Sequence[int] | torch.Tensor) -> "BrainEmbedding":
        """The embeddings of some rows of the batch."""
        vae = None if self.vae is None else self.vae[rows]
        return BrainEmbedding(self.clip[rows], vae, self.hidden[rows])


class BrainEncoder(
    nn.Module, PyTorchModelHubMixin, library_name="neurovl", tags=["fmri"], model_card_template=CARD
):
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
    width, layers, heads, mlp_ratio, head_hidden, dropout, readout
        See `settings.EncoderShape`.
    n_subjects : int
        Subjects with a readout of their own; 1 where all share theirs.

    Examples
    --------
    >>> shape = {"width": 24, "layers": 1, "heads": 2, "head_hidden": 16}
    >>> encoder = neurovl.BrainEncoder(12, 27, clip_width=8, vae_shape=(2, 4, 4), **shape)
    >>> z = encoder(torch.zeros(5, 12, 27))
    >>> z.clip.shape, z.vae.shape, z.hidden.shape
    (torch.Size([5, 8]), torch.Size([5, 2, 4, 4]), torch.Size([5, 13, 24]))
    >>> encoder.save_pretrained(folder)
    >>> neurovl.BrainEncoder.from_pretrained(folder).layout
    'p14'
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
        readout: int = 0,
        n_subjects: int = 1,
    ) -> None:
        super().__init__()
        n_vae = 0 if vae_shape is None else math.prod(vae_shape)
        self.n_tokens, self.token_size, self.layout = n_tokens, token_size, layout
        self.vae_shape = None if vae_shape is None else tuple(vae_shape)
        self.width, self.readout = width, None
        if readout:
            self.readout = LinearReadout(
                n_subjects, n_tokens, token_size, readout, clip_width + n_vae
            )
            self.embed, self.embed_sum = nn.Linear(readout, width), nn.Linear(readout, width)
        else:
            self.embed = nn.Linear(token_size, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, n_tokens + 1, width) * 0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.clip_head = _head(width, head_hidden, clip_width)
        self.vae_head = _head(width, head_hidden, n_vae) if n_vae else None

    @classmethod
    def _from_pretrained(cls, **arguments: Any) -> "BrainEncoder":
        # The hub's mixin prints where it loads from.
        with contextlib.redirect_stdout(io.StringIO()):
            return super()._from_pretrained(**arguments)

    @torch.no_grad()
    def start_at(self, clip_mean: torch.Tensor, vae_mean: torch.Tensor | None) -> None:
        """Let both heads begin at the mean target of the training images, so that only differences are learned.

        With readout they begin at the linear decoder, which holds the mean.
        """
        for head, mean in ((self.clip_head, clip_mean), (self.vae_head, vae_mean)):
            if head is not None and self.readout is not None:
                head[-1].weight.zero_()
            elif head is not None:
                head[-1].bias.copy_(mean.flatten())

    def forward(self, tokens: torch.Tensor) -> BrainEmbedding:
        """Read tokens (B, N, C)."""
        if tokens.shape[1:] != (self.n_tokens, self.token_size):
            raise DataError(
                f"tokens have the shape {tuple(tokens.shape)}, expected (B, {self.n_tokens}, {self.token_size}) as this encoder was "
                f"trained on; take them from its own run with layout {self.layout!r}"
            )
        first = self.class_token.expand(len(tokens), -1, -1)
        if self.readout is None:
            said, x = None, self.embed(tokens)
        else:
            said = self.readout(tokens)  # (B, N + 1, K)
            first = first + self.embed_sum(said.sum(1, keepdim=True))
            x = self.embed(said[:, 1:])
        x = self.drop(torch.cat([first, x], dim=1) + self.position)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.from_hidden(x if said is None else torch.cat([x.float(), said], dim=2))

    def from_hidden(self, hidden: torch.Tensor) -> BrainEmbedding:
        """The last layer and the heads, from the penultimate hidden states (B, N + 1, D + K)."""
        h0 = self.norm(self.blocks[-1].first(hidden[..., : self.width]))
        clip = self.clip_head(h0)
        vae = None if self.vae_head is None else self.vae_head(h0)
        if self.readout is not None:
            linear = self.readout.decode(hidden[..., self.width :].sum(1))
            clip = clip + linear[:, : clip.shape[1]]
            vae = None if vae is None else vae + linear[:, clip.shape[1] :]
        vae = None if vae is None else vae.unflatten(1, self.vae_shape)
        return BrainEmbedding(clip, vae, hidden)


def load_encoder(folder: str | Path) -> BrainEncoder:
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


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
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
        attended = _attend(q, k, v)
        return self._finish(x, attended)

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The first token of the block's result, (B, D) from (B, N + 1, D), without the work for the others."""
        read, width = self.norm1(x), x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        q = nn.functional.linear(read[:, :1], weight[:width], bias[:width])
        kv = nn.functional.linear(read, weight[width:], bias[width:])
        k, v = kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = _attend(q, k, v)
        return self._finish(x[:, :1], attended)[:, 0]

    def _finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        x = x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.mlp(self.norm2(x))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v over the tokens (B, H, N, d)."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # For as few tokens as there are patches, the fused attention of the CPU takes 3 times as long in bfloat16.
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).to(v.dtype) @ v
    return nn.functional.scaled_dot_product_attention(q, k, v)


def _head(width: int, hidden: int, out: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))
    nn.init.normal_(head[-1].weight, std=0.02)
    nn.init.zeros_(head[-1].bias)
    return head
