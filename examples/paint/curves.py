"""Points, splines and rough lines: the outlines that the pictures are filled along.

Pure: numbers in, numbers out. Coordinates are logical pixels, y pointing down.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Points: TypeAlias = list[Point]
Line: TypeAlias = Sequence[Point]
"""What a function takes: any row of points, whole numbers or not."""


def dice(name: str) -> random.Random:
    """Give the seeded dice of that name: the same name always throws the same numbers."""
    return random.Random(name)  # noqa: S311 - pictures need dice that can be thrown again, not secrets


def lerp(a: float, b: float, t: float) -> float:
    """Go from `a` to `b` by the share `t`."""
    return a + (b - a) * t


def _catmull(p: tuple[Point, Point, Point, Point], t: float) -> Point:
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = p
    t2, t3 = t * t, t * t * t

    def axis(a: float, b: float, c: float, d: float) -> float:
        return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t2 + (3 * b - a - 3 * c + d) * t3)

    return axis(ax, bx, cx, dx), axis(ay, by, cy, dy)


def spline(points: Line, *, closed: bool = False, steps: int = 10) -> Points:
    """Draw a smooth curve through the points (Catmull-Rom)."""
    points = list(points)
    n = len(points)
    ring = points[-1:] + points + points[:2] if closed else points[:1] + points + points[-1:]
    out: Points = []
    for i in range(n if closed else n - 1):
        four = (ring[i], ring[i + 1], ring[i + 2], ring[i + 3])
        out += [_catmull(four, k / steps) for k in range(steps)]
    return out if closed else [*out, points[-1]]


def trace(text: str) -> Points:
    """Read an outline written as in SVG: "x,y x,y ..."."""
    pairs = (pair.split(",") for pair in text.split())
    return [(float(x), float(y)) for x, y in pairs]


def loop(*points: Point) -> Points:
    """Close a smooth outline around the points."""
    return spline(list(points), closed=True)


def along(points: Line, t: float) -> Point:
    """Find the point at the share `t` of a polyline, counted by its corners."""
    at = min(max(t, 0.0), 1.0) * (len(points) - 1)
    i = min(int(at), len(points) - 2)
    (ax, ay), (bx, by) = points[i], points[i + 1]
    return lerp(ax, bx, at - i), lerp(ay, by, at - i)


def ellipse(centre: Point, radii: Point, angle: float = 0.0, steps: int = 60) -> Points:
    """Draw an ellipse as a polygon; `angle` in degrees, clockwise on the screen."""
    (cx, cy), (rx, ry) = centre, radii
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turns = [2 * math.pi * k / steps for k in range(steps)]
    return [
        (cx + rx * math.cos(a) * c - ry * math.sin(a) * s, cy + rx * math.cos(a) * s + ry * math.sin(a) * c)
        for a in turns
    ]


def ridge(start: Point, end: Point, rng: random.Random, rough: float, *, decay: float = 0.55) -> Points:
    """Draw a jagged line between two points by moving midpoints up and down; `rough` is the first move in pixels."""
    points = [start, end]
    while rough > 0.6:
        finer: Points = [points[0]]
        for (ax, ay), (bx, by) in pairwise(points):
            finer += [((ax + bx) / 2, (ay + by) / 2 + rng.uniform(-rough, rough)), (bx, by)]
        points, rough = finer, rough * decay
    return points


def ribbon(points: Line, widths: Sequence[float]) -> Points:
    """Give a curve a body: `widths` are spread along it, so that a stroke can swell and taper."""
    left: Points = []
    right: Points = []
    last = len(points) - 1
    for i, (x, y) in enumerate(points):
        (ax, ay), (bx, by) = points[max(i - 1, 0)], points[min(i + 1, last)]
        length = math.hypot(bx - ax, by - ay) or 1.0
        nx, ny = -(by - ay) / length, (bx - ax) / length
        half = _spread(widths, i / max(last, 1)) / 2
        left.append((x + nx * half, y + ny * half))
        right.append((x - nx * half, y - ny * half))
    return left + right[::-1]


def _spread(values: Sequence[float], t: float) -> float:
    at = t * (len(values) - 1)
    i = min(int(at), len(values) - 2) if len(values) > 1 else 0
    return lerp(values[i], values[min(i + 1, len(values) - 1)], at - i)
