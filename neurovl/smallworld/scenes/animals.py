"""How animals are drawn, facing right, in local units (y downwards, feet near 100)."""

from collections.abc import Sequence

from neurovl.smallworld.scenes.canvas import Colour, Shapes, shade

DARK = (34, 32, 36)
WHITE = (250, 250, 250)


def eye(b: Shapes, x: float, y: float, r: float = 2.0) -> None:
    """A dark dot with a glint."""
    b.disc(x, y, r, DARK)
    b.disc(x + r * 0.3, y - r * 0.3, r * 0.35, WHITE)


def legs(
    b: Shapes,
    xs: Sequence[float],
    y0: float,
    y1: float,
    width: float,
    colour: Colour,
    foot: Colour = DARK,
) -> None:
    """Straight legs; the first half of xs are the far ones, darker."""
    for k, x in enumerate(xs):
        near = k >= len(xs) / 2
        c = colour if near else shade(colour, 0.72)
        b.poly(
            [
                (x - width * 0.62, y0),
                (x + width * 0.62, y0),
                (x + width * 0.45, y1),
                (x - width * 0.45, y1),
            ],
            c,
        )
        b.rect(x - width * 0.52, y1 - width * 0.5, x + width * 0.62, y1, foot, width * 0.15)


def bird(b: Shapes, c: Colour, style: int) -> None:
    wing, belly = shade(c, 0.68), shade(c, 1.45)
    beak = (240, 160, 40)
    if style % 2:  # perched
        b.line([(44, 78), (44, 98)], 3, beak)
        b.line([(54, 78), (54, 98)], 3, beak)
        b.line([(38, 98.5), (60, 98.5)], 3, beak)
        b.poly([(24, 62), (-6, 84), (4, 92), (36, 76)], wing)
        b.blob([(18, 60), (38, 34), (62, 26), (78, 46), (70, 72), (46, 84)], c)
        b.blob([(44, 80), (62, 50), (74, 50), (70, 72)], belly)
        b.disc(70, 30, 16, c)
        b.poly([(83, 24), (103, 32), (83, 38)], beak)
        b.blob([(10, 74), (28, 46), (48, 46), (54, 60), (34, 72)], wing)
        eye(b, 74, 27, 3.2)
        return
    b.poly([(16, 52), (-14, 42), (-8, 58), (-16, 70)], wing)
    b.poly([(40, 50), (22, 6), (50, 2), (70, 46)], shade(c, 0.55))
    b.blob([(8, 56), (30, 42), (64, 40), (84, 46), (84, 60), (50, 70), (24, 66)], c)
    b.blob([(40, 68), (60, 58), (84, 58), (62, 69)], belly)
    b.disc(84, 46, 13, c)
    b.poly([(95, 42), (115, 48), (95, 53)], beak)
    b.blob([(36, 52), (10, 8), (0, -10), (36, 2), (66, 48)], wing)
    eye(b, 88, 43, 3)


def cat(b: Shapes, c: Colour, style: int) -> None:
    dark, light = shade(c, 0.7), shade(c, 1.55)
    if c[0] < 80:
        dark, light = shade(c, 1.25), shade(c, 1.4)
    b.line([(18, 92), (0, 88), (-8, 70), (0, 56), (-4, 46)], 8, dark)
    b.blob([(14, 98), (16, 70), (30, 48), (56, 46), (66, 68), (68, 98)], c)
    b.blob([(42, 97), (44, 70), (56, 60), (64, 76), (64, 97)], light)
    for x in (26, 34):
        b.line([(x - 8, 66), (x - 4, 72)], 3, dark)
        b.line([(x - 12, 78), (x - 7, 84)], 3, dark)
    b.rect(40, 70, 51, 100, c, 5)
    b.rect(55, 70, 66, 100, c, 5)
    b.rect(14, 90, 40, 100, c, 5)
    for x in (46, 61):
        b.line([(x, 95), (x, 99)], 1.2, dark)
    b.poly([(32, 34), (30, 4), (50, 18)], c)
    b.poly([(74, 34), (78, 4), (58, 18)], c)
    b.poly([(36, 26), (35, 11), (45, 19)], (240, 160, 160))
    b.poly([(71, 26), (74, 11), (63, 19)], (240, 160, 160))
    b.oval(54, 34, 26, 22, c)
    b.oval(54, 43, 13, 9, light)
    for x in (44, 64):
        b.oval(x, 31, 5.4, 6.2, (190, 214, 90))
        b.oval(x, 31, 2.2, 5.4, DARK)
    b.poly([(50, 39), (58, 39), (54, 43)], (224, 120, 120))
    b.line([(54, 43), (50, 47), (47, 46)], 1.3, DARK)
    b.line([(54, 43), (58, 47), (61, 46)], 1.3, DARK)
    for k, x in enumerate((48, 54, 60)):
        b.line([(x, 14 + (k != 1)), (x, 21)], 2.4, dark)


def dog(b: Shapes, c: Colour, style: int) -> None:
    dark, light = shade(c, 0.66), shade(c, 1.5)
    if c[0] < 80:
        dark, light = shade(c, 0.6), shade(c, 1.3)
    b.line([(8, 48), (-8, 32), (-8, 18)], 8, c)
    legs(b, (20, 74, 12, 66), 60, 100, 12, c, shade(c, 0.8))
    b.blob(
        [(2, 56), (10, 40), (40, 42), (70, 36), (84, 46), (80, 66), (60, 74), (30, 70), (8, 72)], c
    )
    b.blob([(60, 73), (70, 54), (84, 50), (80, 67)], light)
    b.poly([(62, 46), (68, 20), (92, 22), (86, 52)], c)
    b.oval(82, 20, 19, 17, c)
    b.rect(84, 18, 112, 35, light, 8)
    b.oval(109, 20, 6, 5, DARK)
    b.line([(92, 31), (106, 31)], 1.6, DARK)
    b.blob([(66, 8), (74, 6), (80, 22), (72, 42), (62, 36)], dark)
    eye(b, 90, 14, 3)
    b.rect(66, 38, 86, 44, (206, 54, 60), 2)
    b.disc(79, 46, 3.4, (244, 200, 70))


def horse(b: Shapes, c: Colour, style: int) -> None:
    mane = (40, 30, 28) if c[0] > 70 and c[0] < 230 else shade(c, 0.6 if c[0] > 200 else 1.3)
    b.blob([(-2, 44), (-14, 52), (-16, 80), (-8, 84), (-2, 66), (6, 50)], mane)
    legs(b, (16, 74, 6, 64), 54, 100, 10, c)
    b.blob(
        [(-2, 50), (6, 34), (36, 37), (66, 33), (82, 40), (78, 62), (52, 67), (22, 65), (4, 66)], c
    )
    b.poly([(58, 40), (80, 2), (100, 6), (84, 58)], c)
    b.blob([(82, -2), (94, -4), (106, 10), (116, 24), (112, 33), (102, 32), (86, 18)], c)
    b.blob([(111, 20), (118, 25), (114, 34), (105, 32)], shade(c, 0.75))
    b.poly([(83, 1), (86, -13), (93, -2)], c)
    b.blob([(84, -6), (76, -4), (62, 16), (52, 38), (62, 38), (76, 18), (88, 4)], mane)
    eye(b, 98, 8, 2.4)
    b.disc(114, 27, 1.5, DARK)


def sheep(b: Shapes, c: Colour, style: int) -> None:
    wool, dark = c, (66, 58, 56)
    if c[0] < 80:
        dark = (110, 100, 96)
    legs(b, (26, 70, 18, 62), 66, 100, 8, dark)
    low = shade(wool, 0.86)
    for x, y in ((14, 54), (26, 68), (44, 72), (62, 70), (76, 58)):
        b.disc(x, y, 15, low)
    for x, y in (
        (10, 44),
        (20, 32),
        (36, 26),
        (54, 26),
        (70, 34),
        (78, 48),
        (62, 58),
        (44, 60),
        (26, 56),
    ):
        b.disc(x, y, 16, wool)
    b.rect(16, 34, 74, 60, wool, 10)
    b.tilted(92, 42, 16, 12, 38, dark)
    b.tilted(78, 33, 9, 4.5, 160, dark)
    b.disc(83, 27, 9, wool)
    b.disc(76, 26, 7, wool)
    b.disc(91, 38, 3.6, WHITE)
    b.disc(92, 38, 2, DARK)


def cow(b: Shapes, c: Colour, style: int) -> None:
    spot = (44, 40, 42) if c[0] > 200 else (WHITE if c[0] < 80 else (246, 236, 220))
    b.line([(0, 36), (-8, 50), (-8, 74)], 3.5, shade(c, 0.8))
    b.oval(-8, 77, 4.5, 7, (50, 44, 44))
    legs(b, (18, 76, 6, 66), 58, 100, 11, c)
    b.oval(24, 73, 9, 8, (240, 170, 170))
    b.blob(
        [(-2, 38), (10, 28), (50, 30), (80, 26), (90, 40), (84, 66), (60, 74), (24, 72), (2, 66)], c
    )
    b.blob([(14, 32), (34, 30), (40, 46), (26, 56), (12, 48)], spot)
    b.blob([(54, 50), (70, 44), (78, 58), (64, 70), (52, 66)], spot)
    b.poly([(72, 30), (86, 12), (104, 26), (90, 56)], c)
    b.tilted(90, 12, 5, 12, 130, shade(c, 0.8))
    b.line([(96, 8), (92, -4), (97, -8)], 4, (230, 220, 190))
    b.blob([(90, 6), (106, 6), (112, 20), (118, 34), (106, 42), (94, 28)], c)
    b.oval(111, 36, 10, 8, (240, 180, 176))
    b.disc(114, 34, 1.7, DARK)
    eye(b, 104, 17, 2.6)


def elephant(b: Shapes, c: Colour, style: int) -> None:
    c = (138, 144, 154)
    dark, light = shade(c, 0.74), shade(c, 1.2)
    b.line([(2, 40), (-6, 56), (-5, 68)], 3.5, dark)
    legs(b, (26, 72, 12, 58), 56, 100, 18, c, shade(c, 0.6))
    b.blob([(-2, 46), (12, 20), (44, 14), (74, 22), (84, 46), (74, 70), (40, 76), (6, 72)], c)
    b.line([(104, 38), (114, 54), (114, 72), (110, 86), (118, 92)], 11, c)
    b.line([(106, 40), (112, 50)], 16, c)
    b.oval(90, 30, 23, 24, c)
    b.blob([(99, 46), (112, 58), (122, 56), (114, 60), (100, 56)], WHITE)
    b.blob([(66, 10), (82, 14), (86, 36), (76, 58), (60, 52), (56, 26)], dark)
    b.blob([(67, 15), (78, 18), (81, 35), (73, 50), (63, 46), (60, 28)], light)
    eye(b, 98, 26, 2.8)
    for y in (62, 72, 80):
        b.line([(109, y), (116, y - 1)], 1.2, dark)


def bear(b: Shapes, c: Colour, style: int) -> None:
    dark, snout = shade(c, 0.7), shade(c, 1.5)
    if c[0] < 80:
        dark = shade(c, 0.62)
    b.disc(-4, 46, 6, c)
    legs(b, (22, 78, 8, 64), 60, 100, 19, c, dark)
    b.blob(
        [(-4, 56), (4, 34), (30, 26), (66, 22), (86, 34), (86, 62), (62, 78), (30, 78), (4, 74)], c
    )
    b.disc(82, 12, 8, dark)
    b.disc(104, 14, 7, c)
    b.oval(94, 30, 22, 20, c)
    b.oval(111, 38, 13, 10, snout)
    b.oval(120, 34, 5, 4, DARK)
    b.line([(112, 44), (119, 43)], 1.6, DARK)
    eye(b, 101, 25, 2.7)
    b.disc(82, 12, 4, snout)


def zebra(b: Shapes, c: Colour, style: int) -> None:
    c, ink = (246, 246, 242), (40, 40, 46)
    b.line([(0, 40), (-9, 52), (-10, 66)], 3, c)
    b.oval(-10, 70, 4, 8, ink)
    legs(b, (16, 74, 6, 64), 54, 100, 10, c, ink)
    for x in (16, 74, 6, 64):
        for y in (70, 77, 84, 91):
            b.rect(x - 5, y, x + 5, y + 3, ink)
    b.blob(
        [(-2, 50), (6, 34), (36, 37), (66, 33), (82, 40), (78, 62), (52, 67), (22, 65), (4, 66)], c
    )
    b.poly([(58, 40), (80, 2), (100, 8), (84, 56)], c)
    b.blob([(82, -2), (94, -4), (106, 10), (116, 24), (112, 33), (102, 32), (86, 18)], c)
    b.blob([(110, 19), (118, 25), (114, 34), (104, 31)], ink)
    b.poly([(83, 1), (86, -13), (93, -2)], c)
    b.line([(84, -4), (70, 14), (60, 34)], 6, ink)
    for x in (5, 15, 25, 35, 45, 55, 66):
        b.poly([(x - 3, 39), (x + 3, 39), (x + 1, 63), (x - 1, 63)], ink)
    for t in (0.15, 0.38, 0.6, 0.82):
        x, y = 60 + 20 * t, 38 - 36 * t
        b.poly([(x, y), (x + 4, y - 4), (x + 21 - 3 * t, y + 12 - 6 * t)], ink)
    b.poly([(92, -1), (95, 0), (93, 14)], ink)
    eye(b, 99, 9, 2.3)


def giraffe(b: Shapes, c: Colour, style: int) -> None:
    c, spot = (238, 196, 104), (168, 102, 48)
    b.line([(2, 66), (-8, 78), (-9, 90)], 3, c)
    b.oval(-9, 93, 3.5, 6, (70, 46, 30))
    legs(b, (16, 62, 8, 54), 78, 136, 9, c, (90, 62, 40))
    b.blob(
        [(-2, 76), (4, 62), (30, 60), (58, 50), (74, 56), (68, 80), (46, 88), (20, 86), (4, 88)], c
    )
    b.poly([(52, 60), (76, -22), (92, -20), (74, 72)], c)
    b.line([(75, -24), (52, 54)], 4, spot)
    b.line([(80, -30), (78, -44)], 3, c)
    b.disc(78, -45, 3.4, spot)
    b.blob([(72, -28), (84, -34), (98, -24), (112, -14), (108, -5), (96, -8), (78, -14)], c)
    b.oval(107, -10, 7, 6, shade(c, 0.85))
    b.tilted(69, -27, 9, 4, 20, shade(c, 0.8))
    for x, y, r in (
        (10, 72, 6),
        (24, 68, 6.5),
        (17, 80, 5),
        (34, 79, 6),
        (40, 67, 6),
        (50, 76, 6),
        (56, 62, 6),
        (64, 70, 5),
        (64, 48, 5.5),
        (70, 34, 5),
        (70, 18, 4.6),
        (77, 6, 4.2),
        (78, -10, 4),
    ):
        b.poly(
            [
                (x - r, y - r * 0.4),
                (x, y - r),
                (x + r, y - r * 0.3),
                (x + r * 0.6, y + r * 0.8),
                (x - r * 0.6, y + r * 0.7),
            ],
            spot,
        )
    eye(b, 91, -22, 2.6)


DRAW = {
    "bird": bird,
    "cat": cat,
    "dog": dog,
    "horse": horse,
    "sheep": sheep,
    "cow": cow,
    "elephant": elephant,
    "bear": bear,
    "zebra": zebra,
    "giraffe": giraffe,
}
