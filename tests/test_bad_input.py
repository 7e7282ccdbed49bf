"""Bad input: one clear sentence with file, finding, expectation and next step; nothing else happens.

The cases are tables in `bad_input/`. Every healthy world passes the commands that its cases run.
"""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from bad_input import cases_bold, cases_cli, cases_nsd, cases_table
from bad_input.judge import Done, content, judge, neurovl, written
from bad_input.worlds import PREPROCESS, Worlds

CORPUS = [  # world, command of the cases that name none, cases
    ("nsd", PREPROCESS, cases_nsd.NSD),
    ("nsd hdf5", PREPROCESS, cases_nsd.NSD_HDF5),
    ("nsd trained", None, cases_nsd.NSD_TRAINED),
    ("nsd trained", None, cases_cli.RUN),
    ("table", PREPROCESS, cases_table.TABLE),
    ("table", PREPROCESS, cases_cli.COMMAND),
    ("table preprocessed", None, cases_table.TABLE_PREPROCESSED),
    ("haxby", PREPROCESS, cases_table.HAXBY),
    ("bids", cases_table.CONVERT, cases_table.BIDS),
    ("bold", cases_bold.BETAS, cases_bold.BOLD),
]
UNREADABLE = pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
CASES = [
    pytest.param(
        world,
        (*case, command)[:7],
        id=f"{world}: {case[0]}".replace(" ", "-"),
        marks=UNREADABLE if "right to read" in case[0] else (),
    )
    for world, command, cases in CORPUS
    for case in cases
]
MAKES = {
    "train encoder": ["targets", "encoders"],
    "train llm": ["llm"],
}  # removed before, as if new


@pytest.fixture(scope="module")
def worlds(tiny_nsd, tmp_path_factory):
    made = Worlds(tmp_path_factory.mktemp("worlds"), tiny_nsd)
    names = list(dict.fromkeys(world for world, _, _ in CORPUS))
    before = {name: content(made(name)) for name in names}
    yield made
    assert {name: content(made(name)) for name in names} == before, "a case wrote through a link"


def prepare(worlds, world: str, command: str, tmp_path):
    """A copy of a world in which the command has something to do, and the command itself."""
    folder = tmp_path / "world"
    worlds.copy(world, folder)
    for name in MAKES.get(" ".join(command.split()[:2]), []):
        shutil.rmtree(folder / "run" / name, ignore_errors=True)
    if "IMAGE" in command:
        trials = pd.read_csv(folder / "run/tokens/trials.csv")
        command = command.replace("IMAGE", str(trials.image_id[0]))
    return folder, command


@pytest.mark.parametrize("world, case", CASES)
def test_one_sentence(worlds, world, case, tmp_path):
    _, spoil, names, found, expected, step, command = case
    folder, command = prepare(worlds, world, command, tmp_path)
    spoil(folder)
    before = content(folder)
    judge(neurovl(command, folder), folder, names, found, expected, step)
    after = content(folder)
    assert set(before) <= set(after), "something was removed"
    assert _of_data(after) == _of_data(before), "the input was changed"
    assert not set(written(folder)) - set(before), "something was written under a final name"


def _of_data(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if name.startswith("data/")}


HEALTHY = [(world, command) for world, command, _ in CORPUS if command] + [
    *[("nsd trained", one) for one in (cases_nsd.ENCODER, cases_nsd.LANGUAGE, cases_nsd.LOCATE)],
    ("nsd trained", cases_cli.SAY),
    ("table preprocessed", cases_table.ENCODER),
    ("haxby", cases_table.TO_TABLE),
]


@pytest.mark.parametrize("world, command", list(dict.fromkeys(HEALTHY)))
def test_the_healthy_world_passes(worlds, world, command, tmp_path):
    folder, command = prepare(worlds, world, command, tmp_path)
    before = content(folder / "data")
    done = neurovl(command, folder)
    assert done.code == 0, done
    assert content(folder / "data") == before


@pytest.mark.parametrize(
    "world, name, options",
    [
        ("nsd", "betas cut in the middle", ""),
        ("table", "volumes cut short", " --jobs 2"),  # the error comes out of a worker process
        ("table", "commas", ""),
    ],
)
def test_the_same_through_a_real_process(worlds, world, name, options, tmp_path):
    case = next(p.values[1] for p in CASES if p.values[0] == world and p.values[1][0] == name)
    folder, command = prepare(worlds, world, PREPROCESS.replace(" --jobs 1", options), tmp_path)
    case[1](folder)
    done = subprocess.run(
        [sys.executable, "-m", "neurovl", *command.split()],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    *_, last = done.stderr.splitlines()
    judge(Done(done.returncode, last, ""), folder, *case[2:6])
    assert "Traceback" not in done.stderr and done.stderr.count("neurovl: ") == 1
    assert not written(folder)


def test_the_corpus_is_large_and_its_names_differ():
    names = [case.id for case in CASES]
    assert len(names) >= 60 and len(set(names)) == len(names)
