"""Hot-air balloons over misty hills, soon after sunrise."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from paint.curves import Point, Points, dice, lerp, ridge, spline
from paint.oil import Brush, oil
from paint.sheet import Colour, Ink, Sheet, Stops, bloom, fade, gradient, grain, noise, stretch, vignette, vivid

if TYPE_CHECKING:
    import random

SIZE = (1152, 768)
SKY: Stops = [
    (0.0, (78, 136, 190)),
    (0.25, (132, 182, 212)),
    (0.45, (206, 214, 206)),
    (0.58, (252, 222, 176)),
    (0.68, (255, 204, 150)),
    (1.0, (255, 204, 150)),
]
CREAM: Colour = (250, 236, 206)


class Balloon(NamedTuple):
    """One balloon: where, how large, in which colours."""

    x: float
    y: float
    size: float
    one: Colour
    two: Colour
    haze: float = 0.0
    """How much the morning air covers it, 0 to 1."""


FLEET = [
    Balloon(1010, 400, 20, (186, 70, 60), CREAM, 0.5),
    Balloon(622, 398, 15, (60, 110, 140), CREAM, 0.55),
    Balloon(392, 404, 18, (190, 130, 60), (120, 60, 70), 0.52),
    Balloon(90, 346, 26, (70, 120, 110), CREAM, 0.42),
    Balloon(846, 300, 38, (228, 160, 60), (180, 60, 50), 0.28),
    Balloon(560, 316, 34, (70, 90, 150), (236, 200, 120), 0.3),
    Balloon(214, 236, 56, (206, 74, 58), CREAM, 0.14),
    Balloon(1016, 178, 66, (40, 124, 132), (244, 196, 96), 0.1),
    Balloon(470, 148, 44, (150, 66, 110), CREAM, 0.2),
    Balloon(716, 216, 118, (214, 62, 48), (250, 190, 74), 0.0),
]


def balloons() -> Image.Image:
    """Paint the scene."""
    sheet = Sheet(SIZE)
    sheet.paste(gradient(sheet.big, SKY))
    _clouds(sheet)
    sheet.oval((300, 452), (330, 170), Ink((255, 226, 160), 0.6, 80, "screen"))
    _hills(sheet)
    _meadow(sheet)
    sheet.paste(
        oil(
            sheet.image,
            "balloons/land",
            [Brush(10, 40, 8, 8), Brush(5, 18, 5, 8)],
            keep=Image.new("L", sheet.big, 90),
            relief=0.2,
        )
    )
    for balloon in FLEET:
        _balloon(sheet, balloon)
    fine = oil(sheet.image, "balloons/fine", [Brush(4, 14, 5, 5)], keep=Image.new("L", sheet.big, 130), relief=0.16)
    sheet.paste(vivid(vignette(bloom(fine, 30, threshold=214, strength=0.4), 0.24), 1.12, 1.05))
    return grain(sheet.done(), "balloons/grain", 0.05)


def _clouds(sheet: Sheet) -> None:
    shape = stretch(noise(sheet.big, "morning/clouds", 340, octaves=5, stretch=(2.8, 0.7)), 134, 212)
    zone = fade(sheet.big, [(0, 150), (0.3, 190), (0.56, 90), (0.62, 0), (1, 0)])
    sheet.wash(Image.composite(shape, Image.new("L", sheet.big), zone), Ink((255, 240, 220), 0.8))


def _hills(sheet: Sheet) -> None:
    """Lay hill behind hill, each with mist at its foot and small trees on its crest."""
    rng = dice("balloons/hills")
    rows: list[tuple[Points, Colour, float]] = [
        ([(-20, 470), (140, 430), (320, 462), (520, 424), (760, 466), (960, 420), (1180, 456)], (176, 178, 184), 26),
        ([(-20, 500), (200, 478), (420, 508), (640, 470), (860, 504), (1180, 474)], (146, 160, 156), 16),
        ([(-20, 552), (160, 536), (360, 510), (600, 556), (840, 528), (1180, 560)], (118, 144, 116), 10),
        ([(-20, 580), (220, 606), (460, 580), (720, 600), (980, 572), (1180, 590)], (100, 134, 82), 6),
    ]
    for row, (points, tone, rough) in enumerate(rows):
        crest: Points = []
        for a, b in pairwise(points):
            crest += ridge(a, b, rng, rough) if row == 0 else spline([a, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), b])
        body = [*crest, (1180, 800), (-20, 800)]
        sheet.fill(body, Ink(tone, 1, 1))
        clip = sheet.mask(body, 1)
        sheet.line([(x, y + 8) for x, y in points], 12, Ink((255, 226, 166), 0.4, 6, clip=clip))
        if row > 0:
            _woods(sheet, rng, crest, row)
        mist = [(x, y + 40) for x, y in points]
        sheet.line(mist, 44, Ink((252, 234, 206), 0.55 - 0.08 * row, 16, clip=clip))


def _woods(sheet: Sheet, rng: random.Random, crest: Points, row: int) -> None:
    """Set trees along a crest, the light on their left."""
    dark: Colour = [(120, 138, 128), (84, 110, 84), (62, 92, 56)][row - 1]
    for _ in range(46 + 16 * row):
        x, y = rng.choice(crest)
        size, drop = rng.uniform(0.6, 1.3) * (3 + 2.2 * row), rng.uniform(0, 22)
        tall = rng.choice((0.9, 0.9, 1.9))
        at = (x + rng.uniform(-12, 12), y + drop)
        sheet.oval((at[0] + size, at[1] + size * 0.7), (size * 1.8, size * 0.35), Ink((50, 70, 60), 0.3, 2))
        sheet.oval(at, (size * (1.3 - tall * 0.35), size * tall), Ink(dark, 0.9, 0.9))
        sheet.oval(
            (at[0] - size * 0.3, at[1] - size * 0.3), (size * 0.4, size * 0.6 * tall), Ink((238, 214, 130), 0.4, 1.2)
        )


def _meadow(sheet: Sheet) -> None:
    """Spread fields and a meadow with flowers in front."""
    front = [*spline([(-20, 676), (240, 640), (520, 668), (820, 630), (1180, 662)]), (1180, 800), (-20, 800)]
    sheet.fill(front, Ink((84, 124, 60), 1, 1.4))
    clip = sheet.mask(front, 1)
    sheet.fill([(-20, 720), (1180, 700), (1180, 800), (-20, 800)], Ink((34, 64, 36), 0.6, 30, clip=clip))
    sheet.line(
        [(-20, 690), (240, 652), (520, 680), (820, 642), (1180, 676)], 20, Ink((232, 214, 110), 0.45, 9, clip=clip)
    )
    rng = dice("meadow")
    for _ in range(900):
        near = rng.random() ** 0.7
        x, y, tall = rng.uniform(-10, 1162), lerp(664, 776, near), lerp(5, 26, near)
        tone: Colour = rng.choice(((132, 164, 74), (70, 112, 50), (196, 196, 96), (46, 84, 42)))
        sheet.line(
            [(x, y), (x + rng.uniform(-3, 3), y - tall * 0.6), (x + rng.uniform(-7, 7), y - tall)],
            [1.8, 1.2, 0.3],
            Ink(tone, 0.7, 0.5),
        )
    for _ in range(240):
        near = rng.random() ** 0.7
        size = lerp(1.2, 4, near)
        bloom_: Colour = rng.choice(((232, 70, 60), (250, 240, 220), (248, 206, 84), (196, 110, 170)))
        sheet.oval((rng.uniform(0, 1152), lerp(664, 764, near)), (size, size * 0.8), Ink(bloom_, 0.9, 0.5))


def _profile(size: float) -> list[tuple[float, float]]:
    """Give half the envelope's outline: (half width, height below the centre) from the crown to the mouth."""
    out: list[tuple[float, float]] = []
    for k in range(33):
        a = math.pi * k / 32
        if a < math.pi * 0.58:
            out.append((size * math.sin(a), -size * math.cos(a)))
        else:
            t = (a - math.pi * 0.58) / (math.pi * 0.42)
            out.append(
                (size * lerp(math.sin(math.pi * 0.58), 0.17, t**0.92), size * lerp(-math.cos(math.pi * 0.58), 1.36, t))
            )
    return out


def _balloon(sheet: Sheet, b: Balloon) -> None:
    """Sew one balloon: gores, bands, light and shade, basket and ropes."""
    outline = _profile(b.size)
    gores = 14
    for k in range(gores):
        left, right = (math.sin(math.pi * (j / gores - 0.5)) for j in (k, k + 1))
        shape = [(b.x + w * left, b.y + h) for w, h in outline] + [
            (b.x + w * right, b.y + h) for w, h in reversed(outline)
        ]
        sheet.fill(shape, Ink(b.one if k % 2 else b.two, 1, 0.35))
        sheet.line(
            [(b.x + w * right, b.y + h) for w, h in outline[::4]], max(b.size / 150, 0.4), Ink((60, 30, 30), 0.25, 0.4)
        )
    whole = [(b.x - w, b.y + h) for w, h in outline] + [(b.x + w, b.y + h) for w, h in reversed(outline)]
    clip = sheet.mask(whole, 0.4)
    _bands(sheet, b, clip)
    _shade(sheet, b, clip)
    _basket(sheet, b)
    if b.haze:
        drop = b.size * 1.9
        around = [*whole, (b.x, b.y + drop)]
        sheet.fill(around, Ink((240, 222, 196), b.haze, 1))


def _bands(sheet: Sheet, b: Balloon, clip: Image.Image) -> None:
    s = b.size
    for low, high in ((0.1, 0.13), (0.36, 0.05)):
        arc: Points = [(b.x + s * u, b.y + s * (low + 0.14 * (1 - u * u))) for u in (-1.05, -0.6, -0.2, 0.2, 0.6, 1.05)]
        sheet.line(arc, s * high, Ink((54, 40, 84), 0.92, 0.3, clip=clip))
        sheet.line([(x, y - s * high * 0.5) for x, y in arc], s * 0.022, Ink(CREAM, 0.9, 0.3, clip=clip))
        sheet.line([(x, y + s * high * 0.5) for x, y in arc], s * 0.022, Ink(CREAM, 0.9, 0.3, clip=clip))
    if s > 50:
        for k in range(11):
            u = math.sin(math.pi * (k / 10 - 0.5))
            at = (b.x + s * u, b.y + s * (0.1 + 0.14 * (1 - u * u)))
            sheet.oval(
                at, (s * 0.034 * math.sqrt(max(1 - u * u, 0.05)), s * 0.036), Ink((250, 200, 90), 1, 0.4, clip=clip)
            )


def _shade(sheet: Sheet, b: Balloon, clip: Image.Image) -> None:
    """Round it: the morning light on the left, violet shade on the right and below."""
    s = b.size
    sheet.oval((b.x + s * 0.75, b.y + s * 0.4), (s * 0.6, s * 1.3), Ink((54, 34, 74), 0.5, s * 0.24, "multiply", clip))
    sheet.oval((b.x + s * 1.0, b.y + s * 0.2), (s * 0.3, s * 1.1), Ink((60, 40, 84), 0.6, s * 0.14, "multiply", clip))
    sheet.oval((b.x, b.y + s * 1.35), (s * 0.6, s * 0.4), Ink((70, 40, 50), 0.5, s * 0.16, "multiply", clip))
    sheet.oval(
        (b.x - s * 0.42, b.y - s * 0.24),
        (s * 0.32, s * 0.52),
        Ink((255, 240, 200), 0.4, s * 0.18, "screen", clip),
        angle=18,
    )
    sheet.oval((b.x - s * 0.94, b.y + s * 0.1), (s * 0.1, s * 0.7), Ink((255, 226, 160), 0.6, s * 0.07, "screen", clip))


def _basket(sheet: Sheet, b: Balloon) -> None:
    s = b.size
    top, wide = b.y + s * 1.62, s * 0.115
    corners: list[tuple[Point, Point]] = [
        ((b.x + s * 0.16 * side, b.y + s * 1.34), (b.x + wide * side, top)) for side in (-1, -0.4, 0.4, 1)
    ]
    for a, z in corners:
        sheet.line([a, z], max(s * 0.012, 0.5), Ink((70, 50, 44), 0.9, 0.3))
    sheet.oval((b.x, b.y + s * 1.4), (s * 0.06, s * 0.1), Ink((255, 220, 120), 0.8, s * 0.03, "screen"))
    shape: Points = [
        (b.x - wide, top),
        (b.x + wide, top),
        (b.x + wide * 0.86, top + s * 0.17),
        (b.x - wide * 0.86, top + s * 0.17),
    ]
    sheet.fill(shape, Ink((134, 88, 48), 1, 0.4))
    sheet.fill(
        [(b.x, top), (b.x + wide, top), (b.x + wide * 0.86, top + s * 0.17), (b.x, top + s * 0.17)],
        Ink((70, 42, 26), 0.6, s * 0.02),
    )
    sheet.line([(b.x - wide * 1.08, top), (b.x + wide * 1.08, top)], max(s * 0.03, 0.7), Ink((92, 58, 34), 1, 0.3))
    if s > 50:
        for dx in (-0.05, 0.04):
            sheet.oval((b.x + s * dx, top - s * 0.045), (s * 0.022, s * 0.028), Ink((60, 40, 36), 1, 0.4))
            sheet.line([(b.x + s * dx, top - s * 0.02), (b.x + s * dx, top)], s * 0.05, Ink((70, 60, 90), 1, 0.4))
