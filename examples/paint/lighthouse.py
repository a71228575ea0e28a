"""A lighthouse at dusk: the last light over the sea, the first beam of the lamp."""

from __future__ import annotations

from itertools import pairwise

from PIL import Image

from paint.curves import Points, dice, lerp, ridge, trace
from paint.oil import Brush, oil
from paint.sheet import Colour, Ink, Sheet, Stops, bloom, fade, gradient, grain, noise, stretch, vignette, vivid

SIZE = (1280, 720)
HORIZON = 430
SKY: Stops = [
    (0.0, (26, 34, 74)),
    (0.2, (56, 58, 112)),
    (0.38, (128, 88, 134)),
    (0.5, (222, 124, 112)),
    (0.57, (250, 178, 112)),
    (0.6, (255, 214, 150)),
    (1.0, (255, 214, 150)),
]
SEA: Stops = [
    (0.0, (40, 46, 84)),
    (0.597, (226, 158, 128)),
    (0.63, (150, 110, 126)),
    (0.72, (78, 78, 118)),
    (0.86, (34, 50, 88)),
    (1.0, (14, 26, 54)),
]
ROCK: Colour = (38, 30, 44)


def lighthouse() -> Image.Image:
    """Paint the scene."""
    sheet = Sheet(SIZE)
    sheet.paste(gradient(sheet.big, SKY))
    _clouds(sheet)
    sheet.oval((372, 424), (300, 120), Ink((255, 190, 110), 0.45, 60, "screen"))
    sheet.oval((372, 418), (27, 27), Ink((255, 244, 206), 1, 1.5))
    _isles(sheet)
    _sea(sheet)
    _headland(sheet)
    _tower(sheet)
    painted = oil(sheet.image, "lighthouse", [Brush(7, 34, 6, 6), Brush(3, 14, 4, 6)], keep=_spared(sheet), relief=0.2)
    sheet.paste(bloom(painted, 26, threshold=205, strength=0.5))
    _beam(sheet)
    _gulls(sheet)
    sheet.paste(vivid(vignette(sheet.image, 0.26), 1.12, 1.05))
    return grain(sheet.done(), "lighthouse/grain", 0.05)


def _spared(sheet: Sheet) -> Image.Image:
    mask = Sheet(sheet.size, scale=sheet.scale, colour=(110, 110, 110))
    mask.fill([(950, 140), (1060, 140), (1060, 470), (950, 470)], Ink((240, 240, 240), 1, 14))
    return mask.image.convert("L")


def _clouds(sheet: Sheet) -> None:
    """Hang long clouds, dark above and lit from below."""
    shape = stretch(noise(sheet.big, "dusk/clouds", 300, octaves=5, stretch=(3.4, 0.8)), 132, 196)
    zone = fade(sheet.big, [(0, 0), (0.02, 0), (0.1, 150), (0.2, 210), (0.46, 200), (0.58, 20), (0.6, 0), (1, 0)])
    body = Image.composite(shape, Image.new("L", sheet.big), zone)
    lift = body.transform(body.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -9))
    sheet.wash(lift, Ink((255, 170, 122), 0.7))
    sheet.wash(body, Ink((74, 60, 104), 0.72))


def _isles(sheet: Sheet) -> None:
    rng = dice("isles")
    for x1, x2, rough, tone in (
        (-30, 210, 14, (150, 104, 128)),
        (560, 900, 22, (138, 96, 124)),
        (760, 1300, 34, (108, 80, 112)),
    ):
        crest = ridge((x1, HORIZON), (x2, HORIZON), rng, rough)
        sheet.fill(
            [*[(x, min(y, HORIZON) - 3) for x, y in crest], (x2, HORIZON + 2), (x1, HORIZON + 2)], Ink(tone, 0.9, 1)
        )


def _sea(sheet: Sheet) -> None:
    """Paint the water: the sky's colours upside down, broken into waves that grow as they come near."""
    band = sheet.mask([(0, HORIZON), (1280, HORIZON), (1280, 720), (0, 720)], 0.7)
    sheet.paste(gradient(sheet.big, SEA), band)
    rng = dice("waves")
    for k in range(1700):
        near = (k / 1700) ** 1.5
        y, x = lerp(HORIZON + 2, 726, near), rng.uniform(-60, 1340)
        half, high = lerp(9, 88, near) * rng.uniform(0.5, 1.4), lerp(0.6, 6.5, near) * rng.uniform(0.5, 1.2)
        sag = rng.uniform(-1, 1) * lerp(0.4, 6, near)
        path: Points = [(x - half, y), (x, y + sag), (x + half, y + rng.uniform(-1, 1))]
        lit = rng.random() < lerp(0.5, 0.26, near)
        tone: Colour = (255, 184, 140) if lit else (22, 32, 70)
        sheet.line(path, [0.3, high, 0.3], Ink(tone, rng.uniform(0.12, 0.34), 0.5 + near))
    _glitter(sheet)


def _glitter(sheet: Sheet) -> None:
    """Strew the sun's road over the water."""
    rng = dice("glitter")
    for k in range(520):
        near = (k / 520) ** 1.4
        y = lerp(HORIZON + 1, 716, near)
        x = 372 + rng.gauss(0, lerp(16, 92, near))
        half = lerp(7, 30, near) * rng.uniform(0.3, 1)
        path: Points = [(x - half, y), (x, y + rng.uniform(-1.5, 1.5) * near), (x + half, y)]
        sheet.line(path, [0.3, lerp(1.2, 4.5, near), 0.3], Ink((255, 226, 170), rng.uniform(0.25, 0.85), 0.6))


def _headland(sheet: Sheet) -> None:
    """Build the rocks, their faces to the sun, and the foam at their feet."""
    rng = dice("rocks")
    peaks: Points = trace("640,604 720,560 800,520 880,470 940,448 1080,444 1150,480 1290,500")
    crest: Points = []
    for a, b in pairwise(peaks):
        crest += ridge(a, b, rng, 14)
    foot: Points = [(1290, 640), (1180, 640), (1080, 648), (940, 628), (820, 640), (720, 616), (640, 612)]
    body = [*crest, *foot]
    sheet.fill([(x - 30, y + 40) for x, y in body], Ink((18, 22, 48), 0.5, 18))
    sheet.fill(body, Ink(ROCK, 1, 0.8))
    clip = sheet.mask(body, 0.8)
    for _ in range(420):
        x, y = rng.uniform(640, 1290), rng.uniform(448, 640)
        w, h = rng.uniform(8, 34), rng.uniform(8, 40)
        face: Points = [(x, y), (x + w * 0.5, y - h * 0.3), (x + w, y + h * 0.4), (x + w * 0.3, y + h)]
        sunny = rng.random() < lerp(0.5, 0.14, (x - 640) / 650)
        tone: Colour = (224, 134, 104) if sunny else rng.choice(((18, 16, 30), (58, 46, 62), (26, 22, 36)))
        sheet.fill(face, Ink(tone, 0.26 if sunny else 0.42, 1, clip=clip))
    for x, y in crest[::2]:
        tuft: Colour = rng.choice(((70, 74, 54), (96, 88, 58), (48, 54, 44)))
        sheet.oval((x, y + rng.uniform(0, 6)), (rng.uniform(6, 16), rng.uniform(2, 5)), Ink(tuft, 0.6, 1.4))
    _foam(sheet, foot)


def _foam(sheet: Sheet, foot: Points) -> None:
    rng = dice("foam")
    for (ax, ay), (bx, by) in pairwise(foot):
        for _ in range(46):
            t = rng.random()
            x, y = lerp(ax, bx, t) + rng.gauss(0, 8), lerp(ay, by, t) + abs(rng.gauss(0, 7)) - 3
            radius = rng.uniform(1, 6)
            sheet.oval((x, y), (radius * 2.4, radius * 0.7), Ink((238, 214, 214), rng.uniform(0.15, 0.5), 1.2))
    for _ in range(130):
        x, y = 690 + rng.gauss(0, 26), 606 - abs(rng.gauss(0, 20))
        sheet.oval((x, y), (rng.uniform(1, 3.4), rng.uniform(1, 3)), Ink((252, 226, 214), rng.uniform(0.2, 0.6), 1))


def _tower(sheet: Sheet) -> None:
    """Raise the tower: white and red, lit from the left, with a keeper's house beside it."""
    house: Points = [(1046, 402), (1128, 402), (1128, 456), (1046, 456)]
    sheet.fill(house, Ink((168, 140, 150), 1, 0.6))
    sheet.fill([(1086, 402), (1128, 402), (1128, 456), (1086, 456)], Ink((70, 60, 88), 0.5, 6))
    sheet.fill([(1036, 404), (1056, 374), (1118, 374), (1138, 404)], Ink((112, 44, 44), 1, 0.6))
    sheet.fill([(1108, 380), (1118, 380), (1118, 360), (1108, 360)], Ink((70, 40, 46), 1, 0.5))
    for x in (1062, 1098):
        sheet.fill([(x, 418), (x + 13, 418), (x + 13, 436), (x, 436)], Ink((255, 214, 122), 1, 0.7))
        sheet.oval((x + 6, 427), (22, 22), Ink((255, 180, 80), 0.35, 9, "screen"))
    body: Points = [(984, 214), (1026, 214), (1044, 456), (966, 456)]
    sheet.fill(body, Ink((236, 214, 204), 1, 0.6))
    clip = sheet.mask(body, 0.6)
    for top, bottom in ((250, 298), (346, 394)):
        sheet.fill([(940, top), (1060, top), (1060, bottom), (940, bottom)], Ink((176, 52, 50), 1, 0.5, clip=clip))
    sheet.fill([(1008, 200), (1060, 200), (1060, 460), (1018, 460)], Ink((34, 28, 62), 0.6, 10, clip=clip))
    sheet.fill([(960, 200), (988, 200), (976, 460), (950, 460)], Ink((255, 196, 140), 0.55, 7, clip=clip))
    for y in (314, 412):
        sheet.oval((1002, y), (5, 8), Ink((52, 40, 60), 1, 0.6))
    _lantern(sheet)


def _lantern(sheet: Sheet) -> None:
    sheet.fill([(974, 206), (1036, 206), (1032, 216), (978, 216)], Ink((54, 40, 54), 1, 0.6))
    sheet.fill([(988, 172), (1022, 172), (1022, 206), (988, 206)], Ink((255, 232, 160), 1, 0.6))
    for x in (988, 999, 1011, 1022):
        sheet.line([(x, 172), (x, 206)], 2, Ink((50, 36, 48), 1, 0.4))
    sheet.line([(974, 196), (1036, 196)], 1.6, Ink((50, 36, 48), 1, 0.4))
    for x in range(976, 1038, 6):
        sheet.line([(x, 196), (x, 207)], 1, Ink((50, 36, 48), 1, 0.4))
    sheet.fill([(984, 173), (994, 158), (1005, 150), (1016, 158), (1026, 173)], Ink((130, 40, 42), 1, 0.6))
    sheet.line([(1005, 152), (1005, 138)], 1.6, Ink((60, 30, 40), 1, 0.4))


def _beam(sheet: Sheet) -> None:
    """Send the beam out over the sea."""
    for spread, alpha, blur in ((62, 0.12, 18), (34, 0.14, 9), (14, 0.16, 4)):
        far: Points = [(1004, 189), (-40, 96 - spread), (-40, 96 + spread)]
        sheet.fill(far, Ink((255, 226, 160), alpha, blur, "screen"))
        back: Points = [(1004, 189), (1320, 214 - spread * 0.4), (1320, 214 + spread * 0.4)]
        sheet.fill(back, Ink((255, 226, 160), alpha, blur, "screen"))
    for radius, alpha in ((90, 0.3), (40, 0.5), (16, 0.95)):
        sheet.oval((1005, 189), (radius, radius), Ink((255, 228, 160), alpha, radius * 0.4, "screen"))


def _gulls(sheet: Sheet) -> None:
    rng = dice("gulls")
    for x, y, size in ((560, 250, 15), (604, 226, 11), (640, 268, 9), (500, 290, 8), (696, 240, 7)):
        lift = rng.uniform(0.3, 0.6) * size
        wings: Points = [
            (x - size, y - lift * 0.5),
            (x - size * 0.5, y - lift),
            (x, y),
            (x + size * 0.5, y - lift),
            (x + size, y - lift * 0.4),
        ]
        sheet.line(wings, [0.5, 2.4, 1.8, 2.4, 0.5], Ink((44, 34, 62), 0.9, 0.5))
