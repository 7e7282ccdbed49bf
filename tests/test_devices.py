"""Training as it is started from the command line: killed with SIGKILL, and in two processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import psutil
import pytest
import torch

from neurovl import pipeline
from neurovl.encoder.alignment import predict
from neurovl.errors import ConfigError, MissingError, NeurovlError
from neurovl.language import BrainLLM
from neurovl.pipeline.together import dividing
from neurovl.settings.profile_files import load_profile
from neurovl.training.devices import accelerator_for

PROFILE = """
compute: {{device: cpu, together: {together}, checkpointing: {checkpointing}}}
preprocessing: {{patches: [5], off_mask: own}}
encoder: {{width: 32, layers: 2, heads: 2, head_hidden: 32, readout: 16}}
alignment: {{epochs: {epochs}, batch_size: 32, lr: 1.0e-3, synthetic: 0.5, precision: "no", ema: 0.9, variants: [main]}}
language: {{steps: [{steps}], batch_size: [4, 4], lr: [2.0e-3, 1.0e-3], precision: "no", method: {method}}}
lora: {{rank: 4, alpha: 8, dropout: {dropout}, lr: 1.0e-2, base: float32}}
"""
EPOCHS = 12  # 450 steps, a checkpoint every 200


def profile_at(path, **changes):
    usual = {"epochs": EPOCHS, "steps": "20, 20", "method": "full", "dropout": 0.0}
    usual |= {"together": "null", "checkpointing": "false"}
    path.write_text(PROFILE.format(**usual | changes))
    return load_profile(str(path))


def prepared(tiny_nsd, out, epochs=EPOCHS):
    run = pipeline.start(tiny_nsd, out, profile_at(out.with_name("mine.yaml"), epochs=epochs))
    pipeline.write_tokens(run)
    pipeline.embed_targets(run)
    return run


@pytest.fixture(scope="module")
def with_encoder(tiny_nsd, tmp_path_factory):
    """Makes runs that are ready for the language model, with the same encoder."""
    first = prepared(tiny_nsd, tmp_path_factory.mktemp("first") / "run", epochs=1)
    pipeline.train_encoder(first, "main")

    def make(folder, names, **settings):
        if settings.get("method") == "lora":
            pytest.importorskip("peft")
        profile = profile_at(folder / "mine.yaml", epochs=1, **settings)
        for name in names:
            shutil.copytree(first.folder, folder / name)
        return [pipeline.start(tiny_nsd, folder / name, profile) for name in names]

    return make


def start(*launcher, run, verb=("train", "encoder"), **more):
    command = [sys.executable, *launcher, "-m", "neurovl", *verb, "--run", str(run.folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | more
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def launcher(n):
    return (
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"),
        *("--num_processes", str(n), "--mixed_precision", "no", "--dynamo_backend", "no"),
    )


def killed_at(checkpoint, *launcher, run, **how):
    """Start a training, and kill all its processes when it has written a checkpoint."""
    first = start(*launcher, run=run, **how)
    end = time.monotonic() + 120
    while not checkpoint.exists() and first.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    launched = psutil.Process(first.pid)
    for process in [launched, *launched.children(recursive=True)]:
        process.kill()
    assert first.wait() == -signal.SIGKILL  # else it had ended already


def ended(*launcher, **how):
    """What a training said that came to its end."""
    again = start(*launcher, **how)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    return said


@pytest.mark.slow
def test_a_training_killed_with_sigkill_ends_with_the_same_weights(tiny_nsd, tmp_path):
    whole, killed = (prepared(tiny_nsd, tmp_path / name) for name in ("whole", "killed"))
    killed_at(killed.folder / "encoders/.main.partial/checkpoint/checkpoint.pt", run=killed)
    ended(run=killed)
    undisturbed = start(run=whole)
    assert undisturbed.wait() == 0
    weights = [(r.folder / "encoders/main/model.safetensors").read_bytes() for r in (whole, killed)]
    assert weights[0] == weights[1]
    curves = [(r.folder / "encoders/main/curve.csv").read_text() for r in (whole, killed)]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tiny_nsd, tmp_path):
    one, two = (prepared(tiny_nsd, tmp_path / name, epochs=2) for name in ("one", "two"))
    pipeline.train_encoder(one, "main")
    said = ended(*launcher(2), run=two)
    assert said.count("wrote") == 1  # the leader's
    assert "one of 2 processes" in said
    curves = [pd.read_csv(r.folder / "encoders/main/curve.csv") for r in (one, two)]
    assert len(curves[0]) > 50
    pd.testing.assert_frame_equal(*curves, rtol=1e-4)
    tokens = one.store.batch(1, range(50))
    a, b = (predict(r.encoder("main"), tokens) for r in (one, two))
    torch.testing.assert_close(a.clip, b.clip, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(a.vae, b.vae, rtol=1e-3, atol=1e-4)


METHODS = pytest.mark.parametrize("method", ["full", "lora"])


@pytest.mark.slow
@METHODS
def test_a_language_model_killed_in_its_second_stage_ends_with_the_same_weights(
    with_encoder, tmp_path, method
):
    settings = {"steps": "10, 240", "method": method, "dropout": 0.1}
    whole, killed = with_encoder(tmp_path, ("whole", "killed"), **settings)
    checkpoint = killed.folder / ".llm.partial/checkpoint/stage2/checkpoint.pt"
    killed_at(checkpoint, run=killed, verb=("train", "llm"))
    ended(run=killed, verb=("train", "llm"))
    pipeline.train_language(whole)
    for name in ("projector.safetensors", "llm/model.safetensors", "curve.csv"):
        contents = [(r.folder / "llm" / name).read_bytes() for r in (whole, killed)]
        assert contents[0] == contents[1], name
    assert not (killed.folder / "llm" / "checkpoint").exists()


@pytest.mark.slow
@METHODS
def test_two_processes_have_the_language_model_of_one(with_encoder, tmp_path, method):
    one, two = with_encoder(tmp_path, ("one", "two"), method=method)
    pipeline.train_language(one)
    said = ended(*launcher(2), run=two, verb=("train", "llm"))
    assert said.count("wrote") == 1  # the leader's
    assert ("divided among 2 processes" in said) == (method == "full")
    curves = [pd.read_csv(r.folder / "llm/curve.csv") for r in (one, two)]
    assert curves[0].stage.value_counts().to_dict() == {1: 20, 2: 20}
    pd.testing.assert_frame_equal(*curves, rtol=1e-4)
    a, b = (BrainLLM.from_pretrained(r.folder / "llm", device="cpu") for r in (one, two))
    for left, right in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_processes_that_divide_the_weights_are_killed_and_go_on(with_encoder, tmp_path):
    whole, killed = with_encoder(tmp_path, ("whole", "killed"), steps="10, 240", method="full")
    verb = ("train", "llm")
    folder = killed.folder / ".llm.partial/checkpoint/stage2"
    killed_at(folder / "checkpoint.pt", *launcher(2), run=killed, verb=verb)
    first, second = folder / "checkpoint.pt", folder / "share-1-of-2-step-200.pt"
    parts = [torch.load(file, weights_only=True)["model"] for file in (first, second)]
    name = "llm.model.layers.0.mlp.up_proj.weight"
    assert parts[0][name].shape == parts[1][name].shape
    assert not torch.equal(parts[0][name], parts[1][name])
    sizes = [sum(value.nbytes for value in part.values()) for part in parts]
    assert 0.9 < sizes[0] / sizes[1] < 1.1
    alone = start(run=killed, verb=verb)
    said = alone.communicate()[0]
    assert alone.returncode == 1 and "--num_processes 2" in said and "Traceback" not in said
    assert "continuing stage2 from step 200" in ended(*launcher(2), run=killed, verb=verb)
    ended(*launcher(2), run=whole, verb=verb)
    for name in ("projector.safetensors", "llm/model.safetensors", "curve.csv"):
        contents = [(r.folder / "llm" / name).read_bytes() for r in (whole, killed)]
        assert contents[0] == contents[1], name


@pytest.mark.slow
def test_one_command_trains_a_language_model_in_as_many_processes_as_are_set(
    with_encoder, tmp_path, capfd
):
    (one,) = with_encoder(tmp_path, ("one",))
    pipeline.train_language(one)
    (two,) = with_encoder(tmp_path, ("two",), together=2, checkpointing="true")
    pipeline.make(two, "llm")
    assert "divided among 2 processes" in capfd.readouterr().out
    curves = [pd.read_csv(r.folder / "llm/curve.csv") for r in (one, two)]
    pd.testing.assert_frame_equal(*curves, rtol=1e-4)
    (three,) = with_encoder(tmp_path, ("three",), together=3)
    with pytest.raises(NeurovlError, match="batch size is 4, expected a multiple of 3"):
        pipeline.make(three, "llm")
    assert not (three.folder / "llm").exists()


@pytest.mark.parametrize(
    "batches, parts, gpus, used",
    [
        ((32, 24), (1, 1), 8, 8),
        ((32, 24), (1, 1), 5, 4),
        ((32, 24), (16, 24), 4, 4),
        ((32, 24), (16, 24), 3, 2),
        ((7, 5), (1, 1), 4, 1),
    ],
)
def test_as_many_processes_as_the_batches_divide_among(batches, parts, gpus, used):
    profile = load_profile("smoke")
    language = replace(profile.language, batch_size=batches, accumulate=parts)
    assert dividing(replace(profile, language=language), gpus) == used


def test_other_verbs_refuse_several_processes(tiny_nsd, tmp_path):
    run = pipeline.start(tiny_nsd, tmp_path / "run", load_profile("smoke"))
    one = start(run=run, verb=("evaluate",), WORLD_SIZE="2", RANK="0")
    said = one.communicate()[0]
    assert one.returncode == 1
    assert "neurovl evaluate" in said and "expected one" in said and "Traceback" not in said


def test_a_division_that_accelerate_would_make_is_left_to_the_loop(monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with caplog.at_level("INFO", "neurovl"):
        accelerator = accelerator_for("no", "cpu")
    assert accelerator.distributed_type == "NO" and "ACCELERATE_USE_FSDP is not used" in caplog.text
    assert "ACCELERATE_USE_FSDP" not in os.environ


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("tensorbord", ConfigError, "no tracker"),
        ("swanlab", MissingError, "pip install swanlab,"),
        ("tensorboard", MissingError, r"pip install 'neurovl\[trackers\]'"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused(name, kind, words, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(kind, match=words):
        accelerator_for("no", "cpu", (name,), tmp_path)
