"""The tiny language model: its training on dialogues about scenes, most of them with the scene in words."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurovl.family.scene_pictures import Pictures
from neurovl.family.word_tokenizers import train_bpe
from neurovl.language.dialogues import (
    CHAT_TEMPLATE,
    Dialogue,
    collate,
    dialogues,
    encode_dialogue,
    in_words,
)
from neurovl.smallworld import scenes
from neurovl.training.loop import Part, Schedule, fit

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CONFIG = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
SPECIALS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
EXTRA = ("<image>", "<human>", "<bot>")
VOCABULARY = 768
CONTEXT = 0.7  # share of the dialogues that come with the scene in words
SCHEDULE = Schedule(steps=4000, lr=2e-3, weight_decay=0.05, warmup=0.03, precision="bf16")


def train_llm(
    out: Path,
    pictures: Pictures,
    *,
    steps: int,
    seed: int,
    device: str = "auto",
    batch_size: int = 64,
) -> list[dict]:
    """Train the tiny Llama as a text-only instruction follower on dialogues about scenes, most with the scene in words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    talk = [scene_dialogues(scene, seed, i) for i, scene in enumerate(pictures.scenes)]
    texts = [f" {text}" for ds in talk[:4000] for d in ds for turn in d.turns for text in turn]
    tokenizer = train_bpe(
        texts, vocab_size=VOCABULARY, specials=SPECIALS, extra=EXTRA, max_length=512, frame=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **CONFIG,
        )
    )

    def loss_at(model: "LlamaForCausalLM", step: int, part: Part) -> torch.Tensor:
        rng = np.random.default_rng([seed, step])
        encoded = []
        for i in part.of(rng.integers(len(talk), size=batch_size)):
            seen = context(pictures.scenes[i], rng) if rng.random() < CONTEXT else ""
            encoded.append(
                encode_dialogue(tokenizer, talk[i][rng.integers(len(talk[i]))], context=seen)
            )
        batch = collate(encoded, tokenizer.pad_token_id)
        return model(**{k: v.to(model.device) for k, v in batch.items()}).loss

    curve = fit(
        model,
        loss_at,
        replace(SCHEDULE, steps=steps),
        seed=seed,
        checkpoint=out.parent / "checkpoints" / "llm",
        device=device,
        describe="LLM",
    )
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return curve


def context(scene: scenes.Scene, rng: np.random.Generator) -> str:
    """A scene in words, which stands in the place of the brain tokens."""
    return in_words(scenes.captions(scene), scenes.scene_objects(scene), rng)


def scene_dialogues(scene: scenes.Scene, seed: int, index: int) -> list[Dialogue]:
    """All dialogues of a scene, drawn with a seed of its own."""
    return dialogues(
        scenes.captions(scene), scenes.scene_objects(scene), np.random.default_rng([seed, index])
    )
