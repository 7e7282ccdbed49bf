"""Language training at any size: float32 weights under autocast, layers computed twice, adapters."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_language import DIALOGUES, TALK, UNEVEN, D, brains, losses, make_model, settings
from transformers import GenerationConfig

from neurovl.errors import ConfigError, MissingError
from neurovl.foundation.llm import load_llm
from neurovl.language import BrainLLM, Projector, fit_language
from neurovl.language.adapters import add_adapters, has_adapters, merge_adapters, recomputed
from neurovl.language.train import Lessons
from neurovl.settings.sections import Language, Lora
from neurovl.training.loop import Schedule, fit
from neurovl.training.state import TrainingState

STEPS, RATE = 12, 2e-5  # the paper's rate


def moved(model, before):
    """The share of weights that are not bit for bit as they were, and how many of the norms have moved at all."""
    now = model.llm.state_dict()
    changed = {name: (now[name].float() != w.float()) for name, w in before.items()}
    share = sum(int(c.sum()) for c in changed.values()) / sum(c.numel() for c in changed.values())
    norms = [bool(c.any()) for name, c in changed.items() if "norm" in name]
    return share, sum(norms) / len(norms)


def trained(how):
    """Stage 2 of a model whose weights are bf16 numbers, at the paper's rate."""
    model = make_model()
    model.llm.to(torch.bfloat16)
    before = {name: w.clone() for name, w in model.llm.state_dict().items()}
    if how == "pure bf16":
        model.llm.requires_grad_(True)
        lessons = Lessons(model, brains(8), range(8), TALK)
        schedule = Schedule(STEPS, RATE, weight_decay=0.0, precision="bf16")
        fit(model, lessons.loss_at(np.arange(8), 8, 2), schedule, seed=2, device="cpu")
    else:
        wanted = settings(STEPS, lr=RATE, precision=how)
        fit_language(model, brains(8), range(8), TALK, wanted, stages=[2], device="cpu")
    return moved(model, before)


def test_full_training_moves_what_float32_moves():
    share, norms = trained("bf16")
    expected, all_norms = trained("no")
    assert share == pytest.approx(expected, abs=0.02) and norms == all_norms == 1.0
    # What it replaced: weights that are bf16 themselves lose the steps in their rounding.
    lost, no_norms = trained("pure bf16")
    assert lost < expected / 2 and no_norms == 0.0


@pytest.mark.parametrize("stage", [1, 2])
def test_layers_computed_twice_give_the_same_training(stage):
    models, curves, calls = [make_model(), make_model()], [], []
    for model, twice in zip(models, (False, True), strict=True):
        count = []
        layer = model.llm.model.layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        curve = fit_language(
            model,
            brains(8),
            range(8),
            UNEVEN,
            settings(4, 8),
            stages=[stage],
            checkpointing=twice,
            device="cpu",
        )
        curves.append(losses(curve))
        calls.append(len(count))
    assert curves[0] == curves[1] and calls[1] == 2 * calls[0]
    assert all(map(torch.equal, models[0].state_dict().values(), models[1].state_dict().values()))
    assert "forward" not in vars(models[1].llm.model.layers[0])


def test_answers_are_greedy_whatever_the_model_brings_along(tmp_path):
    plain, asked = make_model(), (brains(3), ["What?"] * 3)
    expected, ends = plain.generate(*asked, max_new_tokens=12), plain.end_ids
    # Vicuna's says a temperature without sampling, which transformers refuses to save.
    own = GenerationConfig(
        repetition_penalty=1.3,
        temperature=0.9,
        top_p=0.6,
        no_repeat_ngram_size=2,
        eos_token_id=ends,
    )
    plain.llm.generation_config = own
    assert plain.generate(*asked, max_new_tokens=12) != expected  # so the penalty would tell
    model = BrainLLM(plain.llm, plain.tokenizer, plain.projector).eval()
    model.save_pretrained(tmp_path)
    for one in (model, BrainLLM.from_pretrained(tmp_path, device="cpu")):
        assert one.end_ids == ends
        assert one.generate(*asked, max_new_tokens=12) == expected
