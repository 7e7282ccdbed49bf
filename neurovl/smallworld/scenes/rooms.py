"""Indoor backgrounds and the studio, in scene units for x in [-1/6, 7/6]."""

import numpy as np

from neurovl.smallworld.scenes.canvas import Brush, Colour, mix, shade
from neurovl.smallworld.scenes.graph import Scene
from neurovl.smallworld.scenes.scenery import LEFT, RIGHT, SKIES, cloud

WALLS = ((246, 226, 190), (196, 220, 214), (238, 208, 204), (206, 214, 236), (224, 228, 200))


def window(b: Brush, scene: Scene, x: float, y: float, w: float, h: float) -> None:
    """A window that shows the hour of the day."""
    b.rect(x - 0.018, y - 0.018, x + w + 0.018, y + h + 0.018, (252, 250, 246), 0.008)
    c = b.at(b.scale, b.offset, tint=None)
    night = scene.time == "night"
    colours = SKIES["night" if night else "day clear"]
    for k in range(6):
        ink = mix(colours[0], colours[-1], k / 5)
        c.rect(x, y + h * k / 6, x + w, y + h * (k + 1) / 6 + 0.001, ink)
    if night:
        c.disc(x + w * 0.72, y + h * 0.28, 0.026, (246, 244, 224))
        for dx, dy in ((0.15, 0.2), (0.34, 0.5), (0.55, 0.15), (0.85, 0.6), (0.2, 0.75)):
            c.disc(x + w * dx, y + h * dy, 0.005, (240, 244, 255))
    else:
        cloud(c, x + w * 0.62, y + h * 0.36, min(w * 0.55, 0.16), (255, 255, 255))
        c.poly(
            [
                (x, y + h),
                (x, y + h * 0.8),
                (x + w * 0.4, y + h * 0.7),
                (x + w, y + h * 0.84),
                (x + w, y + h),
            ],
            (112, 178, 108),
        )
    b.rect(x + w / 2 - 0.006, y, x + w / 2 + 0.006, y + h, (252, 250, 246))
    b.rect(x, y + h / 2 - 0.006, x + w, y + h / 2 + 0.006, (252, 250, 246))
    b.rect(x - 0.03, y + h + 0.012, x + w + 0.03, y + h + 0.03, (236, 230, 220))


def curtains(b: Brush, x: float, y: float, w: float, h: float, ink: Colour) -> None:
    """Curtains on both sides of a window."""
    b.rect(x - 0.1, y - 0.045, x + w + 0.1, y - 0.03, (126, 96, 70))
    for side in (x - 0.085, x + w - 0.005):
        b.rect(side, y - 0.035, side + 0.09, y + h + 0.06, ink)
        for k in range(3):
            b.rect(
                side + 0.012 + 0.03 * k,
                y - 0.035,
                side + 0.02 + 0.03 * k,
                y + h + 0.06,
                shade(ink, 0.84),
            )


def floor(b: Brush, y: float, ink: Colour, planks: bool = True) -> None:
    """Skirting board and boards in perspective."""
    b.fade(y, 1.0, shade(ink, 0.88), ink)
    if planks:
        for k in range(-12, 25):
            x = k / 12
            b.line(
                [(0.5 + (x - 0.5) * 0.75, y), (0.5 + (x - 0.5) * 1.4, 1.01)],
                0.003,
                shade(ink, 0.76),
                caps=False,
            )
    b.rect(LEFT, y - 0.025, RIGHT, y, (250, 246, 238))


def picture(b: Brush, x: float, y: float, w: float, h: float, rng: np.random.Generator) -> None:
    """A framed landscape."""
    b.rect(x, y, x + w, y + h, (134, 96, 62), 0.005)
    b.rect(x + 0.012, y + 0.012, x + w - 0.012, y + h - 0.012, (250, 246, 236))
    x0, y0, x1, y1 = x + 0.025, y + 0.025, x + w - 0.025, y + h - 0.025
    b.rect(x0, y0, x1, y1, (246, 196, 140))
    b.poly(
        [(x0, y1), (x0, y1 - h * 0.2), (x0 + w * 0.3, y0 + h * 0.25), (x1, y1 - h * 0.1), (x1, y1)],
        (90, 130, 150),
    )


def lamp(b: Brush, x: float, y: float, h: float) -> None:
    """Standing lamp with a warm glow."""
    b.disc(x, y - h * 0.84, h * 0.3, (255, 240, 180, 46 if b.night else 20))
    b.rect(x - 0.004, y - h * 0.8, x + 0.004, y, (96, 84, 74))
    b.oval(x, y, 0.04, 0.01, (96, 84, 74))
    shade_ink = (255, 226, 140) if b.night else (246, 226, 176)
    b.poly(
        [
            (x - 0.035, y - h),
            (x + 0.035, y - h),
            (x + 0.065, y - h * 0.72),
            (x - 0.065, y - h * 0.72),
        ],
        shade_ink,
    )


def paint_wall(b: Brush, rng: np.random.Generator, y: float) -> None:
    wall = WALLS[rng.integers(len(WALLS))]
    b.fade(-0.02, y, shade(wall, 0.93), wall)
    return wall


def living_room(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    paint_wall(b, rng, 0.68)
    right = rng.random() < 0.5
    x = 0.66 if right else 0.06
    window(b, scene, x, 0.12, 0.26, 0.3)
    curtains(
        b, x, 0.12, 0.26, 0.3, ((206, 104, 92), (92, 136, 160), (214, 170, 86))[rng.integers(3)]
    )
    picture(b, 0.14 if right else 0.62, 0.14, 0.22, 0.17, rng)
    lamp(b, -0.06 if right else 1.06, 0.72, 0.5)
    floor(b, 0.68, (198, 148, 100))
    rug = ((188, 88, 84), (84, 120, 150), (122, 146, 104))[rng.integers(3)]
    b.oval(0.5, 0.88, 0.56, 0.1, shade(rug, 1.3))
    b.oval(0.5, 0.88, 0.51, 0.085, rug)
    b.oval(0.5, 0.88, 0.4, 0.062, shade(rug, 1.18))


def bedroom(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    wall = paint_wall(b, rng, 0.68)
    for k in range(24):
        x = LEFT + 0.06 * k
        b.rect(x, 0, x + 0.02, 0.66, shade(wall, 0.96))
    right = rng.random() < 0.5
    x = 0.64 if right else 0.1
    window(b, scene, x, 0.12, 0.24, 0.28)
    curtains(
        b, x, 0.12, 0.24, 0.28, ((150, 130, 184), (230, 150, 160), (120, 164, 150))[rng.integers(3)]
    )
    floor(b, 0.68, (176, 128, 92))
    lamp(b, 1.07 if not right else -0.07, 0.74, 0.34)
    b.oval(0.5, 0.92, 0.5, 0.075, (232, 224, 214))
    b.oval(0.5, 0.92, 0.44, 0.06, (214, 204, 196))


def kitchen(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    wall = paint_wall(b, rng, 0.62)
    tile = mix(wall, (255, 255, 255), 0.5)
    for row in range(6):
        for col in range(18):
            x = LEFT + 0.08 * col + 0.04 * (row % 2)
            b.rect(x + 0.003, 0.36 + 0.042 * row, x + 0.077, 0.398 + 0.042 * row, tile)
    front = ((96, 148, 150), (196, 120, 96), (116, 130, 172), (150, 160, 110))[rng.integers(4)]
    right = rng.random() < 0.5
    window(b, scene, 0.36, 0.08, 0.28, 0.24)
    for x in (-0.2, 0.74):
        for k in range(2):
            x0 = x + 0.23 * k
            b.rect(x0, 0.02, x0 + 0.22, 0.3, front, 0.008)
            b.rect(x0 + 0.02, 0.045, x0 + 0.2, 0.275, shade(front, 1.12), 0.006)
            b.disc(x0 + (0.18 if k == 0 else 0.04), 0.25, 0.01, (250, 240, 210))
    b.fade(0.66, 0.9, shade(front, 0.9), shade(front, 0.8))
    for k in range(6):
        x = LEFT + 0.01 + 0.235 * k
        b.rect(x, 0.69, x + 0.22, 0.88, front, 0.008)
        b.rect(x + 0.022, 0.712, x + 0.198, 0.858, shade(front, 1.12), 0.006)
        b.rect(x + 0.08, 0.728, x + 0.14, 0.736, (250, 240, 210))
    b.rect(LEFT, 0.585, RIGHT, 0.655, (236, 226, 210))
    b.rect(LEFT, 0.645, RIGHT, 0.67, (176, 150, 124))
    tap = 0.5 if right else 0.44
    b.line([(tap, 0.6), (tap, 0.5), (tap + 0.05, 0.48), (tap + 0.06, 0.52)], 0.012, (176, 184, 192))
    floor(b, 0.9, (206, 192, 176), planks=False)


def office(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    paint_wall(b, rng, 0.66)
    right = rng.random() < 0.5
    window(b, scene, 0.58 if right else 0.08, 0.1, 0.34, 0.28)
    x = 0.02 if right else 0.6
    for row in range(2):
        y = 0.2 + 0.17 * row
        cx = x + 0.02
        while cx < x + 0.32:
            w, h = rng.uniform(0.018, 0.034), rng.uniform(0.09, 0.125)
            ink = ((190, 70, 66), (64, 110, 168), (226, 176, 80), (92, 140, 104), (130, 96, 150))
            b.rect(cx, y - h, cx + w, y, ink[rng.integers(5)])
            cx += w + 0.003
        b.rect(x, y, x + 0.36, y + 0.018, (140, 100, 66))
    desk = (190, 140, 94)
    b.fade(0.6, 0.8, shade(desk, 1.16), desk)
    b.rect(LEFT, 0.6, RIGHT, 0.606, shade(desk, 1.35))
    b.fade(0.8, 0.84, shade(desk, 0.72), shade(desk, 0.66))
    b.fade(0.84, 1.0, shade(desk, 0.56), shade(desk, 0.5))
    for k in range(4):
        x0 = LEFT + 0.03 + 0.35 * k
        b.rect(x0, 0.87, x0 + 0.3, 1.1, shade(desk, 0.64), 0.01)
        b.rect(x0 + 0.1, 0.9, x0 + 0.2, 0.915, (230, 210, 170))


def table(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    paint_wall(b, rng, 0.5)
    window(b, scene, 0.1 if rng.random() < 0.5 else 0.56, 0.04, 0.34, 0.3)
    if rng.random() < 0.5:
        wood = (186, 128, 82)
        b.fade(0.48, 0.93, shade(wood, 1.2), wood)
        for k, y in enumerate((0.52, 0.585, 0.665, 0.76, 0.865)):
            b.rect(LEFT, y, RIGHT, y + 0.004 + 0.001 * k, shade(wood, 0.84))
    else:
        one, two = (
            (250, 248, 244),
            ((216, 84, 84), (92, 140, 196), (110, 168, 120))[rng.integers(3)],
        )
        b.fade(0.48, 0.93, shade(one, 0.94), one)
        edges = (0.48, 0.53, 0.59, 0.66, 0.74, 0.83, 0.93)
        for k in range(-10, 22):
            for row in range(6):
                a, z = 0.7 + 0.1 * row, 0.8 + 0.1 * row
                x0, x1 = (k / 10 - 0.05) - 0.5, (k / 10) - 0.5
                if (k + row) % 2 == 0:
                    c = mix(one, two, 0.8 if row % 2 else 0.5)
                    x0, x1 = (k - 0.5) / 10 - 0.5, (k + 0.5) / 10 - 0.5
                    b.poly(
                        [
                            (0.5 + x0 * a, edges[row]),
                            (0.5 + x1 * a, edges[row]),
                            (0.5 + x1 * z, edges[row + 1]),
                            (0.5 + x0 * z, edges[row + 1]),
                        ],
                        c,
                    )
        wood = (186, 128, 82)
    b.fade(0.93, 1.01, shade(wood, 0.62), shade(wood, 0.5))


def studio(b: Brush, scene: Scene, rng: np.random.Generator) -> None:
    grey = int(rng.integers(150, 205))
    b.fade(-0.02, 0.72, (grey - 34,) * 3, (grey + 26,) * 3)
    b.fade(0.72, 1.01, (grey + 8,) * 3, (grey - 16,) * 3)
    b.disc(0.5, 0.45, 0.5, (255, 255, 255, 14))
    b.disc(0.5, 0.45, 0.36, (255, 255, 255, 16))


DRAW = {
    "kitchen": kitchen,
    "living room": living_room,
    "bedroom": bedroom,
    "office": office,
    "table": table,
    "studio": studio,
}
