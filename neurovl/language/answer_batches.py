"""How many conversations are held side by side: as many as a fixed room for keys and values has place for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

CACHE_BYTES = 4 * 2**30  # of keys and values: some 70 conversations with Llama-3-8B in 16 bits
MOST = 512
TEXT = 128  # tokens of a dialogue beside the brain's, about


def conversations_together(llm: "nn.Module", n_brain: int, max_new_tokens: int) -> int:
    """How many conversations about brains of `n_brain` tokens a language model holds at a time."""
    number = llm.get_input_embeddings().weight.element_size()
    return rows_together(llm.config.to_dict(), n_brain + TEXT + max_new_tokens, number)


def rows_together(config: Mapping, length: int, number: int) -> int:
    """How many rows of `length` tokens `CACHE_BYTES` have place for: 1 at least, `MOST` at most; a number takes `number` bytes."""
    return min(MOST, max(1, CACHE_BYTES // (length * cached_bytes(config, number))))


def cached_bytes(config: Mapping, number: int) -> int:
    """Bytes of a token's keys and values in all layers, by a Llama's config.json; a number takes `number` bytes."""
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return (
        2
        * config["num_hidden_layers"]
        * (config.get("num_key_value_heads") or heads)
        * size
        * number
    )
