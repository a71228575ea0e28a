"""A client that keeps a journal: known to the next process, bought once whatever dies, told rightly to the end.

A crash is a copy of the journal and of the folder, taken while a call of a door hangs; the next client begins from it.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from attrs import evolve, field, frozen

from kling_async import (
    AnswerLost,
    BudgetExceeded,
    ConfigurationError,
    GenerationFailed,
    GenerationOverdue,
    GenerationStatus,
    ImageToVideo,
    InvalidRequest,
    JournalLocked,
    KlingClient,
    KlingError,
    OutOfCredit,
    RequestChanged,
    ServiceUnavailable,
    open_batch,
)
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.flow.journaled import JournaledClient
from kling_async.simulator import Fault, FaultPlan
from kling_async.testing import MemoryJournal
from kling_async.types.record import Record, Stage
from tests.adapters.conftest import CancelEverywhere
from tests.adapters.conftest import cancel_everywhere as _cancel_everywhere
from tests.flow.harness import IMAGE_URL, PNG, World, found_in, read, requests, world
from tests.flow.hinges import Door, Hinge, Moment, hinged_client, left_where_it_hangs
from tests.flow.strikes import Account, Striker
from tests.flow.test_awaits import FLOW, JOURNALED, START

pytestmark = pytest.mark.looptime

cancel_everywhere = _cancel_everywhere

DB = "bought.db"
MANY = 400
"""More calls than any scenario makes."""
ROW = ImageToVideo(IMAGE_URL, "a cat", key="cat")
PRICE = 520_000
"""Credits of one video of 5 s."""


def now() -> float:
    return asyncio.get_running_loop().time()


def keeping(w: World, **flags: Any) -> KlingClient:
    """A client that keeps the journal of the world's folder."""
    return w.client(**{"journal": w.folder / DB, **flags})


async def rows_of(journal: Path) -> dict[str, Record]:
    """Return what a journal says, read beside any client."""
    book = SqliteJournal(journal, lock=False)
    await book.open()
    try:
        return {record.key: record for _, record in await book.rows(after=0, limit=1000)}
    finally:
        await book.aclose()


async def row_of(w: World, key: str = "cat") -> Record:
    return (await rows_of(w.folder / DB))[key]


async def tally_of(w: World) -> tuple[int, int]:
    """Return what a journal says is spent and held, in credits."""
    book = SqliteJournal(w.folder / DB, lock=False)
    await book.open()
    try:
        tally = await book.tally()
        return tally.spent, tally.held
    finally:
        await book.aclose()


async def off_loop(work: Any, *values: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, partial(work, *values))


async def is_whole(w: World, path: Path) -> bool:
    (purchase,) = w.book.paid()
    return await read(path) == await w.simulator.served_bytes(purchase.generation_id)


# ------------------------------------------------------------------- the good way


async def test_what_is_bought_is_written_down_to_its_end(tmp_path: Path) -> None:
    """Stage by stage, with the generation, what was charged, and the digest of the file."""
    async with world(tmp_path, durations=50.0) as w, keeping(w) as client:
        generation = await client.submit(ROW)
        row = await row_of(w)
        assert (row.stage, row.generation_id, row.credits) == (Stage.SUBMITTED, generation.id, PRICE)
        assert row.client_request_id == generation.client_request_id
        assert await tally_of(w) == (0, PRICE)
        finished = await client.wait(generation)
        assert (await row_of(w)).stage is Stage.RENDERED
        assert await tally_of(w) == (PRICE, 0)
        file = await client.download(finished, tmp_path / "a.mp4")
        row = await row_of(w)
        assert (row.stage, row.size, row.sha256) == (Stage.DONE, file.size, file.sha256)
        assert await is_whole(w, file.path)


STEPS = (
    *("enrol", "intend", "submit", "save submitted", "save rendered", "write", "save rendered", "commit", "save done"),
)
"""What is written, and when. Saved twice as RENDERED: with its end, and with its digest."""
READS = re.compile("price|poll|read .*|note price.*|unfinished|get|raise_price|stage|fetch|pieces|fill_price")


async def test_each_write_comes_before_what_depends_on_it(tmp_path: Path) -> None:
    """The intent before the POST, the id before anything else, the digest before the name, the end after it."""
    async with world(tmp_path) as w:
        client, hinge = keeping(w), Hinge(0, "before")
        hinged(client, hinge)
        async with client:
            await client.generate(ROW, tmp_path / "a.mp4")
    written = [name for name in hinge.heard if not READS.fullmatch(name)]
    # A probe of the place, and the journal's look at the request, come twice before anything is bought.
    assert tuple(name for name, _ in itertools.groupby(written)) == STEPS


async def test_many_at_once(tmp_path: Path) -> None:
    """Forty callers of one client, each with a row of its own."""
    async with world(tmp_path) as w, keeping(w) as client:
        await asyncio.gather(*(client.generate(row, tmp_path / f"{row.key}.mp4") for row in requests(40)))
        assert (len(w.book.bought()), w.book.duplicates()) == (40, [])
        rows = await rows_of(tmp_path / DB)
        assert {row.stage for row in rows.values()} == {Stage.DONE}
        assert {row.generation_id for row in rows.values()} == {one.generation_id for one in w.book.paid()}


# ------------------------------------------------------------------- known already


@pytest.mark.parametrize("stage", [Stage.SUBMITTED, Stage.RENDERED, Stage.DONE])
async def test_a_known_key_buys_nothing_again(tmp_path: Path, stage: Stage) -> None:
    """In another process, too: the generation is asked for, once, and returned as it stands."""
    async with world(tmp_path, durations=100.0) as w:
        async with keeping(w) as client:
            generation = await client.submit(ROW)
            if stage is not Stage.SUBMITTED:
                await client.wait(generation)
            if stage is Stage.DONE:
                await client.download(generation, tmp_path / "a.mp4")
        assert (await row_of(w)).stage is stage
        polls = w.book.calls["poll"]
        async with keeping(w) as client:
            again = await client.submit(ROW)
            assert (again.id, w.book.calls["submit"], w.book.calls["poll"]) == (generation.id, 1, polls + 1)
            done = stage is not Stage.SUBMITTED
            assert again.status is (GenerationStatus.COMPLETED if done else GenerationStatus.RUNNING)
            assert (await client.generate(ROW, tmp_path / "b.mp4")).generation_id == generation.id
        assert (await row_of(w)).stage is Stage.DONE
        assert len(w.book.bought()) == 1


async def test_a_known_generation_that_cannot_be_asked_for_is_returned_all_the_same(tmp_path: Path) -> None:
    """How it stands is not known; it is waited for like any other."""
    async with world(tmp_path, durations=30.0) as w, keeping(w) as client:
        generation = await client.submit(ROW)
        w.simulator.faults = FaultPlan.of(Fault("poll", "500", at=(1,)))
        again = await client.submit(ROW)
        assert (again.id, again.status) == (generation.id, GenerationStatus.UNKNOWN)
        assert (await client.wait(again)).video is not None


async def test_a_video_that_is_there_is_not_asked_for(tmp_path: Path) -> None:
    """The file is told as it was; also where the image is gone meanwhile."""
    image = tmp_path / "in.png"
    await off_loop(image.write_bytes, PNG)
    request = ImageToVideo(image, "a cat")
    async with world(tmp_path) as w:
        async with keeping(w) as client:
            first = await client.generate(request, tmp_path / "a.mp4")
        await off_loop(image.unlink)
        calls = dict(w.book.calls)
        async with keeping(w) as client:
            assert await client.generate(request, tmp_path / "a.mp4") == first
        assert dict(w.book.calls) == calls


@pytest.mark.parametrize("change", ["gone", "changed", "another place"])
async def test_a_video_that_is_not_there_is_fetched_again_and_not_bought(tmp_path: Path, change: str) -> None:
    """By its generation."""
    path = tmp_path / "a.mp4"
    async with world(tmp_path) as w, keeping(w) as client:
        first = await client.generate(ROW, path)
        if change == "gone":
            await off_loop(path.unlink)
        elif change == "changed":
            await off_loop(path.write_bytes, b"another file")
        else:
            path = tmp_path / "b.mp4"
        second = await client.generate(ROW, path)
        assert (second.sha256, second.generation_id) == (first.sha256, first.generation_id)
        assert await is_whole(w, path)
        assert (w.book.calls["submit"], w.book.calls["download"]) == (1, 2)


async def test_a_row_that_failed_is_free_to_be_bought(tmp_path: Path) -> None:
    """Its end is written, with the reason; the next try is another generation."""
    plan = FaultPlan.of(Fault("job", "error_named", at=(1,)))
    async with world(tmp_path, plan) as w, keeping(w) as client:
        with pytest.raises(GenerationFailed):
            await client.generate(ROW, tmp_path / "a.mp4")
        row = await row_of(w)
        assert (row.stage, row.credits) == (Stage.FAILED, None)
        assert row.trouble is not None
        assert row.trouble.kind == "GenerationFailed"
        await client.generate(ROW, tmp_path / "a.mp4")
        assert ((await row_of(w)).stage, len(w.book.paid())) == (Stage.DONE, 1)
        assert await is_whole(w, tmp_path / "a.mp4")


async def test_a_generation_that_failed_meanwhile_is_written_down_by_whoever_asks(tmp_path: Path) -> None:
    """A submit of its key asks, and returns it; the one after that buys."""
    plan = FaultPlan.of(Fault("job", "error_named", at=(1,)))
    async with world(tmp_path, plan, durations=20.0) as w, keeping(w) as client:
        await client.submit(ROW)
        await asyncio.sleep(60)
        assert (await client.submit(ROW)).status is GenerationStatus.FAILED
        assert (await row_of(w)).stage is Stage.FAILED
        await client.submit(ROW)
        assert ((await row_of(w)).stage, w.book.calls["submit"]) == (Stage.SUBMITTED, 2)


async def test_an_edited_request_is_refused_where_money_stands_behind_it(tmp_path: Path) -> None:
    """And takes the place of one that failed."""
    edited = evolve(ROW, prompt="a dog")
    plan = FaultPlan.of(Fault("job", "error_named", at=(1,)))
    async with world(tmp_path, plan) as w, keeping(w) as client:
        with pytest.raises(GenerationFailed):
            await client.generate(ROW, tmp_path / "a.mp4")
        await client.generate(edited, tmp_path / "a.mp4")
        for call in (client.submit(ROW), client.generate(ROW, tmp_path / "a.mp4")):
            with pytest.raises(RequestChanged, match="cat"):
                await call
        assert w.book.calls["submit"] == 2


async def test_rows_without_a_key_are_known_by_what_they_say(tmp_path: Path) -> None:
    """The same request is the same row; what is carried does not count."""
    async with world(tmp_path) as w, keeping(w) as client:
        first = await client.submit(ImageToVideo(PNG, "a cat", carry={"n": 1}))
        second = await client.submit(ImageToVideo(PNG, "a cat", carry={"n": 2}))
        third = await client.submit(ImageToVideo(PNG, "a dog"))
        assert first.id == second.id != third.id
        assert len(w.book.bought()) == 2


async def test_bytes_are_kept_beside_the_journal(tmp_path: Path) -> None:
    """Once each; the next process knows the request by them."""
    async with world(tmp_path / "w") as w:
        for _ in range(2):
            async with keeping(w) as client:
                await client.submit(ImageToVideo(PNG, "a cat"))
        assert len(w.book.bought()) == 1
        assert len(await found_in(w.folder / f"{DB}.inputs")) == 1


async def test_another_journal_buys_again(tmp_path: Path) -> None:
    """So does a client without one: what is known is the journal's."""
    async with world(tmp_path) as w:
        for flags in ({"journal": tmp_path / "1.db"}, {"journal": tmp_path / "2.db"}, {}):
            async with w.client(**flags) as client:
                await client.submit(ROW)
        assert len(w.book.bought()) == 3


# ------------------------------------------------------------------ several at once


async def test_submits_of_one_key_at_once_are_one_post(tmp_path: Path) -> None:
    """All get the one generation, and each its file."""
    async with world(tmp_path, latency=2.0) as w, keeping(w) as client:
        found = await asyncio.gather(*(client.submit(ROW) for _ in range(10)))
        assert ({generation.id for generation in found}, w.book.calls["submit"]) == ({found[0].id}, 1)
        files = await asyncio.gather(*(client.generate(ROW, tmp_path / f"{i}.mp4") for i in range(3)))
        assert {file.sha256 for file in files} == {await w.simulator.served_sha256(found[0].id)}
        assert w.book.calls["submit"] == 1


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
async def test_rows_of_equal_content_share_a_generation(tmp_path: Path, *, at_once: bool, lost: bool) -> None:
    """Also where the first one's answer is lost; each is DONE when a file is there, and one is paid."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,))) if lost else FaultPlan()
    twins = [evolve(ROW, key=f"twin{i}") for i in range(3)]
    async with world(tmp_path, plan, latency=1.0) as w, keeping(w) as client:
        calls = [client.generate(twin, tmp_path / f"{twin.key}.mp4") for twin in twins]
        files = await asyncio.gather(*calls) if at_once else [await call for call in calls]
        assert len(w.book.bought()) == 1
        rows = await rows_of(tmp_path / DB)
        assert {row.stage for row in rows.values()} == {Stage.DONE}
        assert sorted(row.shares is None for row in rows.values()) == [False, False, True]
        assert {file.generation_id for file in files} == {w.book.paid()[0].generation_id}
        assert await tally_of(w) == (PRICE, 0)
        before = dict(w.book.calls)
        for twin in twins:
            await client.generate(twin, tmp_path / f"{twin.key}.mp4")
        assert dict(w.book.calls) == before


async def test_a_twin_of_one_that_was_refused_is_submitted_itself(tmp_path: Path) -> None:
    """It waited for the other's end, and that bought nothing."""
    plan = FaultPlan.of(Fault("submit", "403_credit", at=(1,)))
    async with world(tmp_path, plan, latency=1.0) as w, keeping(w) as client:
        first, second = await asyncio.gather(
            client.submit(ROW), client.submit(evolve(ROW, key="twin")), return_exceptions=True
        )
        assert isinstance(first, OutOfCredit)
        assert not isinstance(second, BaseException)
        assert [one.generation_id for one in w.book.bought()] == [second.id]
        assert (await row_of(w)).stage is Stage.PLANNED


async def test_a_sample_is_a_video_of_its_own(tmp_path: Path) -> None:
    """The same content again, asked for by its number."""
    async with world(tmp_path) as w, keeping(w) as client:
        for number in (1, 2):
            await client.submit(evolve(ROW, key=f"cat.{number}", sample=number))
        assert len(w.book.bought()) == 2


# -------------------------------------------------------------------- lost answers


async def killed_at(w: World, hinge: Hinge, folder: Path, request: ImageToVideo = ROW) -> World:
    """Generate until a call hangs; copy the folder as it is then, and return the world with the copy in its place."""

    async def work() -> None:
        client = keeping(w)
        hinged(client, hinge)
        async with client:
            await client.generate(request, w.folder / "a.mp4")

    async def copy() -> None:
        await off_loop(partial(shutil.copytree, w.folder, folder, ignore=shutil.ignore_patterns("*.lock", "*-shm")))

    assert await left_where_it_hangs(work, hinge, copy)
    w.simulator.faults = FaultPlan()
    return World(w.simulator, folder, w.clock)


def hinged(client: KlingClient, hinge: Hinge) -> None:
    """Put a hinge between a client that is not entered yet and its doors, the journal too."""
    assert isinstance(client, JournaledClient)
    hinged_client(client, hinge)
    ledger = client._ledger
    ledger.journal = ledger.scribe._journal = ledger.purse._journal = Door(ledger.journal, hinge)


LOST = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
ALL = ("submit", "poll", "download")


@frozen
class Point:
    """A moment between two steps, and what follows when the process dies there."""

    call: str
    moment: Moment
    found: Stage | None
    asks: tuple[str, ...]
    number: int = 1
    plan: FaultPlan = field(factory=FaultPlan)
    bought: int = 1
    lost: bool = False
    """Whether its next caller is told that it may have been bought."""


POINTS = {
    "unknown": Point("enrol", "before", None, ALL, bought=0),
    "intent-unwritten": Point("intend", "before", Stage.PLANNED, ALL, bought=0),
    "intent-written": Point("submit", "before", Stage.SUBMITTING, ("log",), bought=0, lost=True),
    "posted": Point("submit", "after", Stage.SUBMITTING, ("log", "poll", "download")),
    "id-unwritten": Point("save submitted", "before", Stage.SUBMITTING, ("log", "poll", "download")),
    "id-written": Point("save submitted", "after", Stage.SUBMITTED, ("poll", "download")),
    "end-unwritten": Point("save rendered", "before", Stage.SUBMITTED, ("poll", "download")),
    "end-written": Point("save rendered", "after", Stage.RENDERED, ("poll", "download")),
    "digest-unwritten": Point("save rendered", "before", Stage.RENDERED, ("poll", "download"), number=2),
    "digest-written": Point("commit", "before", Stage.RENDERED, ("poll", "download")),
    "renamed": Point("commit", "after", Stage.RENDERED, ()),
    "done-unwritten": Point("save done", "before", Stage.RENDERED, ()),
    "done-written": Point("save done", "after", Stage.DONE, ()),
    "loss-unwritten": Point("save uncertain", "before", Stage.SUBMITTING, ("log", "poll", "download"), plan=LOST),
    "loss-written": Point("save uncertain", "after", Stage.UNCERTAIN, ("log", "poll", "download"), plan=LOST),
    "find-unwritten": Point("save submitted", "before", Stage.UNCERTAIN, ("log", "poll", "download"), plan=LOST),
}


@pytest.mark.parametrize("name", POINTS)
async def test_the_next_process_goes_on_where_one_died(tmp_path: Path, name: str) -> None:
    """Nothing is bought twice, and nothing that was bought is lost; what cannot be known is told."""
    point = POINTS[name]
    async with world(tmp_path / "first", point.plan) as w:
        dead = await killed_at(w, Hinge(point.number, point.moment, point.call), tmp_path / "second")
        assert len(w.book.bought()) == point.bought
        row = (await rows_of(dead.folder / DB)).get("cat")
        assert (row.stage if row else None) is point.found
        before = dict(w.book.calls)
        async with keeping(dead, uncertain_after=60.0) as client:
            if point.lost:
                with pytest.raises(AnswerLost) as raised:
                    await client.generate(ROW, dead.folder / "a.mp4")
                assert raised.value.client_request_id == (await row_of(dead)).client_request_id
            else:
                await client.generate(ROW, dead.folder / "a.mp4")
        asked = {call for call in (*ALL, "log") if w.book.calls[call] > before.get(call, 0)}
        assert asked == set(point.asks)
        if not point.lost:
            row = await row_of(dead)
            assert (row.stage, row.generation_id) == (Stage.DONE, w.book.paid()[0].generation_id)
            assert await is_whole(w, dead.folder / "a.mp4")
        assert len(w.book.bought()) == (not point.lost)


async def test_what_is_not_listed_is_told_looked_for_again_and_never_bought(tmp_path: Path) -> None:
    """AnswerLost with the POST's id; the second time after one look; adopted when the log lists it."""
    async with world(tmp_path, LOST, log_listing="late", log_delay=7200.0) as w, keeping(w) as client:
        began = now()
        with pytest.raises(AnswerLost, match=r"client\.find") as raised:
            await client.submit(ROW)
        assert 900 <= now() - began < 1000
        row = await row_of(w)
        assert (row.stage, row.set_aside, row.credits) == (Stage.UNCERTAIN, True, PRICE)
        assert raised.value.client_request_id == row.client_request_id
        began = now()
        for key in ("cat", "a twin"):
            with pytest.raises(AnswerLost):
                await client.submit(evolve(ROW, key=key))
        assert now() - began < 5
        await asyncio.sleep(8000)
        generation = await client.submit(ROW)
        assert ((await row_of(w)).generation_id, w.book.calls["submit"]) == (generation.id, 1)
        await client.generate(ROW, tmp_path / "a.mp4")
        assert await is_whole(w, tmp_path / "a.mp4")


async def test_find_writes_down_what_it_found(tmp_path: Path) -> None:
    """The row has its generation, and its end; what is not listed changes nothing."""
    async with world(tmp_path, LOST, log_listing="late", log_delay=7200.0) as w, keeping(w) as client:
        with pytest.raises(AnswerLost) as raised:
            await client.submit(ROW)
        name = raised.value.client_request_id or ""
        assert await client.find(name) is None
        assert (await row_of(w)).stage is Stage.UNCERTAIN
        await asyncio.sleep(8000)
        found = await client.find(name)
        assert found is not None
        row = await row_of(w)
        assert (row.stage, row.generation_id) == (Stage.RENDERED, found.id)


async def test_a_lost_submit_that_failed_is_sent_again(tmp_path: Path) -> None:
    """The log says that nothing was bought: for a submit, and for `find`."""
    plan = FaultPlan.of(Fault("submit", "500", at=(1,)))
    async with world(tmp_path / "first", plan, log_refused=True) as w:
        dead = await killed_at(w, Hinge(1, "after", "save uncertain"), tmp_path / "second")
        async with keeping(dead) as client:
            name = (await row_of(dead)).client_request_id or ""
            with pytest.raises(GenerationFailed, match="nothing was bought"):
                await client.find(name)
            assert (await row_of(dead)).stage is Stage.PLANNED
            await client.submit(ROW)
        assert len(w.book.bought()) == 1
    async with world(tmp_path / "third", plan, log_refused=True) as w, keeping(w) as client:
        await client.submit(ROW)
        assert ((await row_of(w)).attempt, w.book.calls["submit"], len(w.book.bought())) == (2, 2, 1)


async def test_a_find_does_not_wait_for_a_submit_that_looks_itself(tmp_path: Path) -> None:
    """It answers, and leaves the row to that one."""
    async with world(tmp_path, LOST, log_listing="late", log_delay=300.0, durations=30.0) as w, keeping(w) as client:
        submit = asyncio.ensure_future(client.submit(ROW))
        await asyncio.sleep(60)
        began = now()
        assert await client.find((await row_of(w)).client_request_id or "") is None
        assert now() - began < 5
        assert (await submit).id == w.book.bought()[0].generation_id


async def test_a_find_does_not_wait_for_a_post_that_is_out(tmp_path: Path) -> None:
    """It tells what the log lists already; the row is left to the POST."""
    plan = FaultPlan.of(Fault("submit", "stalled_after", at=(1,)))
    async with world(tmp_path, plan) as w, keeping(w, submit_timeout=60.0) as client:
        submit = asyncio.ensure_future(client.submit(ROW))
        await asyncio.sleep(10)
        began, found = now(), await client.find((await row_of(w)).client_request_id or "")
        assert now() - began < 5
        assert found is not None
        assert (await row_of(w)).stage is Stage.SUBMITTING
        assert (await submit).id == found.id


async def test_a_log_that_cannot_be_read_is_no_proof(tmp_path: Path) -> None:
    """The row stays uncertain, and is told."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), Fault("log", "500"))
    async with world(tmp_path, plan) as w, keeping(w, uncertain_after=60.0) as client:
        with pytest.raises(AnswerLost, match="does not tell"):
            await client.submit(ROW)
        w.simulator.faults = FaultPlan()
        assert (await client.submit(ROW)).id == w.book.bought()[0].generation_id


async def test_a_submit_of_another_key_is_not_looked_for(tmp_path: Path) -> None:
    """Its log does not list it: that is no proof."""
    async with world(tmp_path / "first", LOST, keys=("sim-key", "second")) as w:
        dead = await killed_at(w, Hinge(1, "after", "save uncertain"), tmp_path / "second")
        async with keeping(dead, api_key="second") as client:
            with pytest.raises(AnswerLost, match="another key"):
                await client.submit(ROW)
        assert w.book.calls["log"] == 0
        async with keeping(dead) as client:
            assert (await client.submit(ROW)).id == w.book.bought()[0].generation_id


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("400", Stage.FAILED),
        ("404", Stage.FAILED),
        ("307", Stage.FAILED),
        ("401", Stage.PLANNED),
        ("403_credit", Stage.PLANNED),
    ],
)
async def test_a_refusal_is_written_and_the_next_submit_goes_through(tmp_path: Path, kind: str, stage: Stage) -> None:
    """FAILED for what it asks for, PLANNED for the account's trouble; free either way."""
    plan = FaultPlan.of(Fault("submit", kind, at=(1,)))
    async with world(tmp_path, plan) as w, keeping(w) as client:
        with pytest.raises(KlingError):
            await client.submit(ROW)
        row = await row_of(w)
        assert (row.stage, row.credits, w.book.bought()) == (stage, None, [])
        assert (await client.submit(ROW)).id in w.book.purchases


async def test_what_surely_made_no_job_is_sent_again_under_another_id(tmp_path: Path) -> None:
    """Each POST is an attempt of its own, written before it leaves."""
    plan = FaultPlan.of(Fault("submit", "429", at=(1, 2)))
    async with world(tmp_path, plan) as w, keeping(w) as client:
        await client.submit(ROW)
        assert ((await row_of(w)).attempt, set(w.book.request_ids.values())) == (3, {1})


@pytest.mark.parametrize("journal", [None, DB])
async def test_a_service_that_does_not_echo_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: str | None
) -> None:
    """Its log would not name a lost submit; of any client."""
    place = None if journal is None else tmp_path / journal
    async with world(tmp_path, echo_request_id=False) as w, w.client(journal=place) as client:
        for row in requests(3):
            await client.submit(row)
    assert caplog.text.count("does not echo") == 1


async def test_a_wrong_request_is_told_and_not_bought(tmp_path: Path) -> None:
    """The row has failed; made right, it is bought under the same key."""
    async with world(tmp_path) as w, keeping(w) as client:
        with pytest.raises(InvalidRequest):
            await client.submit(ImageToVideo(tmp_path / "gone.png", "a cat", key="cat"))
        assert ((await row_of(w)).stage, w.book.calls["submit"]) == (Stage.FAILED, 0)
        await client.submit(ROW)
        assert len(w.book.bought()) == 1


async def test_a_time_that_is_over_leaves_the_row_where_it_stands(tmp_path: Path) -> None:
    """The caller's patience is not the row's end."""
    async with world(tmp_path, durations=300.0) as w, keeping(w) as client:
        with pytest.raises(GenerationOverdue):
            await client.generate(ROW, tmp_path / "a.mp4", timeout=50)
        row = await row_of(w)
        assert (row.stage, row.set_aside) == (Stage.SUBMITTED, False)
        await client.generate(ROW, tmp_path / "a.mp4")
        assert len(w.book.bought()) == 1


# ---------------------------------------------------------------------- the journal


async def test_one_client_holds_a_journal_until_it_is_left(tmp_path: Path) -> None:
    """The second is told who does; nothing of it stays open."""
    async with world(tmp_path) as w:
        async with keeping(w):
            with pytest.raises(JournalLocked, match=r"in use by process \d+"):
                async with keeping(w):
                    pass
        async with keeping(w) as client:
            await client.submit(ROW)


async def test_a_journal_that_is_given_is_the_callers(tmp_path: Path) -> None:
    """It is used as it is, by one client after the other, and not closed."""
    journal = MemoryJournal()
    async with world(tmp_path) as w:
        for _ in range(2):
            async with w.client(journal=journal) as client:
                await client.generate(ImageToVideo(PNG, "a cat", key="cat"), tmp_path / "a.mp4")
        row = await journal.get("cat")
        assert row is not None
        assert (row.stage, w.book.calls["submit"], w.book.calls["download"]) == (Stage.DONE, 1, 1)
    book = SqliteJournal(tmp_path / "mine.db")
    await book.open()
    try:
        async with world(tmp_path) as w, w.client(journal=book) as client:
            await client.submit(ROW)
        assert (await book.tally()).submitted == 1
    finally:
        await book.aclose()


async def test_a_journal_belongs_to_one_service(tmp_path: Path) -> None:
    """What was bought there cannot be asked for here."""
    async with world(tmp_path) as w, keeping(w) as client:
        await client.submit(ROW)
    async with world(tmp_path) as other:
        with pytest.raises(ConfigurationError, match="belongs to the service"):
            await keeping(other, base_url="http://127.0.0.1:9/elsewhere").__aenter__()


async def test_a_journal_belongs_to_a_client_or_to_a_bulk_job(tmp_path: Path) -> None:
    """Their videos lie in different places; neither goes on with the other's."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.run(requests(1))
        with pytest.raises(ConfigurationError, match="belongs to a bulk job"):
            await keeping(w, journal=tmp_path / ".kling" / "journal.db").__aenter__()
        async with keeping(w) as client:
            await client.submit(ROW)
        with pytest.raises(ConfigurationError, match="belongs to a client"):
            folder, address = tmp_path / "job", w.simulator.base_url
            await open_batch(folder, journal=tmp_path / DB, base_url=address, api_key="sim-key").__aenter__()


async def test_a_client_that_is_not_entered_buys_nothing(tmp_path: Path) -> None:
    """Nor does one that was left."""
    async with world(tmp_path) as w:
        client = keeping(w)
        with pytest.raises(ConfigurationError, match="not open"):
            await client.submit(ROW)
        async with client:
            pass
        for call in (client.submit(ROW), client.generate(ROW, tmp_path / "a.mp4")):
            with pytest.raises(ConfigurationError, match="not open"):
                await call
        assert w.book.calls["submit"] == 0


# --------------------------------------------------------------------------- money


async def test_a_budget_holds_over_the_journals_whole_life(tmp_path: Path) -> None:
    """Of fifty at once, as many are bought as it pays for; none by the next client, but what is known already."""
    async with world(tmp_path, latency=1.0) as w:
        async with keeping(w, budget=0.26 * 3) as client:
            found = await asyncio.gather(*(client.submit(row) for row in requests(50)), return_exceptions=True)
            assert sum(isinstance(one, BudgetExceeded) for one in found) == 47
            assert len(w.book.bought()) == 3
        assert await tally_of(w) == (0, 3 * PRICE)
        async with keeping(w, budget=0.26 * 3) as client:
            with pytest.raises(BudgetExceeded):
                await client.submit(ROW)
            known = [row for row in requests(50) if any(one.prompt == row.prompt for one in w.book.bought())]
            await asyncio.gather(*(client.generate(row, tmp_path / f"{row.key}.mp4") for row in known))
        assert await tally_of(w) == (3 * PRICE, 0)
        async with keeping(w, budget=0.26 * 4) as client:
            await client.submit(ROW)
        assert len(w.book.bought()) == 4


async def test_a_budget_stops_at_a_price_that_rose(tmp_path: Path) -> None:
    """What a dearer answer told is held for those to come."""
    async with world(tmp_path) as w, keeping(w, budget=1.0, price=0.01) as client:
        bought = 0
        with pytest.raises(BudgetExceeded):
            for row in requests(50):
                await client.submit(row)
                bought += 1
        assert bought == len(w.book.bought()) == 3


async def test_a_budget_needs_a_journal_and_a_price(tmp_path: Path) -> None:
    """A ceiling that nothing holds is told at once."""
    async with world(tmp_path, price_kind="variable") as w:
        with pytest.raises(ConfigurationError, match="journal"):
            w.client(budget=1.0)
        with pytest.raises(ConfigurationError, match="price"):
            await keeping(w, budget=1.0).__aenter__()
        async with keeping(w, budget=1.0, price=0.26) as client:
            await client.submit(ROW)


# ------------------------------------------------------------------------ cancelled


async def test_a_cancelled_submit_is_answered_and_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Within ten seconds; nothing is left for the next to look up."""
    async with world(tmp_path, latency=4.0) as w, keeping(w) as client:
        submit = asyncio.ensure_future(client.submit(ROW))
        while not w.book.calls["submit"]:  # noqa: ASYNC110  # the service is another's: it has no event
            await asyncio.sleep(0.1)
        submit.cancel()
        await asyncio.wait({submit})
        row = await row_of(w)
        assert (submit.cancelled(), row.stage) == (True, Stage.SUBMITTED)
        assert f"client.find({row.client_request_id!r})" in caplog.text


@pytest.mark.parametrize("times", [1, 2])
async def test_a_submit_that_is_cancelled_without_an_answer_stays_where_it_stands(tmp_path: Path, times: int) -> None:
    """However often it is cancelled. The next one waits for that POST, looks, and adopts: one is bought."""
    plan = FaultPlan.of(Fault("submit", "stalled_after", at=(1,)))
    async with world(tmp_path, plan) as w, keeping(w, submit_timeout=60.0) as client:
        submit = asyncio.ensure_future(client.submit(ROW))
        await asyncio.sleep(5)
        for _ in range(times):
            submit.cancel()
            await asyncio.sleep(0.1)
        await asyncio.wait({submit})
        assert submit.cancelled()
        assert (await row_of(w)).stage is Stage.SUBMITTING
        assert (await client.submit(ROW)).id == w.book.bought()[0].generation_id
        assert w.book.calls["submit"] == 1


async def test_a_post_that_was_left_behind_is_waited_for(tmp_path: Path) -> None:
    """Its caller was cancelled twice and is gone; who comes next gets its answer, where the log would tell nothing."""
    async with world(tmp_path, latency=20.0, log_listing="never") as w, keeping(w, uncertain_after=1.0) as client:
        first = asyncio.ensure_future(client.submit(ROW))
        while not w.book.calls["submit"]:  # noqa: ASYNC110  # the service is another's: it has no event
            await asyncio.sleep(0.1)
        for _ in range(2):
            first.cancel()
            await asyncio.sleep(0.1)
        assert first.cancelled()
        assert (await client.submit(ROW)).id == w.book.bought()[0].generation_id
        assert (await row_of(w)).stage is Stage.SUBMITTED


async def test_leaving_the_client_leaves_the_row_to_the_next(tmp_path: Path) -> None:
    """A POST that is out as the client is left."""
    async with world(tmp_path, latency=3.0) as w:
        async with keeping(w) as client:
            submit = asyncio.ensure_future(client.submit(ROW))
            await asyncio.sleep(5)
        await asyncio.wait({submit})
        async with keeping(w) as client:
            await client.generate(ROW, tmp_path / "a.mp4")
        assert (len(w.book.bought()), (await row_of(w)).stage) == (1, Stage.DONE)


WAY = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), Fault("download", "cut", at=(1,)))
"""An answer that is lost and found again, and a download that is cut: each door is called in every way."""


def numbered(number: int) -> ImageToVideo:
    return evolve(ROW, key=f"cat{number}", prompt=f"a cat {number}")


async def settled(w: World, request: ImageToVideo) -> None:
    """Hold the journal against the account, then bring a row to its end by another client: nothing is twofold."""
    await consistent(w, [request])
    async with keeping(w, uncertain_after=30.0) as client:
        try:
            with suppress(GenerationFailed):
                await client.generate(request, w.folder / "a.mp4")
            await client.generate(request, w.folder / "a.mp4")
        except AnswerLost:
            # Its intent was written, and its POST never left: nobody can know that but the log, which lists no more.
            assert [one for one in w.book.bought() if one.prompt == request.prompt] == []
        else:
            row = await row_of(w, request.key or "")
            paid = [one.generation_id for one in w.book.paid() if one.prompt == request.prompt]
            assert (row.stage, [row.generation_id or row.shares]) == (Stage.DONE, paid)
            assert await read(w.folder / "a.mp4") == await w.simulator.served_bytes(paid[0])


async def consistent(w: World, given: Iterable[ImageToVideo]) -> None:
    """What was bought is known to the journal: by its generation, or as lost, by the POST's own id."""
    rows = await rows_of(w.folder / DB) if (w.folder / DB).exists() else {}
    for request in given:
        bought = [one for one in w.book.bought() if one.prompt == request.prompt and one.state != "refunded"]
        assert len(bought) <= 1
        row = rows.get(request.key or "")
        for one in bought:
            assert row is not None
            lost = row.stage in {Stage.SUBMITTING, Stage.UNCERTAIN} and row.generation_id is None
            assert row.generation_id == one.generation_id or (lost and row.client_request_id == one.request_id)
    left = await found_in(w.folder)
    assert not [name for name in left if name not in {"a.mp4", "twin.mp4"} and not name.startswith(DB)]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_generate_left_at_any_call_of_a_door_is_gone_on_with(tmp_path: Path, moment: Moment) -> None:
    """The journal knows what was bought; no temporary file stays; the next client completes it and buys no second."""
    places = []
    for number in range(1, MANY):
        async with world(tmp_path / str(number), WAY, durations=20.0) as w:
            hinge, request = Hinge(number, moment), numbered(number)

            async def work(w: World = w, hinge: Hinge = hinge, request: ImageToVideo = request) -> None:
                client = keeping(w, poll_interval_min=9.0)
                hinged(client, hinge)
                async with client:
                    await client.generate(request, w.folder / "a.mp4")

            hung = await left_where_it_hangs(work, hinge)
            w.simulator.faults = FaultPlan()
            await settled(w, request)
            assert len(w.book.bought()) <= 1
        places.append(hinge.where)
        if not hung and hinge.count < number:
            break
    wanted = {"enrol", "intend", "save", "send", "get", "fetch", "pieces", "stage", "write", "commit", "unfinished"}
    assert wanted <= set(places)


async def test_generate_struck_at_any_await_is_gone_on_with(
    tmp_path: Path, cancel_everywhere: CancelEverywhere
) -> None:
    """From entering to leaving, also by two cancellations: the journal is free at once, and true."""
    number = 0
    async with world(tmp_path, durations=20.0) as w:

        async def scenario() -> None:
            nonlocal number
            number += 1
            async with keeping(w, poll_interval_min=9.0) as client:
                await client.generate(numbered(number), tmp_path / "a.mp4")

        async def check() -> None:
            await asyncio.sleep(15)  # what a second cancellation left behind has ended
            await settled(w, numbered(number))

        assert await cancel_everywhere(scenario, check) >= 8
        assert w.book.duplicates() == []
        assert number - 3 <= len(w.book.bought()) <= number


async def test_a_row_struck_at_any_await_is_free_for_the_next_caller(
    tmp_path: Path, cancel_everywhere: CancelEverywhere
) -> None:
    """Of the same client, at once: two cancellations leave a POST behind, and that is waited for."""
    number = 0
    async with world(tmp_path, latency=0.5, durations=20.0) as w, keeping(w, max_in_flight=1) as client:

        async def scenario() -> None:
            nonlocal number
            number += 1
            await client.submit(numbered(number))

        async def check() -> None:
            await asyncio.wait_for(client.submit(numbered(number)), 60)
            row = await row_of(w, f"cat{number}")
            assert (row.stage, row.generation_id in w.book.purchases) == (Stage.SUBMITTED, True)

        assert await cancel_everywhere(scenario, check) >= 2
        assert (w.book.duplicates(), len(w.book.bought())) == ([], number)


# ---------------------------------------------------------------------- the account


Make: TypeAlias = Callable[..., KlingClient]
"""Makes a client with the journal, and flags of its own."""


async def at_once(make: Make, request: ImageToVideo, folder: Path) -> None:
    """All in one call, and once more."""
    async with make() as client:
        await client.generate(request, folder / "a.mp4")
        await client.generate(request, folder / "a.mp4")


async def step_by_step(make: Make, request: ImageToVideo, folder: Path) -> None:
    """Each call by itself, what is known already too."""
    async with make(budget=10.0) as client:
        generation = await client.submit(request)
        await client.submit(request)
        await client.retrieve(generation)
        await client.find(generation.client_request_id or "")
        await client.download((await client.wait(generation)).id, folder / "a.mp4")


async def shared(make: Make, request: ImageToVideo, folder: Path) -> None:
    """Two callers of one key, and a row of equal content."""
    async with make() as client, asyncio.TaskGroup() as group:
        group.create_task(client.generate(request, folder / "a.mp4"))
        group.create_task(client.submit(request))
        await asyncio.sleep(0)
        await client.generate(evolve(request, key="twin"), folder / "twin.mp4")


async def failing(make: Make, request: ImageToVideo, folder: Path) -> None:
    """A request that is wrong, one that nobody tells the price of, and generations that fail; then again."""
    async with make(budget=10.0) as client:
        for bad in (evolve(request, image="no-such-file.png"), evolve(request, model="another/model"), request):
            with suppress(KlingError):
                await client.generate(bad, folder / "a.mp4")
        generation = await client.submit(request)
        await asyncio.sleep(60)
        await client.retrieve(generation)
        await client.generate(request, folder / "a.mp4")


async def lost(make: Make, request: ImageToVideo, folder: Path) -> None:
    """An answer that is lost and not listed in time: looked for with another key, for a row of equal content, again."""
    for key in ("sim-key", "second"):
        async with make(api_key=key) as client:
            for row in (request, evolve(request, key="twin")):
                with suppress(AnswerLost):
                    await client.submit(row)
    await asyncio.sleep(8000)
    async with make() as client:
        await client.find((await row_in(folder, request)).client_request_id or "")
        await client.generate(request, folder / "a.mp4")


async def unbought(make: Make, request: ImageToVideo, folder: Path) -> None:
    """An answer that is lost while the log is in trouble, which tells later that nothing was bought."""
    async with make(uncertain_after=5.0) as client:
        with suppress(AnswerLost):
            await client.submit(request)
        name = (await row_in(folder, request)).client_request_id or ""
        for _ in range(6):
            with suppress(ServiceUnavailable, GenerationFailed):
                await client.find(name)
        await client.generate(request, folder / "a.mp4")


async def left_behind(make: Make, request: ImageToVideo, folder: Path) -> None:
    """A POST whose caller is cancelled twice, and one that comes meanwhile."""
    async with make(submit_timeout=60.0) as client:
        first = asyncio.ensure_future(client.submit(request))
        await asyncio.sleep(5)
        for _ in range(2):
            first.cancel()
            await asyncio.sleep(0.1)
        await client.generate(request, folder / "a.mp4")


async def cut_off(make: Make, request: ImageToVideo, folder: Path) -> None:
    """A POST that is not answered within its grace."""
    async with make() as client:
        with anyio.move_on_after(5):
            await client.submit(request)
        await client.generate(request, folder / "a.mp4")


async def left_when_renamed(make: Make, request: ImageToVideo, folder: Path) -> None:
    """A client that dies when its video has its name."""
    dying = make()
    hinged(dying, Hinge(1, "after", "commit"))
    with anyio.move_on_after(60):
        async with dying:
            await dying.generate(request, folder / "a.mp4")
    async with make() as client:
        await client.generate(request, folder / "a.mp4")


async def refused(make: Make, request: ImageToVideo, folder: Path) -> None:
    """Submits that are refused, each for another reason, and the last one taken."""
    async with make() as client:
        for _ in range(6):
            with suppress(KlingError):
                await client.generate(request, folder / "a.mp4")


async def row_in(folder: Path, request: ImageToVideo) -> Record:
    return (await rows_of(folder / DB))[request.key or ""]


LATE = {"log_listing": "late", "log_delay": 7200.0}
REFUSALS = [Fault("submit", kind, at=(at,)) for at, kind in enumerate(("400", "403_credit", "429", "500"), 1)]
TROUBLE = (Fault("submit", "500", at=(1,)), Fault("log", "500", at=tuple(range(1, 17))))
Scene: TypeAlias = Callable[[Make, ImageToVideo, Path], Coroutine[Any, Any, object]]
SCENES: dict[str, tuple[Scene, FaultPlan, dict[str, Any]]] = {
    "at once": (at_once, WAY, {}),
    "step by step": (step_by_step, FaultPlan(), {}),
    "shared": (shared, FaultPlan(), {"latency": 1.0}),
    "failing": (failing, FaultPlan.of(Fault("job", "error_named", at=(1, 2))), {}),
    "lost": (lost, LOST, {**LATE, "keys": ("sim-key", "second")}),
    "unbought": (unbought, FaultPlan.of(*TROUBLE), {"log_refused": True}),
    "left behind": (left_behind, FaultPlan.of(Fault("submit", "stalled_after", at=(1,))), {}),
    "cut off": (cut_off, FaultPlan.of(Fault("submit", "stalled_after", at=(1,))), {}),
    "left when renamed": (left_when_renamed, FaultPlan(), {}),
    "refused": (refused, FaultPlan.of(*REFUSALS), {"log_refused": True}),
}

BYTES = ("at once", "step by step")
"""Those whose image comes as bytes."""

SPARED = {
    r"start\.py (prove_writable|look_only)": "a batch's alone: test_awaits.py strikes it",
    r"journaled\.py JournaledClient\.__aenter__: await super": "only what is left at the line above comes here",
    r"ledger\.py Ledger\.moved: await self\.purse\.write": "the simulated service charges what it held",
    r"ledger\.py Ledger\.found: async with self\.turn": "whoever is at the row keeps it; else it is entered at once",
    r"ledger\.py Ledger\.stored: async with self\.turn": "its own awaits are struck under Purchases.submit",
}
"""Awaits at which no scene is left, as patterns, each with the reason."""


async def test_a_client_with_a_journal_was_left_at_every_await(tmp_path: Path) -> None:
    """At each await of what keeps a client's journal a call was left; the next client goes on, and buys no second."""
    account = Account(tuple(FLOW / name for name in (*JOURNALED, START)))
    striker, number = Striker(account), 0
    for name, (scene, plan, service) in SCENES.items():
        hits = True
        while hits:
            number += 1
            async with world(tmp_path / f"{name} {number}", plan, **{"durations": 20.0, **service}) as w:
                # An image that comes as bytes is kept before anything else: there it may be left, too.
                request = evolve(numbered(number), image=PNG) if name in BYTES else numbered(number)
                hits = await striker.strike(partial(scene, partial(keeping, w), request, w.folder))
                await asyncio.sleep(15)
                w.simulator.faults = FaultPlan()
                await asyncio.sleep(8000)  # the log lists what it lists at all
                await settled(w, request)
    spared = {name for name in account.spared if not any(re.search(pattern, name) for pattern in SPARED)}
    assert spared == set(), "left nowhere there, for no reason"
