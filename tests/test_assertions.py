"""What texts assert, by hand; the truth told of a scene is right throughout, another scene's is not."""

import numpy as np
import pytest

from neurovl.language.dialogues import dialogues
from neurovl.language.dialogues.assertions import asserted_details, judge, known_details
from neurovl.language.dialogues.layout import Layout
from neurovl.smallworld import scenes
from neurovl.smallworld.scenes.graph import CATEGORIES

NAMES = [name for name, one in CATEGORIES.items() if one.coco_id is not None]
BUS = {"category": "bus", "supercategory": "vehicle", "box": (0.0, 0.2, 0.3, 0.6)}
DOG = {"category": "dog", "supercategory": "animal", "box": (0.6, 0.2, 0.9, 0.6)}
LAYOUT = Layout.of(["a red bus beside a puppy and a man"], [BUS, DOG])


def test_things_by_hand():
    """Said: bus, dog (puppies), cat, person; there: bus and dog; the captions have a man besides."""
    found = judge("Two puppies, a cat and a woman look at a bus.", LAYOUT, NAMES)
    assert found.said == {"bus", "dog", "cat", "person"}
    assert found.right == {"bus", "dog", "person"} and found.there == {"bus", "dog"}
    scores = found.scores()
    assert scores["objects_recall"] == 1 and scores["objects_precision"] == 0.75
    assert scores["hallucinated"] == 0.25
    assert scores["objects_f1"] == pytest.approx(2 * 0.75 / 1.75)


def test_silence_finds_nothing_and_invents_nothing():
    assert set(judge("A picture.", LAYOUT, NAMES).scores().values()) == {0.0}


def test_details_by_hand():
    text = "A blue bus. The bus is on the left. The dog is left of the bus. The cat is at the top."
    assert asserted_details(text, NAMES) == {
        ("colour", "bus", "blue"),
        ("place", "bus", "left"),
        ("relation to bus", "dog", "left of"),
        ("place", "cat", "top"),
    }
    # Colour wrong, place right, relation wrong; of the cat nothing is known.
    found = judge(text, LAYOUT, NAMES)
    assert (found.details, found.right_details) == (3, 1)
    assert known_details(LAYOUT)["relation to dog", "bus"] == {"left of"}


def test_true_descriptions_are_right_and_other_pictures_ones_are_not():
    """Descriptions written by rule about 300 scenes, judged by their own scene and by the next."""
    own, other, details = [], [], np.zeros((2, 2), int)
    made = [scenes.make_scene("foundation", k) for k in range(300)]
    layouts = [Layout.of(scenes.captions(s), scenes.scene_objects(s)) for s in made]
    for k, scene in enumerate(made):
        talk = dialogues(
            scenes.captions(scene), scenes.scene_objects(scene), np.random.default_rng(k)
        )
        text = next((d.turns[0][1] for d in talk if d.type == "detailed"), None)
        if text is None or not layouts[k].things:  # a studio's face or shoe, which no box names
            continue
        for row, scores, layout in ((0, own, layouts[k]), (1, other, layouts[(k + 1) % 300])):
            found = judge(text, layout, NAMES)
            scores.append(list(found.scores().values()))
            details[row] += found.details, found.right_details
    recall, precision, f1, hallucinated = np.mean(own, 0)
    assert precision > 0.97 and hallucinated < 0.03 and recall > 0.9 and f1 > 0.9
    assert details[0, 1] / details[0, 0] > 0.97
    recall, precision, f1, _ = np.mean(other, 0)
    assert precision < 0.35 and recall < 0.35
    assert details[1, 1] / max(details[1, 0], 1) < 0.8
