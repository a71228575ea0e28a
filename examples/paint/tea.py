"""A cup of tea on a wooden table by the window, its steam in the light."""

from __future__ import annotations

import math
from itertools import pairwise

from PIL import Image, ImageChops, ImageFilter

from paint.curves import Point, Points, dice, ellipse, lerp, spline, trace
from paint.oil import Brush, oil
from paint.sheet import Colour, Ink, Sheet, Stops, across, bloom, fade, gradient, grain, noise, stretch, vignette, vivid

SIZE = (1024, 768)
EDGE = 430
RIM: Point = (520, 452)
RADII: Point = (172, 46)
GLAZE: Stops = [
    (0.0, (150, 150, 146)),
    (0.3, (196, 204, 206)),
    (0.38, (250, 244, 232)),
    (0.46, (246, 240, 228)),
    (0.56, (190, 190, 188)),
    (0.66, (124, 128, 138)),
    (0.72, (140, 132, 130)),
    (1.0, (120, 116, 118)),
]
WOOD: Stops = [(0.0, (92, 54, 30)), (0.5, (142, 88, 48)), (1.0, (176, 112, 60))]


def tea() -> Image.Image:
    """Paint the scene."""
    sheet = Sheet(SIZE)
    _room(sheet)
    _table(sheet)
    _saucer(sheet)
    _handle(sheet)
    _cup(sheet)
    _pattern(sheet)
    _tea(sheet)
    _spoon(sheet)
    painted = oil(
        sheet.image, "tea", [Brush(8, 34, 7, 6), Brush(4, 16, 5, 5)], keep=Image.new("L", sheet.big, 168), relief=0.2
    )
    sheet.paste(painted)
    _steam(sheet)
    sheet.paste(vivid(vignette(bloom(sheet.image, 30, threshold=190, strength=0.6), 0.26), 1.1, 1.08))
    return grain(sheet.done(), "tea/grain", 0.05)


def tea_mask() -> Image.Image:
    """Draw in white what must stay still: everything but the steam and the air it rises through."""
    sheet = Sheet(SIZE, colour=(255, 255, 255))
    air: Points = trace("390,474 348,400 330,260 320,120 336,-60 720,-60 722,130 706,280 690,400 650,474 520,492")
    sheet.fill(spline(air, closed=True), Ink((0, 0, 0)))
    return sheet.image.convert("L").resize(SIZE, Image.Resampling.LANCZOS).point([0] * 128 + [255] * 128)


def _room(sheet: Sheet) -> None:
    """Paint the room out of focus: a window on the left, a wall that takes its light, a plant."""
    sheet.paste(across(sheet.big, [(0.0, (156, 132, 94)), (0.4, (124, 96, 68)), (1.0, (56, 40, 34))]))
    sheet.fill([(40, -20), (330, -20), (330, 350), (40, 350)], Ink((255, 250, 226), 1, 12))
    sheet.fill([(40, 190), (330, 160), (330, 350), (40, 350)], Ink((186, 204, 142), 0.7, 34))
    for _ in range(2):
        sheet.oval((210, 240), (90, 70), Ink((136, 170, 104), 0.4, 30))
    for bar in ([(184, -20), (184, 350)], [(40, 150), (330, 150)]):
        sheet.line(bar, 13, Ink((96, 76, 56), 0.9, 6))
    for frame in ([(40, -20), (40, 352), (330, 352), (330, -20)],):
        for a, b in pairwise(frame):
            sheet.line([a, b], 22, Ink((108, 86, 62), 1, 7))
    sheet.oval((190, 120), (300, 260), Ink((255, 232, 176), 0.42, 90, "screen"))
    rng = dice("leaves")
    sheet.fill([(800, 340), (930, 340), (912, 440), (818, 440)], Ink((150, 84, 58), 1, 8))
    for _ in range(36):
        angle = rng.uniform(-2.9, -0.25)
        reach, x0 = rng.uniform(70, 210), rng.uniform(840, 890)
        tip = (x0 + math.cos(angle) * reach, 340 + math.sin(angle) * reach)
        tone: Colour = rng.choice(((60, 88, 58), (84, 118, 70), (40, 62, 44), (126, 150, 92)))
        sheet.line(
            [(x0, 344), (lerp(x0, tip[0], 0.5), lerp(340, tip[1], 0.62)), tip],
            [4, rng.uniform(14, 28), 1],
            Ink(tone, 0.75, 6),
        )


def _table(sheet: Sheet) -> None:
    """Lay the table: planks that run to the back, grain, the window's light across."""
    s, (w, h) = sheet.scale, sheet.big
    board = gradient((w, h), WOOD)
    figure = noise((w, h), "wood/figure", 150, octaves=4, stretch=(8, 0.22))
    veins = noise((w, h), "wood/veins", 24, octaves=3, stretch=(14, 0.3))
    tone = ImageChops.add(figure, veins, 2).point([min(255, round(90 + v * 0.78)) for v in range(256)])
    board = ImageChops.multiply(board, Image.merge("RGB", (tone, tone, tone)))
    lines = stretch(veins, 168, 214)
    board.paste((62, 32, 16), (0, 0), lines.point([v // 3 for v in range(256)]))
    sheet.paste(vivid(board, 1.1, 1.25), sheet.mask([(0, EDGE), (1024, EDGE), (1024, 768), (0, 768)], 1.5))
    for y, wide in ((EDGE + 38, 1.4), (EDGE + 98, 2), (EDGE + 192, 2.8), (EDGE + 320, 3.4)):
        sheet.line([(0, y), (512, y + 2), (1024, y - 1)], wide, Ink((34, 18, 10), 0.85, 0.7))
        sheet.line([(0, y + wide + 1), (1024, y + wide)], wide * 0.6, Ink((232, 176, 112), 0.5, 0.8))
    sheet.wash(
        fade((w, h), [(0, 0), (EDGE / 768, 150), (0.66, 30), (1, 0)]),
        Ink((30, 18, 12), 0.7, clip=sheet.mask([(0, EDGE), (1024, EDGE), (1024, 768), (0, 768)])),
    )
    for beam in (
        [(-40, 560), (250, 470), (420, 470), (120, 640), (-40, 700)],
        [(150, 700), (420, 560), (560, 560), (400, 790), (110, 790)],
    ):
        sheet.fill(beam, Ink((255, 214, 146), 0.26, 14 * s / 2, "screen"))
    sheet.fill([(0, EDGE - 3), (1024, EDGE - 3), (1024, EDGE + 3), (0, EDGE + 3)], Ink((196, 138, 86), 0.5, 2))


def _saucer(sheet: Sheet) -> None:
    """Set the saucer, with the shadow that it and the cup throw to the right."""
    sheet.oval((600, 676), (330, 62), Ink((16, 8, 4), 0.75, 18))
    sheet.oval((700, 660), (260, 46), Ink((16, 8, 4), 0.5, 24))
    sheet.oval((520, 652), (298, 66), Ink((126, 122, 122), 1, 0.7))
    sheet.oval((520, 646), (298, 64), Ink((232, 226, 214), 1, 0.7))
    clip = sheet.mask(ellipse((520, 646), (298, 64)), 0.7)
    sheet.oval((760, 660), (170, 60), Ink((108, 106, 116), 0.7, 34, clip=clip))
    sheet.oval((330, 632), (130, 30), Ink((255, 252, 242), 0.8, 16, clip=clip))
    ring = ellipse((520, 645), (286, 59))
    sheet.line([*ring, ring[0]], 3.2, Ink((38, 74, 128), 0.9, 0.6, clip=clip))
    sheet.oval((524, 642), (196, 38), Ink((158, 154, 152), 0.8, 5, clip=clip))
    sheet.oval((520, 646), (186, 34), Ink((226, 220, 210), 1, 5, clip=clip))
    sheet.oval((574, 650), (190, 36), Ink((40, 30, 30), 0.6, 14, clip=clip))


def _wall() -> Points:
    """Outline the cup's body below the rim."""
    side = spline([(348, 452), (352, 510), (372, 574), (412, 626), (444, 642)])
    bottom = [(520 + 78 * math.cos(a), 640 + 16 * math.sin(a)) for a in (math.pi - k * math.pi / 16 for k in range(17))]
    return side + bottom + [(1040 - x, y) for x, y in reversed(side)]


def _cup(sheet: Sheet) -> None:
    body = [*_wall(), *ellipse(RIM, RADII)[30:]]
    sheet.paste(across(sheet.big, GLAZE), sheet.mask(body, 0.7))
    clip = sheet.mask(body, 0.7)
    sheet.fill([(330, 590), (710, 590), (710, 680), (330, 680)], Ink((74, 66, 72), 0.55, 24, clip=clip))
    sheet.oval((640, 660), (120, 40), Ink((196, 146, 100), 0.4, 20, clip=clip))
    sheet.line([(398, 500), (408, 556), (432, 604)], [6, 22, 4], Ink((255, 255, 250), 0.9, 5, clip=clip))
    sheet.line([(668, 500), (654, 560), (628, 606)], [2, 8, 2], Ink((214, 196, 176), 0.5, 5, clip=clip))


def _pattern(sheet: Sheet) -> None:
    """Paint a cobalt band and sprigs on the porcelain, turning with the form."""
    blue: Colour = (34, 70, 130)
    clip = sheet.mask(_wall(), 0.6)
    for low, wide in ((24, 5), (34, 1.6)):
        arc: Points = [
            (RIM[0] + 176 * u, RIM[1] + low + 46 * math.sqrt(max(1 - u * u, 0)))
            for u in (-1, -0.8, -0.5, -0.2, 0.2, 0.5, 0.8, 1)
        ]
        sheet.line(arc, wide, Ink(blue, 0.85, 0.6, clip=clip))
    for k in range(7):
        u = math.sin(math.pi * (k / 6 - 0.5) * 0.86)
        x, y, flat = RIM[0] + 158 * u, RIM[1] + 78 + 42 * math.sqrt(1 - u * u), max(math.sqrt(1 - u * u), 0.2)
        sheet.line([(x, y + 26), (x + 3 * flat, y + 8), (x, y - 8)], [1, 2, 1], Ink(blue, 0.8, 0.5, clip=clip))
        for turn in range(5):
            a = 2 * math.pi * turn / 5 - math.pi / 2
            sheet.oval(
                (x + 7.5 * flat * math.cos(a), y - 12 + 7.5 * math.sin(a)),
                (5 * flat, 5),
                Ink(blue, 0.8, 0.6, clip=clip),
            )
        sheet.oval((x, y - 12), (2.6 * flat, 2.6), Ink((236, 196, 96), 0.95, 0.5, clip=clip))
        for side in (-1, 1):
            sheet.oval(
                (x + side * 9 * flat, y + 14),
                (8 * flat, 3.4),
                Ink((52, 96, 150), 0.75, 0.6, clip=clip),
                angle=-28 * side,
            )


def _handle(sheet: Sheet) -> None:
    path: Points = [(676, 486), (728, 474), (768, 500), (764, 548), (718, 586), (648, 590)]
    sheet.line([(x + 3, y + 5) for x, y in path], [26, 23, 22, 22, 22, 24], Ink((60, 54, 58), 0.9, 3))
    sheet.line(path, [26, 23, 22, 22, 22, 24], Ink((176, 172, 172), 1, 0.7))
    sheet.line([(x - 2, y - 5) for x, y in path[:4]], [4, 8, 6, 2], Ink((250, 244, 234), 0.9, 2))
    sheet.line([(x + 3, y + 5) for x, y in path[1:]], [3, 6, 7, 7, 5], Ink((92, 84, 88), 0.6, 3))
    sheet.line(path[1:5], [1, 2, 2, 1], Ink((38, 74, 128), 0.5, 0.8))


def _tea(sheet: Sheet) -> None:
    """Fill the cup: the inner wall, the tea with the window's image on it, the rim's gold line."""
    rim = ellipse(RIM, RADII)
    sheet.fill(rim, Ink((236, 230, 218), 1, 0.6))
    clip = sheet.mask(ellipse((RIM[0], RIM[1] + 1), (165, 41)), 0.8)
    sheet.wash(clip, Ink((178, 172, 166)))
    sheet.oval((400, 440), (90, 40), Ink((120, 112, 108), 0.6, 16, clip=clip))
    sheet.oval((640, 450), (70, 40), Ink((252, 246, 234), 0.8, 14, clip=clip))
    surface = ellipse((520, 463), (155, 32))
    inner = ImageChops.multiply(clip, sheet.mask(surface, 0.8))
    sheet.wash(inner, Ink((128, 54, 16)))
    sheet.oval((560, 476), (130, 22), Ink((206, 104, 30), 0.9, 12, clip=inner))
    sheet.oval((610, 480), (60, 9), Ink((250, 170, 70), 0.7, 7, clip=inner))
    for pane in ([(404, 456), (440, 450), (452, 464), (412, 468)], [(448, 449), (484, 446), (498, 462), (460, 464)]):
        sheet.fill(pane, Ink((255, 240, 208), 0.72, 2, clip=inner))
    sheet.line([*surface, surface[0]], 1.6, Ink((240, 170, 90), 0.5, 0.8, clip=clip))
    sheet.line([*rim, rim[0]], 3, Ink((250, 246, 238), 1, 0.6))
    sheet.line([*rim, rim[0]], 1.3, Ink((196, 154, 84), 0.85, 0.5))


def _spoon(sheet: Sheet) -> None:
    handle: Points = [(322, 668), (240, 684), (150, 706), (84, 726)]
    sheet.line([(x + 8, y + 9) for x, y in handle], [7, 8, 9, 15], Ink((20, 10, 6), 0.55, 5))
    sheet.line(handle, [6, 6, 8, 14], Ink((150, 146, 142), 1, 0.7))
    sheet.line([(x, y - 1.6) for x, y in handle], [1.4, 2, 2.4, 4], Ink((255, 250, 236), 0.95, 0.8))
    sheet.line([(x, y + 2.4) for x, y in handle], [1, 1.4, 1.6, 3], Ink((76, 64, 58), 0.7, 0.9))
    sheet.oval((356, 662), (42, 15), Ink((128, 122, 118), 1, 0.7), angle=-9)
    sheet.oval((354, 660), (33, 9), Ink((206, 200, 190), 0.9, 3), angle=-9)
    sheet.oval((344, 658), (13, 3), Ink((255, 252, 244), 0.9, 1.6), angle=-9)


def _steam(sheet: Sheet) -> None:
    """Let steam curl up from the tea: soft ribbons, torn by noise, brighter where the light is."""
    veil = Sheet(SIZE, scale=sheet.scale)
    rng = dice("steam")
    for k in range(46):
        x0, sway, phase, top = rng.gauss(520, 62), rng.uniform(10, 40), rng.uniform(0, 6.3), rng.uniform(40, 300)
        path: Points = []
        for j in range(12):
            t = j / 11
            path.append(
                (x0 + (t * 22 + sway * t * math.sin(t * 6.2 + phase)) + 10 * math.sin(t * 13 + k), lerp(464, top, t))
            )
        wide = rng.uniform(8, 30)
        veil.line(
            path,
            [2, wide * 0.6, wide, wide * 1.5, wide * 0.4],
            Ink((255, 255, 255), rng.uniform(0.05, 0.14), rng.uniform(3, 9), "screen"),
        )
        if k % 2:
            veil.line(path, [0.5, 2.4, 3, 2, 0.3], Ink((255, 255, 255), 0.16, 1.8, "screen"))
    torn = stretch(noise(sheet.big, "steam/torn", 150, octaves=4, stretch=(0.7, 1.7)), 60, 190)
    mask = ImageChops.multiply(veil.image.convert("L"), torn)
    mask = ImageChops.multiply(mask, fade(sheet.big, [(0, 0), (0.1, 90), (0.34, 220), (0.58, 255), (0.64, 0), (1, 0)]))
    sheet.wash(mask.filter(ImageFilter.GaussianBlur(2 * sheet.scale)), Ink((255, 246, 226), 1, mode="screen"))
