"""The grammar of the captions, and its parser: which sentences about scenes are well formed.

The rules are those by which `text` writes, without a scene: number and articles must agree, a kind of object has its
own verbs, places and times stand where they may stand. Whether a sentence is true of a scene, or likely (a blue cow at
sea), is not asked.
"""

from functools import cache

from neurovl.smallworld.scenes import vocabulary as words
from neurovl.smallworld.scenes.graph import CATEGORIES, COLOURS, INDOOR, KINDS
from neurovl.smallworld.scenes.habitats import HABITATS

STUDIO = tuple(c for c in CATEGORIES if c not in HABITATS)  # face, house, shoe, scrambled
_BE = {"one": "is", "many": "are"}
_DOWN = ("driving", "traveling")  # the verbs that go with "down the street"
_HELD = {  # what is held, flown, ridden or sat on -> the words between a person and it
    "umbrella": ("holding",),
    "kite": ("flying",),
    "surfboard": ("riding a wave on", "surfing on", "standing on"),
    "couch": ("sitting on",),
    "bench": ("sitting on",),
}
_CARRIERS = ("couch", "bed", "bench", "dining table")
_SITTERS = ("cat", "dog", "teddy bear", "bird")
_RIDERS = ("laptop", "cup", "bottle", "vase", "banana", "apple", "cake", "pizza")


def parse(caption: str) -> tuple | None:
    """Derive a caption from the grammar.

    Parameters
    ----------
    caption : str
        Upper or lower case; one full stop at the end is left out.

    Returns
    -------
    tuple or None
        The derivation: (symbol, part, ...), whose parts are derivations or words; None where there is none.
    """
    tokens = caption.lower().strip().removesuffix(".").replace(",", " ,").split()
    grammar, seen = _grammar(), {}

    def derive(symbol: str, start: int) -> dict[int, tuple]:
        """Ends that a symbol can reach from a word, each with one derivation."""
        if (symbol, start) not in seen:
            found: dict[int, tuple] = {}
            for parts in grammar[symbol]:
                ends = {start: (symbol,)}
                for part in parts:
                    ends = {
                        end: (*tree, more)
                        for at, tree in ends.items()
                        for end, more in follow(part, at)
                    }
                    if not ends:
                        break
                for end, tree in ends.items():
                    found.setdefault(end, tree)
            seen[symbol, start] = found
        return seen[symbol, start]

    def follow(part: str, at: int) -> list:
        if part in grammar:
            return list(derive(part, at).items())
        if not part or (at < len(tokens) and part.startswith(tokens[at])):
            literal = part.split()
            end = at + len(literal)
            return [(end, part)] if tokens[at:end] == literal else []
        return []

    return derive("CAPTION", 0).get(len(tokens)) if tokens else None


def grammatical(caption: str) -> bool:
    """Whether the grammar derives a caption."""
    return parse(caption) is not None


@cache
def _grammar() -> dict[str, list[tuple[str, ...]]]:
    """Symbols to alternatives; a part that is no symbol is read as words."""
    rules = _nouns() | _places() | _moments()
    kinds = list(HABITATS)
    rules["NP"] = [("ONE",), ("MANY",)]
    rules["ONE"] = [(f"one {c}",) for c in kinds]
    rules["MANY"] = [(f"many {c}",) for c in kinds]
    rules["IS"] = [("",), ("is",)]
    rules["SIDE"] = [
        (s,)
        for s in (
            "to the left of",
            "to the right of",
            "above",
            "below",
            "in front of",
            "behind",
            "next to",
        )
    ]
    rules["LIST"] = [("NP", "and", "NP"), ("NP", ",", "LIST")]
    rules["HEAD"] = [("",), ("a photo of",), ("a picture of",)]
    rules["VIEW"] = [("a photo of",), ("a picture of",), ("a close view of",), ("a view of",)]
    rules["CAPTION"] = [(s,) for s in ("LINKED", "ALOFT", "BESIDE", "SETTING", "PAIR", "SINGLE")]
    rules["CAPTION"] += [("STUDIO",)]
    rules["LINKED"] = _linked()
    aloft = [c for c in kinds if any(place == "sky" for _, place in HABITATS[c])]
    rules["FLIER"] = [(f"{n} {c}",) for c in aloft for n in ("one", "many")]
    rules["ALOFT"] = [("NP", "AT", "with", "FLIER", "in the sky", "MOMENT")]
    rules["BESIDE"] = [(f"one {c}", f"still {c}", "SIDE", "ONE", "AT", "MOMENT") for c in kinds]
    rules["SETTING"] = [("SCENE", "with", "LIST")]
    rules["PAIR"] = [
        ("HEAD", "NP", "and", "NP", "AT", "MOMENT"),
        ("there is", "ONE", "and", "NP", "AT", "MOMENT"),
        ("there are", "MANY", "and", "NP", "AT", "MOMENT"),
    ]
    rules["SINGLE"] = [("VIEW", "NP", "WHERE", "MOMENT")]
    rules["SINGLE"] += [
        (f"the {c}", "WHERE", f"be {c}", f"tint {c}") for c in kinds if c != "person"
    ]
    for number, be in _BE.items():
        rules["SINGLE"] += [("there", be, number.upper(), "WHERE", "MOMENT")]
        for c in kinds:
            rules["SINGLE"] += [(f"{number} {c}", f"go {c}", "MOMENT")]
            rules["SINGLE"] += [(f"{number} {c}", be, f"do {c}", "WHERE", "MOMENT")]
    for c in kinds:
        verbs = _verbs(c)
        rules[f"do {c}"] = [("",), *((v,) for v in verbs)]
        rules[f"still {c}"] = [("",), *((v,) for v in verbs if v in ("standing", "sitting"))]
        rules[f"go {c}"] = [(f"do {c}", "WHERE")]
        rules[f"go {c}"] += [(v, "DOWN") for v in verbs if v in _DOWN]
    rules["STUDIO"] = _studio()
    return rules


def _verbs(category: str) -> tuple[str, ...]:
    if category == "person":
        return ("standing", "walking")
    if category == "bird":
        return ("flying", "standing")
    own = words.VERBS.get(category)
    return () if own is None else (own, "parked") if category == "car" else (own,)


def _nouns() -> dict[str, list]:
    """Noun phrases: `one dog` derives "a small brown dog", `many dog` "two dogs"; `plain dog` is without a size."""
    rules = {}
    for c in CATEGORIES:
        tints = () if c == "person" else tuple(COLOURS)
        rules[f"tint {c}"] = [(t,) for t in tints]
        rules[f"be {c}"] = [("are" if c == "scissors" else "is",)]
        if c == "person":
            continue
        pair, noun = ("pair of ", "scissors") if c == "scissors" else ("", c)
        named = [f"{pair}{tint}{noun}" for tint in ("", *(f"{t} " for t in tints))]
        rules[f"plain {c}"] = [(words.article(n),) for n in named]
        rules[f"one {c}"] = rules[f"plain {c}"] + [
            (f"a {size} {n}",) for n in named for size in ("small", "large")
        ]
        several = "pairs of " if pair else ""
        plural = noun if pair else CATEGORIES[c].plural
        rules[f"many {c}"] = [
            (number, f"{several}{tint}{plural}")
            for number in words.NUMBERS[2:]
            for tint in ("", *(f"{t} " for t in tints))
        ]
    people = (*KINDS, "person")
    rules["DRESSED"] = [("",)]
    for tint in COLOURS:
        rules["DRESSED"] += [(f"in {words.article(tint)} {g}",) for g in ("shirt", "dress")]
    rules["one person"] = [(words.article(noun), "DRESSED") for noun in people]
    rules["plain person"] = rules["one person"]
    rules["many person"] = [
        (number, words.PLURALS[noun]) for number in words.NUMBERS[2:] for noun in people
    ]
    return rules


def _places() -> dict[str, list]:
    at = [p for background in words.AT.values() for p in background]
    near = [p for by in words.PLACES.values() for ps in by.values() for p in ps]
    walls = [f"on the wall of {words.article(background)}" for background in INDOOR]
    kinds = [
        f"{sort}{kind} scene"
        for kind in words.SETTINGS.values()
        for sort in ("", "sunny ", "cloudy ", "rainy ", "snowy ")
    ]
    return {
        "AT": [(p,) for p in at],
        "DOWN": [(p,) for p in near if p.startswith("down")],
        "WHERE": [
            (p,) for p in (*at, *near, *walls, *words.SKY.values()) if not p.startswith("down")
        ],
        "SCENE": [(words.article(kind),) for kind in kinds],
    }


def _moments() -> dict[str, list]:
    day = (
        "during the day",
        "on a sunny day",
        "on a clear day",
        "under a blue sky",
        "in the sunshine",
        "on a cloudy day",
        "under a cloudy sky",
        "under gray clouds",
        "in the rain",
        "on a rainy day",
        "while it is snowing",
        "on a snowy day",
        "under the stars",
        "under a red sky",
        "on a snowy night",
        "on a snowy evening",
    )
    late = [
        said.format(time)
        for time in ("night", "sunset")
        for said in (
            "at {}",
            "at {} under some clouds",
            "in the rain at {}",
            "at {} in the rain",
            "at {} while it is snowing",
        )
    ]
    return {"MOMENT": [("",), *((m,) for m in (*day, *late))]}


def _linked() -> list[tuple[str, ...]]:
    """Who holds, flies, rides or sits on what. `text` says "is" of several, too, and so does the grammar."""
    out = []
    for n in ("one", "many"):
        for m in ("one", "many"):
            tail = ("AT", "MOMENT")
            for thing, links in _HELD.items():
                out += [(f"{n} person", "IS", v, f"{m} {thing}", *tail) for v in links]
            for base in _CARRIERS:
                for who in _SITTERS:
                    out.append((f"{n} {who}", "IS", "sitting on", f"{m} {base}", *tail))
                for what in _RIDERS:
                    for v in ("on", "on top of", "is on"):
                        out.append((f"{n} {what}", v, f"{m} {base}", *tail))
    return out


def _studio() -> list[tuple[str, ...]]:
    out = [(s,) for s in words.SCRAMBLED]
    for c in CATEGORIES:
        if c == "scrambled":
            continue
        name = words.article("pair of scissors" if c == "scissors" else c)
        tinted = f"plain {c}"
        out += [
            (f"a picture of {name} on a plain background",),
            (f"a photo of {name} on a gray background",),
            (tinted, "on a plain gray background"),
            (tinted, "in front of a plain background"),
            ("a single picture of", tinted, "and nothing else"),
            ("there is", tinted, "on a plain background"),
            ("this is a close view of", tinted),
            (f"a large picture of {name} in a studio",),
        ]
    return out
