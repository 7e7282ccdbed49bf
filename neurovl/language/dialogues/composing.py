"""Dialogues of the six types, written from captions and objects with boxes alone.

The answers are true by construction as far as captions and boxes are; what neither holds (depth,
materials, moods) is never asked. A type whose evidence is missing in a picture is left out there.
"""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from neurovl.language.dialogues.layout import PLACE_PHRASES, Layout, Thing
from neurovl.language.dialogues.reasoning import (
    INDOORS,
    OUTDOORS,
    conclusions,
    evidence,
    place,
)
from neurovl.language.dialogues.wordings import (
    COLOURS,
    PAIRS,
    PROMPTS,
    a,
    counted,
    how_many,
    is_are,
    is_there,
    listed,
    mentioned,
    n_words,
    number,
    sentence,
    the,
)

if TYPE_CHECKING:
    from neurovl.recordings import Recordings

TYPES = ("brief", "detailed", "conversation", "reasoning", "reconstruction", "localization")
MAX_WORDS = 45
_PLACE_WORDS = "|".join([*OUTDOORS, *INDOORS, "living room"])


@dataclass(frozen=True)
class Dialogue:
    """Questions and answers about one picture.

    Parameters
    ----------
    type : str
        One of `TYPES`.
    image_id : str or None
        The picture's id in its data set.
    turns : tuple of (question, answer)
        The picture stands before the first question.
    closed : bool
        Every answer is one word (yes, no, a number, a place, a category), to be scored by accuracy.
    """

    type: str
    image_id: str | None
    turns: tuple[tuple[str, str], ...]
    closed: bool = False


def dialogues(
    captions: Sequence[str],
    objects: Sequence[Mapping],
    rng: np.random.Generator,
    image_id: str | None = None,
    categories: Mapping[str, float] | Sequence[str] | None = None,
) -> list[Dialogue]:
    """Write dialogues of all six types about one picture (paper section 3).

    Parameters
    ----------
    captions : sequence of str
    objects : sequence of dict
        `category`, `supercategory`, `box` (x0, y0, x1, y1) in 0..1, y downwards.
    rng : numpy Generator
        Draws captions, wordings, questions.
    image_id : str, optional
    categories : mapping of name to frequency, or names, optional
        What the data set holds: the absent things that are asked for come from here, as often as
        they are frequent (`category_frequencies`), so that a thing's name does not give away the
        answer. The default is the small world's frequencies.

    Returns
    -------
    list of Dialogue
        Two brief, one of each other type, and one more conversation that is not closed.

    Raises
    ------
    DataError
        When there is neither a caption nor an object, or a box is not in 0..1.

    Examples
    --------
    >>> from neurovl.language.dialogues import dialogues
    >>> dog = {"category": "dog", "supercategory": "animal", "box": (0.1, 0.2, 0.6, 0.9)}
    >>> made = dialogues(["A dog sleeps on the grass."], [dog], np.random.default_rng(0))
    >>> for question, answer in next(one for one in made if one.closed).turns:
    ...     print(question, answer)
    Is there a dog? yes
    Where is the dog? left
    What kind of thing is it? animal
    """
    layout = Layout.of(captions, objects)
    names = _frequencies(categories)
    out = [_brief(layout, rng) for _ in range(2)]
    out += [_detailed(layout, rng), _asked(layout, names, rng), _talk(layout, rng)]
    out += [_reasoning(layout, rng), _reconstruction(layout, rng)]
    out += [_localization(layout, names, rng) for _ in range(2)]
    return [Dialogue(kind, image_id, turns, closed) for kind, turns, closed in filter(None, out)]


def evaluation_set(recordings: "Recordings", image_ids: Sequence, seed: int) -> list[Dialogue]:
    """One fixed dialogue of every type for each picture; the conversation is the closed one.

    Parameters
    ----------
    recordings : Recordings
        Its `captions` and `objects` are read; the categories come from these pictures.
    image_ids : sequence of str
    seed : int
        With the picture's id it fixes every draw, whatever other pictures there are beside the
        frequencies of their categories.
    """
    objects = {image_id: recordings.objects(image_id) for image_id in image_ids}
    names = category_frequencies(objects.values())
    out = []
    for image_id in image_ids:
        rng = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
        found: dict[str, Dialogue] = {}
        for d in dialogues(
            recordings.captions(image_id), objects[image_id], rng, image_id, names or None
        ):
            if d.closed or d.type != "conversation":
                found.setdefault(d.type, d)
        out.extend(found.values())
    return out


def in_words(captions: Sequence[str], objects: Sequence[Mapping], rng: np.random.Generator) -> str:
    """A caption, then up to six things with their places, largest first: the picture in words.

    It stands where brain tokens will stand (`encode_dialogue(..., context=...)`), so that a
    language model can learn to answer from evidence before it has seen a brain.
    """
    layout = Layout.of(captions, objects)
    things = [f"{t.name} {t.place}" for t in layout.things[:6]]
    return " ".join(filter(None, [_caption(layout, rng), ", ".join(things)]))


def category_frequencies(objects: Iterable[Sequence[Mapping]]) -> dict[str, float]:
    """How often each category would be picked, one a picture: `categories` of `dialogues`.

    Parameters
    ----------
    objects : iterable over pictures of sequences of dict with `category`
    """
    out: dict[str, float] = {}
    for things in objects:
        names = sorted({thing["category"] for thing in things})
        for name in names:
            out[name] = out.get(name, 0.0) + 1 / len(names)
    return out


@cache
def _small_world() -> dict[str, float]:
    from neurovl.smallworld.scenes import make_scene, scene_objects

    return category_frequencies(scene_objects(make_scene("foundation", i)) for i in range(500))


def _frequencies(categories: Mapping[str, float] | Sequence[str] | None) -> dict[str, float]:
    if categories is None:
        return _small_world()
    if not isinstance(categories, Mapping):
        categories = dict.fromkeys(categories, 1.0)
    return {name: float(categories[name]) for name in sorted(categories)}


def _pick(items: Sequence, rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def _caption(layout: Layout, rng: np.random.Generator, longest: int = 40) -> str | None:
    fitting = [c for c in layout.captions if n_words(c) <= longest]
    if not fitting:
        fitting = sorted(layout.captions, key=n_words)[:1]
    return sentence(_pick(fitting, rng)) if fitting else None


def _absent(layout: Layout, names: Mapping[str, float], rng: np.random.Generator) -> str | None:
    """A category that neither boxes nor captions hold, drawn by frequency."""
    said = set(layout.caption_words)
    free = [n for n in names if n not in layout.counts and not mentioned(n, said) and names[n] > 0]
    if not free:
        return None
    weights = np.array([names[n] for n in free])
    return str(rng.choice(free, p=weights / weights.sum()))


# type, turns, closed; falsy where the picture has not what it takes
Composed = tuple[str, tuple[tuple[str, str], ...], bool] | str | list | None


def _brief(layout: Layout, rng: np.random.Generator) -> Composed:
    caption = _caption(layout, rng)
    return caption and ("brief", ((_pick(PROMPTS["brief"], rng), caption),), False)


def _detailed(layout: Layout, rng: np.random.Generator) -> Composed:
    parts = [_caption(layout, rng, longest=22)] if layout.captions else []
    if layout.things:
        first = layout.things[0]
        shown = [counted(name, n) for name, n in list(layout.counts.items())[:4]]
        name, n = next(iter(layout.counts.items()))
        parts.append(f"There {is_are(name, n)} {listed(shown)}.")
        for thing in layout.single[:2]:
            verb = is_are(thing.name, 1)
            parts.append(sentence(f"{the(thing.name)} {verb} {PLACE_PHRASES[thing.place]}"))
        if len(layout.things) > 1:
            second = layout.things[1]
            if layout.counts[first.name] == 1:
                parts.append(sentence(f"{the(first.name)} {is_are(first.name, 1)} the largest"))
            if first in layout.single and second in layout.single:
                verb = is_are(second.name, 1)
                parts.append(
                    sentence(
                        f"{the(second.name)} {verb} {second.relation(first)} {the(first.name)}"
                    )
                )
    answer = ""
    for part in parts:
        if n_words(f"{answer} {part}") <= MAX_WORDS:
            answer = f"{answer} {part}".strip()
    return answer and ("detailed", ((_pick(PROMPTS["detailed"], rng), answer),), False)


def _asked(layout: Layout, names: Mapping[str, float], rng: np.random.Generator) -> Composed:
    """The closed conversation: is there, how many, where, next to what, and a turn with `it`."""
    absent = _absent(layout, names, rng)
    present = list(layout.counts)
    if present and (absent is None or rng.random() < 0.5):
        name = _pick(present, rng)
        turns = [(is_there(name), "yes")]
    elif absent is not None:
        turns = [(is_there(absent), "no")]
        if not present:
            return "conversation", tuple(turns), True
        name = layout.things[0].name
        turns.append(("What is the largest thing?", name))
    else:
        return None
    n = layout.counts[name]
    thing = next(t for t in layout.things if t.name == name)
    # Most things come alone: were each of them counted, `one` would nearly always be right.
    if n > 1 or rng.random() < 0.3:
        turns.append((how_many(name), number(n)))
    else:
        turns.append((f"Where {is_are(name, 1)} {the(name)}?", thing.place))
    if n == 1 and name not in PAIRS:
        follow = _with_it(layout, thing, turns)
        turns += [_pick(follow, rng)] if follow else []
    elif n == 1:
        turns += _neighbours(layout, thing, the(name))[:1]
    return "conversation", tuple(turns), True


def _neighbours(layout: Layout, thing: Thing, subject: str) -> list[tuple[str, str]]:
    """Questions about what lies next to a thing, where one answer alone is right."""
    others = [t for t in layout.things if t.name != thing.name]
    out = []
    if others:
        out.append((f"What is next to {subject}?", min(others, key=thing.distance).name))
    for side in ("left of", "right of", "above", "below"):
        there = {t.name for t in others if t.relation(thing) == side}
        if len(there) == 1:
            out.append((f"What is {side} {subject}?", there.pop()))
    return out


def _with_it(layout: Layout, thing: Thing, turns: list) -> list[tuple[str, str]]:
    """Last questions that say `it` (of people, `this person`) for the thing asked about before."""
    it = "this person" if thing.name == "person" else "it"
    out = _neighbours(layout, thing, it)
    if not turns[-1][0].startswith("Where"):
        out.append((f"Where is {it}?", thing.place))
    if len(layout.things) > 1 and turns[0][1] == "yes":
        out.append((f"Is {it} the largest thing?", "yes" if thing is layout.things[0] else "no"))
    if thing.kind in ("animal", "vehicle", "food", "furniture") and thing.name != "potted plant":
        out.append((f"What kind of thing is {it}?", thing.kind))
    return out


def _talk(layout: Layout, rng: np.random.Generator) -> Composed:
    """The open conversation: what is there, then a reason, then where or why."""
    caption = _caption(layout, rng)
    if caption is None:
        return None
    turns = [(_pick(PROMPTS["brief"], rng), caption)]
    where, why = place(layout), evidence(layout)
    if where and rng.random() < 0.4:
        turns.append(("Is this indoors or outdoors?", f"It is probably {where[0]}."))
        turns.append(("Why?", f"Because the picture shows {where[1]}."))
    elif why and rng.random() < 0.5:
        turns.append(("Why?", why))
    else:
        found = conclusions(layout)
        turns += [_pick(found, rng)] if found else []
    return ("conversation", tuple(turns), False) if len(turns) > 1 else None


def _reasoning(layout: Layout, rng: np.random.Generator) -> Composed:
    found = conclusions(layout)
    return found and ("reasoning", (_pick(found, rng),), False)


def _reconstruction(layout: Layout, rng: np.random.Generator) -> Composed:
    caption = _caption(layout, rng)
    shown = [counted(name, n) for name, n in list(layout.counts.items())[:3]]
    answer = ", ".join([caption[:-1] if caption else "A picture", *shown])
    return "reconstruction", ((PROMPTS["reconstruction"][0], answer),), False


def _localization(layout: Layout, names: Mapping[str, float], rng: np.random.Generator) -> Composed:
    """The concept alone from a longer phrase; now and then it is one that the picture lacks.

    The concept is to be read in the request, not guessed from the brain.
    """
    absent = _absent(layout, names, rng)
    present = list(layout.counts)
    if present and (absent is None or rng.random() < 0.7):
        name = _pick(present, rng)
        phrases = _phrases(layout, name)
    elif absent is not None:
        name = absent
        phrases = [name, the(name), f"{the(name)} on the left", f"{a(name)} in the scene"]
    else:
        return None
    return "localization", ((PROMPTS["localization"][0].format(_pick(phrases, rng)), name),), True


def _phrases(layout: Layout, name: str) -> list[str]:
    """Ways to speak of a category in this picture, in its captions' words where they allow it."""
    n = layout.counts[name]
    out = [name, the(name, n)]
    thing = next(t for t in layout.things if t.name == name)
    if n == 1:
        out.append(f"{the(name)} {PLACE_PHRASES[thing.place]}")
        others = [t for t in layout.single if t.name != name]
        if others:
            other = min(others, key=thing.distance)
            out.append(f"{the(name)} {thing.relation(other)} {the(other.name)}")
    for caption in layout.captions:
        said = caption.lower()
        colour = re.search(rf"\b({'|'.join(COLOURS)}) {re.escape(name)}\b", said)
        spot = re.search(rf"\b(on|in|at) (a|the) ({_PLACE_WORDS})\b", said)
        if colour and n == 1:
            out.append(f"the {colour[0]}")
        if spot and n == 1:
            out.append(f"the {colour[0] if colour else name} {spot[0]}")
    return out
