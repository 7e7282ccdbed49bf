"""The image autoencoder (AutoencoderKL): latents of pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from neurovl.foundation.pixels import images_to_tensor
from neurovl.foundation.source import alternatives, device_for, load_or_explain, resolve

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from PIL import Image

# Pixels of the pictures that are coded together: several hundred values are kept of each.
AT_ONCE = 2**20


def pictures_at_once(side: int) -> int:
    """How many pictures of a side are encoded or decoded together: a VAE's maps are larger than all else."""
    return max(1, min(64, AT_ONCE // side**2))


class LatentCodec:
    """Pictures to scaled latents and back, z = scaling_factor * mode of the posterior (paper section 3.1).

    Attributes
    ----------
    shape : tuple of int
        (channels, height, width) of a latent.
    """

    def __init__(self, vae: "AutoencoderKL", device: str, size: int) -> None:
        self.vae, self.device, self.size = vae.eval().to(device), device, size
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.shape = (vae.config.latent_channels, size // factor, size // factor)

    @torch.no_grad()
    def encode(self, images: "Sequence[Image.Image] | torch.Tensor") -> torch.Tensor:
        """Scaled latents, float32 tensor, shape (n, channels, height, width), of PIL pictures or a tensor in [-1, 1]."""
        pixels = images if torch.is_tensor(images) else images_to_tensor(images, self.size)
        parts = []
        for x in pixels.split(pictures_at_once(pixels.shape[-1])):
            latent = self.vae.encode(x.to(self.device, self.vae.dtype)).latent_dist.mode()
            parts.append((latent * self.vae.config.scaling_factor).float().cpu())
        return torch.cat(parts) if parts else torch.zeros(0, *self.shape)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> "list[Image.Image]":
        """PIL pictures from scaled latents, tensor, shape (n, channels, height, width)."""
        from PIL import Image

        images = []
        for z in latents.split(pictures_at_once(self.size)):
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


def load_vae(
    spec: str | Sequence[str] = "tiny", device: str = "auto", size: int | None = None
) -> LatentCodec:
    """Load the autoencoder of a unCLIP folder or hub id (its `vae` subfolder); `size` is the side of a picture in pixels.

    Examples
    --------
    >>> from neurovl.foundation.vae import load_vae
    >>> codec = load_vae("tiny", device="cpu")
    >>> latents = codec.encode([data.image(data.trials.image_id[0])])
    >>> codec.decode(latents)[0].size
    (64, 64)
    """
    from diffusers import AutoencoderKL

    source = resolve(spec, "unclip")
    device = device_for(device, f"VAE {alternatives(spec)[0]}")
    vae = load_or_explain(
        lambda: AutoencoderKL.from_pretrained(source, subfolder="vae", dtype=torch.float32),
        spec,
        "VAE",
    )
    return LatentCodec(vae, device, size or vae.config.sample_size)
