"""Foundation models without weights: built on torch's meta device from their configurations alone, in no memory.

What comes out are the objects that the loaders give (`Clip`, `LatentCodec`, a pipeline, a language model with its
tokenizer), so that the code that uses them runs on shapes. Tensors on the meta device have no values.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from neurovl.errors import DataError
from neurovl.foundation.clip import Clip
from neurovl.foundation.llm import VICUNA_TEMPLATE
from neurovl.foundation.model_facts import configurations, find_facts, find_folder, weight_shapes
from neurovl.foundation.source import TINY, alternatives
from neurovl.foundation.vae import LatentCodec

if TYPE_CHECKING:
    from diffusers import SchedulerMixin, StableUnCLIPImg2ImgPipeline
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from neurovl.foundation.metric_networks import ClipFeatures, ImageNetwork
    from neurovl.foundation.scenenet import MetricNetwork


class ShapesOnly(TorchFunctionMode):
    """Lets code that hands its results back to the CPU run on meta tensors.

    `.cpu()` and `.numpy()` leave a meta tensor as it is, and `torch.tensor` of numbers gives a real tensor unless a
    device is named.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.cpu, torch.Tensor.numpy) and args[0].is_meta:
            return args[0]
        if func is torch.tensor:
            kwargs = {"device": "cpu", **kwargs}
        return func(*args, **kwargs)


@contextlib.contextmanager
def _building(spec: str | Sequence[str], part: str, component: str) -> Iterator[None]:
    """On the meta device; a configuration that the libraries refuse is named."""
    from huggingface_hub.errors import StrictDataclassError

    refusals = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, AssertionError)
    try:
        with torch.device("meta"):
            yield
    except (*refusals, StrictDataclassError) as problem:
        last = (str(problem).strip().splitlines() or [type(problem).__name__])[-1].strip()
        raise DataError(
            f"the configuration of {component} of the {part} model {alternatives(spec)[0]} gives no network "
            f"({last[:200]}), expected one that its library can build; name another model with models.{part} of the profile"
        ) from problem


def clip_skeleton(spec: str | Sequence[str] = "tiny") -> Clip:
    """CLIP without weights, with its real preprocessing and tokenizer."""
    import open_clip

    config = configurations(spec, "clip")["clip"]
    known = {k: v for k, v in config.items() if k not in ("custom_text",)}
    with _building(spec, "clip", "clip"):
        model = open_clip.model.CLIP(**copy.deepcopy(known))
    size = config["vision_cfg"]["image_size"]
    preprocess = open_clip.image_transform(size, is_train=False)
    open_clip.model.set_model_preprocess_cfg(
        model,
        {"size": size, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD},
    )
    folder = find_folder(spec, "clip")
    if folder is not None and (folder / "open_clip_config.json").is_file():
        _compare(model, folder, spec, "clip")
    if folder is not None and "hf_tokenizer_name" in config["text_cfg"]:
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    else:
        length = config["text_cfg"].get("context_length", 77)
        tokenizer = open_clip.SimpleTokenizer(context_length=length)
    return Clip(model, preprocess, tokenizer, "meta")


def unclip_skeleton(spec: str | Sequence[str] = "tiny") -> "StableUnCLIPImg2ImgPipeline":
    """A `StableUnCLIPImg2ImgPipeline` whose networks have no weights; its schedulers are real.

    Where the model's own tokenizer is not here, the tiny family's stands in for it.
    """
    import diffusers
    import transformers
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

    configs, folder = configurations(spec, "unclip"), find_folder(spec, "unclip")
    kinds = {
        "unet": diffusers.UNet2DConditionModel.from_config,
        "vae": diffusers.AutoencoderKL.from_config,
        "image_normalizer": StableUnCLIPImageNormalizer.from_config,
        "text_encoder": lambda c: transformers.CLIPTextModel(transformers.CLIPTextConfig(**c)),
        "image_encoder": lambda c: transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**c)
        ),
    }
    parts = {}
    for name, build in kinds.items():
        with _building(spec, "unclip", name):
            parts[name] = build(copy.deepcopy(configs[name])).eval()
        if folder is not None:
            _compare(parts[name], folder / name, spec, "unclip", name)
    for name in ("scheduler", "image_noising_scheduler"):
        kind = getattr(diffusers, configs[name].get("_class_name", "PNDMScheduler"))
        parts[name] = kind.from_config(configs[name])
    _keep_times(parts["scheduler"])
    words = (folder or TINY / "unclip") / "tokenizer"
    tokenizer = transformers.AutoTokenizer.from_pretrained(words)
    tokenizer.model_max_length = parts["text_encoder"].config.max_position_embeddings
    pipeline = diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=transformers.CLIPImageProcessor(**configs["feature_extractor"]),
        tokenizer=tokenizer,
        **parts,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def codec_skeleton(pipeline: "StableUnCLIPImg2ImgPipeline", size: int | None = None) -> LatentCodec:
    """The autoencoder of a pipeline of `unclip_skeleton`, for pictures of `size` pixels."""
    return LatentCodec(pipeline.vae, "meta", size or pipeline.vae.config.sample_size)


def llm_skeleton(
    spec: str | Sequence[str] = "tiny",
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A causal language model without weights, and its tokenizer.

    Where its own tokenizer is not here, the tiny family's stands in for it, with the published chat template and length.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config, folder = dict(configurations(spec, "llm")["llm"]), find_folder(spec, "llm")
    with _building(spec, "llm", "llm"):
        settings = AutoConfig.for_model(config.pop("model_type"), **config)
        # The other kinds of attention look at the values of the mask.
        model = AutoModelForCausalLM.from_config(settings, attn_implementation="eager").eval()
    if folder is not None:
        _compare(model, folder, spec, "llm")
        return model, AutoTokenizer.from_pretrained(folder)
    tokenizer, published = AutoTokenizer.from_pretrained(TINY / "llm"), find_facts(spec).tokenizer
    tokenizer.chat_template = published["chat_template"]
    if tokenizer.chat_template is None and "vicuna" in alternatives(spec)[0].lower():
        tokenizer.chat_template = VICUNA_TEMPLATE  # as `load_llm` does
    length = published["length"] + 1  # and <image>
    kind = type(tokenizer)
    tokenizer.__class__ = type(kind.__name__, (kind,), {"__len__": lambda self: length})
    return model, tokenizer


def metric_skeletons(
    spec: str | Sequence[str] = "tiny",
) -> "Iterator[tuple[str, int, ImageNetwork | ClipFeatures | MetricNetwork]]":
    """Name, number of parameters and network (`features` of pictures) of every member of a metric family."""
    from neurovl.foundation.metric import metric_family
    from neurovl.foundation.metric_networks import ClipFeatures, caption_member, paper_family

    family = metric_family(spec, "meta") if spec != "paper" else paper_family(None, "meta")
    members = [*family, *([] if len(family) == 1 else [caption_member(None, "meta")])]
    for member in members:
        kind, _, name = member.name.partition(" ")
        if kind == "CLIP":
            clip = clip_skeleton(f"{name.replace('/', '-')}/openai")
            yield member.name, count(clip.model), ClipFeatures(clip)
        else:
            network = member.load()
            yield member.name, count(network.net), network


def count(module: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def _keep_times(scheduler: "SchedulerMixin") -> None:
    """A scheduler reads the time steps as numbers, so they stay real when the pipeline asks for them on its device."""
    original = scheduler.set_timesteps
    scheduler.set_timesteps = lambda steps, device=None: original(steps, device="cpu")


def _compare(
    module: torch.nn.Module, folder: Path, spec: str | Sequence[str], part: str, component: str = ""
) -> None:
    """Refuse weights whose shapes are not those that the configuration asks for."""
    stored = weight_shapes(folder)
    for name, value in module.state_dict().items():
        if name in stored and stored[name] != tuple(value.shape):
            raise DataError(
                f"{component or part} of the {part} model {alternatives(spec)[0]}: {name} has the shape {stored[name]} in "
                f"the weights, {tuple(value.shape)} by the configuration beside them; fetch the model again, or name another "
                f"one with models.{part} of the profile"
            )
