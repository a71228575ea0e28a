"""What users' tests are given: doors in memory that keep the contracts, and tell what was done with them.

The journal's and the transport's contracts are run against them in `tests/contracts`, the store's here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kling_async import ImageToVideo, InvalidRequest, RateLimited
from kling_async import testing as doors
from kling_async.adapters.images import LocalImages
from kling_async.errors import AnswerLost, JournalError, NotSent
from kling_async.flow.downloader import Downloader, Parcel
from kling_async.flow.service import Service
from kling_async.ports import Download, Journal, StagedVideo, Transport, VideoStore
from kling_async.testing import MemoryJournal, MemoryStagedVideo, MemoryStore, ScriptedDownload, ScriptedTransport
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.generation import RemoteVideo
from kling_async.types.record import Stage, Verified
from kling_async.types.settings import AdmissionSettings, DownloadSettings, ServiceSettings
from tests.adapters.conftest import cancel_everywhere as _cancel_everywhere
from tests.adapters.test_files import VideoStoreContract
from tests.contracts.test_journal import brought, planned
from tests.flow.test_downloader import WHOLE

cancel_everywhere = _cancel_everywhere

CALL = HttpCall("GET", "/v2/things", 5.0)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestMemoryStore(VideoStoreContract):
    """The store in memory, held to the contract of all stores."""

    async def test_cancelling_leaves_a_whole_file(self, store: VideoStore, cancel_everywhere: Any) -> None:
        """Nothing in it waits: there is no moment at which it could be cancelled, and what is under way is whole."""

        async def scenario() -> None:
            async with store.stage("a.mp4") as staged:
                await staged.write([b"a", b"b"])
                await staged.commit()

        async def check() -> None:
            assert await store.holds("a.mp4", size=2, sha256=hashlib.sha256(b"ab").hexdigest())

        assert await cancel_everywhere(scenario, check) == 0


def test_the_doors_have_the_shape_of_the_ports() -> None:
    """As mypy reads it: each may stand where the real one does."""
    journal: Journal = MemoryJournal()
    videos: VideoStore = MemoryStore()
    transport: Transport = ScriptedTransport()
    download: Download = ScriptedDownload(200, {}, [])
    make: Callable[[str, MemoryStore], StagedVideo] = MemoryStagedVideo
    assert all((journal, videos, transport, download, make))


def test_every_door_is_told_of_in_its_docstring() -> None:
    """Users read them in their editor."""
    shown = [getattr(doors, name) for name in doors.__all__]
    assert {one.__name__ for one in shown} >= {"MemoryJournal", "MemoryStore", "ScriptedTransport", "ScriptedDownload"}
    for one in shown:
        assert one.__doc__


async def test_the_stores_videos_may_be_looked_at_and_given(store: MemoryStore) -> None:
    """They are bytes by name; what is put there before stands."""
    store.videos["given.mp4"] = b"given"
    assert await store.holds("given.mp4", size=5, sha256=hashlib.sha256(b"given").hexdigest())
    async with store.stage("new.mp4") as staged:
        await staged.write([b"n", b"ew"])
        assert "new.mp4" not in store.videos
        assert await staged.commit() == store.path("new.mp4") == Path("memory/new.mp4")
    assert store.videos == {"given.mp4": b"given", "new.mp4": b"new"}
    assert await store.link("new.mp4", "other.mp4")
    assert not await store.link("gone.mp4", "another.mp4")
    assert store.videos == {"given.mp4": b"given", "new.mp4": b"new", "other.mp4": b"new"}


async def test_two_journals_share_nothing() -> None:
    """Nor two stores, nor two transports."""
    one, other = MemoryJournal(), MemoryJournal()
    await brought(one, "row", Stage.SUBMITTED)
    await one.note("name", "value")
    assert await other.get("row") is None
    assert await other.note("name") is None
    with pytest.raises(JournalError):
        await other.save(planned("row"))
    assert ScriptedTransport().calls is not ScriptedTransport().calls
    assert MemoryStore().videos is not MemoryStore().videos


async def test_the_transport_keeps_what_was_sent() -> None:
    """Calls and fetches in order, those that failed too; the script is read as it is needed."""

    def replies() -> Any:
        yield HttpReply(200, {}, b"{}")
        yield AnswerLost("gone")

    transport = ScriptedTransport(replies(), [ScriptedDownload(200, {}, [b"a"]), NotSent("refused")])
    assert (await transport.send(CALL)).body == b"{}"
    with pytest.raises(AnswerLost, match="gone"):
        await transport.send(CALL)
    async with transport.fetch("https://a/1", headers={"Range": "bytes=1-"}, stall_after=1.0) as download:
        assert [piece async for piece in download.pieces()] == [b"a"]
    with pytest.raises(NotSent, match="refused"):
        async with transport.fetch("https://a/2", headers={}, stall_after=1.0):
            pass
    assert transport.calls == [CALL, CALL]
    assert transport.fetched == [("https://a/1", {"Range": "bytes=1-"}), ("https://a/2", {})]


async def test_a_script_that_is_over_says_so() -> None:
    """A test whose code asks more than it should fails with a word about it, and nothing was sent."""
    transport = ScriptedTransport()
    with pytest.raises(NotSent, match="no more replies"):
        await transport.send(CALL)
    with pytest.raises(NotSent, match="no more downloads"):
        async with transport.fetch("https://a/1", headers={}, stall_after=1.0):
            pass


async def test_a_service_runs_on_a_script() -> None:
    """What a user would test with it: a submit that is paced, one that is refused, one that is accepted."""
    document = {"id": "gen-1", "status": "queued", "meta": {"usage": {"credits_used": 7}}}
    transport = ScriptedTransport(
        [
            HttpReply(429, {"retry-after": "3"}, b"{}"),
            HttpReply(400, {}, b'{"statusCode": 400, "message": "no"}'),
            HttpReply(200, {}, json.dumps(document).encode()),
        ]
    )
    images = LocalImages()
    service = Service(transport, images, ServiceSettings())
    prepared = await service.prepare(ImageToVideo("https://images.example/a.png", "a cat"))
    with pytest.raises(RateLimited) as limited:
        await service.submit(prepared, client_request_id="ka1.a")
    with pytest.raises(InvalidRequest):
        await service.submit(prepared, client_request_id="ka1.b")
    generation = await service.submit(prepared, client_request_id="ka1.c")
    await images.aclose()
    assert limited.value.retry_after == 3
    assert (generation.id, generation.usage.credits) == ("gen-1", 7)
    assert [dict(call.headers)["X-Client-Request-Id"] for call in transport.calls] == ["ka1.a", "ka1.b", "ka1.c"]
    assert all(call.method == "POST" and call.fresh_connection for call in transport.calls)


@pytest.mark.looptime
async def test_a_download_runs_on_a_script_into_memory(store: MemoryStore) -> None:
    """Cut, resumed, and whole in the end."""
    size = str(len(WHOLE))
    transport = ScriptedTransport(
        downloads=[
            ScriptedDownload(200, {"content-length": size, "etag": '"1"'}, [WHOLE[:99], AnswerLost("cut")]),
            ScriptedDownload(206, {"content-range": f"bytes 99-{len(WHOLE) - 1}/{size}"}, [WHOLE[99:]]),
        ]
    )
    link = RemoteVideo("https://cdn.example/a.mp4")

    async def fresh() -> RemoteVideo:
        raise AssertionError("no fresh link is needed")

    async def verified(_found: Verified) -> None:
        await asyncio.sleep(0)

    downloader = Downloader(
        transport,
        store,
        DownloadSettings(),
        pauses=AdmissionSettings(),
        dice=random.Random(1),
        local_service=False,
        wait_for_room=False,
    )
    await downloader.fetch(Parcel("a.mp4", link, "gen-1", fresh_link=fresh, verified=verified))
    assert store.videos == {"a.mp4": WHOLE}
