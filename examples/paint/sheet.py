"""The sheet that is painted on: soft shapes in logical pixels, drawn larger and reduced at the end.

Every shape is a mask, softened and thinned, through which one colour is laid on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from paint.curves import Line, Point, dice, ellipse, ribbon, spline

Colour: TypeAlias = tuple[int, int, int]
Size: TypeAlias = tuple[int, int]
Stops: TypeAlias = list[tuple[float, Colour]]


class Ink(NamedTuple):
    """What a shape is filled with, and how."""

    colour: Colour
    """Red, green and blue, 0 to 255."""
    alpha: float = 1.0
    """How much it covers, 0 to 1."""
    blur: float = 0.0
    """The softness of its edge, in logical pixels."""
    mode: str = "normal"
    """`normal` covers, `screen` adds light, `multiply` adds shade."""
    clip: Image.Image | None = None
    """Where it may show: a mask of the sheet's working size."""


class Sheet:
    """A picture in work: `scale` times as large as it will be."""

    def __init__(self, size: Size, *, scale: int = 2, colour: Colour = (0, 0, 0)) -> None:
        self.size = size
        self.scale = scale
        self.big: Size = (size[0] * scale, size[1] * scale)
        self.image = Image.new("RGB", self.big, colour)

    def fill(self, points: Line, ink: Ink) -> None:
        """Fill a polygon."""
        s, pad = self.scale, int(ink.blur * self.scale * 3) + 2
        xs, ys = [x * s for x, _ in points], [y * s for _, y in points]
        box = (
            max(int(min(xs)) - pad, 0),
            max(int(min(ys)) - pad, 0),
            min(int(max(xs)) + pad, self.big[0]),
            min(int(max(ys)) + pad, self.big[1]),
        )
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        mask = Image.new("L", (box[2] - box[0] + 2 * pad, box[3] - box[1] + 2 * pad), 0)
        dx, dy = box[0] - pad, box[1] - pad
        ImageDraw.Draw(mask).polygon([(x - dx, y - dy) for x, y in zip(xs, ys, strict=True)], fill=255)
        if ink.blur:
            mask = mask.filter(ImageFilter.GaussianBlur(ink.blur * s))
        self._lay(mask.crop((pad, pad, mask.width - pad, mask.height - pad)), (box[0], box[1]), ink)

    def line(self, points: Line, widths: float | Sequence[float], ink: Ink) -> None:
        """Draw a smooth line through the points; a list of widths makes it swell and taper."""
        spread = [widths, widths] if isinstance(widths, (int, float)) else widths
        self.fill(ribbon(spline(points), spread), ink)

    def oval(self, centre: Point, radii: Point, ink: Ink, *, angle: float = 0.0) -> None:
        """Fill an ellipse."""
        self.fill(ellipse(centre, radii, angle), ink)

    def wash(self, mask: Image.Image, ink: Ink) -> None:
        """Lay a colour over the whole sheet through a mask of the working size."""
        self._lay(mask, (0, 0), ink)

    def paste(self, image: Image.Image, mask: Image.Image | None = None) -> None:
        """Put another picture of the working size on top, through a mask."""
        self.image.paste(image, (0, 0), mask)

    def _lay(self, mask: Image.Image, at: tuple[int, int], ink: Ink) -> None:
        box = (at[0], at[1], at[0] + mask.width, at[1] + mask.height)
        if ink.clip is not None:
            mask = ImageChops.multiply(mask, ink.clip.crop(box))
        if ink.alpha < 1:
            mask = mask.point([int(v * ink.alpha + 0.5) for v in range(256)])
        flat = Image.new("RGB", mask.size, ink.colour)
        if ink.mode == "screen":
            flat = ImageChops.screen(self.image.crop(box), flat)
        elif ink.mode == "multiply":
            flat = ImageChops.multiply(self.image.crop(box), flat)
        self.image.paste(flat, at, mask)

    def mask(self, points: Line, blur: float = 0.0) -> Image.Image:
        """Make a mask of the working size from a polygon."""
        mask = Image.new("L", self.big, 0)
        ImageDraw.Draw(mask).polygon([(x * self.scale, y * self.scale) for x, y in points], fill=255)
        return mask.filter(ImageFilter.GaussianBlur(blur * self.scale)) if blur else mask

    def done(self) -> Image.Image:
        """Reduce the sheet to its true size."""
        return self.image.resize(self.size, Image.Resampling.LANCZOS)


def gradient(size: Size, stops: Stops) -> Image.Image:
    """Paint a vertical gradient through the stops (share of the height, colour)."""
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        column.putpixel((0, y), _at(stops, y / max(size[1] - 1, 1)))
    return column.resize(size, Image.Resampling.NEAREST)


def _at(stops: Stops, t: float) -> Colour:
    for (a, low), (b, high) in pairwise(stops):
        if t <= b:
            k = max(0.0, (t - a) / (b - a))
            red, green, blue = (round(x + (y - x) * k) for x, y in zip(low, high, strict=True))
            return red, green, blue
    return stops[-1][1]


def across(size: Size, stops: Stops) -> Image.Image:
    """Paint a gradient from the left to the right."""
    return (
        gradient((size[1], size[0]), stops)
        .transpose(Image.Transpose.ROTATE_90)
        .transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    )


def fade(size: Size, stops: list[tuple[float, int]]) -> Image.Image:
    """Make a mask that changes from the top to the bottom."""
    return gradient(size, [(t, (v, v, v)) for t, v in stops]).convert("L")


def noise(size: Size, name: str, cell: int, *, octaves: int = 1, stretch: Point = (1, 1)) -> Image.Image:
    """Make cloudy noise around 128: `cell` is the size of its largest blot in working pixels."""
    rng = dice(name)
    out = Image.new("L", size, 128)
    for octave in range(octaves):
        span = max(cell / 2**octave, 1)
        small = (math.ceil(size[0] / (span * stretch[0])) + 2, math.ceil(size[1] / (span * stretch[1])) + 2)
        layer = Image.frombytes("L", small, rng.randbytes(small[0] * small[1]))
        layer = layer.resize(size, Image.Resampling.BICUBIC)
        out = layer if octave == 0 else Image.blend(out, layer, 0.5 ** (octave + 0.4))
    return out


def stretch(mask: Image.Image, low: int, high: int) -> Image.Image:
    """Pull a mask's contrast apart: `low` and below becomes black, `high` and above white."""
    return mask.point([max(0, min(255, round((v - low) * 255 / (high - low)))) for v in range(256)])


def grain(image: Image.Image, name: str, strength: float) -> Image.Image:
    """Dither with fine noise, so that no gradient shows its steps."""
    rng = dice(name)
    size = image.size
    fine = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
    fine = Image.blend(fine, Image.frombytes("L", size, rng.randbytes(size[0] * size[1])), 0.5)
    fine = fine.point([round(128 + (v - 128) * strength) for v in range(256)])
    layer = Image.merge("RGB", (fine, fine, fine))
    return ImageChops.add(image, layer, 1, -128)


def vignette(image: Image.Image, strength: float) -> Image.Image:
    """Darken the corners a little."""
    ring = Image.radial_gradient("L").resize(image.size, Image.Resampling.BICUBIC)
    dark = ring.point([255 - round(strength * 255 * (v / 255) ** 2.2) for v in range(256)])
    return ImageChops.multiply(image, Image.merge("RGB", (dark, dark, dark)))


def vivid(image: Image.Image, colour: float, contrast: float = 1.0) -> Image.Image:
    """Strengthen the colours and the contrast."""
    return ImageEnhance.Contrast(ImageEnhance.Color(image).enhance(colour)).enhance(contrast)


def bloom(image: Image.Image, radius: float, *, threshold: int, strength: float) -> Image.Image:
    """Let the bright places shine over their edges."""
    bright = image.point([max(0, round((v - threshold) * 255 / (255 - threshold) * strength)) for v in range(256)] * 3)
    return ImageChops.screen(image, bright.filter(ImageFilter.GaussianBlur(radius)))
