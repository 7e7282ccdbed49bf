"""What a stage rests on is found: not too little (traced runs), and little enough (what leaves it as it is)."""

import shutil
import sys
import threading
from pathlib import Path

import pytest

from neurovl import evaluation, pipeline
from neurovl.run import Run, open_run
from neurovl.settings.profile_files import load_profile
from neurovl.stages import code, code_hash

WORK = {
    "tokens": pipeline.write_tokens,
    "targets": pipeline.embed_targets,
    "encoders": pipeline.train_encoder,
    "llm": pipeline.train_language,
    "captions": evaluation.answer,
    "reconstructions": evaluation.reconstruct,
    "localization": evaluation.localize,
    "importance": evaluation.measure_importance,
    "results": evaluation.score,
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A copy of the package whose files may be edited; `code_hash` reads them from there."""
    shutil.copytree(
        code.PACKAGE, tmp_path / "neurovl", ignore=shutil.ignore_patterns("tiny", "__pycache__")
    )
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "neurovl")
    forget()
    yield tmp_path / "neurovl"
    forget()


def forget():
    for function in (code._hash, code._module, code._bare, code._run_methods):
        function.cache_clear()


def changed(package: Path, file: str, old: str, new: str) -> set[str]:
    """The stages that are done again after an edit."""
    before = {name: code_hash(work) for name, work in WORK.items()}
    path = package / file
    text = path.read_text()
    assert old in text, f"{file} does not hold {old!r}"
    path.write_text(text.replace(old, new, 1))
    forget()
    after = {name: code_hash(work) for name, work in WORK.items()}
    path.write_text(text)
    forget()
    return {name for name in WORK if after[name] != before[name]}


def first_docstring(text: str) -> str:
    return text[: text.index("\n")]


@pytest.mark.parametrize(
    "file", ["evaluation/claims.py", "tokens/writing.py", "language/model.py", "encoder/vit3d.py"]
)
def test_comments_docstrings_and_annotations_change_nothing(elsewhere, file):
    text = (elsewhere / file).read_text()
    line = first_docstring(text)
    assert (
        changed(elsewhere, file, line, '"""Other words.' + ('"""' if line.endswith('"""') else ""))
        == set()
    )
    assert changed(elsewhere, file, "\nimport ", "\n# a comment\nimport ") == set()


@pytest.mark.parametrize(
    "file, old, new, stages",
    [
        (
            "evaluation/claims.py",
            "def claims(\n    images",
            "def claims(\n    pictures, images",
            {"results"},
        ),
        ("metrics/images.py", "def _pixcorr(", "def _pixcorr(extra, ", {"results"}),
        (
            "language/model.py",
            "use_cache=True",
            "use_cache=False",
            {"llm", "captions", "reconstructions"},
        ),
        (
            "localization/encoder_maps.py",
            "hidden[:, 1:]).sum(-1)",
            "hidden[:, 1:]).mean(-1)",
            {"localization", "reconstructions"},
        ),
        (
            "encoder/alignment.py",
            'parts.get("vae", 0.0)',
            'parts.get("vae", 1.0)',
            {"encoders", "results"},
        ),
        (
            "tokens/store.py",
            "padded = torch.nn.functional.pad(values, (0, 1))",
            "padded = torch.nn.functional.pad(values, (0, 2))",
            set(WORK) - {"tokens", "targets"},
        ),
        ("figures/theme.py", "#004C78", "#004C79", set()),
        ("cli/runs.py", "def evaluate(", "def evaluate_all(", set()),
        ("hub/card.py", "def model_card(", "def card(", set()),
    ],
)
def test_an_edit_does_again_what_rests_on_it_and_no_more(elsewhere, file, old, new, stages):
    assert changed(elsewhere, file, old, new) == stages


def test_packages_are_imported_by_name_alone():
    """`import neurovl.x` inside a function would hide from the search what is used of it."""
    found = []
    for path in code.PACKAGE.rglob("*.py"):
        found += [
            path.name
            for line in path.read_text().splitlines()
            if line.strip().startswith("import neurovl")
        ]
    assert found == []


class Calls:
    """Definitions of the package whose functions are called while it is on."""

    def __init__(self):
        self.seen: set[tuple[str, str]] = set()

    def __call__(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(str(code.PACKAGE)):
            module = Path(frame.f_code.co_filename).relative_to(code.PACKAGE.parent).with_suffix("")
            name = ".".join(module.parts).removesuffix(".__init__")
            qualified = frame.f_code.co_qualname.split(".<locals>")[0]
            outer, _, inner = qualified.partition(".")
            if (name, outer) == code.RUN:
                outer = f"{outer}.{inner}"
            if not outer.startswith("<"):
                self.seen.add((name, outer))

    def __enter__(self):
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *problem):
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture(scope="module")
def small(tiny_nsd, tmp_path_factory) -> Run:
    profile = tmp_path_factory.mktemp("profile") / "small.yaml"
    profile.write_text(SMALL)
    return pipeline.start(tiny_nsd, tmp_path_factory.mktemp("run"), load_profile(str(profile)))


SMALL = """
compute: {device: cpu}
preprocessing: {patches: [5, 4]}
encoder: {width: 32, layers: 2, heads: 2, head_hidden: 32, readout: 8}
alignment: {epochs: 1, batch_size: 64, precision: "no", synthetic: 0.5, ema: 0.9, variants: [main, flat]}
language: {steps: [2, 2], batch_size: [4, 4], max_new_tokens: 4}
reconstruction: {steps: 2, images: 2, ablation_images: 2, ablation_subjects: 1, betas: [0.6, 1.0]}
localization: {max_concepts: 2}
evaluation: {caption_images: 2, bootstrap: 10, permutations: 2}
"""


@pytest.mark.slow
def test_every_function_that_a_stage_calls_had_been_found(small):
    """The check of the search itself: what runs is compared with what it says, stage by stage."""
    steps = {
        "tokens": lambda: pipeline.write_tokens(small),
        "targets": lambda: pipeline.embed_targets(small),
        "encoders": lambda: [pipeline.train_encoder(small, name) for name in VARIANTS],
        "llm": lambda: pipeline.train_language(small),
        "captions": lambda: evaluation.answer(small),
        "reconstructions": lambda: evaluation.reconstruct(small),
        "localization": lambda: evaluation.localize(small),
        "importance": lambda: evaluation.measure_importance(small),
        "results": lambda: evaluation.score([small]),
    }
    for name, step in steps.items():
        small = open_run(small.root)  # nothing is open yet
        work = WORK[name]
        known = code.reached((work.__module__, work.__qualname__))
        if (code.RUN[0], "Run.recordings") not in known:
            _ = small.data  # the stage's key alone asks for it
        with Calls() as calls:
            step()
        parts = tuple(f"{code.NAME}.{part}" for part in code.NO_PART)
        missed = {
            one
            for one in calls.seen - known
            if not one[0].startswith(parts) and one not in KEEPING and one[0] not in KEYS
        }
        assert missed == set(), f"{name}: {sorted(missed)}"


VARIANTS = ("main", "flat")
KEEPING = {
    (code.RUN[0], f"Run.{name}") for name in ("stage", "data", "folder")
}  # what a key is made of
KEYS = (
    f"{code.NAME}.foundation.identity",
    f"{code.NAME}.run.record",
)  # names of models; what a run was started with
