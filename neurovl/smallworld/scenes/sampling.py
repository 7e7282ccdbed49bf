"""Sampling of scene graphs: what is where, how large, in which light; the same for a seed anywhere.

Leaves out painting, words, and where each category lives (habitats).
"""

from collections.abc import Callable, Sequence

import numpy as np

from neurovl.smallworld.scenes.drawing import aspect, extents, seed
from neurovl.smallworld.scenes.graph import CATEGORIES, INDOOR, POSES, Scene, SceneObject
from neurovl.smallworld.scenes.habitats import HABITATS, SPOTS, WEIGHTS

Box = tuple[float, float, float, float]
Link = tuple[int, str, int]
Linked = tuple[list[SceneObject], list[Link]]

_STUDIO = (
    "face",
    "house",
    "cat",
    "bottle",
    "scissors",
    "shoe",
    "chair",
    "scrambled",
    "face",
    "house",
    "cat",
    "bottle",
    "scissors",
    "shoe",
    "chair",
    "scrambled",
    "car",
    "cup",
    "clock",
    "teddy bear",
    "dog",
    "vase",
)
_HERDS = (
    "bird",
    "sheep",
    "cow",
    "zebra",
    "elephant",
    "horse",
    "apple",
    "cup",
    "kite",
    "boat",
    "person",
    "bottle",
    "dog",
    "giraffe",
)
_SEATS = {"couch": 0.68, "bench": 0.6, "bed": 0.5, "dining table": 0.1}
_FIXED = ("stop sign", "clock", "laptop")  # never mirrored
_ON = {
    "couch": ("cat", "dog", "teddy bear"),
    "bed": ("cat", "teddy bear", "dog", "laptop"),
    "bench": ("cat", "bird"),
    "dining table": ("cup", "bottle", "vase", "banana", "apple", "cake", "pizza"),
}


def _style(rng: np.random.Generator, category: str, pose: str = "") -> int:
    style = int(rng.integers(0, 60))
    if category == "person":
        poses = ("standing", "walking")
        return style - style % 5 + POSES.index(pose or poses[rng.integers(2)])
    if category == "bird":
        return 0 if pose == "flying" else 1
    if category == "surfboard":
        return 1 if pose == "lying" else 0
    if category == "scrambled":
        return int(rng.integers(0, 100000))
    return style


def _label(box: Box) -> str:
    reach = max(box[2] - box[0], box[3] - box[1])
    return "small" if reach < 0.24 else "medium" if reach < 0.42 else "large"


def _make(
    rng: np.random.Generator, category: str, box: Box, *, style: int, colour: str | None = None
) -> SceneObject:
    names = CATEGORIES[category].colours
    if colour is None:
        colour = names[rng.integers(len(names))] if names else ""
    flip = bool(rng.random() < 0.5) and category not in _FIXED
    box = tuple(round(float(v), 4) for v in box)
    return SceneObject(category, colour, _label(box), box, flip, style)


def _fits(box: Box, others: Sequence[Box], most: float = 0.16) -> bool:
    """Whether a box is inside the picture and covers little of the others."""
    if box[0] < 0.02 or box[2] > 0.98 or box[1] < 0.02 or box[3] > 0.985:
        return False
    for o in others:
        wide = min(box[2], o[2]) - max(box[0], o[0])
        high = min(box[3], o[3]) - max(box[1], o[1])
        if wide > 0 and high > 0:
            area = min((box[2] - box[0]) * (box[3] - box[1]), (o[2] - o[0]) * (o[3] - o[1]))
            if wide * high > most * area:
                return False
    return True


def _extent(
    rng: np.random.Generator, ratio: float, main: bool, reach: float
) -> tuple[float, float]:
    """Width and height of a box of aspect `ratio`; the main object gets a large one."""
    if main:
        wide = rng.uniform(0.64, 0.84) if ratio > 1.7 else rng.uniform(0.46, 0.62)
        tall = rng.uniform(0.58, 0.76)
        w = min(wide, tall * ratio)
    else:
        w = reach * min(1.0, ratio)
    return w, w / ratio


def _drop(rng: np.random.Generator, background: str, place: str, w: float, h: float) -> Box:
    """A random box at a place."""
    low, high = SPOTS[background][place]
    x = rng.uniform(0.03, max(0.031, 0.97 - w))
    if place in ("sky", "wall", "middle"):
        y = rng.uniform(low, high)
        if background != "sky":
            y = max(y, h / 2 + 0.03)
        return x, y - h / 2, x + w, y + h / 2
    y = rng.uniform(low, high)
    if h > y - 0.03:
        y = min(0.97, h + 0.03)
    return x, y - h, x + w, y


def _hand(obj: SceneObject) -> tuple[float, float]:
    """Raised hand of a waving person, scene units."""
    u0, v0, u1, v1 = extents("person", obj.style)
    x0, y0, x1, y1 = obj.box
    s = (y1 - y0) / (v1 - v0)
    return (x1 - (23.5 - u0) * s if obj.flip else x0 + (23.5 - u0) * s), y0 + (0.0 - v0) * s


def _umbrella_held(rng: np.random.Generator, background: str, place: str) -> Linked | None:
    style = _style(rng, "person", "waving")
    ratio, umbrella = aspect("person", style), aspect("umbrella", 0)
    h = rng.uniform(0.5, 0.6)
    box = _drop(rng, background, place, h * ratio, h)
    person = _make(rng, "person", box, style=style)
    x, y = _hand(person)
    w = h * 0.72
    top = y + 0.035 - w / umbrella
    canopy = (x - w * 0.5, top, x + w * 0.5, y + 0.035)
    if not (_fits(canopy, []) and _fits(box, [])):
        return None
    return [_make(rng, "umbrella", canopy, style=0), person], [(1, "holding", 0)]


def _kite_flown(rng: np.random.Generator, background: str, place: str) -> Linked | None:
    style = _style(rng, "person", "waving")
    h = rng.uniform(0.4, 0.5)
    box = _drop(rng, background, place, h * aspect("person", style), h)
    w = rng.uniform(0.2, 0.28)
    kite = _drop(rng, background, "sky", w, w / aspect("kite", 0))
    person = _make(rng, "person", box, style=style)
    if not (_fits(box, [kite], 0.0) and _fits(kite, [])):
        return None
    return [_make(rng, "kite", kite, style=0), person], [(1, "flying", 0)]


def _surfing(rng: np.random.Generator, background: str, place: str) -> Linked | None:
    style = _style(rng, "person", "riding")
    h = rng.uniform(0.44, 0.54)
    box = _drop(rng, background, place, h * aspect("person", style), h)
    cx, w = (box[0] + box[2]) / 2, h * 0.95
    deep = w / aspect("surfboard", 1)
    board = (cx - w / 2, box[3] - deep * 0.62, cx + w / 2, box[3] + deep * 0.38)
    if not (_fits(box, []) and _fits(board, [])):
        return None
    objects = [_make(rng, "surfboard", board, style=1), _make(rng, "person", box, style=style)]
    return objects, [(1, "riding", 0)]


def _carried(rng: np.random.Generator, background: str, place: str, holder: str) -> Linked | None:
    """Furniture with somebody or something on it."""
    w, h = _extent(rng, aspect(holder, 0), True, 0)
    base = _drop(rng, background, place, w, h)
    carrier = _make(rng, holder, base, style=0)
    seat = base[1] + _SEATS[holder] * h
    sitter = holder in ("couch", "bench") and rng.random() < 0.5
    if sitter:
        rider = "person"
        style = _style(rng, rider, "sitting")
        tall = h * (1.16 if holder == "couch" else 1.42)
        foot = seat + tall * 0.275
    else:
        rider = _ON[holder][rng.integers(len(_ON[holder]))]
        style = _style(rng, rider)
        tall = 0.8 * h if holder != "dining table" else 0.75 * h
        if rider in ("laptop", "banana", "pizza"):
            tall *= 0.7
        foot = seat + 0.02
    wide = tall * aspect(rider, style)
    x = rng.uniform(base[0] + 0.06, max(base[0] + 0.061, base[2] - 0.06 - wide))
    box = (x, foot - tall, x + wide, foot)
    if not (_fits(base, []) and _fits(box, [])):
        return None
    verb = "sitting on" if rider in ("person", "cat", "dog", "teddy bear", "bird") else "on"
    return [carrier, _make(rng, rider, box, style=style)], [(1, verb, 0)]


def _recipe(rng: np.random.Generator, main: str, background: str, place: str) -> Callable | None:
    """A way to place two linked objects around the main category, if it has one."""
    if main == "umbrella" or (main == "person" and place != "road" and rng.random() < 0.2):
        if main == "umbrella" and rng.random() < 0.35:
            return None
        return _umbrella_held
    if background in ("beach", "park", "field") and (
        (main == "person" and rng.random() < 0.2) or (main == "kite" and rng.random() < 0.55)
    ):
        return lambda r, b, _: _kite_flown(r, b, "ground")
    if main in _SEATS and rng.random() < 0.5:
        return lambda r, b, p: _carried(r, b, p, main)
    return None


def _studio(rng: np.random.Generator) -> list[SceneObject]:
    category = _STUDIO[rng.integers(len(_STUDIO))]
    style = _style(rng, category)
    ratio = aspect(category, style)
    reach = rng.uniform(0.66, 0.8)
    w, h = (reach, reach / ratio) if ratio > 1 else (reach * ratio, reach)
    x, y = 0.5 + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.03, 0.03)
    return [_make(rng, category, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), style=style)]


def _single(
    rng: np.random.Generator,
    category: str,
    background: str,
    place: str,
    *,
    main: bool,
    reach: float = 0.0,
    taken: Sequence[Box] = (),
    colour: str | None = None,
    style: int | None = None,
) -> SceneObject | None:
    """One object somewhere at its place, or None when there is no room."""
    if style is None:
        style = _style(rng, category, "flying" if place == "sky" else "")
    if background == "table" and main:
        reach = rng.uniform(0.4, 0.52)
    for attempt in range(16):
        w, h = _extent(rng, aspect(category, style), main, reach * 0.978**attempt)
        if place == "wall":
            w, h = w * 0.8, h * 0.8
        limit = {"counter": 0.46, "water": 0.5, "wall": 0.34}.get(place, 1)
        if h > limit:
            w, h = w * limit / h, limit
        box = _drop(rng, background, place, w, h)
        if _fits(box, taken):
            return _make(rng, category, box, style=style, colour=colour)
    return None


def _light(rng: np.random.Generator, background: str) -> tuple[str, str]:
    if background in INDOOR:
        return ("day", "night")[int(rng.random() < 0.25)], "clear"
    time = ("day", "sunset", "night")[int(rng.choice(3, p=(0.66, 0.17, 0.17)))]
    if background == "snow":
        return time, ("clear", "cloudy", "snow")[int(rng.choice(3, p=(0.4, 0.2, 0.4)))]
    if background in ("street", "city") and rng.random() < 0.1:
        return time, "snow"
    p = (0.7, 0.3, 0.0) if background in ("desert", "savanna") else (0.6, 0.2, 0.2)
    return time, ("clear", "cloudy", "rain")[int(rng.choice(3, p=p))]


def _companions(
    rng: np.random.Generator, objects: list[SceneObject], links: list[Link], background: str
) -> None:
    """Add none to two further objects, of new categories or more of the same, in place."""
    main = objects[-1] if not links else objects[0]
    extra = int(rng.choice(3, p=(0.14, 0.52, 0.34)))
    reach0 = max(main.box[2] - main.box[0], main.box[3] - main.box[1])
    herd = not links and main.category in _HERDS and rng.random() < 0.4
    same = main.colour if rng.random() < 0.6 else None
    for _ in range(max(extra, int(herd))):
        present = {o.category for o in objects}
        most = 4 * CATEGORIES[main.category].scale
        names = [n for n in WEIGHTS if n not in present and background in dict(HABITATS[n])]
        names = [n for n in names if CATEGORIES[n].scale <= most]
        if not herd and not names:
            return
        if herd:
            category, reach, colour = main.category, reach0 * rng.uniform(0.55, 0.85), same
        else:
            p = np.array([WEIGHTS[n] / len(HABITATS[n]) ** 0.5 for n in names])
            category, colour = names[rng.choice(len(names), p=p / p.sum())], None
            ratio = CATEGORIES[category].scale / CATEGORIES[main.category].scale
            reach = float(np.clip(reach0 * ratio**0.5, 0.24, 0.5))
        place = dict(HABITATS[category])[background]
        if place == "sky":
            reach = min(reach, 0.3)
        taken = [o.box for o in objects]
        new = _single(
            rng, category, background, place, main=False, reach=reach, taken=taken, colour=colour
        )
        if new is not None:
            objects.append(new)


def _sorted(
    objects: list[SceneObject], links: list[Link]
) -> tuple[tuple[SceneObject, ...], tuple[Link, ...]]:
    """Back to front by base line; who is carried comes right after the carrier."""
    depth = {i: (0 if o.box[3] < 0.5 else 1, o.box[3]) for i, o in enumerate(objects)}
    for i, verb, j in links:
        if verb == "holding":
            depth[j] = (*depth[i][:1], depth[i][1] - 1e-6)
        elif verb != "flying":
            depth[i] = (*depth[j][:1], depth[j][1] + 1e-6)
    order = sorted(range(len(objects)), key=lambda k: depth[k])
    rank = {old: new for new, old in enumerate(order)}
    return (
        tuple(objects[k] for k in order),
        tuple((rank[i], verb, rank[j]) for i, verb, j in links),
    )


def make_scene(stream: str, index: int) -> Scene:
    """Draw a scene graph.

    Parameters
    ----------
    stream : str
        Name of a seed stream: scenes of two streams share no random number. Streams whose names
        start with 'foundation' hold about 8 % studio scenes.
    index : int
        Number of the scene in its stream, from 0.

    Returns
    -------
    Scene
    """
    rng = seed("scene", stream, index)
    if stream.startswith("foundation") and rng.random() < 0.08:
        return Scene(stream, index, "studio", "day", "clear", tuple(_studio(rng)))
    names = list(WEIGHTS)
    weights = np.array([WEIGHTS[n] for n in names])
    main = names[rng.choice(len(names), p=weights / weights.sum())]
    if main == "surfboard" and rng.random() < 0.6:
        background, recipe, place = "ocean", _surfing, "water"
    else:
        background, place = HABITATS[main][rng.integers(len(HABITATS[main]))]
        recipe = _recipe(rng, main, background, place)
    time, weather = _light(rng, background)
    objects, links = [], []
    for _ in range(20 if recipe else 0):
        found = recipe(rng, background, place)
        if found:
            objects, links = found
            break
    while not objects:
        one = _single(rng, main, background, place, main=True)
        objects = [one] if one else []
    _companions(rng, objects, links, background)
    ordered, ranked = _sorted(objects, links)
    return Scene(stream, index, background, time, weather, ordered, ranked)
