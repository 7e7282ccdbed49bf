"""The paper's rows: each once, filled or with a reason; its numbers beside ours only where they can be compared."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from neurovl import figures
from neurovl.evaluation.beside_paper import Basis, differences, with_paper
from neurovl.evaluation.scoring import adapted
from neurovl.figures.paper_tables import PAPER_ROWS, SCORES
from neurovl.results import Row, paper_results, read_results, unadapted, write_results
from neurovl.settings.profile_files import load_profile

OTHERS = {
    *("sdrecon", "onellm", "unibrain", "braincap", "umbrae", "mind-reader", "takagi", "gu"),
    *("brain-diffuser", "mindeye", "dream", "mindbridge"),
}  # systems of other groups


@pytest.fixture(scope="module")
def basis():
    """What a run with the profile `paper` on NSD rests on."""
    paper = load_profile("paper")
    four = ("subj01", "subj02", "subj05", "subj07")
    return Basis("nsd", "shared982", four, 982, paper.models, paper.encoder)


def row(task: str = "caption", metric: str = "bleu4", **changes) -> Row:
    about = {"data": "nsd", "system": "neurovl", "protocol": "average", "subject": "all"}
    return Row(**about | {"task": task, "metric": metric, "value": 0.2, "n": 982} | changes)


def table(folder, *rows: Row) -> pd.DataFrame:
    return read_results(write_results(rows, folder / "results.csv"))


# the column `paper`


@pytest.mark.parametrize(
    ("task", "metric", "number"),
    [
        ("caption", "bleu4", 0.1585),
        ("caption", "clip_s", 0.6549),
        ("reconstruction", "pixcorr", 0.265),
        ("reconstruction", "two_way_alexnet5", 0.971),
    ],
)
def test_the_papers_number_stands_beside_the_papers_experiment(basis, task, metric, number):
    made = with_paper(row(task, metric), basis)
    assert made.paper == pytest.approx(number) and made.note == ""


@pytest.mark.parametrize("task", ["description", "reasoning"])
def test_truths_written_by_rule_are_not_the_papers(basis, task):
    made = with_paper(row(task, note="split shared982"), basis)
    assert made.paper is None
    assert made.note.startswith("split shared982; not comparable with the paper's: ")
    assert "GPT-3.5" in made.note


TINY = load_profile("demo")


@pytest.mark.parametrize(
    ("changed", "metric", "words"),
    [
        ({"data": "simulated-nsd"}, "bleu4", "the data are simulated-nsd"),
        ({"split": "shared1000"}, "bleu4", "split shared1000"),
        ({"subjects": ("subj01",)}, "bleu4", "of subj01, the paper's shared982"),
        ({"pictures": 1000}, "bleu4", "982 of 1000 test pictures"),
        ({"models": TINY.models}, "bleu4", "networks than the paper's: clip, unclip, llm"),
        ({"encoder": TINY.encoder}, "bleu4", "networks than the paper's: encoder"),
    ],
)
def test_each_difference_empties_the_column_and_is_named(basis, changed, metric, words):
    made = with_paper(row(metric=metric), replace(basis, **changed))
    assert made.paper is None and words in made.note


def test_one_other_network_is_enough(basis):
    own = replace(basis, models=replace(basis.models, llm="somewhere/SmolLM2"))
    assert differences(row(), own) == ["other networks than the paper's: llm"]
    own = replace(basis, models=replace(basis.models, metric="/data/weights"))
    assert differences(row(), own) == []  # words need no metric network
    for task, metric in (("caption", "clip_s"), ("reconstruction", "distance_swav")):
        assert differences(row(task, metric), own) == ["other networks than the paper's: metric"]


def test_a_second_set_of_references_is_the_paper_s_captioner_alone(basis):
    blip = row("caption-blip2", "bleu4")
    assert with_paper(blip, basis).paper == pytest.approx(0.3217)
    for captioner in (None, "somewhere/else"):
        own = replace(basis, models=replace(basis.models, captioner=captioner))
        assert differences(blip, own) == ["other networks than the paper's: captioner"]
        assert differences(row(), own) == []


def test_another_language_model_is_compared_with_itself(basis):
    for system, number in (("vicuna-13b", 0.257), ("vicuna-13b-brief", 0.259)):
        one = row("reconstruction", "pixcorr", system=system)
        assert with_paper(one, basis).paper == pytest.approx(number)
        for llms in ({"vicuna-13b": "lmsys/vicuna-7b-v1.5"}, {"vicuna-13b": "tiny"}):
            own = replace(basis, models=replace(basis.models, llms=llms))
            made = with_paper(one, own)
            assert made.paper is None and "llms/vicuna-13b" in made.note
    assert with_paper(row("reconstruction", "pixcorr", system="brief-prompt"), basis).paper == 0.261


@pytest.mark.parametrize(
    "changed", [{"subject": "subj01"}, {"condition": "beta=0.9"}, {"system": "ridge"}]
)
def test_rows_that_the_paper_has_not_are_left_alone(basis, changed):
    other = row(**changed)
    assert with_paper(other, basis) == other
    assert with_paper(other, replace(basis, data="mine")) == other


# the tables


@pytest.mark.parametrize("place", ["Table 1", "Table 2", "Table 7"])
def test_every_row_of_the_papers_systems_is_there_once(place):
    printed = paper_results()
    printed = printed[printed.source.str.contains(place) & ~printed.system.isin(OTHERS)]
    expected = set(printed[["system", "task", "protocol"]].itertuples(index=False, name=None))
    ours = Counter((r.system, r.task, r.protocol) for r in PAPER_ROWS if r.place == place)
    assert set(ours) == expected and set(ours.values()) == {1}
    assert len(expected) == {"Table 1": 8, "Table 2": 6, "Table 7": 5}[place]
    assert set(printed.metric) == set(SCORES[place])


def test_the_rows_of_figures_are_those_described():
    counts = Counter(r.place for r in PAPER_ROWS)
    assert [counts[f"Figure {k}"] for k in (5, 6, 8)] == [2, 5 * 2, 1]
    assert len(set(PAPER_ROWS)) == len(PAPER_ROWS)
    assert {r.place for r in PAPER_ROWS} == set(SCORES)


@pytest.mark.parametrize("place", SCORES)
def test_without_a_run_every_row_has_a_reason(place, tmp_path):
    made = figures.paper_table(table(tmp_path, row(subject="subj01")), place, simulated=True)
    own = made[made.numbers == "this run (simulated)"]
    assert len(own) == sum(r.place == place for r in PAPER_ROWS)
    assert own.note.str.len().gt(15).all() and own.row.is_unique
    values = made[list(SCORES[place].values())]
    assert set(map(str, values.dtypes)) == {"float64"} and values.loc[own.index].isna().all(
        axis=None
    )


def test_numbers_come_from_the_tables_alone(tmp_path):
    rows = [
        row("reconstruction", "pixcorr", system="no-llm", value=0.123, note="not comparable: x"),
        row("reconstruction", "ssim", system="no-llm", value=None, n=None, note="no jar"),
        row("reconstruction", "pixcorr", system="no-llm", value=0.9, subject="subj01"),
        row("reconstruction", "pixcorr", system="no-llm", value=0.8, condition="beta=0.9"),
        row("reconstruction", "pixcorr", system="no-llm", value=0.7, protocol="single"),
    ]
    made = figures.paper_table(table(tmp_path, *rows), "Table 2", simulated=False)
    paper, own = made[made.row == "w/o LLM"].to_dict("records")
    assert (paper["numbers"], own["numbers"]) == ("paper (NSD)", "this run (measured)")
    assert (paper["PixCorr"], paper["SSIM"], paper["CLIP"]) == (0.263, 0.369, 0.961)
    assert own["PixCorr"] == 0.123 and pd.isna(own["SSIM"]) and pd.isna(own["CLIP"])
    assert "PixCorr: not comparable: x" in own["note"] and "SSIM: no jar" in own["note"]
    assert "CLIP, EffNet-B, SwAV: not scored" in own["note"]


def test_noise_strengths_have_lines_of_their_own(tmp_path):
    rows = [
        row("reconstruction", "ssim", value=value, condition=f"beta={beta}")
        for beta, value in (("0.3", 0.1), ("0.9", 0.2))
    ]
    results = table(tmp_path, *rows)
    five = figures.paper_table(results, "Figure 5", simulated=True)
    assert five.row.tolist() == ["with LLM, β = 0.3", "with LLM, β = 0.9", "without LLM"]
    assert five.SSIM.tolist()[:2] == [0.1, 0.2] and "names none" in five.note[2]
    six = figures.paper_table(results, "Figure 6", simulated=True).set_index("row")
    assert six.SSIM["β = 0.9, with LLM"] == 0.2
    assert six.SSIM.notna().sum() == 1
    assert "not among reconstruction.betas" in six.note["β = 0.6, with LLM"]


# a language model that was trained with adapters


@pytest.mark.parametrize(
    ("about", "labelled"),
    [
        ({"task": "caption"}, "method=lora"),
        ({"task": "dialogue", "metric": "accuracy", "system": "no-brain"}, "method=lora"),
        ({"task": "localization", "metric": "accuracy_concept_word"}, "method=lora"),
        ({"task": "localization", "metric": "drop", "condition": "zeroed=x"}, "zeroed=x"),
        ({"task": "reconstruction", "metric": "ssim"}, "method=lora"),
        (
            {"task": "reconstruction", "metric": "ssim", "condition": "beta=0.9"},
            "beta=0.9 method=lora",
        ),
        ({"task": "reconstruction", "metric": "ssim", "system": "no-llm"}, ""),
        ({"task": "alignment", "metric": "two_way_clip"}, ""),
    ],
)
def test_what_rests_on_adapters_says_so(about, labelled):
    made = adapted(row(**about))
    assert made.condition == labelled
    assert unadapted(made.condition) == about.get("condition", "")


def test_the_papers_number_does_not_stand_beside_adapters(basis):
    made = with_paper(adapted(row()), basis)
    assert made.paper is None and "trained with adapters, the paper's with all" in made.note
    encoders = row("reconstruction", "pixcorr", system="no-llm")
    assert with_paper(adapted(encoders), basis).paper is not None


def test_the_tables_say_lora_and_find_every_noise_strength(tmp_path):
    rows = [
        adapted(row("reconstruction", "ssim", value=value, condition=varied))
        for varied, value in (("", 0.3), ("beta=0.3", 0.1), ("beta=0.9", 0.2))
    ]
    results = table(tmp_path, *rows)
    two = figures.paper_table(results, "Table 2", simulated=True)
    own = two[two.numbers == "this run (simulated)"].set_index("row").SSIM
    assert own["Ours, LoRA"] == 0.3 and own.notna().sum() == 1
    five = figures.paper_table(results, "Figure 5", simulated=True)
    assert five.row.tolist()[:2] == ["with LLM, β = 0.3, LoRA", "with LLM, β = 0.9, LoRA"]
    assert five.SSIM.tolist()[:2] == [0.1, 0.2]
    assert figures.beta_rows(results).beta.tolist() == [0.3, 0.9]
