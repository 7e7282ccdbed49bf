"""Small models with random weights in the place of the paper's: its classes, in the file formats in which the hub has them.

Nothing is learned here, and nothing that these models give means anything. They prove that the profile `paper` runs from
end to end: old names of weights, shards, chat templates, and every network of every table.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from neurovl.family.word_tokenizers import train_bpe
from neurovl.foundation.metric_networks import SWAV_URL
from neurovl.foundation.model_facts import RANDOM, find_facts
from neurovl.smallworld import scenes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WIDTH = 32  # of the embedding that CLIP and unCLIP share
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
NOTE = (
    "Random weights, for rehearsals alone: nothing that comes out of this model means anything.\n"
)
# Of an attention of the VAE: as diffusers calls it today, and as it did when the model was published.
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def make_rehearsal_models(out: Path | str, seed: int = 0) -> Path:
    """Write all models that the profile `rehearsal` names.

    Parameters
    ----------
    out : path
        The folder; a model that is in it already is left alone.
    seed : int

    Returns
    -------
    Path
        `out`, with clip, unclip, llm, vicuna-13b, captioner, detector and metric in it.
    """
    out = Path(out)
    makers: dict[str, Callable[[Path], None]] = {
        "clip": lambda folder: _clip(folder, patch=14),
        "unclip": _unclip,
        "llm": _llama,
        "vicuna-13b": _vicuna,
        "captioner": _blip2,
        "detector": _detr,
        "metric": _metric,
    }
    for number, (name, make) in enumerate(makers.items()):
        if (out / name).is_dir():
            continue
        torch.manual_seed(seed * 100 + number)
        part = out / f".part-{name}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        (part / RANDOM).write_text(NOTE)
        part.rename(out / name)
    return out


def _clip(folder: Path, patch: int) -> None:
    """A CLIP in open_clip's format, with the activation of OpenAI's weights."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": WIDTH,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 4 * patch, "layers": 2, "width": 64, "patch_size": patch},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }
    model = open_clip.model.CLIP(**config)
    about = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    content = {"model_cfg": config, "preprocess_cfg": about}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def _unclip(folder: Path) -> None:
    """Stable unCLIP as of 2023: a CLIP tokenizer of two files, and old names of the VAE's attention."""
    import diffusers
    import transformers
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )
    from safetensors.torch import load_file, save_file

    configs = find_facts("stabilityai/stable-diffusion-2-1-unclip-small").configs
    blocks = {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1}
    about = {"attention_head_dim": [1, 1, 2, 2], "cross_attention_dim": LAYERS["hidden_size"]}
    about["projection_class_embeddings_input_dim"] = 2 * WIDTH
    words = configs["text_encoder"] | LAYERS | {"num_hidden_layers": 2}
    sight = configs["image_encoder"] | LAYERS | {"num_hidden_layers": 2, "projection_dim": WIDTH}
    side = {"image_size": 56, "patch_size": 14}
    _clip_words(folder / "tokenizer")
    pipeline = diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=transformers.CLIPImageProcessor(**configs["feature_extractor"]),
        image_encoder=transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**sight | side)
        ),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=WIDTH),
        image_noising_scheduler=diffusers.DDPMScheduler.from_config(
            configs["image_noising_scheduler"]
        ),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**words)),
        unet=diffusers.UNet2DConditionModel.from_config(configs["unet"] | blocks | about),
        scheduler=diffusers.PNDMScheduler.from_config(configs["scheduler"]),
        vae=diffusers.AutoencoderKL.from_config(configs["vae"] | blocks),
    )
    pipeline.save_pretrained(folder)
    _clip_words(folder / "tokenizer")  # as two files, without the one that is written today
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = {}
    for name, value in load_file(weights).items():
        place, _, last = name.rpartition(".")
        for new, old in OLD_NAMES.items():
            if "attentions" in place and place.endswith(f".{new}"):
                place = f"{place.removesuffix(new)}{old}"
        state[f"{place}.{last}"] = value
    save_file(state, weights)


def _clip_words(folder: Path) -> None:
    """The tokenizer of CLIP as vocab.json and merges.txt, from the words that open_clip ships."""
    import open_clip

    words = open_clip.SimpleTokenizer()
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(words.encoder))
    merges = [" ".join(pair) for pair in words.bpe_ranks]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "!"}
    about |= {"bos_token": "<start_of_text>", "eos_token": "<end_of_text>"}
    about |= {"unk_token": "<end_of_text>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def _words(specials: dict[str, str], extra: tuple[str, ...] = ()) -> "PreTrainedTokenizerFast":
    """A tokenizer of scenes' captions with a model's own special tokens."""
    seen = [scenes.make_scene("rehearsal", k) for k in range(50)]
    texts = [text for scene in seen for text in scenes.captions(scene)]
    return train_bpe(
        texts, vocab_size=600, specials=specials, extra=extra, max_length=8192, frame=False
    )


def _llama(folder: Path) -> None:
    """Llama 3 Instruct: bf16 in shards, its chat template, and a generation config that draws."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    facts = find_facts("meta-llama/Meta-Llama-3-8B-Instruct")
    specials = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    extra = ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>")
    tokenizer = _words(specials, extra)
    tokenizer.chat_template = facts.tokenizer["chat_template"]
    small = LAYERS | {"num_hidden_layers": 2, "num_key_value_heads": 1}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = facts.configs["llm"] | small | ids | {"vocab_size": len(tokenizer)}
    model = LlamaForCausalLM(LlamaConfig(**config)).to(torch.bfloat16)
    ends = [tokenizer.convert_tokens_to_ids("<|end_of_text|>"), tokenizer.eos_token_id]
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends,
    )
    model.save_pretrained(folder, max_shard_size="50KB")
    tokenizer.save_pretrained(folder)


def _vicuna(folder: Path) -> None:
    """Vicuna 1.5: float16 in torch's own shards, no chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    specials = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    tokenizer = _words(specials)
    config = find_facts("lmsys/vicuna-13b-v1.5").configs["llm"] | LAYERS
    config |= {"num_hidden_layers": 3, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    config |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(LlamaConfig(**config)).half()
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    state, files = model.state_dict(), [f"pytorch_model-{k:05d}-of-00002.bin" for k in (1, 2)]
    where = {name: files[k % 2] for k, name in enumerate(state)}
    for file in files:
        torch.save({name: v for name, v in state.items() if where[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _blip2(folder: Path) -> None:
    """BLIP-2 with OPT, in shards."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
    )

    specials = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = _words(specials, ("<image>",))
    text = {"model_type": "opt", "vocab_size": len(tokenizer), "ffn_dim": 64}
    text |= {"word_embed_proj_dim": 32, "max_position_embeddings": 128, "num_hidden_layers": 2}
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    text |= {name: getattr(tokenizer, name) for name in ids}
    config = Blip2Config(
        vision_config=LAYERS | {"image_size": 28, "patch_size": 14, "num_hidden_layers": 2},
        qformer_config=LAYERS | {"num_hidden_layers": 2, "encoder_hidden_size": 32},
        text_config=LAYERS | text,
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder, max_shard_size="100KB")
    pixels = BlipImageProcessor(size={"height": 28, "width": 28})
    Blip2Processor(pixels, tokenizer, num_query_tokens=4).save_pretrained(folder)


def _detr(folder: Path) -> None:
    """DETR on a backbone of timm, with COCO's numbers of categories."""
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor

    config = DetrConfig(
        use_timm_backbone=True,
        backbone="resnet18",
        use_pretrained_backbone=False,
        d_model=32,
        num_queries=10,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_labels=91,
    )
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)


def _metric(folder: Path) -> None:
    """The paper's metric networks at their real size, the CLIPs small."""
    from torchvision import models

    networks = {
        models.AlexNet_Weights.IMAGENET1K_V1.url: models.alexnet(),
        models.Inception_V3_Weights.IMAGENET1K_V1.url: models.inception_v3(init_weights=False),
        models.EfficientNet_B1_Weights.IMAGENET1K_V2.url: models.efficientnet_b1(),
        SWAV_URL: models.resnet50(),
    }
    for url, network in networks.items():
        state = {name: value.half() for name, value in network.state_dict().items()}
        if url == SWAV_URL:
            state = {f"module.{name}": value for name, value in state.items()}
        torch.save(state, folder / url.rsplit("/", 1)[1])
    for name, patch in (("ViT-L-14", 14), ("ViT-B-32", 32)):
        (folder / name).mkdir()
        _clip(folder / name, patch)
