"""The language model (LlamaForCausalLM or any causal model of the hub)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.foundation.source import (
    device_for,
    dtype_for,
    first_here,
    load_or_explain,
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
    spec: str | Sequence[str] = "tiny", device: str = "auto"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model and its tokenizer from files that are here.

    Dialogues keep to the tokenizer's own chat template. Vicuna's lacks the one that its model was trained with and gets
    it; any other without one gets the paper's (`neurovl.language.dialogues`).

    Parameters
    ----------
    spec : str or sequence of str
        'tiny', a folder or a hub id; of several, the first that is here.

    Returns
    -------
    model : transformers.PreTrainedModel
        In float32; in bf16 where it has 2 GB of weights or more and the device computes in bf16.
    tokenizer : transformers.PreTrainedTokenizerBase

    Raises
    ------
    MissingError
        The model is not here; the message holds the command that fetches it.

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
    dtype = dtype_for(device, source, f"LLM {name}")
    tokenizer = load_or_explain(lambda: AutoTokenizer.from_pretrained(source), name, "LLM")
    if tokenizer.chat_template is None and "vicuna" in Path(name).name.lower():
        tokenizer.chat_template = VICUNA_TEMPLATE
    model = load_or_explain(
        lambda: AutoModelForCausalLM.from_pretrained(source, dtype=dtype), name, "LLM"
    )
    return model.to(device), tokenizer
