"""Sampling from unCLIP with a start latent: the two readings of the noise strength beta (paper section 3.3, Eq. 4)."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from neurovl.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin, StableUnCLIPImg2ImgPipeline
    from PIL import Image

READINGS = ("mix", "strength")


def start_latents(
    vae: torch.Tensor | None, beta: float, shape: Sequence[int], seeds: Iterable[int]
) -> torch.Tensor:
    """(1 - beta) z_vae + beta sigma, float32 tensor, shape (n, channels, height, width); sigma is drawn for each picture from its own seed."""
    noise = torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds]
    )
    if vae is None:
        return noise * beta
    return (1 - beta) * vae.float() + beta * noise.to(vae.device)


@torch.no_grad()
def sample(
    pipeline: "StableUnCLIPImg2ImgPipeline",
    prompts: list[str],
    embeds: torch.Tensor,
    latents: torch.Tensor | None = None,
    beta: float = 1.0,
    reading: str = "mix",
    steps: int = 20,
    guidance: float = 3.0,
) -> "list[Image.Image]":
    """Pictures from CLIP embeddings, texts and VAE latents; picture i draws its noise from seed i.

    Parameters
    ----------
    pipeline : diffusers.StableUnCLIPImg2ImgPipeline
    prompts : list of str
        One a picture.
    embeds : tensor, shape (n, width)
        Un-normalised image embeddings.
    latents : tensor, shape (n, channels, height, width), optional
        Scaled latents; needed where beta is below 1.
    beta : float
        Noise strength from 0 to 1.
    reading : {'mix', 'strength'}
        'mix' starts all steps from (1 - beta) z + beta noise, the paper's equation to the letter. 'strength' is that of
        image-to-image (Meng et al. 2022): z is noised as the schedule has it at the share beta of its steps, and
        these steps alone are done.

    Returns
    -------
    list of PIL.Image
    """
    shape = (pipeline.unet.config.in_channels, *2 * (pipeline.unet.config.sample_size,))
    with begun(pipeline, latents, beta, reading, steps, shape, range(len(prompts))) as start:
        return pipeline(
            prompt=list(prompts),
            image_embeds=embeds.to(pipeline.device),
            latents=start.to(pipeline.device),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(0),  # of the CPU: the same on any device
        ).images


@contextlib.contextmanager
def begun(
    pipeline: "StableUnCLIPImg2ImgPipeline",
    latents: torch.Tensor | None,
    beta: float,
    reading: str,
    steps: int,
    shape: Sequence[int],
    seeds: Iterable[int],
) -> Iterator[torch.Tensor]:
    """What sampling starts from, float32 (n, channels, height, width), with the pipeline's scheduler set for it meanwhile.

    Parameters
    ----------
    pipeline, latents, beta, reading, steps
        See `sample`.
    shape : sequence of int
        (channels, height, width).
    seeds : iterable of int
        One a picture.

    Raises
    ------
    ConfigError
        There is no such reading, or no latent for a beta below 1.
    """
    if reading not in READINGS:
        raise ConfigError(
            f"the reading of beta is {reading!r}, expected mix or strength; choose one"
        )
    if not 0 <= beta <= 1 or (latents is None and beta < 1):
        raise ConfigError(
            f"beta is {beta}, expected 1 where no latent is given, and 0 to 1 with one; choose another"
        )
    seeds, scheduler = list(seeds), pipeline.scheduler
    if reading == "mix" or latents is None:
        yield start_latents(latents, beta, shape, seeds)
        return
    try:
        pipeline.scheduler = _last_steps(scheduler, beta)
        pipeline.scheduler.set_timesteps(steps)
        first = pipeline.scheduler.timesteps[:1]
        noise = start_latents(None, 1.0, shape, seeds)
        yield scheduler.add_noise(latents, noise, first) if len(first) else latents
    finally:
        pipeline.scheduler = scheduler


def _last_steps(scheduler: "SchedulerMixin", share: float) -> "SchedulerMixin":
    """The scheduler with only the last share of its steps."""

    class LastSteps(type(scheduler)):
        def set_timesteps(
            self, num_inference_steps: int, device: str | torch.device | None = None, **kwargs: Any
        ) -> None:
            super().set_timesteps(num_inference_steps, device=device, **kwargs)
            kept = int(num_inference_steps * share + 1e-6)
            self.timesteps = self.timesteps[num_inference_steps - kept :]

    return LastSteps.from_config(scheduler.config)
