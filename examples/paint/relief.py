"""Round forms under one light: a field of heights built of balls, limbs and swellings, shaded as flesh is.

The field is small and smooth; it is worked out pixel by pixel and enlarged afterwards.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

from PIL import Image, ImageChops, ImageFilter

from paint.sheet import Colour, Size, Stops, gradient

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in logical pixels."""
LIGHT = (-0.52, -0.50, 0.69)
"""Towards the light: from the upper left, before the figure."""
DEEP = -1e9


class Ball(NamedTuple):
    """An ellipsoid, seen from the front."""

    x: float
    y: float
    z: float
    rx: float
    ry: float
    rz: float
    angle: float = 0.0


class Limb(NamedTuple):
    """A bone with flesh on it: from one ball to another."""

    x1: float
    y1: float
    z1: float
    r1: float
    x2: float
    y2: float
    z2: float
    r2: float


class Swell(NamedTuple):
    """A soft swelling (or a hollow, if `by` is negative) on what is there."""

    x: float
    y: float
    sx: float
    sy: float
    by: float
    angle: float = 0.0


class Field:
    """Heights over a box of the picture; `fine` samples for each logical pixel."""

    def __init__(self, box: Box, *, fine: float = 1.0) -> None:
        self.box = box
        self.fine = fine
        self.size: Size = (int((box[2] - box[0]) * fine), int((box[3] - box[1]) * fine))
        self.z = [DEEP] * (self.size[0] * self.size[1])

    def add(self, *parts: Ball | Limb, melt: float = 8.0) -> None:
        """Join parts to the form; `melt` is how softly they run into each other, 0 for a crease."""
        for part in parts:
            for at, x, y in self._near(_bounds(part)):
                height = _ball(part, x, y) if isinstance(part, Ball) else _limb(part, x, y)
                if height > DEEP:
                    self.z[at] = _join(self.z[at], height, melt)

    def swell(self, *parts: Swell) -> None:
        """Raise or sink the form softly."""
        for part in parts:
            c, s = math.cos(math.radians(part.angle)), math.sin(math.radians(part.angle))
            reach = 3 * max(part.sx, part.sy)
            for at, x, y in self._near((part.x - reach, part.y - reach, part.x + reach, part.y + reach)):
                u, v = ((x - part.x) * c + (y - part.y) * s) / part.sx, ((y - part.y) * c - (x - part.x) * s) / part.sy
                self.z[at] += part.by * math.exp(-(u * u + v * v) / 2)

    def _near(self, bounds: tuple[float, float, float, float]) -> list[tuple[int, float, float]]:
        f, (w, h) = self.fine, self.size
        left, right = max(int((bounds[0] - self.box[0]) * f), 0), min(int((bounds[2] - self.box[0]) * f) + 2, w)
        top, bottom = max(int((bounds[1] - self.box[1]) * f), 0), min(int((bounds[3] - self.box[1]) * f) + 2, h)
        return [
            (j * w + i, self.box[0] + i / f, self.box[1] + j / f)
            for j in range(top, bottom)
            for i in range(left, right)
        ]

    def light(self, *, wrap: float = 0.25, soft: float = 1.0) -> Image.Image:
        """Shade the form: brightness as an `L` picture of the field's own size."""
        w, h = self.size
        out = bytearray(w * h)
        for j in range(1, h - 1):
            for i in range(1, w - 1):
                at = j * w + i
                if self.z[at] > DEEP / 2:
                    out[at] = _lambert(self._slope(at, w), wrap)
        return Image.frombytes("L", self.size, bytes(out)).filter(ImageFilter.GaussianBlur(soft))

    def _slope(self, at: int, w: int) -> tuple[float, float]:
        z, here = self.z, self.z[at]
        left, right, up, down = (n if n > DEEP / 2 else here for n in (z[at - 1], z[at + 1], z[at - w], z[at + w]))
        return (right - left) * self.fine / 2, (down - up) * self.fine / 2

    def where(self) -> Image.Image:
        """Tell where there is any form at all, as a mask."""
        return Image.frombytes("L", self.size, bytes(255 if v > DEEP / 2 else 0 for v in self.z))


def _bounds(part: Ball | Limb) -> tuple[float, float, float, float]:
    if isinstance(part, Ball):
        r = max(part.rx, part.ry)
        return part.x - r, part.y - r, part.x + r, part.y + r
    r = max(part.r1, part.r2)
    xs, ys = (part.x1, part.x2), (part.y1, part.y2)
    return min(xs) - r, min(ys) - r, max(xs) + r, max(ys) + r


def _ball(part: Ball, x: float, y: float) -> float:
    c, s = math.cos(math.radians(part.angle)), math.sin(math.radians(part.angle))
    u, v = ((x - part.x) * c + (y - part.y) * s) / part.rx, ((y - part.y) * c - (x - part.x) * s) / part.ry
    inside = 1 - u * u - v * v
    return part.z + part.rz * math.sqrt(inside) if inside > 0 else DEEP


def _limb(part: Limb, x: float, y: float) -> float:
    dx, dy = part.x2 - part.x1, part.y2 - part.y1
    t = ((x - part.x1) * dx + (y - part.y1) * dy) / (dx * dx + dy * dy or 1.0)
    t = min(max(t, 0.0), 1.0)
    r = part.r1 + (part.r2 - part.r1) * t
    away = r * r - (x - part.x1 - dx * t) ** 2 - (y - part.y1 - dy * t) ** 2
    return part.z1 + (part.z2 - part.z1) * t + math.sqrt(away) if away > 0 else DEEP


def _join(a: float, b: float, melt: float) -> float:
    if melt <= 0 or a < DEEP / 2 or abs(a - b) >= melt:
        return max(a, b)
    k = (melt - abs(a - b)) / melt
    return max(a, b) + k * k * melt / 4


def _lambert(slope: tuple[float, float], wrap: float) -> int:
    nx, ny = -slope[0], -slope[1]
    length = math.sqrt(nx * nx + ny * ny + 1)
    facing = (nx * LIGHT[0] + ny * LIGHT[1] + LIGHT[2]) / length
    return max(1, min(255, round(255 * (facing + wrap) / (1 + wrap))))


def tint(shade: Image.Image, stops: Stops) -> Image.Image:
    """Turn brightness into colour: the stops run from the deepest shade to the highest light."""
    ramp = gradient((1, 256), stops).tobytes()
    tables = [list(ramp[channel::3]) for channel in range(3)]
    return Image.merge("RGB", [shade.point(table) for table in tables])


def place(shade: Image.Image, box: Box, big: Size, scale: int) -> Image.Image:
    """Enlarge a field's picture to the working size and put it where its box is."""
    size = ((box[2] - box[0]) * scale, (box[3] - box[1]) * scale)
    out = Image.new(shade.mode, big)
    out.paste(shade.resize(size, Image.Resampling.BICUBIC), (box[0] * scale, box[1] * scale))
    return out


def darken(shade: Image.Image, mask: Image.Image, strength: float) -> Image.Image:
    """Let a cast shadow fall on a shaded form."""
    keep = mask.point([255 - round(v * strength) for v in range(256)])
    return ImageChops.multiply(shade, keep)


FLESH: list[tuple[float, Colour]] = [
    (0.0, (38, 20, 12)),
    (0.18, (78, 42, 24)),
    (0.38, (142, 86, 50)),
    (0.58, (198, 142, 92)),
    (0.78, (232, 188, 136)),
    (0.92, (247, 216, 170)),
    (1.0, (253, 234, 200)),
]
"""From the shade of the neck to the light on the brow."""
