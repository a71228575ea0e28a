"""The event file: each saved change is a line, in order; a disk that refuses costs lines, never the run."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kling_async import ConfigurationError, ImageToVideo, open_batch
from kling_async.events import EventFile
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Record, Stage
from tests.flow.harness import requests, world


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def record(key: str, stage: Stage = Stage.PLANNED) -> Record:
    """Make a record."""
    return Record(key, f"{key}.mp4", ImageToVideo("https://images.example/a.png", key=key), "written", stage)


@pytest.mark.looptime
async def test_each_change_is_a_line(tmp_path: Path) -> None:
    """A row that succeeds and one that fails: their whole ways are told, with ids, money and reasons."""
    plan = FaultPlan.of(Fault("job", "error_text", match="prompt 1"))
    async with world(tmp_path / "out", plan) as w:
        async with (
            EventFile(tmp_path / "events", clock=w.clock) as events,
            _batch(w, events) as batch,
        ):
            await batch.run(requests(2))
        book = {purchase.generation_id for purchase in w.book.bought()}
    told = await asyncio.get_running_loop().run_in_executor(None, lines_of, tmp_path / "events")
    ways = {key: [line["stage"] for line in told if line["key"] == key] for key in ("row0", "row1")}
    assert ways["row0"] == ["submitting", "submitted", "rendered", "rendered", "done"]
    assert ways["row1"][-1] == "failed"
    assert all(line["from"] for line in told)
    assert {line["generation_id"] for line in told if line["stage"] == "done"} <= book
    done = next(line for line in told if line["stage"] == "done")
    assert (done["file"], done["usd"] > 0, done["size"] > 0, done["error"]) == ("row0.mp4", True, True, None)
    failed = next(line for line in told if line["stage"] == "failed")
    assert (failed["error"], bool(failed["message"])) == ("GenerationFailed", True)
    assert [line["at"] for line in told] == sorted(line["at"] for line in told)


def _batch(w: Any, events: EventFile) -> Any:
    return open_batch(
        w.folder, clock=w.clock, seed=1, base_url=w.simulator.base_url, api_key="sim-key", observers=[events]
    )


async def test_a_file_is_added_to(tmp_path: Path) -> None:
    """A second run goes on in the same file."""
    for key in ("one", "two"):
        async with EventFile(tmp_path / "events") as events:
            events.changed(record(key), record(key, Stage.FAILED))
    assert [line["key"] for line in lines_of(tmp_path / "events")] == ["one", "two"]


async def test_nothing_is_lost_when_it_is_left_at_once(tmp_path: Path) -> None:
    """Thousands of changes in one turn of the loop, and the end right after them: all are there, in order."""
    async with EventFile(tmp_path / "events") as events:
        for number in range(5000):
            events.changed(record(f"row{number}"), record(f"row{number}", Stage.FAILED))
    assert [line["key"] for line in lines_of(tmp_path / "events")] == [f"row{number}" for number in range(5000)]


async def test_strange_keys_are_one_line_each(tmp_path: Path) -> None:
    """Line ends, quotes and other scripts in a key do not break the file."""
    keys = ["a\nb", "a\u2028b", "日本", '"']
    async with EventFile(tmp_path / "events") as events:
        for key in keys:
            events.changed(record(key), record(key, Stage.FAILED))
    found = (tmp_path / "events").read_bytes().split(b"\n")
    assert len(found) == len(keys) + 1
    assert [json.loads(line)["key"] for line in found[:-1]] == ["a\nb", "a\u2028b", "日本", '"']


async def test_a_place_that_cannot_be_written_is_told_before_anything(tmp_path: Path) -> None:
    """A folder, or a place below no folder: a ConfigurationError, at once."""
    for place in (tmp_path, tmp_path / "nowhere" / "events"):
        with pytest.raises(ConfigurationError, match="events cannot be written"):
            async with EventFile(place):
                pass


async def test_who_leaves_while_it_is_opened_leaves_nothing_open(tmp_path: Path) -> None:
    """A pipe lets itself be opened once somebody reads it, and tells him when nobody writes any more."""
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    entering = asyncio.create_task(EventFile(pipe).__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    reader = await asyncio.get_running_loop().run_in_executor(None, os.open, pipe, os.O_RDONLY)
    try:
        await asyncio.wait([entering])
        assert entering.cancelled()
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
async def test_a_full_disk_costs_lines_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Writes that fail are told once, and whoever tells the changes hears nothing of it."""
    async with EventFile("/dev/full") as events:
        for number in range(3):
            events.changed(record(f"row{number}"), record(f"row{number}", Stage.FAILED))
            await asyncio.sleep(0.01)
    assert caplog.text.count("events cannot be written") == 1


async def test_a_disk_that_hangs_does_not_fill_the_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a pipe that nobody reads, a bounded number of lines waits; the others are left out, and counted."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        async with EventFile(pipe) as events:
            for number in range(30_000):
                events.changed(record(f"row{number}"), record(f"row{number}", Stage.FAILED))
                if number == 5000:
                    await asyncio.sleep(0)
            got = await asyncio.get_running_loop().run_in_executor(None, _drain, reader, 20_000)
            await asyncio.sleep(0)
        assert got >= 20_000
    finally:
        os.close(reader)
    assert "events were left out" in caplog.text


def _drain(reader: int, lines: int) -> int:
    """Read so many lines from a pipe."""
    os.set_blocking(reader, True)
    found = 0
    while found < lines:
        found += os.read(reader, 1 << 20).count(b"\n")
    return found
