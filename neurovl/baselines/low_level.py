"""MindEye's low-level branch: a second residual MLP, and convolutions that enlarge what it gives to a latent."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neurovl.baselines.decoder import FrozenParts
from neurovl.baselines.repeat_batches import RepeatBatches, one_cycle, seeded
from neurovl.baselines.residual_mlp import ResidualMLP
from neurovl.training.loop import Part, fit

LATENT_SCALE = (
    0.18215  # of Stable Diffusion 1's latents: the loss counts them as they were before it
)


class LatentMLP(nn.Module):
    """Voxels to the latent of an autoencoder, tensor (n, V) to (n, c, h, w).

    Parameters
    ----------
    n_voxels : int
    shape : tuple of int
        c, h and w.
    width, blocks, channels : int
        Of the MLP; channels of the coarse map that it gives, a quarter of the latent high and wide.
    dropout, block_dropout : float
    """

    def __init__(
        self,
        n_voxels: int,
        shape: tuple[int, ...],
        width: int,
        blocks: int,
        channels: int,
        dropout: float,
        block_dropout: float,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.coarse = (channels, math.ceil(shape[1] / 4), math.ceil(shape[2] / 4))
        self.mlp = ResidualMLP(
            n_voxels, math.prod(self.coarse), width, blocks, dropout, block_dropout, nn.SiLU, False
        )
        self.norm = nn.GroupNorm(1, channels)
        self.stages = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.out = nn.Conv2d(channels, shape[0], 3, padding=1)

    def forward(self, voxels: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.mlp(voxels).unflatten(1, self.coarse))
        for k, stage in enumerate(self.stages):
            x = functional.silu(stage(x))
            if k < 2:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.out(x)[:, :, : self.shape[1], : self.shape[2]]


def fit_latents(
    batches: RepeatBatches,
    settings: dict[str, Any],
    parts: FrozenParts,
    checkpoint: Path | None,
) -> LatentMLP:
    """Train on mixtures of repeats: mean absolute error of the latent, before its scaling.

    Parameters
    ----------
    batches : RepeatBatches
    settings : dict
        MindEye's.
    parts : FrozenParts
    checkpoint : Path, optional
        Folder.
    """
    one = settings
    sizes = one["low_width"], one["blocks"], one["low_channels"]
    drops = one["low_dropout"], one["low_block_dropout"]
    shape = batches.targets.shape("vae")
    model = seeded(parts.seed, LatentMLP, batches.voxels.n_voxels, shape, *sizes, *drops)

    def loss_at(net: nn.Module, step: int, part: Part) -> torch.Tensor:
        pictures = batches.at(step, part)
        device = next(net.parameters()).device
        voxels = batches.repeats_together(pictures, (parts.seed, step, part.index)).to(device)
        true = batches.target("vae", pictures).to(device)
        return (net(voxels).float() - true).abs().mean() / LATENT_SCALE

    epochs = one["low_epochs"]
    schedule = one_cycle(one, batches.steps(epochs), epochs, one["low_lr"])
    label = f"MindEye, latents, {batches.voxels.subject}"
    fit(
        model,
        loss_at,
        schedule,
        seed=parts.seed,
        checkpoint=checkpoint,
        device=parts.device,
        describe=label,
    )
    return model
