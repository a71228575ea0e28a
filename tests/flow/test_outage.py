"""The service stays away, or refuses the key for a while: no row pays for it, and a person hears of it once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve

from kling_async import AuthenticationFailed, ServiceUnavailable, Stage
from kling_async.cli.ends import KEY, UNAVAILABLE, code_of
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import World, outcomes_of, requests, world

pytestmark = pytest.mark.looptime

MINUTE = 60.0


@asynccontextmanager
async def beside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Let something happen beside the block, to its end."""
    task = asyncio.ensure_future(work())
    try:
        yield
        await task
    finally:
        task.cancel()


async def be_away(w: World, after: float, seconds: float) -> None:
    """Refuse all connections for a while."""
    await asyncio.sleep(after)
    await w.simulator.stop_listening()
    await asyncio.sleep(seconds)
    await w.simulator.listen_again()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_ten_minutes_without_the_service_in_the_midst_of_a_large_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """None fails, all end DONE, none is bought twice; it is told once that it went and once that it came back."""
    async with world(tmp_path, latency=1.0) as w:
        async with w.batch(max_in_flight=60) as batch, beside(lambda: be_away(w, 400, 10 * MINUTE)):
            report = await batch.run(requests(200))
        assert (report.stopped, report.tally.done) == (None, 200)
        assert len(w.book.bought()) == 200
        assert w.book.calls["submit"] < 200 + 90, "submits wait as one while nobody answers"
        await w.audit()
    told = warnings(caplog)
    assert [line for line in told if "for 1 minute: all submits wait; last: " in line] == told[:1]
    assert [line for line in told if "the service answers again, after 1" in line] == told[1:]


@pytest.mark.parametrize("kind", ["503", "502", "html", "stalled_before", "dropped_before", "429"])
async def test_ten_minutes_of_bad_answers_to_all_calls(tmp_path: Path, kind: str) -> None:
    """Whatever the service says in place of an answer: none fails, all end DONE, none is bought twice."""
    plan = FaultPlan(
        faults=tuple(Fault(call, kind, since=300, until=900) for call in ("submit", "poll", "log", "balance"))
    )
    async with world(tmp_path, plan) as w:
        async with w.batch(max_in_flight=10) as batch:
            report = await batch.run(requests(40))
        assert report.stopped is None
        # What may have been taken is looked for; without an entry in the log it is set aside, and not bought again.
        assert (report.tally.done + report.tally.uncertain, report.tally.failed) == (40, 0)
        assert report.tally.uncertain <= 10
        await w.audit()


async def test_an_hour_without_the_service_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After half an hour the run ends with 75, every row where it stood; run again, all end DONE, none bought twice."""
    async with world(tmp_path, latency=1.0) as w:
        async with w.batch(max_in_flight=30) as batch:
            began = asyncio.get_running_loop().time()
            async with beside(lambda: be_away(w, 400, 60 * MINUTE)):
                report = await batch.run(requests(80))
                ended = asyncio.get_running_loop().time() - began
                stages = Counter(record.stage for record in (await w.records()).values())
        assert isinstance(report.stopped, ServiceUnavailable)
        assert code_of(report.stopped) == UNAVAILABLE
        assert 400 + 30 * MINUTE <= ended <= 400 + 32 * MINUTE
        assert stages[Stage.FAILED] == 0
        assert stages[Stage.SUBMITTED] + stages[Stage.UNCERTAIN] >= 25
        assert sum("no usable answer from the service for 1 minute" in line for line in warnings(caplog)) == 1
        assert not any("answers again" in line for line in warnings(caplog))
        async with w.batch(max_in_flight=30) as batch:
            report = await batch.run(requests(80))
        assert (report.stopped, report.tally.done) == (None, 80)
        assert len(w.book.bought()) == 80
        await w.audit()


async def test_a_pause_in_which_nobody_asked_is_no_outage(tmp_path: Path) -> None:
    """A consumer that takes its time for an hour, and one bad answer after it, do not end a run."""
    plan = FaultPlan.of(Fault("submit", "503", since=3500, at_most=3))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=1, downloads_at_once=1) as batch:
        found = []
        async with batch.stream(requests(12)) as outcomes:
            async for outcome in outcomes:
                found.append(outcome.ok)
                if len(found) == 1:
                    await asyncio.sleep(60 * MINUTE)
        assert found == [True] * 12


async def test_short_troubles_are_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Half a minute without the service is nothing that a person must hear of."""
    async with world(tmp_path) as w, w.batch(max_in_flight=20) as batch, beside(lambda: be_away(w, 200, 30)):
        assert (await batch.run(requests(60))).tally.done == 60
    assert warnings(caplog) == []


async def test_polls_refused_for_a_while_end_no_run(tmp_path: Path) -> None:
    """The polls of many rows get 401 for five minutes, the balance call does not: all end DONE."""
    plan = FaultPlan.of(Fault("poll", "401", since=200, until=500))
    async with world(tmp_path, plan) as w:
        async with w.batch(max_in_flight=40) as batch:
            report = await batch.run(requests(80))
        assert (report.stopped, report.tally.done) == (None, 80)
        assert 1 <= w.book.calls["balance"] <= 10
        await w.audit()


async def test_polls_refused_for_ever_end_the_run_as_unavailable(tmp_path: Path) -> None:
    """With a key that the balance call takes, and no other usable answer: 75 after half an hour, no row lost."""
    plan = FaultPlan.of(Fault("poll", "401", since=200))
    async with world(tmp_path, plan, durations=600.0) as w:
        async with w.batch(max_in_flight=50) as batch:
            report = await batch.run(requests(50))
        assert isinstance(report.stopped, ServiceUnavailable)
        assert (report.tally.submitted, report.tally.failed) == (50, 0)
        w.simulator.faults = FaultPlan()
        async with w.batch(max_in_flight=50) as batch:
            assert (await batch.run(requests(50))).tally.done == 50
        await w.audit()


async def test_a_revoked_key_ends_the_run_and_keeps_all_records(tmp_path: Path) -> None:
    """4, soon, with every bought row where it stood; a good key goes on from there."""
    async with world(tmp_path, keys=("sim-key", "new-key"), durations=600.0) as w:
        loop = asyncio.get_running_loop()

        async def revoke() -> None:
            await asyncio.sleep(200)
            w.simulator.desk.settings = evolve(w.simulator.desk.settings, keys=("new-key",))

        async with w.batch(max_in_flight=80) as batch, beside(revoke):
            began = loop.time()
            report = await batch.run(requests(120))
            assert 200 <= loop.time() - began <= 240
        assert isinstance(report.stopped, AuthenticationFailed)
        assert code_of(report.stopped) == KEY
        assert (report.tally.submitted, report.tally.failed) == (80, 0)
        assert w.book.calls["balance"] == 1
        async with w.batch(max_in_flight=80, api_key="new-key") as batch:
            assert all(outcome.ok for outcome in (await outcomes_of(batch, requests(120))).values())
        assert len(w.book.bought()) == 120
        await w.audit()
