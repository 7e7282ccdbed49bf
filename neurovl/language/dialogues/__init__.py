"""The language data: six types of dialogue about a picture, and their token ids (paper section 3).

`dialogues` writes them from captions and objects with boxes alone, the same for COCO, NSD and the
small world; every answer follows from those two by rule. `encode_dialogue` and `collate` turn them
into ids and labels for any tokenizer. The paper had GPT-3.5 write its dialogues; nothing here asks
a language model, so answers are plainer and none is invented.
"""

from neurovl.language.dialogues.checks import CHECKS, balanced_checks, checked_dialogues
from neurovl.language.dialogues.composing import (
    TYPES,
    Dialogue,
    category_frequencies,
    dialogues,
    evaluation_set,
    in_words,
)
from neurovl.language.dialogues.encoding import (
    CHAT_TEMPLATE,
    PLACEHOLDER,
    add_placeholder,
    collate,
    encode_dialogue,
    prompt_ids,
)
from neurovl.language.dialogues.wordings import PROMPTS

__all__ = [
    "CHAT_TEMPLATE",
    "CHECKS",
    "PLACEHOLDER",
    "PROMPTS",
    "TYPES",
    "Dialogue",
    "add_placeholder",
    "balanced_checks",
    "category_frequencies",
    "checked_dialogues",
    "collate",
    "dialogues",
    "encode_dialogue",
    "evaluation_set",
    "in_words",
    "prompt_ids",
]
