"""A key that is refused in passing, a full account, a clock that moves: what ends a run, and what is waited for."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import pytest

from kling_async import AuthenticationFailed
from kling_async.errors import NotSent
from kling_async.flow.gate import Gate
from kling_async.rules.admission import Admission, Limits
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import requests, world

pytestmark = pytest.mark.looptime

HOUR = 3600.0


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_burst_of_refusals_of_the_key_counts_once(tmp_path: Path) -> None:
    """Eight POSTs that were out together get 401, the balance is told: all rows end DONE."""
    async with world(tmp_path, FaultPlan.of(Fault("submit", "401", at=(1, 2, 3, 4, 5, 6, 7, 8))), latency=0.5) as w:
        async with w.batch(max_in_flight=8) as batch:
            report = await batch.run(requests(20))
        assert (report.stopped, report.tally.done) == (None, 20)
        await w.audit()


async def test_a_usable_answer_ends_a_row_of_refusals_of_the_key(tmp_path: Path) -> None:
    """Three 401s, with requests refused for themselves between, do not close the tap."""
    plan = FaultPlan.of(Fault("submit", "401", at=(1, 3, 5)), Fault("submit", "400", at=(2, 4, 6)))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=1) as batch:
        report = await batch.run(requests(6))
        assert (report.stopped, report.tally.done, report.tally.failed) == (None, 3, 3)


async def test_refusals_of_the_key_are_counted_anew_in_each_run(tmp_path: Path) -> None:
    """Two in one run and one in the next of the same batch are no three in a row."""
    plan = FaultPlan.of(Fault("submit", "401", at=(1, 2, 4)))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=1) as batch:
        rows = requests(3)
        async with batch.stream(rows[:1]):
            while w.book.calls["submit"] < 2:  # noqa: ASYNC110  # nothing tells of a POST that comes in
                await asyncio.sleep(0.1)
        assert (await batch.run(rows)).stopped is None


async def test_the_third_wave_of_refusals_ends_the_run(tmp_path: Path) -> None:
    """Though the balance is told each time: the key may ask, and may not submit."""
    async with world(tmp_path, FaultPlan.of(Fault("submit", "403", since=100))) as w:
        async with w.batch(max_in_flight=4) as batch:
            report = await batch.run(requests(20))
        assert isinstance(report.stopped, AuthenticationFailed)
        assert (report.tally.done, report.tally.failed) == (4, 0)
        assert 1 <= w.book.calls["balance"] <= 3


async def test_an_account_that_others_fill_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """429s alone for an hour, and nothing open: the run does not end with 75, and a person hears of it once."""
    async with world(tmp_path, FaultPlan.of(Fault("submit", "429_1303", until=HOUR))) as w:
        async with w.batch() as batch:
            report = await batch.run(requests(5))
        assert (report.stopped, report.tally.done) == (None, 5)
        assert len(warnings(caplog)) == 1
        assert "the account is full for 1 minute" in warnings(caplog)[0]
        await w.audit()


class DriftingClock:
    """The time of a loop that moves between any two looks at it, as a real one does."""

    def __init__(self) -> None:
        self.now = 1000.1

    def __call__(self) -> float:
        self.now += 1e-4
        return self.now


async def test_an_outage_is_told_once_though_the_clock_never_stands_still(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at every five seconds for ten minutes: one line as it goes, one as it comes back."""
    clock = DriftingClock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    gate = Gate(Admission(Limits(4, adaptive=True)), random.Random(1), retry_after_cap=300.0)
    gate.missed(NotSent("refused"))
    for _ in range(120):
        clock.now += 5
        gate.tell_outage()
    gate.heard()
    gate.tell_outage()
    gate.tell_outage()
    monkeypatch.undo()
    told = warnings(caplog)
    assert ["no usable answer" in told[0], "answers again, after 10 minutes" in told[1]] == [True, True]
    assert len(told) == 2
