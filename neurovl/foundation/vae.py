"""The image autoencoder (AutoencoderKL): latents of pictures, and the training of the tiny one on scenes."""

from pathlib import Path

import torch

from neurovl.family.scene_pictures import Pictures, images_to_tensor
from neurovl.foundation.source import alternatives, device_for, load_or_explain, resolve
from neurovl.training.devices import choose_device
from neurovl.training.loop import Schedule, batch_rows, fit

TINY_CONFIG = {
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


class LatentCodec:
    """Pictures to scaled latents and back, z = scaling_factor * mode of the posterior (paper section 3.1).

    Attributes
    ----------
    shape : tuple of int
        (channels, height, width) of a latent.
    """

    def __init__(self, vae, device: str, size: int):
        self.vae, self.device, self.size = vae.eval().to(device), device, size
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.shape = (vae.config.latent_channels, size // factor, size // factor)

    @torch.no_grad()
    def encode(self, images, batch_size: int = 64) -> torch.Tensor:
        """Scaled latents, float32 tensor (n, channels, height, width), of PIL pictures or a tensor in [-1, 1]."""
        pixels = images if torch.is_tensor(images) else images_to_tensor(images, self.size)
        parts = []
        for x in pixels.split(batch_size):
            latent = self.vae.encode(x.to(self.device, self.vae.dtype)).latent_dist.mode()
            parts.append((latent * self.vae.config.scaling_factor).float().cpu())
        return torch.cat(parts) if parts else torch.zeros(0, *self.shape)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, batch_size: int = 64) -> list:
        """PIL pictures from scaled latents (n, channels, height, width)."""
        from PIL import Image

        images = []
        for z in latents.split(batch_size):
            x = self.vae.decode(
                z.to(self.device, self.vae.dtype) / self.vae.config.scaling_factor
            ).sample
            pixels = (
                x.float()
                .add(1)
                .mul(127.5)
                .round()
                .clamp(0, 255)
                .byte()
                .permute(0, 2, 3, 1)
                .cpu()
                .numpy()
            )
            images += [Image.fromarray(p) for p in pixels]
        return images


def load_vae(spec: str = "tiny", device: str = "auto", size: int | None = None) -> LatentCodec:
    """Load the autoencoder of a unCLIP folder or hub id (its `vae` subfolder); `size` is the side of a picture in pixels."""
    from diffusers import AutoencoderKL

    source = resolve(spec, "unclip")
    device = device_for(device, f"VAE {alternatives(spec)[0]}")
    vae = load_or_explain(
        lambda: AutoencoderKL.from_pretrained(source, subfolder="vae", dtype=torch.float32),
        spec,
        "VAE",
    )
    return LatentCodec(vae, device, size or vae.config.sample_size)


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
    vae = AutoencoderKL(**TINY_CONFIG)

    def loss_at(model, step, part):
        rows = part.of(batch_rows(pictures.n, batch_size, step, seed))
        x = pictures.images(rows).to(next(model.parameters()).device)
        posterior = model.encode(x).latent_dist
        error = model.decode(posterior.sample()).sample.float() - x
        kl = posterior.kl().mean() / x[0].numel()
        return {
            "loss": error.square().mean() + 0.2 * error.abs().mean() + 1e-5 * kl,
            "mse": error.square().mean() / 4,
        }

    schedule = Schedule(**{**SCHEDULE.__dict__, "steps": steps})
    curve = fit(
        vae,
        loss_at,
        schedule,
        seed=seed,
        checkpoint=out.parent.parent / "checkpoints" / "vae",
        device=device,
        describe="VAE",
    )
    codec = LatentCodec(vae.float(), choose_device(device), TINY_CONFIG["sample_size"])
    spread = (
        codec.encode(pictures.images(range(min(1000, pictures.n)))).std()
        / vae.config.scaling_factor
    )
    vae.register_to_config(scaling_factor=round(1 / float(spread), 5))
    vae.half().save_pretrained(out)
    return curve
