"""What outdoor backgrounds are made of, in scene units: skies by time and weather, hills, trees, water."""

import math

import numpy as np

from neurovl.smallworld.scenes.canvas import Brush, Colour, mix, shade
from neurovl.smallworld.scenes.graph import Scene

LEFT, RIGHT = -0.2, 1.2
SKIES = {
    "day clear": ((64, 142, 226), (132, 194, 244), (214, 238, 252)),
    "day cloudy": ((136, 154, 174), (178, 192, 204), (214, 220, 226)),
    "day rain": ((92, 106, 124), (132, 146, 160), (170, 180, 188)),
    "day snow": ((164, 178, 196), (198, 208, 220), (226, 232, 238)),
    "sunset": ((74, 62, 136), (206, 92, 118), (248, 148, 88), (255, 208, 128)),
    "night": ((8, 12, 38), (20, 30, 72), (48, 62, 112)),
}


def cloud(b: Brush, x: float, y: float, size: float, colour: Colour) -> None:
    """Puffy cloud of a given width."""
    s = size / 10
    low = mix(colour, (120, 140, 170), 0.18)
    for dx, dy, r in ((-3, 0.2, 1.3), (-1.2, 0, 1.7), (1, 0.1, 1.6), (3, 0.3, 1.2)):
        b.oval(x + dx * s, y + dy * s, r * s * 1.2, r * s * 0.8, low)
    for dx, dy, r in ((-3.1, -0.3, 1.2), (-1.3, -1.2, 1.9), (1, -0.9, 1.7), (2.9, -0.2, 1.2)):
        b.oval(x + dx * s, y + dy * s, r * s * 1.1, r * s * 0.85, colour)


def sky(b: Brush, scene: Scene, rng: np.random.Generator, horizon: float, clouds: int = 3) -> None:
    """Gradient, sun or moon, stars and clouds down to the horizon."""
    b = b.at(b.scale, b.offset, tint=None)
    key = scene.time if scene.time != "day" else f"day {scene.weather}"
    colours = SKIES[key]
    if scene.weather in ("cloudy", "rain") and scene.time != "day":
        colours = tuple(mix(c, (96, 98, 112), 0.55) for c in colours)
    b.fade(-0.02, horizon, *colours)
    x = rng.uniform(0.12, 0.88)
    if scene.weather == "clear":
        if scene.time == "night":
            for _ in range(60):
                sx, sy = rng.uniform(LEFT, RIGHT), rng.uniform(0, horizon) ** 1.1
                b.disc(sx, sy, rng.uniform(0.0015, 0.005), (236, 240, 255))
            y = horizon * 0.28
            b.disc(x, y, 0.105, (230, 236, 255, 26))
            b.disc(x, y, 0.085, (230, 236, 255, 40))
            b.disc(x, y, 0.062, (246, 244, 224))
            for dx, dy, r in (
                (-0.02, -0.015, 0.013),
                (0.018, 0.012, 0.017),
                (0.012, -0.028, 0.008),
            ):
                b.disc(x + dx, y + dy, r, (226, 222, 198))
        elif scene.time == "sunset":
            y = horizon - 0.075
            for r, a in ((0.26, 26), (0.19, 36), (0.14, 60)):
                b.disc(x, y, r, (255, 220, 130, a))
            b.disc(x, y, 0.095, (255, 238, 170))
        else:
            y = max(0.1, horizon * 0.24)
            for r, a in ((0.15, 36), (0.115, 60), (0.09, 90)):
                b.disc(x, y, r, (255, 240, 170, a))
            b.disc(x, y, 0.066, (255, 226, 96))
    white = {"day": (255, 255, 255), "sunset": (250, 186, 160), "night": (60, 72, 116)}[scene.time]
    if scene.weather != "clear":
        white = mix(white, colours[0], 0.42 if scene.weather != "snow" else 0.15)
        clouds += 4
    for k in range(clouds):
        cx = LEFT + (k + rng.uniform(0.1, 0.9)) * 1.4 / clouds
        cloud(b, cx, rng.uniform(0.06, max(0.1, horizon * 0.62)), rng.uniform(0.18, 0.3), white)


def hills(
    b: Brush, rng: np.random.Generator, y: float, height: float, colour: Colour, rough: float = 1.0
) -> None:
    """A rolling ridge of the given height whose foot is at y."""
    a, p, q = rng.uniform(1.2, 2.2), rng.uniform(0, 6), rng.uniform(0, 6)
    top = []
    for k in range(29):
        x = LEFT + 1.4 * k / 28
        wave = 0.6 + 0.3 * math.sin(math.tau * a * x + p) + 0.1 * rough * math.sin(17 * x + q)
        top.append((x, y - height * wave))
    b.poly([*top, (RIGHT, y + 0.02), (LEFT, y + 0.02)], colour)


def peaks(
    b: Brush, rng: np.random.Generator, y: float, height: float, colour: Colour, snow: Colour
) -> None:
    """Mountains with snowy tops."""
    for k in range(5):
        x, h = -0.1 + 0.3 * k + rng.uniform(-0.06, 0.06), height * rng.uniform(0.6, 1)
        w = h * rng.uniform(0.9, 1.15)
        b.poly([(x - w, y + 0.01), (x, y - h), (x + w, y + 0.01)], colour)
        b.poly([(x, y - h), (x + w, y + 0.01), (x + 0.2 * w, y + 0.01)], shade(colour, 0.84))
        t = 0.3
        b.poly(
            [
                (x - w * t, y - h * (1 - t)),
                (x, y - h),
                (x + w * t, y - h * (1 - t)),
                (x + w * t * 0.45, y - h * 0.78),
                (x, y - h * 0.66),
                (x - w * t * 0.45, y - h * 0.78),
            ],
            snow,
        )


def tree(b: Brush, x: float, y: float, h: float, leaf: Colour = (66, 142, 74)) -> None:
    """A round tree standing at y."""
    b.poly(
        [
            (x - h * 0.06, y),
            (x - h * 0.035, y - h * 0.5),
            (x + h * 0.035, y - h * 0.5),
            (x + h * 0.06, y),
        ],
        (112, 78, 52),
    )
    dark = shade(leaf, 0.78)
    for dx, dy, r in ((-0.17, 0.5, 0.19), (0.17, 0.5, 0.19), (0, 0.42, 0.2)):
        b.disc(x + dx * h, y - dy * h, r * h, dark)
    for dx, dy, r in ((-0.13, 0.62, 0.2), (0.13, 0.6, 0.2), (0, 0.8, 0.2), (0, 0.6, 0.18)):
        b.disc(x + dx * h, y - dy * h, r * h, leaf)
    b.disc(x - 0.08 * h, y - 0.82 * h, 0.09 * h, shade(leaf, 1.2))


def fir(
    b: Brush, x: float, y: float, h: float, leaf: Colour = (46, 110, 84), snow: Colour | None = None
) -> None:
    """A fir tree standing at y."""
    b.rect(x - h * 0.035, y - h * 0.14, x + h * 0.035, y, (96, 68, 50))
    for k in range(3):
        w, top = h * (0.27 - 0.06 * k), y - h * (0.5 + 0.25 * k)
        foot = top + h * 0.4
        b.poly([(x - w, foot), (x, top), (x + w, foot)], leaf)
        b.poly([(x, top), (x + w, foot), (x + w * 0.3, foot)], shade(leaf, 0.8))
        if snow:
            b.poly(
                [
                    (x - w * 0.45, top + h * 0.18),
                    (x, top),
                    (x + w * 0.45, top + h * 0.18),
                    (x, top + h * 0.13),
                ],
                snow,
            )


def tufts(
    b: Brush, rng: np.random.Generator, y0: float, y1: float, colour: Colour, n: int = 26
) -> None:
    """Small blades, larger towards the viewer."""
    for _ in range(n):
        x, y = rng.uniform(LEFT, RIGHT), rng.uniform(y0, y1)
        s = 0.008 + 0.03 * (y - 0.45)
        b.poly(
            [
                (x - s, y),
                (x - s * 0.9, y - s * 1.6),
                (x, y - s * 0.3),
                (x + s * 0.2, y - s * 2),
                (x + s * 0.5, y - s * 0.3),
                (x + s * 1.2, y - s * 1.4),
                (x + s, y),
            ],
            colour,
        )


def water(b: Brush, scene: Scene, rng: np.random.Generator, y0: float, y1: float) -> None:
    """Water between two heights, in the colour of the hour, with glints and waves."""
    deep, near = {
        "day": ((44, 122, 190), (88, 180, 214)),
        "sunset": ((176, 96, 120), (108, 80, 140)),
        "night": ((22, 36, 84), (30, 54, 104)),
    }[scene.time]
    if scene.weather != "clear":
        deep, near = mix(deep, (104, 118, 132), 0.55), mix(near, (120, 136, 150), 0.5)
    b = b.at(b.scale, b.offset, tint=None)
    b.fade(y0, y1, deep, near)
    light = shade(near, 1.4)
    for _ in range(44):
        t = rng.random()
        x, y, w = rng.uniform(LEFT, RIGHT), y0 + 0.01 + t * (y1 - y0 - 0.02), 0.02 + 0.07 * t
        b.oval(x, y, w, 0.0025 + 0.003 * t, light if rng.random() < 0.6 else shade(deep, 0.9))
