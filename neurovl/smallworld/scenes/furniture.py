"""How furniture, electronics and the refrigerator are drawn, in local units, y downwards."""

import math

from neurovl.smallworld.scenes.canvas import DARK, LEAF, Colour, Shapes, shade

WOOD = (150, 100, 62)


def chair(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.68)
    for x in (8, 58):
        b.rect(x, 50, x + 7, 118, dark, 2)
    b.rect(6, 0, 12, 66, c, 3)
    b.rect(61, 0, 67, 66, c, 3)
    b.rect(6, 2, 67, 14, c, 4)
    for x in (21, 33.5, 46):
        b.rect(x, 12, x + 6, 62, shade(c, 0.86))
    b.poly([(6, 58), (67, 58), (76, 72), (-3, 72)], shade(c, 1.2))
    b.rect(-3, 70, 76, 78, dark, 2)
    for x in (-2, 68):
        b.rect(x, 76, x + 7, 128, c, 2)


def couch(b: Shapes, c: Colour, style: int) -> None:
    dark, light = shade(c, 0.74), shade(c, 1.16)
    for x in (16, 138):
        b.rect(x, 84, x + 8, 96, (84, 56, 38))
    b.rect(12, 0, 150, 70, dark, 14)
    b.rect(20, 6, 79, 56, c, 9)
    b.rect(83, 6, 142, 56, c, 9)
    b.rect(14, 50, 81, 70, light, 7)
    b.rect(81, 50, 148, 70, light, 7)
    b.rect(8, 66, 154, 88, c, 6)
    b.rect(8, 78, 154, 88, dark, 5)
    for x in (0, 138):
        b.rect(x, 32, x + 24, 88, c, 11)
        b.rect(x + 3, 35, x + 21, 46, light, 6)


def potted_plant(b: Shapes, c: Colour, style: int) -> None:
    dark = (38, 112, 62)
    b.line([(40, 84), (40, 40)], 4, dark)
    for x, y, a in ((10, 46, 38), (70, 46, 142), (18, 22, 62), (62, 22, 118), (40, 12, 90)):
        b.tilted(x, y, 28, 11, a, dark if a in (38, 142) else LEAF)
        dx, dy = 24 * math.cos(math.radians(a)), 24 * math.sin(math.radians(a))
        b.line([(x - dx, y - dy), (x + dx, y + dy)], 1.6, shade(LEAF, 1.4))
    b.tilted(26, 62, 19, 9, 30, LEAF)
    b.tilted(56, 62, 19, 9, 150, LEAF)
    b.poly([(14, 80), (66, 80), (59, 120), (21, 120)], (200, 98, 60))
    b.poly([(52, 80), (66, 80), (59, 120), (50, 120)], (168, 78, 48))
    b.rect(10, 74, 70, 86, (216, 114, 72), 3)


def bed(b: Shapes, c: Colour, style: int) -> None:
    b.rect(0, 0, 12, 92, WOOD, 4)
    b.rect(0, 6, 30, 60, shade(WOOD, 0.8), 8)
    b.rect(6, 62, 184, 84, WOOD, 4)
    b.rect(6, 76, 184, 84, shade(WOOD, 0.7), 3)
    b.rect(172, 36, 184, 94, shade(WOOD, 0.9), 4)
    b.rect(8, 84, 18, 94, shade(WOOD, 0.7))
    b.rect(12, 46, 174, 68, (244, 242, 238), 8)
    b.rect(16, 28, 60, 52, (255, 255, 252), 10)
    b.rect(20, 40, 58, 51, (226, 228, 236), 6)
    b.blob(
        [
            (62, 42),
            (100, 38),
            (150, 40),
            (176, 44),
            (178, 62),
            (176, 74),
            (120, 72),
            (64, 74),
            (56, 58),
        ],
        c,
    )
    b.rect(58, 44, 76, 74, shade(c, 1.45), 6)
    b.blob([(90, 66), (130, 62), (176, 62), (176, 74), (120, 73)], shade(c, 0.76))


def dining_table(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.68)
    for x in (20, 128):
        b.rect(x, 22, x + 8, 62, shade(dark, 0.8))
    for x in (4, 142):
        b.rect(x, 20, x + 10, 84, dark, 2)
    b.rect(4, 16, 152, 30, dark, 2)
    b.poly([(14, 0), (142, 0), (158, 16), (-2, 16)], shade(c, 1.14))
    b.rect(-2, 15, 158, 22, c, 2)


def tv(b: Shapes, c: Colour, style: int) -> None:
    b.rect(0, 0, 130, 78, DARK, 5)
    b.rect(5, 5, 125, 72, (88, 156, 220))
    b.poly([(5, 72), (5, 50), (40, 26), (66, 50), (92, 34), (125, 58), (125, 72)], (70, 158, 96))
    b.disc(100, 20, 8, (255, 226, 110))
    b.poly([(18, 5), (40, 5), (5, 50), (5, 22)], (128, 184, 232))
    b.rect(56, 76, 74, 88, DARK)
    b.rect(34, 86, 96, 93, shade(DARK, 1.15), 3)


def laptop(b: Shapes, c: Colour, style: int) -> None:
    b.rect(14, 0, 116, 70, c, 5)
    b.rect(19, 5, 111, 65, (60, 120, 206))
    b.rect(27, 14, 68, 52, (246, 248, 250), 2)
    for y in (20, 28, 36, 44):
        b.rect(31, y, 62 - y % 3 * 5, y + 3, (150, 170, 196))
    b.disc(90, 34, 11, (250, 206, 80))
    b.poly([(14, 70), (116, 70), (130, 88), (0, 88)], shade(c, 0.86))
    b.poly([(22, 73), (108, 73), (114, 81), (16, 81)], shade(c, 0.5))
    b.rect(0, 87, 130, 93, shade(c, 0.7), 2)


def refrigerator(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.76)
    b.rect(6, 164, 18, 172, DARK)
    b.rect(64, 164, 76, 172, DARK)
    b.rect(0, 0, 82, 166, c, 7)
    b.rect(66, 4, 82, 162, dark, 5)
    b.rect(0, 54, 82, 58, shade(c, 0.5))
    b.rect(8, 24, 14, 48, shade(c, 0.45), 3)
    b.rect(8, 66, 14, 104, shade(c, 0.45), 3)
    b.rect(28, 70, 44, 88, (250, 226, 110))
    b.rect(46, 78, 58, 92, (240, 130, 150))


DRAW = {
    "chair": chair,
    "couch": couch,
    "potted plant": potted_plant,
    "bed": bed,
    "dining table": dining_table,
    "tv": tv,
    "laptop": laptop,
    "refrigerator": refrigerator,
}
