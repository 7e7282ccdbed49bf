"""Language training at any size: float32 weights under autocast, layers computed twice, adapters."""

import json
import sys
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
from neurovl.language.adapters import add_adapters, has_adapters, merge_adapters
from neurovl.language.dialogues import prompt_ids
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
        trials = lessons.epoch(np.arange(8), "trials")
        fit(model, lessons.loss_at(trials, 8, 2), schedule, seed=2, device="cpu")
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
    ids = torch.tensor([prompt_ids(plain.tokenizer, [], "What?", brains(3).shape[1])] * 3)
    with torch.no_grad():
        told = plain.llm.generate(inputs_embeds=plain.embed(ids, brains(3)), max_new_tokens=12)
    said = [text.strip() for text in plain.tokenizer.batch_decode(told, skip_special_tokens=True)]
    assert said != expected  # so the penalty would tell
    model = BrainLLM(plain.llm, plain.tokenizer, plain.projector).eval()
    model.save_pretrained(tmp_path)
    for one in (model, BrainLLM.from_pretrained(tmp_path, device="cpu")):
        assert one.end_ids == ends
        assert one.generate(*asked, max_new_tokens=12) == expected


ADAPTERS = Lora(rank=4, alpha=8.0, dropout=0.1, lr=1e-2)


def adapt(model, steps, batch_size=8, talks=TALK, **more):
    """Train with adapters; the curve."""
    wanted = replace(settings(steps, batch_size), method="lora")
    return fit_language(
        model, brains(8), range(8), talks, wanted, lora=ADAPTERS, device="cpu", **more
    )


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


def test_adapters_are_float32_beside_a_base_that_stays(peft):
    model = make_model()
    model.llm.to(torch.bfloat16)
    before = {name: w.clone() for name, w in model.llm.named_parameters()}
    curve = adapt(model, 60)
    second = losses(p for p in curve if p["stage"] == 2)
    assert second[-1] < second[0] - 0.2
    assert max(p["lr"] for p in curve if p["stage"] == 2) == ADAPTERS.lr
    assert max(p["lr"] for p in curve if p["stage"] == 1) == 1e-3
    grads = {n: p for n, p in model.llm.named_parameters() if p.requires_grad}
    assert len(grads) == 2 * 7 * 2 and all("lora_" in n for n in grads)  # 7 matrices a layer
    assert {p.dtype for p in grads.values()} == {torch.float32}
    now = {n.replace(".base_layer", ""): p for n, p in model.llm.named_parameters()}
    assert all(torch.equal(now[name], w) for name, w in before.items())
    # A second call goes on with the same ones.
    adapt(model, 1)
    again = {n for n, p in model.llm.named_parameters() if p.requires_grad}
    assert again == set(grads)


def test_merged_adapters_are_the_weights_by_hand(peft, tmp_path):
    model = make_model()
    first = {name: w.clone() for name, w in model.llm.state_dict().items()}
    adapt(model, 10)
    asked = (brains(8), ["What is in the picture?"] * 8)
    expected, loss = model.generate(*asked), float(model.loss(brains(8), DIALOGUES))
    learned = {n: p.detach().clone() for n, p in model.llm.named_parameters() if "lora_" in n}
    assert has_adapters(model.llm)
    merge_adapters(model.llm)
    assert not has_adapters(model.llm)
    now = model.llm.state_dict()
    assert set(now) == set(first)
    for name in now:
        stem = name.removesuffix(".weight")
        a, b = (learned.get(f"{stem}.lora_{k}.default.weight") for k in "AB")
        delta = 0 if a is None else 8 / 4 * b @ a
        torch.testing.assert_close(now[name], first[name] + delta)
    changed = {n for n in now if not torch.equal(now[n], first[n])}
    assert len(changed) == 14
    model.save_pretrained(tmp_path)
    read = BrainLLM.from_pretrained(tmp_path, device="cpu")
    assert read.generate(*asked) == expected
    assert float(read.loss(brains(8), DIALOGUES)) == pytest.approx(loss, rel=1e-5)


def test_merging_into_bf16_would_lose_small_adapters(peft):
    """Why weights are turned to float32 first."""
    lost = []
    for dtype in (torch.bfloat16, torch.float32):
        model = make_model()
        model.llm.to(torch.bfloat16)
        add_adapters(model.llm, ADAPTERS)
        with torch.no_grad():
            for name, p in model.llm.named_parameters():
                if "lora_B" in name:
                    p.fill_(1e-5)
        model.llm.to(dtype)
        before = model.llm.model.layers[0].mlp.up_proj.weight.clone()
        merge_adapters(model.llm)
        lost.append(float((model.llm.model.layers[0].mlp.up_proj.weight == before).float().mean()))
    assert lost[0] > 0.5 and lost[1] < 0.05


def test_an_interrupted_training_of_adapters_ends_as_an_undisturbed_one(
    peft, tmp_path, monkeypatch
):
    monkeypatch.setattr(TrainingState, "may_save", lambda self: True)
    monkeypatch.setattr("neurovl.language.train.Schedule", partial(Schedule, checkpoint_every=3))
    train = partial(adapt, steps=8, batch_size=4, talks=UNEVEN)

    whole = make_model()
    curve = train(whole)
    broken, steps = make_model(), []

    def count(module, inputs):
        steps.append(1)
        if len(steps) == 8 + 6:
            raise KeyboardInterrupt

    broken.register_forward_pre_hook(count)
    with pytest.raises(KeyboardInterrupt):
        train(broken, checkpoint=tmp_path)
    kept = torch.load(tmp_path / "stage2/checkpoint.pt", weights_only=True)["model"]
    assert len(kept) == 4 + 28 and all("lora_" in n or n.startswith("projector") for n in kept)
    resumed, again = make_model(), []
    resumed.register_forward_pre_hook(lambda *_: again.append(1))
    assert train(resumed, checkpoint=tmp_path) == curve and len(again) == 5
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_new_word_of_the_vocabulary_goes_with_adapters(peft, tmp_path):
    model = make_model(template=None)  # its tokenizer lacks <image>
    adapt(model, 10)
    expected = model.generate(brains(2), ["What?"] * 2, max_new_tokens=8)
    merge_adapters(model.llm)
    model.save_pretrained(tmp_path)
    read = BrainLLM.from_pretrained(tmp_path, device="cpu")
    assert read.image_id == model.image_id == len(read.tokenizer) - 1
    assert read.generate(brains(2), ["What?"] * 2, max_new_tokens=8) == expected


def test_adapters_alone_are_saved_beside_the_name_of_their_base(peft, tmp_path, monkeypatch):
    """As over a base in 4 bits, here in float32."""
    asked = []

    def options(weights, *others):
        asked.append(weights)
        return {"dtype": torch.float32}

    monkeypatch.setattr("neurovl.foundation.llm._options", options)
    base = tmp_path / "base"
    make_model().llm.save_pretrained(base)
    make_model().tokenizer.save_pretrained(base)
    llm, tokenizer = load_llm(str(base), "cpu", "float32")
    model = BrainLLM(llm, tokenizer, Projector(D, 32))
    adapt(model, 10)
    model.llm.is_loaded_in_4bit = True
    merge_adapters(model.llm)
    model.save_pretrained(tmp_path / "out")
    files = {p.name for p in (tmp_path / "out/llm").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    assert "model.safetensors" not in files
    config = json.loads((tmp_path / "out/llm/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    read = BrainLLM.from_pretrained(tmp_path / "out", device="cpu")
    assert asked == ["float32", "4bit"]
    with torch.no_grad():
        torch.testing.assert_close(
            read.loss(brains(8), DIALOGUES), model.loss(brains(8), DIALOGUES)
        )


def test_what_is_missing_or_unknown_is_one_sentence(monkeypatch):
    with pytest.raises(ConfigError, match="language.method is 'lorra', expected one of full, lora"):
        Language(method="lorra")
    with pytest.raises(ConfigError, match="lora.base is '8bit', expected one of bf16, float32"):
        Lora(base="8bit")
    with pytest.raises(ConfigError, match="lora.rank is 0"):
        Lora(rank=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="4 bits, which needs the package bitsandbytes"):
        load_llm("tiny", "cpu", "4bit")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingError, match=r"pip install 'neurovl\[lora\]'"):
        add_adapters(make_model().llm, ADAPTERS)


def test_targets_that_are_not_there_are_refused(peft):
    with pytest.raises(ConfigError, match=r"lora.targets \['nowhere'\].*LlamaForCausalLM"):
        add_adapters(make_model().llm, Lora(targets=("nowhere",)))
    model = make_model()
    add_adapters(model.llm, Lora(rank=2, targets=("q_proj",)))
    assert (
        len([n for n, p in model.llm.named_parameters() if p.requires_grad and "q_proj" in n]) == 4
    )
