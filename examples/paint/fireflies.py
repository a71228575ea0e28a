"""A wood at night: moonlight in the mist, a brook, fireflies among the ferns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from paint.curves import Point, Points, dice, lerp, ribbon, spline, trace
from paint.oil import Brush, oil
from paint.sheet import Colour, Ink, Sheet, Stops, bloom, fade, gradient, grain, noise, stretch, vignette, vivid

if TYPE_CHECKING:
    import random

SIZE = (720, 1280)
AIR: Stops = [
    (0.0, (8, 20, 38)),
    (0.25, (20, 58, 78)),
    (0.5, (64, 118, 122)),
    (0.6, (110, 158, 144)),
    (0.68, (58, 98, 92)),
    (1.0, (8, 20, 24)),
]
MOON: Point = (390, 330)
GOLD: Colour = (255, 224, 110)


def fireflies() -> Image.Image:
    """Paint the scene."""
    sheet = Sheet(SIZE)
    sheet.paste(gradient(sheet.big, AIR))
    for radius, alpha in ((330, 0.35), (180, 0.4), (90, 0.5)):
        sheet.oval(MOON, (radius, radius), Ink((176, 220, 210), alpha, radius * 0.4, "screen"))
    sheet.oval(MOON, (46, 46), Ink((244, 250, 226), 1, 1.6))
    for row in range(4):
        _trunks(sheet, row)
        _mist(sheet, row)
    _rays(sheet)
    _ground(sheet)
    _brook(sheet)
    _ferns(sheet)
    _canopy(sheet)
    painted = oil(
        sheet.image,
        "fireflies",
        [Brush(8, 30, 7, 6), Brush(4, 16, 5, 5)],
        keep=Image.new("L", sheet.big, 110),
        relief=0.2,
    )
    sheet.paste(painted)
    _lights(sheet)
    sheet.paste(vivid(vignette(bloom(sheet.image, 24, threshold=190, strength=0.5), 0.4), 1.12, 1.05))
    return grain(sheet.done(), "fireflies/grain", 0.05)


def _trunks(sheet: Sheet, row: int) -> None:
    """Stand a row of trees: pale and thin far off, dark and thick near by."""
    rng = dice(f"trunks/{row}")
    tone: Colour = [(70, 122, 124), (42, 86, 92), (22, 52, 60), (8, 22, 28)][row]
    foot, wide = 700 + 74 * row, (9, 16, 28, 58)[row]
    places = [
        [40, 96, 150, 214, 262, 330, 452, 500, 566, 620, 690],
        [20, 120, 236, 540, 604, 676],
        [70, 192, 570, 668],
        [10, 702],
    ][row]
    for place in places:
        x = place + rng.uniform(-14, 14)
        lean, w = rng.uniform(-26, 26), wide * rng.uniform(0.7, 1.25)
        path: Points = [
            (x + lean, -20),
            (x + lean * 0.4, 300),
            (x + rng.uniform(-5, 5), 560),
            (x, foot + rng.uniform(-10, 24)),
        ]
        sheet.line(path, [w * 0.6, w * 0.8, w, w * 1.1, w * 1.9], Ink(tone, 1, 1 + (3 - row) * 0.7))
        side = 1 if x < MOON[0] else -1
        edge = [(px + side * w * 0.36, py) for px, py in path]
        sheet.line(edge, [w * 0.1, w * 0.16, w * 0.1], Ink((158, 206, 190), 0.34, 1.2 + row * 0.6))
        _boughs(sheet, rng, (path, w), tone)


def _boughs(sheet: Sheet, rng: random.Random, tree: tuple[Points, float], tone: Colour) -> None:
    path, w = tree
    curve = spline(path)
    for _ in range(5):
        x, y = curve[rng.randrange(2, 18)]
        side, reach = rng.choice((-1, 1)), rng.uniform(3, 7) * w
        bough: Points = [
            (x, y),
            (x + side * reach * 0.5, y - reach * 0.2),
            (x + side * reach, y - reach * rng.uniform(0.2, 0.7)),
        ]
        sheet.line(bough, [w * 0.3, w * 0.16, 0.6], Ink(tone, 0.95, 1.2))


def _mist(sheet: Sheet, row: int) -> None:
    shape = noise(sheet.big, f"mist/{row}", 300, octaves=4, stretch=(2.4, 0.8))
    zone = fade(sheet.big, [(0, 10), (0.3, 40), (0.56, 190), (0.66, 110), (0.74, 0), (1, 0)])
    sheet.wash(ImageChops.multiply(stretch(shape, 70, 200), zone), Ink((150, 198, 184), 0.42 - 0.09 * row))


def _rays(sheet: Sheet) -> None:
    """Let the moonlight fall in shafts."""
    rng = dice("rays")
    for _ in range(11):
        angle = rng.uniform(0.9, 2.25)
        reach, wide = rng.uniform(460, 760), rng.uniform(14, 46)
        tip: Point = (MOON[0] + math.cos(angle) * reach, MOON[1] + math.sin(angle) * reach)
        sheet.fill(
            [(MOON[0] - 4, MOON[1]), (MOON[0] + 4, MOON[1]), (tip[0] + wide, tip[1]), (tip[0] - wide, tip[1])],
            Ink((176, 222, 206), 0.10, 10, "screen"),
        )


def _ground(sheet: Sheet) -> None:
    rows: list[tuple[float, Colour]] = [
        (770, (38, 76, 70)),
        (850, (24, 54, 50)),
        (950, (14, 36, 34)),
        (1090, (8, 22, 24)),
    ]
    rng = dice("ground")
    for y, tone in rows:
        crest = spline(
            [
                (-20, y + rng.uniform(-20, 20)),
                (140, y - 24),
                (300, y + 14),
                (460, y + 16),
                (600, y - 20),
                (740, y + rng.uniform(-20, 10)),
            ]
        )
        sheet.fill([*crest, (740, 1300), (-20, 1300)], Ink(tone, 1, 3))
        for x, top in crest[::2]:
            for _ in range(3):
                dx, high = rng.uniform(-14, 14), rng.uniform(8, 26) * y / 850
                sheet.line(
                    [(x + dx, top + 8), (x + dx + rng.uniform(-6, 6), top - high)],
                    [2.6, 0.4],
                    Ink(rng.choice((tone, (70, 116, 92))), 0.8, 0.8),
                )


def _brook(sheet: Sheet) -> None:
    """Wind a brook through the middle, the moon broken in it."""
    course: Points = trace("404,768 418,800 376,850 348,910 384,990 420,1090 416,1200 396,1330")
    widths = [8, 16, 28, 46, 72, 104, 142, 190.0]
    sheet.line(course, [w * 1.2 for w in widths], Ink((6, 18, 22), 0.9, 5))
    sheet.line(course, widths, Ink((38, 84, 96), 1, 2))
    clip = sheet.mask(_body(course, widths), 2)
    rng = dice("brook")
    curve = spline(course, steps=30)
    for k, (x, y) in enumerate(curve):
        near = k / len(curve)
        for _ in range(7):
            w = lerp(6, 92, near)
            at = x + rng.gauss(0, w * 0.4)
            half = lerp(3, 30, near) * rng.uniform(0.4, 1.2)
            tone: Colour = rng.choice(((196, 232, 214), (110, 168, 168), (8, 28, 38), (8, 28, 38)))
            sheet.line(
                [(at - half, y), (at, y + rng.uniform(-1, 1)), (at + half, y)],
                [0.3, lerp(1, 5, near), 0.3],
                Ink(tone, 0.4, 0.8 + near, clip=clip),
            )
    for _ in range(64):
        k = rng.randrange(20, len(curve))
        near = k / len(curve)
        x = curve[k][0] + rng.choice((-1, 1)) * lerp(10, 92, near) * rng.uniform(0.9, 1.25)
        size = lerp(4, 24, near) * rng.uniform(0.5, 1.1)
        sheet.oval((x, curve[k][1]), (size, size * 0.6), Ink((16, 34, 38), 1, 1.2))
        sheet.oval((x - size * 0.2, curve[k][1] - size * 0.26), (size * 0.6, size * 0.2), Ink((132, 172, 156), 0.45, 2))


def _body(course: Points, widths: list[float]) -> Points:
    return ribbon(spline(course), widths)


def _ferns(sheet: Sheet) -> None:
    """Grow ferns at both sides, near enough to frame the view."""
    rng = dice("ferns")
    for _ in range(34):
        left = rng.random() < 0.5
        x = rng.uniform(-20, 220) if left else rng.uniform(510, 740)
        y = rng.uniform(900, 1290)
        near = (y - 880) / 400
        for _ in range(5):
            _frond(sheet, rng, (x, y), lerp(50, 170, near))


def _frond(sheet: Sheet, rng: random.Random, root: Point, size: float) -> None:
    angle = rng.uniform(-2.8, -0.35)
    reach = size * rng.uniform(0.6, 1.1)
    tip = (root[0] + math.cos(angle) * reach, root[1] + math.sin(angle) * reach * 0.8)
    stem = spline([root, (lerp(root[0], tip[0], 0.45), lerp(root[1], tip[1], 0.75)), tip], steps=9)
    tone: Colour = rng.choice(((18, 50, 42), (30, 76, 58), (12, 34, 32), (60, 116, 82)))
    sheet.line([stem[0], stem[9], stem[-1]], [2.2, 1.4, 0.5], Ink(tone, 0.95, 0.6))
    for k, (x, y) in enumerate(stem[2:-1]):
        leaf = reach * 0.2 * (1 - k / 18) + 3
        (ax, ay), (bx, by) = stem[k + 1], stem[k + 3]
        along = math.atan2(by - ay, bx - ax)
        for side in (-1, 1):
            a = along + side * 1.15
            sheet.line(
                [(x, y), (x + math.cos(a) * leaf, y + math.sin(a) * leaf)],
                [leaf * 0.34, leaf * 0.26, 0.4],
                Ink(tone, 0.9, 0.5),
            )


def _canopy(sheet: Sheet) -> None:
    """Hang leaves from above, darkest at the corners."""
    rng = dice("canopy")
    for _ in range(1100):
        x = rng.uniform(-20, 740)
        deep = 70 + 330 * (abs(x - 370) / 370) ** 1.8
        y = rng.uniform(-20, deep) * rng.uniform(0.5, 1)
        size = rng.uniform(4, 11)
        tone: Colour = rng.choice(((6, 20, 26), (10, 32, 36), (16, 46, 48), (44, 92, 84)))
        sheet.oval((x, y), (size, size * 0.5), Ink(tone, 0.85, 0.8), angle=rng.uniform(0, 180))


def _lights(sheet: Sheet) -> None:
    """Set the fireflies free: small hot cores, wide warm glows, a few trails."""
    sheet.oval(MOON, (45, 45), Ink((244, 250, 226), 0.8, 1.4))
    rng = dice("fireflies")
    for _ in range(120):
        near = rng.random()
        x, y = rng.uniform(10, 710), rng.gauss(880, 150)
        size = lerp(0.9, 3.2, near**2)
        sheet.oval((x, y), (size * 8, size * 8), Ink((220, 190, 70), 0.30, size * 3.4, "screen"))
        sheet.oval((x, y), (size * 2.8, size * 2.8), Ink(GOLD, 0.6, size * 1.2, "screen"))
        sheet.oval((x, y), (size, size), Ink((255, 252, 214), 1, 0.5))
        if rng.random() < 0.16:
            dx, dy = rng.uniform(-50, 50), rng.uniform(-40, 10)
            sheet.line(
                [(x, y), (x + dx * 0.5, y + dy), (x + dx, y + dy * 0.4)],
                [size, size * 0.7, 0.2],
                Ink(GOLD, 0.45, 1, "screen"),
            )
