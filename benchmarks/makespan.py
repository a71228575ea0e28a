"""How fully the account is used: 2,000 generations under a limit that nobody tells, against the ideal schedule.

The whole client in virtual time, against the simulator without sockets. The ideal schedule begins each of the same
generations, in the same order, the moment a slot is free. Targets: makespan over ideal at most 1.03 with the limit
given, 1.06 with `auto`; at most 3 % of all submits refused; a limit that halves and doubles is followed within two
generation times.

    python -m benchmarks.makespan [5] [50] [500] [changes]

Without a part's name it runs all: the three limits, and the limits that change.
"""

from __future__ import annotations

import asyncio
import heapq
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from attrs import evolve, frozen

from kling_async import ImageToVideo, open_batch
from kling_async.simulator import FaultPlan, SimulatorSettings
from tests.simulation.loop import SimulatedLoop
from tests.simulation.remote import BASE_URL, KEY, LifeClock, Remote, RemoteTransport

GENERATIONS = 2_000
LIMITS = (5, 50, 500)
CHANGES = "changes"
SEEDS = (1, 2)
MOST_OVER_IDEAL = {"given": 1.03, "auto": 1.06}
MOST_REFUSED = 0.03
START = 1_800_000_000.0


@frozen
class Result:
    """What one job came to."""

    over_ideal: float
    refused: float
    polls: float
    followed: tuple[float, ...]
    """Generation times after each change of the limit until nine tenths of it were used, or the rest had ended."""


def run(
    limit: int, *, given: bool, seed: int, changes: tuple[tuple[float, int], ...] = (), rows: int = GENERATIONS
) -> Result:
    """Run one job in virtual time.

    Args:
        limit: The account's limit.
        given: Whether the client is told.
        seed: Of durations, ways and jitter.
        changes: When the limit changes, in seconds, and to what.
        rows: How many generations.
    """
    settings = SimulatorSettings(
        seed=seed, limit=limit, keys=(KEY,), clips="template", balance_usd=1e6, durations="log-normal"
    )
    remote = Remote(settings, FaultPlan(), outages=(), start=START, skew=0.0)
    loop = SimulatedLoop(Random(seed))
    clock = LifeClock(remote, loop)
    running: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:  # noqa: S108
        transport = RemoteTransport(remote, loop, clock, Random(seed + 1), Path(place))

        async def job() -> Any:
            flags: dict[str, Any] = {"max_in_flight": limit if given else "auto"}
            async with open_batch(
                place, transport=transport, clock=clock, seed=seed, base_url=BASE_URL, api_key=KEY, **flags
            ) as batch:
                requests = (ImageToVideo("https://images.example/a.png", f"{i}", key=f"{i}") for i in range(rows))
                return await batch.run(requests)

        def change(to: int) -> None:
            remote.desk.world.settings = evolve(remote.desk.world.settings, limit=to)

        for at, to in changes:
            loop.call_later(at, change, to)

        def look() -> None:
            clock.wall()
            remote.settle()
            running.append((loop.time(), remote.desk.world.running))
            loop.call_later(5.0, look)

        loop.call_later(0.0, look)
        asyncio.set_event_loop(loop)
        try:
            report = loop.run_until_complete(loop.create_task(job()))
        finally:
            asyncio.set_event_loop(None)
            loop.bury()
    book = remote.desk.book
    bought = [one for one in book.bought() if one.ended_at is not None]
    lengths = [one.ended_at - one.bought_at for one in bought if one.ended_at is not None]
    made = max(one.ended_at or 0.0 for one in bought) - min(one.bought_at for one in bought)
    followed = tuple(_followed(running, at, to, statistics.median(lengths)) for at, to in changes)
    return Result(made / ideal(lengths, limit), book.refused[429] / book.submits_seen, report.polls / rows, followed)


def ideal(lengths: list[float], limit: int) -> float:
    """Return the makespan of a schedule that begins each the moment a slot is free."""
    slots = [0.0] * limit
    for length in lengths:
        heapq.heappush(slots, heapq.heappop(slots) + length)
    return max(slots)


def _followed(running: list[tuple[float, int]], since: float, limit: int, median: float) -> float:
    """Return how many generation times it took until the limit was used to nine tenths, and not passed."""
    for at, count in running:
        if at >= since and 0.9 * limit <= count <= limit:
            return (at - since) / median
    return float("inf")


def main() -> None:
    """Print the table; exit with 1 where a target is missed."""
    parts = [str(limit) for limit in LIMITS] + [CHANGES]
    wanted = sys.argv[1:] or parts
    if not set(wanted) <= set(parts):
        sys.exit(f"makespan: there is no part but {', '.join(parts)}")
    limits = [limit for limit in LIMITS if str(limit) in wanted]
    missed = _measure_limits(limits) if limits else []
    if CHANGES in wanted:
        missed += _measure_changes()
    if missed:
        print(f"missed: {', '.join(missed)}")
        sys.exit(1)


def _measure_limits(limits: list[int]) -> list[str]:
    """Measure each limit, told and found; return what misses its target."""
    missed = []
    print(f"{GENERATIONS} generations, mean of {len(SEEDS)} seeds, virtual time")
    print(f"{'limit':>6} {'told':>6} {'over ideal':>11} {'refused':>9} {'polls each':>11} {'real s':>7}")
    for limit in limits:
        for told, most in MOST_OVER_IDEAL.items():
            began = time.monotonic()
            results = [run(limit, given=told == "given", seed=seed) for seed in SEEDS]
            over = statistics.fmean(result.over_ideal for result in results)
            refused = statistics.fmean(result.refused for result in results)
            polls = statistics.fmean(result.polls for result in results)
            seconds = time.monotonic() - began
            print(f"{limit:>6} {told:>6} {over:>11.3f} {refused:>9.2%} {polls:>11.1f} {seconds:>7.0f}", flush=True)
            if over > most or refused > MOST_REFUSED:
                missed.append(f"{limit} {told}")
    return missed


def _measure_changes() -> list[str]:
    """Measure how soon a limit that changes is followed; return what misses its target."""
    missed = []
    print("\nthe limit changes: generation times until nine tenths of the new one were used")
    for limit in (50, 500):
        third = GENERATIONS / limit / 3 * 240.0
        changes = ((third, limit // 2), (3 * third, limit))
        found = [run(limit, given=False, seed=seed, changes=changes).followed for seed in SEEDS]
        halved, doubled = (statistics.fmean(times) for times in zip(*found, strict=True))
        print(f"{limit:>6} -> {limit // 2}: {halved:.2f}; {limit // 2} -> {limit}: {doubled:.2f}")
        if max(halved, doubled) > 2:
            missed.append(f"{limit} changing")
    return missed


if __name__ == "__main__":
    main()
