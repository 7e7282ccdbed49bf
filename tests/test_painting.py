"""Answers and pictures of a small run: found again after a kill and not made twice; brains without a thing, by hand."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from neurovl import evaluation, pipeline
from neurovl.encoder.alignment import held_out_voxels
from neurovl.evaluation import answering, painting
from neurovl.evaluation.erasing import brains_without_a_thing, commonest_thing
from neurovl.evaluation.locating import concepts
from neurovl.language import Conversations
from neurovl.language.dialogues import PROMPTS
from neurovl.reconstruction.reconstructor import Reconstructor
from neurovl.run import Run, open_run
from neurovl.settings.profile_files import load_profile
from neurovl.tokens.resize import resize_linear

PROFILE = """
compute: {device: cpu}
preprocessing: {subjects: [1], patches: [5]}
encoder: {width: 32, layers: 1, heads: 2, head_hidden: 32, readout: 8}
models: {llms: {other: tiny}}
alignment: {epochs: 1, precision: "no", variants: [main, flat, no-vae, per-subject, per-subject-flat]}
language: {steps: [2, 2], batch_size: [4, 4], max_new_tokens: 4, precision: "no", variants: [main, flat, other, pictures]}
reconstruction:
  {steps: 1, images: 5, ablation_images: 3, ablation_subjects: 1, betas: [0.6, 1.0], prompts: [instruction, brief]}
evaluation: {caption_images: 3}
"""


@pytest.fixture(scope="module")
def trained(tiny_nsd, tmp_path_factory) -> Run:
    profile = tmp_path_factory.mktemp("profile") / "mine.yaml"
    profile.write_text(PROFILE)
    run = pipeline.start(tiny_nsd, tmp_path_factory.mktemp("run"), load_profile(str(profile)))
    pipeline.write_tokens(run)
    pipeline.embed_targets(run)
    for name in run.variants():
        pipeline.train_encoder(run, name)
    for name in run.profile.language.variants:
        pipeline.train_language(run, name)
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
        "captions": (evaluation.answer, Conversations, "ask"),
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
    # Dialogues that are held side by side are held again from their first turn where they were cut, twice here.
    assert total <= made <= total + (14 if stage == "captions" else 0)
    again = contents(folder)
    assert again == whole and not any(file.endswith(".jsonl") for file in again)


def test_the_upper_bound_reads_true_pictures_and_paints_nothing(trained):
    evaluation.answer(open_run(trained.root))
    answers = trained.tables.answers
    own = answers[answers.system == "true-picture"]
    assert set(own.type) == set(answers.type[answers.system == "neurovl"])
    assert {"brief", "yes/no"} <= set(own.type)
    assert set(own.protocol) == {"average"}
    model, images = trained.llm("pictures"), own.image_id.unique().tolist()
    tokens = trained.picture_tokens(images)
    assert tokens.shape[1:] == (64, 96) and model.projector.first.in_features == 96
    brief = own[own.type == "brief"].set_index("image_id").loc[images]
    said = model.generate(tokens, brief.question.tolist(), max_new_tokens=4)
    assert said == brief.answer.tolist()
    assert "true-picture" not in [one.system for one in painting.painters(trained.profile)]


@pytest.mark.parametrize("precision, dtype", [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_answers_are_computed_as_the_training_was(trained, precision, dtype):
    run = open_run(trained.root)
    run.profile = replace(run.profile, language=replace(run.profile.language, precision=precision))
    z = run.encode(1, run.test_images(1)[0])
    assert run.llm().llm.dtype == dtype and run.llm().projector.first.weight.dtype == torch.float32
    assert isinstance(run.llm().chat(z).ask("What is it?", 4), str)


@pytest.mark.slow
def test_two_processes_share_the_pictures_and_paint_what_one_does(trained, tmp_path):
    evaluation.reconstruct(open_run(trained.root))
    folder = trained.folder / "reconstructions"
    whole = contents(folder)
    both = tmp_path / "run"
    shutil.copytree(trained.root, both)
    record = json.loads((both / "run.json").read_text())
    record["data_folder"] = os.path.relpath(trained.data_folder, both)
    (both / "run.json").write_text(json.dumps(record))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines"]
    command += ["1", "--num_processes", "2", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["-m", "neurovl", "make"]

    def make(stage):
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        told = [*command, stage, "--run", str(both)]
        return subprocess.run(told, env=env, capture_output=True, text=True, timeout=300)

    refused = make("captions")
    assert refused.returncode and "only llm, llms and" in refused.stderr
    shutil.rmtree(both / "reconstructions")
    done = make("reconstructions")
    assert done.returncode == 0, done.stderr[-2000:]
    found = contents(both / "reconstructions")
    assert found.keys() == whole.keys()
    assert found["samples.csv"] == whole["samples.csv"]
    for file in whole:
        if file.endswith(".png"):
            a, b = (
                np.asarray(Image.open(io.BytesIO(x)), float) for x in (whole[file], found[file])
            )
            assert np.abs(a - b).max() <= 2, file


def test_a_share_is_every_other_batch_and_the_list_is_whole(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(painting, "BATCH", 2)

    class Sampler:
        def batch(self, z, prompts, beta, seeds):
            return [Image.new("RGB", (4, 4), (seed % 255, 0, 0)) for seed in seeds]

    z = open_run(trained.root).encode(1, trained.test_images(1)[0]).take([0] * 7)
    ids = [f"i{k}" for k in range(7)]
    albums = [painting._Album(tmp_path, Sampler(), 1, rank, 2) for rank in (0, 1)]
    for album in albums:
        album.add("neurovl", "average", "subj01", ids, z, ["x"] * 7, 0.9)
    files = [[one["file"] for one in album.journal.records] for album in albums]
    assert sorted(map(len, files)) == [3, 4] and not set(files[0]) & set(files[1])
    assert albums[0].pictures == albums[1].pictures
    assert [one["file"] for one in albums[0].pictures] == [
        f"neurovl-average/subj01/{i}.png" for i in ids
    ]
    assert set(files[0]) | set(files[1]) == {one["file"] for one in albums[0].pictures}
    again = painting._Album(tmp_path, None, 1, 0, 1)  # alone, after both: nothing is left to paint
    again.add("neurovl", "average", "subj01", ids, z, ["x"] * 7, 0.9)
    assert again.pictures == albums[0].pictures and not again.journal.records[len(files[0]) :]


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
    samples = painting.read_samples(run.folder)
    own = samples[samples.condition == ""]
    assert own.system.value_counts().to_dict() == {"neurovl": 10} | dict.fromkeys(SYSTEMS, 5)
    # Every noise strength with and without words, and pictures with three sets of silent voxels.
    assert len(samples) - len(own) == 2 * 2 * 3 + 3 * 3


INSTRUCTION, BRIEF = (PROMPTS[kind][0] for kind in ("reconstruction", "brief"))
# system: the encoder that is painted, the language model, the encoder that this one reads, what it is asked
SYSTEMS = {
    "no-llm": ("main", None, None, None),
    "no-vae": ("no-vae", "main", "main", INSTRUCTION),
    "per-subject": ("per-subject-subj01", "main", "main", INSTRUCTION),
    "per-subject-flat": ("per-subject-flat-subj01", "main", "main", INSTRUCTION),
    "brief-prompt": ("main", "main", "main", BRIEF),
    "flat": ("flat", "flat", "flat", INSTRUCTION),
    "flat-brief": ("flat", "flat", "flat", BRIEF),
    "other": ("main", "other", "main", INSTRUCTION),
    "other-brief": ("main", "other", "main", BRIEF),
    "true-embedding": None,
}


@pytest.mark.parametrize("system", [name for name, about in SYSTEMS.items() if about])
def test_a_system_paints_what_its_encoder_reads_and_its_language_model_says(trained, system):
    evaluation.reconstruct(run := open_run(trained.root))
    painted, speaker, heard, question = SYSTEMS[system]
    samples = painting.read_samples(run.folder)
    own = samples[(samples.system == system) & (samples.condition == "")]
    first, about = own.iloc[0], {"subject": 1, "image_id": own.image_id.iloc[0]}
    said = ""
    if speaker is not None:
        model, z = run.llm(speaker), run.encode(**about, variant=heard)
        said = model.generate(z.hidden, [question], max_new_tokens=4)[0]
    assert first.prompt == said
    z = run.encode(**about, variant=painted)
    beta = 1.0 if system == "no-vae" else run.profile.reconstruction.beta
    made = run.reconstructor().batch(z, [said], beta, [run.profile.seed * 100_003])[0]
    with Image.open(run.folder / "reconstructions" / first.file) as file:
        assert np.abs(np.asarray(file, float) - np.asarray(made, float)).max() <= 2


def test_other_language_models_answer_from_their_own_encoder(trained):
    evaluation.answer(run := open_run(trained.root))
    answers = run.tables.answers
    asked = answers.groupby("system", sort=False).size()
    assert asked.index.tolist() == [
        "neurovl",
        "shuffled",
        "no-brain",
        "flat",
        "other",
        "true-picture",
    ]
    assert asked["flat"] == asked["other"] == asked["no-brain"]
    assert set(answers[answers.protocol == "single"].system) == {"neurovl"}
    for name, encoder in (("flat", "flat"), ("other", "main")):
        one = answers[(answers.system == name) & (answers.type == "brief")].iloc[0]
        z = run.encode(1, one.image_id, variant=encoder)
        said = run.llm(name).generate(z.hidden, [one.question], max_new_tokens=4)
        assert said == [one.answer]
    # The encoder of flat voxels has no readout beside its width.
    widths = [run.llm(name).projector.first.in_features for name in ("main", "flat", "other")]
    assert widths == [40, 32, 40]


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
