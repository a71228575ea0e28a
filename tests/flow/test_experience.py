"""What one run learned, the next one begins with; and what a run does now can be read beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kling_async.adapters.clock import SystemClock
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.flow.experience import DURATIONS, STATISTICS, WINDOW
from kling_async.journals import read_status
from kling_async.rules.admission import START
from kling_async.rules.durations import TAKEN_OVER
from tests.flow.harness import World, requests, world

pytestmark = pytest.mark.looptime

HOUR = 3600.0


async def note(w: World, name: str, value: str | None = None) -> str | None:
    """Read or write a note of the folder's journal, beside any run."""
    journal = SqliteJournal(w.folder / ".kling" / "journal.db", lock=False)
    await journal.open()
    try:
        return await journal.note(name) if value is None else await journal.note(name, value)
    finally:
        await journal.aclose()


async def first_run(w: World, **flags: Any) -> tuple[int, Mapping[str, Any]]:
    """Run a job that finds the limit; return the window and what was learned of durations."""
    async with w.batch(max_in_flight="auto", **flags) as batch:
        report = await batch.run(requests(70))
        assert report.tally.done == 70
        return batch._crew.gate.admission.window, batch._crew.poller.learned()


async def begins_at(w: World, **flags: Any) -> int:
    """Return the window that the next run begins at."""
    async with w.batch(max_in_flight="auto", **flags) as batch:
        return batch._crew.gate.admission.window


async def test_the_next_run_begins_with_most_of_the_window(tmp_path: Path) -> None:
    """Three quarters of one that is younger than a day, in a new process too; of an older one nothing."""
    async with world(tmp_path, limit=24, latency=0.3) as w:
        window, _ = await first_run(w)
        assert 23 <= window <= 25
        assert await begins_at(w) == int(0.75 * window)
        await asyncio.sleep(22 * HOUR)
        assert await begins_at(w) == int(0.75 * window)
        await asyncio.sleep(3 * HOUR)
        assert await begins_at(w) == START


async def test_another_key_has_another_window(tmp_path: Path) -> None:
    """It may be another account; under the first key, its own is still known."""
    async with world(tmp_path, limit=24, latency=0.3, keys=("sim-key", "other-key")) as w:
        window, _ = await first_run(w)
        assert await begins_at(w, api_key="other-key") == START
        assert await begins_at(w) == int(0.75 * window)


async def test_another_address_has_another_window(tmp_path: Path) -> None:
    """Nothing bought stands in the journal, so that it may be used with another service."""
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight="auto") as batch:
            name = batch._crew.experience._window_note
            assert name.startswith(WINDOW)
        await note(w, name, json.dumps({"window": 200, "at": w.clock.wall()}))
        assert await begins_at(w) == 150
        assert await begins_at(w, base_url="http://127.0.0.1:9/elsewhere") == START


async def test_a_window_that_was_not_met_is_not_remembered(tmp_path: Path) -> None:
    """A job that was too small to meet the limit, or was given a number, says nothing of the account."""
    async with world(tmp_path, limit=40) as w:
        async with w.batch(max_in_flight="auto") as batch:
            await batch.run(requests(5))
        assert await begins_at(w) == START
        async with w.batch(max_in_flight=60) as batch:
            await batch.run(requests(100))
        assert await begins_at(w) == START


async def test_what_is_open_counts_where_it_is_more(tmp_path: Path) -> None:
    """The account holds that many, as is seen."""
    async with world(tmp_path, limit=None) as w:
        async with w.batch(max_in_flight=70) as batch, batch.stream(requests(200)) as outcomes:
            await anext(outcomes)
        assert await begins_at(w) >= 60


async def test_the_next_run_polls_by_what_was_learned(tmp_path: Path) -> None:
    """From its first generation on: the learned bins are in the journal, by kind."""
    async with world(tmp_path, limit=24, latency=0.3, sigma=0.15) as w:
        _, learned = await first_run(w)
        assert len(learned) == 1
        assert json.loads(await note(w, DURATIONS) or "") == learned
        async with w.batch(max_in_flight=24) as batch:
            taken_over = batch._crew.poller.learned()
            assert taken_over.keys() == learned.keys()
            (kind,) = learned
            assert taken_over[kind]["seen"] == min(TAKEN_OVER, learned[kind]["seen"])
            report = await batch.run(requests(100))
        knowing = report.polls / 30
    async with world(tmp_path / "new", limit=24, latency=0.3, sigma=0.15) as w:
        async with w.batch(max_in_flight=24) as batch:
            report = await batch.run(requests(30))
        unknowing = report.polls / 30
    assert knowing < 0.7 * unknowing


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "null",
        "[]",
        "{",
        '"text"',
        '{"window": "many", "at": 0}',
        '{"": 5}',
        '{"window": 1e400, "at": 1}',
        '{"window": 1' + 400 * "0" + ', "at": 2e9}',
        '{"window": 20, "at": NaN}',
        10_000 * "[",
    ],
)
async def test_notes_that_cannot_be_read_stop_nothing(tmp_path: Path, garbage: str) -> None:
    """They are as if they were not there."""
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight="auto") as batch:
            name = batch._crew.experience._window_note
        await note(w, name, garbage)
        await note(w, DURATIONS, garbage)
        async with w.batch(max_in_flight="auto") as batch:
            assert batch._crew.gate.admission.window == START
            assert (await batch.run(requests(3))).tally.done == 3


async def test_the_figures_of_a_run_can_be_read_beside_it(tmp_path: Path) -> None:
    """Every few seconds: how full the account is used, how generations are watched, how videos come in."""
    async with world(tmp_path, limit=15, latency=0.3) as w:
        async with w.batch(max_in_flight="auto") as batch:
            task = asyncio.ensure_future(batch.run(requests(60)))
            seen = []
            for _ in range(30):
                await asyncio.sleep(20)
                seen.append(json.loads(await note(w, STATISTICS) or "null"))
            assert (await task).tally.done == 60
        told = [figures for figures in seen if figures]
        assert len(told) >= 20
        assert [figures["at"] for figures in told] == sorted({figures["at"] for figures in told})
        assert max(figures["admission"]["open"] for figures in told) == 15
        assert told[-1]["admission"]["window"] >= 13
        assert told[-1]["admission"]["refused"] >= 1
        assert told[-1]["polling"]["finished"] > 0
        assert told[-1]["polling"]["median"] == pytest.approx(240, rel=0.3)
        assert told[-1]["downloads"]["done"] == told[-1]["polling"]["finished"]


@pytest.mark.parametrize(
    "garbage",
    ["", "[]", "5", "{", '{"at": 1}', '{"at": AT}', '{"at": AT, "admission": {}, "polling": {}, "downloads": {}}'],
)
async def test_figures_that_cannot_be_read_hide_no_rows(tmp_path: Path, garbage: str) -> None:
    """Another version wrote them, or they are damaged: the rows are told, and no run is said to be under way."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.run(requests(2))
        await note(w, STATISTICS, garbage.replace("AT", str(SystemClock().wall())))
        status = await read_status(tmp_path)
        assert (status.tally.done, status.figures, status.seconds_left) == (2, None, None)


async def test_a_run_has_its_figures_from_its_beginning_on(tmp_path: Path) -> None:
    """Whoever looks at once is not told that none is under way."""
    async with world(tmp_path, latency=0.3) as w, w.batch(max_in_flight="auto") as batch, batch.stream(requests(5)):
        await asyncio.sleep(1)
        assert json.loads(await note(w, STATISTICS) or "null") is not None


async def test_figures_of_a_run_that_is_over_are_gone(tmp_path: Path) -> None:
    """Nobody takes them for those of one under way."""
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight="auto") as batch:
            await batch.run(requests(5))
        assert json.loads(await note(w, STATISTICS) or "null") is None
