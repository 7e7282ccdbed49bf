"""CLIP: image and text embeddings by open_clip, and the training of the tiny one on scenes."""

import json
import math
from pathlib import Path

import torch
from torch import nn

from neurovl.errors import MissingError
from neurovl.family.scene_pictures import Pictures
from neurovl.family.word_tokenizers import train_bpe
from neurovl.foundation.source import (
    alternatives,
    cached_snapshot,
    device_for,
    fetch_command,
    first_here,
    load_or_explain,
    resolve,
)
from neurovl.training.loop import Schedule, batch_rows, fit

MEAN = STD = (0.5, 0.5, 0.5)
TINY_CONFIG = {
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


class Clip:
    """An open_clip model with its preprocessing and tokenizer.

    Attributes
    ----------
    width : int
        Size of the projected embedding.
    """

    def __init__(self, model, preprocess, tokenizer, device: str):
        self.model, self.preprocess, self.tokenizer, self.device = (
            model.eval().to(device),
            preprocess,
            tokenizer,
            device,
        )
        self.width = int(model.text_projection.shape[-1])

    @torch.no_grad()
    def embed_images(self, images, batch_size: int = 128) -> torch.Tensor:
        """Projected, un-normalised image embeddings E_c(x) (paper section 3.1).

        Parameters
        ----------
        images : list of PIL.Image

        Returns
        -------
        float32 tensor, shape (n_images, width)
        """
        out = []
        for i in range(0, len(images), batch_size):
            pixels = torch.stack(
                [self.preprocess(im.convert("RGB")) for im in images[i : i + batch_size]]
            )
            out.append(self.model.encode_image(pixels.to(self.device)).float().cpu())
        return torch.cat(out) if out else torch.zeros(0, self.width)

    @torch.no_grad()
    def embed_texts(self, texts: list[str], batch_size: int = 256) -> torch.Tensor:
        """Projected, un-normalised text embeddings, float32 tensor of shape (n_texts, width)."""
        out = []
        for i in range(0, len(texts), batch_size):
            out.append(
                self.model.encode_text(self.tokenizer(texts[i : i + batch_size]).to(self.device))
                .float()
                .cpu()
            )
        return torch.cat(out) if out else torch.zeros(0, self.width)


def load_clip(spec: str = "tiny", device: str = "auto") -> Clip:
    """Load a CLIP model from files that are here.

    Parameters
    ----------
    spec : str or sequence of str
        'tiny', a folder with `open_clip_config.json`, the hub id of one, or 'ARCHITECTURE/TAG' as open_clip lists them
        ('ViT-L-14/openai'). Of several, the first that is here.

    Raises
    ------
    MissingError
        The model is not here; the message holds the command that fetches it.
    """
    import open_clip

    device = device_for(device, f"CLIP {alternatives(spec)[0]}")
    source, options = first_here(spec, _find)
    model, _, preprocess = load_or_explain(
        lambda: open_clip.create_model_and_transforms(source, require_pretrained=True, **options),
        spec,
        "CLIP",
    )
    return Clip(model, preprocess, open_clip.get_tokenizer(source), device)


def _find(spec: str) -> tuple[str, dict]:
    """open_clip's name of a model and the options that make it; its weights are in the hub's cache, or MissingError."""
    import open_clip

    spec = spec.removeprefix("hf-hub:")
    name, _, tag = spec.partition("/")
    known = open_clip.get_pretrained_cfg(name, tag) if name in open_clip.list_models() else {}
    if not known:
        folder = resolve(spec, "clip")
        if not (Path(folder) / "open_clip_config.json").is_file():
            raise MissingError(
                f"the CLIP model {spec} has no open_clip_config.json, expected a CLIP in open_clip's format; name one, "
                "such as ViT-L-14/openai"
            )
        return f"local-dir:{folder}", {}
    hub_id, _, file = known["hf_hub"].rpartition("/")
    if "hf_tokenizer_name" in open_clip.get_model_config(name)["text_cfg"]:
        return "local-dir:" + resolve(hub_id, "clip"), {}  # its tokenizer is of the hub, too
    folder = cached_snapshot(hub_id)
    wanted = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    weights = [folder / f for f in wanted if folder and (folder / f).is_file()]
    if not weights:
        raise MissingError(
            f"the CLIP model {spec} is not in the hub's cache, expected {wanted[0]} of {hub_id} there; fetch it with "
            f"`{fetch_command(hub_id)}` or name a local folder in the profile"
        )
    # A file instead of the tag leaves open_clip without the tag's settings. OpenAI's weights need QuickGELU, which it
    # would not set for the tag either.
    return name, {
        "pretrained": str(weights[0]),
        "force_quick_gelu": known.get("quick_gelu", False),
        **{f"image_{k}": known[k] for k in ("mean", "std", "interpolation", "resize_mode")},
    }


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
    cfg = json.loads(json.dumps(TINY_CONFIG))
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
    architecture = {k: v for k, v in cfg.items() if k != "text_cfg"} | {
        "text_cfg": {**cfg["text_cfg"]}
    }
    model = open_clip.model.CLIP(**architecture)
    ids = tokenizer(texts_of(pictures), padding="max_length", truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    ids = ids.view(pictures.n, -1, ids.shape[-1])

    def loss_at(model, step, part):
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

    schedule = Schedule(**{**SCHEDULE.__dict__, "steps": steps})
    curve = fit(
        model,
        loss_at,
        schedule,
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


def texts_of(pictures: Pictures) -> list[str]:
    """All captions, five a picture, in order."""
    return [c for five in pictures.captions for c in five]


def vision_to_transformers(clip: Clip):
    """The image tower as transformers' CLIPVisionModelWithProjection, the class that unCLIP pipelines hold.

    Returns
    -------
    CLIPVisionModelWithProjection
        `vision(pixels).image_embeds` equals open_clip's `encode_image(pixels)`.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    v, source = TINY_CONFIG["vision_cfg"], clip.model.state_dict()
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
