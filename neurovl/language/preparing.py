"""What a language model of the hub is brought to before it reads brains: its vocabulary, where answers end, greedy answers."""

import logging
from typing import TYPE_CHECKING

import torch
from torch import nn

from neurovl.language.dialogues import Dialogue, encode_dialogue

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def fit_embeddings(llm: nn.Module, n: int) -> None:
    """Rows for tokens that the model has not: the mean of its own, so that nothing is random."""
    rows = llm.get_input_embeddings().num_embeddings
    if rows >= n:
        return
    logger.info("the language model's vocabulary grows from %d to %d", rows, n)
    llm.resize_token_embeddings(n, mean_resizing=False)
    with torch.no_grad():
        for layer in {llm.get_input_embeddings(), llm.get_output_embeddings()}:
            layer.weight[rows:] = layer.weight[:rows].mean(0)


def greedy(end_ids: list[int], pad_id: int) -> "GenerationConfig":
    """The likeliest token at each step. What a model of the hub brings along (penalties of repetition, temperatures) would
    change answers, or where it contradicts itself could not be saved again.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False, num_beams=1, use_cache=True, eos_token_id=end_ids, pad_token_id=pad_id
    )


def find_end_ids(llm: nn.Module, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that end an answer: the tokenizer's, those of the model's generation config, and the template's."""
    ends = getattr(llm.generation_config, "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [ends]
    # Two turns, so that a template that cannot be used is found here and not amid the training.
    probe = Dialogue("conversation", 0, (("a", "b"), ("c", "d")), False)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    answer = [i for i in encode_dialogue(tokenizer, probe)[1] if i in special]
    return sorted({i for i in [*ends, tokenizer.eos_token_id, *answer[:1]] if i is not None})
