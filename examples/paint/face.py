"""The face of the portrait: the modelling of the flesh, then eyes, mouth and brows, and the glasses if she has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ImageFilter

from paint.curves import Point, Points, dice, ellipse, lerp, loop, spline, trace
from paint.relief import FLESH, Ball, Box, Field, Swell, darken, place, tint
from paint.sheet import Ink, Sheet

if TYPE_CHECKING:
    from PIL import Image

BOX: Box = (240, 160, 620, 740)
FACE = loop(
    *trace(
        "334,262 345,222 380,194 425,186 478,202 508,250 516,310 510,365 492,412 464,446 432,472 405,481 "
        "382,475 359,451 338,414 326,378 323,350 327,322 328,292"
    )
)
NECK = loop(
    *trace(
        "372,440 374,500 366,545 330,580 270,610 262,690 420,730 580,690 576,610 512,580 492,540 490,490 "
        "498,420 440,400"
    )
)
BROWN = (52, 28, 18)


def flesh(sheet: Sheet) -> Image.Image:
    """Paint face, neck and chest; give back the mask of the skin."""
    field = Field(BOX)
    _head(field)
    _features(field)
    face, neck = sheet.mask(FACE, 1.2), sheet.mask(NECK, 1.5)
    under = _below(sheet)
    shade = place(under, BOX, sheet.big, sheet.scale)
    sheet.paste(tint(shade, FLESH), neck)
    shade = place(field.light(wrap=0.42, soft=2.2), BOX, sheet.big, sheet.scale)
    sheet.paste(tint(shade, FLESH), face)
    return face


def _below(sheet: Sheet) -> Image.Image:
    """Model neck and chest, with the shadow of the chin on them."""
    field = Field(BOX)
    field.add(Ball(420, 770, -60, 330, 420, 80))
    field.swell(
        Swell(432, 470, 42, 78, 86),
        Swell(424, 606, 15, 12, -7),
        Swell(372, 606, 46, 5, 3.5, 10),
        Swell(486, 604, 52, 5, 3.5, -10),
        Swell(400, 545, 9, 50, -4, -10),
        Swell(462, 540, 9, 60, 5, 14),
        Swell(365, 700, 46, 36, 9),
        Swell(486, 700, 46, 36, 9),
        Swell(424, 560, 10, 20, -2),
    )
    shadow = sheet.mask(loop((372, 440), (388, 496), (430, 522), (486, 560), (540, 520), (530, 420), (440, 380)), 12)
    small = shadow.resize(sheet.size).crop(BOX)
    return darken(field.light(wrap=0.42, soft=2.5), small, 0.55)


def _head(field: Field) -> None:
    """Put the great masses together: skull, jaw, cheeks, chin."""
    field.add(Ball(420, 300, 0, 118, 158, 106))
    field.add(Ball(412, 380, 6, 104, 112, 92), melt=60)
    field.swell(
        Swell(352, 368, 20, 22, 7),
        Swell(462, 370, 26, 24, 8),
        Swell(401, 459, 21, 15, 13),
        Swell(400, 420, 46, 30, 6),
        Swell(350, 418, 16, 24, -4, 20),
        Swell(462, 424, 20, 24, -3, -20),
        Swell(404, 240, 54, 34, 5),
    )


def _features(field: Field) -> None:
    """Raise nose and lips, sink the sockets."""
    field.swell(
        Swell(357, 320, 20, 12, -13),
        Swell(447, 320, 25, 13, -14),
        Swell(381, 316, 7, 12, -5),
        Swell(417, 316, 8, 12, -5),
        Swell(355, 299, 26, 7, 4, -4),
        Swell(446, 298, 30, 7, 4, 4),
        Swell(357, 320, 15, 9, 9),
        Swell(447, 320, 18, 9, 10),
    )
    steps = [k / 7 for k in range(8)]
    field.swell(*(Swell(lerp(399, 391, t), lerp(306, 366, t), lerp(8, 9, t), 9, lerp(2.2, 7.2, t)) for t in steps))
    field.swell(
        Swell(389, 376, 11, 9, 14),
        Swell(388, 379, 7, 6, 4),
        Swell(374, 383, 5.5, 5, 6),
        Swell(407, 383, 6.5, 5.5, 8),
        Swell(393, 400, 4, 6, -2),
        Swell(384, 400, 3, 6, 1),
        Swell(402, 400, 3, 6, 1),
        Swell(397, 418, 34, 2.2, -3),
        Swell(394, 411, 20, 4, 3),
        Swell(397, 426, 20, 4.5, 5),
        Swell(398, 442, 18, 5, -5),
        Swell(359, 414, 5, 7, -2.5),
        Swell(440, 413, 6, 8, -3.5),
        Swell(364, 396, 4, 13, -1.6, 24),
        Swell(424, 396, 5, 14, -2.2, -26),
    )


def colour(sheet: Sheet, skin: Image.Image) -> None:
    """Lay warmth on the cheeks and cool shade in the turning places."""
    for at, radii, tone, alpha in (
        ((350, 374), (24, 20), (206, 92, 62), 0.30),
        ((462, 374), (32, 24), (190, 78, 52), 0.30),
        ((388, 380), (14, 10), (206, 96, 66), 0.24),
        ((400, 463), (20, 11), (206, 100, 70), 0.18),
        ((398, 235), (40, 26), (255, 236, 200), 0.22),
        ((357, 306), (22, 8), (120, 66, 50), 0.25),
        ((447, 305), (26, 8), (112, 60, 46), 0.28),
    ):
        sheet.oval(at, radii, Ink(tone, alpha, 10, clip=skin))


def eyes(sheet: Sheet) -> None:
    """Paint both eyes; she looks at the viewer."""
    _eye(
        sheet,
        [(337, 323), (343, 316.5), (353, 312.2), (364, 313.4), (373, 318.8), (380, 326)],
        [(380, 326), (371, 328.5), (360, 330), (348, 328.5), (337, 323)],
        (358, 319.5),
    )
    _eye(
        sheet,
        [(422, 326), (429, 318.8), (440, 312.6), (452, 312.0), (464, 316.2), (475, 323)],
        [(474, 323), (463, 328.5), (450, 330.5), (436, 329), (422, 326)],
        (446.5, 319.5),
    )


def _eye(sheet: Sheet, upper: Points, lower: Points, iris: Point) -> None:
    lid, rim = spline(upper), spline(lower)
    clip = sheet.mask(lid + rim, 0.5)
    x, y = iris
    sheet.wash(clip, Ink((214, 190, 156)))
    sheet.fill(ellipse((x, y + 3), (24, 10)), Ink((240, 226, 200), 0.5, 4, clip=clip))
    for end in (upper[0], upper[-1]):
        sheet.oval(end, (9, 8), Ink((150, 88, 66), 0.55, 4, clip=clip))
    sheet.oval(iris, (9.8, 9.8), Ink((46, 26, 16), 0.95, 0.7, clip=clip))
    sheet.oval((x + 0.5, y + 1), (8.2, 8.2), Ink((104, 62, 30), 1, 1.2, clip=clip))
    sheet.oval((x + 1.5, y + 4), (5.5, 3.6), Ink((168, 108, 54), 0.75, 1.8, clip=clip))
    sheet.oval(iris, (4.5, 4.5), Ink((14, 8, 6), 1, 0.6, clip=clip))
    sheet.line([(px, py + 3.2) for px, py in upper], [4, 7, 6, 4], Ink((50, 26, 16), 0.55, 2.2, clip=clip))
    sheet.oval((x - 3.4, y - 3.6), (1.9, 1.7), Ink((255, 248, 232), 0.95, 0.5))
    sheet.line(upper, [1.4, 2.6, 3.0, 2.6, 1.6], Ink((40, 20, 12), 0.9, 0.7))
    sheet.line(lower, [1.0, 1.2, 1.0], Ink((112, 58, 40), 0.65, 0.8))
    sheet.line([(px, py + 2.2) for px, py in lower], [1.2, 2, 1.2], Ink((246, 208, 166), 0.45, 1.0))
    sheet.line([(px, py + 8) for px, py in lower], [1, 4, 1], Ink((128, 70, 48), 0.30, 2.4))
    _crease(sheet, upper)


def _crease(sheet: Sheet, upper: Points) -> None:
    """Draw the fold of the upper lid, and the light on the lid below it."""
    middle = (upper[0][0] + upper[-1][0]) / 2
    fold = [(lerp(middle, px, 0.98), py - 6.2 + 0.05 * abs(px - middle)) for px, py in upper]
    sheet.line(fold, [0.8, 1.8, 2.2, 1.8, 0.8], Ink((92, 48, 32), 0.65, 1.0))
    sheet.line([(px, py - 3) for px, py in upper[1:-1]], [1, 2.6, 1], Ink((246, 208, 164), 0.4, 1.2))


def brows(sheet: Sheet) -> None:
    """Paint thin brows, hair by hair."""
    rng = dice("brows")
    for path, lean in (
        ([(332, 305), (341, 298), (353, 294.5), (366, 296), (378, 301)], -1),
        ([(421, 300), (434, 294.5), (449, 292), (465, 296), (480, 306)], 1),
    ):
        curve = spline(path)
        sheet.line(path, [1.5, 4, 4.5, 4, 2], Ink((74, 42, 26), 0.5, 1.8))
        for x, y in curve[2:-1]:
            for _ in range(2):
                dx, dy = rng.uniform(2, 5) * lean, rng.uniform(-2.2, 0.4)
                oy = rng.uniform(-1.2, 1.4)
                sheet.line([(x, y + oy), (x + dx, y + oy + dy)], [1.0, 0.3], Ink((58, 32, 20), 0.26, 0.6))


def mouth(sheet: Sheet) -> None:
    """Paint the lips with the beginning of a smile."""
    line = [(361, 414.5), (370, 417.2), (382, 418), (394, 419.6), (407, 418.2), (424, 417.6), (438, 413.5)]
    top = trace("438,413.5 421,411.5 409,408 401.5,406.6 394.5,408.4 387.5,406.6 377,409 361,414.5")
    low = [(438, 413.5), (424, 424), (410, 430.6), (396, 432.4), (382, 430), (371, 423.6), (361, 414.5)]
    upper, lower = spline(line) + spline(top), spline(line) + spline(low)
    sheet.fill(upper, Ink((164, 70, 56), 0.72, 1.3))
    sheet.fill(lower, Ink((196, 94, 76), 0.66, 1.5))
    clip = sheet.mask(lower, 1)
    sheet.oval((390, 425), (15, 3.2), Ink((250, 190, 164), 0.55, 2.2, clip=clip))
    sheet.oval((384, 424.4), (5, 1.3), Ink((255, 226, 206), 0.5, 1.2, clip=clip))
    sheet.line(line, [1.2, 2, 2.2, 2.6, 2.2, 2, 1.2], Ink((78, 24, 20), 0.85, 0.8))
    for x, y in ((360, 414), (439.5, 413)):
        sheet.oval((x, y), (3.4, 2.6), Ink((86, 36, 26), 0.5, 1.8))
    sheet.line([(378, 435), (397, 438), (418, 435)], [1, 5, 1], Ink((120, 62, 42), 0.34, 3))


def nose(sheet: Sheet) -> None:
    """Sharpen what the modelling leaves soft: nostrils, wing, the shade under the tip."""
    sheet.line([(379, 388.5), (384, 387), (387.5, 389)], [2, 4, 2], Ink((62, 26, 18), 0.75, 1.1))
    sheet.line([(395, 389.5), (400, 387.2), (406, 389)], [2, 4.2, 2], Ink((54, 22, 16), 0.8, 1.1))
    sheet.line([(409, 374), (416, 379), (416.5, 386), (410, 390)], [1, 2, 2, 1], Ink((96, 46, 30), 0.5, 1.4))
    sheet.line([(370, 377), (366.5, 383), (370, 388.5)], [0.8, 1.6, 1], Ink((120, 62, 42), 0.5, 1.1))
    sheet.line([(378, 391), (390, 394), (404, 391)], [2, 5, 2], Ink((112, 58, 40), 0.4, 2.4))
    sheet.line([(396, 326), (392, 348), (387, 368)], [2.5, 3.5, 4.5], Ink((255, 236, 204), 0.36, 2.2))
    sheet.oval((384.5, 375), (4, 3.4), Ink((255, 244, 222), 0.6, 1.8))


def glasses(sheet: Sheet) -> None:
    """Put round glasses on her: gold wire, clear lenses, their shadow on the cheeks."""
    left, right = ((354, 323), (33, 35)), ((450, 323), (38, 37))
    for (x, y), radii in (left, right):
        ring = ellipse((x + 4, y + 6), radii)
        sheet.line([*ring, ring[0]], 4, Ink((70, 34, 20), 0.35, 3))
    for (x, y), (rx, ry) in (left, right):
        ring = ellipse((x, y), (rx, ry))
        clip = sheet.mask(ring)
        sheet.oval((x, y), (rx, ry), Ink((214, 226, 222), 0.07))
        shine: Points = [
            (x - rx * 0.75, y + ry * 0.25),
            (x - rx * 0.1, y - ry * 0.9),
            (x + rx * 0.2, y - ry * 0.85),
            (x - rx * 0.6, y + ry * 0.6),
        ]
        sheet.fill(shine, Ink((255, 250, 235), 0.16, 2.5, clip=clip))
        sheet.line([*ring, ring[0], ring[1]], 4.2, Ink((58, 36, 16), 1, 0.5))
        sheet.line([*ring, ring[0], ring[1]], 2.4, Ink((176, 128, 54), 1, 0.4))
        sheet.line(ring[28:48], [0.5, 2, 0.5], Ink((255, 236, 172), 0.9, 0.5))
    _bridge(sheet)


def _bridge(sheet: Sheet) -> None:
    bridge: Points = [(386, 317), (393, 309), (403, 309), (412, 318)]
    temple: Points = [(487, 315), (500, 310.5), (510, 308)]
    sheet.line([(x + 2, y + 5) for x, y in bridge], 3, Ink((80, 40, 24), 0.4, 2))
    sheet.line([(x, y + 6) for x, y in temple], 3.5, Ink((40, 20, 12), 0.4, 2.5))
    for path in (bridge, temple):
        sheet.line(path, 4.4, Ink((58, 36, 16), 1, 0.5))
        sheet.line(path, 2.4, Ink((190, 142, 62), 1, 0.4))


def head(sheet: Sheet) -> None:
    """Paint the whole head and chest, hair and glasses aside."""
    skin = flesh(sheet)
    colour(sheet, skin)
    nose(sheet)
    mouth(sheet)
    eyes(sheet)
    brows(sheet)
    sheet.paste(sheet.image.filter(ImageFilter.GaussianBlur(sheet.scale * 0.4)))
