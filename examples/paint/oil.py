"""Oil: brush strokes that follow the forms, cracks in the paint, old varnish.

A finished drawing goes in; the same picture comes out as if laid on by brush, layer by layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from paint.curves import Points, dice, ridge
from paint.sheet import noise, stretch

if TYPE_CHECKING:
    import random


class Brush(NamedTuple):
    """One pass over the canvas."""

    width: float
    """The width of a stroke in working pixels."""
    length: float
    """Its length in working pixels."""
    spacing: float
    """The distance of one stroke from the next."""
    vary: int = 8
    """How far a stroke's brightness strays from the colour below."""


class Grey(NamedTuple):
    """A softened grey copy of the picture, whose slopes lead the brush."""

    size: tuple[int, int]
    data: bytes

    def slope(self, x: int, y: int) -> tuple[float, float]:
        """Tell how the brightness changes at a place, to the right and downwards."""
        (w, h), step = self.size, 3
        left, right = max(x - step, 0), min(x + step, w - 1)
        up, down = max(y - step, 0), min(y + step, h - 1)
        return (
            self.data[y * w + right] - self.data[y * w + left],
            self.data[down * w + x] - self.data[up * w + x],
        )


def oil(
    image: Image.Image, name: str, brushes: list[Brush], *, keep: Image.Image | None = None, relief: float = 0.35
) -> Image.Image:
    """Repaint a picture by brush; `keep` is a mask of what should stay as it was drawn (white: all of it)."""
    grey = image.convert("L").filter(ImageFilter.GaussianBlur(5))
    lead = Grey(image.size, grey.tobytes())
    canvas, body = image.copy(), Image.new("L", image.size, 128)
    for number, brush in enumerate(brushes):
        _pass(canvas, body, lead, (brush, dice(f"{name}/{number}")))
    if keep is not None:
        canvas = Image.composite(image, canvas, keep)
        body = Image.composite(Image.new("L", image.size, 128), body, keep)
    return emboss(canvas, body, relief)


def _pass(canvas: Image.Image, body: Image.Image, lead: Grey, how: tuple[Brush, random.Random]) -> None:
    """Lay one pass of strokes over the canvas, in a shuffled order, colours taken from what is below."""
    brush, rng = how
    w, h = lead.size
    below = canvas.filter(ImageFilter.GaussianBlur(brush.width / 4)).tobytes()
    paint, thick = ImageDraw.Draw(canvas), ImageDraw.Draw(body)
    columns, rows = int(w / brush.spacing) + 1, int(h / brush.spacing) + 1
    order = list(range(columns * rows))
    rng.shuffle(order)
    for cell in order:
        x = min(max(int((cell % columns + rng.random()) * brush.spacing), 0), w - 1)
        y = min(max(int((cell // columns + rng.random()) * brush.spacing), 0), h - 1)
        at, stray = 3 * (y * w + x), rng.randint(-brush.vary, brush.vary)
        colour = (_byte(below[at] + stray), _byte(below[at + 1] + stray), _byte(below[at + 2] + stray))
        path = _stroke((x, y), lead.slope(x, y), brush, rng)
        width = max(1, round(brush.width * rng.uniform(0.6, 1.2)))
        paint.line(path, fill=colour, width=width, joint="curve")
        thick.line(path, fill=rng.randint(70, 190), width=width, joint="curve")


def _stroke(at: tuple[int, int], slope: tuple[float, float], brush: Brush, rng: random.Random) -> Points:
    """Bend a stroke along the form: across the slope of the brightness, or near the horizontal where there is none."""
    gx, gy = slope
    steep = math.hypot(gx, gy)
    angle = math.atan2(gx, -gy) if steep > 2 else rng.gauss(0, 0.5)
    angle += rng.gauss(0, 0.16)
    half = brush.length * rng.uniform(0.6, 1.2) / 2 * (0.55 if steep > 24 else 1)
    bend = rng.uniform(-0.25, 0.25)
    x, y = at
    return [
        (x - math.cos(angle - bend) * half, y - math.sin(angle - bend) * half),
        (x, y),
        (x + math.cos(angle + bend) * half, y + math.sin(angle + bend) * half),
    ]


def _byte(value: int) -> int:
    return min(max(value, 0), 255)


def emboss(image: Image.Image, body: Image.Image, strength: float) -> Image.Image:
    """Light the body of the paint from the upper left."""
    kernel = ImageFilter.Kernel((3, 3), [-2, -1, 0, -1, 0, 1, 0, 1, 2], scale=6 / max(strength, 0.01), offset=128)
    lit = body.filter(ImageFilter.GaussianBlur(0.8)).filter(kernel)
    ImageDraw.Draw(lit).rectangle((0, 0, lit.width - 1, lit.height - 1), outline=128, width=2)
    return ImageChops.add(image, Image.merge("RGB", (lit, lit, lit)), 1, -128)


def craquelure(image: Image.Image, name: str, *, cell: float = 46, strength: float = 0.35) -> Image.Image:
    """Let the paint crack as an old panel does: a fine net, stronger here and weaker there."""
    rng = dice(name)
    w, h = image.size
    net = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(net)
    columns, rows = int(w / cell) + 2, int(h / cell) + 2
    knots = {
        (i, j): ((i + rng.uniform(-0.5, 0.5)) * cell, (j + rng.uniform(-0.5, 0.5)) * cell)
        for j in range(rows)
        for i in range(columns)
    }
    for (i, j), knot in knots.items():
        for other in ((i + 1, j), (i, j + 1), (i + 1, j + 1)):
            if other in knots and rng.random() < (0.3 if other == (i + 1, j + 1) else 0.72):
                draw.line(ridge(knot, knots[other], rng, cell * 0.16), fill=rng.randint(90, 255), width=1)
    patches = stretch(noise(image.size, f"{name}/patches", 420, octaves=2), 96, 190)
    net = ImageChops.multiply(net, patches).point([round(v * strength) for v in range(256)])
    dark = Image.composite(Image.new("RGB", image.size, (44, 30, 18)), image, net)
    light = ImageChops.offset(net, 1, 1).point([v // 3 for v in range(256)])
    return Image.composite(Image.new("RGB", image.size, (226, 205, 160)), dark, light)


def varnish(image: Image.Image, name: str) -> Image.Image:
    """Lay the warm glaze of age over a picture, a little uneven."""
    glazed = ImageChops.multiply(image, Image.new("RGB", image.size, (255, 243, 214)))
    glow = ImageChops.add(glazed, Image.new("RGB", image.size, (9, 5, 0)))
    uneven = noise(image.size, name, 500, octaves=3).point([round(246 + (v - 128) * 0.1) for v in range(256)])
    return ImageChops.multiply(glow, Image.merge("RGB", (uneven, uneven, uneven)))
