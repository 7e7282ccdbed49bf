"""Closed questions in balanced pairs: one question, two pictures, two true answers.

Who answers without looking is right half of the time at most, whatever pictures hold most often. What is left of what is asked both
ways round about one picture instead: no side is likelier than the other. The answers follow from boxes and captions by rule; a
question whose answer they leave open is not asked.

Reference: Goyal et al. 2017, CVPR (VQA v2), for pairs of pictures with the same question.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurovl.language.dialogues.composing import Dialogue
from neurovl.language.dialogues.layout import PLACE_PHRASES, Layout, Thing
from neurovl.language.dialogues.reasoning import place
from neurovl.language.dialogues.wordings import (
    COLOURS,
    PROMPTS,
    how_many,
    is_are,
    is_there,
    mentioned,
    number,
    the,
)

CHECKS = ("yes/no", "count", "colour", "position", "comparison", "scene", "reference")
KINDS = ("animal", "vehicle", "food", "furniture")  # words by which things may be meant
LARGER = 1.5  # times the area, before one thing counts as the larger
(LOCATE,) = PROMPTS["localization"]
SIDES = {"left of": "right of", "above": "below"}
MIRRORED = " left of "
TURNS = 3  # of a dialogue that teaches


@dataclass(frozen=True)
class Check:
    """A closed question about a picture.

    Attributes
    ----------
    type : str
        One of `CHECKS`.
    image_id : str
    question, answer : str
    pair : int
        The same for the two that are balanced: a question about two pictures, or one and its reverse about one.
    """

    type: str
    image_id: str
    question: str
    answer: str
    pair: int = -1


def answerable(layout: Layout, names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Every closed question about a picture whose answer is known, by type: (question, answer).

    Parameters
    ----------
    layout : Layout
    names : sequence of str
        Categories that are asked for, present or not.

    Examples
    --------
    >>> from neurovl.language.dialogues.checks import answerable
    >>> from neurovl.language.dialogues.layout import Layout
    >>> dog = {"category": "dog", "supercategory": "animal", "box": (0.1, 0.2, 0.6, 0.9)}
    >>> found = answerable(Layout.of(["A brown dog on the beach."], [dog]), ["dog", "cat"])
    >>> found["yes/no"], found["colour"], found["scene"]
    ([('Is there a dog?', 'yes'), ('Is there a cat?', 'no')], [('What colour is the dog?', 'brown')], [('Is this indoors or outdoors?', 'outdoors')])
    """
    said, counts = set(layout.caption_words), layout.counts
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in CHECKS}
    for name in names:
        if name in counts or not mentioned(name, said):
            found["yes/no"].append((is_there(name), "yes" if name in counts else "no"))
    for name, n in counts.items():
        found["count"].append((how_many(name), number(n)))
    for thing in layout.single:
        verb = is_are(thing.name, 1)
        colours = said_colours(thing.name, layout.captions)
        if len(colours) == 1:
            found["colour"].append((f"What colour {verb} {the(thing.name)}?", colours.pop()))
        found["position"].append((f"Where {verb} {the(thing.name)}?", thing.place))
    found["comparison"] = [
        pair
        for k, one in enumerate(layout.single)
        for other in layout.single[k + 1 :]
        for pair in _compared(one, other)
    ]
    found["reference"] = [(LOCATE.format(phrase), name) for phrase, name in _meant(layout)]
    where = place(layout)
    if where:
        found["scene"].append(("Is this indoors or outdoors?", where[0]))
    return found


def _meant(layout: Layout) -> list[tuple[str, str]]:
    """Ways to mean a category without its name, where one alone is meant: by its kind, its place, its size."""
    found = []
    for kind in KINDS:
        names = layout.kinds(kind)
        found += [(f"the {kind}", names[0])] if len(names) == 1 else []
    for where, phrase in PLACE_PHRASES.items():
        names = {thing.name for thing in layout.things if thing.place == where}
        found += [(f"the thing {phrase}", names.pop())] if len(names) == 1 else []
    if len(layout.counts) > 1:
        first, second = layout.things[:2]
        found += [("the largest thing", first.name)] if first.area >= LARGER * second.area else []
    return found


def said_colours(name: str, captions: Sequence[str]) -> set[str]:
    """The colours that captions give to a category: 'a red bus', 'the bus is red'.

    A person's are those of clothes, and not asked for.
    """
    if name == "person":
        return set()
    colour, found = "|".join(COLOURS), set()
    for caption in captions:
        text = caption.lower()
        found.update(re.findall(rf"\b({colour}) {re.escape(name)}\b", text))
        found.update(re.findall(rf"\bthe {re.escape(name)}\b[^,]*\bis ({colour})\b", text))
    return {"gray" if one == "grey" else one for one in found}


def _compared(one: Thing, other: Thing) -> list[tuple[str, str]]:
    """Questions about two things, each followed by its reverse, which has the other answer."""
    found, relation = [], one.relation(other)
    for first, second in ((one, other), (other, one)):
        verb = is_are(first.name, 1).title()
        for side, back in SIDES.items():
            if relation in (side, back):
                true = first.relation(second) == side
                asked = f"{verb} {the(first.name)} {side} {the(second.name)}?"
                found.append((asked, "yes" if true else "no"))
        if max(one.area, other.area) >= LARGER * min(one.area, other.area):
            asked = f"{verb} {the(first.name)} larger than {the(second.name)}?"
            found.append((asked, "yes" if first.area > second.area else "no"))
    half = len(found) // 2
    return [pair for both in zip(found[:half], found[half:], strict=True) for pair in both]


def balanced_checks(
    captions: Mapping[str, Sequence[str]],
    objects: Mapping[str, Sequence[Mapping]],
    seed: int,
    most: int | None = None,
) -> list[Check]:
    """Balanced pairs of questions of each type about some pictures.

    Of a question with several answers among the pictures two with different ones make a pair; of what is left of what, the question
    and its reverse about one picture. A picture is in at most one pair of a question.

    Parameters
    ----------
    captions, objects : mapping of picture to its captions, and to its objects
        As a reader of recordings gives them.
    seed : int
        Fixes which pairs are chosen.
    most : int, optional
        Pairs of a type; all where none is given.

    Examples
    --------
    >>> from neurovl.language.dialogues import balanced_checks
    >>> said = {"a": ["A red bus on a street."], "b": ["A blue bus on a street."]}
    >>> bus = {"category": "bus", "supercategory": "vehicle", "box": (0.1, 0.2, 0.6, 0.9)}
    >>> for check in balanced_checks(said, {"a": [bus], "b": [bus]}, seed=0):
    ...     print(check.image_id, check.question, check.answer)
    b What colour is the bus? blue
    a What colour is the bus? red
    """
    names = sorted({thing["category"] for things in objects.values() for thing in things})
    known: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in CHECKS}
    reverses: list[tuple[tuple[str, str], tuple[str, str]]] = []
    for image in captions:
        layout = Layout.of(captions[image], objects[image])
        for kind, pairs in answerable(layout, names).items():
            for question, answer in pairs:
                known[kind].setdefault(question, {})[image] = answer
            mirrored = [(question, image) for question, _ in pairs if MIRRORED in question]
            reverses += zip(mirrored[::2], mirrored[1::2], strict=True)
    found: list[Check] = []
    for k, kind in enumerate(CHECKS):
        rng = np.random.default_rng([seed, 53, k])
        options = [
            ((question, one), (question, other))
            for question, answers in known[kind].items()
            if MIRRORED not in question
            for one, other in _pairs(answers, rng)
        ]
        options += reverses if kind == "comparison" else []
        for chosen in rng.permutation(len(options))[:most]:
            pair = len(found) // 2
            found += [
                Check(kind, image, question, known[kind][question][image], pair)
                for question, image in options[chosen]
            ]
    return found


def checked_dialogues(
    captions: Mapping[str, Sequence[str]],
    objects: Mapping[str, Sequence[Mapping]],
    seed: int,
    each: int = 2,
) -> list[Dialogue]:
    """Dialogues of three balanced questions about pictures, at most `each` a picture, type 'checks'; for teaching.

    Parameters
    ----------
    captions, objects, seed
        As in `balanced_checks`.
    """
    about: dict[str, list[tuple[str, str]]] = {}
    for one in balanced_checks(captions, objects, seed):
        about.setdefault(one.image_id, []).append((one.question, one.answer))
    rng, found = np.random.default_rng([seed, 59]), []
    for image, turns in about.items():
        order = rng.permutation(len(turns))[: TURNS * each]
        for start in range(0, len(order), TURNS):
            some = tuple(turns[k] for k in order[start : start + TURNS])
            found.append(Dialogue("checks", image, some, closed=True))
    return found


def _pairs(answers: Mapping[str, str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Disjoint pairs of pictures with different answers, as many as there are; drawn from the two commonest answers first."""
    groups: dict[str, list[str]] = {}
    for image in rng.permutation(sorted(answers)).tolist():
        groups.setdefault(answers[image], []).append(image)
    found = []
    while sum(map(bool, groups.values())) > 1:
        first, second = sorted(groups, key=lambda one: (-len(groups[one]), one))[:2]
        found.append((groups[first].pop(), groups[second].pop()))
    return found
