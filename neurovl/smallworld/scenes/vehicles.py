"""How vehicles, street furniture and outdoor toys are drawn, in local units, y downwards."""

import math

from neurovl.smallworld.scenes.canvas import Colour, Shapes, mix, shade

GLASS = (186, 222, 240)
LAMP = (255, 224, 130)
TYRE = (40, 40, 46)
STEEL = (150, 156, 164)


def glass(b: Shapes) -> Colour:
    """Window colour by day, lit at night."""
    return LAMP if b.night else GLASS


def wheel(b: Shapes, x: float, y: float, r: float) -> None:
    b.disc(x, y, r, TYRE)
    b.disc(x, y, r * 0.55, (196, 200, 206))
    b.disc(x, y, r * 0.2, TYRE)


def bicycle(b: Shapes, c: Colour, style: int) -> None:
    for x in (22, 88):
        b.ring(x, 64, 22, 4.2, TYRE)
        for k in range(4):
            dx, dy = 20 * math.cos(k * 0.785), 20 * math.sin(k * 0.785)
            b.line([(x - dx, 64 - dy), (x + dx, 64 + dy)], 0.8, STEEL, caps=False)
        b.disc(x, 64, 3.4, STEEL)
    b.line([(22, 64), (42, 30), (78, 30), (52, 66), (22, 64)], 4.6, c)
    b.line([(52, 66), (38, 20)], 4.6, c)
    b.line([(88, 64), (75, 14)], 4.6, c)
    b.disc(52, 66, 7, shade(c, 0.6))
    b.line([(52, 66), (58, 76)], 3, TYRE)
    b.line([(75, 14), (68, 10)], 3.4, TYRE)
    b.line([(75, 14), (86, 12), (90, 18)], 3.4, TYRE)
    b.blob([(26, 18), (36, 14), (50, 17), (40, 22), (28, 22)], TYRE)


def car(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.7)
    b.blob([(26, 34), (36, 10), (50, 5), (84, 5), (98, 12), (112, 34), (70, 40)], c)
    b.poly([(33, 31), (42, 13), (62, 12), (62, 31)], glass(b))
    b.poly([(67, 31), (67, 12), (86, 12), (96, 17), (104, 31)], glass(b))
    b.poly([(50, 12), (58, 12), (46, 31), (38, 31)], shade(glass(b), 1.5))
    b.rect(2, 30, 142, 60, c, 13)
    b.rect(2, 44, 142, 60, c, 5)
    b.rect(2, 50, 142, 60, dark, 5)
    b.line([(65, 32), (65, 50)], 1.4, dark, caps=False)
    b.rect(70, 36, 80, 39, dark, 1.5)
    b.oval(137, 40, 5, 6, LAMP)
    b.rect(2, 36, 8, 45, (200, 40, 40), 2)
    for x in (34, 110):
        b.disc(x, 58, 17, shade(dark, 0.6))
        wheel(b, x, 59, 14)


def bus(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.7)
    b.rect(0, 0, 160, 76, c, 10)
    b.rect(0, 40, 160, 76, c, 4)
    b.rect(0, 0, 160, 12, shade(c, 1.25), 6)
    b.rect(0, 62, 160, 76, dark, 4)
    b.rect(0, 46, 160, 51, (250, 250, 246))
    for x in (8, 32, 56, 80):
        b.rect(x, 15, x + 20, 40, glass(b), 3)
        b.poly([(x + 10, 15), (x + 16, 15), (x + 6, 40), (x, 40)], shade(glass(b), 1.45))
    b.rect(105, 15, 124, 72, shade(glass(b), 0.85), 2)
    b.line([(114.5, 15), (114.5, 72)], 1.6, dark, caps=False)
    b.rect(130, 15, 160, 44, glass(b), 4)
    b.rect(126, 3, 154, 10, (40, 40, 44), 2)
    b.rect(130, 5, 150, 8, (255, 180, 60))
    b.disc(154, 62, 4.4, LAMP)
    for x in (32, 140):
        wheel(b, x, 76, 13)


def train(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.66)
    b.poly([(0, 6), (150, 6), (172, 22), (186, 50), (186, 66), (0, 66)], c)
    b.rect(0, 2, 148, 10, shade(c, 0.5), 3)
    b.poly([(0, 52), (186, 52), (186, 66), (0, 66)], dark)
    b.rect(0, 45, 186, 50, (250, 250, 246))
    for x in (6, 28, 74, 96, 118):
        b.rect(x, 17, x + 17, 38, glass(b), 3)
    b.rect(50, 15, 68, 62, shade(c, 0.84), 2)
    b.rect(53, 18, 65, 36, glass(b), 2)
    b.poly([(144, 15), (158, 15), (174, 38), (144, 38)], glass(b))
    b.disc(178, 56, 4.4, LAMP)
    b.line([(70, 66), (70, 70)], 4, TYRE)
    b.rect(4, 66, 182, 72, (60, 62, 68))
    for x in (18, 40, 84, 106, 146, 168):
        wheel(b, x, 74, 8)


def airplane(b: Shapes, c: Colour, style: int) -> None:
    dark, trim = shade(c, 0.72), (52, 96, 180) if min(c) > 200 else (248, 248, 248)
    b.poly([(84, 40), (46, 4), (62, 2), (112, 40)], shade(dark, 0.85))
    b.poly([(8, 42), (-10, 2), (12, 2), (42, 38)], trim)
    b.blob([(-4, 40), (20, 36), (120, 32), (150, 38), (162, 50), (148, 60), (110, 62), (30, 56)], c)
    b.blob([(20, 53), (80, 54), (156, 54), (142, 61), (110, 62), (40, 58)], dark)
    b.poly([(140, 37), (150, 39), (157, 46), (142, 46)], (60, 80, 110))
    for x in range(40, 134, 12):
        b.rect(x, 42, x + 5, 48, (60, 80, 110), 2)
    b.poly([(74, 52), (30, 88), (50, 90), (110, 54)], shade(c, 0.86))
    b.rect(62, 68, 88, 80, (110, 116, 126), 5)
    b.poly([(8, 44), (-12, 58), (2, 60), (34, 48)], dark)


def boat(b: Shapes, c: Colour, style: int) -> None:
    if style % 2:  # sailing boat
        b.line([(52, 0), (52, 80)], 3.4, (110, 76, 50))
        b.poly([(56, 4), (104, 66), (56, 70)], (250, 248, 240))
        b.poly([(56, 44), (89, 46), (104, 66), (56, 70)], (228, 224, 214))
        b.poly([(48, 14), (48, 70), (12, 68)], (240, 236, 226))
        b.poly([(54, 0), (54, 10), (68, 5)], c)
    else:  # cabin boat
        b.rect(24, 32, 70, 64, (248, 246, 240), 4)
        b.rect(20, 28, 74, 35, shade(c, 0.8), 3)
        b.rect(29, 41, 43, 53, glass(b), 2)
        b.rect(49, 41, 64, 53, glass(b), 2)
        b.rect(30, 12, 40, 29, c)
        b.rect(30, 12, 40, 17, (50, 50, 56))
        b.line([(92, 66), (92, 20)], 2.4, (110, 76, 50))
        b.poly([(92, 20), (92, 34), (108, 27)], c)
    b.blob([(-8, 66), (50, 72), (124, 62), (112, 84), (96, 96), (50, 99), (12, 96), (0, 82)], c)
    b.blob([(2, 86), (50, 90), (111, 84), (96, 96), (50, 99), (12, 96)], shade(c, 0.62))
    b.line([(2, 71), (50, 76), (114, 69)], 3, (250, 250, 246))


def traffic_light(b: Shapes, c: Colour, style: int) -> None:
    lit = style % 3
    b.rect(24, 70, 34, 180, (84, 88, 94), 2)
    b.rect(12, 172, 46, 182, (66, 70, 76), 3)
    b.rect(0, 0, 58, 104, shade(c, 0.8), 12)
    b.rect(4, 4, 54, 100, c, 10)
    for k, on in enumerate(((238, 52, 46), (252, 200, 50), (60, 200, 90))):
        y = 21 + 31 * k
        b.disc(29, y, 14, (34, 34, 38))
        b.disc(29, y, 11.5, on if k == lit else shade(on, 0.3))
        if k == lit:
            b.oval(25, y - 4, 3.6, 3, shade(on, 1.6))


def fire_hydrant(b: Shapes, c: Colour, style: int) -> None:
    dark, light = shade(c, 0.7), shade(c, 1.35)
    b.rect(10, 84, 62, 96, dark, 3)
    b.rect(0, 42, 72, 58, dark, 5)
    b.rect(16, 30, 56, 88, c, 4)
    b.rect(20, 34, 27, 84, light, 3)
    b.rect(48, 34, 56, 86, dark, 3)
    b.oval(36, 26, 22, 18, c)
    b.rect(12, 24, 60, 34, dark, 4)
    b.rect(31, 2, 41, 12, dark, 2)
    b.disc(36, 52, 12, dark)
    b.disc(36, 52, 8, light)
    b.disc(36, 52, 3, dark)


def stop_sign(b: Shapes, c: Colour, style: int) -> None:
    b.rect(46, 60, 54, 190, (150, 154, 160), 2)

    def octagon(r: float, ink: Colour) -> None:
        turn = [math.pi / 8 + k * math.pi / 4 for k in range(8)]
        b.poly([(50 + r * math.cos(t), 50 + r * math.sin(t)) for t in turn], ink)

    octagon(52, (250, 250, 250))
    octagon(47, c)
    ink = (252, 252, 252)
    letters = (
        [(13, -10), (3, -12), (1, -6), (13, 5), (11, 12), (1, 11)],
        [(0, -11), (14, -11), (7, -11), (7, 12)],
        [(2, -11), (13, -11), (13, 12), (2, 12), (2, -11)],
        [(1, 12), (1, -11), (12, -11), (12, 1), (1, 1)],
    )
    for k, stroke in enumerate(letters):
        b.line([(14 + 19.5 * k + x, 50 + y) for x, y in stroke], 4.2, ink)


def bench(b: Shapes, c: Colour, style: int) -> None:
    dark = shade(c, 0.68)
    for x in (16, 104):
        b.line([(x, 4), (x, 72)], 5, (60, 62, 68))
        b.line([(x - 8, 72), (x + 8, 72)], 5, (60, 62, 68))
    for y in (4, 17, 30):
        b.rect(2, y, 118, y + 9, c, 3)
    b.poly([(6, 42), (114, 42), (124, 54), (-4, 54)], shade(c, 1.15))
    b.rect(-4, 52, 124, 58, dark, 2)
    for x in (6, 114):
        b.line([(x, 58), (x, 78)], 5.4, (50, 52, 58))


def umbrella(b: Shapes, c: Colour, style: int) -> None:
    dark, light = shade(c, 0.78), shade(c, 1.3)
    b.line([(50, -2), (50, 100)], 3.2, (92, 70, 56))
    b.line([(50, 100), (53, 104), (58, 102)], 3.2, (92, 70, 56))
    top = []
    for k in range(25):
        t = math.pi * k / 24
        top.append((50 - 52 * math.cos(t), 50 - 46 * math.sin(t)))
    edge = []
    for k in range(4):
        x1 = 102 - 26 * k
        edge += [(x1 - 4, 46), (x1 - 13, 43), (x1 - 22, 46), (x1 - 26, 50)]
    b.poly(top + edge, c)
    b.poly([(50, 4), (30, 12), (18, 28), (24, 50), (37, 43), (50, 50)], light)
    b.poly([(50, 4), (74, 10), (92, 30), (102, 50), (89, 43), (76, 50)], dark)
    b.disc(50, 2, 3, dark)


def kite(b: Shapes, c: Colour, style: int) -> None:
    other = (250, 250, 245) if c[0] < 245 or c[1] < 200 else (235, 90, 60)
    b.poly([(50, 0), (86, 42), (50, 104), (14, 42)], c)
    b.poly([(50, 0), (86, 42), (50, 42)], mix(c, other, 0.55))
    b.poly([(14, 42), (50, 42), (50, 104)], shade(c, 0.74))
    b.line([(50, 1), (50, 103)], 1.6, (90, 70, 60))
    b.line([(15, 42), (85, 42)], 1.6, (90, 70, 60))
    b.line([(50, 104), (56, 116), (46, 128), (54, 142), (44, 154)], 2, shade(c, 0.7))
    for x, y in ((56, 116), (46, 128), (54, 142)):
        b.poly([(x, y), (x - 10, y - 6), (x - 10, y + 6)], c)
        b.poly([(x, y), (x + 10, y - 6), (x + 10, y + 6)], c)


def surfboard(b: Shapes, c: Colour, style: int) -> None:
    stripe = (250, 250, 246) if min(c) < 200 else (52, 110, 214)
    if style % 2:  # lying
        b.blob([(0, 10), (34, 4), (80, 3), (116, 8), (130, 6), (112, 16), (70, 20), (26, 18)], c)
        b.line([(14, 11.5), (112, 10.5)], 3, stripe)
        return
    b.blob([(20, 0), (34, 28), (38, 74), (31, 118), (20, 130), (9, 118), (2, 74), (6, 28)], c)
    b.blob([(20, 0), (27, 14), (31, 28), (20, 33), (9, 28), (13, 14)], shade(c, 0.72))
    b.rect(17.5, 32, 22.5, 124, stripe)
    b.rect(5, 84, 35, 92, stripe)


DRAW = {
    "bicycle": bicycle,
    "car": car,
    "bus": bus,
    "train": train,
    "airplane": airplane,
    "boat": boat,
    "traffic light": traffic_light,
    "fire hydrant": fire_hydrant,
    "stop sign": stop_sign,
    "bench": bench,
    "umbrella": umbrella,
    "kite": kite,
    "surfboard": surfboard,
}
