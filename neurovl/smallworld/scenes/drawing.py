"""Scene graph to pixels: the picture from any viewport, and the visible mask of each object.

Leaves out how single things look (people, animals, vehicles, food, furniture, things) and where
they stand (sampling). Everything is drawn larger and averaged down.
"""

import zlib
from functools import lru_cache

import numpy as np
from PIL import Image

from neurovl.errors import ConfigError
from neurovl.smallworld.scenes import (
    animals,
    backgrounds,
    food,
    furniture,
    people,
    rooms,
    things,
    town,
    vehicles,
)
from neurovl.smallworld.scenes.canvas import Brush, Ruler, Shapes
from neurovl.smallworld.scenes.graph import CATEGORIES, COLOURS, Scene, SceneObject

DRAW = people.DRAW | animals.DRAW | vehicles.DRAW | food.DRAW | furniture.DRAW | things.DRAW
BACKDROP = backgrounds.DRAW | town.DRAW | rooms.DRAW
LIGHT = {"sunset": ((250, 140, 80), 0.13), "night": ((18, 26, 78), 0.27)}
FLOATING = ("bird", "airplane", "kite", "clock", "boat")


def seed(*keys: str | int) -> np.random.Generator:
    """Generator from strings and ints, the same on every machine."""
    numbers = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in keys]
    return np.random.default_rng(np.random.SeedSequence(numbers))


def _paint(brush: Shapes, category: str, colour: str, style: int) -> None:
    DRAW[category](brush, COLOURS[colour] if colour else (128, 128, 128), style)


@lru_cache(maxsize=4096)
def extents(category: str, style: int) -> tuple[float, float, float, float]:
    """Tight (x0, y0, x1, y1) of a drawing in its own units."""
    ruler = Ruler()
    first = CATEGORIES[category].colours
    _paint(ruler, category, first[0] if first else "", style)
    return ruler.x0, ruler.y0, ruler.x1, ruler.y1


def aspect(category: str, style: int) -> float:
    """Width over height of the tight box of a drawing."""
    x0, y0, x1, y1 = extents(category, style)
    return (x1 - x0) / (y1 - y0)


def _place(brush: Brush, obj: SceneObject) -> Brush:
    """Brush whose local units are the object's own, fitted to its box."""
    (sx, sy), (ox, oy) = brush.scale, brush.offset
    x0, y0, x1, y1 = obj.box
    u0, v0, u1, v1 = extents(obj.category, obj.style)
    kx, ky = (x1 - x0) / (u1 - u0), (y1 - y0) / (v1 - v0)
    left, turn = (x1, -1) if obj.flip else (x0, 1)
    return brush.at(
        (sx * kx * turn, sy * ky),
        (ox + sx * (left - turn * kx * u0), oy + sy * (y0 - ky * v0)),
    )


def _shadow(brush: Brush, obj: SceneObject) -> None:
    x0, _, x1, y1 = obj.box
    w = (x1 - x0) / 2
    if obj.category in ("giraffe", "stop sign", "traffic light", "umbrella"):
        w *= 0.6
    for grow, alpha in ((1.12, 30), (1.0, 46), (0.8, 52)):
        brush.oval(
            (x0 + x1) / 2, y1 - 0.004, w * grow, (0.01 + 0.045 * w) * grow, (20, 22, 40, alpha)
        )


def _weather(brush: Brush, scene: Scene) -> None:
    rng = seed("weather", scene.stream, scene.index)
    if scene.weather == "rain":
        for _ in range(130):
            x, y, s = rng.uniform(-0.2, 1.25), rng.uniform(-0.05, 1), rng.uniform(0.03, 0.065)
            brush.line([(x, y), (x - s * 0.3, y + s)], 0.0042, (222, 234, 248, 150), caps=False)
    elif scene.weather == "snow":
        for _ in range(110):
            x, y = rng.uniform(-0.2, 1.2), rng.uniform(0, 1)
            brush.disc(x, y, rng.uniform(0.004, 0.0115), (255, 255, 255))


def render(
    scene: Scene,
    size: int | tuple[int, int] = 425,
    view: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> Image.Image:
    """Paint a scene.

    Parameters
    ----------
    scene : Scene
    size : int or (width, height)
        Pixels.
    view : (x0, y0, x1, y1)
        Viewport in scene units; pictures reach over x in [-1/6, 7/6], y in [0, 1].

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    ConfigError
        If the size or the viewport is empty.
    """
    width, height = (size, size) if isinstance(size, int) else size
    if width < 1 or height < 1 or view[2] <= view[0] or view[3] <= view[1]:
        raise ConfigError(
            f"render got size {size} and view {view}, expected positive extents; "
            "give view as (x0, y0, x1, y1) with x0 < x1 and y0 < y1"
        )
    zoom = 4 if max(width, height) <= 160 else 3
    image = Image.new("RGB", (width * zoom, height * zoom))
    sx, sy = width * zoom / (view[2] - view[0]), height * zoom / (view[3] - view[1])
    night = scene.time == "night"
    light = LIGHT.get(scene.time)
    if scene.indoors and night:
        light = ((250, 190, 110), 0.1)
    elif scene.background == "studio":
        light = None
    elif light is None and scene.weather in ("rain", "cloudy"):
        light = ((110, 120, 136), 0.14)
    brush = Brush(image, (sx, sy), (-sx * view[0], -sy * view[1]), tint=light, night=night)
    rng = seed("background", scene.stream, scene.index)
    BACKDROP[scene.background](brush, scene, rng)
    faint = light and (light[0], 0.55 * light[1])  # things keep their colours better than land
    paint = brush.at(brush.scale, brush.offset, tint=faint)
    carried = {i for i, verb, _ in scene.links if verb not in ("holding", "flying")}
    for k, obj in enumerate(scene.objects):
        if obj.category not in FLOATING and k not in carried and not _aloft(scene, k):
            _shadow(brush.at(brush.scale, brush.offset, tint=None), obj)
        _paint(_place(paint, obj), obj.category, obj.colour, obj.style)
    _weather(brush.at(brush.scale, brush.offset, tint=None), scene)
    return image.reduce(zoom)


def _aloft(scene: Scene, k: int) -> bool:
    """Whether an object is held by another, rides on water, or hangs in the studio."""
    held = {j for _, verb, j in scene.links if verb in ("holding", "riding")}
    return k in held or scene.objects[k].category in ("face", "scrambled")


def object_masks(scene: Scene, size: int) -> np.ndarray:
    """Visible part of each object on the unit view.

    Returns
    -------
    bool array, shape (n_objects, size, size)
        Rows are y. Disjoint: what a later object covers belongs to it alone.
    """
    labels = Image.new("L", (size * 3, size * 3))
    for k, obj in enumerate(scene.objects):
        brush = Brush(labels, (size * 3, size * 3), (0, 0), fixed=k + 1)
        _paint(_place(brush, obj), obj.category, obj.colour, obj.style)
    centres = np.asarray(labels)[1::3, 1::3]
    return centres[None] == np.arange(1, len(scene.objects) + 1)[:, None, None]
