"""An image that is another one when it is to be sent than when it was looked at: it is not sent, but looked at anew.

What the journal knows of a row's content, and what follows from it, is true of the picture that the service got.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kling_async import ImageChanged, ImageToVideo, InvalidRequest, KlingClient, Stage
from kling_async.rules.identity import content_digest
from kling_async.types.record import Record
from tests.flow.harness import PNG, World, outcomes_of, world
from tests.flow.hinges import Door, Hinge, hinged_batch, hinged_client, name_of

pytestmark = pytest.mark.looptime

FIRST, SECOND = PNG + b"first picture", PNG + b"other picture"
SMALL = PNG.replace(b"\0\0\x01\x40", b"\0\0\x01\x00") + b"small picture"
"""A picture of 256 x 256, which the service does not take; as many bytes as the others have."""


class Meddler(Hinge):
    """Hears of the calls of all doors, and does something at one of them, before it takes effect."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        super().__init__(1, "before", name)
        self._work = work

    async def _hang(self, name: str) -> None:
        self.where = name
        await asyncio.get_running_loop().run_in_executor(None, self._work)


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another, of the same size and time."""
    times, other = path.stat(), path.with_name("other.png")
    other.write_bytes(content)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


async def written(path: Path, content: bytes) -> ImageToVideo:
    """Write a picture, and return its request."""
    await asyncio.get_running_loop().run_in_executor(None, path.write_bytes, content)
    return ImageToVideo(path, "a cat", key=path.stem)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def only_row(w: World) -> Record:
    (row,) = (await w.records()).values()
    return row


def digests(w: World) -> list[str]:
    """Return the digests of the pictures that were bought for."""
    return [purchase.image_digest for purchase in w.book.bought()]


@pytest.mark.parametrize("call", ["mime", "facts", "digest", "intend", "submit"])
async def test_a_row_is_bought_with_the_digest_of_what_is_sent(tmp_path: Path, call: str) -> None:
    """Replaced since it was first looked at, by a picture of the same size and time: tried again, known by the new one.

    That is so wherever between the first look and the first byte it happens.
    """
    async with world(tmp_path / "out") as w:
        request = await written(tmp_path / "a.png", FIRST)
        batch = w.batch()
        meddler = Meddler(call, partial(replace, tmp_path / "a.png", SECOND))
        hinged_batch(batch, meddler)
        batch._crew.service.images = Door(batch._crew.service.images, meddler)
        async with batch:
            outcomes = await outcomes_of(batch, [request])
        assert meddler.where == {"submit": "send"}.get(call, call)
        assert outcomes["a"].stage is Stage.DONE
        assert digests(w) == [sha256(SECOND)]
        row = await only_row(w)
        assert row.content == content_digest(request, {"image": sha256(SECOND)})
        assert row.attempt == 2
        await w.audit()


async def test_a_row_shares_with_the_one_whose_picture_it_has_by_now(tmp_path: Path) -> None:
    """Duplicates are judged by the new content: what another row was bought for is not bought again."""
    async with world(tmp_path / "out") as w:
        first, second = await written(tmp_path / "a.png", FIRST), await written(tmp_path / "b.png", SECOND)
        async with w.batch() as batch:
            await batch.run([second])
        batch = w.batch()
        hinged_batch(batch, Meddler("submit", partial(replace, tmp_path / "a.png", SECOND)))
        async with batch:
            report = await batch.run([first, second])
        assert (report.tally.done, report.tally.shared) == (2, 1)
        assert digests(w) == [sha256(SECOND)]


async def test_a_row_is_refused_for_the_picture_that_it_has_by_now(tmp_path: Path) -> None:
    """The new one is checked as the first one was: it is too small, and nothing is bought."""
    async with world(tmp_path / "out") as w:
        request = await written(tmp_path / "a.png", FIRST)
        batch = w.batch()
        hinged_batch(batch, Meddler("submit", partial(replace, tmp_path / "a.png", SMALL)))
        async with batch:
            outcomes = await outcomes_of(batch, [request])
        assert outcomes["a"].stage is Stage.FAILED
        assert "256 x 256" in str(outcomes["a"].error)
        assert w.book.bought() == []


class Restless(Hinge):
    """Writes another picture into a file right before each POST."""

    def __init__(self, path: Path) -> None:
        super().__init__(0, "before")
        self._path = path
        self._pictures = 0

    @asynccontextmanager
    async def around(self, name: str, *values: Any) -> AsyncIterator[None]:
        if name_of(name, values) == "submit":
            self._pictures += 1
            content = PNG + f"picture {self._pictures:6}".encode()
            await asyncio.get_running_loop().run_in_executor(None, self._path.write_bytes, content)
        yield


async def test_a_picture_that_never_rests_is_its_rows_own_trouble(tmp_path: Path) -> None:
    """After twenty tries the row fails, for free; no submit has waited for it, and no twin of it fails with it."""
    async with world(tmp_path / "out") as w:
        request = await written(tmp_path / "a.png", FIRST)
        batch = w.batch()
        hinged_batch(batch, Restless(tmp_path / "a.png"))
        began = asyncio.get_running_loop().time()
        async with batch:
            outcomes = await outcomes_of(batch, [request])
        assert asyncio.get_running_loop().time() - began < 1.0
        assert outcomes["a"].stage is Stage.FAILED
        assert "a.png changed before it was sent" in str(outcomes["a"].error)
        assert w.book.bought() == []
        assert (await only_row(w)).attempt == 20
        others = [await written(tmp_path / "b.png", SECOND), await written(tmp_path / "a.png", FIRST)]
        async with w.batch() as batch:
            report = await batch.run(others, retry_failed=True)
        assert report.tally.done == 2


def meddled(w: World, place: Path, content: bytes, **flags: Any) -> KlingClient:
    """Make a client whose image is replaced right before its first POST."""
    client = w.client(**flags)
    hinged_client(client, Meddler("submit", partial(replace, place, content)))
    return client


async def test_a_client_writes_down_what_it_sent(tmp_path: Path) -> None:
    """One that keeps a journal: the row has the digest of the new picture, and the new one's twin shares with it."""
    place = tmp_path / "a.png"
    async with world(tmp_path) as w:
        request = await written(place, FIRST)
        journal = tmp_path / ".kling/journal.db"
        async with meddled(w, place, SECOND, journal=journal) as client:
            generation = await client.submit(request)
        assert digests(w) == [sha256(SECOND)]
        assert (await only_row(w)).content == content_digest(request, {"image": sha256(SECOND)})
        twin = await written(tmp_path / "b.png", SECOND)
        async with w.client(journal=journal) as client:
            assert (await client.submit(twin)).id == generation.id


@pytest.mark.parametrize("content", [SECOND, SECOND + b" that is larger"], ids=["equal", "larger"])
async def test_a_client_without_a_journal_looks_again(tmp_path: Path, content: bytes) -> None:
    """It sends what is there by now, whatever its size, after one try that came to nothing."""
    place = tmp_path / "a.png"
    async with world(tmp_path) as w:
        request = await written(place, FIRST)
        async with meddled(w, place, content) as client:
            await client.submit(request)
        assert digests(w) == [sha256(content)]
        assert [name.rpartition(".")[2] for name in w.book.request_ids] == ["1"]


@pytest.mark.parametrize("journaled", [False, True])
async def test_a_client_tells_of_a_picture_that_never_rests(tmp_path: Path, *, journaled: bool) -> None:
    """After twenty looks its caller hears which image it is, at once and not as the service's trouble."""
    place = tmp_path / "a.png"
    flags = {"journal": tmp_path / ".kling/journal.db"} if journaled else {}
    async with world(tmp_path) as w:
        request = await written(place, FIRST)
        client = w.client(**flags)
        hinged_client(client, Restless(place))
        began = asyncio.get_running_loop().time()
        async with client:
            with pytest.raises(ImageChanged, match=r"a\.png changed before it was sent"):
                await client.submit(request)
        assert asyncio.get_running_loop().time() - began < 1.0
        assert w.book.bought() == []
        if journaled:
            row = await only_row(w)
            assert (row.stage, row.attempt) == (Stage.PLANNED, 20)


async def test_a_client_refuses_a_picture_that_became_wrong(tmp_path: Path) -> None:
    """It is checked as the first one was, with and without a journal."""
    place = tmp_path / "a.png"
    async with world(tmp_path) as w:
        for flags in ({}, {"journal": tmp_path / ".kling/journal.db"}):
            request = await written(place, FIRST)
            async with meddled(w, place, SMALL, **flags) as client:
                with pytest.raises(InvalidRequest, match="256 x 256"):
                    await client.submit(request)
        assert w.book.bought() == []
