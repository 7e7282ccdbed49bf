"""Brushes that turn shapes in local coordinates into pixels, label maps or extents.

A shape is written once, in any units with y downwards; a brush maps it by a scale and an offset.
Leaves out what is drawn: see backgrounds and the files of objects.
"""

import math
from typing import Literal

from PIL import Image, ImageDraw

Colour = tuple[int, ...]
Point = tuple[float, float]
Light = tuple[Colour, float]  # a colour, and how much of it is mixed in

DARK = (38, 38, 44)
LEAF = (58, 148, 76)


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor < 1) towards black or lighten (factor > 1, at most 2) towards white."""
    if factor <= 1:
        return tuple(int(v * factor) for v in colour[:3])
    return mix(colour, (255, 255, 255), factor - 1)


def mix(a: Colour, b: Colour, amount: float) -> Colour:
    """(1 - amount) a + amount b."""
    return tuple(int(p + (q - p) * amount) for p, q in zip(a[:3], b[:3], strict=True))


def smooth(points: list[Point], steps: int = 6) -> list[Point]:
    """Closed Catmull-Rom curve through the points."""
    out = []
    n = len(points)
    for i in range(n):
        p0, p1, p2, p3 = (points[(i + k - 1) % n] for k in range(4))
        for s in range(steps):
            t = s / steps
            a, b = -0.5 * t + t * t - 0.5 * t**3, 1 - 2.5 * t * t + 1.5 * t**3
            c, d = 0.5 * t + 2 * t * t - 1.5 * t**3, -0.5 * t * t + 0.5 * t**3
            out.append(
                (
                    a * p0[0] + b * p1[0] + c * p2[0] + d * p3[0],
                    a * p0[1] + b * p1[1] + c * p2[1] + d * p3[1],
                )
            )
    return out


class Shapes:
    """Shapes built on three primitives that the brushes below implement."""

    night = False

    def poly(self, points: list[Point], colour: Colour) -> None:
        raise NotImplementedError

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Axis-parallel ellipse with centre (x, y)."""
        raise NotImplementedError

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, r: float = 0.0
    ) -> None:
        """Rectangle with corners rounded by radius r."""
        raise NotImplementedError

    def disc(self, x: float, y: float, r: float, colour: Colour) -> None:
        self.oval(x, y, r, r, colour)

    def blob(self, points: list[Point], colour: Colour) -> None:
        """Smooth closed shape through the points."""
        self.poly(smooth(points), colour)

    def tilted(
        self, x: float, y: float, rx: float, ry: float, degrees: float, colour: Colour
    ) -> None:
        """Ellipse turned clockwise by an angle."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = [math.tau * k / 28 for k in range(28)]
        self.poly(
            [
                (
                    x + rx * math.cos(t) * c - ry * math.sin(t) * s,
                    y + rx * math.cos(t) * s + ry * math.sin(t) * c,
                )
                for t in turn
            ],
            colour,
        )

    def line(self, points: list[Point], width: float, colour: Colour, caps: bool = True) -> None:
        """Thick line with round joints and, unless caps is False, round ends."""
        h = width / 2
        for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = -(y1 - y0) / length * h, (x1 - x0) / length * h
            self.poly(
                [(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)],
                colour,
            )
        for x, y in points if caps else points[1:-1]:
            self.oval(x, y, h, h, colour)

    def ring(self, x: float, y: float, r: float, width: float, colour: Colour) -> None:
        """Circle drawn as a line of the given width."""
        pts = [
            (x + r * math.cos(math.tau * k / 26), y + r * math.sin(math.tau * k / 26))
            for k in range(27)
        ]
        self.line(pts, width, colour, caps=False)


class Brush(Shapes):
    """Paints on an RGB image; colours of four numbers blend by their alpha (0..255).

    Parameters
    ----------
    image : PIL.Image
        Mode RGB (or L with `fixed`).
    scale, offset : (sx, sy), (ox, oy)
        Pixel = offset + scale * local; a negative sx mirrors.
    tint : (rgb, amount) or None
        Light of the scene, mixed into every colour.
    fixed : int or None
        Paint this grey value whatever the colour (label maps); see-through paint is skipped.
    """

    def __init__(
        self,
        image: Image.Image,
        scale: Point,
        offset: Point,
        *,
        tint: Light | None = None,
        night: bool = False,
        fixed: int | None = None,
    ) -> None:
        self.image, self.scale, self.offset = image, scale, offset
        self.tint, self.night, self.fixed = tint, night, fixed
        self._solid = ImageDraw.Draw(image)
        self._soft = ImageDraw.Draw(image, "RGBA") if fixed is None else None

    def at(
        self, scale: Point, offset: Point, tint: Light | Literal["same"] | None = "same"
    ) -> "Brush":
        """The same image under another map from local coordinates to pixels."""
        tint = self.tint if tint == "same" else tint
        return Brush(self.image, scale, offset, tint=tint, night=self.night, fixed=self.fixed)

    def colour(self, colour: Colour) -> Colour:
        """Colour under the light of the scene."""
        if self.tint is None:
            return colour
        return mix(colour, *self.tint) + tuple(colour[3:])

    def _ink(self, colour: Colour) -> tuple:
        if self.fixed is not None:
            return (self._solid, self.fixed) if len(colour) == 3 else (None, None)
        return (self._solid if len(colour) == 3 else self._soft), self.colour(colour)

    def _box(self, x0: float, y0: float, x1: float, y1: float) -> list[float]:
        (sx, sy), (ox, oy) = self.scale, self.offset
        a, b, c, d = ox + sx * x0, oy + sy * y0, ox + sx * x1, oy + sy * y1
        return [min(a, c), min(b, d), max(a, c) - 0.6, max(b, d) - 0.6]

    def poly(self, points: list[Point], colour: Colour) -> None:
        draw, ink = self._ink(colour)
        if draw:
            (sx, sy), (ox, oy) = self.scale, self.offset
            draw.polygon([(ox + sx * x, oy + sy * y) for x, y in points], fill=ink)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        draw, ink = self._ink(colour)
        box = self._box(x - rx, y - ry, x + rx, y + ry)
        if draw and box[2] >= box[0] and box[3] >= box[1]:
            draw.ellipse(box, fill=ink)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, r: float = 0.0
    ) -> None:
        draw, ink = self._ink(colour)
        box = self._box(x0, y0, x1, y1)
        if not draw or box[2] < box[0] or box[3] < box[1]:
            return
        if r and abs(r * self.scale[0]) >= 1:
            draw.rounded_rectangle(box, abs(r * self.scale[0]), fill=ink)
        else:
            draw.rectangle(box, fill=ink)

    def fade(self, y0: float, y1: float, *colours: Colour) -> None:
        """Vertical gradient over the whole width between two heights (local units)."""
        top = self.offset[1] + self.scale[1] * y0
        bottom = self.offset[1] + self.scale[1] * y1
        width, height = self.image.size
        first, last = max(0, round(top)), min(height, round(bottom))
        if last <= first:
            return
        inks = [self.colour(c) for c in colours]
        column = Image.new("RGB", (1, last - first))
        rows = []
        for row in range(first, last):
            t = (row + 0.5 - top) / (bottom - top) * (len(inks) - 1)
            k = min(max(int(t), 0), len(inks) - 2)
            rows.append(mix(inks[k], inks[k + 1], min(max(t - k, 0), 1)))
        column.putdata(rows)
        self.image.paste(column.resize((width, last - first), Image.Resampling.NEAREST), (0, first))


class Ruler(Shapes):
    """Draws nothing; keeps the extents (x0, y0, x1, y1) of all opaque shapes in local units."""

    def __init__(self) -> None:
        self.x0 = self.y0 = math.inf
        self.x1 = self.y1 = -math.inf

    def _grow(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        if len(colour) == 3:
            self.x0, self.y0 = min(self.x0, x0), min(self.y0, y0)
            self.x1, self.y1 = max(self.x1, x1), max(self.y1, y1)

    def poly(self, points: list[Point], colour: Colour) -> None:
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        self._grow(min(xs), min(ys), max(xs), max(ys), colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self._grow(x - rx, y - ry, x + rx, y + ry, colour)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, r: float = 0.0
    ) -> None:
        self._grow(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), colour)
