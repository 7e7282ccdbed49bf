"""The paper's experiment with nothing changed but sizes: models in the hub's formats, and every row of the paper's tables."""

import json

import pytest
import yaml
from safetensors import safe_open

from neurovl import figures, pipeline
from neurovl.baselines import registry
from neurovl.evaluation.beside_paper import Basis, with_paper
from neurovl.family.rehearsal_models import NOTE, make_rehearsal_models
from neurovl.figures.paper_tables import SCORES
from neurovl.foundation.llm import load_llm
from neurovl.foundation.model_facts import RANDOM, lacking, parameters, with_random_weights
from neurovl.foundation.unclip import load_unclip
from neurovl.language import BrainLLM, Projector
from neurovl.metrics.captions import find_java
from neurovl.results import Row
from neurovl.settings.profile_files import load_profile


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_rehearsal_models(tmp_path_factory.mktemp("models"))


def flat(settings: dict, above: str = "") -> dict:
    """Settings by their whole names."""
    found = {}
    for key, value in settings.items():
        found |= (
            flat(value, f"{key}.") if isinstance(value, dict) and value else {above + key: value}
        )
    return found


def test_nothing_but_sizes_and_models_differs_from_the_paper_s_profile():
    paper, rehearsal = (load_profile(name).to_dict() for name in ("paper", "rehearsal"))
    world = rehearsal.pop("simulation")
    assert paper.pop("simulation") is None and world["scale"] == 1.0
    assert world["subjects"] == paper["preprocessing"]["subjects"]
    assert set(paper["models"].pop("llms")) == set(rehearsal["models"].pop("llms"))
    assert {k for k, v in paper["models"].items() if v} == {
        k for k, v in rehearsal["models"].items() if v
    }
    assert paper["leaderboard"].pop("settings") == {}  # every system as published
    for system, smaller in rehearsal["leaderboard"].pop("settings").items():
        published = registry.find(system).defaults
        assert all(published[name] > value for name, value in smaller.items()), system
    assert rehearsal["leaderboard"]["systems"] == ["all"]
    del paper["models"], rehearsal["models"], paper["name"], rehearsal["name"]
    a, b = flat(paper), flat(rehearsal)
    assert a.keys() == b.keys()
    changed = {key.rpartition(".")[2] for key in a if a[key] != b[key]}
    sizes = {
        "together",
        "width",
        "layers",
        "heads",
        "head_hidden",
        "epochs",
        "steps",
        "batch_size",
        "images",
    }
    sizes |= {"systems", "captioner_steps", "captioner_batch_size"}
    sizes |= {"max_new_tokens", "ablation_images", "ablation_subjects", "max_concepts"}
    assert changed == sizes | {"caption_images", "bootstrap", "permutations"}


def test_the_models_lie_as_the_hub_has_them_and_say_that_they_mean_nothing(models):
    for folder in models.iterdir():
        assert (folder / RANDOM).read_text() == NOTE
    with safe_open(models / "unclip" / "vae" / "diffusion_pytorch_model.safetensors", "pt") as file:
        names = set(file.keys())
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in names  # as in 2023
    assert not any("to_q" in name for name in names)
    words = {path.name for path in (models / "unclip" / "tokenizer").iterdir()}
    assert words == {"vocab.json", "merges.txt", "tokenizer_config.json"}
    for name, pattern in (("llm", "model-*.safetensors"), ("vicuna-13b", "pytorch_model-*.bin")):
        assert len(list((models / name).glob(pattern))) > 1
        assert lacking(str(models / name), "llm") == [] and parameters(str(models / name), "llm")
    generation = json.loads((models / "llm" / "generation_config.json").read_text())
    assert generation["do_sample"] and len(generation["eos_token_id"]) == 2
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    make_rehearsal_models(models)
    assert before == {path: path.stat().st_mtime_ns for path in models.rglob("*")}


def test_old_names_of_attention_are_read_as_the_new_ones(models):
    vae = load_unclip(str(models / "unclip"), "cpu").vae.state_dict()
    with safe_open(models / "unclip" / "vae" / "diffusion_pytorch_model.safetensors", "pt") as file:
        old = file.get_tensor("encoder.mid_block.attentions.0.query.weight")
    new = vae["encoder.mid_block.attentions.0.to_q.weight"]
    assert new.shape == old.shape and new.eq(old).all()


@pytest.mark.parametrize("name", ["llm", "vicuna-13b"])
def test_language_models_of_either_kind_take_brains(models, name):
    llm, tokenizer = load_llm(str(models / name), "cpu")
    model = BrainLLM(llm, tokenizer, Projector(32, llm.config.hidden_size))
    assert ("<|eot_id|>" in tokenizer.get_vocab()) == (name == "llm")
    assert tokenizer.chat_template and len(model.end_ids) == {"llm": 2, "vicuna-13b": 1}[name]
    assert not llm.generation_config.do_sample


SHORT = """
base: rehearsal
compute: {device: cpu, processes: 2}
preprocessing: {subjects: [1], patches: [5, 4], target: null}
adaptation: {subject: null}
"""


@pytest.mark.slow
def test_a_short_rehearsal_fills_every_row_of_the_paper_s_tables(tiny_nsd, models, tmp_path):
    find_java()
    own = load_profile("rehearsal").to_dict()["models"]
    here = {
        k: v.replace("runs/rehearsal-models", str(models))
        for k, v in own.items()
        if isinstance(v, str)
    }
    here["llms"] = {"vicuna-13b": str(models / "vicuna-13b")}
    (tmp_path / "short.yaml").write_text(SHORT + yaml.safe_dump({"models": here}))
    run = pipeline.reproduce(tiny_nsd, tmp_path / "run", str(tmp_path / "short.yaml"))
    results = run.tables.results
    marked = {"clip", "unclip", "llm", "metric", "captioner", "detector", "llms/vicuna-13b"}
    assert set(run.tables.about["random_weights"]) == marked
    assert with_random_weights(load_profile("smoke").models) == []
    assert results.paper.isna().all()  # simulated data, other networks
    empty = {}
    for place in SCORES:
        table = figures.paper_table(results, place, simulated=True)
        lines = table[table.numbers == "this run (simulated)"]
        for line in lines.to_dict("records"):
            for score in SCORES[place].values():
                if line[score] != line[score]:
                    empty.setdefault((place, score), []).append(line["note"])
    # No jars for SPICE; and CLIP-S compares with no captions.
    spice = {score for (place, score), _ in empty.items()}
    assert spice <= {"SPICE", "CLIP-S"}, empty
    for (place, score), notes in empty.items():
        assert place == "Table 1"
        words = "jar" if score == "SPICE" else "CLIP-S compares captions with the picture"
        assert all(words in note for note in notes)
    assert len(empty.get(("Table 1", "CLIP-S"), [])) == 2
    row = Row("nsd", "vicuna-13b", "reconstruction", "average", "all", "pixcorr", 0.2, n=982)
    assert with_paper(row, Basis.of(run)).paper is None
