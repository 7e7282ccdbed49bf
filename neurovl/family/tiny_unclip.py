"""The tiny Stable unCLIP: its training on scenes, and the pipeline folder that it is written to."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from neurovl.family.scene_pictures import Pictures
from neurovl.family.tiny_clip import vision_to_transformers
from neurovl.family.word_tokenizers import caption_ids
from neurovl.foundation.clip import Clip, load_clip
from neurovl.foundation.vae import LatentCodec, load_vae
from neurovl.training.devices import choose_device
from neurovl.training.loop import Part, Schedule, batch_rows, fit

if TYPE_CHECKING:
    from diffusers import SchedulerMixin
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )
    from transformers import PreTrainedTokenizerBase

UNET = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (48, 48, 64, 64),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "class_embed_type": "projection",
    "resnet_time_scale_shift": "scale_shift",
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
SCHEDULE = Schedule(
    steps=14000, lr=1.5e-3, weight_decay=1e-3, ema=0.998, precision="bf16", checkpoint_every=250
)
MIN_SNR, FLOOR = 5.0, 0.1
NOISY = 0.25
DROP = {"both": 0.1, "text": 0.1, "image": 0.1}


def noisy_embedding(
    embeds: torch.Tensor,
    levels: torch.Tensor,
    normalizer: "StableUnCLIPImageNormalizer",
    scheduler: "SchedulerMixin",
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """The image condition of Stable unCLIP: the noised embedding beside a sinusoidal code of its noise level.

    Parameters
    ----------
    embeds : tensor, shape (n, width)
    levels : int tensor, shape (n,)

    Returns
    -------
    tensor, shape (n, 2 * width)
    """
    from diffusers.models.embeddings import get_timestep_embedding

    scaled = (embeds - normalizer.mean) / normalizer.std
    noise = torch.randn_like(scaled) if noise is None else noise
    noised = scheduler.add_noise(scaled, noise, levels) * normalizer.std + normalizer.mean
    code = get_timestep_embedding(
        levels, embeds.shape[1], flip_sin_to_cos=True, downscale_freq_shift=0
    )
    return torch.cat([noised, code.to(noised.dtype)], dim=1)


def train_unclip(
    out: Path,
    pictures: Pictures,
    clip_dir: Path,
    *,
    steps: int,
    seed: int,
    device: str = "auto",
    batch_size: int = 64,
) -> list[dict]:
    """Train the tiny diffusion model on cached latents of the VAE in `out`/vae and write the whole pipeline folder.

    The UNet predicts v = sqrt(a) noise - sqrt(1 - a) z (Salimans and Ho 2022). Its noise levels are drawn in proportion
    to min(SNR, 5) / (SNR + 1) + 0.1: the weights of Hang et al. 2023, as a distribution, with a floor for the first
    steps of sampling. Text, image or both conditions are dropped at random for classifier-free guidance; a quarter of
    the embeddings carry noise of a random level, as predicted embeddings will not be exact.
    """
    from diffusers import DDPMScheduler
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

    codec, clip = load_vae(str(out), device), load_clip(str(clip_dir), device)
    cache = out.parent / "checkpoints" / f"latents-{pictures.n}.pt"
    latents, embeds = _latents_and_embeddings(cache, codec, clip, pictures)
    normalizer = StableUnCLIPImageNormalizer(clip.width)
    normalizer.mean.data = embeds.mean(0, keepdim=True)
    normalizer.std.data = embeds.std(0, keepdim=True)
    normalizer.requires_grad_(False)
    tokenizer = clip.tokenizer.tokenizer
    ids = caption_ids(tokenizer, pictures.captions)
    empty = tokenizer([""], padding="max_length", return_tensors="pt")["input_ids"]
    schedule = DDPMScheduler(**NOISE, prediction_type="v_prediction")
    levels = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    torch.manual_seed(seed)
    both = _networks(tokenizer, ids.shape[-1], clip.width)
    place = choose_device(device)
    normalizer = nn.Module.to(normalizer, place)
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    share = snr.clamp(max=MIN_SNR) / (snr + 1) + FLOOR

    def loss_at(model: nn.Module, step: int, part: Part) -> torch.Tensor:
        rows = torch.from_numpy(part.of(batch_rows(pictures.n, batch_size, step, seed)))
        n = len(rows)
        z = latents[rows].float().to(place)
        draw = torch.rand(n)
        no_both = draw < DROP["both"]
        no_text = no_both | (draw > 1 - DROP["text"])
        no_image = no_both | ((draw > 0.5) & (draw < 0.5 + DROP["image"]))
        tokens = torch.where(no_text[:, None], empty, ids[rows, torch.randint(ids.shape[1], (n,))])
        hidden = model["text"](tokens.to(place)).last_hidden_state
        level = torch.randint(0, 400, (n,)) * (torch.rand(n) < NOISY)
        condition = noisy_embedding(embeds[rows].to(place), level.to(place), normalizer, levels)
        condition = condition * (~no_image[:, None]).to(place)
        t = torch.multinomial(share, n, replacement=True).to(place)
        noise = torch.randn_like(z)
        noisy, target = schedule.add_noise(z, noise, t), schedule.get_velocity(z, noise, t)
        v = model["unet"](
            noisy, t, encoder_hidden_states=hidden, class_labels=condition
        ).sample.float()
        return (v - target).square().mean()

    curve = fit(
        both,
        loss_at,
        replace(SCHEDULE, steps=steps),
        seed=seed,
        checkpoint=out.parent / "checkpoints" / "unclip",
        device=device,
        describe="unCLIP",
    )
    _write_pipeline(out, both, codec, clip, normalizer, levels)
    return curve


def _latents_and_embeddings(
    cache: Path, codec: LatentCodec, clip: Clip, pictures: Pictures
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and image embeddings of all pictures, made once and kept in a file."""
    from PIL import Image

    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        blocks = [range(i, min(i + 512, pictures.n)) for i in range(0, pictures.n, 512)]
        latents = torch.cat([codec.encode(pictures.images(b)).half() for b in blocks])
        embeds = torch.cat(
            [clip.embed_images([Image.fromarray(pictures.pixels[i]) for i in b]) for b in blocks]
        )
        torch.save({"latents": latents, "embeds": embeds}, cache)
    stored = torch.load(cache, weights_only=True)
    return stored["latents"], stored["embeds"]


def _networks(tokenizer: "PreTrainedTokenizerBase", length: int, width: int) -> nn.ModuleDict:
    """The UNet and its text encoder, for texts of `length` tokens and image embeddings of `width`."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from transformers import CLIPTextConfig, CLIPTextModel

    special = {f"{k}_token_id": getattr(tokenizer, f"{k}_token_id") for k in ("bos", "eos", "pad")}
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=length,
            hidden_act="gelu",
            **TEXT,
            **special,
        )
    )
    unet = UNet2DConditionModel(
        **UNET,
        cross_attention_dim=text.config.hidden_size,
        projection_class_embeddings_input_dim=2 * width,
    )
    # On a CPU the fused kernel's backward pass takes a fifth of the step at these sizes.
    unet.set_attn_processor(AttnProcessor())
    return nn.ModuleDict({"unet": unet, "text": text})


def _write_pipeline(
    out: Path,
    networks: nn.ModuleDict,
    codec: LatentCodec,
    clip: Clip,
    normalizer: "StableUnCLIPImageNormalizer",
    levels: "SchedulerMixin",
) -> None:
    """The folder of a `StableUnCLIPImg2ImgPipeline`, its weights in half precision."""
    from diffusers import DDIMScheduler, StableUnCLIPImg2ImgPipeline
    from transformers import CLIPImageProcessor

    codec.vae.register_to_config(_name_or_path="")  # else the path of this machine is saved
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 64}, crop_size=64, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        image_encoder=vision_to_transformers(clip).half(),
        image_normalizer=normalizer.cpu(),
        image_noising_scheduler=levels,
        tokenizer=clip.tokenizer.tokenizer,
        text_encoder=networks["text"].cpu().half(),
        unet=networks["unet"].cpu().half(),
        scheduler=DDIMScheduler(
            **NOISE,
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        vae=codec.vae.cpu().half(),
    ).save_pretrained(out)
