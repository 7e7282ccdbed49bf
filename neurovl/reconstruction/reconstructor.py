"""Pictures from brains: a start latent with noise strength beta, and unCLIP conditions (paper section 3.3, Eq. 4)."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.errors import ConfigError, DataError
from neurovl.foundation.start_latents import begun
from neurovl.foundation.unclip import text_states
from neurovl.foundation.vae import pictures_at_once
from neurovl.training.batch_sizes import in_batches
from neurovl.training.devices import choose_precision

if TYPE_CHECKING:
    from diffusers import StableUnCLIPImg2ImgPipeline
    from PIL.Image import Image

BATCH = 64


class Reconstructor:
    """x = D((1 - beta) z_vae + beta sigma | z_clip, prompt), with sigma ~ N(0, 1) and D a frozen unCLIP.

    Parameters
    ----------
    pipeline : diffusers.StableUnCLIPImg2ImgPipeline
    steps, guidance, noise_level
        Sampling steps, classifier-free guidance, and the noise level of the embedding; not stated in the paper,
        the library's defaults are 20, 10 and 0.
    clip_norm : float, optional
        Length that predicted CLIP embeddings are brought to; regression shrinks them. None leaves them as they are.
    image_size : int, optional
        Side of a picture in pixels; by default the side that the unCLIP was trained for.
    precision : str
        Of the text encoder's and the UNet's matrix products: 'bf16', 'no' (float32) or 'auto', see
        `training.devices.choose_precision`. Latents and the decoder are float32.

    Examples
    --------
    >>> draw = neurovl.Reconstructor.from_pretrained("tiny", device="cpu", steps=2)
    >>> z = run.encode(subject=1, image_id=run.test_images(1)[0])
    >>> draw(z, prompt="a dog on the grass", beta=0.9, seed=1).size
    (64, 64)
    """

    def __init__(
        self,
        pipeline: "StableUnCLIPImg2ImgPipeline",
        steps: int = 20,
        guidance: float = 10.0,
        noise_level: int = 0,
        clip_norm: float | None = None,
        image_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        self.pipeline, self.steps, self.guidance, self.noise_level, self.clip_norm = (
            pipeline,
            steps,
            guidance,
            noise_level,
            clip_norm,
        )
        self.image_size, self.precision = image_size, precision

    @classmethod
    def from_pretrained(
        cls, spec: str | Sequence[str] = "tiny", device: str = "auto", **settings: Any
    ) -> "Reconstructor":
        """The reconstructor of an unCLIP.

        Parameters
        ----------
        spec : str or sequence of str
            'tiny', a folder or a hub id; of several, the first that is here.
        device : str
            'auto', 'cpu', 'cuda' or 'mps'.
        **settings
            `steps`, `guidance`, `noise_level`, `clip_norm`, `image_size` and `precision`, see the class.
        """
        from neurovl.foundation.unclip import load_unclip

        return cls(load_unclip(spec, device), **settings)

    def __call__(
        self, z: BrainEmbedding, prompt: str = "", beta: float = 0.93, seed: int = 0
    ) -> "Image":
        """One PIL picture from the embedding of one brain volume; see `batch`."""
        if len(z) != 1:
            raise DataError(
                f"got embeddings of {len(z)} trials, expected 1; use .batch for several"
            )
        return self.batch(z, [prompt], beta, [seed])[0]

    @torch.no_grad()
    def batch(
        self,
        z: BrainEmbedding,
        prompts: Sequence[str] | None = None,
        beta: float = 0.93,
        seeds: Sequence[int] | None = None,
        batch_size: int = BATCH,
    ) -> list:
        """Pictures from embeddings.

        Parameters
        ----------
        z : BrainEmbedding of B trials
        prompts : list of str, optional
            The language model's instruction reconstruction; empty without it.
        beta : float
            Noise strength in [0, 1]: 1 starts from pure noise and ignores the VAE latent.
        seeds : list of int, optional
            One a picture, so that a picture does not depend on its batch.
        batch_size : int
            Pictures at a time; halved, with a warning, where a GPU's memory does not hold them.

        Returns
        -------
        list of PIL.Image
        """
        prompts = list(prompts) if prompts is not None else [""] * len(z)
        seeds = list(range(len(z))) if seeds is None else list(seeds)
        processor = self.pipeline.image_processor

        def paint(part: slice) -> "list[Image.Image]":
            pixels = self.pixels(z.take(part), prompts[part], beta, seeds[part])
            return processor.numpy_to_pil(processor.pt_to_numpy(pixels))

        return in_batches(len(z), batch_size, paint, "pictures")

    @torch.no_grad()
    def pixels(
        self, z: BrainEmbedding, prompts: list[str], beta: float, seeds: list[int]
    ) -> torch.Tensor:
        """The pictures of one batch, shape (B, 3, height, width), values from 0 to 1; see `batch`."""
        if not 0 <= beta <= 1:
            raise ConfigError(
                f"beta is {beta}, expected a noise strength between 0 and 1; choose another, the paper uses 0.93"
            )
        if z.vae is None and beta < 1:
            raise ConfigError(
                f"beta is {beta}, but this encoder predicts no VAE latent, so beta must be 1; use another encoder"
            )
        return self._sample(z.clip, {"prompt": prompts}, z.vae, beta, "mix", seeds)

    @torch.no_grad()
    def conditioned(
        self,
        seeds: Sequence[int],
        *,
        image: torch.Tensor | None = None,
        text: torch.Tensor | Sequence[str] | None = None,
        start: torch.Tensor | None = None,
        strength: float = 1.0,
        reading: str = "strength",
        batch_size: int = BATCH,
    ) -> list:
        """Pictures from whatever of the conditions a decoder says; what is None is dropped, as it was in the unCLIP's training.

        Parameters
        ----------
        seeds : sequence of int
            One a picture.
        image : tensor, shape (n, E), optional
            CLIP image embeddings, brought to `clip_norm`.
        text : tensor, shape (n, T, D), or sequence of str, optional
            States in the place of the text encoder's, or words.
        start : tensor, shape (n, channels, height, width), optional
            Latents to begin with; without them from noise.
        strength : float
            Noise strength from 0 to 1 of `start`.
        reading : {'strength', 'mix'}
            See `foundation.start_latents.sample`.
        batch_size : int
            As for `batch`.

        Returns
        -------
        list of PIL.Image
        """
        processor, n = self.pipeline.image_processor, len(seeds)
        words = [""] * n if text is None else text
        unsaid = torch.zeros(n, self.pipeline.image_normalizer.config.embedding_dim)

        def paint(part: slice) -> "list[Image.Image]":
            said = words[part]
            given = {"prompt": list(said)}
            if torch.is_tensor(said):
                empty = text_states(self.pipeline, [""]).expand_as(said)
                place = self.pipeline.device
                given = {"prompt_embeds": said.to(place), "negative_prompt_embeds": empty.to(place)}
            dropped = self._without_image() if image is None else contextlib.nullcontext()
            begin = None if start is None else start[part]
            beta = 1.0 if start is None else strength
            with dropped:
                embeds = (unsaid if image is None else image)[part]
                pixels = self._sample(embeds, given, begin, beta, reading, seeds[part])
            return processor.numpy_to_pil(processor.pt_to_numpy(pixels))

        return in_batches(n, batch_size, paint, "pictures")

    @contextlib.contextmanager
    def _without_image(self) -> Iterator[None]:
        """The UNet with an image condition of zeros, by which it learned to do without one."""

        def drop(module: torch.nn.Module, args: tuple, known: dict) -> tuple[tuple, dict]:
            return args, known | {"class_labels": torch.zeros_like(known["class_labels"])}

        hook = self.pipeline.unet.register_forward_pre_hook(drop, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a start latent."""
        config = self.pipeline.unet.config
        side = config.sample_size
        if self.image_size is not None:
            side = self.image_size // self.pipeline.vae_scale_factor
        return (config.in_channels, side, side)

    def scaled(self, clip: torch.Tensor) -> torch.Tensor:
        """CLIP embeddings (B, E) brought to the length `clip_norm`, as the sampler gets them."""
        if self.clip_norm is None:
            return clip
        return torch.nn.functional.normalize(clip, dim=-1) * self.clip_norm

    def _sample(
        self,
        clip: torch.Tensor,
        words: dict,
        start: torch.Tensor | None,
        beta: float,
        reading: str,
        seeds: Sequence[int],
    ) -> torch.Tensor:
        place = self.pipeline.device
        half = choose_precision(self.precision, place.type) == "bf16"
        precision = torch.autocast(place.type, torch.bfloat16) if half else contextlib.nullcontext()
        shape = self.latent_shape
        with (
            begun(self.pipeline, start, beta, reading, self.steps, shape, seeds) as latents,
            precision,
        ):
            latents = self.pipeline(
                **words,
                image_embeds=self.scaled(clip).to(place),
                latents=latents.to(place),
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                noise_level=self.noise_level,
                # One a picture, as the embedding is noised too.
                generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
                output_type="latent",
            ).images
        return self._decode(latents)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents, a few at a time: a large decoder's maps are larger than all else."""
        vae, side = self.pipeline.vae, latents.shape[-1] * self.pipeline.vae_scale_factor
        parts = latents.to(vae.dtype).split(pictures_at_once(side))
        made = [vae.decode(part / vae.config.scaling_factor).sample for part in parts]
        return self.pipeline.image_processor.postprocess(torch.cat(made), output_type="pt")


def contact_sheet(rows: list[list], size: int = 128, gap: int = 4) -> "Image":
    """Pictures in a grid as one PIL image, each scaled to `size` pixels."""
    from PIL import Image

    height, width = len(rows), max(len(r) for r in rows)
    sheet = np.full((height * (size + gap) - gap, width * (size + gap) - gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            y, x = i * (size + gap), j * (size + gap)
            sheet[y : y + size, x : x + size] = np.asarray(
                image.convert("RGB").resize((size, size))
            )
    return Image.fromarray(sheet)
