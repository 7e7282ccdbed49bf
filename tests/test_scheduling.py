"""Stages side by side: in the order of what they read, with the results of one after the other."""

import multiprocessing
import time
from pathlib import Path

import joblib
import pytest
import torch
import yaml

from neurovl import pipeline
from neurovl.errors import ConfigError, DataError
from neurovl.pipeline.scheduling import side_by_side
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile, profile_from_dict
from neurovl.settings.sections import Compute, Profile

NEEDS = {"encoder": ["tokens"], "llm": ["encoder"], "maps": ["encoder"], "results": ["llm", "maps"]}


def note(run: Run, name: str) -> None:
    """Write down when a stage began and ended; those that it reads must have ended."""
    for one in NEEDS.get(name, []):
        assert (run.root / one).exists(), f"{name} began before {one} had ended"
    (run.root / f"{name}.begun").touch()
    other = {"llm": "maps", "maps": "llm"}.get(name, name)
    end = time.monotonic() + 120
    while not (
        run.root / f"{other}.begun"
    ).exists():  # they wait for each other, so must run at once
        assert time.monotonic() < end, f"{other} did not begin beside {name}"
        time.sleep(0.05)
    (run.root / name).touch()


def fail(run: Run, name: str) -> None:
    if name == "llm":
        raise DataError("the llm cannot be made")
    (run.root / name).touch()


def some_run(folder: Path) -> Run:
    return Run(folder, Profile("smoke", compute=Compute(device="cpu")), folder)


def tasks(*names: str) -> list[tuple[int, str]]:
    return [(0, name) for name in names]


def test_stages_wait_for_what_they_read_and_for_nothing_else(tmp_path):
    names = ("results", "maps", "llm", "encoder")  # tokens are there already
    (tmp_path / "tokens").touch()
    needs = {(0, name): tasks(*NEEDS[name]) for name in names}
    side_by_side(some_run(tmp_path), tasks(*names), needs, note, 2)
    assert all((tmp_path / name).exists() for name in names)


def test_an_error_is_that_of_the_stage_and_ends_what_waits_for_it(tmp_path):
    (tmp_path / "tokens").touch()
    names = ("encoder", "llm", "maps", "results")
    needs = {(0, name): tasks(*NEEDS[name]) for name in names}
    with pytest.raises(DataError, match="the llm cannot be made"):
        side_by_side(some_run(tmp_path), tasks(*names), needs, fail, 2)
    assert not (tmp_path / "results").exists()


def log(run: Run, name: str) -> None:
    """Write into one file when a stage begins and ends."""
    with (run.root / "log").open("a") as file:
        file.write(f"{name} begins\n")
        file.flush()
        time.sleep(0.3)
        file.write(f"{name} ends\n")


def test_what_takes_all_places_is_done_alone_and_when_no_other_is_ready(tmp_path):
    names = ("llm", "tokens", "maps", "results")
    needs = {(0, "results"): tasks("llm", "maps")}
    side_by_side(some_run(tmp_path), tasks(*names), needs, log, 2, {(0, "llm")})
    said = (tmp_path / "log").read_text().split("\n")
    assert set(said[:4]) == {
        f"{name} {does}" for name in ("tokens", "maps") for does in ("begins", "ends")
    }
    assert said[4:8] == ["llm begins", "llm ends", "results begins", "results ends"]


SMALL = """
compute: {{device: cpu, processes: {processes}}}
preprocessing: {{patches: [5, 4]}}
encoder: {{width: 32, layers: 2, heads: 2, head_hidden: 32, readout: 8}}
alignment: {{epochs: 2, batch_size: 64, precision: "no", synthetic: 0.5, ema: 0.9, variants: [main, patches, flat]}}
"""


@pytest.mark.slow
def test_encoders_trained_side_by_side_have_the_weights_of_one_after_the_other(tiny_nsd, tmp_path):
    weights = []
    for processes in (1, 2):
        profile = tmp_path / f"{processes}.yaml"
        profile.write_text(SMALL.format(processes=processes))
        run = pipeline.start(tiny_nsd, tmp_path / f"run{processes}", load_profile(str(profile)))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            pipeline.make(run, "encoders")
        finally:
            torch.set_num_threads(threads)
        assert pipeline.up_to_date(run, "encoders") and not pipeline.up_to_date(run, "importance")
        files = sorted(run.folder.glob("encoders/*/model.safetensors"))
        assert [file.parent.name for file in files] == ["flat", "main", "p4"]
        weights.append([file.read_bytes() for file in files])
    assert weights[0] == weights[1]


def test_language_models_wait_for_their_own_encoder_and_answers_for_all(tmp_path):
    text = "{name: x, language: {variants: [main, flat, mine]}, models: {llms: {mine: tiny}}}"
    run = Run(tmp_path, profile_from_dict(yaml.safe_load(text)), tmp_path)
    assert pipeline.needs(run, "llm") == ["encoders/main"] == pipeline.needs(run, "llms/mine")
    assert pipeline.needs(run, "llms/flat") == ["encoders/flat"]
    assert set(pipeline.needs(run, "llms")) == {"encoders/main", "encoders/flat"}
    assert pipeline.needs(run, "llms/pictures") == ["tokens", "targets"]  # it reads no brain
    for stage in ("captions", "reconstructions"):
        assert {"llm", "llms/flat", "llms/mine"} <= set(pipeline.needs(run, stage))
    for name, words in (("llms/theirs", "expected one of flat, mine"), ("captions/x", "no stage")):
        with pytest.raises(ConfigError, match=words):
            pipeline.make(run, name)


def test_what_reads_a_stage_that_is_made_again_is_made_again(tiny_nsd, tmp_path):
    profile = tmp_path / "one.yaml"
    profile.write_text(SMALL.format(processes=1).replace("[main, patches, flat]", "[main]"))
    run = pipeline.start(tiny_nsd, tmp_path / "run", load_profile(str(profile)))
    pipeline.make(run, "importance")
    before = (run.folder / "importance" / "provenance.json").read_text()
    pipeline.make(run, "importance")
    assert (run.folder / "importance" / "provenance.json").read_text() == before
    (run.folder / "encoders" / "main" / "model.safetensors").unlink()
    assert not pipeline.up_to_date(run, "importance")
    pipeline.make(run, "importance")
    assert pipeline.up_to_date(run, "importance")


def read_in_processes(run: Run, name: str) -> None:
    """A stage that reads in processes of its own, and one after it in the same worker, which counts what is left of them."""
    if name == "tokens":
        joblib.Parallel(2)(joblib.delayed(abs)(k) for k in range(4))
    (run.root / name).write_text(str(len(multiprocessing.active_children())))


def test_no_process_of_a_stage_outlives_it(tmp_path):
    """A worker waits for them when it ends: one that was replaced held up all stages for five minutes."""
    names = tasks("tokens", "encoder")
    side_by_side(some_run(tmp_path), names, {names[1]: names[:1]}, read_in_processes, 1)
    assert (tmp_path / "encoder").read_text() == "0"


def find(run: Run, name: str) -> None:
    (run.root / name).write_text(run.once("found", lambda: "here"))


def test_what_was_found_once_stays_in_its_process(tmp_path):
    """A network on a GPU, or features of all pictures, would travel to every stage."""
    run = some_run(tmp_path)
    run.once("found", lambda: lambda: "what no process can be given")
    side_by_side(run, tasks("tokens"), {}, find, 1)
    assert (tmp_path / "tokens").read_text() == "here"
    assert callable(run.once("found", lambda: "here"))
