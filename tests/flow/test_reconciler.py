"""Lost submits found again in the usage log: by one read for all, on every page, and never called unfound too soon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, frozen

from kling_async import KlingError
from kling_async.adapters.images import LocalImages
from kling_async.flow.background import Background
from kling_async.flow.reconciler import SKEW, Finding, Found, Reconciler
from kling_async.flow.service import Service
from kling_async.simulator import Fault, FaultPlan
from kling_async.testing import ScriptedTransport
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.settings import ServiceSettings
from tests.flow.harness import START, requests, world

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


@frozen
class Row:
    """One row of the log."""

    name: str | None
    created: float = START
    generation_id: str | None = "gen"
    status: str = "succeeded"
    listed_from: float = 0.0


@define
class Read:
    """One page that was asked for."""

    start: float
    end: float
    offset: int
    at: float


class Log(ScriptedTransport):
    """A usage log of its rows, newest first."""

    def __init__(self, *rows: Row, latency: float = 0.0) -> None:
        super().__init__()
        self.rows = list(rows)
        self.reads: list[Read] = []
        self.broken: Callable[[Read], bool] = lambda _read: False
        self.full: Callable[[Read], bool] = lambda _read: False
        self.retry_after: str | None = None
        self.polls: list[HttpReply] = []
        self.polled = 0
        self._latency = latency

    async def send(self, call: HttpCall) -> HttpReply:
        query = dict(call.query)
        if "generation_id" in query:
            self.polled += 1
            return self.polls[min(self.polled, len(self.polls)) - 1]
        start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("start", "end"))
        read = Read(start, end, int(query["offset"]), now())
        self.reads.append(read)
        listed = [row for row in self.rows if row.listed_from <= now() and start <= row.created <= end]
        if self._latency:
            await asyncio.sleep(self._latency)
        if self.broken(read):
            return HttpReply(500, {}, b"{}")
        if self.full(read):
            return HttpReply(429, {} if self.retry_after is None else {"retry-after": self.retry_after}, b"{}")
        page = sorted(listed, key=lambda row: -row.created)[read.offset : read.offset + int(query["limit"])]
        data = [
            {"client_request_id": row.name, "inference_id": row.generation_id, "status": row.status, "model": "m"}
            for row in page
        ]
        more = read.offset + len(page) < len(listed)
        return HttpReply(200, {}, json.dumps({"data": data, "pagination": {"has_more": more}}).encode())


@asynccontextmanager
async def reading(log: Log, heard: list[Any] | None = None) -> AsyncIterator[Reconciler]:
    """Open a reconciler over a log; what it hears is noted, None for a usable answer, "read" for a whole read."""
    background, images = Background(), LocalImages()
    said: list[Any] = [] if heard is None else heard
    try:
        service = Service(log, images, ServiceSettings())
        yield Reconciler(service, background, heard=said.append, read=lambda: said.append("read"))
    finally:
        await background.aclose()
        await images.aclose()


def crowd(count: int, created: float = START) -> list[Row]:
    """Return rows of others, newer than the one that is looked for."""
    return [Row(f"other{i}", created + 1 + i / 1000) for i in range(count)]


async def test_one_look_tells_what_the_log_says() -> None:
    """Bought, with the generation; failed, and so free; or not listed. Rows without an id of ours are passed over."""
    failed = Row("failed", generation_id=None, status="failed")
    log = Log(Row("bought", generation_id="gen-1"), failed, Row(None), Row("", status="failed"))
    async with reading(log) as reconciler:
        found = [await reconciler.find(name, sent_at=START, timeout=0) for name in ("bought", "failed", "unknown")]
    assert found == [Found(Finding.BOUGHT, "gen-1"), Found(Finding.NOT_BOUGHT), Found(Finding.NOT_LISTED)]


async def test_a_row_that_names_no_generation_is_not_found_yet() -> None:
    """It was accepted, perhaps: it is neither bought nor unlisted, and is waited for."""
    log = Log(Row("lost", generation_id=None))
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.NOT_ASKED
        log.rows.append(Row("lost", START + 1, "gen-1", listed_from=now() + 50))
        assert await reconciler.find("lost", sent_at=START, timeout=100) == Found(Finding.BOUGHT, "gen-1")


@pytest.mark.parametrize("place", [0, 99, 100, 250, 399])
async def test_it_is_found_on_whatever_page(place: int) -> None:
    """Each page is read once, in order, and none after the one that has it."""
    others = crowd(400)
    lost = Row("lost", others[-1].created - place / 1000 + 0.0005)
    log = Log(*others, lost)
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.BOUGHT
    assert [read.offset for read in log.reads] == list(range(0, place + 1, 100))


async def test_the_log_is_read_around_the_post() -> None:
    """A quarter of an hour to each side, against clocks that differ; further back only where that is asked for."""
    log = Log(Row("early", START - SKEW + 1), Row("late", START + SKEW - 1), Row("old", START - 6 * 86_400))
    async with reading(log) as reconciler:
        for name in ("early", "late"):
            assert (await reconciler.find(name, sent_at=START, timeout=0)).finding is Finding.BOUGHT
        assert (await reconciler.find("old", sent_at=START, timeout=0)).finding is Finding.NOT_LISTED
        assert (await reconciler.find("old", sent_at=START, timeout=0, look_back=7 * 86_400)).finding is Finding.BOUGHT
    assert (log.reads[0].start, log.reads[0].end) == (START - SKEW, START + SKEW)


async def test_one_read_serves_all_who_look() -> None:
    """Fifty at once, of an hour: one read that spans them all."""
    rows = [Row(f"lost{i}", START + 60 * i, f"gen{i}") for i in range(50)]
    log = Log(*rows)
    async with reading(log) as reconciler:
        looks = [reconciler.find(f"lost{i}", sent_at=START + 60 * i, timeout=0) for i in range(50)]
        found = await asyncio.gather(*looks)
    assert [one.generation_id for one in found] == [f"gen{i}" for i in range(50)]
    assert len(log.reads) == 1
    assert (log.reads[0].start, log.reads[0].end) == (START - SKEW, START + 60 * 49 + SKEW)


async def test_those_who_look_for_one_post_share_its_answer() -> None:
    """Nobody's giving up takes it from the others."""
    log = Log(Row("lost", listed_from=60.0))
    async with reading(log) as reconciler:
        looks = [asyncio.ensure_future(reconciler.find("lost", sent_at=START, timeout=500)) for _ in range(3)]
        await asyncio.sleep(10)
        looks[0].cancel()
        found = await asyncio.gather(*looks[1:])
    assert looks[0].cancelled()
    assert {one.finding for one in found} == {Finding.BOUGHT}


async def test_it_is_looked_for_until_it_is_listed() -> None:
    """At growing intervals, a minute at the most, and found within one of them."""
    log = Log(Row("lost", listed_from=1000.0))
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=4500)).finding is Finding.BOUGHT
    assert 1000 <= now() <= 1061
    pauses = [round(later.at - earlier.at, 3) for earlier, later in zip(log.reads, log.reads[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(60, abs=1)
    assert len(log.reads) < 30


async def test_unfound_is_said_after_a_whole_read_that_began_when_the_time_was_over() -> None:
    """What is listed in the last moment is found; what is listed later was looked for until then."""
    log = Log(Row("lost", listed_from=300.0))
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=300)).finding is Finding.BOUGHT
        began = now()
        assert (await reconciler.find("never", sent_at=START, timeout=300)).finding is Finding.NOT_LISTED
        assert log.reads[-1].at >= began + 300


async def test_a_read_that_is_under_way_is_not_taken_for_a_fresh_one() -> None:
    """A look that begins amid a slow read gets the next one: the row may stand on a page that was read already."""
    log = Log(latency=10.0)
    async with reading(log) as reconciler:
        first = asyncio.ensure_future(reconciler.find("other", sent_at=START, timeout=0))
        await asyncio.sleep(5)
        log.rows.append(Row("lost"))
        found = await reconciler.find("lost", sent_at=START, timeout=0)
        await first
    assert found.finding is Finding.BOUGHT
    assert len(log.reads) == 2


async def test_a_log_that_cannot_be_read_is_not_asked() -> None:
    """That is another answer than "not listed": nothing may be bought again on it."""
    log, heard = Log(), []  # type: ignore[var-annotated]
    log.broken = lambda _read: True
    async with reading(log, heard) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.NOT_ASKED
        assert len(log.reads) == 4
        assert (await reconciler.find("lost", sent_at=START, timeout=600)).finding is Finding.NOT_ASKED
    assert all(isinstance(one, KlingError) for one in heard)


async def test_a_log_that_fails_at_the_end_is_not_asked() -> None:
    """Though it was read whole before."""
    log = Log()
    log.broken = lambda read: read.at > 250
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=300)).finding is Finding.NOT_ASKED


async def test_a_failed_page_is_asked_for_again_and_the_others_are_not() -> None:
    """A long log is not begun anew for one bad answer."""
    log, heard = Log(*crowd(250), Row("lost")), []  # type: ignore[var-annotated]
    log.broken = lambda read: sum(other.offset == read.offset for other in log.reads) < 3
    async with reading(log, heard) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.BOUGHT
    assert [read.offset for read in log.reads] == [0, 0, 0, 100, 100, 100, 200, 200, 200]
    assert [one is None for one in heard[:-1]] == [False, False, True] * 3
    assert heard[-1] == "read"


async def test_a_whole_read_is_told_once() -> None:
    """Submits that wait for the log go on then; a read that broke off is none."""
    log, heard = Log(*crowd(150)), []  # type: ignore[var-annotated]
    async with reading(log, heard) as reconciler:
        await reconciler.find("lost", sent_at=START, timeout=0)
        assert heard == [None, None, "read"]
        log.broken = lambda read: read.offset > 0
        await reconciler.find("lost", sent_at=START, timeout=0)
    assert heard.count("read") == 1


async def test_pages_without_end_are_left() -> None:
    """A log that says for ever that more follows ends at its first empty page."""

    class Endless(Log):
        async def send(self, call: HttpCall) -> HttpReply:
            reply = await super().send(call)
            document = json.loads(reply.body)
            return HttpReply(200, {}, json.dumps({**document, "pagination": {"has_more": True}}).encode())

    log = Endless(*crowd(120))
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.NOT_LISTED
    assert [read.offset for read in log.reads] == [0, 100, 120]


async def test_rows_that_come_while_it_is_read_hide_nothing() -> None:
    """They push the older ones on to the next page, where they are read."""

    class Growing(Log):
        async def send(self, call: HttpCall) -> HttpReply:
            reply = await super().send(call)
            self.rows += crowd(30, START + 10 * len(self.reads))
            return reply

    log = Growing(*crowd(150), Row("lost"))
    async with reading(log) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.BOUGHT


async def test_a_cancelled_look_is_forgotten() -> None:
    """The log is asked no more for nobody, and a later look works."""
    log = Log(Row("lost", listed_from=5000.0))
    async with reading(log) as reconciler:
        look = asyncio.ensure_future(reconciler.find("lost", sent_at=START, timeout=4500))
        await asyncio.sleep(100)
        look.cancel()
        await asyncio.wait({look})
        assert reconciler._searches == {}
        await asyncio.sleep(100)
        reads = len(log.reads)
        await asyncio.sleep(10_000)
        assert len(log.reads) == reads
        assert (await reconciler.find("lost", sent_at=START, timeout=100)).finding is Finding.BOUGHT


async def test_many_first_lookers_start_one_reading() -> None:
    """Whoever comes first begins it for all."""
    log = Log(*(Row(f"lost{i}", listed_from=100.0) for i in range(20)))
    async with reading(log) as reconciler:
        await asyncio.gather(*(reconciler.find(f"lost{i}", sent_at=START, timeout=500) for i in range(20)))
    alone = Log(Row("lost0", listed_from=100.0))
    async with reading(alone) as reconciler:
        alone.rows[0] = Row("lost0", listed_from=now() + 100)
        await reconciler.find("lost0", sent_at=START, timeout=500)
    assert len(log.reads) == len(alone.reads)


async def test_closing_tells_those_who_look() -> None:
    """Nobody is left hanging."""
    async with reading(Log()) as reconciler:
        look = asyncio.ensure_future(reconciler.find("lost", sent_at=START, timeout=4500))
        await asyncio.sleep(10)
    with pytest.raises((RuntimeError, KlingError)):
        await asyncio.wait_for(look, 1)


@pytest.mark.parametrize("listing", ["acceptance", "end", "late"])
async def test_the_simulated_log_is_read_to_the_right_row(tmp_path: Path, listing: str) -> None:
    """Among 300 submits of the same minute, over sockets: each lost one is found under its own generation."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(50, 150, 250)))
    async with world(tmp_path, plan, log_listing=listing) as w, w.client(max_in_flight=300) as client:
        generations = await asyncio.gather(*map(client.submit, requests(300)))
        bought = {purchase.prompt: purchase.generation_id for purchase in w.book.bought()}
        assert [generation.id for generation in generations] == [bought[f"prompt {i}"] for i in range(300)]
        assert len(bought) == len(w.book.bought()) == 300


def asked_too_often(log: Log, read: Read) -> bool:
    """Tell whether the log was asked more than 200 times within the last 60 s."""
    return sum(other.at > read.at - 60 for other in log.reads[-201:]) > 200


async def test_a_long_log_is_read_at_the_pace_that_it_permits() -> None:
    """25,000 requests of a week, newest first: one read, in a minute and a half, without a refusal."""
    log = Log(*crowd(25_000), Row("lost", START - 100))
    log.full = lambda read: asked_too_often(log, read)
    async with reading(log) as reconciler:
        found = await reconciler.find("lost", sent_at=START + 1000, timeout=0, look_back=7 * 86_400)
    assert found == Found(Finding.BOUGHT, "gen")
    assert [read.offset for read in log.reads] == list(range(0, 25_001, 100))
    assert 60 < now() < 100


@pytest.mark.parametrize(("retry_after", "least"), [("40", 40), (None, 5), ("86400", 300)])
async def test_a_log_that_is_asked_too_often_is_left_alone_for_as_long_as_it_says(
    retry_after: str | None, least: float
) -> None:
    """Up to a cap; then the read goes on from the same page. It is an answer, and no trouble."""
    log, heard = Log(*crowd(250), Row("lost")), []  # type: ignore[var-annotated]
    log.retry_after = retry_after
    log.full = lambda read: read.offset == 200 and sum(other.offset == 200 for other in log.reads) < 2
    async with reading(log, heard) as reconciler:
        assert (await reconciler.find("lost", sent_at=START, timeout=0)).finding is Finding.BOUGHT
    assert [read.offset for read in log.reads] == [0, 100, 200, 200]
    assert least <= log.reads[3].at - log.reads[2].at <= least + 1
    assert heard == [None] * 4 + ["read"]


async def test_a_read_that_broke_off_goes_on_where_it_was() -> None:
    """While there is time; what tells that it is not listed is a whole read that begins anew."""
    log = Log(*crowd(1000))
    log.broken = lambda read: read.offset == 500 and read.at < 100
    async with reading(log) as reconciler:
        look = asyncio.ensure_future(reconciler.find("lost", sent_at=START, timeout=300))
        await asyncio.sleep(99)
        broken = [read.offset for read in log.reads]
        assert broken[:9] == [0, 100, 200, 300, 400, 500, 500, 500, 500]
        assert broken.count(0) == 1
        assert broken[9] == 400, "one page is read twice, in case the order of its rows changed"
        assert (await look).finding is Finding.NOT_LISTED
    last = [read for read in log.reads if read.at >= 300]
    assert [read.offset for read in last][-10:] == list(range(0, 1000, 100))


COMPLETED = HttpReply(200, {}, b'{"id": "gen-1", "status": "completed", "video": {"url": "https://cdn.example/v.mp4"}}')
GENERATING = HttpReply(200, {}, b'{"id": "gen-1", "status": "generating"}')
ENDED = HttpReply(200, {}, b'{"id": "gen-1", "status": "error", "error": {"message": "no"}}')
UNRESOLVED = HttpReply(200, {}, b'{"id": "", "status": "unknown", "error": {"message": "not now"}}')
MISSING = HttpReply(404, {}, b'{"statusCode": 404, "message": "Inference not found"}')
BROKEN = HttpReply(500, {}, b"{}")


@pytest.mark.parametrize(
    ("polls", "finding", "polled"),
    [
        ([COMPLETED], Finding.BOUGHT, 1),
        ([GENERATING], Finding.BOUGHT, 1),
        ([ENDED], Finding.NOT_BOUGHT, 1),
        ([MISSING, ENDED], Finding.NOT_BOUGHT, 2),
        ([MISSING, COMPLETED], Finding.BOUGHT, 2),
        ([MISSING], Finding.NOT_BOUGHT, 4),
        ([BROKEN, BROKEN, MISSING], Finding.BOUGHT, 4),
        ([UNRESOLVED], Finding.BOUGHT, 4),
        ([BROKEN], Finding.BOUGHT, 4),
    ],
)
async def test_what_the_log_lists_as_failed_under_an_id_is_asked_for(
    polls: list[HttpReply], finding: Finding, polled: int
) -> None:
    """It is not bought where polls say that it failed, or deny it again and again; in doubt it is taken over."""
    log = Log(Row("lost", generation_id="gen-1", status="failed"))
    log.polls = polls
    async with reading(log) as reconciler:
        found = await reconciler.find("lost", sent_at=START, timeout=0)
    assert (found.finding, log.polled) == (finding, polled)
    assert found.generation_id == ("gen-1" if finding is Finding.BOUGHT else None)
