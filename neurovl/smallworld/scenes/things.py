"""How food, kitchenware, furniture, electronics and studio objects are drawn, in local units."""

import math

import numpy as np

from neurovl.smallworld.scenes.animals import HAIR, SKIN, eye
from neurovl.smallworld.scenes.canvas import mix, shade

WOOD = (150, 100, 62)
DARK = (38, 38, 44)
LEAF = (58, 148, 76)


def bottle(b, c, style):
    b.rect(0, 40, 36, 120, c, 9)
    b.blob([(0, 56), (3, 42), (11, 32), (12, 12), (24, 12), (25, 32), (33, 42), (36, 56)], c)
    b.rect(11, 6, 25, 30, c)
    b.rect(9, 0, 27, 10, shade(c, 0.55), 3)
    b.rect(0, 62, 36, 94, (248, 244, 232))
    b.disc(18, 78, 9, shade(c, 0.8))
    b.rect(5, 46, 9.5, 116, shade(c, 1.5), 2)
    b.rect(30, 46, 36, 112, shade(c, 0.72), 3)


def cup(b, c, style):
    b.ring(66, 38, 17, 7, shade(c, 0.8))
    b.poly([(2, 12), (66, 12), (58, 78), (10, 78)], c)
    b.oval(34, 78, 24, 6, c)
    b.poly([(50, 14), (66, 12), (58, 78), (46, 83)], shade(c, 0.8))
    b.poly([(10, 18), (17, 19), (21, 76), (16, 76)], shade(c, 1.5))
    b.oval(34, 12, 32, 8, shade(c, 1.3))
    b.oval(34, 12.5, 27, 5.6, (92, 56, 36))


def banana(b, c, style):
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


def apple(b, c, style):
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


def pizza(b, c, style):
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


def cake(b, c, style):
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


def chair(b, c, style):
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


def couch(b, c, style):
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


def potted_plant(b, c, style):
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


def bed(b, c, style):
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


def dining_table(b, c, style):
    dark = shade(c, 0.68)
    for x in (20, 128):
        b.rect(x, 22, x + 8, 62, shade(dark, 0.8))
    for x in (4, 142):
        b.rect(x, 20, x + 10, 84, dark, 2)
    b.rect(4, 16, 152, 30, dark, 2)
    b.poly([(14, 0), (142, 0), (158, 16), (-2, 16)], shade(c, 1.14))
    b.rect(-2, 15, 158, 22, c, 2)


def tv(b, c, style):
    b.rect(0, 0, 130, 78, DARK, 5)
    b.rect(5, 5, 125, 72, (88, 156, 220))
    b.poly([(5, 72), (5, 50), (40, 26), (66, 50), (92, 34), (125, 58), (125, 72)], (70, 158, 96))
    b.disc(100, 20, 8, (255, 226, 110))
    b.poly([(18, 5), (40, 5), (5, 50), (5, 22)], (128, 184, 232))
    b.rect(56, 76, 74, 88, DARK)
    b.rect(34, 86, 96, 93, shade(DARK, 1.15), 3)


def laptop(b, c, style):
    b.rect(14, 0, 116, 70, c, 5)
    b.rect(19, 5, 111, 65, (60, 120, 206))
    b.rect(27, 14, 68, 52, (246, 248, 250), 2)
    for y in (20, 28, 36, 44):
        b.rect(31, y, 62 - y % 3 * 5, y + 3, (150, 170, 196))
    b.disc(90, 34, 11, (250, 206, 80))
    b.poly([(14, 70), (116, 70), (130, 88), (0, 88)], shade(c, 0.86))
    b.poly([(22, 73), (108, 73), (114, 81), (16, 81)], shade(c, 0.5))
    b.rect(0, 87, 130, 93, shade(c, 0.7), 2)


def refrigerator(b, c, style):
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


def clock(b, c, style):
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


def vase(b, c, style):
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


def scissors(b, c, style):
    steel = (186, 194, 204)
    b.poly([(46, 66), (56, 62), (86, -4), (78, -8)], steel)
    b.poly([(54, 66), (44, 62), (14, -4), (22, -8)], shade(steel, 0.84))
    b.line([(48, 62), (36, 84)], 8, c)
    b.line([(52, 62), (64, 84)], 8, c)
    b.ring(28, 100, 18, 9, c)
    b.ring(72, 100, 18, 9, shade(c, 0.86))
    b.disc(50, 60, 4.4, (90, 96, 104))


def teddy_bear(b, c, style):
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


def face(b, c, style):
    skin, hair = SKIN[style % 4], HAIR[style // 4 % 4]
    dark = shade(skin, 0.84)
    long_hair = style // 16 % 2
    if long_hair:
        b.blob(
            [
                (0, 50),
                (16, 4),
                (50, -10),
                (84, 4),
                (100, 50),
                (98, 116),
                (70, 126),
                (30, 126),
                (2, 116),
            ],
            hair,
        )
    b.rect(36, 100, 64, 136, dark, 6)
    for x in (9, 91):
        b.oval(x, 64, 8, 12, dark)
    b.blob([(12, 50), (18, 20), (50, 8), (82, 20), (88, 50), (82, 88), (50, 116), (18, 88)], skin)
    b.blob([(10, 52), (12, 16), (50, -8), (88, 16), (90, 52), (80, 32), (56, 26), (24, 30)], hair)
    for x in (33, 67):
        b.oval(x, 58, 9, 6.4, (252, 252, 252))
        b.disc(x, 58, 4.8, (86, 58, 38))
        b.disc(x, 58, 2.4, DARK)
        b.line([(x - 9, 46), (x, 43), (x + 9, 46)], 3.2, hair)
    b.line([(51, 58), (45, 76), (53, 78)], 2.6, dark)
    b.blob(
        [(34, 92), (44, 89), (50, 91), (56, 89), (66, 92), (58, 99), (50, 101), (42, 99)],
        (200, 84, 84),
    )
    b.line([(36, 93), (50, 95), (64, 93)], 1.6, (150, 50, 56))


def house(b, c, style):
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


def shoe(b, c, style):
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


def scrambled(b, c, style):
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
    "bottle": bottle,
    "cup": cup,
    "banana": banana,
    "apple": apple,
    "pizza": pizza,
    "cake": cake,
    "chair": chair,
    "couch": couch,
    "potted plant": potted_plant,
    "bed": bed,
    "dining table": dining_table,
    "tv": tv,
    "laptop": laptop,
    "refrigerator": refrigerator,
    "clock": clock,
    "vase": vase,
    "scissors": scissors,
    "teddy bear": teddy_bear,
    "face": face,
    "house": house,
    "shoe": shoe,
    "scrambled": scrambled,
}
