"""Outdoor backgrounds in scene units: skies by time and weather, land and water.

Each function takes a brush whose local units are scene units, the scene, and a generator; all
details are drawn for x in [-1/6, 7/6]. Towns are in town, rooms in rooms.
"""

import math

from neurovl.smallworld.scenes.canvas import mix, shade

LEFT, RIGHT = -0.2, 1.2
SKIES = {
    "day clear": ((64, 142, 226), (132, 194, 244), (214, 238, 252)),
    "day cloudy": ((136, 154, 174), (178, 192, 204), (214, 220, 226)),
    "day rain": ((92, 106, 124), (132, 146, 160), (170, 180, 188)),
    "day snow": ((164, 178, 196), (198, 208, 220), (226, 232, 238)),
    "sunset": ((74, 62, 136), (206, 92, 118), (248, 148, 88), (255, 208, 128)),
    "night": ((8, 12, 38), (20, 30, 72), (48, 62, 112)),
}
GRASS = (112, 182, 82)


def cloud(b, x, y, size, colour):
    """Puffy cloud of a given width."""
    s = size / 10
    low = mix(colour, (120, 140, 170), 0.18)
    for dx, dy, r in ((-3, 0.2, 1.3), (-1.2, 0, 1.7), (1, 0.1, 1.6), (3, 0.3, 1.2)):
        b.oval(x + dx * s, y + dy * s, r * s * 1.2, r * s * 0.8, low)
    for dx, dy, r in ((-3.1, -0.3, 1.2), (-1.3, -1.2, 1.9), (1, -0.9, 1.7), (2.9, -0.2, 1.2)):
        b.oval(x + dx * s, y + dy * s, r * s * 1.1, r * s * 0.85, colour)


def sky(b, scene, rng, horizon, clouds=3):
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


def hills(b, rng, y, height, colour, rough=1.0):
    """A rolling ridge of the given height whose foot is at y."""
    a, p, q = rng.uniform(1.2, 2.2), rng.uniform(0, 6), rng.uniform(0, 6)
    top = []
    for k in range(29):
        x = LEFT + 1.4 * k / 28
        wave = 0.6 + 0.3 * math.sin(math.tau * a * x + p) + 0.1 * rough * math.sin(17 * x + q)
        top.append((x, y - height * wave))
    b.poly([*top, (RIGHT, y + 0.02), (LEFT, y + 0.02)], colour)


def peaks(b, rng, y, height, colour, snow):
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


def tree(b, x, y, h, leaf=(66, 142, 74)):
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


def fir(b, x, y, h, leaf=(46, 110, 84), snow=None):
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


def tufts(b, rng, y0, y1, colour, n=26):
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


def water(b, scene, rng, y0, y1):
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


def beach(b, scene, rng):
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


def b_water(scene):
    """Colour of shallow water at the shore."""
    ink = {"day": (98, 188, 214), "sunset": (120, 84, 140), "night": (34, 58, 108)}[scene.time]
    return ink if scene.weather == "clear" else mix(ink, (120, 136, 150), 0.5)


def ocean(b, scene, rng):
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


def lake(b, scene, rng):
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


def field(b, scene, rng):
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


def park(b, scene, rng):
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


def forest(b, scene, rng):
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


def savanna(b, scene, rng):
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


def desert(b, scene, rng):
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


def snow(b, scene, rng):
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


def railway(b, scene, rng):
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


def sky_only(b, scene, rng):
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
