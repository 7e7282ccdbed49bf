"""The paper's metric networks with random weights: layers and preprocessing against torchvision, names, missing weights."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision.models as tv
from PIL import Image

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.picture_scores import score_pictures
from neurovl.evaluation.score_table import Table
from neurovl.foundation.clip import load_clip
from neurovl.foundation.metric import caption_network, metric_family
from neurovl.foundation.metric_networks import clip_s, preprocess
from neurovl.foundation.scenenet import load_scenenet
from neurovl.foundation.source import TINY
from neurovl.metrics import correlation_distance, two_way

FILES = {
    "AlexNet": "alexnet-owt-7be5be79.pth",
    "Inception v3": "inception_v3_google-0cc3c7bd.pth",
    "EfficientNet-B1": "efficientnet_b1-c27df63c.pth",
    "SwAV ResNet-50": "swav_800ep_pretrain.pth.tar",
}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {
        "AlexNet": tv.alexnet().eval(),
        "Inception v3": tv.inception_v3(
            transform_input=True, aux_logits=True, init_weights=False
        ).eval(),
        "EfficientNet-B1": tv.efficientnet_b1().eval(),
        "SwAV ResNet-50": tv.resnet50().eval(),
    }


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory):
    """Weights under the names of the real files; SwAV's as its authors saved it, the CLIPs are the tiny one."""
    home = tmp_path_factory.mktemp("weights")
    unused = ("classifier.", "fc.", "AuxLogits.")
    for name, model in models.items():
        state = {k: v for k, v in model.state_dict().items() if not k.startswith(unused)}
        if name.startswith("SwAV"):
            state = {f"module.{k}": v for k, v in state.items() if not k.endswith("tracked")}
            state |= {"module.prototypes.weight": torch.zeros(2, 2)}
        new = not name.startswith("SwAV")  # the older format cannot be memory-mapped
        torch.save(state, home / FILES[name], _use_new_zipfile_serialization=new)
    for name in ("ViT-L-14", "ViT-B-32"):
        shutil.copytree(TINY / "clip", home / name)
    return home


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(p).resize((425, 425), Image.Resampling.BICUBIC) for p in small]


def by_name(folder):
    return {m.name: m for m in metric_family(str(folder), "cpu")}


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("AlexNet", tv.AlexNet_Weights.IMAGENET1K_V1),
        ("Inception v3", tv.Inception_V3_Weights.IMAGENET1K_V1),
        ("EfficientNet-B1", tv.EfficientNet_B1_Weights.IMAGENET1K_V2),
    ],
)
def test_pictures_are_prepared_as_by_torchvision_without_its_crop(folder, name, official):
    network = by_name(folder)[name].load()
    size = official.transforms().resize_size[0]  # the crop that follows would cut the edges off
    reference = official.transforms(crop_size=size)
    for shape in ((425, 425), (120, 90), (512, 700)):
        pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels)
        torch.testing.assert_close(
            network.preprocess([picture])[0], reference(picture), atol=1e-6, rtol=1e-6
        )
    assert network.preprocess([picture]).shape == (1, 3, size, size)


def test_swav_takes_224_pixels_of_imagenet(folder):
    network = by_name(folder)["SwAV ResNet-50"].load()
    like = tv.AlexNet_Weights.IMAGENET1K_V1.transforms()
    assert (network.size, network.mean, network.std) == (224, tuple(like.mean), tuple(like.std))


def reference_features(models, name, x):
    """The named layers by hand."""
    model = models[name]
    with torch.no_grad():
        if name == "AlexNet":
            return {"alexnet2": model.features[:5](x), "alexnet5": model.features[:12](x)}
        if name == "EfficientNet-B1":
            return {"effnet": model.avgpool(model.features(x))}
        seen = {}
        handle = model.avgpool.register_forward_hook(lambda m, i, out: seen.update(out=out))
        model(x)
        handle.remove()
    return {"inception" if name.startswith("Inc") else "swav": seen["out"]}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("AlexNet", {"alexnet2": 192 * 31 * 31, "alexnet5": 256 * 15 * 15}),
        ("Inception v3", {"inception": 2048}),
        ("EfficientNet-B1", {"effnet": 1280}),
        ("SwAV ResNet-50", {"swav": 2048}),
    ],
)
def test_features_are_those_of_the_named_layers(folder, models, pictures, name, shapes):
    network = by_name(folder)[name].load()
    found = network.features(pictures[:3], batch_size=2)
    assert {k: v.shape for k, v in found.items()} == {k: (3, n) for k, n in shapes.items()}
    for key, expected in reference_features(models, name, network.preprocess(pictures[:3])).items():
        np.testing.assert_allclose(found[key], expected.flatten(1), atol=1e-4, rtol=1e-4)


def test_names_are_the_papers_and_the_small_world_keeps_its_own(folder):
    scores = [s for m in metric_family("paper", "cpu") for s in m.scores]
    assert scores == [
        "two_way_alexnet2",
        "two_way_alexnet5",
        "two_way_inception",
        "two_way_clip",
        "distance_effnet",
        "distance_swav",
    ]
    assert [s for m in by_name(folder).values() for s in m.scores] == scores
    small = [s for m in metric_family("tiny", "cpu") for s in m.scores]
    assert small == ["two_way_scenenet_early", "two_way_scenenet_late"]
    assert caption_network("tiny") is None
    assert caption_network(str(folder)).scores == ("clip_s",)


def test_identical_pictures_are_found_and_shuffled_ones_are_not(folder, pictures):
    network = by_name(folder)["AlexNet"].load()
    own = network.features(pictures)["alexnet5"]
    assert two_way(own, own).tolist() == [1.0] * len(pictures)
    np.testing.assert_allclose(correlation_distance(own, own), 0, atol=1e-12)
    rng = np.random.default_rng(0)
    shuffled = [two_way(own[rng.permutation(len(own))], own).mean() for _ in range(200)]
    assert abs(np.mean(shuffled) - 0.5) < 0.03


def test_clip_features_are_embeddings_of_pictures_resized_bilinearly(folder, pictures):
    found = by_name(folder)["CLIP ViT-L/14"].load().features(pictures)["clip"]
    clip = load_clip("tiny", "cpu")
    small = [p.resize((64, 64), Image.Resampling.BILINEAR) for p in pictures]
    pixels = torch.stack([torch.from_numpy(np.asarray(p) / 127.5 - 1) for p in small])
    with torch.no_grad():
        expected = clip.model.encode_image(pixels.permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_clip_s_by_hand(folder, pictures):
    clip = caption_network(str(folder), "cpu").load()
    texts = ["a red car", "two dogs", "a boat at the sea"]
    images = clip.embed_images(pictures[:3])
    said = clip.embed_texts([f"A photo depicts {t}" for t in texts]).numpy()
    a, b = images.numpy(), said
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(clip_s(clip, images, texts), 2.5 * np.maximum(cosine, 0), rtol=1e-5)


def test_missing_weights_are_named_with_the_command_that_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("neurovl.foundation.clip.cached_snapshot", lambda hub_id: None)
    (tmp_path / "empty").mkdir()
    for spec in ("paper", str(tmp_path / "empty")):
        for member in [*metric_family(spec, "cpu"), caption_network(spec, "cpu")]:
            with pytest.raises(MissingError, match="hf download timm/|curl -L") as problem:
                member.load()
            if member.name in FILES:
                assert FILES[member.name] in str(problem.value)
    assert "dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar" in (
        error_of(metric_family("paper", "cpu")[-1])
    )


def error_of(member) -> str:
    with pytest.raises(MissingError) as problem:
        member.load()
    return str(problem.value)


def test_broken_weights_are_refused(folder, tmp_path):
    name = FILES["AlexNet"]
    state = torch.load(folder / name, weights_only=True)
    torch.save({k: v for k, v in state.items() if k != "features.3.weight"}, tmp_path / name)
    with pytest.raises(DataError, match="no weights for features.3.weight"):
        by_name(tmp_path)["AlexNet"].load()
    (tmp_path / name).write_bytes((folder / name).read_bytes()[:100_000])
    with pytest.raises(DataError, match="cannot be read"):
        by_name(tmp_path)["AlexNet"].load()
    torch.save({"features.0.weight": SimpleNamespace()}, tmp_path / name)  # code, not numbers
    with pytest.raises(DataError, match="cannot be read"):
        by_name(tmp_path)["AlexNet"].load()


@pytest.fixture
def run(tmp_path, pictures):
    """As much of a run as the scores of its pictures need: two systems, six pictures."""
    folder, rows, answers = tmp_path / "reconstructions", [], []
    folder.mkdir()
    ids = [f"image{i}" for i in range(6)]
    for system, turn in (("true-embedding", 0), ("neurovl", 1)):
        for i, image_id in enumerate(ids):
            made = pictures[(i + turn * (i % 2)) % 6]
            made.save(folder / f"{system}{i}.png")
            place = {"protocol": "average", "beta": 0.93, "prompt": "", "image_id": image_id}
            subject = "all" if turn == 0 else "subj01"
            place |= {"condition": "", "subject": subject, "file": f"{system}{i}.png"}
            rows.append({"system": system, **place})
    for system in ("neurovl", "no-brain"):
        for i, image_id in enumerate(ids):
            said = f"a {('dog', 'cat')[i % 2]}" if system == "neurovl" else "nothing"
            who = {"system": system, "protocol": "average", "subject": "subj01", "type": "brief"}
            answers.append({**who, "image_id": image_id, "turn": 0, "answer": said})
    pd.DataFrame(rows).to_csv(folder / "samples.csv", index=False)
    (tmp_path / "captions").mkdir()
    pd.DataFrame(answers).to_csv(tmp_path / "captions" / "answers.csv", index=False)
    recordings = SimpleNamespace(
        trials=pd.DataFrame({"image_id": ids}),
        image=lambda i: pictures[ids.index(i)],
        objects=lambda i: [{"category": "dog"}],
        captions=lambda i: ["a dog"],
    )
    models = SimpleNamespace(metric="tiny")
    evaluation = SimpleNamespace(permutations=5)
    profile = SimpleNamespace(
        models=models, compute=SimpleNamespace(device="cpu"), seed=0, evaluation=evaluation
    )
    return SimpleNamespace(folder=tmp_path, recordings=recordings, profile=profile)


def scored(run, metric):
    run.profile.models.metric = metric
    table = Table("test", "", 0, 20)
    score_pictures(run, table)
    return {(r.system, r.metric): r for r in table.rows}


def test_reconstructions_are_scored_under_the_networks_own_names(run, folder, pictures):
    small = scored(run, "tiny")
    assert {m for s, m in small if s == "neurovl"} == {
        "pixcorr",
        "ssim",
        "two_way_scenenet_early",
        "two_way_scenenet_late",
        "objects_found",
    }
    network = load_scenenet("tiny", "cpu")
    made = [pictures[(i + i % 2) % 6] for i in range(6)]
    late = [network.features(p)["scenenet_late"] for p in (made, pictures[:6])]
    row = small["neurovl", "two_way_scenenet_late"]
    assert row.value == pytest.approx(two_way(*late).mean()) and row.ceiling == 1
    assert 0.3 < row.chance < 0.7

    (folder / FILES["Inception v3"]).rename(folder / "away")
    try:
        real = scored(run, str(folder))
    finally:
        (folder / "away").rename(folder / FILES["Inception v3"])
    names = {m for s, m in real if s == "neurovl"}
    assert names >= {"two_way_alexnet2", "two_way_alexnet5", "two_way_clip", "clip_s"}
    assert not any("scenenet" in name or name == "objects_found" for name in names)
    assert real["true-embedding", "distance_swav"].value == pytest.approx(0, abs=1e-9)
    assert real["neurovl", "distance_swav"].value > 0
    empty = real["neurovl", "two_way_inception"]
    assert empty.value is None and FILES["Inception v3"] in empty.note and "curl -L" in empty.note
    clip = caption_network(str(folder), "cpu").load()
    said = [f"a {('dog', 'cat')[i % 2]}" for i in range(6)]
    expected = clip_s(clip, clip.embed_images(pictures[:6]), said).mean()
    assert real["neurovl", "clip_s"].value == pytest.approx(expected)
    assert real["no-brain", "clip_s"].value == pytest.approx(real["neurovl", "clip_s"].chance)


def test_preprocess_keeps_the_values_of_a_plain_picture():
    plain = Image.new("RGB", (50, 40), (255, 0, 128))
    out = preprocess([plain], 16, (0.5, 0.0, 0.0), (0.5, 1.0, 2.0))
    expected = torch.tensor([1.0, 0.0, 128 / 255 / 2]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    torch.testing.assert_close(out, expected)
