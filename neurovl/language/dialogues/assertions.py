"""What a text asserts about a picture, and how much of it is so: things, their colours, places and relations.

The text is read by words and short phrases, in the words of COCO's captions or of the small world's; what captions and boxes leave
open is neither right nor wrong. Reference for hallucinated things: Rohrbach et al. 2018, EMNLP (CHAIR).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from neurovl.language.dialogues.checks import said_colours
from neurovl.language.dialogues.layout import PLACE_PHRASES, Layout
from neurovl.language.dialogues.wordings import mentioned, plural, words

PLACES = {phrase: place for place, phrase in PLACE_PHRASES.items()}
RELATIONS = ("left of", "right of", "above", "below", "close to")
# (what, category, value): a colour, a place, or a relation with another category.
Detail = tuple[str, str, str]


@dataclass(frozen=True)
class Assertions:
    """Of one text about one picture.

    Attributes
    ----------
    said : frozenset of str
        Categories that the text names.
    right : frozenset of str
        Those of them that boxes or captions hold.
    there : frozenset of str
        Categories that boxes hold: what is to be found.
    details, right_details : int
        Colours, places and relations that the text gives and that can be judged, and those that are so.
    """

    said: frozenset[str]
    right: frozenset[str]
    there: frozenset[str]
    details: int
    right_details: int

    def scores(self) -> dict[str, float]:
        r"""Recall, precision, F1 and hallucinated share of things, the last CHAIR_i.

        .. math:: R = \frac{|S \cap T|}{|T|} \quad P = \frac{|S \cap (T \cup C)|}{|S|} \quad F_1 = \frac{2 P R}{P + R}
                  \quad H = \frac{|S \setminus (T \cup C)|}{|S|}

        `S` is said, `T` in the boxes, `C` in the captions; a text that names nothing has precision and `H` 0.
        """
        n = len(self.said)
        recall = len(self.said & self.there) / len(self.there) if self.there else 0.0
        precision = len(self.right) / n if n else 0.0
        both = recall + precision
        return {
            "objects_recall": recall,
            "objects_precision": precision,
            "objects_f1": 2 * recall * precision / both if both else 0.0,
            "hallucinated": (n - len(self.right)) / n if n else 0.0,
        }


def judge(text: str, layout: Layout, names: Iterable[str]) -> Assertions:
    """What a text asserts about a picture.

    Parameters
    ----------
    text : str
    layout : Layout
        Of the picture.
    names : iterable of str
        Categories that there are.

    Examples
    --------
    >>> from neurovl.language.dialogues.assertions import judge
    >>> from neurovl.language.dialogues.layout import Layout
    >>> dog = {"category": "dog", "supercategory": "animal", "box": (0.1, 0.2, 0.4, 0.9)}
    >>> layout = Layout.of(["A brown dog on the beach."], [dog])
    >>> found = judge("A brown dog and a cat. The dog is on the right.", layout, ["dog", "cat"])
    >>> sorted(found.said), sorted(found.right), found.details, found.right_details
    (['cat', 'dog'], ['dog'], 2, 1)
    """
    names = list(names)
    spoken = set(words(text))
    said = frozenset(name for name in names if mentioned(name, spoken))
    heard = set(layout.caption_words)
    there = frozenset(layout.counts)
    right = frozenset(name for name in said if name in there or mentioned(name, heard))
    true = known_details(layout)
    told = [one for one in asserted_details(text, names) if one[:2] in true]
    return Assertions(said, right, there, len(told), sum(one[2] in true[one[:2]] for one in told))


def asserted_details(text: str, names: Iterable[str]) -> set[Detail]:
    """Colours, places and relations that a text gives to things: 'a red bus', 'the dog is on the left', 'left of the car'."""
    names, lower = tuple(names), text.lower()
    found: set[Detail] = set()
    sentences = re.split(r"[.!?]", lower)
    for name in names:
        if name in lower:
            found |= {("colour", name, one) for one in said_colours(name, sentences)}
    pattern, singular = _pattern(names)
    for said, where, relation, other in pattern.findall(lower):
        name = singular[said]
        found.add(
            (f"relation to {other}", name, relation) if other else ("place", name, PLACES[where])
        )
    return found


@cache
def _pattern(names: tuple[str, ...]) -> tuple[re.Pattern, dict[str, str]]:
    """Things that are at a place, or at a side of another thing; and what each form of their names stands for."""
    singular = {form: name for name in names for form in (name, plural(name))}
    things = "|".join(map(re.escape, sorted(singular, key=len, reverse=True)))
    others = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    where = f"({'|'.join(PLACES)})|({'|'.join(RELATIONS)}) the ({others})"
    return re.compile(rf"\b({things}) (?:is|are) (?:{where})\b"), singular


def known_details(layout: Layout) -> dict[tuple[str, str], set[str]]:
    """What boxes and captions say of things that are alone of their category; all answers that are so."""
    known: dict[tuple[str, str], set[str]] = {}
    for thing in layout.single:
        colours = said_colours(thing.name, layout.captions)
        if colours:
            known["colour", thing.name] = colours
        known["place", thing.name] = {thing.place}
        for other in layout.single:
            if other is not thing:
                known[f"relation to {other.name}", thing.name] = {thing.relation(other)}
    return known
