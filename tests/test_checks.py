"""Closed questions in balanced pairs: true by the scene graph, and half right at most for who does not look."""

from collections import Counter

import pytest

from neurovl.language.dialogues.checks import (
    CHECKS,
    answerable,
    balanced_checks,
    checked_dialogues,
    said_colours,
)
from neurovl.language.dialogues.layout import Layout
from neurovl.smallworld import scenes
from neurovl.smallworld.scenes.graph import CATEGORIES


@pytest.fixture(scope="module")
def world():
    """Scenes by the name of their picture."""
    return {str(i): scenes.make_scene("foundation", i) for i in range(400)}


@pytest.fixture(scope="module")
def known(world):
    """Captions and objects of each picture, as a reader of NSD gives them."""
    captions = {i: scenes.captions(scene) for i, scene in world.items()}
    return captions, {i: scenes.scene_objects(scene) for i, scene in world.items()}


@pytest.fixture(scope="module")
def checks(known):
    return balanced_checks(*known, seed=0, most=60)


def test_all_types_are_asked_in_pairs_of_different_answers(checks):
    assert set(Counter(one.type for one in checks)) == set(CHECKS)
    pairs = {}
    for one in checks:
        pairs.setdefault(one.pair, []).append(one)
    for first, second in pairs.values():
        assert first.answer != second.answer and first.type == second.type
        if " left of " in first.question:
            assert first.image_id == second.image_id
            (one, other), (back, again) = (
                c.question[:-1].split(" the ", 1)[1].split(" left of the ") for c in (first, second)
            )
            assert (one, other) == (again, back)
        else:
            assert first.question == second.question and first.image_id != second.image_id


def test_who_does_not_look_is_right_half_of_the_time_at_most(checks):
    """The best answer to every question that a reader of the questions alone can know."""
    by_question = {}
    for one in checks:
        if " left of " not in one.question:
            by_question.setdefault(one.question, []).append(one.answer)
    for question, answers in by_question.items():
        assert max(Counter(answers).values()) <= len(answers) / 2, question
    said = Counter(one.answer for one in checks if " left of " in one.question)
    assert said["yes"] == said["no"] > 0
    assert any("larger" in question for question in by_question)


def test_answers_are_those_of_the_scene_graph(world, checks):
    """Colours, places and kinds of place are not read from the captions here but from the graph that was painted."""
    seen = Counter()
    for one in checks:
        scene = world[one.image_id]
        things = [o for o in scene.objects if CATEGORIES[o.category].coco_id is not None]
        named = [o for o in things if o.category in one.question or o.noun in one.question]
        if one.type == "scene":
            inside = scene.indoors or scene.background == "studio"
            assert one.answer == ("indoors" if inside else "outdoors")
        elif one.type == "yes/no":
            holds = any(f" {o.category}?" in one.question for o in things)
            assert one.answer == ("yes" if holds else "no"), one
        elif one.type == "colour":
            (thing,) = [o for o in things if one.question.endswith(f" the {o.category}?")]
            assert thing.colour == one.answer, one
        elif one.type == "comparison" and "left of" in one.question:
            first, second = sorted(named, key=lambda o: one.question.find(o.category))[:2]
            left = sum(first.box[::2]) < sum(second.box[::2])
            assert one.answer == ("yes" if left else "no"), one
        else:
            continue
        seen[one.type] += 1
    assert min(seen[k] for k in ("scene", "yes/no", "colour", "comparison")) > 10


def test_larger_is_by_area_and_only_where_it_is_clear():
    big = {"category": "bus", "supercategory": "vehicle", "box": (0.0, 0.0, 0.6, 0.6)}
    small = {"category": "dog", "supercategory": "animal", "box": (0.6, 0.6, 0.9, 0.9)}
    found = dict(answerable(Layout.of([], [big, small]), [])["comparison"])
    assert found["Is the bus larger than the dog?"] == "yes"
    assert found["Is the dog larger than the bus?"] == "no"
    near = small | {"box": (0.4, 0.4, 0.95, 0.95)}
    found = dict(answerable(Layout.of([], [big, near]), [])["comparison"])
    assert not any("larger" in question for question in found)


def test_what_captions_leave_open_is_not_asked():
    bus = {"category": "bus", "supercategory": "vehicle", "box": (0.0, 0.0, 0.6, 0.6)}
    two = answerable(Layout.of(["a red bus", "a blue bus on a street"], [bus]), ["bus", "dog"])
    assert two["colour"] == []
    hidden = answerable(Layout.of(["a puppy beside a bus"], [bus]), ["bus", "dog"])
    assert hidden["yes/no"] == [("Is there a bus?", "yes")] and hidden["scene"] == []
    assert said_colours("bus", ["the bus on the street is Grey", "a grey bus"]) == {"gray"}
    assert said_colours("person", ["a red person"]) == set()


def test_what_is_meant_is_not_named(known, checks):
    """The request says a kind, a place or a size; the answer is the one category that fits, read from the boxes here."""
    _, objects = known
    own = [one for one in checks if one.type == "reference"]
    assert len(own) > 40
    for one in own:
        assert f" {one.answer}" not in one.question
        things = objects[one.image_id]
        if "largest" in one.question:
            area = [(t["box"][2] - t["box"][0]) * (t["box"][3] - t["box"][1]) for t in things]
            assert things[area.index(max(area))]["category"] == one.answer
        elif " on the left" in one.question:
            left = {t["category"] for t in things if sum(t["box"][::2]) / 2 <= 0.5 - 0.13}
            assert left == {one.answer}
        elif "the animal" in one.question:
            animals = {t["category"] for t in things if t["supercategory"] == "animal"}
            assert animals == {one.answer}


def test_the_seed_fixes_the_pairs_and_pictures_are_asked_once(known):
    one, again, other = (balanced_checks(*known, seed, most=10) for seed in (1, 1, 2))
    assert one == again and one != other
    assert max(Counter(c.type for c in one).values()) == 20
    asked = Counter((c.question, c.image_id) for c in one)
    assert max(asked.values()) == 1


def test_what_is_taught_is_balanced_too(known):
    """At most two dialogues of three questions a picture, each with its true answer, no and yes about as often."""
    true = {(c.image_id, c.question): c.answer for c in balanced_checks(*known, seed=0)}
    talks = checked_dialogues(*known, seed=0)
    assert max(Counter(talk.image_id for talk in talks).values()) == 2
    turns = [(talk.image_id, *turn) for talk in talks for turn in talk.turns]
    assert all(true[image, question] == answer for image, question, answer in turns)
    assert max(len(talk.turns) for talk in talks) == 3 and all(talk.closed for talk in talks)
    said = Counter(answer for _, question, answer in turns if question.startswith("Is there"))
    assert abs(said["yes"] - said["no"]) < 0.2 * sum(said.values())
