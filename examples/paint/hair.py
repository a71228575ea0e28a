"""The hair of the portrait, and the veil over it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from paint.curves import Points, along, dice, lerp, loop, spline, trace
from paint.sheet import Colour, Ink, Sheet

if TYPE_CHECKING:
    import random

    from PIL import Image

HAIR_BACK = loop(
    *trace(
        "404,150 350,158 312,196 294,260 290,340 298,420 292,500 276,580 262,660 300,690 352,620 380,520 "
        "390,440 460,440 476,520 500,610 556,690 606,660 584,560 566,460 560,350 546,250 510,184 456,154"
    )
)
HAIR: Colour = (46, 28, 18)
SHEEN: Colour = (142, 92, 52)


def hair_behind(sheet: Sheet) -> None:
    """Lay in the mass of the hair, before face and neck are painted on it."""
    sheet.fill(HAIR_BACK, Ink((34, 20, 13), 1, 2.5))
    clip = sheet.mask(HAIR_BACK, 2)
    rng = dice("hair/back")
    left: tuple[Points, Points] = (
        [(396, 158), (316, 200), (296, 330), (300, 440), (282, 570), (270, 670)],
        [(400, 170), (352, 210), (332, 330), (372, 450), (364, 540), (312, 670)],
    )
    right: tuple[Points, Points] = (
        [(412, 158), (516, 196), (556, 330), (562, 450), (584, 570), (600, 660)],
        [(410, 170), (480, 214), (512, 330), (496, 450), (506, 560), (552, 670)],
    )
    for edges in (left, right):
        _strands(sheet, edges, (rng, 130), clip)


def hair_front(sheet: Sheet) -> None:
    """Let the hair fall from the parting over brow and temples."""
    left = loop(
        *trace(
            "403,193 376,206 347,234 329,272 321,320 322,366 334,408 312,404 298,330 302,250 330,186 372,158 404,154"
        )
    )
    right = loop(
        *trace(
            "403,193 434,206 477,232 501,274 509,330 503,384 485,436 506,470 536,420 552,330 540,250 506,186 "
            "456,156 404,154"
        )
    )
    rng = dice("hair/front")
    for shape, shift in ((left, (4, 5)), (right, (-5, 5))):
        shade = [(x + shift[0], y + shift[1]) for x, y in shape]
        sheet.fill(shade, Ink((70, 36, 20), 0.5, 6))
        sheet.fill(shape, Ink(HAIR, 0.95, 2.8))
    sides: list[tuple[Points, Points]] = [
        (
            [(404, 154), (352, 166), (312, 226), (300, 320), (312, 404)],
            [(402, 201), (368, 211), (333, 256), (321, 320), (330, 404)],
        ),
        (
            [(404, 154), (476, 166), (538, 240), (550, 340), (520, 450)],
            [(402, 201), (444, 209), (494, 256), (509, 335), (488, 430)],
        ),
    ]
    for edges in sides:
        _strands(sheet, edges, (rng, 150))
    sheet.line([(403, 196), (403, 180), (404, 156)], [2.6, 1.6, 0.6], Ink((160, 112, 72), 0.55, 0.9))


def _strands(
    sheet: Sheet, edges: tuple[Points, Points], how: tuple[random.Random, int], clip: Image.Image | None = None
) -> None:
    """Draw single strands between two edges; some catch the light where the head turns to it."""
    rng, count = how
    outer, inner = spline(edges[0]), spline(edges[1])
    for _ in range(count):
        u, start, end = rng.random(), rng.uniform(0, 0.5), rng.uniform(0.5, 1)
        wave, phase = rng.uniform(0.5, 2.4), rng.uniform(0, 6)
        path: Points = []
        for k in range(9):
            t = lerp(start, end, k / 8)
            (ax, ay), (bx, by) = along(outer, t), along(inner, t)
            path.append((lerp(ax, bx, u) + wave * (1 + 3 * t) * math.sin(t * 13 + phase), lerp(ay, by, u)))
        lit = rng.random() < 0.5
        tone = SHEEN if lit else (18, 10, 7)
        alpha = rng.uniform(0.1, 0.34) if lit else rng.uniform(0.2, 0.5)
        sheet.line(path, [0.3, rng.uniform(1, 2.6), 0.3], Ink(tone, alpha, 0.7, clip=clip))


def veil(sheet: Sheet) -> None:
    """Lay a veil as thin as breath over hair and shoulders."""
    cloth = loop(
        *trace(
            "404,147 342,156 298,200 280,300 284,420 268,540 226,640 196,700 262,690 300,600 318,470 310,330 "
            "330,216 404,178 480,208 526,330 528,470 548,600 600,690 668,700 622,620 584,520 574,400 568,290 "
            "540,206 480,156"
        )
    )
    clip = sheet.mask(cloth, 2)
    sheet.fill(cloth, Ink((206, 190, 156), 0.13, 2))
    rng = dice("veil")
    for x1, x2, lean in ((300, 200, -1), (552, 660, 1)):
        for _ in range(16):
            x = x1 + rng.uniform(-16, 16)
            end = x2 + rng.uniform(-30, 70) * -lean
            path: Points = [(x, 300), (x + lean * 6, 430), (lerp(x, end, 0.4), 560), (end, 690)]
            sheet.line(
                path, [0.4, rng.uniform(1, 5), 0.6], Ink((226, 208, 170), rng.uniform(0.10, 0.28), 1.2, clip=clip)
            )
    edge: Points = [(324, 282), (338, 240), (366, 206), (404, 190), (446, 203), (486, 234), (506, 282)]
    sheet.line(edge, [0.5, 1.8, 1.8, 0.5], Ink((24, 14, 9), 0.75, 0.5))
    sheet.line([(x, y - 2) for x, y in edge], [0.5, 1.4, 1.4, 0.5], Ink((214, 190, 148), 0.35, 0.8))
