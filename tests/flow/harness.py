"""A simulated world, a wall's clock that follows the loop's, and requests to put to them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kling_async import Batch, ImageToVideo, KlingClient, Outcome, open_batch, open_client
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.simulator import FaultPlan, Simulator, SimulatorSettings
from kling_async.types.record import Record, Stage

START = 1_800_000_000.0
"""The wall's time when a test begins, as Unix seconds."""

PNG = bytes.fromhex("89504e470d0a1a0a0000000d494844520000014000000140080000000094b4a1d7")
"""The beginning of a grey PNG of 320 x 320: enough for every check that looks at first bytes."""

IMAGE_URL = "https://images.example/cat.png"


class LoopWall:
    """A wall's clock that goes as fast as the loop's."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()

    def wall(self) -> float:
        return START + asyncio.get_running_loop().time() - self._began


class World:
    """A simulator and the ways of a client to it."""

    def __init__(self, simulator: Simulator, folder: Path, clock: LoopWall) -> None:
        self.simulator = simulator
        self.folder = folder
        self.clock = clock

    @property
    def book(self) -> Any:
        self.simulator.world.advance(self.simulator.now())
        return self.simulator.book

    def batch(self, **flags: Any) -> Batch:
        given = {"max_in_flight": 100, "base_url": self.simulator.base_url, "api_key": "sim-key", **flags}
        return open_batch(self.folder, clock=self.clock, seed=1, **given)

    def client(self, **flags: Any) -> KlingClient:
        return open_client(
            clock=self.clock, seed=1, **{"base_url": self.simulator.base_url, "api_key": "sim-key", **flags}
        )

    async def records(self) -> dict[str, Record]:
        """Return what the folder's journal says, read beside any run."""
        journal = SqliteJournal(self.folder / ".kling" / "journal.db", lock=False)
        await journal.open()
        try:
            return {record.key: record for _, record in await journal.rows(after=0, limit=100_000)}
        finally:
            await journal.aclose()

    async def audit(self) -> None:
        """Hold the account book and the folder against the promises."""
        book, records = self.book, await self.records()
        assert book.duplicates() == [], "bought twice"
        assert not book.key_sent_to_cdn
        assert book.unclean_polls == [], "an id was not sent as it is"
        known = {record.generation_id for record in records.values()}
        for purchase in book.paid():
            assert purchase.generation_id in known, f"{purchase.generation_id} was paid for and is lost"
        for record in records.values():
            path = self.folder / "videos" / record.name
            if record.stage is Stage.DONE:
                assert record.generation_id is not None
                served = await self.simulator.served_bytes(record.generation_id)
                assert hashlib.sha256(await read(path)).hexdigest() == hashlib.sha256(served).hexdigest()
        names = {record.name for record in records.values() if record.sha256 is not None}
        assert await found_in(self.folder / "videos") <= names


async def read(path: Path) -> bytes:
    """Read a file off the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, path.read_bytes)


async def found_in(folder: Path) -> set[str]:
    """Return the names in a folder, off the loop."""
    return await asyncio.get_running_loop().run_in_executor(
        None, lambda: {path.name for path in folder.iterdir()} if folder.exists() else set()
    )


@asynccontextmanager
async def world(folder: Path, plan: FaultPlan | None = None, **settings: Any) -> AsyncIterator[World]:
    """Start a simulator on the test's own loop, with packaged clips."""
    clock = LoopWall()
    given = {"clips": "template", "limit": None, **settings}
    async with Simulator(SimulatorSettings(**given), plan, wall=lambda: START) as simulator:
        yield World(simulator, folder, clock)


def requests(count: int, **fields: Any) -> list[ImageToVideo]:
    """Make requests that differ from each other."""
    return [ImageToVideo(IMAGE_URL, f"prompt {i}", key=f"row{i}", **fields) for i in range(count)]


async def outcomes_of(batch: Batch, rows: Iterable[ImageToVideo]) -> dict[str, Outcome]:
    """Run rows to the end and return their outcomes by key."""
    found = {}
    async with batch.stream(rows) as outcomes:
        async for outcome in outcomes:
            found[outcome.key] = outcome
    return found
