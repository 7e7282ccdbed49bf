"""Outdoor backgrounds in scene units: land and water under a sky.

Each function takes a brush whose local units are scene units, the scene, and a generator; all
details are drawn for x in [-1/6, 7/6]. Their parts are in scenery, towns in town, rooms in rooms.
"""

import math

import numpy as np

from neurovl.smallworld.scenes.canvas import Brush, Colour, mix, shade
from neurovl.smallworld.scenes.graph import Scene
from neurovl.smallworld.scenes.scenery import (
    LEFT,
    RIGHT,
    cloud,
    fir,
    hills,
    peaks,
    sky,
    tree,
    tufts,
    water,
)

GRASS = (112, 182, 82)


def beach(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.46)
    water(b, scene, rng, 0.46, 0.68)
    sand = (240, 214, 158)
    b.fade(0.64, 1.0, sand, shade(sand, 0.88))
    shore = [(LEFT + 1.4 * k / 20, 0.645 + 0.012 * math.sin(k * 1.1)) for k in range(21)]
    b.poly([*shore, (RIGHT, 0.62), (LEFT, 0.62)], b_water(scene))
    b.line([(x, y + 0.004) for x, y in shore], 0.017, (250, 252, 252))
    b.line([(x, y + 0.022) for x, y in shore], 0.02, shade(sand, 0.86))
    for _ in range(40):
        b.disc(rng.uniform(LEFT, RIGHT), rng.uniform(0.72, 1), 0.003, shade(sand, 0.8))
    for _ in range(3):
        x, y = rng.uniform(LEFT, RIGHT), rng.uniform(0.9, 0.98)
        b.oval(x, y, 0.016, 0.01, (250, 236, 220))
        b.oval(x, y + 0.003, 0.008, 0.005, (236, 168, 140))


def b_water(scene: Scene) -> Colour:
    """Colour of shallow water at the shore."""
    ink = {"day": (98, 188, 214), "sunset": (120, 84, 140), "night": (34, 58, 108)}[scene.time]
    return ink if scene.weather == "clear" else mix(ink, (120, 136, 150), 0.5)


def ocean(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.42)
    water(b, scene, rng, 0.42, 1.01)
    base = b_water(scene)
    for k, y in enumerate((0.5, 0.61, 0.74, 0.89)):
        p = rng.uniform(0, 6)
        amp = 0.008 + 0.007 * k
        top = [
            (LEFT + 1.4 * j / 56, y + amp * math.sin(j * (1.25 - 0.17 * k) + p)) for j in range(57)
        ]
        ink = mix(base, (26, 88, 160) if scene.time == "day" else (20, 26, 70), 0.16 + 0.13 * k)
        c = b.at(b.scale, b.offset, tint=None)
        c.poly([*top, (RIGHT, 1.05), (LEFT, 1.05)], ink)
        c.line(top, 0.004 + 0.002 * k, shade(ink, 1.5))


def lake(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.46)
    peaks(b, rng, 0.46, 0.24, (120, 142, 172), (236, 242, 248))
    hills(b, rng, 0.47, 0.09, (78, 136, 98))
    for _ in range(9):
        fir(b, rng.uniform(LEFT, RIGHT), 0.47, rng.uniform(0.08, 0.13))
    water(b, scene, rng, 0.47, 0.88)
    bank = [(LEFT + 1.4 * k / 20, 0.865 + 0.012 * math.sin(k * 0.9)) for k in range(21)]
    b.poly([*bank, (RIGHT, 1.02), (LEFT, 1.02)], GRASS)
    b.line(bank, 0.012, (196, 178, 128))
    tufts(b, rng, 0.9, 1.0, shade(GRASS, 0.78), 18)


def field(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.5)
    hills(b, rng, 0.5, 0.16, (124, 172, 148))
    hills(b, rng, 0.52, 0.09, (104, 168, 96))
    for _ in range(5):
        tree(b, rng.uniform(LEFT, RIGHT), 0.51, rng.uniform(0.08, 0.13))
    b.fade(0.5, 1.0, (134, 196, 88), (86, 154, 66))
    for y in (0.535, 0.56):
        b.line([(LEFT, y), (RIGHT, y)], 0.007, (214, 196, 164))
    for k in range(12):
        x = LEFT + 0.06 + k * 0.125
        b.rect(x - 0.006, 0.515, x + 0.006, 0.585, (196, 172, 136))
    tufts(b, rng, 0.62, 1.0, (76, 140, 60), 34)
    for _ in range(16):
        x, y = rng.uniform(LEFT, RIGHT), rng.uniform(0.66, 0.99)
        b.disc(x, y, 0.008, ((250, 250, 240), (250, 216, 84))[rng.integers(2)])


def park(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.5)
    hills(b, rng, 0.52, 0.12, (98, 164, 112))
    for k in range(8):
        tree(
            b,
            -0.14 + 0.18 * k + rng.uniform(-0.05, 0.05),
            0.56,
            rng.uniform(0.24, 0.36),
            ((70, 150, 80), (96, 168, 80), (58, 132, 84))[k % 3],
        )
    b.fade(0.54, 1.0, (140, 204, 98), (92, 168, 74))
    path = (226, 206, 168)
    b.blob(
        [
            (0.42, 0.55),
            (0.5, 0.55),
            (0.56, 0.66),
            (0.62, 0.8),
            (0.95, 1.06),
            (0.25, 1.06),
            (0.36, 0.8),
            (0.44, 0.66),
        ],
        path,
    )
    tufts(b, rng, 0.6, 1.0, (86, 152, 66), 22)
    for _ in range(14):
        x, y = rng.uniform(LEFT, RIGHT), rng.uniform(0.6, 0.99)
        b.disc(x, y, 0.009, ((244, 120, 150), (250, 226, 110), (250, 250, 250))[rng.integers(3)])


def forest(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.5)
    hills(b, rng, 0.54, 0.3, (112, 160, 142))
    b.fade(0.54, 1.0, (84, 132, 66), (92, 142, 70), (70, 104, 54))
    for k in range(14):
        fir(
            b,
            LEFT + 0.1 * k + rng.uniform(-0.03, 0.03),
            0.57,
            rng.uniform(0.28, 0.4),
            (74, 132, 108),
        )
    for k in range(10):
        fir(
            b,
            LEFT + 0.15 * k + rng.uniform(-0.05, 0.05),
            0.63,
            rng.uniform(0.44, 0.62),
            (40, 98, 74),
        )
    for _ in range(20):
        x, y = rng.uniform(LEFT, RIGHT), rng.uniform(0.64, 1)
        b.oval(x, y, 0.03, 0.008, (116, 156, 78))
    tufts(b, rng, 0.64, 1.0, (54, 92, 48), 22)
    for _ in range(3):
        x, y = rng.uniform(LEFT, RIGHT), rng.uniform(0.7, 0.98)
        b.rect(x - 0.007, y - 0.03, x + 0.007, y, (240, 230, 210))
        b.oval(x, y - 0.032, 0.022, 0.016, (206, 60, 50))


def savanna(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.54, 2)
    hills(b, rng, 0.55, 0.1, (190, 172, 132))
    for k in range(4):
        x, h = -0.1 + 0.36 * k + rng.uniform(-0.08, 0.08), rng.uniform(0.16, 0.26)
        b.line([(x, 0.57), (x + 0.01, 0.57 - h * 0.5), (x - 0.06, 0.57 - h)], 0.012, (104, 78, 56))
        b.line([(x + 0.01, 0.57 - h * 0.5), (x + 0.07, 0.57 - h)], 0.01, (104, 78, 56))
        b.oval(x, 0.57 - h, 0.15, 0.035, (112, 140, 66))
        b.oval(x + 0.01, 0.555 - h, 0.11, 0.03, (134, 160, 76))
    b.fade(0.55, 1.0, (226, 194, 112), (202, 160, 84))
    tufts(b, rng, 0.58, 1.0, (180, 142, 70), 46)


def desert(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.55, 1)
    hills(b, rng, 0.56, 0.2, (226, 164, 112))
    b.fade(0.55, 1.0, (242, 202, 134), (222, 166, 100))
    for y, h, ink in ((0.66, 0.07, (236, 188, 122)), (0.82, 0.09, (228, 174, 108))):
        hills(b, rng, y, h, ink, 0)
        b.fade(y, 1.0, ink, shade(ink, 0.92))
    for k in range(4):
        x, y = -0.12 + 0.38 * k + rng.uniform(-0.07, 0.07), rng.uniform(0.6, 0.68)
        s, ink = rng.uniform(0.12, 0.2), (74, 140, 84)
        b.line([(x, y), (x, y - s)], s * 0.2, ink)
        b.line(
            [(x, y - s * 0.4), (x - s * 0.3, y - s * 0.4), (x - s * 0.3, y - s * 0.75)],
            s * 0.14,
            ink,
        )
        b.line(
            [(x, y - s * 0.3), (x + s * 0.3, y - s * 0.3), (x + s * 0.3, y - s * 0.6)],
            s * 0.14,
            shade(ink, 0.86),
        )


def snow(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.54)
    peaks(b, rng, 0.56, 0.34, (132, 152, 186), (248, 250, 255))
    hills(b, rng, 0.57, 0.08, (214, 226, 240))
    for k in range(8):
        fir(
            b,
            LEFT + 0.18 * k + rng.uniform(-0.06, 0.06),
            0.59,
            rng.uniform(0.14, 0.27),
            (60, 112, 104),
            (246, 250, 255),
        )
    b.fade(0.56, 1.0, (226, 236, 248), (250, 252, 255))
    for y, h in ((0.72, 0.05), (0.9, 0.06)):
        hills(b, rng, y, h, (214, 226, 242) if y < 0.8 else (232, 240, 250), 0)
        b.fade(y, 1.0, (236, 243, 252), (250, 252, 255))


def railway(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.5)
    peaks(b, rng, 0.5, 0.22, (134, 152, 176), (238, 242, 248))
    hills(b, rng, 0.52, 0.12, (112, 170, 112))
    for k in range(7):
        tree(b, LEFT + 0.22 * k + rng.uniform(-0.06, 0.06), 0.57, rng.uniform(0.12, 0.2))
    b.fade(0.54, 1.0, (138, 194, 92), (96, 160, 72))
    b.fade(0.78, 0.93, (176, 164, 150), (148, 136, 124))
    for k in range(24):
        x = LEFT + 0.06 * k
        b.poly([(x, 0.8), (x + 0.022, 0.8), (x + 0.016, 0.9), (x - 0.01, 0.9)], (104, 76, 56))
    for y in (0.822, 0.872):
        b.rect(LEFT, y, RIGHT, y + 0.012, (92, 96, 104))
        b.rect(LEFT, y, RIGHT, y + 0.004, (206, 210, 216))
    tufts(b, rng, 0.6, 0.76, (90, 150, 66), 16)
    tufts(b, rng, 0.95, 1.0, (80, 140, 60), 12)


def sky_only(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 1.01, 4)
    c = b.at(b.scale, b.offset, tint=None)
    if scene.weather == "clear" and scene.time == "day":
        for x, y, w in ((0.1, 0.92, 0.5), (0.55, 1.0, 0.6), (1.0, 0.94, 0.5)):
            cloud(c, x + rng.uniform(-0.05, 0.05), y, w, (250, 252, 255))
    else:
        hills(b, rng, 1.0, 0.16, (70, 96, 110))
        hills(b, rng, 1.02, 0.1, (52, 76, 84))


DRAW = {
    "beach": beach,
    "ocean": ocean,
    "lake": lake,
    "field": field,
    "park": park,
    "forest": forest,
    "savanna": savanna,
    "desert": desert,
    "snow": snow,
    "railway": railway,
    "sky": sky_only,
}
