"""A disk without room: all downloads wait as one, a person hears of it once, and nothing that came is thrown away."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from kling_async import DiskFull
from kling_async.errors import AnswerLost, KlingError
from kling_async.flow.downloader import Downloader
from kling_async.flow.room import LOOK_AGAIN
from kling_async.ports import StagedVideo, VideoStore
from kling_async.simulator import Fault, FaultPlan
from kling_async.testing import MemoryStore, ScriptedDownload, ScriptedTransport
from kling_async.types.settings import AdmissionSettings, DownloadSettings
from tests.flow.harness import requests, world
from tests.flow.test_downloader import URL, WHOLE, clip, cut, now, parcel, rest, whole

pytestmark = pytest.mark.looptime

HOUR = 3600.0


class Disk:
    """A disk before a store: full from one moment to another, and it counts who asked for room meanwhile.

    Args:
        store: The store on it.
        doors: What finds no room: `stage`, `write` or `commit`.
    """

    def __init__(self, store: VideoStore, *doors: str) -> None:
        self._store = store
        self._doors = doors or ("write",)
        self.full = False
        self.refused: list[float] = []
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def take(self, door: str) -> None:
        if self.full and door in self._doors:
            self.refused.append(now())
            raise DiskFull("there is no room for a.mp4 (No space left on device): make room")

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[Any]:
        self.take("stage")
        async with self._store.stage(name) as staged:
            yield OnDisk(staged, self)


class OnDisk:
    """A staged video on such a disk."""

    def __init__(self, staged: StagedVideo, disk: Disk) -> None:
        self._staged, self._disk = staged, disk
        self.restart, self.sha256 = staged.restart, staged.sha256

    @property
    def size(self) -> int:
        return self._staged.size

    async def write(self, pieces: Sequence[bytes]) -> None:
        self._disk.take("write")
        await self._staged.write(pieces)
        self._disk.written += sum(map(len, pieces))

    async def commit(self) -> Path:
        self._disk.take("commit")
        return await self._staged.commit()


def downloader(transport: Any, disk: Any, **settings: Any) -> Downloader:
    return Downloader(
        transport,
        disk,
        DownloadSettings(**settings),
        pauses=AdmissionSettings(),
        dice=random.Random(1),
        local_service=False,
        wait_for_room=True,
    )


async def fill(disk: Disk, after: float, seconds: float) -> None:
    """Let a disk be full for a while."""
    if after:
        await asyncio.sleep(after)
    disk.full = True
    await asyncio.sleep(seconds)
    disk.full = False


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_hour_without_room_in_the_midst_of_a_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All end DONE by one request to the file host each; it is told once that it is full, and once that it is not.

    Meanwhile one of all downloads looks every quarter of a minute, and the buying comes to a stand by itself: no more
    than fit in flight and may wait behind it.
    """
    rows, flying, behind = 48, 8, 4 * 2
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight=flying, downloads_at_once=2) as batch:
            disk = Disk(batch._crew.store, "write")
            batch._crew.downloader._store = disk
            full = asyncio.ensure_future(fill(disk, 600, HOUR))
            bought: list[int] = []
            for moment in (601, 600 + HOUR - 1):
                asyncio.get_running_loop().call_later(moment, lambda: bought.append(len(w.book.bought())))
            report = await batch.run(requests(rows))
            await full
        assert (report.stopped, report.tally.done) == (None, rows)
        assert w.book.calls["download"] == rows
        assert len(w.book.bought()) == rows
        assert 0 < bought[0] <= bought[1] <= bought[0] + flying + behind + 2
        assert bought[1] < rows
        await w.audit()
    looks = [moment for moment in disk.refused if moment > disk.refused[0] + LOOK_AGAIN / 2]
    assert HOUR / LOOK_AGAIN - 5 <= len(looks) <= HOUR / LOOK_AGAIN + 1
    assert [line for line in told(caplog) if "downloads go on when there is room" in line] == told(caplog)[:1]
    assert [line for line in told(caplog) if "there is room again, after" in line] == told(caplog)[1:]
    assert len(told(caplog)) == 2


async def test_one_looks_first_and_the_rest_follow_at_once() -> None:
    """As soon as one write found room, all go on: nobody waits for a turn of their own."""
    disk = Disk(MemoryStore(), "write")
    loader = downloader(ScriptedTransport(downloads=[whole()] * 8), disk)
    full = asyncio.ensure_future(fill(disk, 0, 100))
    await asyncio.sleep(0)
    began = now()
    await asyncio.gather(*(loader.fetch(parcel(f"{i}.mp4")) for i in range(8)), full)
    assert now() - began == pytest.approx(105, abs=0.5)
    assert [moment for moment in disk.refused if moment] == [LOOK_AGAIN * look for look in range(1, 7)]
    assert len(disk.videos) == 8


async def test_what_came_before_is_kept_though_the_host_hangs_up() -> None:
    """The bytes of hours ago are not asked for again: only the rest is, of the same file."""
    content = clip(1, 3_000_000)
    first = cut(content[: 1024 * 1024], len(content), etag='"v1"')
    first.content = [content[: 1024 * 1024], content[1024 * 1024 : 2_000_000], AnswerLost("the host hung up")]
    transport = ScriptedTransport(downloads=[first, rest(content[2_000_000:], 2_000_000, len(content))])
    disk = Disk(MemoryStore(), "write")
    full = asyncio.ensure_future(fill(disk, 0, HOUR))
    await asyncio.sleep(0)
    file = await downloader(transport, disk).fetch(parcel())
    await full
    assert [headers.get("Range") for _, headers in transport.fetched] == [None, "bytes=2000000-"]
    assert disk.written == len(content)
    assert (file.sha256, disk.videos["a.mp4"]) == (hashlib.sha256(content).hexdigest(), content)


@pytest.mark.parametrize(("door", "fetched"), [("stage", 1), ("write", 1)])
async def test_no_request_is_made_in_vain(door: str, fetched: int) -> None:
    """Neither where the file cannot be begun, nor where it cannot grow."""
    disk, transport = Disk(MemoryStore(), door), ScriptedTransport(downloads=[whole()] * 9)
    full = asyncio.ensure_future(fill(disk, 0, HOUR))
    await asyncio.sleep(0)
    await downloader(transport, disk).fetch(parcel())
    await full
    assert len(transport.fetched) == fetched


async def test_what_could_not_be_made_durable_is_fetched_again() -> None:
    """A disk that refuses late may have dropped what it took before: those bytes are never given a name."""
    disk = Disk(MemoryStore(), "commit")
    transport = ScriptedTransport(downloads=[whole()] * 99)
    full = asyncio.ensure_future(fill(disk, 0, 40))
    await asyncio.sleep(0)
    await downloader(transport, disk).fetch(parcel())
    await full
    assert len(transport.fetched) == len(disk.refused) + 1 == 4
    assert disk.videos["a.mp4"] == WHOLE


async def test_a_disk_that_is_nearly_full_is_not_told_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    """It has room for a write now and then; a lack that lasts is told, also where it is the second."""
    disk = Disk(MemoryStore(), "write")
    loader = downloader(ScriptedTransport(downloads=[whole()] * 99), disk)
    for _ in range(10):
        disk.full = True
        freed = asyncio.ensure_future(fill(disk, 0, 10))
        await loader.fetch(parcel())
        await freed
    assert sum("go on when there is room" in line for line in told(caplog)) <= 2
    caplog.clear()
    freed = asyncio.ensure_future(fill(disk, 0, HOUR))
    await asyncio.sleep(0)
    await loader.fetch(parcel())
    await freed
    assert ["go on when" in line for line in told(caplog)] == [True, False]


async def test_one_who_leaves_while_there_is_no_room_keeps_nobody_from_it() -> None:
    """The turn to look goes to the next."""
    disk = Disk(MemoryStore(), "write")
    loader = downloader(ScriptedTransport(downloads=[whole()] * 8), disk)
    full = asyncio.ensure_future(fill(disk, 0, 100))
    await asyncio.sleep(0)
    fetches = [asyncio.ensure_future(loader.fetch(parcel(f"{i}.mp4"))) for i in range(4)]
    for fetch in fetches[:3]:
        await asyncio.sleep(20)
        fetch.cancel()
    await asyncio.wait([*fetches, full])
    assert list(disk.videos) == ["3.mp4"]


async def test_the_oldest_link_is_fetched_first() -> None:
    """Of those that wait, whoever's link ends first, and before them those that do not tell; not who came first."""
    ends = [900, 300, None, 700, 100, 500, None]
    links = ["https://cdn.example/a.mp4" if end is None else f"{URL}&ksTime={end:x}" for end in ends]
    transport, store = Slow(), MemoryStore()
    loader = downloader(transport, store, downloads_at_once=1)
    await asyncio.gather(*(loader.fetch(parcel(f"{at}.mp4", link)) for at, link in enumerate(links)))
    assert list(store.videos) == [f"{at}.mp4" for at in (0, 2, 6, 4, 1, 5, 3)]


class Slow(ScriptedTransport):
    """Serves a whole clip to everybody, a second later."""

    @asynccontextmanager
    async def fetch(self, url: str, **_: Any) -> AsyncIterator[ScriptedDownload]:
        await asyncio.sleep(1.0)
        yield whole()


async def test_another_error_of_the_disk_is_not_waited_for() -> None:
    """It says nothing of room."""

    class Broken(MemoryStore):
        @asynccontextmanager
        async def stage(self, name: str) -> AsyncIterator[Any]:
            raise KlingError("the disk is on fire")
            yield

    began = now()
    with pytest.raises(KlingError, match="on fire"):
        await downloader(ScriptedTransport(), Broken()).fetch(parcel())
    assert now() == began


async def test_a_copy_for_equal_content_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no hard links a second row's file is a copy: it waits for room as a download does."""

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "no links here")

    looks: list[float] = []

    def copied(source: Path, target: Path) -> None:
        looks.append(loop.time())
        if len(looks) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(target).write_bytes(Path(source).read_bytes())

    loop = asyncio.get_running_loop()
    twins = [evolve(row, prompt="the same") for row in requests(2)]
    async with world(tmp_path) as w:
        with monkeypatch.context() as disk:  # undone here: what guards the loop has wrapped the same functions
            disk.setattr(os, "link", no_links)
            disk.setattr(shutil, "copyfile", copied)
            async with w.batch(max_in_flight=2) as batch:
                report = await batch.run(twins)
        assert (report.tally.done, report.tally.shared, len(w.book.bought())) == (2, 1, 1)
    assert [round(after - before) for before, after in pairwise(looks)] == [LOOK_AGAIN] * 3


async def test_a_video_of_another_length_is_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ten seconds in place of five: it was paid for, so it is kept, with a warning."""
    async with world(tmp_path, FaultPlan.of(Fault("job", "wrong_duration", match="prompt 0"))) as w:
        async with w.batch() as batch:
            report = await batch.run(requests(2))
        assert report.tally.done == 2
        await w.audit()
    told = [message for message in caplog.messages if "were asked for: kept" in message]
    assert [message.split(":")[0] for message in told] == ["row0"]
    assert "5 were asked for" in told[0]
