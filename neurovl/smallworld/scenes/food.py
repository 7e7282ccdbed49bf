"""How food, bottle and cup are drawn, in local units, y downwards."""

from neurovl.smallworld.scenes.canvas import DARK, LEAF, Colour, Shapes, shade


def bottle(b: Shapes, c: Colour, style: int) -> None:
    b.rect(0, 40, 36, 120, c, 9)
    b.blob([(0, 56), (3, 42), (11, 32), (12, 12), (24, 12), (25, 32), (33, 42), (36, 56)], c)
    b.rect(11, 6, 25, 30, c)
    b.rect(9, 0, 27, 10, shade(c, 0.55), 3)
    b.rect(0, 62, 36, 94, (248, 244, 232))
    b.disc(18, 78, 9, shade(c, 0.8))
    b.rect(5, 46, 9.5, 116, shade(c, 1.5), 2)
    b.rect(30, 46, 36, 112, shade(c, 0.72), 3)


def cup(b: Shapes, c: Colour, style: int) -> None:
    b.ring(66, 38, 17, 7, shade(c, 0.8))
    b.poly([(2, 12), (66, 12), (58, 78), (10, 78)], c)
    b.oval(34, 78, 24, 6, c)
    b.poly([(50, 14), (66, 12), (58, 78), (46, 83)], shade(c, 0.8))
    b.poly([(10, 18), (17, 19), (21, 76), (16, 76)], shade(c, 1.5))
    b.oval(34, 12, 32, 8, shade(c, 1.3))
    b.oval(34, 12.5, 27, 5.6, (92, 56, 36))


def banana(b: Shapes, c: Colour, style: int) -> None:
    c = (248, 208, 56)
    b.blob(
        [
            (6, 6),
            (16, 4),
            (22, 30),
            (46, 54),
            (80, 60),
            (104, 50),
            (108, 56),
            (84, 78),
            (46, 80),
            (14, 54),
        ],
        c,
    )
    b.blob(
        [(10, 26), (18, 46), (46, 68), (82, 70), (102, 58), (84, 78), (46, 80), (14, 54)],
        (222, 170, 36),
    )
    b.poly([(5, 8), (7, -6), (16, -7), (17, 7)], (110, 92, 40))
    b.disc(106, 52, 5, (96, 72, 40))


def apple(b: Shapes, c: Colour, style: int) -> None:
    b.blob(
        [
            (50, 24),
            (66, 14),
            (88, 20),
            (96, 46),
            (84, 80),
            (64, 94),
            (50, 90),
            (36, 94),
            (16, 80),
            (4, 46),
            (12, 20),
            (34, 14),
        ],
        c,
    )
    b.blob([(64, 90), (82, 72), (88, 44), (82, 24), (95, 46), (84, 80), (66, 93)], shade(c, 0.76))
    b.tilted(26, 38, 8, 14, 24, shade(c, 1.5))
    b.oval(50, 23, 13, 5, shade(c, 0.6))
    b.line([(50, 24), (53, 2)], 5, (96, 64, 40))
    b.blob([(54, 12), (66, -4), (86, -2), (74, 12)], LEAF)


def pizza(b: Shapes, c: Colour, style: int) -> None:
    b.oval(70, 40, 78, 42, (232, 232, 236))
    b.oval(70, 38, 70, 36, (202, 140, 70))
    b.oval(70, 36, 61, 30, (196, 62, 40))
    b.oval(70, 36, 57, 27.5, (250, 208, 96))
    for x, y in ((44, 26), (74, 18), (102, 30), (38, 44), (68, 38), (94, 50), (62, 56)):
        b.oval(x, y, 10.5, 6, (170, 40, 34))
        b.oval(x - 0.6, y - 1, 8.5, 4.4, (214, 70, 52))
    for x, y in ((58, 28), (88, 38), (54, 50), (80, 54), (100, 42)):
        b.tilted(x, y, 5, 2.2, 40, LEAF)
    for x, y in ((50, 36), (84, 27), (76, 47)):
        b.oval(x, y, 3.4, 2.2, DARK)


def cake(b: Shapes, c: Colour, style: int) -> None:
    cream = (252, 246, 236) if max(c) - min(c) > 20 else (240, 130, 172)
    b.oval(64, 98, 72, 15, (226, 228, 236))
    b.oval(64, 95, 58, 13, shade(c, 0.72))
    b.rect(6, 48, 122, 95, c)
    b.poly([(92, 48), (122, 48), (122, 95), (92, 106)], shade(c, 0.86))
    b.oval(64, 92, 57, 13, c)
    b.rect(6, 70, 122, 77, shade(cream, 0.94))
    b.oval(64, 48, 58, 14, cream)
    for k, x in enumerate((16, 38, 62, 86, 110)):
        b.rect(x - 9, 48, x + 9, 62 + 7 * (k % 2), cream, 8)
    for k, x in enumerate((34, 64, 94)):
        b.rect(x - 3, 18 + (k != 1) * 2, x + 3, 46, ((90, 160, 230), (250, 210, 70))[k % 2], 1)
        b.oval(x, 10, 4, 8, (255, 168, 46))
        b.oval(x, 12, 2, 4.4, (255, 236, 150))
    for x in (20, 49, 79, 108):
        b.disc(x, 50, 5, (214, 40, 56))


DRAW = {
    "bottle": bottle,
    "cup": cup,
    "banana": banana,
    "apple": apple,
    "pizza": pizza,
    "cake": cake,
}
