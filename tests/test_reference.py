"""The reference in the book: an example that runs for each name, and the way of one trial as a page tells it."""

import doctest
import inspect
import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import neurovl
from neurovl.errors import MissingError
from neurovl.localization.concept_maps import SubjectPictures, find_maps
from neurovl.tokens.writing import write_store

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "book" / name for name in ("api.md", "api_rooms.md")]
NAMES = [
    name
    for page in PAGES
    for name in re.findall(r"auto(?:function|class):: (\S+)", page.read_text())
]
STEPS = re.findall(r"{py:(?:func|meth)}`([\w.]+)`", (ROOT / "book" / "one_trial.md").read_text())
TINY = """
preprocessing: {subjects: [1], patches: [5, 4]}
encoder: {width: 32, layers: 1, heads: 2, head_hidden: 32, readout: 8}
alignment: {epochs: 1, precision: "no", variants: [main, patches]}
language: {steps: [1, 1], batch_size: [2, 2], max_new_tokens: 8, precision: "no"}
reconstruction:
  {steps: 2, guidance: 3.0, betas: [0.93], images: 2, ablation_images: 1, ablation_subjects: 0}
localization: {max_concepts: 1}
evaluation: {bootstrap: 50, permutations: 2, caption_images: 2}
compute: {device: cpu, processes: 1}
"""


def found(name: str) -> object:
    """What a dotted name stands for; of a module and a function that share it, the function."""
    thing, place = neurovl, "neurovl"
    for part in name.split(".")[1:]:
        place = f"{place}.{part}"
        thing = getattr(thing, part) if hasattr(thing, part) else import_module(place)
    return thing


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    profile = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    profile.write_text(TINY)
    return profile


@pytest.fixture(scope="module")
def run(tiny, tiny_nsd, tmp_path_factory) -> neurovl.Run:
    """A run with everything trained, for a moment only."""
    started = neurovl.start_run(tmp_path_factory.mktemp("run"), profile=str(tiny), data=tiny_nsd)
    neurovl.make(started, "encoders")
    neurovl.make(started, "llm")
    return started


@pytest.fixture
def no_java(monkeypatch):
    """Text scores stay empty with their reason: Java alone would take longer than all examples."""

    def find_java():
        raise MissingError("no Java runs here, expected one: leave it out")

    monkeypatch.setattr(sys.modules["neurovl.metrics.captions"], "find_java", find_java)


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_the_reference_run(name, run, tiny, tiny_nsd, tmp_path, no_java):
    (test,) = doctest.DocTestFinder(recurse=False).find(found(name), name, module=False)
    assert test.examples, f"{name} has no example"
    test.globs = {
        "data": neurovl.open_recordings(tiny_nsd),
        "folder": tmp_path,
        "neurovl": neurovl,
        "np": np,
        "run": run,
        "tiny": tiny,
        "torch": torch,
    }
    said = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    plt.close("all")
    assert not failed, "".join(said)


def test_the_reference_names_what_the_front_door_offers():
    listed = {name.removeprefix("neurovl.") for name in NAMES}
    modules = {name for name in neurovl.__all__ if inspect.ismodule(getattr(neurovl, name))}
    assert set(neurovl.__all__) - modules <= listed
    for module in modules:
        assert any(name.startswith(f"{module}.") for name in listed)
    assert len(NAMES) == len(set(NAMES))


def room(name: str) -> str:
    """The room that a function lies in, wherever it can be imported from."""
    return inspect.unwrap(found(name)).__module__.split(".")[1]


def test_no_step_of_a_trial_goes_back():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contract["contracts"][0]["layers"][::-1]
    rank = {name.strip(): n for n, line in enumerate(layers) for name in re.split("[|:]", line)}
    ranks = [rank[room(step)] for step in STEPS]
    assert ranks == sorted(ranks) and len(set(ranks)) == 4


def codes(name: str) -> set:
    """The code of a function; of a method also where subclasses have their own."""
    owner, _, method = name.rpartition(".")
    if not inspect.isclass(kind := found(owner)):
        return {inspect.unwrap(found(name)).__code__}
    kinds, waiting = set(), [kind]
    while waiting:
        kinds.add(one := waiting.pop())
        waiting += one.__subclasses__()
    return {inspect.unwrap(getattr(one, method)).__code__ for one in kinds}


def test_a_trial_passes_the_steps_in_the_order_of_the_page(run, tiny_nsd, tmp_path):
    of = {code: step for step in STEPS for code in codes(step)}
    image_id = run.test_images(1)[0]
    encoder, llm, paint = run.encoder(), run.llm(), run.reconstructor()
    text = torch.ones(run.targets.clip.shape[1])
    passed = []

    def note(frame, event, _):
        if event == "call" and frame.f_code in of:
            passed.append(of[frame.f_code])

    sys.setprofile(note)
    try:
        write_store(neurovl.open_recordings(tiny_nsd, [1]), tmp_path, patches=[5])
        store = neurovl.TokenStore(tmp_path)
        with torch.no_grad():
            z = encoder(store.tokens(1, image_id))
        prompt = llm.chat(z).ask("What is in the picture?", max_new_tokens=4)
        paint(z, prompt=prompt)
        voxels = store.voxels(1, store.image_rows(1, image_id))
        about = (store, "subj01", ["dog"], text[None], [encoder], voxels)
        holds = np.ones((len(voxels), 1), bool)
        find_maps("gradcam", SubjectPictures(*about, holds))["dog"].to_nifti()
    finally:
        sys.setprofile(None)
    place = iter(passed)
    missed = [step for step in STEPS if step not in place]  # `in` goes on from where it stopped
    assert missed == [], passed
