"""A paper boat on a rainy street: neon and lamps upside down in the water."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter, ImageOps

from paint.curves import Point, Points, dice, ellipse, lerp, trace
from paint.oil import Brush, oil
from paint.sheet import Colour, Ink, Sheet, Stops, bloom, fade, gradient, grain, noise, stretch, vignette, vivid

if TYPE_CHECKING:
    import random

SIZE = (960, 960)
KERB = 372
NIGHT: Stops = [(0.0, (18, 24, 48)), (0.3, (36, 44, 74)), (0.4, (64, 60, 86)), (1.0, (30, 32, 52))]
LAMPS: list[tuple[Point, float, Colour]] = [
    ((96, 190), 30, (255, 176, 92)),
    ((236, 250), 20, (255, 204, 130)),
    ((700, 236), 24, (255, 150, 88)),
    ((858, 176), 34, (255, 188, 104)),
    ((560, 282), 13, (255, 220, 160)),
    ((420, 290), 11, (255, 196, 130)),
    ((328, 206), 18, (94, 206, 214)),
    ((620, 176), 22, (236, 92, 124)),
    ((780, 296), 14, (120, 196, 255)),
    ((160, 296), 13, (240, 96, 104)),
    ((486, 240), 10, (160, 232, 190)),
    ((910, 292), 15, (236, 110, 150)),
]
HULL: Points = trace("282,628 404,664 560,664 690,614 628,724 560,744 424,744 352,720")
FAR: Points = [(282, 628), (404, 600), (560, 594), (690, 614), (560, 672), (404, 672)]
SAIL: Points = [(398, 660), (478, 428), (562, 656)]


def boat() -> Image.Image:
    """Paint the scene."""
    sheet = Sheet(SIZE)
    _street(sheet)
    _mirror(sheet)
    _water(sheet)
    _drops(sheet)
    painted = oil(
        sheet.image, "boat", [Brush(8, 30, 7, 6), Brush(4, 16, 5, 5)], keep=Image.new("L", sheet.big, 120), relief=0.18
    )
    sheet.paste(painted)
    _reflected(sheet)
    _paper(sheet)
    _rain(sheet)
    sheet.paste(vignette(vivid(bloom(sheet.image, 22, threshold=180, strength=0.55), 1.4, 1.1), 0.36))
    return grain(sheet.done(), "boat/grain", 0.05)


def boat_mask() -> Image.Image:
    """Draw the boat's area in white on black: what the motion brush moves."""
    sheet = Sheet(SIZE)
    white = Ink((255, 255, 255))
    for shape in (HULL, FAR, SAIL):
        sheet.fill(shape, white)
    grown = sheet.image.convert("L").filter(ImageFilter.GaussianBlur(8))
    return stretch(grown.resize(SIZE, Image.Resampling.LANCZOS), 40, 44).point([0] * 128 + [255] * 128)


def _street(sheet: Sheet) -> None:
    """Paint the street out of focus: house fronts, windows, lamps as discs of light."""
    sheet.paste(gradient(sheet.big, NIGHT))
    rng = dice("street")
    for front, width, top in (
        (-20, 190, 20),
        (160, 130, 90),
        (286, 110, 150),
        (560, 120, 140),
        (676, 130, 70),
        (800, 190, 10),
    ):
        sheet.fill(
            [(front, top), (front + width, top), (front + width, KERB), (front, KERB)], Ink((26, 28, 46), 0.8, 8)
        )
        for _ in range(width // 7):
            wx, wy = front + rng.uniform(12, width - 24), rng.uniform(top + 20, KERB - 60)
            glow: Colour = rng.choice(((255, 190, 104), (255, 214, 150), (130, 170, 210), (250, 150, 90)))
            sheet.fill(
                [(wx, wy), (wx + 14, wy), (wx + 14, wy + 20), (wx, wy + 20)], Ink(glow, rng.uniform(0.15, 0.6), 4)
            )
    sheet.oval((470, 330), (200, 70), Ink((220, 150, 110), 0.4, 40, "screen"))
    for (x, y), radius, tone in LAMPS:
        sheet.oval((x, y), (radius * 2.4, radius * 2.4), Ink(tone, 0.3, radius, "screen"))
        sheet.oval((x, y), (radius, radius), Ink(tone, 0.62, 1.6, "screen"))
        rim = ellipse((x, y), (radius, radius))
        sheet.line([*rim, rim[0]], 1.6, Ink(tone, 0.5, 0.8, "screen"))
    _walkers(sheet)
    sheet.fill([(0, KERB - 16), (960, KERB - 16), (960, KERB), (0, KERB)], Ink((34, 32, 44), 0.85, 3))
    sheet.line([(0, KERB - 17), (960, KERB - 17)], 2, Ink((190, 160, 130), 0.4, 1.5))


def _walkers(sheet: Sheet) -> None:
    """Set lamp posts and two walkers with umbrellas against the light, out of focus."""
    for x, y in ((96, 222), (858, 212), (236, 271), (700, 262)):
        sheet.line([(x, y), (x, KERB)], 5, Ink((12, 12, 24), 0.8, 2))
    for x, size, tone in ((404, 1.0, (186, 44, 60)), (566, 0.86, (40, 84, 120))):
        foot, top = KERB - 4, KERB - 4 - 118 * size
        sheet.line(
            [(x, top + 30 * size), (x, foot - 40 * size)],
            [16 * size, 26 * size, 24 * size],
            Ink((14, 14, 26), 0.95, 2.4),
        )
        for side in (-1, 1):
            sheet.line(
                [(x + side * 5, foot - 46 * size), (x + side * 9 * size, foot)],
                [12 * size, 7 * size],
                Ink((14, 14, 26), 0.95, 2.4),
            )
        sheet.oval((x, top + 22 * size), (9 * size, 10 * size), Ink((16, 15, 26), 0.95, 2))
        dome: Points = [
            (x + 44 * size * math.cos(a), top + 12 * size - 34 * size * math.sin(a))
            for a in (k * math.pi / 12 for k in range(13))
        ]
        sheet.fill(dome, Ink(tone, 0.95, 2))
        sheet.line(dome[6:11], [1, 5, 1], Ink((255, 190, 150), 0.4, 2.5))


def _mirror(sheet: Sheet) -> None:
    """Turn the street upside down in the water, drawn out and blurred."""
    s = sheet.scale
    street = ImageOps.flip(sheet.image.crop((0, 0, sheet.big[0], KERB * s)))
    water = street.resize((sheet.big[0], (SIZE[1] - KERB) * s), Image.Resampling.BICUBIC)
    for _ in range(3):
        water = water.filter(ImageFilter.BoxBlur((3 * s, 20 * s)))
    lower = Image.new("RGB", sheet.big)
    lower.paste(bloom(water, 10, threshold=60, strength=0.7), (0, KERB * s))
    sheet.paste(lower, sheet.mask([(0, KERB), (960, KERB), (960, 960), (0, 960)], 1))
    depth = fade(sheet.big, [(0, 0), (0.39, 20), (0.7, 70), (1, 165)])
    sheet.wash(depth, Ink((10, 14, 30)))


def _water(sheet: Sheet) -> None:
    """Ruffle the water: flat strokes, light and dark, that break the mirror."""
    rng = dice("water")
    lights = [(x, tone) for (x, _), _, tone in LAMPS]
    for k in range(1500):
        near = (k / 1500) ** 1.3
        y = lerp(KERB + 4, 964, near)
        lamp, tone = rng.choice(lights)
        bright = rng.random() < 0.6
        x = rng.gauss(lamp, lerp(12, 40, near)) if bright else rng.uniform(-40, 1000)
        half = lerp(6, 46, near) * rng.uniform(0.4, 1.2)
        path: Points = [(x - half, y), (x, y + rng.uniform(-2, 2) * near), (x + half, y)]
        ink = (
            Ink(tone, rng.uniform(0.06, 0.3) * (1 - 0.4 * near), 1 + near, "screen")
            if bright
            else Ink((10, 12, 28), 0.25, 1 + near)
        )
        sheet.line(path, [0.4, lerp(1.2, 5, near), 0.4], ink)
    stones = stretch(noise(sheet.big, "stones", 60, octaves=3, stretch=(2.6, 0.9)), 150, 210)
    sheet.wash(
        Image.composite(stones, Image.new("L", sheet.big), fade(sheet.big, [(0, 0), (0.4, 0), (1, 120)])),
        Ink((120, 132, 170), 0.3),
    )


def _ring(sheet: Sheet, at: Point, radius: float, strength: float) -> None:
    flat = 0.3
    for grow, alpha in ((1.0, 1.0), (0.62, 0.7)):
        ring = ellipse(at, (radius * grow, radius * grow * flat))
        sheet.line([*ring, ring[0]], 1 + radius / 34, Ink((206, 220, 240), strength * alpha, 0.7, "screen"))
        low = [(x, y + 1.5 + radius / 40) for x, y in ring]
        sheet.line([*low, low[0]], 1 + radius / 40, Ink((8, 10, 24), strength * alpha * 0.8, 0.9))


def _drops(sheet: Sheet) -> None:
    """Let rain fall into it: rings, and a little crown where a drop has just struck."""
    rng = dice("drops")
    for _ in range(56):
        near = rng.random() ** 0.8
        at = (rng.uniform(0, 960), lerp(KERB + 24, 945, near))
        _ring(sheet, at, lerp(7, 46, near) * rng.uniform(0.5, 1.1), rng.uniform(0.2, 0.55))
        if rng.random() < 0.4:
            _crown(sheet, rng, at, near)


def _crown(sheet: Sheet, rng: random.Random, at: Point, near: float) -> None:
    for _ in range(5):
        dx, high = rng.uniform(-1, 1) * lerp(2, 8, near), rng.uniform(0.4, 1) * lerp(5, 20, near)
        sheet.line(
            [at, (at[0] + dx, at[1] - high)], [lerp(0.8, 2, near), 0.4], Ink((226, 234, 250), 0.6, 0.5, "screen")
        )
        sheet.oval(
            (at[0] + dx * 1.3, at[1] - high * 1.2), (1.2 + near, 1.2 + near), Ink((236, 242, 255), 0.7, 0.4, "screen")
        )


def _reflected(sheet: Sheet) -> None:
    """Give the boat its reflection and the rings that it makes."""

    def down(points: Points) -> Points:
        return [(x + (y - 738) * 0.04, 738 + (738 - y) * 0.74) for x, y in points]

    sheet.oval((486, 742), (200, 22), Ink((4, 6, 16), 0.6, 12))
    sheet.fill(down([(398, 668), (478, 448), (490, 676)]), Ink((214, 202, 190), 0.5, 7))
    sheet.fill(down([(478, 448), (562, 660), (490, 676)]), Ink((150, 142, 152), 0.5, 7))
    sheet.fill(
        down([(486, 672), (404, 664), (282, 628), (352, 720), (424, 744), (486, 745)]), Ink((214, 200, 186), 0.62, 5)
    )
    sheet.fill(
        down([(486, 672), (560, 664), (690, 614), (628, 724), (560, 744), (486, 745)]), Ink((166, 150, 158), 0.62, 5)
    )
    for k, radius in enumerate((215, 262, 322)):
        _ring(sheet, (486, 738), radius, 0.34 - 0.08 * k)
    rng = dice("reflected")
    for _ in range(60):
        x, y = rng.uniform(310, 670), rng.uniform(750, 900)
        half = rng.uniform(12, 44)
        tone: Colour = rng.choice(((12, 14, 30), (12, 14, 30), (214, 190, 170)))
        sheet.line(
            [(x - half, y), (x, y + rng.uniform(-2, 2)), (x + half, y)],
            [0.4, rng.uniform(2, 4.5), 0.4],
            Ink(tone, 0.3, 1.2),
        )


def _paper(sheet: Sheet) -> None:
    """Fold the boat: the sail's two faces, the far wall, the near hull with its creases."""
    sheet.fill(FAR, Ink((150, 142, 150), 1, 0.8))
    sheet.fill([(398, 660), (478, 428), (492, 676)], Ink((250, 240, 226), 1, 0.7))
    sheet.fill([(478, 428), (562, 656), (490, 676)], Ink((190, 178, 178), 1, 0.7))
    sheet.line([(478, 428), (485, 560), (491, 676)], [0.8, 1.6, 1], Ink((255, 250, 240), 0.8, 0.7))
    sheet.fill(
        [(404, 640), (560, 640), (560, 672), (404, 672)],
        Ink((70, 62, 84), 0.4, 9, clip=sheet.mask([(398, 660), (478, 428), (562, 656), (490, 676)])),
    )
    left: Points = [(282, 628), (404, 664), (486, 672), (486, 745), (424, 744), (352, 720)]
    right: Points = [(486, 672), (560, 664), (690, 614), (628, 724), (560, 744), (486, 745)]
    sheet.fill(left, Ink((244, 234, 220), 1, 0.7))
    sheet.fill(right, Ink((206, 194, 190), 1, 0.7))
    hull = sheet.mask(HULL, 0.7)
    sheet.fill([(282, 628), (404, 664), (424, 744), (352, 720)], Ink((255, 246, 232), 0.8, 6, clip=hull))
    sheet.fill([(560, 664), (690, 614), (628, 724), (560, 744)], Ink((150, 138, 150), 0.65, 8, clip=hull))
    sheet.fill([(300, 726), (660, 726), (660, 760), (300, 760)], Ink((74, 78, 112), 0.7, 9, clip=hull))
    sheet.oval((330, 690), (70, 50), Ink((255, 186, 110), 0.35, 22, clip=hull))
    sheet.oval((640, 670), (60, 46), Ink((236, 110, 140), 0.3, 20, clip=hull))
    for crease in (
        [(404, 664), (424, 744)],
        [(560, 664), (560, 744)],
        [(282, 628), (404, 664), (486, 672), (560, 664), (690, 614)],
    ):
        sheet.line(crease, 1.3, Ink((120, 108, 116), 0.6, 0.6))
        sheet.line([(x - 1.6, y - 1.2) for x, y in crease], 1.1, Ink((255, 252, 246), 0.6, 0.6))
    _fibres(sheet, hull)


def _fibres(sheet: Sheet, hull: Image.Image) -> None:
    fibres = stretch(noise(sheet.big, "fibres", 14, octaves=2, stretch=(2, 1)), 150, 230)
    sheet.wash(fibres, Ink((150, 136, 126), 0.22, clip=hull))
    for x in (340, 386, 440, 520, 600):
        sheet.oval((x, 702 + (x * 7) % 13), (3, 4), Ink((150, 150, 170), 0.45, 1.2))
        sheet.oval((x - 0.8, 700.6 + (x * 7) % 13), (1.1, 1.3), Ink((255, 255, 255), 0.9, 0.4))


def _rain(sheet: Sheet) -> None:
    rng = dice("rain")
    for _ in range(360):
        x, y, length = rng.uniform(-20, 980), rng.uniform(-60, 940), rng.uniform(16, 74)
        sheet.line(
            [(x, y), (x - length * 0.08, y + length)],
            [0.3, rng.uniform(0.7, 1.7)],
            Ink((206, 216, 236), rng.uniform(0.08, 0.34), 0.6, "screen"),
        )
