"""Frames are decoded, all of them: what boxes and digests let pass is found."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import pytest

from kling_async.adapters.decoder import AvDecoder
from kling_async.errors import Truncated
from kling_async.rules.mp4 import BoxWalk

pytestmark = pytest.mark.looptime

CLIP = (resources.files("kling_async.simulator") / "templates/5s.mp4").read_bytes()
FRAMES = CLIP.index(b"mdat") + 1000
"""Where the frames lie, and no header of theirs."""


@pytest.fixture
async def decoder() -> AsyncIterator[AvDecoder]:
    made = AvDecoder()
    await made.check()
    yield made
    await made.aclose()


def is_whole(content: bytes) -> bool:
    walk = BoxWalk()
    walk.feed(content)
    try:
        walk.finish()
    except Truncated:
        return False
    return True


async def test_a_whole_video_has_no_fault(decoder: AvDecoder, tmp_path: Path) -> None:
    """Many at once, too."""
    paths = [tmp_path / f"{i}.mp4" for i in range(6)]
    for path in paths:
        path.write_bytes(CLIP)
    assert await asyncio.gather(*map(decoder.fault, paths)) == [None] * 6


@pytest.mark.parametrize("seed", range(8))
async def test_damage_that_the_boxes_do_not_show_is_found(decoder: AvDecoder, tmp_path: Path, seed: int) -> None:
    """Some hundred bytes of the frames are others: each box is complete, and the file is not fit to be seen."""
    dice = random.Random(seed)
    at = dice.randrange(FRAMES, len(CLIP) - 600)
    damaged = CLIP[:at] + dice.randbytes(512) + CLIP[at + 512 :]
    assert is_whole(damaged)
    path = tmp_path / "a.mp4"
    path.write_bytes(damaged)
    assert await decoder.fault(path)


@pytest.mark.parametrize("content", [b"", b"<html></html>", CLIP[:FRAMES], CLIP[:40]])
async def test_what_cannot_be_opened_or_is_cut_is_a_fault_and_no_error(
    decoder: AvDecoder, tmp_path: Path, content: bytes
) -> None:
    """Whatever it is."""
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert await decoder.fault(path)


async def test_no_file_is_a_fault(decoder: AvDecoder, tmp_path: Path) -> None:
    """It may have gone since it was read."""
    assert await decoder.fault(tmp_path / "a.mp4")


def test_without_pyav_it_is_told_what_to_install(tmp_path: Path) -> None:
    """A `ConfigurationError` that names the extra; no file is called bad for it."""
    (tmp_path / "av.py").write_text("raise ImportError('no av here')", "utf-8")
    program = (
        "import asyncio\n"
        "from kling_async.adapters.decoder import AvDecoder\n"
        "from kling_async.errors import ConfigurationError\n"
        "try:\n    asyncio.run(AvDecoder().check())\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'kling-async[video]'" in done.stdout
