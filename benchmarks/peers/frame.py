"""What all contenders share: the task, a semaphore over all rows, and the figures at the end.

It needs the standard library alone, since each contender runs in an environment of its own. `python -m
benchmarks.peers.NAME TASK` does a task (`Task.to_json`) and prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

PICTURE = "https://images.example/cat.png"
"""The image of every row. Nobody fetches it."""


@dataclass(frozen=True)
class Task:
    """Turn so many rows into files."""

    address: str
    """The stand-in's."""
    folder: str
    """Where the files go."""
    rows: int
    """How many."""
    at_once: int
    """Generations at once."""
    interval: float
    """Seconds between two polls of one generation."""
    squeeze: float
    """How many times faster than the real service the stand-in is."""
    timeout: float | None = None
    """Seconds for a submit; None: as it comes."""

    def to_json(self) -> str:
        """Write it down."""
        return json.dumps(asdict(self))

    def key(self, number: int) -> str:
        """Return the key of a row."""
        return f"row-{number:06}"

    def prompt(self, number: int) -> str:
        """Return the prompt of a row. The stand-in knows a row by it."""
        return f"the cat of {self.key(number)} looks up"

    def file(self, number: int) -> Path:
        """Return where the video of a row goes."""
        return Path(self.folder, f"{self.key(number)}.mp4")


One = Callable[[int], Awaitable[None]]


async def each(task: Task, one: One) -> dict[str, int]:
    """Do every row that has no file yet, so many at once; return how often each error ended one."""
    seats, errors = asyncio.Semaphore(task.at_once), Counter[str]()

    async def row(number: int) -> None:
        async with seats:
            try:
                await one(number)
            except Exception as error:  # noqa: BLE001  # a row that failed is counted, whatever it failed by
                errors[f"{type(error).__name__}: {error}"[:100]] += 1

    await asyncio.gather(*(row(number) for number in range(task.rows) if not task.file(number).exists()))
    return dict(errors)


def run(contender: Callable[[Task], Awaitable[dict[str, int]]]) -> None:
    """Do the task of the first argument, and print what it came to."""
    task = Task(**json.loads(sys.argv[1]))
    cpu = time.process_time()
    errors = asyncio.run(_awaited(contender(task)))
    print(json.dumps({"cpu": time.process_time() - cpu, "ended": time.monotonic(), "errors": errors}))


async def _awaited(job: Awaitable[dict[str, int]]) -> dict[str, int]:
    return await job
