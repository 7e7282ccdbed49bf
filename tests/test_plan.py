"""The plan: operations counted again on the real classes, hours by arithmetic, and what fits which card."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from neurovl.doctor import needs, operations, plan
from neurovl.doctor.operations import Work
from neurovl.doctor.sizes import sizes_for
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError
from neurovl.foundation.skeleton import count, llm_skeleton
from neurovl.language.answer_batches import TEXT
from neurovl.settings.profile_files import load_profile

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"


def counted(function, *args, **kwargs):
    with FlopCounterMode(display=False) as counter:
        function(*args, **kwargs)
    return counter.get_total_flops()


@pytest.mark.parametrize("layers", [2, 16])
def test_an_encoder_computes_what_the_formula_says(layers):
    shape = replace(load_profile("paper").encoder, layers=layers)
    with torch.device("meta"):
        encoder = BrainEncoder(57, 2744, 768, (4, 64, 64), **shape.network())
        volumes = torch.empty(3, 57, 2744)
    expected = operations.encoder_operations(shape, 57, 2744, 768, 4 * 64 * 64)
    # The last layer computes its class token alone.
    assert expected * (1 - 1.1 / layers) < counted(encoder, volumes) / 3 <= expected


@pytest.mark.parametrize("spec", ["tiny", LLAMA, "lmsys/vicuna-13b-v1.5"])
def test_a_language_model_computes_what_the_formula_says(spec):
    llm, _ = llm_skeleton(spec)
    ids = torch.zeros(2, 178, dtype=torch.long, device="meta")
    with torch.no_grad():
        made = counted(llm, ids) / 2
    assert operations.llm_operations(llm.config.to_dict(), count(llm), 178) == pytest.approx(
        made, rel=0.02
    )


def test_weights_that_stay_cost_two_passes_and_those_that_learn_three():
    llm, _ = llm_skeleton("tiny")
    embeds = torch.empty(2, 60, llm.config.hidden_size, device="meta", requires_grad=True)

    def learn():
        llm(inputs_embeds=embeds).logits.sum().backward()

    with torch.no_grad():
        forward = counted(llm, inputs_embeds=embeds)
    llm.requires_grad_(False)
    assert counted(learn) == pytest.approx(2 * forward, rel=0.05)
    llm.requires_grad_(True)
    assert counted(learn) == pytest.approx(3 * forward, rel=0.05)


def test_hours_follow_from_rates():
    card = plan.Device("card", 80e9, peak=1e12, bandwidth=1e9)
    eight = replace(card, count=8)
    alone = Work("reconstruct", operations=plan.SHARE * 1e12 * 3600)
    assert plan.hours(alone, card, 2) == pytest.approx(1) == plan.hours(alone, eight, 2)
    assert plan.hours(replace(alone, shared=True), eight, 2) == pytest.approx(1 / 8)
    assert plan.hours(Work("answers", read=plan.READING * 1e9 * 7200), card, 2) == pytest.approx(2)
    assert plan.hours(Work("preprocess", volumes=plan.VOLUMES * 3600), card, 4) == 0.25


def works(name, **changes):
    profile = replace(load_profile(name), **changes)
    return {one.stage: one for one in operations.work(profile, sizes_for(profile))}


def test_the_paper_s_work_is_what_its_settings_multiply_to():
    paper = load_profile("paper")
    sizes, own = sizes_for(paper), works("paper")
    main = operations.encoder_operations(paper.encoder, sizes.tokens, 2744, 768, 16384)
    # Main, two more patch sizes, flat, without VAE (a little less), and twice one encoder for each subject's own trials.
    assert own["train encoder"].operations == pytest.approx(
        3 * 30 * sizes.train * 7 * main, rel=0.02
    )
    length = sizes.tokens + 1 + TEXT
    row = 2 * 8.03e9 * length
    assert own["train llm 1"].operations == pytest.approx(2 * 3100 * 32 * row, rel=0.1)
    assert own["train llm 2"].operations == pytest.approx(3 * 4200 * 24 * row, rel=0.1)
    assert own["train llm 2, flat"].operations == own["train llm 2"].operations
    larger = own["train llm 2, vicuna-13b"].operations / own["train llm 2"].operations
    assert larger == pytest.approx(13.0 / 8.03, rel=0.1)
    # Others are asked once, the main one also from single trials, shuffled and absent brains.
    asked = own["answers, flat"].operations * operations.SYSTEMS
    assert own["answers"].operations == pytest.approx(asked)
    lora = works("paper-24gb")  # frozen weights, but layers computed twice
    assert lora["train llm 2"].operations == pytest.approx(own["train llm 2"].operations)
    few = works("paper", reconstruction=replace(paper.reconstruction, steps=10, guidance=1.0))
    assert own["reconstruct"].operations / few["reconstruct"].operations == pytest.approx(
        4, rel=0.2
    )


def test_an_epoch_is_of_trials_or_of_pairs():
    paper = load_profile("paper")
    assert paper.language.steps is None and paper.language.epoch == "trials"
    own = works("paper")
    pairs = works("paper", language=replace(paper.language, epoch="pairs"))
    given = works("paper", language=replace(paper.language, epoch="pairs", steps=(3122, 4163)))
    for stage in ("train llm 1", "train llm 2", "train llm 2, flat"):
        nine = operations.DIALOGUES_TAUGHT * own[stage].operations
        assert pairs[stage].operations == pytest.approx(nine, rel=1e-3)
        assert given[stage].operations == pytest.approx(own[stage].operations, rel=1e-3)
    lines = "\n".join(plan.plan(paper))
    assert "of trials" in lines and "; of pairs" in lines and "This profile: trials." in lines
    assert "of pairs" not in "\n".join(plan.plan(load_profile("smoke")))


def fitting(name, card):
    profile = load_profile(name)
    rows = needs.needs(profile, sizes_for(profile), card.half, 2)
    return {one.stage for one in rows if one.device <= card.memory}


def test_the_profile_for_24_gb_fits_where_the_paper_s_does_not():
    small = load_profile("paper-24gb")
    every = {one.stage for one in needs.needs(small, sizes_for(small), True, 2)}
    assert fitting("paper-24gb", plan.RTX_4090) == every
    full = {f"train llm 2{of}" for of in ("", ", flat", ", vicuna-13b")}
    vicuna = {"train llm 1, vicuna-13b", "answers, vicuna-13b"}
    of_paper = {one.stage for one in needs.needs(*_paper(), True, 2)}
    assert of_paper - every == vicuna | {"train llm 2, vicuna-13b"}
    assert of_paper - fitting("paper", plan.H100) == full
    assert of_paper - fitting("paper", plan.RTX_4090) == full | vicuna | {
        "train llm 1",
        "train llm 1, flat",
    }


def test_eight_cards_hold_what_one_does_not():
    rows = {
        n: {one.stage: one for one in needs.needs(*_paper(), True, 2, processes=n)} for n in (1, 8)
    }
    for stage, n in (("train llm 2", 8.03e9), ("train llm 2, vicuna-13b", 13.02e9)):
        assert rows[1][stage].device > 18 * n
        # Once all weights in float32 and an eighth again; or an eighth of 16 bytes and what is whole for a moment.
        assert max(4.5, 2) * n <= rows[8][stage].device < plan.H100.memory
        assert "divided among 8" in rows[8][stage].how
    # The frozen weights of stage 1 stay whole on each, its batch is divided.
    assert 16.06e9 < rows[8]["train llm 1"].device < rows[1]["train llm 1"].device
    assert rows[8]["answers"] == rows[1]["answers"]


def _paper():
    profile = load_profile("paper")
    return profile, sizes_for(profile)


def test_the_plan_names_every_stage_and_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(plan, "_seconds", lambda function, device: 0.01)
    lines = plan.plan(load_profile("paper"))
    stages = [one.stage for one in needs.needs(*_paper(), True, 2)]
    assert [line.split("  ")[0] for line in lines[2 : 2 + len(stages)]] == stages
    full = next(line for line in lines if line.startswith("train llm 2"))
    assert full.count("too much") == 3  # eight cards divide it
    every = "train llm 2; train llm 2, flat; train llm 2, vicuna-13b"
    assert any(
        line.startswith(f"1 x H100 80 GB: {every}. ") and "paper-24gb" in line for line in lines
    )
    # No stage of a run is too much for eight, but the comparison's captioner is trained on one.
    assert [line[:21] for line in lines if line.startswith("8 x H100")] == ["8 x H100 80 GB: compa"]
    assert "Assumed: 35%" in "\n".join(lines)
    small = plan.plan(load_profile("smoke"))
    assert not any("too much" in line.lower() for line in small)


def test_the_verb_prints_the_plan():
    from neurovl.cli import app

    done = CliRunner().invoke(app, ["doctor", "--profile", "smoke", "--plan"])
    assert done.exit_code == 0 and "8 x H100 80 GB" in done.output and "measured now" in done.output


def test_a_profile_rests_on_its_base_setting_by_setting(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: demo\nseed: 5\nlanguage: {method: lora}\nsimulation: null\n")
    demo, own = load_profile("demo"), load_profile(str(mine))
    assert demo.simulation is not None and own.simulation is None
    expected = {**demo.to_dict(), "name": "mine", "seed": 5, "simulation": None}
    expected["language"] = {**demo.to_dict()["language"], "method": "lora"}
    assert own.to_dict() == expected
    further = tmp_path / "further.yaml"
    further.write_text(f"base: {mine}\nseed: 6\n")
    assert load_profile(str(further)) == replace(own, name="further", seed=6)


@pytest.mark.parametrize(
    "base, words", [("mine.yaml", "rests on itself"), ("demos", "no profile 'demos'")]
)
def test_a_base_that_cannot_be_is_named(tmp_path, monkeypatch, base, words):
    (tmp_path / "mine.yaml").write_text(f"base: {base}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        load_profile("mine.yaml")
