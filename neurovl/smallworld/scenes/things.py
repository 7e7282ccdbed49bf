"""How small things and the objects of the studio are drawn, in local units, y downwards."""

import math

import numpy as np

from neurovl.smallworld.scenes.animals import eye
from neurovl.smallworld.scenes.canvas import DARK, LEAF, Colour, Shapes, mix, shade


def clock(b: Shapes, c: Colour, style: int) -> None:
    b.disc(50, 50, 50, shade(c, 0.8))
    b.disc(50, 50, 47, c)
    b.disc(50, 50, 39, (252, 250, 242))
    for k in range(12):
        t = math.tau * k / 12
        x, y = math.sin(t), -math.cos(t)
        reach = 29 if k % 3 else 26
        b.line(
            [(50 + reach * x, 50 + reach * y), (50 + 34 * x, 50 + 34 * y)], 2 if k % 3 else 4, DARK
        )
    hour, minute = style % 12, style // 12 % 4 * 15
    for turn, reach, width in (((hour + minute / 60) / 12, 17, 5), (minute / 60, 27, 3.4)):
        t = math.tau * turn
        b.line([(50, 50), (50 + reach * math.sin(t), 50 - reach * math.cos(t))], width, DARK)
    b.disc(50, 50, 4, (206, 54, 60))


def vase(b: Shapes, c: Colour, style: int) -> None:
    petals = ((236, 84, 120), (250, 206, 80), (240, 132, 60))
    for k, (x, y) in enumerate(((16, 22), (58, 16), (37, 4))):
        b.line([(37, 72), (x, y)], 3, (60, 130, 70))
        for j in range(5):
            t = math.tau * j / 5 + 0.3
            b.disc(x + 7.5 * math.cos(t), y + 7.5 * math.sin(t), 6.4, petals[(k + style) % 3])
        b.disc(x, y, 5, (255, 236, 170))
    b.tilted(22, 50, 11, 4.6, 50, LEAF)
    b.tilted(54, 48, 11, 4.6, 130, LEAF)
    b.blob(
        [
            (24, 62),
            (37, 60),
            (50, 62),
            (52, 74),
            (66, 98),
            (58, 130),
            (37, 134),
            (16, 130),
            (8, 98),
            (22, 74),
        ],
        c,
    )
    b.blob([(50, 74), (66, 98), (58, 130), (42, 133), (54, 104)], shade(c, 0.74))
    b.tilted(20, 100, 4, 14, 8, shade(c, 1.5))
    b.rect(20, 59, 54, 67, shade(c, 0.8), 3)


def scissors(b: Shapes, c: Colour, style: int) -> None:
    steel = (186, 194, 204)
    b.poly([(46, 66), (56, 62), (86, -4), (78, -8)], steel)
    b.poly([(54, 66), (44, 62), (14, -4), (22, -8)], shade(steel, 0.84))
    b.line([(48, 62), (36, 84)], 8, c)
    b.line([(52, 62), (64, 84)], 8, c)
    b.ring(28, 100, 18, 9, c)
    b.ring(72, 100, 18, 9, shade(c, 0.86))
    b.disc(50, 60, 4.4, (90, 96, 104))


def teddy_bear(b: Shapes, c: Colour, style: int) -> None:
    dark, light = shade(c, 0.76), shade(c, 1.45)
    if min(c) > 200:
        light = (232, 206, 190)
    for x in (26, 74):
        b.disc(x, 14, 13, c)
        b.disc(x, 14, 7, light)
        b.tilted(x + (x - 50) * 0.62, 72, 11, 20, 40 if x < 50 else -40, dark)
    b.oval(50, 86, 31, 32, c)
    b.oval(50, 90, 19, 20, light)
    for x in (22, 78):
        b.oval(x, 114, 17, 14, c)
        b.oval(x, 115, 10, 8, light)
    b.oval(50, 34, 31, 28, c)
    b.oval(50, 44, 14, 11, light)
    b.oval(50, 39, 5.4, 4, DARK)
    b.line([(50, 42), (50, 47), (45, 49)], 1.6, DARK)
    b.line([(50, 47), (55, 49)], 1.6, DARK)
    eye(b, 39, 29, 3.6)
    eye(b, 61, 29, 3.6)
    b.poly([(50, 62), (36, 55), (36, 69)], (206, 54, 60))
    b.poly([(50, 62), (64, 55), (64, 69)], (206, 54, 60))
    b.disc(50, 62, 4, (160, 36, 44))


def house(b: Shapes, c: Colour, style: int) -> None:
    roof = ((150, 62, 52), (92, 76, 84), (116, 76, 52))[style % 3]
    b.rect(92, 2, 108, 40, (132, 84, 70))
    b.rect(8, 54, 132, 120, c)
    b.rect(94, 54, 132, 120, shade(c, 0.86))
    b.poly([(-6, 58), (28, 8), (112, 8), (146, 58)], roof)
    b.poly([(-6, 58), (-2, 52), (142, 52), (146, 58)], shade(roof, 0.74))
    b.rect(58, 76, 84, 120, (110, 70, 46), 3)
    b.disc(79, 99, 2.4, (250, 214, 110))
    for x in (20, 98):
        b.rect(x - 2, 70, x + 26, 98, (252, 252, 250))
        b.rect(x, 72, x + 24, 96, (150, 204, 236))
        b.line([(x + 12, 72), (x + 12, 96)], 2, (252, 252, 250), caps=False)
        b.line([(x, 84), (x + 24, 84)], 2, (252, 252, 250), caps=False)
    b.rect(0, 118, 140, 124, (128, 128, 126))


def shoe(b: Shapes, c: Colour, style: int) -> None:
    b.blob(
        [
            (4, 10),
            (22, 4),
            (40, 10),
            (54, 30),
            (90, 42),
            (118, 50),
            (126, 64),
            (70, 70),
            (4, 70),
            (-2, 40),
        ],
        c,
    )
    b.blob([(92, 43), (116, 49), (126, 64), (88, 68)], shade(c, 0.74))
    b.poly([(4, 12), (20, 8), (22, 66), (0, 66)], shade(c, 0.74))
    b.rect(-4, 62, 128, 76, (250, 250, 248), 5)
    b.rect(-4, 71, 128, 77, (110, 110, 116), 3)
    b.oval(20, 11, 16, 5, shade(c, 0.45))
    for x, y in ((46, 22), (58, 31), (71, 37)):
        b.line([(x, y + 8), (x + 9, y)], 3.4, (250, 250, 248))


def scrambled(b: Shapes, c: Colour, style: int) -> None:
    rng = np.random.default_rng(style)
    base = rng.integers(0, 256, (4, 3))
    for i in range(12):
        for j in range(12):
            ink = mix(tuple(base[rng.integers(4)]), tuple(rng.integers(0, 256, 3)), 0.45)
            x, y = i * 10, j * 10
            b.rect(x, y, x + 10, y + 10, ink)
            other = shade(ink, rng.uniform(0.5, 1.6))
            if rng.random() < 0.5:
                b.poly([(x, y), (x + 10, y), (x, y + 10)], other)
            else:
                b.rect(x, y, x + rng.uniform(2, 10), y + rng.uniform(2, 10), other)


DRAW = {
    "clock": clock,
    "vase": vase,
    "scissors": scissors,
    "teddy bear": teddy_bear,
    "house": house,
    "shoe": shoe,
    "scrambled": scrambled,
}
