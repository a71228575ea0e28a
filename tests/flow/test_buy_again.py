"""Buying again gives nothing up for none: not for trouble, not for a purchase that did not come about, nor unasked."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from kling_async import BudgetExceeded, ImageToVideo, Retry, Stage
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Record
from tests.flow.harness import IMAGE_URL, PNG, World, requests, world

pytestmark = pytest.mark.looptime

LATE = FaultPlan.of(Fault("job", "late"))
"""Generations that take ten times as long as others: overdue, and finished in the end."""
AGAIN = Retry(buy_again=True)


async def overdue(w: World, rows: int, **flags: Any) -> dict[str, Record]:
    """Buy rows that are overdue then, and return them; nothing goes wrong from then on."""
    async with w.batch(give_up_after=700, **flags) as batch:
        report = await batch.run(requests(rows))
    assert report.tally.submitted == rows
    w.simulator.faults = FaultPlan()
    return await w.records()


async def again(w: World, faults: FaultPlan | None = None, **flags: Any) -> Any:
    """Try to buy all rows again, and return the report."""
    w.simulator.faults = faults or FaultPlan()
    async with w.batch(**flags) as batch:
        return await batch.run(AGAIN)


async def fetched_unasked(w: World, rows: int) -> None:
    """Wait until all has ended, run without any word, and hold that nothing more is bought, and nothing lost."""
    w.simulator.faults = FaultPlan()
    await asyncio.sleep(20_000)
    bought = len(w.book.bought())
    async with w.batch() as batch:
        report = await batch.run(requests(rows))
    assert report.tally.done == rows
    assert len(w.book.bought()) == bought
    for record in (await w.records()).values():
        assert record.stage is Stage.DONE


def unattempted(records: dict[str, Record]) -> dict[str, Record]:
    """Return rows without the number of their POSTs."""
    return {key: evolve(record, attempt=0) for key, record in records.items()}


# ------------------------------------------------ what was not bought is not given up


async def test_no_more_is_given_up_than_the_budget_buys(tmp_path: Path) -> None:
    """Five rows that all see room for one: one is bought, the others keep their ids, and are fetched in the end."""
    async with world(tmp_path, LATE, durations=1000.0) as w:
        before = await overdue(w, 5)
        report = await again(w, budget=6 * 0.26)
        assert isinstance(report.stopped, BudgetExceeded)
        assert len(w.book.bought()) == 6
        after = await w.records()
        changed = {key for key in after if after[key] != before[key]}
        assert len(changed) == 1
        assert [after[key].former for key in changed] == [(before[key].generation_id,) for key in changed]
        await fetched_unasked(w, 5)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("submit", "403_credit"),
        Fault("submit", "400_moderation"),
        Fault("submit", "503"),
        Fault("submit", "401"),
        Fault("job", "error_named"),
    ],
    ids=lambda fault: str(fault.kind),
)
async def test_a_purchase_that_comes_to_nothing_leaves_the_row_what_it_was(tmp_path: Path, fault: Fault) -> None:
    """No credit, moderation, an outage, a refused key, a generation that fails: stage, id, money and reason stay."""
    async with world(tmp_path, LATE, durations=1000.0) as w:
        before = await overdue(w, 3)
        await again(w, FaultPlan.of(fault), unavailable_after=600)
        after = await w.records()
        assert unattempted(after) == unattempted(before)
        assert all(record.attempt > 1 for record in after.values()) or fault.kind in {"403_credit", "401"}
        await fetched_unasked(w, 3)


async def test_a_purchase_that_was_put_off_is_made_in_the_same_run(tmp_path: Path) -> None:
    """A 429, a 503 or a refused connection is waited for, as of any other row; the service is asked again each time."""
    plan = FaultPlan.of(Fault("submit", "429_1303", at=(1, 2)), Fault("submit", "503", at=(3,)))
    async with world(tmp_path, LATE, durations=1000.0) as w:
        before = await overdue(w, 1)
        report = await again(w, plan)
        assert report.tally.done == 1
        record = (await w.records())["row0"]
        assert (record.former, record.attempt) == ((before["row0"].generation_id,), 5)
        assert w.book.polls_by_id[before["row0"].generation_id] >= 4
        assert len(w.book.bought()) == 2


async def test_what_is_finished_while_its_turn_is_waited_for_is_fetched(tmp_path: Path) -> None:
    """The answer to the first question is old by then: it is asked again before it is bought."""
    async with world(tmp_path, LATE, durations=1000.0) as w:
        await overdue(w, 2)
        report = await again(w, FaultPlan.of(Fault("job", "late", at=(1,))), max_in_flight=1, give_up_after=20_000)
        assert report.tally.done == 2
        assert len(w.book.bought()) == 3
        assert sorted(len(record.former) for record in (await w.records()).values()) == [0, 1]


async def test_an_image_that_is_gone_loses_nothing(tmp_path: Path) -> None:
    """What cannot be sent any more is not given up."""
    image = tmp_path / "image.png"
    await asyncio.to_thread(image.write_bytes, PNG)
    async with world(tmp_path / "out", LATE, durations=1000.0) as w:
        async with w.batch(give_up_after=700, image_checks=False) as batch:
            await batch.run([ImageToVideo(image, "x", key="a")])
        before = await w.records()
        await asyncio.to_thread(image.unlink)
        await again(w, image_checks=False)
        assert await w.records() == before


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.05, 1.0, 5.0])
async def test_a_stop_leaves_no_row_that_the_next_run_would_buy(tmp_path: Path, moment: float) -> None:
    """Wherever it is stopped: each row is bought again, or may be, or is what it was; none is PLANNED."""
    async with world(tmp_path, LATE, durations=1000.0) as w:
        before = await overdue(w, 4)
        w.simulator.faults = FaultPlan.of(Fault("submit", "slow_after", seconds=60))
        async with w.batch() as batch, batch.stream(AGAIN):
            await asyncio.sleep(moment)
        for key, record in (await w.records()).items():
            assert record == before[key] or (record.former and record.stage is not Stage.PLANNED)
        await fetched_unasked(w, 4)
        assert len(w.book.bought()) <= 8


@pytest.mark.parametrize("listed", [True, False])
async def test_a_lost_purchase_that_bought_nothing_leads_back(tmp_path: Path, *, listed: bool) -> None:
    """Killed in the midst: the POST is looked for. Listed as failed, the row is what it was; else it is uncertain."""
    plan = FaultPlan.of(Fault("submit", "dropped_before"))
    async with world(tmp_path, LATE, durations=1000.0, log_refused=listed) as w:
        before = await overdue(w, 1)
        w.simulator.faults = plan
        async with w.batch() as batch, batch.stream(AGAIN):
            await asyncio.sleep(1)
        lost = (await w.records())["row0"]
        assert lost.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}
        w.simulator.faults = FaultPlan()
        async with w.batch() as batch:
            await batch.run(Retry())
        after = (await w.records())["row0"]
        if listed:
            assert evolve(after, attempt=0) == evolve(before["row0"], attempt=0)
            await fetched_unasked(w, 1)
        else:
            assert (after.stage, after.former) == (Stage.UNCERTAIN, (before["row0"].generation_id,))
        assert len(w.book.bought()) == 1


@pytest.mark.parametrize("stage", [Stage.PLANNED, Stage.UNCERTAIN])
async def test_uncertain_rows_are_submitted_again_the_same_way(tmp_path: Path, stage: Stage) -> None:
    """`on_uncertain=resubmit`: what is not listed stays held where nothing can be bought, and waits for its turn."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), *([Fault("submit", "503", at=(2,))]))
    budget = 0.52 if stage is Stage.PLANNED else 0.26
    async with world(tmp_path, plan, log_listing="never") as w:
        async with w.batch(on_uncertain="resubmit", uncertain_after=600, budget=budget) as batch:
            report = await batch.run(requests(1))
        record = (await w.records())["row0"]
        assert len(w.book.bought()) == (2 if stage is Stage.PLANNED else 1)
        assert report.tally.spent + report.tally.held <= budget * 2_000_000
        assert (record.stage, len(record.former)) == (
            (Stage.DONE, 1) if stage is Stage.PLANNED else (Stage.UNCERTAIN, 0)
        )


# -------------------------------------------------- what nobody says is gone is not bought


async def rendered(w: World) -> str:
    """Buy a row whose video the file host refuses, and return its generation."""
    w.simulator.faults = FaultPlan.of(Fault("download", "404"))
    async with w.batch() as batch:
        assert (await batch.run(requests(1))).tally.rendered == 1
    return (await w.records())["row0"].generation_id or ""


@pytest.mark.parametrize(
    ("plan", "flags"),
    [
        (FaultPlan.of(Fault("download", "410", at=(1,)), Fault("poll", "500", since=2.0)), {}),
        (FaultPlan.of(Fault("download", "truncated")), {}),
        (FaultPlan.of(Fault("download", "wrong_length")), {}),
        (FaultPlan.of(Fault("download", "500")), {"unavailable_after": 60}),
        (FaultPlan.of(), {"max_video_bytes": 1000}),
        (FaultPlan.of(Fault("poll", "500", at=(1, 2)), Fault("poll", "404", at=(3,))), {}),
        (FaultPlan.of(Fault("poll", "404", at=(1, 2))), {}),
        (FaultPlan.of(Fault("poll", "404", at=(2, 4)), Fault("poll", "500")), {}),
    ],
    ids=["polls fail", "truncated", "wrong length", "500", "too large", "404 once", "404 twice", "404 among 500s"],
)
async def test_trouble_is_no_word_that_a_video_is_gone(tmp_path: Path, plan: FaultPlan, flags: dict[str, Any]) -> None:
    """Of the network, the disk, the service, or a limit of our own: the video is paid for, and is not bought again."""
    async with world(tmp_path) as w:
        await rendered(w)
        await again(w, plan, **{"unavailable_after": 1_000_000.0, **flags})
        assert len(w.book.bought()) == 1
        record = (await w.records())["row0"]
        assert record.stage in {Stage.RENDERED, Stage.DONE}
        assert record.former == ()
        await fetched_unasked(w, 1)


@pytest.mark.parametrize(
    "fault", [Fault("download", "404"), Fault("download", "410"), Fault("download", "html"), Fault("poll", "404")]
)
async def test_what_is_said_again_and_again_is_believed(tmp_path: Path, fault: Fault) -> None:
    """By the file host of one fresh link after the other, or by the service: then it is bought, as asked."""
    async with world(tmp_path) as w:
        lost = await rendered(w)
        w.simulator.faults = FaultPlan.of(evolve(fault, match=lost))
        report = await again(w, w.simulator.faults)
        assert report.tally.done == 1
        assert (await w.records())["row0"].former == (lost,)


async def test_another_keys_row_is_neither_asked_for_nor_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """To another account it is unknown, which says nothing; the owner is told."""
    async with world(tmp_path, LATE, durations=1000.0, keys=("sim-key", "other")) as w:
        before = await overdue(w, 1)
        lost = before["row0"].generation_id or ""
        polls = w.book.polls_by_id[lost]
        await again(w, FaultPlan.of(Fault("poll", "404", match=lost)), api_key="other")
        assert await w.records() == before
        assert w.book.polls_by_id[lost] == polls
        assert "sent with another key" in caplog.text


async def test_a_whole_video_in_its_place_is_not_bought_again(tmp_path: Path) -> None:
    """What an earlier process gave its name, and could not say so, is found before anybody is asked."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.run(requests(1))

        def damage() -> None:
            with closing(sqlite3.connect(tmp_path / ".kling" / "journal.db")) as connection, connection:
                connection.execute(
                    "UPDATE row SET stage = 'rendered', trouble_kind = 'DownloadError', trouble_message = 'disk',"
                    " done_order = NULL"
                )

        await asyncio.get_running_loop().run_in_executor(None, damage)
        polls = w.book.polls_by_id.total()
        await again(w, FaultPlan.of(Fault("poll", "404")))
        assert (await w.records())["row0"].stage is Stage.DONE
        assert (len(w.book.bought()), w.book.polls_by_id.total()) == (1, polls)


# ------------------------------------------------------------------------- what is counted


@pytest.mark.parametrize("listed", ["acceptance", "never"])
async def test_what_was_bought_before_a_price_was_known_counts_against_a_budget(tmp_path: Path, listed: str) -> None:
    """From the start of the next run with a price: overdue and uncertain rows are no gift."""
    trouble = Fault("job", "never_ends") if listed == "acceptance" else Fault("submit", "dropped_after")
    settings = {"meta": False, "price_kind": "variable", "log_listing": listed}
    async with world(tmp_path, FaultPlan.of(trouble), **settings) as w:
        async with w.batch(give_up_after=700) as batch:
            await batch.run(requests(4))
        assert {record.credits for record in (await w.records()).values()} == {None}
        w.simulator.faults = FaultPlan()
        async with w.batch(budget=0.60, price=0.26) as batch:
            report = await batch.run(requests(8))
        assert isinstance(report.stopped, BudgetExceeded)
        assert report.tally.spent + report.tally.held == 4 * 520_000
        assert len(w.book.bought()) == 4


async def test_a_twin_does_not_fail_by_another_files_reason(tmp_path: Path) -> None:
    """A row whose image is gone fails for that; one of the content that it had before is bought."""
    images = [tmp_path / f"{name}.png" for name in "ab"]
    for image in images:
        await asyncio.to_thread(image.write_bytes, PNG)
    rows = [ImageToVideo(image, "x", key=image.stem) for image in images]
    async with world(tmp_path / "out", FaultPlan.of(Fault("job", "error_named"))) as w:
        async with w.batch(image_checks=False) as batch:
            assert (await batch.run(rows)).tally.failed == 2
        w.simulator.faults = FaultPlan()
        await asyncio.to_thread(images[0].unlink)
        async with w.batch(image_checks=False, max_in_flight=1) as batch:
            await batch.run(Retry())
        after = await w.records()
        assert (after["a"].stage, after["b"].stage) == (Stage.FAILED, Stage.DONE)


async def test_what_is_looked_for_may_be_bought_and_is_counted_so(tmp_path: Path) -> None:
    """A submit that the log lists as failed is bought: the choice says so beforehand."""
    plan = FaultPlan.of(Fault("submit", "dropped_before"), Fault("log", "500"))
    async with world(tmp_path, plan, log_refused=True) as w:
        async with w.batch(unavailable_after=1_000_000.0) as batch:
            assert (await batch.run(requests(2))).tally.uncertain == 2
        w.simulator.faults = FaultPlan()
        async with w.batch() as batch:
            choice = await batch.choose(Retry(uncertain=True))
            kind = (ImageToVideo(IMAGE_URL).model, 5)
            assert (choice.looked_for, dict(choice.perhaps), dict(choice.new)) == (2, {kind: 2}, {})
            both = await batch.choose(Retry(uncertain=True, buy_again=True))
            assert (dict(both.perhaps), dict(both.bought_again)) == ({}, {kind: 2})
