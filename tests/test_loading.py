"""Loading of foundation models: from files that are here and nowhere else, named when missing, never unpickled."""

import ast
import json
import logging
import socket
from pathlib import Path

import open_clip
import pytest
import torch

from neurovl.errors import ConfigError, MissingError
from neurovl.foundation import clip, llm, scenenet, source, unclip, vae
from neurovl.foundation.source import TINY, cached_snapshot, dtype_for, resolve
from neurovl.settings.profile_files import profile_from_dict

PACKAGE = Path(__file__).parents[1] / "neurovl"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network: whoever asks it fails the test."""

    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tmp_path / "hub"
    assert asked == []


def put(hub: Path, hub_id: str, files: Path, revision: str = "main") -> Path:
    """A folder as the hub's cache holds it, as a link to the files."""
    repo = hub / f"models--{hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / revision).write_text("0" * 40)
    (repo / "snapshots").mkdir(exist_ok=True)
    (repo / "snapshots" / ("0" * 40)).symlink_to(files)
    return repo / "snapshots" / ("0" * 40)


LOADERS = {
    "clip": clip.load_clip,
    "unclip": unclip.load_unclip,
    "vae": vae.load_vae,
    "llm": llm.load_llm,
    "metric": scenenet.load_scenenet,
}


@pytest.mark.parametrize("part", LOADERS)
def test_a_hub_id_is_loaded_from_the_cache_alone(part, hub):
    with pytest.raises(MissingError, match="`hf download org/model`"):
        LOADERS[part]("org/model", "cpu")
    put(hub, "org/model", TINY / ("unclip" if part == "vae" else part))
    assert LOADERS[part]("org/model", "cpu") is not None


@pytest.mark.parametrize("part", LOADERS)
def test_a_folder_without_its_weights_is_named(part, hub, tmp_path):
    whole = TINY / ("unclip" if part == "vae" else part)
    for path in whole.rglob("*"):
        copy = tmp_path / "cut" / path.relative_to(whole)
        if path.is_file() and path.suffix != ".safetensors":
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    with pytest.raises(MissingError, match=r"could not be loaded.*expected a folder with config"):
        LOADERS[part](str(tmp_path / "cut"), "cpu")


def test_of_a_repository_and_its_mirrors_the_first_that_is_here_is_taken(hub):
    mirrors = ("first/unclip", "second/unclip")
    with pytest.raises(MissingError, match="first/unclip.*; or .*second/unclip"):
        resolve(mirrors, "unclip")
    there = put(hub, "second/unclip", TINY / "unclip")
    assert resolve(mirrors, "unclip") == str(there)
    assert resolve([*mirrors, "tiny"], "unclip") == str(there)
    assert vae.load_vae(mirrors, "cpu").shape == (4, 16, 16)


def test_a_revision_may_be_named(hub):
    there = put(hub, "org/model", TINY / "llm", revision="v1")
    assert cached_snapshot("org/model@v1") == there and cached_snapshot("org/model") is None
    with pytest.raises(MissingError, match="hf download org/other --revision v2"):
        resolve("org/other@v2", "llm")


SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def test_clip_by_architecture_and_tag_has_the_tags_settings(hub, tmp_path, monkeypatch):
    """Weights of a tag that needs QuickGELU and a preprocessing of its own, as OpenAI's do."""
    (tmp_path / "small-test.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(tmp_path / "small-test.json")
    tag = {"hf_hub": "org/small/", "url": "", "quick_gelu": True, "mean": (0.1, 0.2, 0.3)}
    tag |= {"std": (0.4, 0.5, 0.6), "interpolation": "bicubic", "resize_mode": "shortest"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small-test", {"openai": tag})
    with pytest.raises(MissingError, match="`hf download org/small`"):
        clip.load_clip("small-test/openai", "cpu")
    torch.manual_seed(0)
    reference = open_clip.create_model("small-test", force_quick_gelu=True).eval()
    (tmp_path / "files").mkdir()
    from safetensors.torch import save_file

    save_file(reference.state_dict(), tmp_path / "files" / "open_clip_model.safetensors")
    put(hub, "org/small", tmp_path / "files")
    loaded = clip.load_clip("small-test/openai", "cpu")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.encode_image(x), reference.encode_image(x))
    assert loaded.width == 16
    normalize = loaded.preprocess.transforms[-1]
    assert (tuple(normalize.mean), tuple(normalize.std)) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert loaded.embed_texts(["a cat"]).shape == (1, 16)


def test_a_clip_in_another_format_is_named(hub):
    put(hub, "org/other-format", TINY / "llm")
    with pytest.raises(MissingError, match="org/other-format has no open_clip_config.json"):
        clip.load_clip("hf-hub:org/other-format", "cpu")


def test_openais_clip_is_named_with_its_repository(hub):
    with pytest.raises(MissingError, match="hf download timm/vit_large_patch14_clip_224.openai"):
        clip.load_clip("ViT-L-14/openai", "cpu")


def test_auto_says_what_it_chose(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="neurovl.foundation.source")
    for cuda, name, why in ((False, "cpu", "no GPU"), (True, "cuda", "a GPU is here")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        caplog.clear()
        assert source.device_for("auto", "CLIP tiny") == name
        assert f"CLIP tiny runs on {name}" in caplog.text and why in caplog.text
    caplog.clear()
    assert source.device_for("cpu", "CLIP tiny") == "cpu" and not caplog.text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    scenenet.load_scenenet("tiny")
    assert "SceneNet runs on cpu" in caplog.text


def test_large_models_are_in_bf16_where_the_device_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    with open(tmp_path / "model-00001-of-00002.safetensors", "wb") as file:
        file.truncate(3 * 2**30)  # a hole, which takes no room
    assert dtype_for("cuda", tmp_path, "LLM") is torch.bfloat16
    assert dtype_for("cpu", tmp_path, "LLM") is torch.float32
    assert dtype_for("cuda", TINY / "llm", "LLM") is torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert dtype_for("cuda", tmp_path, "LLM") is torch.float32


def calls(name: str):
    """(module, call) of every call of a function or method of that name in the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == name:
                yield path, node


def test_no_pickle_is_ever_run():
    loads = [(p, n) for p, n in calls("load") if getattr(n.func.value, "id", "") == "torch"]
    assert len(loads) >= 3
    for path, node in loads:
        settings = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        assert settings.get("weights_only") is True, path
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "trust_remote_code" not in text and "pickle.load" not in text, path
        assert "use_safetensors=False" not in text and "allow_pickle=True" not in text, path


def test_nothing_but_the_folder_that_resolve_found_is_given_to_the_hubs_loaders():
    """A string in the place of a resolved folder could be a hub id, which transformers would fetch."""
    for part in ("foundation", "family", "language"):
        for path, node in calls("from_pretrained"):
            if path.is_relative_to(PACKAGE / part):
                assert not isinstance(node.args[0], ast.Constant), path
    for name in ("load_state_dict_from_url", "hf_hub_download", "urlopen"):
        for part in ("foundation", "family"):
            assert [p for p, _ in calls(name) if p.is_relative_to(PACKAGE / part)] == []


def test_a_pickle_in_the_place_of_weights_is_refused(tmp_path):
    """transformers reads old .bin files too, but as numbers only."""

    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    for path in (TINY / "llm").iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({"model.embed_tokens.weight": Code()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingError, match="could not be loaded"):
        llm.load_llm(str(tmp_path), "cpu")
    assert not (tmp_path / "touched").exists()


def test_mirrors_are_a_setting_of_the_profile():
    models = {"unclip": ["org/unclip", "copy/unclip"], "metric": "paper"}
    profile = profile_from_dict({"name": "own", "models": models})
    assert profile.models.unclip == ("org/unclip", "copy/unclip")
    assert profile_from_dict(profile.to_dict()) == profile
    with pytest.raises(ConfigError, match="section models has unclip 3"):
        profile_from_dict({"name": "own", "models": {"unclip": 3}})
