"""The language model (LlamaForCausalLM or any causal model of the hub)."""

import contextlib
import importlib.util
import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from neurovl.errors import MissingError
from neurovl.foundation.source import (
    device_for,
    dtype_for,
    first_here,
    load_or_explain,
    load_whole,
    resolve,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What FastChat puts around the turns for Vicuna 1.1 and later; its tokenizer on the hub carries no template.
VICUNA_TEMPLATE = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. {% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {{ message['content'] | trim }} "
    "{% else %}ASSISTANT: {{ message['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def load_llm(
    spec: str | Sequence[str] = "tiny", device: str = "auto", weights: str = "auto"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model and its tokenizer from files that are here.

    Dialogues keep to the tokenizer's own chat template. Vicuna's lacks the one that its model was trained with and gets
    it; any other without one gets the paper's (`neurovl.language.dialogues`).

    Parameters
    ----------
    spec : str or sequence of str
        'tiny', a folder or a hub id; of several, the first that is here. A folder of adapters is read together with the
        model that it names, in 4 bits.
    weights : str
        'float32', 'bf16', '4bit', or 'auto': float32, and bf16 for a model of 2 GB of weights or more where the device
        computes in it.

    Returns
    -------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerBase

    Raises
    ------
    MissingError
        The model is not here, and the message holds the command that fetches it; or what 4 bits or adapters need is not.

    Examples
    --------
    >>> from neurovl.foundation.llm import load_llm
    >>> model, tokenizer = load_llm("tiny", device="cpu")
    >>> type(model).__name__
    'LlamaForCausalLM'
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, source = first_here(spec, lambda one: (one, resolve(one, "llm")))
    device = device_for(device, f"LLM {name}")
    folder, file = _place(source, name)
    tokenizer = load_or_explain(lambda: AutoTokenizer.from_pretrained(folder, **file), name, "LLM")
    if tokenizer.chat_template is None and "vicuna" in Path(name).name.lower():
        tokenizer.chat_template = VICUNA_TEMPLATE
    adapters = Path(source) / "adapter_config.json"
    if adapters.is_file():
        peft = require_peft(f"the language model in {name}")
        base, _ = load_llm(
            json.loads(adapters.read_text())["base_model_name_or_path"], device, "4bit"
        )
        adapted = load_or_explain(lambda: peft.PeftModel.from_pretrained(base, source), name, "LLM")
        return adapted.get_base_model(), tokenizer
    options = _options(weights, device, source, f"LLM {name}")
    # transformers shows its progress in turning a GGUF file's weights to numbers, whatever it is told.
    with contextlib.redirect_stderr(io.StringIO()) if file else contextlib.nullcontext():
        model = load_whole(AutoModelForCausalLM, folder, name, "LLM", **file, **options)
    if file:
        _forget_quantization(model)
    # What adapters name as their base: a hub id stays one.
    model.name_or_path = str(Path(name).resolve()) if Path(name).exists() else name
    return (model if weights == "4bit" else model.to(device)), tokenizer


def _place(source: str, name: str) -> tuple[str, dict[str, str]]:
    """Folder of a model, and for one in a single GGUF file what transformers wants to know of it."""
    if not source.endswith(".gguf"):
        return source, {}
    if importlib.util.find_spec("gguf") is None:
        raise MissingError(
            f"the LLM {name} is a GGUF file, which needs the package gguf; install it: pip install 'neurovl[words]'"
        )
    return str(Path(source).parent), {"gguf_file": Path(source).name}


def _forget_quantization(model: "PreTrainedModel") -> None:
    """The weights were turned to floating point as they were read, and are saved as that."""
    del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None


def _options(weights: str, device: str, source: str, what: str) -> dict:
    """How transformers is to hold a model's weights."""
    import torch

    if weights != "4bit":
        named = {"bf16": torch.bfloat16, "float32": torch.float32}
        return {"dtype": named.get(weights) or dtype_for(device, source, what)}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingError(
            f"{what} is wanted in 4 bits, which needs the package bitsandbytes; install it: "
            "pip install bitsandbytes, or set lora.base: bf16"
        )
    from transformers import BitsAndBytesConfig

    # As QLoRA has it.
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {
        "dtype": torch.bfloat16,
        "quantization_config": quantized,
        "device_map": {"": device},
    }


def require_peft(what: str) -> ModuleType:
    """The package peft.

    Raises
    ------
    MissingError
        It is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingError(
            f"{what} needs the package peft; install it: pip install 'neurovl[lora]', or set language.method: full"
        ) from error
    return peft
