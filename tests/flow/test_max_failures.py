"""As many rows may end without a video as their owner says; then no more is bought, and what is open is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from kling_async import Stage, TooManyFailures
from kling_async.flow.retries import Retry
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import requests, world

pytestmark = pytest.mark.looptime


def failing(*prompts: str) -> FaultPlan:
    """Let the jobs with these prompts fail."""
    return FaultPlan.of(*(Fault("job", "error_text", match=prompt) for prompt in prompts))


async def test_the_first_failure_stops_the_buying(tmp_path: Path) -> None:
    """With one failure allowed, rows that were not begun stay so; what was open when it failed is fetched."""
    async with world(tmp_path, failing("prompt 0")) as w:
        async with w.batch(max_in_flight=3, max_failures=1) as batch:
            report = await batch.run(requests(12))
        assert isinstance(report.stopped, TooManyFailures)
        assert "'row0'" in str(report.stopped)
        records = await w.records()
        assert records["row0"].stage is Stage.FAILED
        bought = len(w.book.bought())
        assert 3 <= bought < 12
        assert sum(record.stage is Stage.DONE for record in records.values()) == bought - 1
        await w.audit()


async def test_fewer_failures_than_allowed_stop_nothing(tmp_path: Path) -> None:
    """Two of three allowed failures: the run comes to its end, and nothing is told to have stopped it."""
    async with world(tmp_path, failing("prompt 0", "prompt 1")) as w:
        async with w.batch(max_in_flight=2, max_failures=3) as batch:
            report = await batch.run(requests(8))
        assert report.stopped is None
        assert (report.tally.done, report.tally.failed) == (6, 2)


async def test_a_last_row_that_fails_has_stopped_nothing(tmp_path: Path) -> None:
    """Where nobody was turned away, the run has come to its end."""
    async with world(tmp_path, failing("prompt 3")) as w:
        async with w.batch(max_in_flight=1, max_failures=1) as batch:
            report = await batch.run(requests(4))
        assert report.stopped is None
        assert (report.tally.done, report.tally.failed) == (3, 1)


async def test_what_failed_before_does_not_count(tmp_path: Path) -> None:
    """Each run counts for itself: the next one with the same limit goes on, and so does trying the failed ones."""
    async with world(tmp_path, failing("prompt 0")) as w:
        async with w.batch(max_in_flight=1, max_failures=1) as batch:
            assert (await batch.run(requests(4))).stopped is not None
        async with w.batch(max_in_flight=1, max_failures=1) as batch:
            report = await batch.run(requests(4))
            assert report.stopped is None
            assert (report.tally.done, report.tally.failed) == (3, 1)
        w.simulator.faults = FaultPlan()
        async with w.batch(max_in_flight=1, max_failures=1) as batch:
            report = await batch.run(Retry())
        assert (report.stopped, report.tally.done) == (None, 4)
        await w.audit()


async def test_a_row_that_is_set_aside_counts(tmp_path: Path) -> None:
    """A video that cannot be fetched is no video: its row counts, and stays where it is, with its id."""
    async with world(tmp_path, FaultPlan.of(Fault("download", "garbage"))) as w:
        async with w.batch(max_in_flight=1, max_failures=2, download_attempts=2) as batch:
            report = await batch.run(requests(30))
        assert isinstance(report.stopped, TooManyFailures)
        assert len(w.book.bought()) < 30
        records = await w.records()
        aside = [record for record in records.values() if record.set_aside]
        assert len(aside) == len(w.book.bought())
        assert all(record.stage is Stage.RENDERED and record.generation_id for record in aside)
