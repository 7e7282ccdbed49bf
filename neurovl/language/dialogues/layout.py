"""What follows from captions and boxes: counts, places, the largest thing, relations between two.

Boxes are (x0, y0, x1, y1) in 0..1 of the picture, y downwards. Depth cannot be told from boxes and
is left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurovl.errors import DataError
from neurovl.language.dialogues.wordings import words

# A thing whose centre is nearer than this to the picture's middle line is in the middle. Left and
# right count before top and bottom, as people say it; most things stand in the lower half anyway.
MIDDLE_X, MIDDLE_Y = 0.13, 0.2
# Centres nearer than this on both axes have no left, right, above or below.
CLOSE = 0.08

PLACE_PHRASES = {
    "left": "on the left",
    "right": "on the right",
    "middle": "in the middle",
    "top": "at the top",
    "bottom": "at the bottom",
}


@dataclass(frozen=True)
class Thing:
    """One object: its category, supercategory and box (x0, y0, x1, y1) in 0..1, y downwards."""

    name: str
    kind: str
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y) of the box."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self) -> float:
        """Area of the box as a fraction of the picture."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    @property
    def place(self) -> str:
        """`left`, `right`, `middle`, `top` or `bottom`: where the centre lies."""
        dx, dy = self.centre[0] - 0.5, self.centre[1] - 0.5
        if abs(dx) >= MIDDLE_X:
            return "left" if dx < 0 else "right"
        if abs(dy) >= MIDDLE_Y:
            return "top" if dy < 0 else "bottom"
        return "middle"

    def relation(self, other: "Thing") -> str:
        """`left of`, `right of`, `above`, `below` or `close to` the other, by the centres."""
        dx, dy = (mine - theirs for mine, theirs in zip(self.centre, other.centre, strict=True))
        if max(abs(dx), abs(dy)) < CLOSE:
            return "close to"
        if abs(dx) >= abs(dy):
            return "left of" if dx < 0 else "right of"
        return "above" if dy < 0 else "below"

    def distance(self, other: "Thing") -> float:
        """Distance between the two centres."""
        return math.dist(self.centre, other.centre)


def _inside(box: tuple[float, ...]) -> bool:
    x0, y0, x1, y1 = box
    # A little room for the rounding of annotations.
    return -0.01 <= x0 < x1 <= 1.01 and -0.01 <= y0 < y1 <= 1.01


@dataclass(frozen=True)
class Layout:
    """A picture's things, largest first, with the words of its captions."""

    things: tuple[Thing, ...]
    captions: tuple[str, ...]
    caption_words: frozenset[str]

    @classmethod
    def of(cls, captions: Sequence[str], objects: Sequence[Mapping]) -> "Layout":
        """Read captions and objects (dicts with `category`, `supercategory`, `box`).

        Raises
        ------
        DataError
            When there is neither a caption nor an object, or a box is not (x0, y0, x1, y1) in 0..1.
        """
        texts = tuple(" ".join(c.split()) for c in captions if c.strip())
        if not texts and not objects:
            raise DataError(
                "a picture has neither captions nor objects, expected one of them to write about; "
                "leave this picture out of the language data"
            )
        things = []
        for obj in objects:
            box = tuple(float(v) for v in obj["box"])
            if len(box) != 4 or not _inside(box):
                raise DataError(
                    f"the box of a {obj['category']} is {box}, expected (x0, y0, x1, y1) "
                    "with x0 < x1 and y0 < y1 in 0..1; divide pixels by width and height"
                )
            things.append(Thing(obj["category"], obj.get("supercategory", ""), box))
        things.sort(key=lambda t: (-t.area, t.name, t.box))
        said = frozenset(w for text in texts for w in words(text))
        return cls(tuple(things), texts, said)

    @property
    def counts(self) -> dict[str, int]:
        """Number of things of each category, the category with the largest thing first."""
        out: dict[str, int] = {}
        for thing in self.things:
            out[thing.name] = out.get(thing.name, 0) + 1
        return out

    @property
    def single(self) -> list[Thing]:
        """The things that are alone of their category: only they may be called `the` something."""
        counts = self.counts
        return [t for t in self.things if counts[t.name] == 1]

    def kinds(self, kind: str) -> list[str]:
        """Categories of a supercategory that are in the picture."""
        return list(dict.fromkeys(t.name for t in self.things if t.kind == kind))
