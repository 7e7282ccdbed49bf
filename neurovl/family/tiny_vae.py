"""The tiny autoencoder: its training on scenes."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from neurovl.family.scene_pictures import Pictures
from neurovl.foundation.vae import LatentCodec
from neurovl.training.devices import choose_device
from neurovl.training.loop import Part, Schedule, batch_rows, fit

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (24, 32, 48),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
}
SCHEDULE = Schedule(steps=4000, lr=2e-3, weight_decay=0.0, ema=0.995, precision="bf16")


def train_vae(
    out: Path,
    pictures: Pictures,
    *,
    steps: int,
    seed: int,
    device: str = "auto",
    batch_size: int = 16,
) -> list[dict]:
    """Train the tiny autoencoder on squared and absolute error with a slight pull of the posterior to N(0, 1).

    L = mean (x - x')^2 + 0.2 mean |x - x'| + 1e-5 KL; saved with the scaling factor that gives latents unit variance.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG)

    def loss_at(model: nn.Module, step: int, part: Part) -> dict:
        rows = part.of(batch_rows(pictures.n, batch_size, step, seed))
        x = pictures.images(rows).to(next(model.parameters()).device)
        posterior = model.encode(x).latent_dist
        error = model.decode(posterior.sample()).sample.float() - x
        kl = posterior.kl().mean() / x[0].numel()
        return {
            "loss": error.square().mean() + 0.2 * error.abs().mean() + 1e-5 * kl,
            "mse": error.square().mean() / 4,
        }

    curve = fit(
        vae,
        loss_at,
        replace(SCHEDULE, steps=steps),
        seed=seed,
        checkpoint=out.parent.parent / "checkpoints" / "vae",
        device=device,
        describe="VAE",
    )
    codec = LatentCodec(vae.float(), choose_device(device), CONFIG["sample_size"])
    spread = (
        codec.encode(pictures.images(range(min(1000, pictures.n)))).std()
        / vae.config.scaling_factor
    )
    vae.register_to_config(scaling_factor=round(1 / float(spread), 5))
    vae.half().save_pretrained(out)
    return curve
