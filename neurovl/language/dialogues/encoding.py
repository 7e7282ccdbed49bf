"""From dialogues to token ids and labels, with a place for the brain tokens (paper section 3).

The template is the paper's, "<human>:[image] [instruction] <bot>:[answer]"; a tokenizer with a chat
template of its own keeps it. What fills the place is decided in `neurovl.language`.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurovl.errors import ConfigError
from neurovl.language.dialogues.composing import Dialogue

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = "<image>"
IGNORED = -100

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}<human>"
    "{% if not message['content'].startswith('<image>') %} {% endif %}{{ message['content'] }}"
    "{% else %}<bot> {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)


def add_placeholder(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Give the tokenizer the `<image>` token if it lacks it; returns its id."""
    if PLACEHOLDER not in tokenizer.get_vocab():
        from tokenizers import AddedToken

        tokenizer.add_tokens(
            [AddedToken(PLACEHOLDER, special=True, normalized=False)], special_tokens=True
        )
    return tokenizer.convert_tokens_to_ids(PLACEHOLDER)


def _pieces(
    tokenizer: "PreTrainedTokenizerBase",
    turns: Sequence[tuple[str, str]],
    question: str | None,
    n_brain: int,
    context: str,
) -> list[tuple[str, bool]]:
    """Text of the whole exchange, cut into (text, is answer)."""
    questions = [q for q, _ in turns] + ([] if question is None else [question])
    if not questions:
        raise ConfigError("a dialogue has no turn, expected at least one; drop empty dialogues")
    # The whole vocabulary is a new dict at each call; added tokens are few.
    if n_brain and all(
        PLACEHOLDER not in known() for known in (tokenizer.get_added_vocab, tokenizer.get_vocab)
    ):
        raise ConfigError(
            f"the tokenizer has no token {PLACEHOLDER}, expected it for {n_brain} brain tokens; "
            "call neurovl.language.dialogues.add_placeholder(tokenizer) first"
        )
    messages = []
    for i, q in enumerate(questions):
        # Only our own placeholders may stand for brain tokens, never one that a user typed.
        content = q.replace(PLACEHOLDER, "image")
        if i == 0:
            content = " ".join(filter(None, [PLACEHOLDER * n_brain, context, content]))
        messages.append({"role": "user", "content": content})
        if i < len(turns):
            messages.append({"role": "assistant", "content": turns[i][1]})
    template = None if tokenizer.chat_template else CHAT_TEMPLATE

    def render(upto: int, prompt: bool, more: Sequence[dict] = ()) -> str:
        return tokenizer.apply_chat_template(
            [*messages[:upto], *more],
            tokenize=False,
            add_generation_prompt=prompt,
            chat_template=template,
        )

    done, pieces = "", []
    for i in range(len(questions)):
        steps = [(render(2 * i + 1, True), False)]
        if i < len(turns):
            answered = render(2 * i + 2, False)
            longer = render(2 * i + 2, False, [{"role": "user", "content": "And?"}])
            if not longer.startswith(answered):
                answered = _closed(tokenizer, answered, longer, len(steps[0][0]))
            steps.append((answered, True))
        for text, is_answer in steps:
            if not text.startswith(done):
                raise ConfigError(
                    "the tokenizer's chat template rewrites earlier turns, expected turns to be "
                    f"appended (turn {i + 1} of {len(questions)}); give it another chat_template"
                )
            pieces.append((text[len(done) :], is_answer))
            done = text
    return pieces


def _closed(tokenizer: "PreTrainedTokenizerBase", text: str, longer: str, start: int) -> str:
    """A conversation up to the mark that ends its last answer, which begins at `start`.

    Some templates, such as Llama 3's first, open another answer whether or not one is asked for; the
    conversation with a further question shows where the answer's own part ends.
    """
    common = os.path.commonprefix([text, longer])
    marks = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    ends = [common.find(mark, start) + len(mark) for mark in marks if mark in common[start:]]
    return common[: min(ends)] if ends else common


def _encode(
    tokenizer: "PreTrainedTokenizerBase", pieces: Sequence[tuple[str, bool]]
) -> tuple[list[int], list[int]]:
    # A prompt must have the same ids in training and in generation, so pieces are encoded one by one; but what a piece
    # becomes may depend on the text before it (SentencePiece marks the start of a text), so it gets the ids that it
    # adds to those of all pieces before.
    ids, labels, text = [], [], ""
    for piece, is_answer in pieces:
        text += piece
        whole = tokenizer.encode(text, add_special_tokens=False)
        follows = whole[: len(ids)] == ids
        new = whole[len(ids) :] if follows else tokenizer.encode(piece, add_special_tokens=False)
        ids += new
        labels += new if is_answer else [IGNORED] * len(new)
    return ids, labels


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase",
    turns: Sequence[tuple[str, str]],
    question: str,
    n_brain: int,
    context: str = "",
) -> list[int]:
    """Ids of the turns so far and a new question, ending where the answer begins.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Its `chat_template` is used when it has one, else `CHAT_TEMPLATE`.
    turns : sequence of (question, answer)
        Earlier turns; the picture stands in the first question of all.
    question : str
    n_brain : int
        How many `<image>` tokens stand before the first question; 0 for text alone.
    context : str
        Words after the picture and before the first question: a system's instruction, or the picture in words (`in_words`).

    Raises
    ------
    ConfigError
        When the tokenizer has no `<image>` token, or its template does not append turns.
    """
    return _encode(tokenizer, _pieces(tokenizer, turns, question, n_brain, context))[0]


def encode_dialogue(
    tokenizer: "PreTrainedTokenizerBase", dialogue: Dialogue, n_brain: int = 0, context: str = ""
) -> tuple[list[int], list[int]]:
    """Ids and labels of a whole dialogue; labels are -100 outside the answers.

    An answer's labels include the token that ends it. For the other parameters see `prompt_ids`.
    """
    return _encode(tokenizer, _pieces(tokenizer, dialogue.turns, None, n_brain, context))


def collate(
    batch: Sequence[tuple[list[int], list[int]]], pad_id: int, side: str = "right"
) -> dict[str, "Tensor"]:
    """Pad to one length.

    Parameters
    ----------
    batch : sequence of (ids, labels)
    pad_id : int
    side : {'right', 'left'}
        `right` for training, `left` for generation.

    Returns
    -------
    dict of LongTensor (n_dialogues, n_tokens)
        `input_ids`, `attention_mask` (0 on padding), `labels` (-100 on padding).
    """
    import torch

    if side not in ("right", "left"):
        raise ConfigError(f"side must be 'right' or 'left', got {side!r}; training pads right")
    length = max(len(ids) for ids, _ in batch)
    columns = {"input_ids": [], "attention_mask": [], "labels": []}
    for ids, labels in batch:
        fill = length - len(ids)
        for key, row, value in (
            ("input_ids", ids, pad_id),
            ("attention_mask", [1] * len(ids), 0),
            ("labels", labels, IGNORED),
        ):
            pad = [value] * fill
            columns[key].append([*row, *pad] if side == "right" else [*pad, *row])
    return {key: torch.tensor(rows, dtype=torch.long) for key, rows in columns.items()}
