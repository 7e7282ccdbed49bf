"""Stages against a crash, a change, a kill and a second process; tables against their rules."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from neurovl import results
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.results import Claim, Row, read_texts, write_texts
from neurovl.stages import provenance_key, stage

COMMON = {
    "seed": 0,
    "profile": "smoke",
    "data": {"name": "simulated-nsd", "checksum": "abc"},
    "device": "cpu",
    "work": stage,
}


def run(folder, text="done", settings=None, inputs=None, **changed):
    """Run one stage that writes a file; return whether its body ran."""
    with stage(folder, settings or {"epochs": 3}, inputs or {}, **COMMON | changed) as s:
        if s.done:
            return False
        (s.dir / "deep").mkdir(exist_ok=True)
        (s.dir / "deep" / "model.txt").write_text(text)
    return True


def content(folder):
    return (folder / "deep" / "model.txt").read_text()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# stages


def test_a_stage_runs_once(tmp_path):
    folder = tmp_path / "run" / "tokens"
    assert run(folder)
    assert not run(folder, text="again")
    assert content(folder) == "done"
    assert names(tmp_path / "run") == ["tokens"]
    assert names(folder) == ["deep", "provenance.json"]


@dataclass
class Settings:
    epochs: int
    rate: float


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"epochs": 4}},
        {"settings": {"epochs": 3, "rate": 1.0}},
        {"inputs": {"tokens": "other"}},
        {"seed": 1},
        {"data": {"name": "simulated-nsd", "checksum": "abd"}},
    ],
)
def test_what_matters_reruns_and_replaces(tmp_path, changed):
    folder = tmp_path / "tokens"
    assert run(folder)
    (folder / "left-over").touch()
    assert run(folder, text="new", **changed)
    assert content(folder) == "new"
    assert names(tmp_path) == ["tokens"]
    assert names(folder) == ["deep", "provenance.json"]
    assert not run(folder, **changed)


def test_what_does_not_matter_skips(tmp_path):
    folder = tmp_path / "tokens"
    assert run(folder, settings={"a": (1, 2), "b": Settings(3, 0.5), "c": np.float64(2)})
    same = {"c": 2.0, "b": {"rate": 0.5, "epochs": 3}, "a": [1, 2]}
    assert not run(folder, settings=same, device="cuda", profile="demo")


def test_changed_code_reruns(tmp_path, monkeypatch):
    assert run(tmp_path / "tokens")
    monkeypatch.setattr("neurovl.stages.stage_folder.code_hash", lambda work: "other")
    assert run(tmp_path / "tokens")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_crash_leaves_the_final_name_alone(tmp_path, error):
    folder = tmp_path / "tokens"
    assert run(folder)
    before = (folder / "provenance.json").read_text()
    with pytest.raises(error), stage(folder, {"epochs": 9}, {}, **COMMON) as s:
        (s.dir / "half").write_text("half")
        raise error
    assert content(folder) == "done"
    assert (folder / "provenance.json").read_text() == before
    assert not run(folder)


def test_an_interrupted_stage_resumes_with_the_same_key_only(tmp_path):
    folder = tmp_path / "llm"

    def crash(epochs):
        with pytest.raises(KeyboardInterrupt), stage(folder, {"epochs": epochs}, {}, **COMMON) as s:
            (s.dir / "checkpoint").write_text(str(epochs))
            raise KeyboardInterrupt

    crash(3)
    assert not folder.exists()
    with stage(folder, {"epochs": 3}, {}, **COMMON) as s:
        assert s.resumed and (s.dir / "checkpoint").read_text() == "3"
    assert names(folder) == ["checkpoint", "provenance.json"]

    crash(4)
    with stage(folder, {"epochs": 5}, {}, **COMMON) as s:
        assert not s.resumed and not (s.dir / "checkpoint").exists()
    assert names(folder) == ["provenance.json"]


KILLED = """
import sys, time
from neurovl.stages import stage
with stage(sys.argv[1], {"epochs": 3}, {}, seed=0, profile="smoke",
           data={"name": "simulated-nsd", "checksum": "abc"}, device="cpu", work=stage) as s:
    (s.dir / "checkpoint").write_text("1")
    print("working", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writing(tmp_path):
    """A process in the middle of the stage `llm`."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "llm")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert child.stdout.readline() == b"working\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_killed_process_leaves_nothing_final_and_the_next_goes_on(tmp_path, writing):
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    assert not (tmp_path / "llm").exists()
    with stage(tmp_path / "llm", {"epochs": 3}, {}, **COMMON) as s:
        assert s.resumed and (s.dir / "checkpoint").read_text() == "1"


def test_a_second_process_waits_for_the_one_that_writes(tmp_path, writing, caplog):
    caplog.set_level("INFO")
    ran = []
    thread = Thread(target=lambda: ran.append(run(tmp_path / "llm")))
    thread.start()
    thread.join(1)
    assert thread.is_alive() and ran == []
    assert "waiting for another process that writes llm/" in caplog.text
    writing.send_signal(signal.SIGKILL)
    thread.join(20)
    assert ran == [True] and content(tmp_path / "llm") == "done"


def test_a_stage_that_another_process_has_ended_meanwhile_is_not_done_again(tmp_path):
    folder, ran = tmp_path / "llm", []
    with stage(folder, {"epochs": 3}, {}, **COMMON) as s:
        thread = Thread(target=lambda: ran.append(run(folder)))
        thread.start()
        thread.join(1)
        assert thread.is_alive()
        (s.dir / "deep").mkdir()
        (s.dir / "deep" / "model.txt").write_text("first")
    thread.join(20)
    assert ran == [False] and content(folder) == "first" and names(tmp_path) == ["llm"]


def test_death_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "tokens"
    assert run(folder)
    rename, calls = os.rename, []

    def die_at_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", die_at_second)
    with pytest.raises(KeyboardInterrupt):
        run(folder, text="new", settings={"epochs": 4})
    monkeypatch.undo()
    assert not folder.exists()
    assert not run(folder, settings={"epochs": 4})  # the new one was whole: it takes the name
    assert content(folder) == "new"
    assert names(tmp_path) == ["tokens"]


def test_a_damaged_stage_runs_again(tmp_path):
    folder = tmp_path / "tokens"
    assert run(folder)
    (folder / "deep" / "model.txt").unlink()
    assert run(folder)
    (folder / "deep" / "model.txt").write_text("cut")
    assert run(folder)
    (folder / "provenance.json").write_text('{"key": "' + "0" * 64)
    assert run(folder)


def test_a_folder_of_the_users_is_never_replaced(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_text("cat")
    with pytest.raises(DataError, match="photos/ holds files but no provenance.json"):
        run(folder)
    assert names(tmp_path) == ["photos"] and names(folder) == ["cat.jpg"]


def test_provenance_says_what_was_run_and_holds_no_paths(tmp_path):
    folder = tmp_path / "tokens"
    settings = {"llm": tmp_path / "models" / "llama", "size": (84, 112, 84)}
    start = time.time()
    run(folder, settings=settings, inputs={"targets": "k1"}, seed=5)
    text = (folder / "provenance.json").read_text()
    record = json.loads(text)
    assert str(tmp_path) not in text and str(Path(__file__).parents[1]) not in text
    assert record["settings"] == {"llm": "llama", "size": [84, 112, 84]}
    assert record["seed"] == 5 and record["profile"] == "smoke" and record["device"] == "cpu"
    assert record["data"] == COMMON["data"] and record["inputs"] == {"targets": "k1"}
    assert record["packages"]["numpy"] == np.__version__
    assert record["python"] == sys.version.split()[0]
    assert 0 <= record["seconds"] <= time.time() - start
    assert record["peak_memory_mb"] > 10
    assert record["files"] == {"deep/model.txt": 4}
    assert {"version", "commit", "packages", "finished"} <= set(record)
    assert not run(folder, settings=settings, inputs={"targets": "k1"}, seed=5)
    elsewhere = settings | {"llm": tmp_path / "other" / "llama"}
    assert run(folder, settings=elsewhere, inputs={"targets": "k1"}, seed=5)


def test_keys_chain_stages(tmp_path):
    run(tmp_path / "tokens")
    key = provenance_key(tmp_path / "tokens")
    assert run(tmp_path / "encoder", inputs={"tokens": key})
    run(tmp_path / "tokens", settings={"epochs": 4})
    assert provenance_key(tmp_path / "tokens") != key
    assert run(tmp_path / "encoder", inputs={"tokens": provenance_key(tmp_path / "tokens")})
    with pytest.raises(MissingError, match="llm/ holds no provenance.json"):
        provenance_key(tmp_path / "llm")


def test_settings_must_be_plain(tmp_path):
    with pytest.raises(ConfigError, match="a stage setting is a object"):
        run(tmp_path / "tokens", settings={"model": object()})
    assert names(tmp_path) == []


# tables

ROW = Row(
    data="simulated-nsd",
    system="neurovl",
    task="reconstruction",
    protocol="average",
    subject="subj01",
    metric="pixcorr",
    value=0.2651234567,
    ci_low=0.2,
    ci_high=0.3,
    n=50,
    chance=0.0,
    paper=0.265,
)
EMPTY = Row(
    data="haxby",
    system="ridge",
    task="classification",
    protocol="single",
    subject="subj02",
    metric="spice",
    note="SPICE's jar is not here",
)
COLUMNS = "data,system,condition,task,protocol,subject,metric,value,ci_low,ci_high,n,chance,ceiling,paper,note"


def test_results_come_back_as_written(tmp_path):
    path = results.write_results([ROW, EMPTY], tmp_path / "results.csv")
    assert path.read_text().splitlines()[0] == COLUMNS
    table = results.read_results(path)
    assert len(table) == 2 and names(tmp_path) == ["results.csv"]
    assert table.loc[0, "value"] == pytest.approx(ROW.value, rel=1e-5)
    assert table.loc[0, "n"] == 50 and table.loc[0, "note"] == ""
    assert pd.isna(table.loc[1, "value"]) and pd.isna(table.loc[1, "n"])
    assert table.loc[1, "note"] == EMPTY.note
    assert table["value"].dtype == float


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"value": 26.5}, "expected a fraction"),
        ({"value": None}, "no value and no note"),
        ({"value": float("inf"), "metric": "cider"}, "expected a finite number"),
        ({"ci_low": 0.4}, "expected the lower end first"),
        ({"ci_low": None}, "half an interval"),
        ({"task": "captioning"}, "task 'captioning', expected one of alignment"),
        ({"protocol": "mean"}, "protocol 'mean', expected one of average, single"),
        ({"system": "neurovl beta=1"}, "expected a name: put what is varied into condition"),
    ],
)
def test_rows_that_cannot_be_are_refused(changed, match):
    with pytest.raises(DataError, match=match):
        Row(**vars(ROW) | changed)


def test_two_rows_for_one_number_are_refused(tmp_path):
    with pytest.raises(DataError, match="two rows for simulated-nsd, neurovl"):
        results.write_results([ROW, EMPTY, ROW], tmp_path / "results.csv")
    assert names(tmp_path) == []


def test_a_foreign_table_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    with pytest.raises(MissingError, match="neurovl evaluate"):
        results.read_results(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="results.csv has columns a, b, expected data, system"):
        results.read_results(path)
    path.write_text(COLUMNS + "\nhaxby,ridge,,guessing,single,subj01,accuracy,.5,,,8,,,,\n")
    with pytest.raises(DataError, match="task 'guessing'"):
        results.read_results(path)


def test_a_table_of_an_older_version_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(COLUMNS.replace("condition,", "") + "\n")
    with pytest.raises(DataError, match="expected data, system, condition, task") as problem:
        results.read_results(path)
    assert "neurovl evaluate --run RUN or neurovl reproduce" in str(problem.value)
    assert "\n" not in str(problem.value) and ". " not in str(problem.value)


def test_one_number_for_each_condition_of_a_system(tmp_path):
    varied = [results.condition(beta=b) for b in (0.6, 1.0)]
    assert varied == ["beta=0.6", "beta=1"] and results.condition() == ""
    assert [results.condition_value(c, "beta") for c in varied] == [0.6, 1.0]
    assert results.condition_value("", "beta") is None
    assert results.condition_value("share=0.25", "beta") is None
    rows = [ROW, *(Row(**vars(ROW) | {"condition": c}) for c in varied)]
    table = results.read_results(results.write_results(rows, tmp_path / "results.csv"))
    assert table.condition.tolist() == ["", "beta=0.6", "beta=1"]
    with pytest.raises(DataError, match="two rows for simulated-nsd, neurovl, beta=1, recon"):
        results.write_results([*rows, rows[-1]], tmp_path / "results.csv")


def test_claims_come_back_as_written(tmp_path):
    claim = Claim(
        claim="ViT3D beats flat voxels, on every metric",
        data="simulated-nsd",
        statistic="difference of two_way_clip",
        value=0.05,
        ci_low=-0.01,
        ci_high=0.11,
        n=100,
        seed=0,
        verdict=results.verdict(-0.01, 0.11),
    )
    path = results.write_claims([claim], tmp_path / "claims.csv")
    header = "claim,data,statistic,value,ci_low,ci_high,n,seed,verdict"
    assert path.read_text().splitlines()[0] == header
    (record,) = results.read_claims(path).to_dict("records")
    assert record["claim"] == claim.claim and record["verdict"] == "undecided"
    with pytest.raises(DataError, match="verdict 'maybe'"):
        Claim(**vars(claim) | {"verdict": "maybe"})


def test_verdicts_follow_the_interval():
    assert results.verdict(0.1, 0.3) == "holds"
    assert results.verdict(-0.3, -0.1) == "fails"
    assert results.verdict(0.4, 0.6, above=0.5) == "undecided"
    assert results.verdict(0.55, 0.6, above=0.5) == "holds"
    assert results.verdict(None, None) == results.verdict(float("nan"), 1.0) == "undecided"


def test_the_papers_tables():
    """Spot values typed from the tables, and the number of printed cells of each."""
    table = results.paper_results()
    assert list(table.columns) == ["system", "task", "protocol", "metric", "value", "source"]
    assert not table.duplicated(["system", "task", "protocol", "metric"]).any()
    counts = table["source"].value_counts()
    assert counts["Table 1"] == 12 * 9 + 2
    assert counts["Table 2"] + counts["Table 2 and Table 7"] == 1 + 4 + 4 + 12 * 8
    assert counts["Table 7"] + counts["Table 2 and Table 7"] == 5 * 8

    paper = results.paper_value
    assert paper("neurovl", "caption", "average", "bleu1") == pytest.approx(0.5719)
    assert paper("neurovl", "reasoning", "average", "cider") == pytest.approx(2.1783)
    assert paper("flat", "description", "average", "spice") == pytest.approx(0.1621)
    assert paper("unibrain", "caption", "average", "rouge") == pytest.approx(0.222)
    assert paper("neurovl", "reconstruction", "average", "two_way_clip") == pytest.approx(0.975)
    assert paper("neurovl", "reconstruction", "single", "pixcorr") == pytest.approx(0.257)
    assert paper("no-vae", "reconstruction", "average", "pixcorr") == pytest.approx(0.093)
    assert paper("per-subject", "reconstruction", "average", "distance_swav") == 0.347
    assert paper("vicuna-13b", "reconstruction", "average", "distance_effnet") == 0.628
    assert paper("neurovl", "localization", "average", "auc") is None


def test_whatever_a_language_model_says_is_read_as_it_was_written(tmp_path):
    said = ["a\rb", 'q"uo\r\nte', "a, b", " lead", "", "NA", "\x85\u2028", "1", "a\x00b", "True"]
    table = pd.DataFrame({"image_id": "007", "answer": said, "beta": 0.5})
    write_texts(table, tmp_path / "said.csv")
    pd.testing.assert_frame_equal(read_texts(tmp_path / "said.csv"), table)
    # Unquoted, as pandas writes it by itself, a carriage return is the end of a row.
    table.to_csv(tmp_path / "said.csv", index=False)
    assert len(read_texts(tmp_path / "said.csv")) != len(table)
