"""The example of a decoder outside the package: registered by its entry point, found, fitted, and quoted as it is."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from toy_brains import ToyBrains, identified

from neurovl.baselines import registry
from neurovl.baselines.decoder import Decoder, FrozenParts
from neurovl.baselines.picture_features import FEATURES
from neurovl.errors import ConfigError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "your_decoder"
PAGE = ROOT / "book" / "own_decoder.md"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example as an installer leaves it: on the path, with the entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(about)
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE)
    yield info
    sys.modules.pop("your_decoder", None)


@pytest.fixture(scope="module")
def brains():
    return ToyBrains(noise=0.5)


def test_it_is_found_beside_the_published_systems(installed):
    assert registry.names()[-1] == "nearest-brains"
    found = registry.find("nearest-brains")
    assert issubclass(found, Decoder) and found.name == "nearest-brains"
    (installed / "entry_points.txt").write_text("[neurovl.decoders]\nnot-one = your_decoder:np\n")
    with pytest.raises(ConfigError, match="expected a subclass of neurovl.baselines.decoder"):
        registry.find("not-one")


def test_without_its_package_it_is_named_as_missing():
    with pytest.raises(ConfigError, match="no system 'nearest-brains'.*neurovl.decoders"):
        registry.find("nearest-brains")


def test_it_decodes_toy_brains_and_shuffled_ones_not(installed, brains):
    decoder = registry.find("nearest-brains")().fit(brains.train, brains.features, FrozenParts())
    for test in brains.test.values():
        mean = test.averaged()
        said = decoder.predict(mean)
        for what in ("clip_image", "vae"):
            true = brains.features.of(what, mean.image_ids)
            assert said[what].shape == true.shape
            assert identified(said[what], true) > 0.8
            dealt = np.random.default_rng(0).permutation(len(true))
            assert 0.35 < identified(said[what][dealt], true) < 0.65
        given = decoder.conditions(said)
        assert np.array_equal(given.image, said["clip_image"]) and given.start is said["vae"]
        assert decoder.captions(said, FrozenParts()) is None
    assert decoder.n_models == len(brains.train) and decoder.n_parameters > 0


def test_its_prediction_is_the_mean_of_the_most_correlated(installed, brains):
    decoder = registry.find("nearest-brains")(k=3)
    decoder.fit(brains.train, brains.features, FrozenParts())
    train, test = brains.train["subj01"].averaged(), brains.test["subj01"].averaged()
    likeness = np.corrcoef(test.read(), train.read())[: len(test), len(test) :]
    nearest = np.argsort(likeness, axis=1)[:, -3:]
    known = brains.features.of("clip_image", train.image_ids)
    assert decoder.predict(test)["clip_image"] == pytest.approx(known[nearest].mean(1), abs=1e-5)


def test_it_reads_training_trials_alone(installed, brains):
    """Other test trials change nothing of what is said of one."""
    decoder = registry.find("nearest-brains")()
    decoder.fit(brains.train, brains.features, FrozenParts())
    test = brains.test["subj02"]
    alone = decoder.predict(test.take([4]))["clip_image"]
    assert alone == pytest.approx(decoder.predict(test)["clip_image"][[4]], abs=1e-5)


def test_it_is_short_and_asks_for_what_there_is():
    text = (EXAMPLE / "your_decoder.py").read_text()
    assert len(text.splitlines()) < 60 and ast.get_docstring(ast.parse(text))
    needs = re.search(r"needs = (\(.*\))", text)[1]
    assert set(ast.literal_eval(needs)) <= set(FEATURES)


def test_the_page_quotes_the_files_as_they_are():
    page = PAGE.read_text()
    blocks = dict(re.findall(r"```(python|toml)\n(.*?)```", page, re.S))
    assert blocks["python"] == (EXAMPLE / "your_decoder.py").read_text()
    assert blocks["toml"] == (EXAMPLE / "pyproject.toml").read_text()
    assert all(f"`{name}`" in page for name in FEATURES)
