"""Answers and pictures of a small run: found again after a kill and not made twice; brains without a thing, by hand."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from neurovl import evaluation, pipeline
from neurovl.encoder.alignment import held_out_voxels
from neurovl.evaluation import answering, painting
from neurovl.evaluation.erasing import brains_without_a_thing, commonest_thing
from neurovl.evaluation.locating import concepts
from neurovl.language import BrainLLM
from neurovl.reconstruction.reconstructor import Reconstructor
from neurovl.run import Run, open_run
from neurovl.settings.profile_files import load_profile
from neurovl.tokens.resize import resize_linear

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
    assert len(pd.read_csv(folder / "samples.csv")) == 3 * 5 + 2 * 2 * 3 + 2 * 3 + 5


def test_a_picture_is_read_without_its_own_thing(trained):
    run, subject = open_run(trained.root), "subj01"
    store, encoder = run.store, run.encoder()
    ids, voxels = held_out_voxels(store, subject, "average")
    by_thing = {commonest_thing(run, i): i for i in ids}
    by_thing.pop(None, None)
    assert len(by_thing) > 1
    thing, image = next(iter(by_thing.items()))
    assert thing == next(c for c in concepts(run) if c in run.categories(image))
    z = {
        which: brains_without_a_thing(run, subject, [image], which)
        for which in ("located", "moved")
    }
    # By hand: the hottest 15 % of the subject's voxels at (all but) 0.
    measured = store.measured(subject) & voxels.any(0)
    heat = resize_linear(run.locate(thing, subject).values, store.target).ravel()[store.region]
    hot = np.argsort(np.where(measured, -heat, np.inf), kind="stable")
    volume = voxels[[ids.index(image)]].copy()
    volume[:, hot[: round(0.15 * measured.sum())]] = 0
    with torch.no_grad():
        expected = encoder(store.cut(volume, encoder.layout)).clip
        whole = encoder(store.cut(voxels[[ids.index(image)]], encoder.layout)).clip
    torch.testing.assert_close(z["located"].clip, expected, atol=1e-4, rtol=1e-3)
    for other in (z["moved"].clip, whole):
        assert (other - expected).abs().max() > 1e-2
    several = brains_without_a_thing(run, subject, list(by_thing.values()), "located")
    torch.testing.assert_close(several.clip[0], z["located"].clip[0])
