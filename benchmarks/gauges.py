"""What a piece of work cost: time, CPU, memory, and how long the loop stood still. A part that benchmarks share.

Each contender is measured in a process of its own, so that none inherits another's memory or imports. It must never
count what was loaded before the work began.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final

from attrs import asdict, frozen

TICK: Final = 0.002
"""Seconds between two looks whether the loop still turns."""

_STATUS: Final = Path("/proc/self/status")
_RESET: Final = Path("/proc/self/clear_refs")


@frozen
class Cost:
    """What some work cost. None where it cannot be told: the work was done by another program."""

    seconds: float
    """Seconds from its beginning to its end."""
    cpu: float
    """Seconds of CPU, of all threads."""
    growth: float | None = None
    """Bytes of memory at its peak, beyond those at its beginning."""
    blocked: float | None = None
    """Longest time in seconds for which the loop did not turn."""
    worked: float | None = None
    """Most seconds of CPU that the loop's own thread spent between two turns."""


async def measured(work: Callable[[], Awaitable[object]]) -> Cost:
    """Do the work, and tell what it cost this process."""
    gc.collect()
    before = _begin_peak()
    longest = worked = 0.0

    async def tick() -> None:
        nonlocal longest, worked
        while True:
            asleep, busy = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK)
            longest = max(longest, time.perf_counter() - asleep - TICK)
            worked = max(worked, time.thread_time() - busy)

    ticker = asyncio.get_running_loop().create_task(tick())
    await asyncio.sleep(0)
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await asyncio.sleep(2 * TICK)  # the last time it stood still counts, too
    ticker.cancel()
    with suppress(asyncio.CancelledError):
        await ticker
    return Cost(seconds, cpu, _peak() - before, longest, worked)


def of_program(command: list[str]) -> Cost:
    """Run a program to its end, and tell what it cost."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _begin_peak() -> int:
    """Begin to look for the peak anew, where the system can; return the bytes of memory now."""
    if _RESET.exists():
        _RESET.write_text("5")
    return _peak()


def _peak() -> int:
    """Return the peak of this process's memory. What the system tells of an ended one may be its parent's."""
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def of_process(module: str, *arguments: str, environment: Mapping[str, str]) -> Cost:
    """Let a module measure something in a process of its own: it prints a `Cost` as JSON (see `tell`)."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-m", module, *arguments]
    told = subprocess.check_output(command, env={**kept, **environment}, text=True)
    return Cost(**json.loads(told))


def tell(cost: Cost) -> None:
    """Print a cost for the process that waits for it."""
    print(json.dumps(asdict(cost)))


def middle(costs: list[Cost], field: str) -> float | None:
    """Return the median of one of the costs' figures."""
    found = [value for value in (getattr(cost, field) for cost in costs) if value is not None]
    return median(found) if found else None


def ratio(some: list[Cost], others: list[Cost]) -> float:
    """Return how many times as fast as the others some were: the median over the rounds, each held against its own."""
    return median(other.seconds / one.seconds for one, other in zip(some, others, strict=True))


def shown(value: float | None, unit: float, digits: int = 0) -> str:
    """Write a figure in a unit; a dash where there is none."""
    return "-" if value is None else f"{value / unit:,.{digits}f}"


def judge(verdicts: list[tuple[bool, str]]) -> int:
    """Print each target and whether it is reached; return 1 if one is missed."""
    for reached, line in verdicts:
        print(f"{'reached' if reached else 'MISSED '}  {line}")
    return 0 if all(reached for reached, _ in verdicts) else 1
