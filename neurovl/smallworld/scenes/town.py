"""Backgrounds with houses: street and city, in scene units for x in [-1/6, 7/6]."""

import numpy as np

from neurovl.smallworld.scenes.canvas import Brush, Colour, mix, shade
from neurovl.smallworld.scenes.graph import Scene
from neurovl.smallworld.scenes.scenery import LEFT, RIGHT, sky


def ground_snow(scene: Scene, colour: Colour) -> Colour:
    """Road and roof colours under fallen snow."""
    return mix(colour, (246, 248, 252), 0.62) if scene.weather == "snow" else colour


def road(b: Brush, scene: Scene, y: float, kerb: float) -> None:
    """Pavement from y, road below with a broken line."""
    b.fade(y, kerb, ground_snow(scene, (206, 200, 192)), ground_snow(scene, (186, 182, 176)))
    for k in range(15):
        x = LEFT + 0.1 * k
        b.line([(x, y), (x - 0.02, kerb)], 0.003, ground_snow(scene, (164, 158, 152)), caps=False)
    b.rect(LEFT, kerb - 0.012, RIGHT, kerb, ground_snow(scene, (232, 230, 224)))
    b.fade(kerb, 1.0, ground_snow(scene, (96, 100, 108)), ground_snow(scene, (76, 80, 88)))
    for k in range(6):
        x = LEFT + 0.25 * k
        b.poly(
            [(x + 0.02, 0.885), (x + 0.14, 0.885), (x + 0.13, 0.905), (x, 0.905)], (246, 240, 214)
        )


def street(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.71, 2)
    walls = ((226, 140, 110), (240, 206, 146), (150, 182, 196), (206, 160, 170), (172, 190, 150))
    x, k = LEFT - 0.04, int(rng.integers(5))
    while x < RIGHT:
        w, h = rng.uniform(0.22, 0.3), rng.uniform(0.36, 0.5)
        wall, top = walls[k % 5], 0.7 - h
        b.rect(x, top, x + w, 0.7, wall)
        b.rect(x + w - 0.015, top, x + w, 0.7, shade(wall, 0.82))
        b.rect(x - 0.008, top - 0.022, x + w + 0.008, top, ground_snow(scene, shade(wall, 0.66)))
        for row in range(2 if h < 0.43 else 3):
            for col in range(3):
                wx, wy = x + w * (0.13 + 0.28 * col), top + 0.03 + 0.09 * row
                if wy + 0.06 > 0.53:
                    continue
                lit = b.night and rng.random() < 0.6
                ink = (255, 220, 130) if lit else (110, 160, 194)
                b.rect(wx - 0.005, wy - 0.005, wx + 0.047, wy + 0.063, (250, 248, 240))
                b.rect(wx, wy, wx + 0.042, wy + 0.058, ink)
        ink = ((200, 66, 60), (52, 128, 110), (60, 96, 170))[k % 3]
        b.rect(x + 0.02, 0.585, x + w - 0.03, 0.7, (255, 226, 150) if b.night else (150, 196, 214))
        b.rect(x + w * 0.4, 0.59, x + w * 0.62, 0.7, shade(ink, 0.7))
        n = 6
        for j in range(n):
            a, z = x + 0.01 + (w - 0.03) * j / n, x + 0.01 + (w - 0.03) * (j + 1) / n
            b.poly([(a, 0.55), (z, 0.55), (z, 0.59), (a, 0.59)], (250, 248, 240) if j % 2 else ink)
        x, k = x + w, k + 1
    road(b, scene, 0.7, 0.79)


def city(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    sky(b, scene, rng, 0.72, 2)
    for depth, ink, lo, hi in ((0, (150, 172, 200), 0.3, 0.56), (1, (98, 118, 150), 0.18, 0.46)):
        x = LEFT
        while x < RIGHT:
            w, h = rng.uniform(0.1, 0.17), rng.uniform(lo, hi)
            wall = mix(ink, (200, 150, 130), rng.uniform(0, 0.3))
            b.rect(x, 0.71 - h, x + w, 0.71, wall)
            b.rect(x + w * 0.8, 0.71 - h, x + w, 0.71, shade(wall, 0.86))
            if rng.random() < 0.4:
                b.rect(x + w * 0.45, 0.67 - h, x + w * 0.55, 0.71 - h, wall)
            for row in range(int(h / 0.05)):
                for col in range(3):
                    wx, wy = x + w * (0.12 + 0.24 * col), 0.725 - h + 0.05 * row
                    lit = rng.random() < (0.55 if b.night else 0.1)
                    pane = (255, 222, 130) if lit else shade(wall, 1.3 if not b.night else 0.7)
                    b.rect(wx, wy, wx + w * 0.15, wy + 0.026, pane)
            x += w + (0.0 if depth else 0.02) + rng.uniform(0, 0.07) * depth
    road(b, scene, 0.71, 0.77)


DRAW = {"street": street, "city": city}
