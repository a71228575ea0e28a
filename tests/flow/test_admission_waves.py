"""Refusals in waves, in virtual time: all pause once, for the longest asked; refused rows go back and cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from kling_async import Stage
from kling_async.rules.admission import PROBE_AFTER, START
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import START as BEGAN
from tests.flow.harness import World, requests, world

pytestmark = pytest.mark.looptime

PRICE = 0.26


def bought_at(w: World) -> list[float]:
    """Return when each was bought, in seconds since the world began."""
    return sorted(one.bought_at - BEGAN for one in w.book.bought())


async def run_all(w: World, count: int, **flags: Any) -> Any:
    """Run so many rows, and hold the promises that every wave is held to: none fails, none costs more than once."""
    async with w.batch(**flags) as batch:
        report = await batch.run(requests(count))
        window = batch._crew.gate.admission.window
    assert report.stopped is None
    assert (report.tally.done, report.tally.failed, report.tally.uncertain) == (count, 0, 0)
    assert report.tally.spent == round(count * PRICE * 2_000_000)
    assert w.book.submits_seen == count + w.book.refused.total()
    assert {record.stage for record in (await w.records()).values()} == {Stage.DONE}
    await w.audit()
    return window


async def beside(work: Callable[[], Coroutine[Any, Any, None]], main: Coroutine[Any, Any, Any]) -> Any:
    """Let something happen beside a run."""
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        return await main


@pytest.mark.parametrize("kind", ["429_seconds", "429_date"])
async def test_a_wave_with_a_pause_named_holds_all_once(tmp_path: Path, kind: str) -> None:
    """Nobody submits before it is over, whoever was refused; then one goes first, then all go on."""
    plan = FaultPlan.of(Fault("submit", kind, since=240, until=300, seconds=90))
    async with world(tmp_path, plan, latency=1.0) as w:
        await run_all(w, 75, max_in_flight=30)
        moments = bought_at(w)
        last = max(at for at in moments if at < 300)
        after = [at for at in moments if at > 300]
        assert after[0] - last >= 88
        assert after[0] < 300 + 90 + 5
        assert after[1] > after[0] + 0.9, "one goes first"
        assert 1 <= w.book.refused[429] <= 30


async def test_the_longest_pause_of_a_burst_counts(tmp_path: Path) -> None:
    """As seconds, as a date, or not told: those in the air at once are refused with each, and all wait for the last."""
    plan = FaultPlan.of(
        Fault("submit", "429_seconds", at=(2,), seconds=20),
        Fault("submit", "429_date", at=(4,), seconds=120),
        Fault("submit", "429_seconds", at=(6,), seconds=60),
        Fault("submit", "429", at=(7,)),
    )
    async with world(tmp_path, plan, latency=2.0) as w:
        await run_all(w, 30, max_in_flight=30)
        moments = bought_at(w)
        assert w.book.refused[429] == 4
        assert len([at for at in moments if at < 10]) == 4
        assert [at for at in moments if 10 <= at < 119] == []
        assert min(at for at in moments if at > 10) < 130


async def test_a_wave_without_a_pause_named_is_met_with_fewer_and_fewer_tries(tmp_path: Path) -> None:
    """One probe at a time, further and further apart; when it is over, all go on within the longest pause."""
    plan = FaultPlan.of(Fault("submit", "429", since=240, until=840))
    async with world(tmp_path, plan, latency=0.5) as w:
        await run_all(w, 70, max_in_flight=30)
        moments = bought_at(w)
        assert [at for at in moments if 242 < at < 840] == []
        assert w.book.refused[429] <= 30 + 10 + 600 / 30
        assert min(at for at in moments if at > 840) < 840 + 60 + 5


async def test_wave_upon_wave_fails_no_row(tmp_path: Path) -> None:
    """A minute in each three, in every form: each row is bought once."""
    kinds = ("429", "429_seconds", "429_date", "429_1302", "429_1303")
    waves = [
        Fault("submit", kind, since=180 * (i + 1), until=180 * (i + 1) + 60, rate=0.7) for i, kind in enumerate(kinds)
    ]
    async with world(tmp_path, FaultPlan.of(*waves), latency=0.5) as w:
        await run_all(w, 110, max_in_flight=25)
        assert w.book.refused[429] >= 5
        assert w.book.duplicates() == []


@pytest.mark.parametrize(("kind", "window"), [("429_1302", 30), ("429_1303", 29)])
async def test_too_many_requests_is_not_too_many_generations(tmp_path: Path, kind: str, window: int) -> None:
    """The one slows the starts, the other leaves a window of what was accepted beside it."""
    plan = FaultPlan.of(Fault("submit", kind, at=(25,)))
    async with world(tmp_path, plan, latency=0.2, durations=300.0) as w:
        found = await run_all(w, 60, max_in_flight=30)
        assert w.book.refused[429] == 1
        assert found == window if kind == "429_1302" else 16 <= found <= window


@pytest.mark.parametrize("limit", [3, 25])
async def test_the_limit_that_nobody_told_is_found_and_used(tmp_path: Path, limit: int) -> None:
    """`auto`: few are refused, the limit is used to the full, and it is written down where it was found."""
    async with world(tmp_path, limit=limit, latency=0.3) as w:
        found = await run_all(w, 6 * limit + 30, max_in_flight="auto")
        assert limit - max(1, limit // 8) <= found <= limit + 1
        assert w.book.max_running_at_once == limit
        assert w.book.refused[429] <= 0.03 * w.book.submits_seen + START


async def test_a_limit_that_sinks_and_rises_is_followed(tmp_path: Path) -> None:
    """Half of it is taken away, and given back: that is known 45 accepted submits later at the latest."""
    found = 1600 + (PROBE_AFTER / 10 + 0.5) * 240  # ten slots till then; half a generation's time to fill ten more
    running: list[tuple[float, int]] = []
    async with world(tmp_path, limit=20, latency=0.3) as w:

        async def change() -> None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            for at in range(0, 3100, 20):
                await asyncio.sleep(began + at - loop.time())
                w.simulator.world.settings = evolve(w.simulator.world.settings, limit=10 if 600 <= at < 1600 else 20)
                w.simulator.world.advance(w.simulator.now())
                running.append((at, w.simulator.world.running))

        await beside(change, run_all(w, 260, max_in_flight="auto"))
        low = [count for at, count in running if 1100 <= at < 1600]
        high = [count for at, count in running if found <= at < found + 240]
        assert 8 <= sum(low) / len(low) <= 10
        assert sum(high) / len(high) >= 17
        assert w.book.refused[429] <= 0.05 * w.book.submits_seen + START


async def test_a_service_that_queues_is_not_flooded(tmp_path: Path) -> None:
    """It refuses nobody and says `queued`: the window does not grow on while it does."""
    async with world(tmp_path, limit=10, limit_policy="queue", latency=0.3) as w:
        await run_all(w, 120, max_in_flight="auto", starts_per_second=0.5)
        assert w.book.refused[429] == 0
        assert w.book.max_running_at_once == 10
        assert w.book.max_open_at_once <= 100


@pytest.mark.parametrize("limit", [2, 5])
async def test_a_service_that_queues_is_not_flooded_before_anything_is_known_of_it(tmp_path: Path, limit: int) -> None:
    """As fast as it accepts them, hundreds would lie in its queue before the first is made, and be overdue there."""
    async with world(tmp_path, limit=limit, limit_policy="queue", latency=0.3) as w:
        await run_all(w, 30 * limit, max_in_flight="auto")
        assert w.book.max_running_at_once == limit
        assert w.book.max_open_at_once <= 40 + 5 * limit


async def test_generations_that_fail_for_the_limit_are_bought_again(tmp_path: Path) -> None:
    """Accepted, and failed with 1303: that was free, the window shrinks, and every row gets its video."""
    async with world(tmp_path, limit=8, limit_policy="fail", latency=0.3) as w:
        async with w.batch(max_in_flight="auto") as batch:
            report = await batch.run(requests(60))
            assert 8 <= batch._crew.gate.admission.window <= 9
        assert (report.tally.done, report.tally.failed) == (60, 0)
        assert w.book.submits_seen <= 60 + 35
        await w.audit()


async def test_a_storm_of_bad_polls_slows_all_together_and_passes(tmp_path: Path) -> None:
    """Five minutes of 500s: few polls go out, and within a minute after it what has ended is noticed."""
    plan = FaultPlan.of(Fault("poll", "500", since=200, until=500))
    polls: dict[float, int] = {}
    async with world(tmp_path, plan, durations=300.0, latency=0.2) as w:

        async def count() -> None:
            for at in (190, 230, 495, 562):
                await asyncio.sleep(at - sum(polls) if not polls else at - max(polls))
                polls[at] = w.book.calls["poll"]

        await beside(count, run_all(w, 60, max_in_flight=60))
        before = polls[190]
        assert before > 60 * 5
        assert polls[495] - polls[230] <= 16 * 265 / 25
        assert sum(one.ended_at is not None for one in w.book.bought()) == 60
        assert polls[562] - polls[495] >= 60


async def test_refused_submits_count_as_heard(tmp_path: Path) -> None:
    """A limit that is held for 25 minutes is no outage: the run waits, and goes on."""
    plan = FaultPlan.of(Fault("submit", "429_1303", since=300, until=300 + 1500))
    async with world(tmp_path, plan, latency=0.3) as w:
        await run_all(w, 40, max_in_flight=20)
