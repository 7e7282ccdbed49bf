"""BLIP-2 and DETR as wrappers: tiny random models in the hub's own format, boxes and captions in ours."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    ResNetConfig,
)

from neurovl.errors import DataError, MissingError
from neurovl.foundation import annotators
from neurovl.foundation.annotators import (
    annotate,
    load_captioner,
    load_detector,
    read_annotations,
)
from neurovl.foundation.source import TINY
from neurovl.language.dialogues import dialogues


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip2")
    tokenizer = AutoTokenizer.from_pretrained(TINY / "llm")
    processor = Blip2Processor(
        BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer, num_query_tokens=3
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = {
        "model_type": "opt",
        "vocab_size": len(tokenizer),
        "ffn_dim": 16,
        "word_embed_proj_dim": 16,
    }
    text |= {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    config = Blip2Config(
        vision_config={**sizes, "image_size": 16, "patch_size": 8, "num_hidden_layers": 1},
        qformer_config={**sizes, "num_hidden_layers": 1, "encoder_hidden_size": 16},
        text_config={**sizes, **text, "num_hidden_layers": 1, "max_position_embeddings": 64},
        num_query_tokens=3,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return load_captioner(str(folder), "cpu")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detr")
    config = DetrConfig(
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], out_features=["stage2"]
        ),
        d_model=16,
        num_queries=5,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        id2label={0: "N/A", 1: "dog", 2: "dining table", 3: "spaceship"},
    )
    torch.manual_seed(0)
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return load_detector(str(folder), "cpu")


def test_captions_are_as_many_as_asked_and_follow_the_seed(captioner, picture):
    (first,) = captioner.captions([picture], 8, seed=1)
    assert len(first) == 8 and len(set(first)) > 1 and all(isinstance(t, str) for t in first)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert captioner.captions([picture], 8, seed=1) == [first]
    assert captioner.captions([picture], 8, seed=2) != [first]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any("<" in text for text in first)


def test_captions_of_several_pictures_are_each_one_s_own(captioner, picture):
    others = [picture, picture.rotate(90).resize((50, 90)), picture.convert("L")]
    # Where the likeliest token alone is drawn, what stands beside a picture changes nothing.
    together = captioner.captions(others, 2, top_p=1e-6)
    alone = [captioner.captions([one], 2, top_p=1e-6)[0] for one in others]
    assert together == alone and [len(said) for said in together] == [2, 2, 2]
    assert together[0][0] == together[0][1] != together[1][0]


def test_boxes_are_the_detectors_as_fractions(detector, picture):
    found = detector.objects(picture, threshold=0.0)
    inputs = detector.processor(images=picture, return_tensors="pt")
    with torch.no_grad():
        out = detector.model(**inputs)
    sure, label = out.logits[0].softmax(-1)[:, :-1].max(-1)
    names = {1: "dog", 2: "dining table", 3: "spaceship"}
    expected = []
    for k in sure.argsort(descending=True).tolist():
        x, y, w, h = out.pred_boxes[0, k].tolist()
        if int(label[k]):
            corners = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1)
            expected.append((names[int(label[k])], corners))
    assert [o["category"] for o in found] == [name for name, _ in expected] and found
    np.testing.assert_allclose([o["box"] for o in found], [b for _, b in expected], atol=1e-5)
    kinds = {"dog": "animal", "dining table": "furniture", "spaceship": ""}
    assert all(o["supercategory"] == kinds[o["category"]] for o in found)
    assert detector.objects(picture, threshold=1.0) == []


def test_annotations_are_written_once_and_continue_after_a_break(
    captioner, detector, picture, tmp_path, monkeypatch
):
    class Stops:
        """A captioner that breaks off at the second group of pictures."""

        count = 0

        def captions(self, *args):
            self.count += 1
            if self.count == 2:
                raise KeyboardInterrupt
            return captioner.captions(*args)

    class Sees:
        """Random weights are never sure, so that every box is taken here."""

        def objects(self, image):
            return detector.objects(image, threshold=0.0)

    monkeypatch.setattr(annotators, "TOGETHER", 2)
    pictures = [(f"p{i}", picture.rotate(20 * i)) for i in range(5)]
    whole = annotate(pictures, tmp_path / "whole.jsonl", captioner, Sees(), n=2)
    broken = tmp_path / "broken.jsonl"
    with pytest.raises(KeyboardInterrupt):
        annotate(pictures, broken, Stops(), Sees(), n=2)
    assert not broken.exists()
    partial = tmp_path / ".broken.jsonl.partial"
    with open(partial, "a") as file:
        file.write('{"image_id": "p2", "capt')  # cut short by the break
    opened = []
    lazy = [(i, lambda i=i, p=p: opened.append(i) or p) for i, p in pictures]
    annotate(lazy, broken, captioner, Sees(), n=2)
    assert opened == ["p2", "p3", "p4"] and not partial.exists()
    assert broken.read_bytes() == whole.read_bytes()
    found = read_annotations(broken)
    assert list(found) == [f"p{i}" for i in range(5)] and len(found["p0"]["captions"]) == 2
    assert found["p0"]["objects"] == Sees().objects(pictures[0][1])
    assert annotate([("other", picture)], broken, captioner, detector) == broken


def test_a_group_that_was_half_written_is_made_again(
    captioner, detector, picture, tmp_path, monkeypatch
):
    monkeypatch.setattr(annotators, "TOGETHER", 2)
    pictures = [(f"p{i}", picture.rotate(20 * i)) for i in range(4)]
    whole = annotate(pictures, tmp_path / "whole.jsonl", captioner, detector, n=2)
    lines = whole.read_text().splitlines(keepends=True)
    (tmp_path / ".again.jsonl.partial").write_text("".join(lines[:3]))
    again = annotate(pictures, tmp_path / "again.jsonl", captioner, detector, n=2)
    assert read_annotations(again) == read_annotations(whole)


def test_annotations_make_dialogues(detector, picture, tmp_path):
    line = {"image_id": "p", "captions": ["A dog lies on a table."]}
    line["objects"] = detector.objects(picture, threshold=0.0)
    (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n")
    one = read_annotations(tmp_path / "a.jsonl")["p"]
    talk = dialogues(one["captions"], one["objects"], np.random.default_rng(0))
    assert {d.type for d in talk} >= {"brief", "detailed"}


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"image_id": "p"}\n')
    with pytest.raises(DataError, match="bad.jsonl line 1"):
        read_annotations(tmp_path / "bad.jsonl")
    for load in (load_captioner, load_detector):
        with pytest.raises(MissingError, match="could not be loaded"):
            load(str(tmp_path), "cpu")
