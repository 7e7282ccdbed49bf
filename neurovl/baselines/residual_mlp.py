"""The residual MLP that MindEye published and DREAM and MindBridge took over, and the projector after it."""

from collections.abc import Callable

import torch
from torch import nn


class ResidualBlocks(nn.Sequential):
    """Blocks x + Dropout(GELU(LayerNorm(Linear(x)))), tensor (n, width) to (n, width)."""

    def __init__(
        self,
        width: int,
        blocks: int,
        dropout: float,
        activation: Callable[[], nn.Module] = nn.GELU,
        bias: bool = True,
    ) -> None:
        super().__init__(
            *(Residual(layer(width, width, dropout, activation, bias)) for _ in range(blocks))
        )


class Residual(nn.Module):
    """What a module gives, added to what it was given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.module(x)


def layer(
    n_in: int,
    n_out: int,
    dropout: float,
    activation: Callable[[], nn.Module] = nn.GELU,
    bias: bool = True,
) -> nn.Sequential:
    """Linear, LayerNorm, activation, dropout: (n, n_in) to (n, n_out)."""
    return nn.Sequential(
        nn.Linear(n_in, n_out, bias), nn.LayerNorm(n_out), activation(), nn.Dropout(dropout)
    )


class ResidualMLP(nn.Module):
    """From voxels to numbers: a layer, residual blocks, a linear map.

    Parameters
    ----------
    n_voxels, n_out, width, blocks : int
    dropout, block_dropout : float
        After the first layer, and in the blocks.
    activation : callable
        Makes the non-linearity.
    bias : bool
        Whether the layers before the last have one.

    References
    ----------
    Scotti et al. 2023 (MindEye), and its code, `src/models.py`.
    """

    def __init__(
        self,
        n_voxels: int,
        n_out: int,
        width: int,
        blocks: int,
        dropout: float,
        block_dropout: float,
        activation: Callable[[], nn.Module] = nn.GELU,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.first = layer(n_voxels, width, dropout, activation, bias)
        self.blocks = ResidualBlocks(width, blocks, block_dropout, activation, bias)
        self.last = nn.Linear(width, n_out)

    def forward(self, voxels: torch.Tensor) -> torch.Tensor:
        """Tensor (n, V) to (n, n_out)."""
        return self.last(self.blocks(self.first(voxels)))


class Projector(nn.Sequential):
    """Three times LayerNorm, GELU, Linear, on each token alone: (..., width) to (..., width).

    What is contrasted with pictures passes through it, so that what is left before it need not be drawn apart.
    """

    def __init__(self, width: int, hidden: int) -> None:
        sizes = [(width, hidden), (hidden, hidden), (hidden, width)]
        parts = [(nn.LayerNorm(a), nn.GELU(), nn.Linear(a, b)) for a, b in sizes]
        super().__init__(*(part for three in parts for part in three))
