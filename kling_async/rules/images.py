"""What an image is, by its first bytes, and whether the service would take it.

The service accepts a wrong image, and fails the job minutes later: finding it out here is free. Since the service
enforces its limits and may change them, nothing here may be the last word: every check yields issues, which the
caller may ignore (`--no-image-checks`), and where a limit can be read in two ways the lenient one holds.

Sizes are those of the stored pixels. A photograph may be stored on its side and say so (EXIF orientation). Whether
the service turns it first is not known; the limits on sides and aspect ratio are the same either way round, and a
mask may fit either way.

This room must never decode a picture or ask for all of its bytes: it reads headers.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from attrs import frozen

from kling_async.errors import Issue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SNIFF_BYTES: Final = 32
"""Bytes from the start of a file that are enough for `sniff`."""

LARGEST_FILE: Final = 10 * 1024 * 1024
"""Bytes: "10MB" in Kling's words, read the lenient way."""

SHORTEST_SIDE: Final = 300
"""Pixels."""

_TAKEN: Final = ("jpeg", "png")
_MAGIC: Final = {
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "bmp": re.compile(rb"BM.{8}..\0\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "tiff": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    "avif": re.compile(rb".{4}ftyp(?:avi[fs]|mif1.{4}(?:.{4}){0,3}avif)", re.DOTALL),
    "heic": re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
}


@frozen
class ImageFacts:
    """What the header of an image says."""

    format: str
    """`jpeg`, `png`, `gif`, `webp`, `bmp`, `tiff`, `heic` or `avif`."""

    mime: str
    """The media type, as a data URI names it."""

    width: int
    """Stored pixels, at least 1."""

    height: int
    """Stored pixels, at least 1."""

    orientation: int = 1
    """How EXIF says that a JPEG is to be turned, 1 to 8; from 5 on, width and height change places."""


class NeedMore(NamedTuple):
    """The header goes on behind the bytes that were given; a file that has no more is cut off."""

    at_least: int
    """Bytes from the file's start that are needed to go on: always more than were given. More save rounds."""


class Unreadable(NamedTuple):
    """No image that is known, or one whose header is damaged."""

    reason: str
    """In a user's words."""


Reading: TypeAlias = ImageFacts | NeedMore | Unreadable


@frozen
class _ShortError(Exception):
    """A field lies behind the bytes that were given."""

    at_least: int


def sniff(head: bytes) -> str | None:
    """Tell the media type by the first bytes of a file.

    Args:
        head: The first `SNIFF_BYTES` of the file, or all of it.

    Returns:
        Such as `image/png`; None where it begins like no image that is known.
    """
    return next((f"image/{name}" for name, magic in _MAGIC.items() if magic.match(head)), None)


def read_facts(head: bytes) -> Reading:
    """Read format and size from the beginning of an image.

    Args:
        head: The first bytes of the file; a kilobyte is enough for most.

    Returns:
        The facts; how many bytes are needed (photographs carry previews and profiles before their size); or why
        this cannot be read.
    """
    mime = sniff(head)
    if mime is None:
        short = len(head) < SNIFF_BYTES
        return NeedMore(SNIFF_BYTES) if short else Unreadable("it begins like no image that is known")
    name = mime.removeprefix("image/")
    try:
        width, height, *turned = _READERS[name](head)
    except _ShortError as short_of:
        return NeedMore(short_of.at_least)
    except ValueError as error:
        return Unreadable(f"its {name.upper()} header is damaged: {error}")
    if width < 1 or height < 1:
        return Unreadable(f"its {name.upper()} header says {width} x {height} pixels")
    return ImageFacts(name, mime, width, height, *turned)


def check_image(field: str, facts: ImageFacts, size_bytes: int) -> list[Issue]:
    """Check an input image against the service's limits.

    Args:
        field: The request's field, for the issues.
        facts: What `read_facts` said.
        size_bytes: The size of the image's file, not of its base64 text.

    Returns:
        Everything that the service would refuse; empty where it would take the image.
    """
    issues = check_tail(field, facts, size_bytes)
    long, short = max(facts.width, facts.height), min(facts.width, facts.height)
    if 2 * long > 5 * short:
        shape = f"{facts.width} x {facts.height} pixels, {long / short:.2f} times as long as it is short"
        issues.append(Issue(field, f"is {shape}; the service takes 2.5 times at most: crop it"))
    return issues


def check_tail(field: str, facts: ImageFacts, size_bytes: int) -> list[Issue]:
    """Check a tail image: as `check_image`, without the aspect ratio."""
    issues = _check_format(field, facts)
    if size_bytes > LARGEST_FILE:
        size = f"has {size_bytes:,} bytes; the service takes {LARGEST_FILE:,} (10 MB) at most"
        issues.append(Issue(field, f"{size}: make it smaller or save it as JPEG"))
    if min(facts.width, facts.height) < SHORTEST_SIDE:
        size = f"is {facts.width} x {facts.height} pixels; each side must have {SHORTEST_SIDE} at least"
        issues.append(Issue(field, f"{size}: take a larger picture"))
    return issues


def check_masks(image: ImageFacts, masks: Sequence[tuple[str, ImageFacts]]) -> list[Issue]:
    """Check that masks fit their image and each other.

    Args:
        image: The input image.
        masks: Field and facts of each mask, static or dynamic.

    Returns:
        Everything that the service would refuse. A mask may be scaled, rounded to whole pixels.
    """
    issues = []
    for field, mask in masks:
        issues += _check_format(field, mask)
        pixels = f"is {mask.width} x {mask.height} pixels"
        if not _fits(image, mask):
            wanted = f"the image is {image.width} x {image.height}"
            issues.append(Issue(field, f"{pixels} and {wanted}: give the mask the image's aspect ratio"))
        first_field, first = masks[0]
        if (mask.width, mask.height) != (first.width, first.height):
            wanted = f"{first_field} is {first.width} x {first.height}"
            issues.append(Issue(field, f"{pixels} and {wanted}: give all masks the same size"))
    return issues


def _check_format(field: str, facts: ImageFacts) -> list[Issue]:
    if facts.format in _TAKEN:
        return []
    return [Issue(field, f"is a {facts.format.upper()} image; the service takes JPEG and PNG: convert it")]


def _fits(image: ImageFacts, mask: ImageFacts) -> bool:
    """Compare aspect ratios, stored or turned, up to one pixel of rounding on each side of the mask."""
    ways = [(image.width, image.height), (image.height, image.width)][: 2 if image.orientation >= 5 else 1]
    return any(abs(mask.width * high - mask.height * wide) <= wide + high for wide, high in ways)


def _unpack(layout: str, head: bytes, at: int) -> tuple[int, ...]:
    if len(head) < at + struct.calcsize(layout):
        raise _ShortError(at + struct.calcsize(layout))
    return struct.unpack_from(layout, head, at)


def _read_bmp(head: bytes) -> tuple[int, ...]:
    width, height = _unpack("<HH" if head[14] == 12 else "<ii", head, 18)
    return width, abs(height)


def _read_webp(head: bytes) -> tuple[int, ...]:
    kind = bytes(_unpack("4B", head, 12))
    if kind == b"VP8X":
        wide, wider, high, higher = _unpack("<HBHB", head, 24)
        return wide + (wider << 16) + 1, high + (higher << 16) + 1
    if kind == b"VP8L":
        (bits,) = _unpack("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = _unpack("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("its first part is of an unknown kind")


def _read_jpeg(head: bytes) -> tuple[int, ...]:
    """Go from segment to segment up to the frame's header; what lies between may be megabytes."""
    at, orientation = 2, 1
    while True:
        mark, kind = _unpack(">BB", head, at)
        if mark != 0xFF or kind in {0x00, 0x01, *range(0xD0, 0xDB)}:
            raise ValueError(f"no segment begins at byte {at:,}")
        if kind == 0xFF:
            at += 1
            continue
        (length,) = _unpack(">H", head, at + 2)
        if 0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC}:
            height, width = _unpack(">HH", head, at + 5)
            return width, height, orientation
        if kind == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation_of(head[at + 10 : at + 2 + length])
        at += 2 + length


def _orientation_of(exif: bytes) -> int:
    """Read the orientation; 1 where it is missing or damaged."""
    try:
        value = _read_tags(exif).get(0x0112, 1)
    except (_ShortError, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def _read_tags(tiff: bytes) -> dict[int, int]:
    """Read the whole numbers in the first directory of TIFF data."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        raise ValueError("it is no classic TIFF")
    (at,) = _unpack(f"{order}I", tiff, 4)
    (count,) = _unpack(f"{order}H", tiff, at)
    _unpack(f"{12 * count}x", tiff, at + 2)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = _unpack(f"{order}HH", tiff, entry)
        if kind in {3, 4}:  # SHORT and LONG
            (tags[tag],) = _unpack(order + ("H" if kind == 3 else "I"), tiff, entry + 8)
    return tags


def _read_tiff(head: bytes) -> tuple[int, ...]:
    tags = _read_tags(head)
    return tags.get(0x0100, 0), tags.get(0x0101, 0)


def _read_heif(head: bytes) -> tuple[int, ...]:
    """Take the largest of the sizes in the `meta` box: a large picture is a grid of tiles, and has a preview."""
    at = size = kind = 0
    while kind != int.from_bytes(b"meta"):
        at += size
        size, kind = _unpack(">II", head, at)
        if size < 8:
            raise ValueError(f"the box at byte {at:,} has no length")
    _unpack(f"{size}x", head, at)
    sizes = re.findall(rb"ispe\0{4}(.{8})", head[at : at + size], re.DOTALL)
    if not sizes:
        raise ValueError("it tells no size")
    return max((struct.unpack(">II", pair) for pair in sizes), key=lambda pair: pair[0] * pair[1])


_READERS: Final[dict[str, Callable[[bytes], tuple[int, ...]]]] = {
    "jpeg": _read_jpeg,
    "png": lambda head: _unpack(">II", head, 16),
    "gif": lambda head: _unpack("<HH", head, 6),
    "webp": _read_webp,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
    "heic": _read_heif,
    "avif": _read_heif,
}
