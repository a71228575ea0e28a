"""Killed between any two steps: what is found in the journal and the folder, and what the next start makes of it.

A crash is a copy of the folder, database and log included, taken while the one row that is on its way hangs in a call
of a door; the next run begins from the copy, against the same service. `docs/explanation/durability.md` tells these
points in a table, which `tests/test_docs.py` holds against `POINTS`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import field, frozen

from kling_async import ImageToVideo
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Stage
from tests.flow.harness import IMAGE_URL, World, found_in, world
from tests.flow.hinges import Hinge, Moment, hinged_batch, left_where_it_hangs

pytestmark = pytest.mark.looptime


def _names(given: Iterable[str]) -> frozenset[str]:
    return frozenset(given)


@frozen
class Point:
    """A moment between two steps of a row, and what follows when the process dies there."""

    call: str
    """The call in which the row hangs, as `tests.flow.hinges.name_of` names it."""
    moment: Moment
    """Whether it dies before the call takes effect, or after."""
    found: Stage | None
    """Where the next start finds the row; None where the journal does not know it."""
    number: int = 1
    """Which call of that name."""
    plan: FaultPlan = field(factory=FaultPlan)
    """What goes wrong on the way there; after the crash nothing does."""
    log: Mapping[str, object] = field(factory=dict)
    """What the usage log lists, and when, as the simulator is told."""
    bought: int = 1
    """Generations bought when it dies."""
    digest: bool = False
    """Whether the journal knows the digest of its video."""
    file: Literal["", "part", "whole"] = ""
    """What lies in the folder of videos: nothing, a temporary file, or a whole one under its final name."""
    asks: frozenset[str] = field(default=(), converter=_names)
    """What the next run asks the service for, of: submit, log, poll, download."""
    ends: Stage = Stage.DONE
    """Where that run leaves the row."""


ALL = ("submit", "poll", "download")
LOST = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
REFUSED = FaultPlan.of(Fault("submit", "429_seconds", at=(1,)))
HOPELESS = FaultPlan.of(Fault("job", "error_named", at=(1,)))
ENDLESS = FaultPlan.of(Fault("job", "never_ends", at=(1,)))

POINTS = {
    # On the way of a row to which nothing happens.
    "not-enrolled": Point("enrol", "before", None, bought=0, asks=ALL),
    "enrolled": Point("enrol", "after", Stage.PLANNED, bought=0, asks=ALL),
    "intent-unwritten": Point("intend", "before", Stage.PLANNED, bought=0, asks=ALL),
    "intent-written": Point("submit", "before", Stage.SUBMITTING, bought=0, asks={"log"}, ends=Stage.UNCERTAIN),
    "posted": Point("submit", "after", Stage.SUBMITTING, asks={"log", "poll", "download"}),
    "id-unwritten": Point("save submitted", "before", Stage.SUBMITTING, asks={"log", "poll", "download"}),
    "id-written": Point("save submitted", "after", Stage.SUBMITTED, asks={"poll", "download"}),
    "end-unwritten": Point("save rendered", "before", Stage.SUBMITTED, asks={"poll", "download"}),
    "end-written": Point("save rendered", "after", Stage.RENDERED, asks={"poll", "download"}),
    "half-fetched": Point("write", "after", Stage.RENDERED, file="part", asks={"poll", "download"}),
    "digest-unwritten": Point("save rendered", "before", Stage.RENDERED, 2, file="part", asks={"poll", "download"}),
    "digest-written": Point("commit", "before", Stage.RENDERED, digest=True, file="part", asks={"poll", "download"}),
    "renamed": Point("commit", "after", Stage.RENDERED, digest=True, file="whole"),
    "done-unwritten": Point("save done", "before", Stage.RENDERED, digest=True, file="whole"),
    "done-written": Point("add", "before", Stage.DONE, digest=True, file="whole"),
    "line-unnoted": Point("note metadata_position", "before", Stage.DONE, digest=True, file="whole"),
    "line-noted": Point("note metadata_position", "after", Stage.DONE, digest=True, file="whole"),
    # On the way of a row whose submit or generation comes to nothing.
    "refusal-unwritten": Point(
        "save planned",
        "before",
        Stage.SUBMITTING,
        plan=REFUSED,
        log={"log_refused": True},
        bought=0,
        asks=(*ALL, "log"),
    ),
    "refusal-written": Point("save planned", "after", Stage.PLANNED, plan=REFUSED, bought=0, asks=ALL),
    "failure-unwritten": Point(
        "save failed", "before", Stage.SUBMITTED, plan=HOPELESS, asks={"poll"}, ends=Stage.FAILED
    ),
    "failure-written": Point("save failed", "after", Stage.FAILED, plan=HOPELESS, ends=Stage.FAILED),
    "overdue-unwritten": Point(
        "save submitted", "before", Stage.SUBMITTED, 2, plan=ENDLESS, asks={"poll"}, ends=Stage.SUBMITTED
    ),
    "overdue-written": Point(
        "save submitted", "after", Stage.SUBMITTED, 2, plan=ENDLESS, asks={"poll"}, ends=Stage.SUBMITTED
    ),
    # On the way of a row whose answer is lost.
    "loss-unwritten": Point("save uncertain", "before", Stage.SUBMITTING, plan=LOST, asks={"log", "poll", "download"}),
    "loss-written": Point("save uncertain", "after", Stage.UNCERTAIN, plan=LOST, asks={"log", "poll", "download"}),
    "find-unwritten": Point("save submitted", "before", Stage.UNCERTAIN, plan=LOST, asks={"log", "poll", "download"}),
    "find-written": Point("save submitted", "after", Stage.SUBMITTED, plan=LOST, asks={"poll", "download"}),
    "aside-unwritten": Point(
        "save uncertain",
        "before",
        Stage.UNCERTAIN,
        2,
        plan=LOST,
        log={"log_listing": "never"},
        asks={"log"},
        ends=Stage.UNCERTAIN,
    ),
    "aside-written": Point(
        "save uncertain",
        "after",
        Stage.UNCERTAIN,
        2,
        plan=LOST,
        log={"log_listing": "never"},
        asks={"log"},
        ends=Stage.UNCERTAIN,
    ),
}
"""By name: every moment between two steps. The page tells them in this order."""

ROW = ImageToVideo(IMAGE_URL, "a cat", key="row0")


@pytest.mark.parametrize("name", POINTS)
async def test_a_run_killed_between_two_steps_goes_on_from_there(tmp_path: Path, name: str) -> None:
    """The row is found where the page says, asked for what the page says, and ends there; nothing is bought twice."""
    point = POINTS[name]
    async with world(tmp_path / "first", point.plan, **point.log) as w:
        dead = await killed(w, [ROW], Hinge(point.number, point.moment, point.call), tmp_path / "second")
        assert len(w.book.bought()) == point.bought
        record = (await dead.records()).get("row0")
        assert (record.stage if record else None) is point.found
        if record is not None and record.stage in {Stage.SUBMITTED, Stage.RENDERED, Stage.DONE}:
            assert record.generation_id == w.book.bought()[0].generation_id
        assert (record is not None and record.sha256 is not None) == point.digest
        assert await lying(dead) == point.file
        asked = await asked_by_next(dead)
        assert {name for name in (*ALL, "log") if asked[name]} == point.asks
        await ended(dead, point)


async def ended(dead: World, point: Point) -> None:
    """Hold the folder against the account when the next run is over."""
    record = (await dead.records())["row0"]
    assert record.stage is point.ends
    assert len(dead.book.bought()) == max(point.bought, "submit" in point.asks)
    done = point.ends is Stage.DONE
    assert await lying(dead) == ("whole" if done else "")
    lines = await lines_of(dead.folder / "metadata.jsonl")
    assert [line["file_name"] for line in lines] == ["videos/row0.mp4"] * done
    failures = await lines_of(dead.folder / "failures.jsonl")
    assert [line["key"] for line in failures] == ["row0"] * (not done)
    if point.ends is Stage.UNCERTAIN:
        # What the log does not tell is not bought again; whatever it was, the row knows under which name it was sent.
        assert all(one.request_id == record.client_request_id for one in dead.book.bought())
    else:
        await dead.audit()


async def test_a_copied_video_that_was_not_yet_its_rows_is_taken_again(tmp_path: Path) -> None:
    """A row of equal content dies when it has its file and the journal does not know: PLANNED, and shared anew."""
    twins = [ImageToVideo(IMAGE_URL, "a cat", key=f"row{i}") for i in range(2)]
    async with world(tmp_path / "first") as w:
        dead = await killed(w, twins, Hinge(1, "after", "link"), tmp_path / "second")
        assert {record.stage for record in (await dead.records()).values()} == {Stage.DONE, Stage.PLANNED}
        assert await found_in(dead.folder / "videos") == {"row0.mp4", "row1.mp4"}
        asked = await asked_by_next(dead, twins)
        assert not any(asked.values())
        assert {record.stage for record in (await dead.records()).values()} == {Stage.DONE}
        records = (await dead.records()).values()
        assert {record.shares or record.generation_id for record in records} == {w.book.bought()[0].generation_id}
        assert len(await lines_of(dead.folder / "metadata.jsonl")) == 2


async def test_a_row_whose_post_never_left_is_bought_only_on_its_owners_word(tmp_path: Path) -> None:
    """Killed between intent and POST: held, with its money; with `on_uncertain="resubmit"`, looked for and bought."""
    point = POINTS["intent-written"]
    async with world(tmp_path / "first") as w:
        dead = await killed(w, [ROW], Hinge(point.number, point.moment, point.call), tmp_path / "second")
        await asked_by_next(dead)
        assert (await dead.records())["row0"].credits == 520_000
        async with dead.batch(on_uncertain="resubmit", uncertain_after=60.0) as batch:
            report = await batch.run([ROW])
        assert (report.tally.done, len(w.book.bought())) == (1, 1)
        await dead.audit()


STEPS = (
    *("note price", "resume", "write_failures", "enrol", "intend", "submit", "save submitted", "raise_price"),
    *("save rendered", "write", "save rendered", "commit", "save done", "add", "note metadata_position"),
    "write_failures",
)
"""What is written, and when, on the way of a row to which nothing happens. The page tells it in this order."""
READS = re.compile("price|poll|read .*|unfinished|failed|again|done_since|tally|stage|fetch|pieces")
"""Calls that write nothing; a file that is begun is empty, and its name is temporary."""


async def test_each_write_comes_before_what_depends_on_it(tmp_path: Path) -> None:
    """The intent before the POST, the id before anything else, the digest before the rename, the end after it."""
    hinge = Hinge(0, "before")

    async def slowly() -> AsyncIterator[ImageToVideo]:
        yield ROW
        await asyncio.sleep(3600)  # the results are written meanwhile

    async with world(tmp_path) as w:
        batch = w.batch()
        hinged_batch(batch, hinge)
        async with batch:
            await batch.run(slowly())
    written = [re.sub("(?<=note price).*", "", name) for name in hinge.heard if not READS.fullmatch(name)]
    assert tuple(name for name, _ in itertools.groupby(written)) == STEPS


# ---------------------------------------------------------------------- the crash


async def killed(w: World, given: list[ImageToVideo], hinge: Hinge, folder: Path) -> World:
    """Run rows until one hangs; copy the folder as it is then, and return the world with the copy in its place."""

    async def run() -> None:
        batch = w.batch(give_up_after=3600.0)
        hinged_batch(batch, hinge)
        async with batch:
            await batch.run(given)

    async def copy() -> None:
        ignored = shutil.ignore_patterns("*.lock", "*-shm", ".README.md.*.part")
        copying = partial(shutil.copytree, w.folder, folder, ignore=ignored)
        await asyncio.get_running_loop().run_in_executor(None, copying)

    # What the dying run still writes when it is cancelled, it writes into the folder that nobody looks at any more.
    assert await left_where_it_hangs(run, hinge, copy)
    w.simulator.faults = FaultPlan()
    return World(w.simulator, folder, w.clock)


async def asked_by_next(dead: World, given: list[ImageToVideo] | None = None) -> dict[str, int]:
    """Run rows to their end, and return how often the service was asked for what."""
    before = dict(dead.book.calls)
    async with dead.batch(give_up_after=3600.0) as batch:
        await batch.run([ROW] if given is None else given)
    after = dead.book.calls
    return {name: after[name] - before.get(name, 0) for name in (*ALL, "log")}


async def lying(w: World) -> str:
    """Return what lies in the folder of videos."""
    names = await found_in(w.folder / "videos")
    assert len(names) <= 1
    return "whole" if names == {"row0.mp4"} else "part" if names else ""


async def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines, if it is there."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    return await asyncio.get_running_loop().run_in_executor(None, read)
