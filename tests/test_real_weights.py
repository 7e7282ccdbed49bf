"""Real photos, captions and small real networks through our parts; skipped where ../shared/data is not beside the project.

TAESD (latents of Stable Diffusion 1 and 2), stories260K (a Llama), SqueezeNet (ImageNet) and COCO's captions.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from neurovl.family.word_tokenizers import train_bpe
from neurovl.foundation.annotators import SUPERCATEGORIES
from neurovl.foundation.metric_networks import ImageNetwork
from neurovl.foundation.start_latents import start_latents
from neurovl.language import BrainLLM, Projector, fit_language
from neurovl.language.dialogues import Dialogue, prompt_ids
from neurovl.metrics import captions, two_way
from neurovl.metrics.captions import find_java, tokenize
from neurovl.settings.sections import Language


@pytest.fixture(scope="module")
def data(shared_data):
    if not (shared_data / "weights").is_dir() or not (shared_data / "coco").is_dir():
        pytest.skip("the folders weights and coco of ../shared/data are not here")
    return shared_data


@pytest.fixture(scope="module")
def photos(data):
    files = sorted((data / "coco" / "images").glob("*.jpg"))[:24]
    return [Image.open(f).convert("RGB") for f in files]


# TAESD: the latent space of Stable Diffusion 1 and 2


@pytest.fixture(scope="module")
def taesd(data):
    from diffusers import AutoencoderTiny
    from safetensors.torch import load_file

    network = AutoencoderTiny()
    weights = load_file(data / "weights" / "taesd" / "taesd.safetensors")
    network.load_state_dict({k: v.float() for k, v in weights.items()})
    return network.eval()


@pytest.fixture(scope="module")
def latents(taesd, photos):
    pixels = np.stack([np.asarray(p.resize((224, 224), Image.Resampling.BICUBIC)) for p in photos])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return x, taesd.encode(x).latents


def psnr(taesd, z, x) -> float:
    """Mean over pictures, in dB, pixels from 0 to 1."""
    with torch.no_grad():
        y = taesd.decode(z).sample.clamp(-1, 1)
    return float((-10 * ((y - x) / 2).square().mean((1, 2, 3)).log10()).mean())


def test_photos_survive_the_latent_space_of_stable_diffusion(taesd, latents):
    x, z = latents
    assert z.shape == (24, 4, 28, 28)
    assert 0.6 < float(z.std()) < 1.2  # scaled latents, which is what beta mixes with unit noise
    start = start_latents(z, 0.0, z.shape[1:], range(24))
    assert psnr(taesd, start, x) == pytest.approx(23.5, abs=0.3)


def test_the_picture_fades_as_beta_rises(taesd, latents):
    x, z = (part[:4] for part in latents)
    quality = [
        psnr(taesd, start_latents(z, beta, z.shape[1:], range(4)), x)
        for beta in (0.0, 0.25, 0.5, 0.75, 0.93)
    ]
    assert all(a - b > 1 for a, b in zip(quality, quality[1:], strict=False)), quality
    noise = start_latents(z, 1.0, z.shape[1:], range(4))
    other = start_latents(z.flip(0), 1.0, z.shape[1:], range(4))
    assert torch.equal(noise, other)  # nothing of the picture is left


# stories260K: a real Llama


def pieces_of(path: Path) -> list[tuple[str, float]]:
    """Tokens and scores of a llama2.c tokenizer, spaces as SentencePiece marks them."""
    raw, at, found = path.read_bytes(), 4, []
    while at < len(raw):
        score, n = struct.unpack_from("fi", raw, at)
        text = raw[at + 8 : at + 8 + n].decode()
        found.append((text.strip() if text.startswith("\n<") else text.replace(" ", "▁"), score))
        at += 8 + n
    return found


def to_transformers(path: Path):
    """LlamaForCausalLM from a llama2.c checkpoint, version 0."""
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocabulary, length = struct.unpack_from("7i", raw)
    values = torch.from_numpy(np.frombuffer(raw, np.float32, offset=28).copy())
    at = 0

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return values[at - n : at].view(shape)

    size = dim // heads

    def halves(weights):
        """Rotary pairs lie side by side there, and half a head apart in transformers."""
        n = weights.shape[1] // size
        return weights.view(layers, n, size // 2, 2, dim).transpose(2, 3).reshape(weights.shape)

    state = {"model.embed_tokens.weight": take(vocabulary, dim)}
    names = {"input_layernorm": take(layers, dim)}
    names["self_attn.q_proj"] = halves(take(layers, dim, dim))
    names["self_attn.k_proj"] = halves(take(layers, kv_heads * size, dim))
    names["self_attn.v_proj"] = take(layers, kv_heads * size, dim)
    names["self_attn.o_proj"] = take(layers, dim, dim)
    names["post_attention_layernorm"] = take(layers, dim)
    names["mlp.gate_proj"] = take(layers, hidden, dim)
    names["mlp.down_proj"] = take(layers, dim, hidden)
    names["mlp.up_proj"] = take(layers, hidden, dim)
    state |= {f"model.layers.{i}.{k}.weight": v[i] for k, v in names.items() for i in range(layers)}
    state["model.norm.weight"] = take(dim)
    assert at + length * size == len(values)  # what is left are the rotary tables
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict({k: v.clone() for k, v in state.items()}, strict=False)
    assert missing.unexpected_keys == [] and missing.missing_keys in ([], ["lm_head.weight"])
    model.tie_weights()
    return model.eval()


def story_tokenizer(pieces):
    """The same pieces as a tokenizer of transformers."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    ids = {text: i for i, (text, _) in enumerate(pieces)}
    merges = [
        (text[:k], text[k:])
        for text, _ in pieces[259:]
        for k in range(1, len(text))
        if text[:k] in ids and text[k:] in ids
    ]
    bpe = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    return tokenizer


@pytest.fixture(scope="module")
def pieces(data):
    return pieces_of(data / "weights" / "stories260K" / "tok512.bin")


@pytest.fixture
def stories(data, pieces):
    model = to_transformers(data / "weights" / "stories260K" / "stories260K.bin")
    return model, story_tokenizer(pieces)


def merged_by_score(pieces, text: str) -> list[str]:
    """llama2.c's way: always merge the neighbours whose union has the best score."""
    score, parts = dict(pieces[259:]), list("▁" + text.replace(" ", "▁"))
    while True:
        unions = [
            (score.get(a + b, -np.inf), -i)
            for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
        ]
        best, i = max(unions, default=(-np.inf, 0))
        if best == -np.inf:
            return parts
        parts[-i : -i + 2] = [parts[-i] + parts[-i + 1]]


def test_the_story_tokenizer_merges_as_its_own_program_does(stories, pieces):
    _, tokenizer = stories
    for text in ("Once upon a time, there was a little girl named Lily.", 'Tom said, "No way!"'):
        expected = merged_by_score(pieces, text)
        assert tokenizer.convert_ids_to_tokens(tokenizer.encode(text)) == expected
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_converted_llama_tells_its_own_story(stories):
    """The greedy story that llama2.c's own test expects."""
    model, tokenizer = stories
    out = model.generate(
        torch.tensor([[1]]), max_new_tokens=90, do_sample=False, pad_token_id=2, use_cache=True
    )
    assert tokenizer.decode(out[0], skip_special_tokens=True).startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
        "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    )


def perplexity(model, tokenizer, text: str) -> float:
    ids = torch.tensor([[1, *tokenizer.encode(text, add_special_tokens=False)]])
    with torch.no_grad():
        return float(model(ids, labels=ids).loss.exp())


def test_shuffled_words_surprise_it(stories):
    text = "The little dog ran to the park and saw a big red ball. He was very happy."
    words = text.split()
    order = np.random.default_rng(0).permutation(len(words))
    plain = perplexity(*stories, text)
    assert plain < 8 and perplexity(*stories, " ".join(words[i] for i in order)) > 4 * plain


N, D = 4, 16  # brain tokens and their width


@pytest.fixture
def brain_stories(stories):
    torch.manual_seed(0)
    return BrainLLM(*stories, Projector(D, 64)).eval()


def test_brain_tokens_change_the_story(brain_stories):
    model = brain_stories
    brains = 30 * torch.randn(3, N, D, generator=torch.Generator().manual_seed(1))
    told = model.generate(brains, ["Once upon a time"] * 3, max_new_tokens=25)
    assert len(set(told)) == 3
    ids = torch.tensor([prompt_ids(model.tokenizer, [], "Once upon a time", N)] * 3)
    embeds = model.embed(ids, brains)
    at = ids == model.image_id
    torch.testing.assert_close(embeds[at], model.projector(brains).flatten(0, 1))
    words = model.llm.get_input_embeddings()(ids[~at])
    torch.testing.assert_close(embeds[~at], words)


def test_the_cache_gives_what_the_full_pass_gives(brain_stories):
    model = brain_stories
    brains = torch.randn(1, N, D, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([prompt_ids(model.tokenizer, [], "Once upon a time", N)])
    with torch.no_grad():
        embeds, cache, new = model.embed(ids, brains), None, []
        step = embeds
        for _ in range(30):
            out = model.llm(inputs_embeds=step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            full = model.llm(inputs_embeds=embeds, use_cache=False).logits[:, -1]
            torch.testing.assert_close(out.logits[:, -1], full, atol=1e-3, rtol=1e-3)
            full[0, model.image_id] = -torch.inf
            new.append(int(full.argmax()))
            step = model.llm.get_input_embeddings()(torch.tensor([new[-1:]]))
            embeds = torch.cat([embeds, step], 1)
    expected = model.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert model.generate(brains, ["Once upon a time"], max_new_tokens=30) == [expected]


def test_a_projector_alone_learns_to_steer_the_frozen_llama(brain_stories):
    """Stage 1 of the paper on a real language model: each brain gets its own story, the Llama stays as it is."""
    model = brain_stories
    answers = ["a big cat.", "a red ball.", "a little girl.", "the sun."]
    brains = torch.randn(4, N, D, generator=torch.Generator().manual_seed(3))
    told = model.generate(brains, ["Lily saw"] * 4, max_new_tokens=8)
    assert not any(map(str.startswith, told, answers))
    before = {k: v.clone() for k, v in model.llm.state_dict().items()}
    curve = fit_language(
        model,
        brains,
        range(4),
        {i: [Dialogue("brief", i, (("Lily saw", a),), False)] for i, a in enumerate(answers)},
        Language(steps=(150, 0), batch_size=(4, 4), lr=(1e-2, 0.0), precision="no"),
        stages=[1],
    )
    assert curve[-1]["loss"] < curve[0]["loss"] / 5
    assert all(torch.equal(v, before[k]) for k, v in model.llm.state_dict().items())
    # It never learned to stop (its training texts have no end), so it goes on after the answer.
    told = model.generate(brains, ["Lily saw"] * 4, max_new_tokens=12)
    assert all(map(str.startswith, told, answers)), told


# SqueezeNet: an ImageNet network as a metric network


@pytest.fixture(scope="module")
def squeezenet(data):
    from torchvision.models import squeezenet1_0

    stored = np.load(data / "weights" / "squeezenet1_0" / "squeezenet10_decoded_fp32.npz")
    layers = {"conv1": "features.0", "conv10": "classifier.1"}
    places = (3, 4, 5, 7, 8, 9, 10, 12)
    layers |= {f"fire{i + 2}": f"features.{k}" for i, k in enumerate(places)}
    state = {}
    for key in stored.files:
        layer, _, rest = key.rpartition(".")
        layer, _, part = layer.partition("/")
        name = ".".join(filter(None, [layers[layer], part.replace("squeeze1x1", "squeeze"), rest]))
        state[name] = torch.from_numpy(stored[key])
    # Caffe takes blue first and bytes; here red comes first and values go from 0 to 1.
    state["features.0.weight"] = state["features.0.weight"].flip(1)
    model = squeezenet1_0()
    model.load_state_dict(state)
    mean, std = [v / 255 for v in (123, 117, 104)], [1 / 255] * 3
    nodes = {"features.3": "early", "features.12": "late", "flatten": "logits"}
    return ImageNetwork(model, nodes, 227, mean, std)


IMAGENET = {
    "pizza": {963},
    "zebra": {340},
    "elephant": {101, 385, 386},
    "train": {466, 547, 705, 820},
    "giraffe": set(),
    "laptop": {620, 681},
    "airplane": {404, 895, 908},
    "bear": {294, 295, 296, 297},
    "toilet": {861, 999},
    "bus": {779, 874, 654},
    "banana": {954},
    "broccoli": {937},
}


def test_squeezenet_names_what_photos_show(squeezenet, data):
    """Photos filled by one object: with wrong channels or scale, none would be named rightly."""
    content = json.loads((data / "coco" / "annotations" / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    size = {i["id"]: (i["file_name"], i["width"] * i["height"]) for i in content["images"]}
    found = []
    for one in content["annotations"]:
        file, area = size[one["image_id"]]
        wanted = IMAGENET.get(names[one["category_id"]])
        if wanted and one["area"] > 0.25 * area and (file, names[one["category_id"]]) not in found:
            found.append((file, names[one["category_id"]]))
    assert len(found) >= 4
    right = []
    for file, name in found:
        picture = Image.open(data / "coco" / "images" / file).convert("RGB")
        top = squeezenet.features([picture])["logits"][0].argsort()[::-1][:5]
        right.append(bool(IMAGENET[name] & set(top.tolist())))
    assert np.mean(right) >= 0.6, list(zip(found, right, strict=True))


def test_imagenet_features_find_a_photo_again(squeezenet, photos):
    square = [ImageOps.fit(p, (256, 256)) for p in photos]
    changed = {
        "blurred": [p.filter(ImageFilter.GaussianBlur(3)) for p in square],
        "cropped": [p.crop((32, 32, 224, 224)) for p in square],
    }
    true = squeezenet.features(square)
    assert {k: v.shape[0] for k, v in true.items()} == dict.fromkeys(
        ("early", "late", "logits"), 24
    )
    order = np.roll(np.arange(24), 5)
    for name, pictures in changed.items():
        own = squeezenet.features(pictures)
        assert two_way(own["late"], true["late"]).mean() > 0.9, name
        assert abs(two_way(own["late"][order], true["late"]).mean() - 0.5) < 0.12, name
    assert two_way(true["late"], true["late"]).mean() == 1


# COCO's captions


@pytest.fixture(scope="module")
def coco_captions(data):
    content = json.loads((data / "coco" / "annotations" / "captions_val2017.json").read_text())
    by_image: dict[int, list[str]] = {}
    for one in content["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one["caption"])
    assert (len(by_image), sum(map(len, by_image.values()))) == (5000, 25014)
    return by_image


@pytest.fixture(scope="module")
def official():
    """pycocoevalcap's own tokenizer, run with our Java."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(find_java()).parent), prepend=":")
        yield lambda groups: PTBTokenizer().tokenize(
            {i: [{"caption": t} for t in g] for i, g in enumerate(groups)}
        )


def test_all_captions_have_the_tokens_of_pycocoevalcap(coco_captions, official):
    texts = [t for group in coco_captions.values() for t in group]
    theirs = [tokens[0] for tokens in official([[t] for t in texts]).values()]
    # The tokenizer joins "22 3/4" by a space that does not break, in 3 captions; all scores but ROUGE cut it there.
    assert sum("\xa0" in t for t in theirs) == 3
    assert tokenize(texts) == theirs


@pytest.fixture(scope="module")
def leave_one_out(coco_captions):
    """The first caption of each picture against the others."""
    groups = list(coco_captions.values())[:200]
    return [g[0] for g in groups], [g[1:] for g in groups]


@pytest.fixture(scope="module")
def human_scores(leave_one_out):
    return captions(*leave_one_out)


def test_caption_scores_are_those_of_pycocoevalcap(leave_one_out, human_scores, official):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references = leave_one_out
    refs, hyps = official(references), official([[t] for t in hypotheses])
    bleu, _ = Bleu(4).compute_score(refs, hyps, verbose=0)
    expected = {f"bleu{k + 1}": v for k, v in enumerate(bleu)}
    expected["cider"], per_image = Cider().compute_score(refs, hyps)
    expected["rouge"], _ = Rouge().compute_score(refs, hyps)
    for name, value in expected.items():
        assert human_scores[name].value == pytest.approx(value, abs=1e-9), name
    np.testing.assert_allclose(human_scores["cider"].per_image, per_image, atol=1e-9)


def test_people_agree_with_each_other_and_not_about_another_picture(leave_one_out, human_scores):
    hypotheses, references = leave_one_out
    other = captions(np.roll(hypotheses, 1).tolist(), references)
    least = {"bleu4": 0.15, "meteor": 0.2, "rouge": 0.4, "cider": 0.7}
    for name, value in least.items():
        assert human_scores[name].value > value, name
        assert human_scores[name].value > 1.5 * other[name].value, name
    assert human_scores["cider"].value > 7 * other["cider"].value


def test_no_caption_loses_a_token_in_our_tokenizer(coco_captions):
    texts = [" ".join(t.split()) for group in coco_captions.values() for t in group]
    tokenizer = train_bpe(
        (f" {t}" for t in texts[:5000]),
        vocab_size=2000,
        specials={"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"},
        max_length=512,
        frame=False,
    )
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    back = tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
    assert [t.strip() for t in back] == texts
    used = {i for row in ids for i in row}
    assert not used & set(tokenizer.all_special_ids)
    assert sum(map(len, ids)) < 0.5 * sum(map(len, texts))  # pieces, not letters


def test_the_detectors_categories_are_cocos(data):
    content = json.loads((data / "coco" / "annotations" / "instances.json").read_text())
    known = {name for names in SUPERCATEGORIES.values() for name in names.split(", ")}
    assert len(known) == 80 and known >= {c["name"] for c in content["categories"]}
