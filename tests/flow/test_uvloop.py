"""Under uvloop a job ends as it does under asyncio's own loop: troubles, a stop in the midst, and the rest after it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from kling_async import ImageToVideo
from kling_async.simulator import FaultPlan
from tests.flow.harness import requests, world

if sys.platform == "win32":
    pytest.skip("there is no uvloop for Windows", allow_module_level=True)

import uvloop

ROWS = 24
PLAN = FaultPlan.of(
    submit={"502_after": 0.1, "429_1303": 0.1, "dropped_after": 0.1},
    poll={"500": 0.1, "dropped_after": 0.05},
    download={"cut": 0.2, "expired": 0.1},
    seed=5,
)


def test_a_job_under_uvloop(tmp_path: Path) -> None:
    """Left in the midst and gone on with: every row has its video, none was bought twice."""

    async def job() -> None:
        async with world(tmp_path, PLAN, durations=0.05, log_listing="acceptance") as w:
            quick = {"backoff_first": 0.01, "backoff_cap": 0.05, "poll_interval_max": 0.1, "poll_interval_min": 0.01}
            given = requests(ROWS)
            async with w.batch(max_in_flight=4, **quick) as batch, batch.stream(given) as outcomes:
                left = [await anext(outcomes) for _ in range(5)]
            assert len(left) == 5
            async with w.batch(max_in_flight=4, **quick) as batch:
                report = await batch.run(given)
            assert report.tally.done == ROWS
            await w.audit()
            async with w.client(**quick) as client:
                file = await client.generate(ImageToVideo("https://images.example/one.png"), tmp_path / "one.mp4")
            assert file.size > 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(job())
