"""A process that may open no more files: whoever meets that is told what it is, or waits; no image is called bad."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import pytest

from kling_async import DiskFull, Finding
from kling_async.adapters.decoder import AvDecoder
from kling_async.adapters.files import LocalVideoStore
from kling_async.adapters.images import LocalImages
from kling_async.open_files import most_open_files, raise_open_files
from kling_async.types.image import ImageSource
from tests.flow.harness import requests, world

if sys.platform == "win32":
    pytest.skip("the limit is another one there", allow_module_level=True)
import resource

pytestmark = pytest.mark.looptime

PNG = bytes.fromhex("89504e470d0a1a0a0000000d494844520000014000000140080000000094b4a1d7")
CLIP = (resources.files("kling_async.simulator") / "templates/5s.mp4").read_bytes()
Limit: TypeAlias = Callable[[int], None]


@pytest.fixture
def limit() -> Iterator[Limit]:
    """Set how many files this process may have open, and set it back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda files: resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def none_left(limit: Limit) -> Iterator[Callable[[], None]]:
    """Let no more files be opened; yields what lets some be opened again."""
    before = most_open_files()
    highest = os.dup(0)
    os.close(highest)
    limit(highest)
    yield lambda: limit(before)
    limit(before)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_video_that_cannot_be_begun_is_told_as_one_without_room(tmp_path: Path, limit: Limit) -> None:
    """A batch waits for room, and a client hears what is the matter."""
    store = LocalVideoStore(tmp_path)
    async with store.stage("first.mp4"):  # its threads are there
        pass
    with none_left(limit), pytest.raises(DiskFull, match="Too many open files"):
        async with store.stage("a.mp4"):
            pass
    async with store.stage("a.mp4") as staged:
        await staged.commit()
    await store.aclose()


async def test_an_image_that_cannot_be_opened_is_waited_for(
    tmp_path: Path, limit: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no fault of the image's: its facts come when a file can be opened, and it is told once."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    images = LocalImages()
    assert (await images.state(ImageSource.of(path))).size == len(PNG)  # its thread is there
    with none_left(limit) as free:
        asyncio.get_running_loop().call_later(10.5, free)
        began = asyncio.get_running_loop().time()
        facts = await images.facts(ImageSource.of(path))
    assert (facts.width, facts.height) == (320, 320)
    assert 10 <= asyncio.get_running_loop().time() - began < 13
    assert len(warnings(caplog)) == 1
    assert "Too many open files" in caplog.text
    await images.aclose()


async def test_an_image_that_cannot_be_opened_is_sent_when_it_can(
    tmp_path: Path, limit: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    """What was looked at before is sent whole, later: it has not changed, and its row is not failed for it."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    images, source = LocalImages(), ImageSource.of(path)
    state = await images.state(source)
    with none_left(limit) as free:
        asyncio.get_running_loop().call_later(10.5, free)
        began = asyncio.get_running_loop().time()
        sent = b"".join([piece async for piece in images.encoded(source, state)])
    assert base64.b64decode(sent) == PNG
    assert 10 <= asyncio.get_running_loop().time() - began < 13
    assert len(warnings(caplog)) == 1
    await images.aclose()


async def test_a_video_that_cannot_be_opened_is_waited_for(
    tmp_path: Path, limit: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is there, and whole, and can be decoded is told when it was read; each door tells once."""
    store, decoder = LocalVideoStore(tmp_path), AvDecoder()
    await decoder.check()
    async with store.stage("a.mp4") as staged:
        await staged.write([CLIP])
        place = await staged.commit()
    digest = hashlib.sha256(CLIP).hexdigest()
    with none_left(limit) as free:
        asyncio.get_running_loop().call_later(10.5, free)
        answers = await asyncio.gather(
            store.holds("a.mp4", size=len(CLIP), sha256=digest), store.examine("a.mp4"), decoder.fault(place)
        )
    held, facts, fault = answers
    assert (held, fault) == (True, None)
    assert facts is not None
    assert (facts.size, facts.sha256, facts.fault) == (len(CLIP), digest, None)
    told = warnings(caplog)
    assert len(told) == 2, told
    assert all("a.mp4 cannot be read (Too many open files): it is tried again" in words for words in told)
    await decoder.aclose()
    await store.aclose()


@pytest.mark.parametrize("deep", [False, True])
async def test_a_verification_waits_for_files(
    tmp_path: Path, limit: Limit, caplog: pytest.LogCaptureFixture, *, deep: bool
) -> None:
    """Files that cannot be opened for a while are whole: none is called bad, and none is fetched again."""
    loop, before = asyncio.get_running_loop(), most_open_files()
    found: list[Finding] = []

    def told(finding: Finding) -> None:
        if not found:
            limit(3)
            loop.call_later(10.5, limit, before)
        found.append(finding)

    async with world(tmp_path) as w, w.batch() as batch:
        await batch.run(requests(40))
        calls = w.book.calls.copy()
        began = loop.time()
        report = await batch.verify(deep=deep, told=told)
        assert (report.whole, report.fetched, report.bad) == (40, 0, 0)
        assert [finding.fault for finding in found] == [None] * 40
        assert 10 <= loop.time() - began < 15
        assert w.book.calls == calls
    assert 1 <= len(warnings(caplog)) <= 1 + deep
    assert "Too many open files" in caplog.text


def test_the_soft_limit_is_raised_as_far_as_it_may_be(limit: Limit) -> None:
    """And not beyond what anybody needs."""
    limit(200)
    assert most_open_files() == 200
    raise_open_files()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most_open_files() == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
