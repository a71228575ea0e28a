"""One stuck generation never keeps a run from ending, nor its slot from others; one that finishes late is saved."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kling_async import Stage
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import requests, world

pytestmark = pytest.mark.looptime

HOUR = 3600.0


async def test_stuck_generations_do_not_keep_a_run_from_ending(tmp_path: Path) -> None:
    """They are set aside after their time, with id and money, and all others have their videos long before."""
    plan = FaultPlan.of(Fault("job", "never_ends", match="prompt 3"))
    async with world(tmp_path, plan) as w:
        began = asyncio.get_running_loop().time()
        async with w.batch(max_in_flight=4) as batch:
            report = await batch.run(requests(30))
        lasted = asyncio.get_running_loop().time() - began
        assert (report.tally.done, report.tally.failed) == (29, 0)
        assert report.tally.held > 0
        assert 2 * HOUR - 60 <= lasted <= 2 * HOUR + 300
        stuck = (await w.records())["row3"]
        assert stuck.stage is Stage.SUBMITTED
        assert stuck.set_aside
        assert stuck.generation_id is not None
        assert len(w.book.bought()) == 30
        await w.audit()


async def test_stuck_generations_give_their_slots_up(tmp_path: Path) -> None:
    """Though as many are stuck as there are slots: after a bounded time the others go on, and the run ends."""
    plan = FaultPlan.of(*(Fault("job", "never_ends", match=f"prompt {i}", at=(1,)) for i in range(3)))
    async with world(tmp_path, plan) as w:
        began = asyncio.get_running_loop().time()
        async with w.batch(max_in_flight=3, give_up_after=HOUR) as batch:
            report = await batch.run(requests(20))
        assert report.tally.done == 17
        assert asyncio.get_running_loop().time() - began <= HOUR + 6 * 600
        await w.audit()


async def test_a_latecomer_is_asked_slowly_on_and_saved(tmp_path: Path) -> None:
    """It finishes while others still run: its video is fetched, in the same run."""
    plan = FaultPlan.of(Fault("job", "late", match="prompt 0", at=(1,)))
    async with world(tmp_path, plan, durations=300.0) as w, w.batch(max_in_flight=2, give_up_after=900) as batch:
        keys = []
        async with batch.stream(requests(40)) as outcomes:
            async for outcome in outcomes:
                keys.append(outcome.key)
                assert outcome.ok
        assert len(keys) == 40
        assert 2 < keys.index("row0") < 39
        assert len(w.book.bought()) == 40
        await w.audit()


async def test_the_next_run_asks_for_those_that_were_left(tmp_path: Path) -> None:
    """Once; what has finished meanwhile is fetched, and nothing is bought again."""
    plan = FaultPlan.of(Fault("job", "late", match="prompt 0", at=(1,)))
    async with world(tmp_path, plan, durations=1200.0) as w:
        async with w.batch(give_up_after=2400) as batch:
            report = await batch.run(requests(3))
        assert (report.tally.done, report.tally.rows) == (2, 3)
        await asyncio.sleep(4 * HOUR)
        async with w.batch(give_up_after=2400) as batch:
            report = await batch.run(requests(3))
        assert report.tally.done == 3
        assert len(w.book.bought()) == 3
        await w.audit()
