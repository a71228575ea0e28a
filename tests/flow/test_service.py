"""What is looked at before anything is sent: all that is wrong is told at once, and no more is read than that needs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kling_async import ImageToVideo, InvalidRequest
from kling_async.adapters.images import LocalImages
from kling_async.flow.service import Service
from kling_async.testing import ScriptedTransport
from kling_async.types.settings import ServiceSettings
from tests.flow.harness import PNG

pytestmark = pytest.mark.looptime

HUGE = 3 * 1024**3
"""Bytes: more than one cares to read for nothing."""
NARROW = PNG.replace(b"\0\0\x01\x40", b"\0\0\x01\x00", 1)
"""The beginning of a PNG of 256 x 320."""


@pytest.fixture
async def images() -> AsyncIterator[LocalImages]:
    door = LocalImages()
    yield door
    await door.aclose()


def service(images: LocalImages, *, image_checks: bool = True) -> Service:
    return Service(ScriptedTransport(), images, ServiceSettings(), image_checks=image_checks)


async def picture(path: Path, size: int, head: bytes = PNG) -> Path:
    """Write the beginning of a picture, sparse up to a size."""

    def write() -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    await asyncio.get_running_loop().run_in_executor(None, write)
    return path


async def refusal(service: Service, request: ImageToVideo) -> list[tuple[str, str]]:
    """Return fields and messages of all that is said of a request."""
    with pytest.raises(InvalidRequest) as caught:
        await service.prepare(request)
    return [(issue.field, issue.message) for issue in caught.value.issues]


def read_whole(images: LocalImages) -> int:
    """Return how many files were read to their ends."""
    return images._file_digest.cache_info().misses


@pytest.mark.parametrize("field", ["image", "tail_image"])
async def test_a_file_that_is_too_large_is_not_read(images: LocalImages, tmp_path: Path, field: str) -> None:
    """Its size is told, not its content; that of a picture beside it, which would not be sent either, is not read."""
    small = await picture(tmp_path / "a.png", 5000)
    pictures: dict[str, Any] = {"image": small, "tail_image": small, field: await picture(tmp_path / "b.png", HUGE)}

    ((told, message),) = await refusal(service(images), ImageToVideo(prompt="a cat", **pictures))

    assert told == field
    assert f"{HUGE:,} bytes" in message
    assert read_whole(images) == 0


async def test_all_that_is_wrong_is_told_at_once(images: LocalImages, tmp_path: Path) -> None:
    """The size beside what the header says, what another image lacks, and the fields' own faults."""
    huge = await picture(tmp_path / "a.png", HUGE, NARROW)
    request = ImageToVideo(huge, "x" * 3000, tail_image=tmp_path / "missing.png", duration=10)

    told = await refusal(service(images), request)

    assert sorted(field for field, _ in told) == ["duration", "image", "image", "prompt", "tail_image"]
    said = " ".join(message for _, message in told)
    assert all(words in said for words in ("256 x 320", f"{HUGE:,} bytes", "there is no file"))
    assert read_whole(images) == 0


async def test_what_is_no_image_is_not_read_either(images: LocalImages, tmp_path: Path) -> None:
    """A film that was named by mistake."""
    film = await picture(tmp_path / "a.mov", HUGE, b"\0\0\0\x14ftypqt  " + bytes(100))

    ((field, message),) = await refusal(service(images), ImageToVideo(film, "a cat"))

    assert (field, "no image" in message) == ("image", True)
    assert read_whole(images) == 0


async def test_without_checks_any_size_is_prepared(images: LocalImages, tmp_path: Path) -> None:
    """The limit is the service's, and may have moved."""
    large = await picture(tmp_path / "a.png", 11 * 1024**2)

    prepared = await service(images, image_checks=False).prepare(ImageToVideo(large, "a cat"))

    assert prepared.images["image"].state.size == 11 * 1024**2
    assert read_whole(images) == 1
