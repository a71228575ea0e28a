"""One video to its place: every trouble of a file host, what each costs, and nothing but whole files under a name."""

from __future__ import annotations

import asyncio
import hashlib
import random
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from kling_async import (
    DiskFull,
    DownloadError,
    Generation,
    KlingError,
    LinkExpired,
    NotAVideo,
    TooLarge,
    Truncated,
    VideoFile,
)
from kling_async.errors import AnswerLost, JournalError, NotSent
from kling_async.flow.downloader import Downloader, Parcel
from kling_async.flow.transfer import BLOCK, Transfer
from kling_async.simulator import Fault, FaultPlan
from kling_async.simulator.troubles import TROUBLES
from kling_async.testing import MemoryStagedVideo, MemoryStore, ScriptedDownload, ScriptedTransport
from kling_async.types.generation import RemoteVideo
from kling_async.types.record import Stage, Verified
from kling_async.types.settings import AdmissionSettings, DownloadSettings
from tests.flow.harness import World, found_in, outcomes_of, read, requests, world

pytestmark = pytest.mark.looptime


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def clip(number: int = 1, size: int = 4000) -> bytes:
    """Build a whole MP4 of a few boxes."""
    noise = random.Random(number).randbytes(size)
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", noise) + box(b"moov", box(b"mvhd", bytes(100)))


WHOLE = clip()
URL = "https://cdn.example/a.mp4?sig=1"


def now() -> float:
    return asyncio.get_running_loop().time()


# ------------------------------------------------- the host's troubles, over sockets

RESUMED = {"stalled_midway", "cut", "closed"}
"""Troubles after which the rest is asked for, and no more."""

COST: dict[str, tuple[int, int]] = {
    # the kind: requests to the host, polls for a fresh link
    "refused": (2, 0),
    "stalled": (2, 0),
    "stalled_midway": (2, 0),
    "cut": (2, 0),
    "closed": (2, 0),
    "wrong_length": (3, 0),  # the bytes that never were are asked for once
    "truncated": (2, 0),
    "no_length": (1, 0),
    "garbage": (2, 1),
    "damaged": (1, 0),
    "html": (2, 1),
    "html_video": (2, 1),
    "expired": (2, 1),
    "403": (2, 1),
    "404": (2, 1),
    "410": (2, 1),
    "429_seconds": (2, 0),
    "500": (2, 0),
    "502": (2, 0),
    "503": (2, 0),
    "slow": (1, 0),
    "late": (1, 0),
    "range_ignored": (1, 0),
    "etag_changed": (1, 0),
    "redirected": (2, 0),
}
"""What one trouble costs, for every kind that there is."""


async def finished(w: World, client: Any) -> Generation:
    """Buy a generation and wait for its video."""
    found = await client.wait(await client.submit(requests(1)[0]))
    assert isinstance(found, Generation)
    return found


async def served(w: World, file: VideoFile) -> bool:
    """Tell whether a file holds what the host serves."""
    assert file.generation_id is not None
    return await read(file.path) == await w.simulator.served_bytes(file.generation_id)


def test_every_kind_of_trouble_has_its_cost() -> None:
    """A new kind in the simulator must be priced here."""
    assert COST.keys() == TROUBLES["download"].keys()


@pytest.mark.parametrize("kind", COST)
async def test_each_trouble_costs_what_it_must_and_the_file_is_whole(tmp_path: Path, kind: str) -> None:
    """One strike of each: so many requests, so many polls, nothing bought, and the served bytes under the name."""
    plan = FaultPlan.of(Fault("download", kind, at=(1,)))
    async with world(tmp_path, plan, clip_bytes=200_000) as w, w.client() as client:
        generation = await finished(w, client)
        polls = w.book.calls["poll"]
        file = await client.download(generation, tmp_path / "a.mp4")
        assert (w.book.calls["download"], w.book.calls["poll"] - polls) == COST[kind]
        assert kind == "damaged" or await served(w, file)
        assert await found_in(tmp_path) == {"a.mp4"}
        assert (file.size, file.sha256) == (
            len(await read(file.path)),
            hashlib.sha256(await read(file.path)).hexdigest(),
        )
        assert len(w.book.bought()) == 1
        assert not w.book.key_sent_to_cdn


@pytest.mark.parametrize(
    ("kinds", "cost"),
    [
        (("cut", "cut", "cut", "cut"), (5, 0)),
        (("cut", "range_ignored"), (2, 0)),
        (("cut", "etag_changed"), (2, 0)),
        (("cut", "expired"), (3, 1)),
        (("stalled_midway", "500", "cut", "redirected"), (5, 0)),
        (("cut", "truncated"), (3, 0)),
        (("cut", "html"), (3, 1)),
        (("redirected", "redirected", "redirected", "redirected", "redirected"), (6, 0)),
        (("expired", "html_video", "503", "truncated"), (5, 2)),
        (("closed", "429_seconds", "closed", "410", "closed"), (6, 1)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value[0], str) else "",
)
async def test_troubles_one_after_another(tmp_path: Path, kinds: Sequence[str], cost: tuple[int, int]) -> None:
    """What came before a cut is kept where it is the same file, and thrown away where it is not."""
    plan = FaultPlan.of(*(Fault("download", kind, at=(number,)) for number, kind in enumerate(kinds, 1)))
    async with world(tmp_path, plan, clip_bytes=200_000) as w, w.client() as client:
        generation = await finished(w, client)
        polls = w.book.calls["poll"]
        file = await client.download(generation, tmp_path / "a.mp4")
        assert (w.book.calls["download"], w.book.calls["poll"] - polls) == cost
        assert await served(w, file)
        assert await found_in(tmp_path) == {"a.mp4"}


LASTING: dict[str, type[KlingError]] = {
    "truncated": Truncated,
    "garbage": NotAVideo,
    "html": NotAVideo,
    "html_video": NotAVideo,
    "expired": LinkExpired,
    "403": LinkExpired,
    "404": LinkExpired,
    "410": LinkExpired,
    "wrong_length": Truncated,
}


@pytest.mark.parametrize("kind", LASTING)
async def test_a_trouble_that_lasts_ends_in_its_error_after_the_tries(tmp_path: Path, kind: str) -> None:
    """Each error tells the generation; nothing stands under the name or beside it, and nothing was bought anew."""
    async with world(tmp_path, clip_bytes=200_000) as w, w.client(download_attempts=4) as client:
        generation = await finished(w, client)
        w.simulator.faults = FaultPlan.of(Fault("download", kind))
        with pytest.raises(LASTING[kind]) as raised:
            await client.download(generation, tmp_path / "a.mp4")
        assert raised.value.generation_id == generation.id
        assert await found_in(tmp_path) == set()
        assert kind == "wrong_length" or w.book.calls["download"] == 4
        w.simulator.faults = FaultPlan()
        assert await served(w, await client.download(generation.id, tmp_path / "a.mp4"))
        assert len(w.book.bought()) == 1


@pytest.mark.parametrize("kind", ["refused", "stalled", "500", "503"])
async def test_a_host_in_trouble_is_waited_for_as_long_as_a_service_is(tmp_path: Path, kind: str) -> None:
    """It is no fault of the file's: the tries alone do not end it, half an hour does."""
    async with world(tmp_path) as w, w.client(download_attempts=2, unavailable_after=1800) as client:
        generation = await finished(w, client)
        w.simulator.faults = FaultPlan.of(Fault("download", kind, until=1200))
        assert await served(w, await client.download(generation, tmp_path / "a.mp4"))
        w.simulator.faults = FaultPlan.of(Fault("download", kind))
        began = now()
        with pytest.raises(DownloadError, match="could not be fetched") as raised:
            await client.download(generation, tmp_path / "b.mp4")
        assert 1800 <= now() - began < 1800 + 300
        assert raised.value.generation_id == generation.id


async def test_tries_count_only_without_progress(tmp_path: Path) -> None:
    """A dozen cuts, each a little further on, are no reason to give up with three tries and few seconds."""
    plan = FaultPlan.of(Fault("download", "cut", at=range(1, 13)))
    async with (
        world(tmp_path, plan, clip_bytes=3_000_000) as w,
        w.client(download_attempts=3, unavailable_after=5.0) as client,
    ):
        generation = await finished(w, client)
        file = await client.download(generation, tmp_path / "a.mp4")
        assert await served(w, file)
        assert w.book.calls["download"] == 13


async def test_a_thousand_downloads_are_so_many_at_once(tmp_path: Path) -> None:
    """No more than `downloads_at_once` are under way, and all end."""
    transport, store = Counting(), MemoryStore()
    loader = downloader(transport, store, downloads_at_once=3)
    await asyncio.gather(*(loader.fetch(parcel(f"{i}.mp4")) for i in range(30)))
    assert len(store.videos) == 30
    assert transport.most == 3


# ------------------------------------------------------------ its own rules, by script


def downloader(transport: Any, store: Any, *, local: bool = False, wait: bool = False, **settings: Any) -> Downloader:
    return Downloader(
        transport,
        store,
        DownloadSettings(**settings),
        pauses=AdmissionSettings(),
        dice=random.Random(1),
        local_service=local,
        wait_for_room=wait,
    )


def parcel(name: str = "a.mp4", url: str = URL, **fields: Any) -> Parcel:
    """Make a parcel whose fresh links are numbered, and whose digest nobody saves."""
    links = iter(range(2, 100))

    async def fresh() -> RemoteVideo:
        return RemoteVideo(f"https://cdn.example/a.mp4?sig={next(links)}")

    async def verified(_verified: Verified) -> None:
        return None

    return evolve(Parcel(name, RemoteVideo(url), "gen-1", fresh_link=fresh, verified=verified), **fields)


def whole(content: bytes = WHOLE, **headers: str) -> ScriptedDownload:
    told = {"content-length": str(len(content)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return ScriptedDownload(200, told, [content])


def cut(content: bytes, total: int, **headers: str) -> ScriptedDownload:
    told = {"content-length": str(total), **headers}
    return ScriptedDownload(200, told, [content, AnswerLost("the connection was cut")])


def rest(content: bytes, begin: int, total: int | str) -> ScriptedDownload:
    span = f"bytes {begin}-{begin + len(content) - 1}/{total}"
    return ScriptedDownload(206, {"content-length": str(len(content)), "content-range": span}, [content])


class Counting(ScriptedTransport):
    """Serves a whole clip to everybody, and counts how many are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.open = self.most = 0

    @asynccontextmanager
    async def fetch(self, url: str, **_: Any) -> AsyncIterator[ScriptedDownload]:
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(1.0)
        try:
            yield whole()
        finally:
            self.open -= 1


async def test_the_digest_is_saved_before_the_file_has_its_name() -> None:
    """A file under its final name is always known to whoever saved it; what it is told fits the bytes."""
    store, seen = MemoryStore(), []

    async def verified(found: Verified) -> None:
        seen.append((found, dict(store.videos)))

    file = await downloader(ScriptedTransport(downloads=[whole()]), store).fetch(parcel(verified=verified))
    ((found, before),) = seen
    assert before == {}
    assert (found.size, found.sha256) == (len(WHOLE), hashlib.sha256(WHOLE).hexdigest())
    assert file == VideoFile(store.path("a.mp4"), len(WHOLE), found.sha256, "gen-1", found.seconds)
    assert store.videos == {"a.mp4": WHOLE}


async def test_a_digest_that_cannot_be_saved_leaves_no_file() -> None:
    """The journal's error comes out as it is."""
    store = MemoryStore()

    async def verified(_found: Verified) -> None:
        raise JournalError("the disk is gone")

    with pytest.raises(JournalError, match="the disk is gone"):
        await downloader(ScriptedTransport(downloads=[whole()]), store).fetch(parcel(verified=verified))
    assert store.videos == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.example/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://localhost/a.mp4",
        "https://10.1.2.3/a.mp4",
        "https://192.168.0.1:8443/a.mp4",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/a.mp4",
        "https://[::ffff:127.0.0.1]/a.mp4",
        "https://0x7f.1/a.mp4",
        "https://2130706433/a.mp4",
        "https://intranet/a.mp4",
        "https://files.internal/a.mp4",
        "ftp://cdn.example/a.mp4",
        "file:///etc/passwd",
        "https://[::1/a.mp4",
        "https://cdn.example:x/a.mp4",
    ],
)
@pytest.mark.parametrize("by_redirect", [False, True])
async def test_a_public_services_links_lead_to_public_hosts(url: str, *, by_redirect: bool) -> None:
    """Neither its own link nor a redirect may lead into the caller's network, or out of https: no request is made."""
    first = [ScriptedDownload(302, {"location": url}, [])] if by_redirect else []
    transport = ScriptedTransport(downloads=[*first, whole()])
    with pytest.raises(DownloadError, match="it is not followed") as raised:
        await downloader(transport, MemoryStore()).fetch(parcel(url=URL if by_redirect else url))
    assert [fetched for fetched, _ in transport.fetched] == [URL] * by_redirect
    assert raised.value.generation_id == "gen-1"


async def test_a_local_services_links_may_be_local() -> None:
    """Both rules are lifted together."""
    transport = ScriptedTransport(downloads=[whole()])
    await downloader(transport, MemoryStore(), local=True).fetch(parcel(url="http://127.0.0.1:8000/a.mp4"))
    assert len(transport.fetched) == 1


@pytest.mark.parametrize("count", [5, 6])
async def test_redirects_are_bounded(count: int) -> None:
    """Five are followed, each relative to the one before; a sixth is an error."""
    hops = [ScriptedDownload(302, {"location": f"hop{i}.mp4?q"}, []) for i in range(count)]
    transport, store = ScriptedTransport(downloads=[*hops, whole()]), MemoryStore()
    if count > 5:
        with pytest.raises(DownloadError, match="redirects more than 5 times"):
            await downloader(transport, store).fetch(parcel())
    else:
        await downloader(transport, store).fetch(parcel())
        assert transport.fetched[-1][0] == "https://cdn.example/hop4.mp4?q"
    assert len(transport.fetched) == 6
    assert len(store.videos) == (count == 5)


async def test_the_rest_is_asked_for_with_the_files_own_mark() -> None:
    """A resumed download names what it has and of which file; the halves make the whole."""
    first = cut(WHOLE[:1000], len(WHOLE), etag='"v1"')
    transport, store = ScriptedTransport(downloads=[first, rest(WHOLE[1000:], 1000, len(WHOLE))]), MemoryStore()
    await downloader(transport, store).fetch(parcel())
    assert [headers for _, headers in transport.fetched] == [{}, {"Range": "bytes=1000-", "If-Range": '"v1"'}]
    assert store.videos["a.mp4"] == WHOLE


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
async def test_without_a_strong_mark_it_is_begun_again(etag: str) -> None:
    """Nobody tells whether the rest would be of the same file."""
    first = cut(WHOLE[:1000], len(WHOLE), **({"etag": etag} if etag else {}))
    transport, store = ScriptedTransport(downloads=[first, whole()]), MemoryStore()
    await downloader(transport, store).fetch(parcel())
    assert [headers for _, headers in transport.fetched] == [{}, {}]
    assert store.videos["a.mp4"] == WHOLE


@pytest.mark.parametrize(
    "second",
    [
        rest(WHOLE[900:], 900, len(WHOLE)),
        rest(WHOLE[1100:], 1100, len(WHOLE)),
        ScriptedDownload(206, {}, [WHOLE[1000:]]),
        ScriptedDownload(206, {"content-range": "bytes=1000-"}, [WHOLE[1000:]]),
        ScriptedDownload(416, {"content-range": f"bytes */{len(WHOLE)}"}, []),
        ScriptedDownload(206, {"content-range": "bytes 1000-1009/1010"}, [WHOLE[1000:1010]]),
        ScriptedDownload(206, {"content-range": f"bytes 1000-4163/{'9' * 5000}"}, [WHOLE[1000:]]),
        ScriptedDownload(206, {"content-range": f"bytes {'1' * 5000}-4163/4164"}, [WHOLE[1000:]]),
    ],
    ids=["before", "behind", "silent", "muddled", "416", "short", "endless", "far away"],
)
async def test_an_answer_that_is_not_the_rest_is_not_joined(second: ScriptedDownload) -> None:
    """Whatever a host answers to the question for the rest, halves of different places never make a file."""
    first = cut(WHOLE[:1000], len(WHOLE), etag='"v1"')
    transport, store = ScriptedTransport(downloads=[first, second, whole()]), MemoryStore()
    await downloader(transport, store).fetch(parcel())
    assert store.videos["a.mp4"] == WHOLE
    assert len(transport.fetched) == 3


@pytest.mark.parametrize("begin", [900, 1100])
async def test_another_part_of_the_right_length_is_not_joined(begin: int) -> None:
    """Where the index stands in front, only the place that the host names tells that the bytes are not the rest."""
    front = WHOLE[:24] + box(b"moov", box(b"mvhd", bytes(100))) + box(b"mdat", random.Random(3).randbytes(4000))
    wrong = ScriptedDownload(
        206,
        {"content-range": f"bytes {begin}-{begin + len(front) - 1001}/{len(front)}"},
        [bytes(len(front) - 1000)],
    )
    downloads = [cut(front[:1000], len(front), etag='"v1"'), wrong, whole(front)]
    store = MemoryStore()
    await downloader(ScriptedTransport(downloads=downloads), store).fetch(parcel())
    assert store.videos["a.mp4"] == front


@pytest.mark.parametrize(
    "told",
    [
        {"etag": '"v2"'},
        {"etag": 'W/"v1"'},
        {"etag": '"v1"', "content-range": "bytes 1000-4163/5164"},
        {"etag": '"v1"', "content-encoding": "gzip"},
    ],
    ids=["another mark", "a weak mark", "another length", "packed"],
)
async def test_the_rest_of_another_file_is_not_joined(told: Mapping[str, str]) -> None:
    """A host that does not heed If-Range sends the rest of what it has by now; its boxes may fit all the same."""
    front, other = (box(b"ftyp", b"isom") + box(b"moov", b"") + clip(n)[24:4032] for n in (1, 2))
    span = {"content-range": f"bytes 1000-{len(front) - 1}/{len(front)}", **told}
    second = ScriptedDownload(206, span, [other[1000:]])
    transport = ScriptedTransport(downloads=[cut(front[:1000], len(front), etag='"v1"'), second, whole(front)])
    store = MemoryStore()
    await downloader(transport, store).fetch(parcel())
    assert store.videos["a.mp4"] == front
    assert [headers.get("Range") for _, headers in transport.fetched] == [None, "bytes=1000-", None]


@pytest.mark.parametrize("told", [{"etag": '"\udcff"'}, {"etag": '"v1"', "content-encoding": "gzip"}])
async def test_a_mark_that_cannot_be_used_is_none(told: Mapping[str, str]) -> None:
    """One that cannot be sent back; and that of packed bytes, whose place in the file nobody knows."""
    transport, store = ScriptedTransport(downloads=[cut(WHOLE[:1000], len(WHOLE), **told), whole()]), MemoryStore()
    await downloader(transport, store).fetch(parcel())
    assert [headers for _, headers in transport.fetched] == [{}, {}]
    assert store.videos["a.mp4"] == WHOLE


async def test_a_whole_answer_to_the_question_for_the_rest_replaces_what_came() -> None:
    """The file was made anew meanwhile: nothing of the old one stays."""
    other = clip(2, 5000)
    first = cut(WHOLE[:3000], len(WHOLE), etag='"v1"')
    transport, store = ScriptedTransport(downloads=[first, whole(other, etag='"v2"')]), MemoryStore()
    file = await downloader(transport, store).fetch(parcel())
    assert store.videos["a.mp4"] == other
    assert file.sha256 == hashlib.sha256(other).hexdigest()


async def test_two_cuts_go_on_from_the_second() -> None:
    """A resumed answer that is cut keeps what it brought."""
    again = rest(WHOLE[1000:2500], 1000, len(WHOLE))
    again.content = [WHOLE[1000:2500], AnswerLost("again")]
    downloads = (cut(WHOLE[:1000], len(WHOLE), etag='"v1"'), again, rest(WHOLE[2500:], 2500, "*"))
    transport, store = ScriptedTransport(downloads=downloads), MemoryStore()
    await downloader(transport, store).fetch(parcel())
    assert transport.fetched[-1][1]["Range"] == "bytes=2500-"
    assert store.videos["a.mp4"] == WHOLE


async def test_a_refused_link_is_changed_for_a_fresh_one() -> None:
    """The next try goes to the link that the service gives now, each time anew."""
    downloads = [ScriptedDownload(403, {}, []), ScriptedDownload(410, {}, []), whole()]
    transport = ScriptedTransport(downloads=downloads)
    await downloader(transport, MemoryStore()).fetch(parcel())
    assert [url.rpartition("=")[2] for url, _ in transport.fetched] == ["1", "2", "3"]


async def test_an_error_of_the_service_about_a_fresh_link_comes_out() -> None:
    """The video is made; its row or its caller hears why there is no link."""

    async def fresh() -> RemoteVideo:
        raise DownloadError("the service gives no link", generation_id="gen-1")

    transport = ScriptedTransport(downloads=[ScriptedDownload(403, {}, [])])
    with pytest.raises(DownloadError, match="gives no link"):
        await downloader(transport, MemoryStore()).fetch(parcel(fresh_link=fresh))


@pytest.mark.parametrize("told", [True, False])
async def test_a_file_beyond_the_limit_is_not_taken(*, told: bool) -> None:
    """Whether it is announced or comes in silence; nothing of it stays."""
    big = ScriptedDownload(200, {"content-length": str(len(WHOLE))} if told else {}, [WHOLE])
    transport, store = ScriptedTransport(downloads=[big] * 3), MemoryStore()
    with pytest.raises(TooLarge, match=r"bytes"):
        await downloader(transport, store, max_video_bytes=len(WHOLE) - 1, download_attempts=3).fetch(parcel())
    assert store.videos == {}


async def test_another_size_than_the_service_announced_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """It was paid for and is whole: one warning, and the file."""
    store, video = MemoryStore(), RemoteVideo(URL, file_size=17)
    await downloader(ScriptedTransport(downloads=[whole()]), store).fetch(parcel(video=video))
    assert store.videos["a.mp4"] == WHOLE
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"a.mp4 has {len(WHOLE)} bytes, 17 were announced: kept"
    ]


async def test_links_are_secrets_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """No query of one stands in any line, whatever happens."""
    caplog.set_level("DEBUG")
    downloads: list[ScriptedDownload | KlingError] = [
        NotSent("no"),
        ScriptedDownload(403, {}, []),
        cut(WHOLE[:10], 9),
        whole(),
    ]
    await downloader(ScriptedTransport(downloads=downloads), MemoryStore()).fetch(parcel())
    assert "sig=" not in caplog.text


# ------------------------------------------------- one block comes, one is written

BLOCKS = 6
LARGE = clip(4, BLOCKS * BLOCK)


@define
class Slow:
    """A host's answer, one piece a second, and a disk that takes a block in a second."""

    content: Sequence[bytes | Exception]
    disk: Exception | None = None
    """What the disk refuses its second block by."""
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    came: int = 0
    written: int = 0
    most: int = 0
    """Bytes that came and were not yet written, at the most."""
    store: Any = None
    writes_take: float = 1.0

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self.content:
            await asyncio.sleep(1.0)
            if isinstance(piece, Exception):
                raise piece
            self.came += len(piece)
            self.most = max(self.most, self.came - self.written)
            yield piece

    async def write(self, pieces: Sequence[bytes]) -> None:
        await asyncio.sleep(self.writes_take)
        if self.disk is not None and self.written:
            raise self.disk
        await self.store.write(pieces)
        self.written += sum(map(len, pieces))

    def sha256(self) -> str:
        return str(self.store.sha256())

    async def restart(self) -> None:
        await self.store.restart()


class Silent(Slow):
    """A host that falls silent at the end."""

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in super().pieces():
            yield piece
        await asyncio.sleep(3600)


@asynccontextmanager
async def slowly(content: Sequence[bytes | Exception], disk: Exception | None = None) -> AsyncIterator[Any]:
    async with MemoryStore().stage("a.mp4") as staged:
        slow = Slow(content, disk, store=staged)
        yield slow, Transfer(slow, 1 << 40)  # type: ignore[arg-type]  # it is not committed


def halves(content: bytes, size: int = BLOCK // 2) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


async def test_the_next_block_comes_in_while_one_is_written() -> None:
    """The time of the writes lies within that of the receiving: only the last one is waited for."""
    async with slowly(halves(LARGE)) as (slow, transfer):
        began = now()
        await transfer.take(slow)
        assert now() - began == len(halves(LARGE)) + 1.0
        assert (await transfer.finish()).sha256 == hashlib.sha256(LARGE).hexdigest()


async def test_a_disk_that_is_slower_is_waited_for_with_two_blocks_in_memory() -> None:
    """What comes faster than it can be written stays with the host."""
    async with slowly(halves(LARGE, BLOCK)) as (slow, transfer):
        slow.writes_take = 30.0
        await transfer.take(slow)
        assert transfer.got == len(LARGE)
        assert slow.most <= 2 * BLOCK


async def test_a_cut_while_a_block_is_written_keeps_all_that_came() -> None:
    """The block under way, and the part of the next one."""
    async with slowly([*halves(LARGE)[:3], AnswerLost("cut")]) as (slow, transfer):
        with pytest.raises(AnswerLost, match="cut"):
            await transfer.take(slow)
        assert transfer.got == slow.written == 3 * BLOCK // 2
        assert slow.sha256() == hashlib.sha256(LARGE[: 3 * BLOCK // 2]).hexdigest()


@pytest.mark.parametrize("error", [DiskFull("no room"), DownloadError("refused"), ZeroDivisionError("a fault")])
async def test_a_block_that_is_refused_ends_the_receiving_at_once(error: Exception) -> None:
    """However long the host would be silent; what is told is the disk's own error, and what was written is known."""
    async with slowly([]) as (slow, transfer):
        slow.disk = error
        began = now()
        with pytest.raises(type(error)) as raised:
            await transfer.take(Silent(halves(LARGE)[:4]))
        assert raised.value is error
        assert now() - began == 5.0
        assert transfer.got == slow.written == BLOCK


@pytest.mark.parametrize("turns", range(8))
async def test_who_is_cancelled_as_a_block_is_refused_is_cancelled(turns: int) -> None:
    """Some turns of the loop sooner or later: the disk's error never takes the place of a cancellation."""
    async with slowly([]) as (slow, transfer):
        slow.disk = DiskFull("no room")
        taking = asyncio.create_task(transfer.take(Silent(halves(LARGE)[:4])))
        await asyncio.sleep(5.0)
        for _ in range(turns):
            await asyncio.sleep(0)
        in_time = taking.cancel()
        await asyncio.wait([taking])
        assert taking.cancelled() == in_time
        assert in_time or isinstance(taking.exception(), DiskFull)


async def test_an_error_that_nobody_foresaw_comes_out_as_it_is() -> None:
    """It is not wrapped with others."""
    async with slowly([*halves(LARGE)[:3], ZeroDivisionError("a fault")]) as (slow, transfer):
        with pytest.raises(ZeroDivisionError, match="a fault"):
            await transfer.take(slow)
        assert transfer.got == BLOCK


# -------------------------------------------------------------------- a full disk


@define
class FullStaged:
    """A staged video whose disk is full now and then."""

    _staged: MemoryStagedVideo
    _room: Callable[[str], None]

    @property
    def size(self) -> int:
        return self._staged.size

    async def write(self, pieces: Sequence[bytes]) -> None:
        self._room("write")
        await self._staged.write(pieces)

    def sha256(self) -> str:
        return self._staged.sha256()

    async def restart(self) -> None:
        await self._staged.restart()

    async def commit(self) -> Path:
        self._room("commit")
        return await self._staged.commit()


class FullStore(MemoryStore):
    """A store whose disk has no room at one of its doors, the first few times."""

    def __init__(self, door: str, times: int) -> None:
        super().__init__()
        self._door, self.left = door, times

    def _room(self, door: str) -> None:
        if door == self._door and self.left:
            self.left -= 1
            raise DiskFull("there is no room")

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[Any]:
        self._room("stage")
        async with super().stage(name) as staged:
            yield FullStaged(staged, self._room)


@pytest.mark.parametrize("door", ["stage", "write", "commit"])
async def test_a_batch_waits_for_room(door: str) -> None:
    """However often the disk is full, and wherever: no try is counted, and the file is whole in the end."""
    transport, store = ScriptedTransport(downloads=[whole()] * 20), FullStore(door, 10)
    began = now()
    file = await downloader(transport, store, wait=True, download_attempts=2).fetch(parcel())
    assert now() - began >= 100
    assert store.videos == {"a.mp4": WHOLE}
    assert file.sha256 == hashlib.sha256(WHOLE).hexdigest()


@pytest.mark.parametrize("door", ["stage", "write", "commit"])
async def test_a_client_hears_of_a_full_disk_at_once(door: str) -> None:
    """With the generation, to go on by its id."""
    transport, store = ScriptedTransport(downloads=[whole()] * 3), FullStore(door, 1)
    began = now()
    with pytest.raises(DiskFull) as raised:
        await downloader(transport, store).fetch(parcel())
    assert raised.value.generation_id == "gen-1"
    assert now() == began
    assert store.videos == {}


async def test_a_full_disk_fails_no_row_of_a_batch(tmp_path: Path) -> None:
    """Rows wait while there is no room; when there is some, all end DONE."""
    async with world(tmp_path) as w, w.batch() as batch:
        store = FullStore("write", 12)
        batch._crew.downloader._store = store
        outcomes = await outcomes_of(batch, requests(3))
        assert {outcome.stage for outcome in outcomes.values()} == {Stage.DONE}
        assert len(store.videos) == 3
        assert len(w.book.bought()) == 3
