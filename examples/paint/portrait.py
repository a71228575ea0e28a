"""The portrait: a lady in Renaissance manner before a hazy land, with or without glasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from paint.dress import cuffs, dress, sleeves, wall
from paint.face import glasses, head
from paint.hair import hair_behind, hair_front, veil
from paint.hands import hands
from paint.landscape import landscape
from paint.oil import Brush, craquelure, oil, varnish
from paint.sheet import Ink, Sheet, grain, vignette

if TYPE_CHECKING:
    from paint.sheet import Size

SIZE: Size = (832, 1216)
BRUSHES = [Brush(11, 44, 8, 8), Brush(6, 26, 5, 8), Brush(3, 14, 4, 7)]


def portrait(*, with_glasses: bool = False) -> Image.Image:
    """Paint the portrait."""
    sheet = Sheet(SIZE)
    landscape(sheet)
    wall(sheet)
    hair_behind(sheet)
    head(sheet)
    dress(sheet)
    hair_front(sheet)
    veil(sheet)
    sleeves(sheet)
    hands(sheet)
    cuffs(sheet)
    if with_glasses:
        glasses(sheet)
    rough = oil(sheet.image, "portrait/rough", BRUSHES, keep=_spared(sheet), relief=0.3)
    fine = oil(rough, "portrait/fine", [Brush(3, 12, 3.5, 5)], relief=0.16)
    sheet.paste(Image.blend(rough, fine, 0.6))
    cracked = craquelure(sheet.image, "portrait/cracks", cell=58, strength=0.4)
    cracked = Image.blend(cracked, Image.composite(sheet.image, cracked, _spared(sheet)), 0.6)
    old = vignette(varnish(cracked, "portrait/varnish"), 0.24)
    sheet.paste(old.point([round(255 * (v / 255) ** 0.9) for v in range(256)] * 3))
    return grain(sheet.done(), "portrait/grain", 0.05)


def _spared(sheet: Sheet) -> Image.Image:
    """Tell where the broad brush must not go: the face most of all, hands and chest a little less."""
    mask = Sheet(sheet.size, scale=sheet.scale, colour=(70, 70, 70))
    mask.fill([(0, 480), (832, 480), (832, 1216), (0, 1216)], Ink((120, 120, 120), 1, 30))
    mask.oval((418, 380), (170, 250), Ink((150, 150, 150), 1, 30))
    mask.oval((418, 340), (112, 150), Ink((244, 244, 244), 1, 14))
    mask.oval((418, 580), (150, 110), Ink((200, 200, 200), 0.8, 26))
    mask.oval((430, 1066), (180, 84), Ink((225, 225, 225), 1, 16))
    return mask.image.convert("L")
