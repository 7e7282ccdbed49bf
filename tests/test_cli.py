"""The command line as a user meets it: help, one-sentence errors, exit codes."""

import contextlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from neurovl.cli import app
from neurovl.cli.runs import explore
from neurovl.errors import ConfigError, MissingError

VERBS = [
    "doctor",
    "simulate",
    "download",
    "preprocess",
    "train",
    "foundation",
    "caption",
    "chat",
    "reconstruct",
    "locate",
    "adapt",
    "evaluate",
    "reproduce",
    "book",
    "explore",
    "resample",
    "convert",
    "regions",
    "betas",
    "export",
    "score",
]


def neurovl(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "neurovl", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )


def test_help_lists_every_verb():
    done = neurovl("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["preprocess", "--data", "nowhere", "--out", "run"], "does not exist"),
        (["reproduce", "--profile", "demos"], "no profile 'demos'"),
        (["evaluate", "--run", "nothing"], "is not a run folder"),
        (["simulate", "--out", "sim", "--sessions", "99"], "expected 1 to 40"),
        (["explore", "--run", "nothing"], "is not a run folder"),
        (["export", "encoder", "--run", "nothing", "--out", "out"], "is not a run folder"),
        (["download", "nsd", "--to", "nsd"], "--accept-terms"),
        (["resample", "--mask", "a.nii", "--like", "b.nii", "--out", "c.nii"], "a.nii"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_1(arguments, words, tmp_path):
    done = neurovl(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("neurovl:")]) == 1


def options(name: str) -> set[str]:
    """The options of a verb, such as 'train encoder'."""
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]
    return {option.name for option in command.params}


def test_profile_and_seed_are_taken_where_they_mean_something():
    begin = {"simulate", "preprocess", "reproduce"}
    draw = {"adapt", "chat", "reconstruct", "betas", "convert bids", "convert arrays"}
    draw |= {f"foundation {verb}" for verb in ("train", "evaluate", "rehearse")}
    top = typer.main.get_command(app).commands
    names = [n for n, c in top.items() if not hasattr(c, "commands")]
    names += [f"{n} {m}" for n, c in top.items() for m in getattr(c, "commands", ())]
    assert {name for name in names if "profile" in options(name)} == begin | {"doctor"}
    assert {name for name in names if "seed" in options(name)} == begin | draw


def test_simulate_takes_what_is_not_given_from_the_profile(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("neurovl.smallworld.subjects.simulate", lambda out, **a: asked.update(a))
    profile = tmp_path / "mine.yaml"
    profile.write_text(
        "seed: 5\nsimulation: {subjects: [1, 2], sessions: 3, scale: 9.0}\nadaptation: {subject: 4}"
    )
    about = ["simulate", "--out", str(tmp_path / "sim"), "--profile", str(profile)]
    assert CliRunner().invoke(app, about).exit_code == 0
    assert not asked.pop("surfaces") and asked.pop("tests") == ()
    assert asked == {"subjects": (1, 2, 4), "sessions": 3, "scale": 9.0, "seed": 5}
    given = ["--subjects", "7", "--sessions", "1", "--scale", "6", "--seed", "2"]
    more = CliRunner().invoke(app, [*about, *given, "--surfaces"])
    assert "the betas on fsaverage take 983.1 MB" in more.output and asked.pop("surfaces")
    assert asked.pop("tests") == ()
    assert asked == {"subjects": (7,), "sessions": 1, "scale": 6.0, "seed": 2}
    paper = CliRunner().invoke(app, ["simulate", "--out", "sim", "--profile", "paper"])
    assert isinstance(paper.exception, ConfigError) and "simulates none" in str(paper.exception)


def test_the_app_without_voila_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "voila", None)
    with pytest.raises(MissingError, match=r"pip install 'neurovl\[explore\]'"):
        explore(Path("runs/demo"))


def test_the_app_opens_the_notebook_on_the_run_that_was_named(monkeypatch, tmp_path):
    opened, made, served, shown = [], [], [], []

    @contextlib.contextmanager
    def serving(notebook, run, port, places):
        assert places == 8
        served.append((notebook, run, port))
        yield SimpleNamespace(wait=lambda: 0), "http://127.0.0.1:8866/?token=secret"

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("neurovl.run.open_run", lambda run: opened.append(run) or run)
    monkeypatch.setattr("neurovl.pipeline.ensure", lambda run, stage: made.append((run, stage)))
    monkeypatch.setattr("neurovl.publishing.app.serving", serving)
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit):
        explore(Path("runs/demo"), port=8866)
    assert made == [(Path("runs/demo"), "llm")] and opened == [Path("runs/demo")]
    ((notebook, run, port),) = served
    assert notebook.name == "08_explore.ipynb" and "NEUROVL_RUN" in notebook.read_text()
    assert (run, port) == (Path("runs/demo"), 8866)
    assert shown == ["http://127.0.0.1:8866/?token=secret"]


def test_doctor_finds_the_demo_ready_and_the_paper_s_models_missing(tmp_path):
    assert neurovl("doctor", "--profile", "smoke").returncode == 0
    paper = neurovl("doctor", "--profile", "paper", cwd=tmp_path)
    assert paper.returncode == 1 and "MISSING" in paper.stdout and "--data DIR" in paper.stdout


def test_resample_brings_a_mask_to_the_data_s_grid(tmp_path):
    import nibabel
    import numpy as np

    mask = np.zeros((10, 10, 10), np.uint8)
    mask[:5] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([2, 2, 2, 1])), tmp_path / "mask.nii.gz")
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 0.5
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((5, 5, 5, 2), np.float32), affine), tmp_path / "bold.nii.gz"
    )
    done = neurovl(
        "resample",
        "--mask",
        "mask.nii.gz",
        "--like",
        "bold.nii.gz",
        "--out",
        "out.nii.gz",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    out = nibabel.load(tmp_path / "out.nii.gz")
    # Voxel i of the new grid lies at 4 i + 0.5 mm, the mask's edge between 8 and 10 mm.
    assert out.shape == (5, 5, 5) and np.asarray(out.dataobj)[:, 0, 0].tolist() == [1, 1, 1, 0, 0]


@pytest.fixture
def asked_for(monkeypatch):
    """The stages that a verb makes, which are only noted here; books too."""
    stages = []
    monkeypatch.setattr("neurovl.pipeline.make", lambda run, *names: stages.extend(names))
    monkeypatch.setattr("neurovl.publishing.book.render", lambda out, n_jobs: out / "index.html")
    return stages


def test_reproduce_stops_before_the_first_stage_where_something_is_missing(
    tiny_nsd, tmp_path, asked_for
):
    profile = tmp_path / "mine.yaml"
    profile.write_text("models: {llm: nobody/nothing}\n")
    begin = ["reproduce", "--data", str(tiny_nsd), "--profile", str(profile)]
    begin += ["--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, begin)
    assert isinstance(done.exception, MissingError) and asked_for == []
    assert "1 thing is missing" in str(done.exception) and "--force" in str(done.exception)
    (line,) = [line for line in done.output.splitlines() if line.startswith("MISSING")]
    assert "nobody/nothing" in line
    assert not (tmp_path / "run" / "tokens").exists()
    assert CliRunner().invoke(app, [*begin, "--force"]).exit_code == 0
    assert asked_for == ["results", "board"]


def test_reproduce_goes_on_where_nothing_is_missing_and_a_full_disk_stops_it(
    tiny_nsd, tmp_path, asked_for, monkeypatch
):
    begin = ["reproduce", "--data", str(tiny_nsd), "--profile", "smoke"]
    begin += ["--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, begin).exit_code == 0 and asked_for == ["results", "board"]
    monkeypatch.setattr("neurovl.download.engine.free_bytes", lambda folder: 1000)
    done = CliRunner().invoke(app, begin)
    assert isinstance(done.exception, MissingError) and asked_for == ["results", "board"]
    assert "are free" in done.output
    # What is whole already needs neither models nor disk.
    monkeypatch.setattr("neurovl.pipeline.up_to_date", lambda run, name: True)
    assert CliRunner().invoke(app, begin).exit_code == 0
