"""Byte-level BPE tokenizers of the tiny family, in the hub's format."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    specials: dict[str, str],
    extra: tuple[str, ...] = (),
    max_length: int,
    frame: bool,
) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE tokenizer, so that any text can be encoded.

    Parameters
    ----------
    texts : iterable of str
    vocab_size : int
        Specials included. It is raised to 256 bytes plus specials where it is smaller.
    specials : dict
        Roles to tokens, e.g. ``{'pad_token': '<pad>', 'eos_token': '</s>'}``. The end token gets the highest id,
        which is how CLIP finds the end of a text.
    extra : tuple of str
        Further special tokens.
    max_length : int
        Longest text in tokens.
    frame : bool
        Whether every text is put between the begin and end tokens, as CLIP does.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
    """
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    if frame:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    end = specials["eos_token"]
    first = [t for t in (*specials.values(), *extra) if t != end]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=first,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([end])
    if frame:
        begin = specials["bos_token"]
        ids = [(t, tokenizer.token_to_id(t)) for t in (begin, end)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}", special_tokens=ids
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        additional_special_tokens=list(extra),
        **specials,
    )


def caption_ids(
    tokenizer: "PreTrainedTokenizerFast", captions: Sequence[Sequence[str]]
) -> "torch.Tensor":
    """Token ids of captions, as many a picture, int64 tensor, shape (n_pictures, n_captions, length)."""
    texts = [text for some in captions for text in some]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    return ids.view(len(captions), -1, ids.shape[-1])
