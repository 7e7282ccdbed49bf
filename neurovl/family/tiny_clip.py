"""The tiny CLIP: its training on scenes, and its image tower in the format of unCLIP pipelines."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from neurovl.family.scene_pictures import Pictures
from neurovl.family.word_tokenizers import caption_ids, train_bpe
from neurovl.foundation.clip import Clip
from neurovl.training.loop import Part, Schedule, batch_rows, fit

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

MEAN = STD = (0.5, 0.5, 0.5)
CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 96, "head_width": 32, "patch_size": 8},
    "text_cfg": {
        "context_length": 40,
        "vocab_size": 512,
        "width": 64,
        "heads": 2,
        "layers": 2,
        "hf_tokenizer_name": "tiny",
        "tokenizer_kwargs": {"clean": "lower"},
    },
}
SCHEDULE = Schedule(steps=6000, lr=1e-3, weight_decay=0.05, warmup=0.05, precision="bf16")


def train_clip(
    out: Path,
    pictures: Pictures,
    *,
    steps: int,
    seed: int,
    device: str = "auto",
    batch_size: int = 160,
) -> list[dict]:
    """Train the tiny CLIP with the symmetric contrastive loss of Radford et al. 2021 and save it as open_clip does.

    L = 1/2 [CE(s I T^t) + CE(s T I^t)], with unit-norm image and text embeddings I and T and a learned scale s.
    """
    import open_clip
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    texts = [c for five in pictures.captions[:8000] for c in five]
    cfg = copy.deepcopy(CONFIG)
    tokenizer = train_bpe(
        texts,
        vocab_size=cfg["text_cfg"]["vocab_size"],
        specials={
            "pad_token": "<pad>",
            "bos_token": "<s>",
            "unk_token": "<unk>",
            "eos_token": "</s>",
        },
        max_length=cfg["text_cfg"]["context_length"],
        frame=True,
    )
    cfg["text_cfg"]["vocab_size"] = len(tokenizer)
    tokenizer.save_pretrained(out)
    mean_std = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": cfg, "preprocess_cfg": mean_std}, indent=1)
    )
    torch.manual_seed(seed)
    model = open_clip.model.CLIP(**cfg)
    ids = caption_ids(tokenizer, pictures.captions)

    def loss_at(model: nn.Module, step: int, part: Part) -> torch.Tensor:
        rows = torch.from_numpy(part.of(batch_rows(pictures.n, batch_size, step, seed)))
        which = torch.randint(ids.shape[1], (len(rows),))
        x = pictures.images(rows)
        device = model.logit_scale.device
        image = model.encode_image(x.to(device), normalize=True).float()
        text = model.encode_text(ids[rows, which].to(device), normalize=True).float()
        logits = model.logit_scale.clamp(max=math.log(100)).exp() * image @ text.T
        target = torch.arange(len(rows), device=device)
        return (
            nn.functional.cross_entropy(logits, target)
            + nn.functional.cross_entropy(logits.T, target)
        ) / 2

    curve = fit(
        model,
        loss_at,
        replace(SCHEDULE, steps=steps),
        seed=seed,
        checkpoint=out.parent / "checkpoints" / "clip",
        device=device,
        describe="CLIP",
    )
    save_file(
        {k: v.half().contiguous().cpu() for k, v in model.state_dict().items()},
        out / "open_clip_model.safetensors",
    )
    return curve


def vision_to_transformers(clip: Clip) -> "CLIPVisionModelWithProjection":
    """The image tower as transformers' CLIPVisionModelWithProjection, the class that unCLIP pipelines hold.

    Returns
    -------
    CLIPVisionModelWithProjection
        `vision(pixels).image_embeds` equals open_clip's `encode_image(pixels)`.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    v, source = CONFIG["vision_cfg"], clip.model.state_dict()
    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=v["width"],
            intermediate_size=4 * v["width"],
            num_hidden_layers=v["layers"],
            num_attention_heads=v["width"] // v["head_width"],
            image_size=v["image_size"],
            patch_size=v["patch_size"],
            projection_dim=clip.width,
            hidden_act="gelu",
        )
    )
    weights = {
        "vision_model.embeddings.class_embedding": source["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": source["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": source["visual.positional_embedding"],
        "vision_model.pre_layrnorm.weight": source["visual.ln_pre.weight"],
        "vision_model.pre_layrnorm.bias": source["visual.ln_pre.bias"],
        "vision_model.post_layernorm.weight": source["visual.ln_post.weight"],
        "vision_model.post_layernorm.bias": source["visual.ln_post.bias"],
        "visual_projection.weight": source["visual.proj"].T,
        **_blocks(
            source, "visual.transformer.resblocks", "vision_model.encoder.layers", v["layers"]
        ),
    }
    vision.load_state_dict({k: v.contiguous() for k, v in weights.items()})
    return vision.eval()


def _blocks(source: dict, theirs: str, ours: str, layers: int) -> dict:
    out = {}
    for i in range(layers):
        a, b = f"{theirs}.{i}", f"{ours}.{i}"
        for kind in ("weight", "bias"):
            for name, part in zip(
                ("q", "k", "v"), source[f"{a}.attn.in_proj_{kind}"].chunk(3), strict=True
            ):
                out[f"{b}.self_attn.{name}_proj.{kind}"] = part
            out[f"{b}.self_attn.out_proj.{kind}"] = source[f"{a}.attn.out_proj.{kind}"]
            for norm, name in ((1, "ln_1"), (2, "ln_2")):
                out[f"{b}.layer_norm{norm}.{kind}"] = source[f"{a}.{name}.{kind}"]
            out[f"{b}.mlp.fc1.{kind}"] = source[f"{a}.mlp.c_fc.{kind}"]
            out[f"{b}.mlp.fc2.{kind}"] = source[f"{a}.mlp.c_proj.{kind}"]
    return out
