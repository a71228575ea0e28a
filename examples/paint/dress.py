"""What she wears: the dark dress, its copper sleeves and its shawl, and the wall that she sits before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from paint.curves import Points, along, dice, lerp, loop, ribbon, spline, trace
from paint.sheet import Colour, Ink, Sheet

if TYPE_CHECKING:
    from PIL import Image

BODY = loop(
    *trace(
        "300,590 236,624 176,672 140,760 112,880 92,1010 80,1130 70,1260 770,1260 772,1120 758,1000 "
        "734,860 704,750 664,676 600,626 540,592 520,660 420,706 312,664"
    )
)


def wall(sheet: Sheet) -> None:
    """Paint the low wall behind her, and the ledge's light edge."""
    sheet.fill([(-10, 742), (842, 730), (842, 1226), (-10, 1226)], Ink((46, 36, 24), 1, 1.2))
    sheet.fill([(-10, 742), (842, 730), (842, 744), (-10, 757)], Ink((124, 98, 62), 0.9, 1))
    sheet.fill([(-10, 757), (842, 744), (842, 762), (-10, 775)], Ink((20, 14, 10), 0.6, 4))


def dress(sheet: Sheet) -> None:
    """Paint the bodice, the gathered neckline, the sleeves, the shawl over one shoulder."""
    sheet.fill([(x + 4, y - 6) for x, y in BODY], Ink((14, 10, 6), 0.5, 12))
    sheet.fill(BODY, Ink((40, 40, 28), 1, 1.6))
    clip = sheet.mask(BODY, 1.5)
    sheet.fill(
        loop((300, 640), (220, 690), (180, 800), (190, 900), (300, 940), (420, 900), (440, 740)),
        Ink((82, 76, 46), 0.55, 40, clip=clip),
    )
    sheet.fill(
        loop((560, 660), (700, 760), (770, 1000), (760, 1216), (600, 1216), (560, 900)),
        Ink((12, 10, 8), 0.7, 40, clip=clip),
    )
    _gathers(sheet, clip)
    _shawl(sheet, clip)
    _lap(sheet, clip)
    _neckline(sheet)


def _lap(sheet: Sheet, clip: Image.Image) -> None:
    """Spread a few heavy folds over her knees."""
    for path, light in (
        ([(150, 1216), (220, 1150), (330, 1120), (430, 1130)], 0.5),
        ([(280, 1226), (360, 1180), (470, 1160), (560, 1170)], 0.42),
        ([(470, 1226), (560, 1196), (660, 1150), (720, 1100)], 0.22),
        ([(110, 1130), (160, 1100), (240, 1090)], 0.4),
    ):
        sheet.line([(x + 4, y + 16) for x, y in path], [6, 26, 6], Ink((8, 8, 5), 0.7, 9, clip=clip))
        sheet.line(path, [3, 14, 3], Ink((120, 114, 74), light, 7, clip=clip))


def _gathers(sheet: Sheet, clip: Image.Image) -> None:
    """Let fine folds hang from the neckline."""
    rng = dice("gathers")
    neck = spline([(306, 652), (350, 686), (420, 704), (490, 690), (530, 648)])
    for k in range(64):
        t = (k + rng.random()) / 64
        x, y = along(neck, t)
        end = lerp(250, 600, t) + rng.uniform(-12, 12)
        deep = rng.uniform(120, 280)
        path: Points = [(x, y + 2), (lerp(x, end, 0.5), y + deep * 0.5), (end, y + deep)]
        tone: Colour = (150, 132, 78) if k % 2 and t < 0.75 else (12, 12, 8)
        sheet.line(path, [3, 4, 1], Ink(tone, 0.34, 2.2, clip=clip))


def _shawl(sheet: Sheet, clip: Image.Image) -> None:
    """Throw a rolled shawl over her left shoulder and across."""
    rng = dice("shawl")
    roll: Points = [(566, 622), (610, 700), (628, 800), (600, 920), (540, 1010)]
    sheet.line([(x - 12, y + 8) for x, y in roll], [40, 90, 96, 80, 30], Ink((8, 8, 6), 0.6, 14, clip=clip))
    sheet.line(roll, [36, 82, 88, 70, 20], Ink((58, 56, 40), 1, 4, clip=clip))
    for _ in range(34):
        u = rng.uniform(-0.5, 0.5)
        path = [(x + u * w, y + rng.uniform(-4, 4)) for (x, y), w in zip(roll, (34, 78, 84, 64, 16), strict=True)]
        tone: Colour = (142, 126, 82) if u < 0.05 and rng.random() < 0.7 else (16, 15, 10)
        sheet.line(path, [1, rng.uniform(3, 9), 1], Ink(tone, 0.3, 3, clip=clip))


def _neckline(sheet: Sheet) -> None:
    """Stitch a narrow border of gold knots along the neckline."""
    neck = [(300, 640), (346, 682), (420, 702), (494, 686), (538, 636)]
    sheet.line([(x, y - 5) for x, y in neck], 6, Ink((70, 34, 18), 0.5, 4))
    sheet.line(neck, 13, Ink((44, 36, 20), 1, 0.8))
    sheet.line([(x, y - 6) for x, y in neck], 1.6, Ink((190, 150, 80), 0.8, 0.6))
    curve = spline(neck, steps=24)
    for k, (x, y) in enumerate(curve[1:-1:2]):
        dim = 1 - 0.5 * k / 48
        sheet.oval((x, y + 0.5), (2.6, 3.2), Ink((206, 166, 88), 0.8 * dim, 0.6))
        sheet.oval((x - 0.7, y - 0.6), (0.9, 0.9), Ink((255, 232, 168), 0.9 * dim, 0.4))


def sleeves(sheet: Sheet) -> None:
    """Paint the forearms' sleeves, copper silk in many folds, coming out of the dress."""
    near: Points = [(128, 880), (150, 970), (214, 1030), (296, 1044)]
    far: Points = [(738, 900), (718, 1010), (650, 1072), (572, 1094)]
    for name, arm, widths in (("far", far, [116, 136, 118, 74.0]), ("near", near, [108, 136, 120, 70.0])):
        sheet.line([(x + 6, y + 18) for x, y in arm], [w * 1.05 for w in widths], Ink((10, 7, 5), 0.7, 16))
        sheet.line(arm, widths, Ink((124, 78, 34), 1, 2))
        _folds(sheet, name, (arm, widths))
    for puff, edge in (
        (
            loop(*trace("190,690 120,770 66,880 84,920 130,934 190,930 230,900 250,780")),
            [(64, 886), (90, 922), (138, 938), (192, 930), (226, 906)],
        ),
        (
            loop(*trace("650,700 720,780 796,900 786,944 736,960 676,944 640,900 620,780")),
            [(798, 908), (780, 948), (734, 964), (680, 948), (646, 914)],
        ),
    ):
        sheet.fill([(x, y + 14) for x, y in puff], Ink((12, 6, 3), 0.6, 10))
        sheet.fill(puff, Ink((44, 43, 29), 1, 5))
        sheet.line(edge, [4, 9, 11, 9, 4], Ink((36, 30, 18), 1, 1.4))
        sheet.line([(x, y - 3) for x, y in edge], [1, 2.4, 2.4, 1], Ink((176, 136, 70), 0.65, 0.8))
    _puffs(sheet)


def _puffs(sheet: Sheet) -> None:
    """Let folds fall over the upper arms, light on the near one."""
    rng = dice("puffs")
    for x, y, lean, light in ((150, 800, -1, 0.4), (716, 820, 1, 0.16)):
        for _ in range(26):
            u = rng.uniform(-60, 56)
            path: Points = [
                (x + u * 0.6 - lean * 26, y - 90),
                (x + u, y),
                (x + u * 0.95 + lean * 16, y + rng.uniform(60, 104)),
            ]
            bright = rng.random() < 0.5 and u < 20
            tone: Colour = (150, 138, 88) if bright else (10, 10, 6)
            sheet.line(path, [1, rng.uniform(4, 9), 1], Ink(tone, light if bright else 0.34, 3.4))


def cuffs(sheet: Sheet) -> None:
    """Close the sleeves around the wrists."""
    for top, bottom, swell, dim in (((306, 1003), (312, 1078), -9, 1.0), ((572, 1057), (566, 1134), 8, 0.75)):
        middle = ((top[0] + bottom[0]) / 2 + swell, (top[1] + bottom[1]) / 2)
        outer = 24 if swell > 0 else -24
        band = spline([top, middle, bottom]) + spline(
            [(bottom[0] + outer, bottom[1] + 2), (middle[0] + outer, middle[1]), (top[0] + outer, top[1] - 2)]
        )
        sheet.line(
            [
                (top[0] - outer * 0.3, top[1] + 4),
                (middle[0] - outer * 0.3, middle[1]),
                (bottom[0] - outer * 0.3, bottom[1] - 4),
            ],
            [4, 9, 4],
            Ink((60, 26, 12), 0.5, 3),
        )
        sheet.fill(band, Ink((118, 72, 30), 1, 1.4))
        clip = sheet.mask(band, 1.2)
        sheet.oval((middle[0] + outer / 2, top[1] + 16), (18, 16), Ink((238, 178, 96), 0.65 * dim, 7, clip=clip))
        sheet.oval((middle[0] + outer / 2, bottom[1] - 4), (22, 20), Ink((30, 14, 6), 0.75, 8, clip=clip))
        for k in range(7):
            y = lerp(top[1] + 3, bottom[1] - 3, k / 6)
            sheet.line(
                [(middle[0] - swell, y), (middle[0] + outer + swell, y + 2)],
                [1, 2.6, 1],
                Ink((52, 26, 10), 0.4, 1.2, clip=clip),
            )
        sheet.line([top, middle, bottom], [2, 3.4, 2], Ink((206, 158, 84), 0.7 * dim, 0.7))


def _folds(sheet: Sheet, name: str, sleeve: tuple[Points, list[float]]) -> None:
    """Draw the folds around a sleeve: each a dark furrow with a lit crest above it."""
    rng, (arm, widths) = dice(f"sleeve/{name}"), sleeve
    curve = spline(arm)
    clip = sheet.mask(_outline(arm, widths), 2)
    dim = 0.75 if name == "far" else 1.0
    sheet.line([(x + 4, y + 46) for x, y in arm], [w * 0.7 for w in widths], Ink((24, 12, 6), 0.75, 14, clip=clip))
    sheet.line(
        [(x - 4, y - 32) for x, y in arm], [w * 0.4 for w in widths], Ink((214, 150, 70), 0.42 * dim, 14, clip=clip)
    )
    for k in range(30):
        t = (k + rng.random()) / 30
        (x, y), (nx, ny) = along(curve, t), along(curve, min(t + 0.06, 1))
        length = math.hypot(nx - x, ny - y) or 1
        ux, uy, w = -(ny - y) / length, (nx - x) / length, rng.uniform(30, 62)
        skew = rng.uniform(8, 26)
        path: Points = [(x - ux * w + skew, y - uy * w), (x, y), (x + ux * w + skew * 0.4, y + uy * w)]
        sheet.line(path, [1, rng.uniform(6, 12), 1], Ink((52, 26, 10), 0.5, 3, clip=clip))
        sheet.line([(px - 6, py - 2) for px, py in path], [1, 6, 0.5], Ink((246, 190, 104), 0.5 * dim, 2.4, clip=clip))


def _outline(arm: Points, widths: list[float]) -> Points:
    return ribbon(spline(arm), widths)
