"""The land behind the portrait: a pale sky, blue mountains, a river on one side, a winding path on the other."""

from __future__ import annotations

from itertools import pairwise

from PIL import Image

from paint.curves import Points, dice, lerp, ridge, spline, trace
from paint.sheet import Colour, Ink, Sheet, Stops, fade, gradient, noise, stretch

SKY: Stops = [
    (0.0, (108, 134, 128)),
    (0.16, (152, 168, 146)),
    (0.3, (214, 206, 160)),
    (0.4, (236, 216, 166)),
    (1.0, (150, 140, 96)),
]


def landscape(sheet: Sheet) -> None:
    """Paint all of it, from the far to the near."""
    sheet.paste(gradient(sheet.big, SKY))
    clouds = stretch(noise(sheet.big, "portrait/clouds", 420, octaves=4, stretch=(2.2, 0.7)), 120, 215)
    high = fade(sheet.big, [(0, 200), (0.22, 120), (0.34, 0), (1, 0)])
    sheet.wash(Image.composite(clouds, Image.new("L", sheet.big), high), Ink((232, 224, 190), 0.5))
    _mountains(sheet)
    _lake(sheet)
    _hills(sheet)
    _path(sheet)
    _river(sheet)
    _trees(sheet)


def _range(sheet: Sheet, name: str, peaks: Points, tone: tuple[Colour, Colour]) -> None:
    """Paint one chain of rocks: its light side, its shaded faces, haze at its foot."""
    rng = dice(name)
    crest: Points = []
    for a, b in pairwise(peaks):
        crest += ridge(a, b, rng, abs(b[0] - a[0]) * 0.13)
    foot = max(y for _, y in peaks) + 130
    body = [*crest, (crest[-1][0], foot), (crest[0][0], foot)]
    sheet.fill(body, Ink(tone[0], 1, 0.8))
    clip = sheet.mask(body, 1)
    for x, y in crest[:: max(len(crest) // 70, 1)]:
        drop, lean = rng.uniform(16, 74), rng.uniform(6, 26)
        face = [(x, y), (x + lean, y + drop * 0.45), (x + lean * 0.6, y + drop), (x - 2, y + drop * 0.6)]
        sheet.fill(face, Ink(tone[1], 0.32, 2.2, clip=clip))
        sheet.line(
            [(x - 2, y + 1), (x - lean * 0.6, y + drop * 0.7)], [2, 4, 1], Ink((232, 226, 190), 0.18, 2, clip=clip)
        )


def _mountains(sheet: Sheet) -> None:
    _range(
        sheet,
        "far",
        trace("-20,330 60,262 120,300 200,236 300,320 430,300 540,330 640,250 730,290 790,246 860,300"),
        ((160, 176, 160), (112, 138, 134)),
    )
    sheet.fill([(0, 330), (832, 330), (832, 470), (0, 470)], Ink((214, 206, 162), 0.62, 34))
    _range(
        sheet,
        "middle",
        [(-20, 350), (36, 300), (84, 372), (150, 342), (210, 400), (330, 420)],
        ((128, 148, 130), (82, 108, 104)),
    )
    _range(
        sheet,
        "right",
        [(520, 420), (600, 372), (660, 330), (700, 376), (760, 312), (812, 350), (860, 330)],
        ((120, 142, 126), (74, 102, 98)),
    )
    sheet.fill([(0, 430), (832, 430), (832, 540), (0, 540)], Ink((200, 192, 144), 0.6, 30))


def _lake(sheet: Sheet) -> None:
    """Lay a bright sheet of water between the mountains and the hills."""
    water = [(0, 456), (150, 448), (330, 452), (330, 494), (180, 500), (0, 492)]
    sheet.fill(water, Ink((176, 190, 168), 0.85, 3))
    sheet.fill([(540, 440), (700, 430), (832, 436), (832, 476), (680, 482), (540, 474)], Ink((180, 192, 168), 0.85, 3))
    rng = dice("lake")
    for _ in range(60):
        x, y = rng.choice((rng.uniform(-20, 320), rng.uniform(540, 830))), rng.uniform(446, 488)
        sheet.line(
            [(x, y), (x + rng.uniform(20, 70), y + rng.uniform(-1, 1))], [0.4, 1.6, 0.4], Ink((230, 226, 194), 0.5, 0.8)
        )


def _hills(sheet: Sheet) -> None:
    rng = dice("hills")
    rows: list[tuple[Points, Colour]] = [
        ([(-10, 502), (90, 480), (190, 500), (330, 488), (560, 484), (700, 476), (842, 500)], (134, 138, 92)),
        ([(-10, 560), (70, 530), (190, 556), (330, 540), (560, 540), (680, 520), (842, 548)], (116, 112, 66)),
        ([(-10, 640), (110, 600), (250, 640), (560, 620), (700, 586), (842, 622)], (96, 84, 46)),
        ([(-10, 730), (130, 690), (300, 730), (560, 700), (720, 672), (842, 706)], (70, 58, 32)),
    ]
    for points, tone in rows:
        crest = spline(points)
        body = [*crest, (842, 1216), (-10, 1216)]
        clip = sheet.mask(body, 1)
        sheet.fill(body, Ink(tone, 1, 1.6))
        for x, y in crest[::2]:
            spot = (x + rng.uniform(-20, 20), y + rng.uniform(6, 60))
            shade = rng.choice(((50, 52, 28), (172, 150, 88), (60, 64, 36)))
            sheet.oval(spot, (rng.uniform(20, 60), rng.uniform(4, 13)), Ink(shade, 0.24, 6, clip=clip))


def _path(sheet: Sheet) -> None:
    """Let a road wind down the left side, wider as it comes near."""
    road: Points = trace("196,506 150,516 120,530 172,546 226,562 196,586 112,604 56,634 96,668 166,700 150,760 60,830")
    widths = [2, 4, 5, 7, 9, 11, 14, 18, 22, 27, 34, 46.0]
    sheet.line([(x + 3, y + 5) for x, y in road], [w * 1.25 for w in widths], Ink((58, 44, 24), 0.6, 3))
    sheet.line(road, widths, Ink((186, 148, 92), 0.95, 1.4))
    sheet.line([(x - 2, y - 1) for x, y in road], [w * 0.4 for w in widths], Ink((226, 194, 134), 0.5, 2))


def _river(sheet: Sheet) -> None:
    """Let a river come out of the lake on the right, with a bridge of four arches."""
    course: Points = trace("690,480 720,500 770,516 742,540 680,560 700,590 772,616 840,640")
    widths = [5, 8, 10, 13, 18, 24, 32, 44.0]
    sheet.line([(x + 2, y + 3) for x, y in course], [w * 1.25 for w in widths], Ink((66, 66, 42), 0.6, 3))
    sheet.line(course, widths, Ink((142, 160, 142), 0.95, 1.4))
    sheet.line([(x - 3, y) for x, y in course], [w * 0.35 for w in widths], Ink((220, 222, 194), 0.65, 2))
    deck: Points = [(624, 574), (660, 562), (706, 558), (752, 566), (792, 582)]
    sheet.line([(x, y + 12) for x, y in deck], 17, Ink((112, 88, 58), 1, 0.8))
    sheet.line(deck, 4, Ink((176, 146, 98), 1, 0.8))
    for k in range(4):
        x, y = lerp(648, 768, k / 3), 574 - (4 if k in {1, 2} else 0)
        sheet.oval((x, y + 7), (10.5, 10), Ink((58, 54, 38), 0.95, 0.8))
        sheet.oval((x + 2, y + 9), (8, 8), Ink((122, 138, 122), 0.8, 1.2))


def _trees(sheet: Sheet) -> None:
    """Set small round trees along hills and road."""
    rng = dice("trees")
    for _ in range(150):
        x, y = rng.choice((rng.uniform(-10, 300), rng.uniform(570, 840))), rng.uniform(498, 700)
        near = (y - 480) / 220
        size = lerp(3, 13, near) * rng.uniform(0.6, 1.2)
        dark: Colour = (round(lerp(92, 36, near)), round(lerp(100, 38, near)), round(lerp(68, 20, near)))
        sheet.oval((x + size * 0.5, y + size * 0.8), (size * 1.3, size * 0.3), Ink((40, 34, 18), 0.4, 1.5))
        sheet.oval((x, y), (size, size * 0.9), Ink(dark, 0.85, 1.2))
        sheet.oval((x - size * 0.3, y - size * 0.3), (size * 0.5, size * 0.4), Ink((168, 156, 92), 0.4, 1.2))
