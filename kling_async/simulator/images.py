"""Kling's own rules for images, checked on the first bytes of a file.

Pure. What breaks a rule becomes a failed job, never a refused submit. This room must never decode a whole image.
"""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 10 * 1024 * 1024
MIN_SIDE: Final = 300
MAX_RATIO: Final = 2.5
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_NO_SIZE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_NO_FRAME: Final = frozenset({0xC4, 0xC8, 0xCC})


def find_flaw(image: bytes, *, ratio: bool = True) -> str | None:
    """Return what Kling would find wrong with an image; None if nothing.

    Args:
        image: The file.
        ratio: Whether the sides' ratio matters; it does not for the tail image.
    """
    size = read_size(image)
    if size is None:
        return "image format is not supported, only jpg and png are"
    width, height = size
    if len(image) > MAX_BYTES:
        return "image file is larger than 10MB"
    if min(width, height) < MIN_SIDE:
        return "image width and height must be at least 300px"
    if ratio and max(width, height) > MAX_RATIO * min(width, height):
        return "image aspect ratio must be between 1:2.5 and 2.5:1"
    return None


def read_size(image: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG or JPEG; None if it is neither."""
    if image.startswith(_PNG) and len(image) >= 24:
        return int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
    return _jpeg_size(image) if image.startswith(b"\xff\xd8") else None


def _jpeg_size(image: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(image) and image[place] == 0xFF:
        marker = image[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _NO_SIZE:
            place += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return int.from_bytes(image[place + 7 : place + 9]), int.from_bytes(image[place + 5 : place + 7])
        else:
            place += 2 + int.from_bytes(image[place + 2 : place + 4])
    return None
