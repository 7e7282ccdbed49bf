"""Drawn scenes: determinism, geometry of boxes and masks, and the truth of every word."""

import hashlib
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from neurovl.errors import ConfigError
from neurovl.smallworld.scenes import (
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    captions,
    make_scene,
    object_masks,
    questions,
    relations,
    render,
    scene_objects,
)

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
PEOPLE = ("man", "woman", "child", "person")


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(s, i) for s in ("foundation", "nsd") for i in range(400)]


def digest(scene):
    return hashlib.sha256(render(scene, 64).tobytes()).hexdigest()


def test_same_seed_same_scene_pixels_and_words():
    for stream, index in (("nsd", 3), ("foundation", 3), ("nsd", 72999)):
        one, two = make_scene(stream, index), make_scene(stream, index)
        assert one == two
        assert render(one, 96).tobytes() == render(two, 96).tobytes()
        assert captions(one) == captions(two) and questions(one) == questions(two)


def test_streams_are_disjoint():
    streams = [{digest(make_scene(s, i)) for i in range(200)} for s in ("nsd", "foundation")]
    assert all(len(s) >= 199 for s in streams)
    assert not streams[0] & streams[1]


def test_categories_are_those_of_coco():
    from_coco = {
        "person": 1,
        "car": 3,
        "stop sign": 13,
        "cat": 17,
        "giraffe": 25,
        "kite": 38,
        "pizza": 59,
        "dining table": 67,
        "tv": 72,
        "teddy bear": 88,
    }
    assert {n: CATEGORIES[n].coco_id for n in from_coco} == from_coco
    ids = [c.coco_id for c in CATEGORIES.values() if c.coco_id is not None]
    assert len(ids) == len(set(ids)) >= 28
    kinds = {c.supercategory for c in CATEGORIES.values() if c.coco_id is not None}
    assert len(kinds) >= 8
    others = {n for n, c in CATEGORIES.items() if c.coco_id is None}
    assert others == {"face", "house", "shoe", "scrambled"}
    assert all(c in COLOURS for k in CATEGORIES.values() for c in k.colours)


def test_every_category_is_frequent_and_streams_hold_the_right_ones():
    found = Counter()
    for i in range(3000):
        scene = make_scene("nsd", i)
        assert scene.background in BACKGROUNDS and scene.background != "studio"
        assert 1 <= len(scene.objects) <= 4
        found.update({o.category for o in scene.objects})
    assert set(found) == {n for n, c in CATEGORIES.items() if c.coco_id is not None}
    assert min(found.values()) > 0.025 * 3000  # 3 % but for the spread of sampling
    studio = [
        s for s in (make_scene("foundation", i) for i in range(1500)) if s.background == "studio"
    ]
    assert 0.05 < len(studio) / 1500 < 0.11
    assert {"face", "house", "shoe", "scrambled"} <= {s.objects[0].category for s in studio}


def test_viewports_show_the_same_scene():
    for i in range(8):
        scene = make_scene("nsd", i)
        wide = render(scene, (640, 480), view=(-1 / 6, 0, 7 / 6, 1))
        unit = render(scene, 480)
        crop = np.asarray(wide.crop((80, 0, 560, 480)), float)
        assert np.abs(crop - np.asarray(unit, float)).mean() < 1.5
        part = render(scene, 120, view=(0.25, 0.5, 0.5, 0.75))
        zoomed = unit.crop((120, 240, 240, 360))
        assert np.abs(np.asarray(zoomed, float) - np.asarray(part, float)).mean() < 3


def test_sizes_agree():
    scene = make_scene("nsd", 5)
    small = np.asarray(render(scene, 64), float)
    large = np.asarray(render(scene, 384).resize((64, 64), Image.Resampling.BOX), float)
    assert np.abs(small - large).mean() < 6


def test_masks_are_disjoint_and_inside_tight_boxes(scenes):
    size = 100
    for scene in scenes[:120] + scenes[400:520]:
        masks = object_masks(scene, size)
        assert masks.dtype == bool and masks.shape == (len(scene.objects), size, size)
        assert masks.sum(0).max() <= 1
        for mask, obj in zip(masks, scene.objects, strict=True):
            alone = object_masks(replace(scene, objects=(obj,), links=()), size)[0]
            assert not (mask & ~alone).any()
            assert mask.sum() >= 0.5 * alone.sum()
            ys, xs = np.nonzero(alone)
            drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / size
            assert np.abs(drawn - obj.box).max() < 2.6 / size


def test_masks_are_where_the_picture_changes():
    scene = make_scene("nsd", 11)
    size = 120
    empty = np.asarray(render(replace(scene, objects=(), links=()), size), float)
    full = np.asarray(render(scene, size), float)
    inside = object_masks(scene, size).any(0)
    changed = np.abs(full - empty).max(-1) > 12
    assert changed[inside].mean() > 0.85
    assert changed[~inside].mean() < 0.1


def test_annotations_are_the_coco_objects(scenes):
    for scene in scenes:
        rows = scene_objects(scene)
        assert len(rows) == sum(CATEGORIES[o.category].coco_id is not None for o in scene.objects)
        for row in rows:
            x0, y0, x1, y1 = row["box"]
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
            assert row["supercategory"] == CATEGORIES[row["category"]].supercategory


def test_relations_follow_from_boxes(scenes):
    opposite = {"left of": "right of", "above": "below", "in front of": "behind"}
    for scene in scenes:
        found = set(relations(scene))
        for i, relation, j in found:
            if relation in opposite:
                assert (j, opposite[relation], i) in found
        for i, relation, j in found:
            a, b = scene.objects[i].box, scene.objects[j].box
            if relation == "left of":
                assert a[0] + a[2] < b[0] + b[2]


def test_captions_have_the_shape_of_captions(scenes):
    words = set()
    for scene in scenes:
        five = captions(scene)
        assert len(five) == len(set(five)) == 5
        for text in five:
            assert 6 <= len(text.split()) <= 16
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |\bNone\b", text)
            words.update(text.replace(",", "").split())
    assert len(words) < 350


def test_captions_tell_the_truth(scenes):
    """Every colour and noun, count, place, time and weather said is in the graph."""
    nouns = sorted((n for n in CATEGORIES if n != "person"), key=len, reverse=True)
    tints = "|".join(COLOURS)
    for scene in scenes:
        have = Counter(o.category for o in scene.objects)
        pairs = {(o.category, o.colour) for o in scene.objects}
        for text in captions(scene):
            if scene.background == "studio":
                assert scene.objects[0].category in text
                continue
            rest = text
            for noun in nouns:  # long names first: a teddy bear is no bear
                plural = CATEGORIES[noun].plural
                said = re.findall(rf"(?:\b(\w+) )?(?:\b({tints}) )?\b({noun}|{plural})\b", rest)
                rest = re.sub(rf"\b({noun}|{plural})\b", "_", rest)
                for count, tint, word in said:
                    assert have[noun], (text, scene)
                    if tint or count in COLOURS:
                        assert (noun, tint or count) in pairs, (text, scene)
                    if count in NUMBERS:
                        assert have[noun] == NUMBERS[count], (text, scene)
                    if word == plural != noun:
                        assert have[noun] > 1, (text, scene)
            for tint, thing in re.findall(rf"\bin an? ({tints}) (shirt|dress)", text):
                assert ("person", tint) in pairs and thing in text
            for tint in re.findall(rf"\b(?:is|are) ({tints})$", text):
                assert tint in {o.colour for o in scene.objects if o.noun in text}
            for kind in ("man", "woman", "child"):
                if re.search(rf"\b{kind}\b", text):
                    assert any(o.noun == kind for o in scene.objects)
            for time in ("night", "sunset"):
                if re.search(rf"\bat {time}\b", text):
                    assert scene.time == time
            if re.search(r"\brain|\brainy", text):
                assert scene.weather == "rain"
            if re.search("sunny|sunshine|blue sky", text):
                assert scene.weather == "clear" and scene.time == "day"
            if "snowing" in text:
                assert scene.weather == "snow"


def test_answers_follow_from_the_graph(scenes):
    by_plural = {c.plural: n for n, c in CATEGORIES.items()}
    for scene in scenes:
        have = Counter(o.category for o in scene.objects)
        for question, answer in questions(scene):
            if m := re.match(r"is there an? (?:pair of )?(.+) in the picture", question):
                assert answer == ("yes" if have[m[1]] else "no")
            elif m := re.match(r"how many (.+) are there", question):
                assert NUMBERS[answer] == have[by_plural[m[1]]]
            elif m := re.match(r"what color (?:is|are) the (?:\w+ of the )?(.+)\?", question):
                assert answer in {o.colour for o in scene.objects if o.noun == m[1]}
            elif m := re.match(r"what is to the (left|right) of the (.+)\?", question):
                a = next(o for o in scene.objects if o.category == answer.removeprefix("the "))
                b = next(o for o in scene.objects if o.category == m[2])
                shift = (a.box[0] + a.box[2]) - (b.box[0] + b.box[2])
                assert (shift < 0) == (m[1] == "left")
            elif question.startswith("what time"):
                assert answer == scene.time
            elif question.startswith("what is the weather"):
                assert (
                    not scene.indoors
                    and {
                        "sunny": "clear",
                        "clear": "clear",
                        "cloudy": "cloudy",
                        "rainy": "rain",
                        "snowy": "snow",
                    }[answer]
                    == scene.weather
                )
            elif question.startswith("is this inside"):
                assert (answer == "inside") == scene.indoors


def test_empty_views_are_refused():
    with pytest.raises(ConfigError, match="expected positive extents"):
        render(make_scene("nsd", 0), 64, view=(0, 0, 0, 1))
