"""What lets a large language model be trained in little memory: adapters beside its weights (LoRA), layers computed twice.

Left out: the training itself (`neurovl.language.train`).
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from neurovl.errors import ConfigError
from neurovl.foundation.llm import require_peft
from neurovl.settings.sections import Lora


def add_adapters(llm: nn.Module, settings: Lora, seed: int = 0) -> None:
    """Put trainable float32 adapters beside linear layers, in place; a model that has them already keeps them.

    They begin as zero: the model's scores are what they were. Its own weights are left as they are.

    Raises
    ------
    MissingError
        peft is not installed.
    ConfigError
        The model has no layers of the names in `lora.targets`.
    """
    peft = require_peft("language.method: lora")
    if not has_adapters(llm):
        torch.manual_seed(seed)
        try:
            peft.inject_adapter_in_model(_config(peft, settings), llm)
        except ValueError as error:
            raise ConfigError(
                f"adapters cannot be put at lora.targets {list(settings.targets)} "
                f"({str(error).splitlines()[0][:160]}), expected names of linear layers of "
                f"{type(llm).__name__}; leave targets empty for all of them"
            ) from error
    for name, parameter in llm.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def _config(peft: ModuleType, settings: Lora) -> "object":
    return peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )


def has_adapters(llm: nn.Module) -> bool:
    """Whether adapters stand beside the model's weights."""
    return bool(getattr(llm, "peft_config", None))


def merge_adapters(llm: nn.Module) -> None:
    """Add adapters, where there are any, to the weights that they stand beside, in place: W + (alpha / rank) x A B.

    Weights in bf16 would lose much of it to rounding, so turn them to float32 before. A base in 4 bits keeps its adapters:
    the sum would have to be rounded to 4 bits again.
    """
    if not has_adapters(llm) or getattr(llm, "is_loaded_in_4bit", False):
        return
    from peft.tuners.lora import LoraLayer

    for name, layer in list(llm.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            llm.set_submodule(name, layer.get_base_layer())
    del llm.peft_config


def save_llm(llm: nn.Module, folder: Path) -> None:
    """Write a language model in the hub's format; of one with adapters these, in peft's format, and the name of its base."""
    if not has_adapters(llm):
        llm.save_pretrained(folder)
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(llm)
    own = {f"base_model.model.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
    save_file(own, folder / "adapter_model.safetensors")
    (config,) = llm.peft_config.values()
    config.base_model_name_or_path = llm.name_or_path
    config.save_pretrained(folder)


@contextlib.contextmanager
def recomputed(llm: nn.Module) -> Iterator[None]:
    """In the body the layers keep their inputs alone, and are computed again on the way back (gradient checkpointing).

    transformers' own switch does nothing in evaluation mode, in which a frozen model is trained through.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [m for m in llm.modules() if isinstance(m, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
