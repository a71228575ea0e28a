"""The simulator reads an image's sides from its first bytes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from kling_async.simulator.images import find_flaw, read_size


def picture(kind: str, size: tuple[int, int] = (640, 480), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": b"Exif\x00\x00" + bytes(900)}, {"dpi": (72, 72)}]
)
def test_jpeg(options: dict[str, Any]) -> None:
    """Baseline and progressive JPEGs tell their sides, whatever stands before."""
    assert read_size(picture("JPEG", **options)) == (640, 480)


def test_png() -> None:
    """A PNG tells its sides."""
    assert read_size(picture("PNG")) == (640, 480)


@pytest.mark.parametrize(
    "image", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff\xd9\x00\x00\x00\x00\x00\x00", picture("GIF")]
)
def test_neither(image: bytes) -> None:
    """What is neither, or breaks off too early, has no sides."""
    assert read_size(image) is None


def test_flaws() -> None:
    """A good image has no flaw; a narrow one has, unless the ratio does not matter."""
    assert find_flaw(picture("JPEG")) is None
    assert find_flaw(picture("JPEG", (900, 310))) is not None
    assert find_flaw(picture("JPEG", (900, 310)), ratio=False) is None
