"""Folded hands: bones with flesh on them, lit as the face is."""

from __future__ import annotations

from PIL import Image, ImageFilter

from paint.curves import Point, Points, lerp
from paint.relief import FLESH, Ball, Box, Field, Limb, Swell, place, tint
from paint.sheet import Ink, Sheet, stretch

BOX: Box = (250, 950, 630, 1180)


def hands(sheet: Sheet) -> None:
    """Paint the hand below, then the hand that rests on it."""
    _lay(sheet, _under())
    _lay(sheet, _over())
    _nails(sheet)


def _lay(sheet: Sheet, field: Field) -> None:
    """Shade a hand, with its shadow on what lies below."""
    mask = place(field.where(), BOX, sheet.big, sheet.scale)
    mask = stretch(mask.filter(ImageFilter.GaussianBlur(sheet.scale)), 70, 185)
    shadow = mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, -5 * sheet.scale, 0, 1, -9 * sheet.scale))
    sheet.wash(shadow.filter(ImageFilter.GaussianBlur(7 * sheet.scale)), Ink((14, 7, 4), 0.75))
    shade = place(field.light(wrap=0.42, soft=1.8), BOX, sheet.big, sheet.scale)
    sheet.paste(tint(shade, FLESH), mask)


def _finger(joints: list[tuple[float, float, float]], radii: list[float]) -> list[Limb]:
    out: list[Limb] = []
    for (a, ra), (b, rb) in zip(
        list(zip(joints, radii, strict=True)), list(zip(joints, radii, strict=True))[1:], strict=False
    ):
        out.append(Limb(*a, ra, *b, rb))
    return out


def _under() -> Field:
    """Build her left hand: it comes from the right and lies flat."""
    field = Field(BOX, fine=1.5)
    field.add(Limb(556, 1096, 0, 34, 536, 1094, 0, 34), melt=16)
    field.add(Ball(500, 1088, 0, 62, 42, 34), melt=24)
    for joints in (
        [(470, 1066, 8), (420, 1068, 12), (384, 1080, 6), (362, 1094, 0)],
        [(468, 1084, 8), (414, 1092, 12), (378, 1106, 6), (356, 1120, 0)],
        [(472, 1102, 6), (424, 1114, 9), (394, 1128, 4), (374, 1140, -2)],
        [(482, 1116, 0), (446, 1132, 3), (422, 1144, 0), (406, 1152, -4)],
    ):
        field.add(*_finger([(x, y, z) for x, y, z in joints], [15, 13.5, 12, 10]), melt=5)
    return field


def _over() -> Field:
    """Build her right hand: it comes from the left and rests on the other wrist."""
    field = Field(BOX, fine=1.5)
    field.add(Limb(322, 1040, 0, 33, 340, 1040, 2, 33), melt=16)
    field.add(Ball(378, 1038, 0, 68, 43, 36), melt=26)
    fingers: list[list[Point]] = [
        [(414, 1010), (470, 1012), (506, 1026), (532, 1042)],
        [(420, 1027), (480, 1034), (518, 1050), (544, 1068)],
        [(418, 1046), (474, 1058), (510, 1074), (534, 1090)],
        [(408, 1062), (452, 1080), (480, 1094), (500, 1106)],
    ]
    for k, joints in enumerate(fingers):
        heights = (12, 16 - k, 10, 3)
        radii = [16.0, 14.0, 12.4, 9.6] if k < 3 else [14.0, 12.0, 10.6, 8.4]
        field.add(*_finger([(x, y, z) for (x, y), z in zip(joints, heights, strict=True)], radii), melt=4)
    field.add(*_finger([(352, 1008, 10), (392, 990, 12), (430, 984, 6), (452, 988, 0)], [17, 14.5, 12.5, 9.5]), melt=7)
    for x, y in ((416, 1010), (422, 1028), (420, 1047), (410, 1063)):
        field.swell(Swell(x, y, 8, 7, 3))
        field.swell(Swell(x - 24, y - 1, 20, 3, 1.2, 4))
    return field


NAILS: list[tuple[Point, float]] = [((527, 1037), 36), ((539, 1062), 38), ((529, 1085), 36), ((495, 1101), 28)]


def _nails(sheet: Sheet) -> None:
    for (x, y), angle in NAILS:
        sheet.oval((x, y), (7, 4.6), Ink((150, 88, 64), 0.6, 0.8), angle=angle)
        sheet.oval((x - 0.6, y - 0.6), (5.8, 3.6), Ink((240, 190, 156), 0.75, 0.8), angle=angle)
        sheet.oval((x - 1.5, y - 1.4), (2.6, 1.2), Ink((255, 232, 208), 0.7, 0.6), angle=angle)
    creases: list[Points] = [
        [(466, 1002), (471, 1012), (468, 1022)],
        [(476, 1024), (481, 1034), (477, 1044)],
        [(470, 1048), (475, 1058), (470, 1068)],
    ]
    for path in creases:
        for shift in (-2.5, 2.5):
            line = [(x + shift, lerp(y, path[1][1], 0.25)) for x, y in path]
            sheet.line(line, [0.5, 1.6, 0.5], Ink((128, 70, 46), 0.4, 1.0))
