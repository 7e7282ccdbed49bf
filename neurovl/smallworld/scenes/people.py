"""How a person and a face are drawn, in local units, y downwards; a person looks to the right."""

from neurovl.smallworld.scenes.canvas import DARK, Colour, Shapes, shade

SKIN = ((246, 208, 176), (224, 172, 132), (172, 116, 80), (112, 72, 50))
HAIR = ((60, 40, 28), (30, 26, 28), (196, 140, 62), (120, 60, 30))
TROUSERS = ((46, 62, 104), (70, 66, 66), (104, 78, 54), (36, 40, 52))
PUPIL = (34, 32, 36)


def person(b: Shapes, c: Colour, style: int) -> None:
    pose, kind, look = style % 5, style // 5 % 3, style // 15 % 4
    skin, hair, trousers = SKIN[look], HAIR[(look + style // 15 // 4) % 4], TROUSERS[look]
    dress = kind == 1
    dark = shade(c, 0.78)
    child = kind == 2
    head = 11.5 if child else 9.0
    neck, hip = 23.0, 56.0
    sit = pose == 2
    shoe = (40, 36, 40)
    leg = skin if dress else trousers
    far = shade(leg, 0.8)
    if sit:
        lift = 24
        neck, hip, base = neck + lift, hip + lift, 100
        b.line([(-2, hip - 3), (20, hip - 4), (21, base - 3)], 10, far)
        b.line([(0, hip - 2), (24, hip - 2), (25, base - 3)], 10.5, leg)
        b.rect(18, base - 5, 34, base + 1, shoe, 2)
    elif pose == 1:
        lift = 0
        b.line([(-1, hip), (-7, 76), (-15, 94)], 9.5, far)
        b.rect(-20, 92, -8, 98, shoe, 2)
        b.line([(1, hip), (9, 76), (11, 95)], 10, leg)
        b.rect(6, 94, 21, 100, shoe, 2)
    elif pose == 4:
        lift = 6
        neck, hip = neck + lift, hip + lift
        b.line([(-4, hip), (-17, 80), (-14, 96)], 10, far)
        b.line([(4, hip), (18, 79), (17, 96)], 10.5, leg)
        b.rect(-20, 94, -6, 100, skin, 2)
        b.rect(12, 94, 27, 100, skin, 2)
    else:
        lift = 0
        b.line([(-6, hip), (-6.5, 95)], 10, far)
        b.line([(6, hip), (6.5, 95)], 10, leg)
        b.rect(-13, 94, -1, 100, shoe, 2)
        b.rect(1, 94, 14, 100, shoe, 2)
    # far arm
    if pose == 4:
        b.line([(-9, neck + 7), (-30, neck + 12)], 7, dark)
        b.disc(-33, neck + 12, 4, skin)
    elif pose == 1:
        b.line([(-9, neck + 6), (-16, neck + 20), (-10, neck + 31)], 6.5, dark)
        b.disc(-9, neck + 33, 3.6, skin)
    else:
        b.line([(-11, neck + 6), (-14.5, neck + 30)], 6.8, dark)
        b.disc(-14.7, neck + 34, 3.7, skin)
    # trunk
    b.rect(-3.5, neck - 8, 3.5, neck + 4, shade(skin, 0.85))
    if dress and not sit:
        b.blob(
            [
                (-11, neck + 1),
                (0, neck),
                (11, neck + 1),
                (10, neck + 20),
                (19, hip + 19),
                (0, hip + 21),
                (-19, hip + 19),
                (-10, neck + 20),
            ],
            c,
        )
        b.rect(-10, neck + 20, 10, neck + 23.5, dark)
    else:
        b.rect(-12.5, neck, 12.5, hip + 3, c, 7)
        b.rect(-12.5, hip - 12, 12.5, hip + 3, c, 3)
        b.rect(-12.5, hip - 1, 12.5, hip + 3, dark, 1.5)
    # near arm
    if pose == 3:
        b.line([(11, neck + 6), (19, neck - 4), (23, neck - 20)], 7, c)
        b.disc(23.5, neck - 24, 4.2, skin)
    elif pose == 4:
        b.line([(10, neck + 6), (30, neck + 3)], 7, c)
        b.disc(33, neck + 2.5, 4.2, skin)
    elif pose == 1:
        b.line([(9, neck + 7), (14, neck + 20), (21, neck + 28)], 7, c)
        b.disc(22.5, neck + 29, 4, skin)
    elif sit:
        b.line([(8, neck + 7), (9, neck + 20), (20, neck + 26)], 7, dark)
        b.disc(22, neck + 27, 4, skin)
    else:
        b.line([(11, neck + 6), (14.5, neck + 30)], 7, c)
        b.disc(14.7, neck + 34, 4, skin)
    # head
    hy = neck - 4 - head
    if dress:
        b.blob(
            [
                (-head - 3, hy),
                (0, hy - head - 3),
                (head + 3, hy),
                (head + 4, hy + 17),
                (0, hy + 15),
                (-head - 4, hy + 17),
            ],
            hair,
        )
    b.oval(0, hy, head * 0.93, head, skin)
    b.blob(
        [
            (-head, hy - 1),
            (-head * 0.7, hy - head * 0.95),
            (0, hy - head * 1.25),
            (head * 0.75, hy - head * 0.95),
            (head, hy - 1),
            (head * 0.5, hy - head * 0.45),
            (-head * 0.5, hy - head * 0.4),
        ],
        hair,
    )
    b.disc(-2.2, hy + 0.5, 1.3, PUPIL)
    b.disc(4, hy + 0.5, 1.3, PUPIL)
    b.line([(-1.2, hy + 5), (1, hy + 6), (3.4, hy + 5)], 1.2, (180, 70, 70))


def face(b: Shapes, c: Colour, style: int) -> None:
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


DRAW = {
    "person": person,
    "face": face,
}
