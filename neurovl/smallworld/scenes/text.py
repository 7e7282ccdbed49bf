"""Words about a scene: five captions as different people would write them, and questions.

Everything said follows from the scene graph; different captions mention different parts of it.
Lower case, no full stop. The words themselves are in vocabulary; dialogues are not made here.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from neurovl.smallworld.scenes.drawing import seed
from neurovl.smallworld.scenes.graph import CATEGORIES, Scene, SceneObject, relations
from neurovl.smallworld.scenes.habitats import HABITATS
from neurovl.smallworld.scenes.vocabulary import (
    AT,
    NUMBERS,
    PLACES,
    SAYS,
    SCRAMBLED,
    SETTINGS,
    SKY,
    UNCOLOURED,
    VERBS,
    article,
    plural,
)


def garment(obj: SceneObject) -> str:
    """What a person's colour is the colour of."""
    return "dress" if obj.noun == "woman" and obj.pose != "sitting" else "shirt"


class _Group:
    """All objects of one category, named together so that counts are never wrong."""

    def __init__(self, scene: Scene, members: list[int]) -> None:
        self.members = members
        self.objects = [scene.objects[i] for i in members]
        first = self.objects[0]
        self.category, self.count = first.category, len(members)
        same = {o.colour for o in self.objects}
        self.colour = first.colour if len(same) == 1 and first.category not in UNCOLOURED else ""
        self.be = "is" if self.count == 1 else "are"
        self.place = dict(HABITATS.get(self.category, ())).get(scene.background, "")
        self.carried = any(i in members for i, verb, _ in scene.links if verb not in ("flying",))

    def nouns(self, rng: np.random.Generator) -> str:
        kinds = {o.noun for o in self.objects}
        noun = kinds.pop() if len(kinds) == 1 else "person"
        if noun in ("man", "woman", "child") and rng.random() < 0.15:
            noun = "person"
        return noun if self.count == 1 else plural(noun)

    def phrase(self, rng: np.random.Generator, colour: float = 0.65, sized: bool = True) -> str:
        """An indefinite noun phrase such as "two brown dogs" or "a man in a red shirt"."""
        noun, one = self.nouns(rng), self.objects[0]
        tint = self.colour if self.colour and rng.random() < colour else ""
        if self.category == "scissors":
            pair = "pair of " if self.count == 1 else "pairs of "
            noun = pair + (f"{tint} scissors" if tint else "scissors")
        elif tint:
            noun = f"{tint} {noun}"
        if sized and self.count == 1 and self.category != "person":
            often = {"large": 0.14, "medium": 0.0, "small": 0.3}[one.size]
            noun = (f"{one.size} " if rng.random() < often else "") + noun
        if self.count > 1:
            return f"{NUMBERS[self.count]} {noun}"
        if self.category == "person" and rng.random() < colour:
            return f"{article(noun)} in {article(one.colour)} {garment(one)}"
        return article(noun)

    def definite(self) -> str:
        """ "the dog" or "the two dogs"."""
        kinds = {o.noun for o in self.objects}
        noun = kinds.pop() if len(kinds) == 1 else "person"
        return f"the {noun}" if self.count == 1 else f"the {NUMBERS[self.count]} {plural(noun)}"

    def verb(self, scene: Scene) -> str:
        """What all of them do, or ""."""
        if self.category == "person":
            poses = {o.pose for o in self.objects}
            return poses.pop() if len(poses) == 1 and poses <= {"standing", "walking"} else ""
        if self.category == "bird":
            return "flying" if self.place == "sky" else "standing"
        if self.category == "car" and self.place == "ground":
            return "parked"
        return VERBS.get(self.category, "")

    def where(self, scene: Scene, rng: np.random.Generator) -> str:
        """Where they are."""
        if self.carried:
            return _pick(rng, AT[scene.background])
        if self.place == "sky":
            return SKY[scene.background]
        if self.place == "wall":
            return f"on the wall of {article(scene.background)}"
        options = PLACES.get(self.place, {}).get(scene.background) or AT[scene.background]
        place = _pick(rng, options)
        if place.startswith("down") and self.verb(scene) not in ("driving", "traveling"):
            return options[1]
        return place


def _pick(rng: np.random.Generator, options: Sequence) -> Any:
    return options[rng.integers(len(options))]


def _groups(scene: Scene) -> list[_Group]:
    """Groups by category, the largest first."""
    members = defaultdict(list)
    for i, o in enumerate(scene.objects):
        members[o.category].append(i)
    groups = [_Group(scene, m) for m in members.values()]

    def area(g: _Group) -> float:
        return max((o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) for o in g.objects)

    return sorted(groups, key=area, reverse=True)


def _moment(scene: Scene, rng: np.random.Generator) -> str:
    """Time and weather as a phrase at the end."""
    if scene.background == "studio":
        return ""
    if scene.indoors:
        return "at night" if scene.time == "night" else _pick(rng, ("during the day", ""))
    day = scene.time == "day"
    late = "under the stars" if scene.time == "night" else "under a red sky"
    return _pick(
        rng,
        {
            "clear": ("on a sunny day", "on a clear day", "under a blue sky", "in the sunshine"),
            "cloudy": ("on a cloudy day", "under a cloudy sky", "under gray clouds"),
            "rain": ("in the rain", "on a rainy day"),
            "snow": ("while it is snowing", "on a snowy day"),
        }[scene.weather]
        if day
        else {
            "clear": (f"at {scene.time}", late),
            "cloudy": (f"at {scene.time}", f"at {scene.time} under some clouds"),
            "rain": (f"in the rain at {scene.time}", f"at {scene.time} in the rain"),
            "snow": (f"at {scene.time} while it is snowing", f"on a snowy {_evening(scene)}"),
        }[scene.weather],
    )


def _evening(scene: Scene) -> str:
    return "night" if scene.time == "night" else "evening"


def _setting(scene: Scene, rng: np.random.Generator) -> str:
    """The picture's place as a noun phrase: "a rainy city street", "a kitchen"."""
    kind = SETTINGS.get(scene.background, scene.background)
    if scene.indoors or scene.time != "day":
        return article(f"{kind} scene")
    sort = {"clear": "sunny", "cloudy": "cloudy", "rain": "rainy", "snow": "snowy"}[scene.weather]
    return article(f"{sort} {kind} scene")


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)


def _one(scene: Scene, groups: list[_Group], rng: np.random.Generator) -> str:
    """One caption from a random pattern."""
    a = groups[0] if len(groups) == 1 or rng.random() < 0.7 else _pick(rng, groups[1:])
    rest = [g for g in groups if g is not a]
    moment = _moment(scene, rng) if rng.random() < 0.5 else ""
    at = _pick(rng, AT[scene.background])
    held = [(i, v, j) for i, v, j in scene.links]
    draw = rng.random()
    if held and draw < 0.62:
        i, verb, j = _pick(rng, held)
        who = next(g for g in groups if i in g.members)
        what = next(g for g in groups if j in g.members)
        if who.category == "person" or verb == "sitting on":
            if verb == "riding":
                verb = _pick(rng, ("riding a wave on", "surfing on", "standing on"))
            link = verb if rng.random() < 0.75 else f"is {verb}"
        else:
            link = _pick(rng, ("on", "on top of", "is on"))
        subject, thing = who.phrase(rng), what.phrase(rng)
        return _join(subject, link, thing, at, moment)
    if rest and draw < 0.9:
        b = _pick(rng, rest)
        aloft = [g for g in (a, b) if g.place == "sky"]
        if len(aloft) == 1 and draw < 0.8:
            other = b if aloft[0] is a else a
            return _join(other.phrase(rng), at, "with", aloft[0].phrase(rng), "in the sky", moment)
        if draw < 0.66 and a.count == 1 and b.count == 1:
            pairs = [r for i, r, j in relations(scene) if i in a.members and j in b.members]
            linked = any({i, j} == {a.members[0], b.members[0]} for i, _, j in held)
            pairs = [r for r in pairs if not aloft or r not in ("in front of", "behind")]
            if pairs and not linked:
                relation = _pick(rng, pairs)
                verb = a.verb(scene) if a.verb(scene) in ("standing", "sitting") else ""
                level = abs(a.objects[0].box[3] - b.objects[0].box[3])
                near = level < 0.2 and not aloft
                if near and rng.random() < 0.5:
                    return _join(a.phrase(rng), verb, "next to", b.phrase(rng), at, moment)
                says = SAYS.get(relation, relation)
                return _join(a.phrase(rng), verb, says, b.phrase(rng), at, moment)
        if draw < 0.76 and scene.background in SETTINGS:
            names = [g.phrase(rng) for g in groups]
            listed = ", ".join(names[:-1]) + " and " + names[-1]
            return _join(_setting(scene, rng), "with", listed)
        joined = f"{a.phrase(rng)} and {b.phrase(rng)}"
        head = _pick(rng, ("", "", f"there {a.be} ", "a photo of ", "a picture of "))
        return _join(head + joined, at, moment)
    where = a.where(scene, rng)
    if draw < 0.2 and a.count == 1 and a.colour:
        be = "are" if a.category == "scissors" else "is"
        spot = at if where.startswith("down") else where
        return _join(f"the {a.category} {spot} {be}", a.colour)
    verb = "" if a.carried else a.verb(scene)
    phrase = a.phrase(rng, 0.75)
    if where.startswith("down") or draw < 0.55:
        return _join(phrase, verb, where, moment)
    if draw < 0.7:
        return _join(phrase, a.be, verb, where, moment)
    if draw < 0.82:
        return _join("there", a.be, phrase, where, moment)
    near = "a close view of" if a.objects[0].size == "large" else "a view of"
    head = _pick(rng, ("a photo of", "a picture of", near))
    return _join(head, phrase, where, moment)


def _studio(scene: Scene, rng: np.random.Generator) -> str:
    obj = scene.objects[0]
    if obj.category == "scrambled":
        return _pick(rng, SCRAMBLED)
    group = _groups(scene)[0]
    name = article("pair of scissors" if obj.category == "scissors" else obj.category)
    tinted = group.phrase(rng, 0.8, sized=False)
    return _pick(
        rng,
        (
            f"a picture of {name} on a plain background",
            f"a photo of {name} on a gray background",
            f"{tinted} on a plain gray background",
            f"{tinted} in front of a plain background",
            f"a single picture of {tinted} and nothing else",
            f"there is {tinted} on a plain background",
            f"this is a close view of {tinted}",
            f"a large picture of {name} in a studio",
        ),
    )


def captions(scene: Scene) -> list[str]:
    """Five different captions of 6 to 16 words; the same five for the same scene.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    list of str
        Lower case, without a full stop.
    """
    rng = seed("captions", scene.stream, scene.index)
    groups = _groups(scene)
    out: list[str] = []
    while len(out) < 5:
        text = _studio(scene, rng) if scene.background == "studio" else _one(scene, groups, rng)
        if 6 <= len(text.split()) <= 16 and text not in out:
            out.append(text)
    return out


def questions(scene: Scene) -> list[tuple[str, str]]:
    """Short questions whose answers follow from the scene graph.

    Returns
    -------
    list of (question, answer)
        Yes or no, counts, colours, what is beside what, where, time and weather. Weather is asked
        outdoors only, colours only where one object of its kind is there.
    """
    rng = seed("questions", scene.stream, scene.index)
    groups = _groups(scene)
    present = {g.category for g in groups}
    out = []
    for g in groups:
        name, many = g.category, CATEGORIES[g.category].plural
        if name == "scrambled":
            return [("is the picture scrambled?", "yes")]
        out.append(
            (
                f"is there {article('pair of scissors' if name == 'scissors' else name)} "
                "in the picture?",
                "yes",
            )
        )
        out.append((f"how many {many} are there?", NUMBERS[g.count]))
        one = g.objects[0]
        if g.count == 1 and name == "person":
            out.append((f"what color is the {garment(one)} of the {one.noun}?", one.colour))
        elif g.count == 1 and g.colour:
            verb = "are" if name == "scissors" else "is"
            out.append((f"what color {verb} the {name}?", g.colour))
    absent = [n for n in HABITATS if n not in present]
    for k in rng.choice(len(absent), size=len(groups), replace=False):
        name = "pair of scissors" if absent[k] == "scissors" else absent[k]
        out.append((f"is there {article(name)} in the picture?", "no"))
    single = {g.members[0]: g for g in groups if g.count == 1}
    beside = defaultdict(list)
    for i, relation, j in relations(scene):
        if relation in SAYS:
            beside[relation, j].append(i)
    for (relation, j), who in beside.items():
        if len(who) == 1 and who[0] in single and j in single:
            answer = single[who[0]].category
            out.append((f"what is {SAYS[relation]} the {single[j].category}?", f"the {answer}"))
    for i, verb, j in scene.links:
        who, what = scene.objects[i], scene.objects[j]
        if who.category == "person":
            out.append((f"what is the {who.noun} {verb}?", article(what.category)))
        else:
            out.append((f"what is the {who.category} on?", article(what.category)))
    if scene.background == "studio":
        return [*out, ("what is in the background?", "nothing")]
    out.append(("where is this?", AT[scene.background][0]))
    out.append(("is this inside or outside?", "inside" if scene.indoors else "outside"))
    out.append(("what time of day is it?", scene.time))
    if not scene.indoors:
        names = {"cloudy": "cloudy", "rain": "rainy", "snow": "snowy"}
        clear = "sunny" if scene.time == "day" else "clear"
        out.append(("what is the weather like?", names.get(scene.weather, clear)))
    return out
