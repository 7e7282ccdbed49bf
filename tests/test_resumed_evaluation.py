"""Answers and pictures that a killed evaluation had made: found again, not made twice, and the same in the end."""

import shutil

import pandas as pd
import pytest

from neurovl import evaluation, pipeline
from neurovl.evaluation import answering, painting
from neurovl.language import BrainLLM
from neurovl.reconstruction.reconstructor import Reconstructor
from neurovl.run import Run, open_run
from neurovl.settings.profile_files import load_profile

PROFILE = """
compute: {device: cpu}
preprocessing: {subjects: [1], patches: [5]}
encoder: {width: 32, layers: 1, heads: 2, head_hidden: 32, readout: 8}
alignment: {epochs: 1, precision: "no", variants: [main]}
language: {steps: [2, 2], batch_size: [4, 4], max_new_tokens: 4, precision: "no"}
reconstruction: {steps: 1, images: 5, ablation_images: 3, ablation_subjects: 1, betas: [0.6, 1.0]}
evaluation: {caption_images: 3}
"""


@pytest.fixture(scope="module")
def trained(tiny_nsd, tmp_path_factory) -> Run:
    profile = tmp_path_factory.mktemp("profile") / "mine.yaml"
    profile.write_text(PROFILE)
    run = pipeline.start(tiny_nsd, tmp_path_factory.mktemp("run"), load_profile(str(profile)))
    pipeline.write_tokens(run)
    pipeline.embed_targets(run)
    pipeline.train_encoder(run, "main")
    pipeline.train_language(run)
    return run


class Killed(BaseException):
    pass


def broken_off(monkeypatch, owner, name, killed_after):
    """The calls of a method, a list that grows; after so many of them it ends in `Killed`."""
    calls, own = [], getattr(owner, name)

    def counted(*args, **kwargs):
        if len(calls) == killed_after:
            raise Killed
        calls.append(args)
        return own(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def contents(folder):
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "provenance.json")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.mark.parametrize("stage", ["captions", "reconstructions"])
def test_a_second_start_does_only_what_is_missing(trained, stage, monkeypatch):
    work, owner, name = {
        "captions": (evaluation.answer, BrainLLM, "generate"),
        "reconstructions": (evaluation.reconstruct, Reconstructor, "pixels"),
    }[stage]
    monkeypatch.setattr(answering, "TOGETHER", 4)
    monkeypatch.setattr(painting, "BATCH", 2)
    folder = trained.folder / stage

    def calls_until(killed_after):
        with monkeypatch.context() as patch:
            calls = broken_off(patch, owner, name, killed_after)
            if killed_after is None:
                work(open_run(trained.root))
            else:
                with pytest.raises(Killed):
                    work(open_run(trained.root))
        return len(calls)

    total, whole = calls_until(None), contents(folder)
    shutil.rmtree(folder)
    made = sum(calls_until(n) for n in (total // 3, total // 2, None))
    # A conversation of several turns that was cut is held again from its first.
    assert total <= made <= total + (6 if stage == "captions" else 0)
    again = contents(folder)
    assert again == whole and not any(file.endswith(".jsonl") for file in again)


def test_a_resumed_painting_asks_the_language_model_nothing(trained, monkeypatch):
    folder = trained.folder / "reconstructions"
    shutil.rmtree(folder, ignore_errors=True)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        broken_off(patch, Reconstructor, "pixels", 1)
        evaluation.reconstruct(open_run(trained.root))
    run = open_run(trained.root)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "llm", lambda self: pytest.fail("the language model was loaded"))
        evaluation.reconstruct(run)
    assert len(pd.read_csv(folder / "samples.csv")) == 3 * 5 + 2 * 2 * 3 + 5
