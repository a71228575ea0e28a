"""What a tracked generation costs: bytes and CPU time in the agenda, beside a bare dict and a heap of tuples.

    python -m benchmarks.tracking

Each size is measured in a process of its own. One event is one poll: taken, answered, learned from, put back; one in
twenty ends. CPU times of shared machines drift by a quarter: the ratio to the bare structures, measured in turn, is
what counts. It must never measure two at once.
"""

from __future__ import annotations

import gc
import heapq
import json
import subprocess
import sys
import time
import tracemalloc
from random import Random
from typing import Final

from kling_async.rules.agenda import Pace, PollAgenda

SIZES: Final = (10_000, 100_000, 1_000_000)
EVENTS: Final = 200_000
ENDING: Final = 0.05
MOST_BYTES: Final = 512
MOST_EVENT: Final = 6.0
"""Microseconds of CPU time an event, at 100,000 tracked."""
MOST_MILLION: Final = 1.0
"""Seconds of CPU time to take in a million."""


class Bare:
    """The least that tracks: who is due next, and nothing learned, paused or taken back."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def add(self, name: str, now: float, draw: float) -> None:
        """Track one."""
        due = self._due[name] = now + 9 + 2 * draw
        heapq.heappush(self._heap, (due, name))

    def event(self, now: float, draw: float, *, ends: bool) -> float:
        """Poll whoever is due next; return when that was."""
        due, name = heapq.heappop(self._heap)
        now = max(now, due)
        if ends:
            del self._due[name]
        else:
            self.add(name, now, draw)
        return now


class Agenda:
    """The agenda, after a thousand ends: it knows when to ask."""

    def __init__(self) -> None:
        self.agenda = PollAgenda(Pace(0.2, 60.0, lag=5.0))
        dice = Random(1)
        for number in range(1_000):
            self.agenda.add(f"known {number}", 0.0)
            self.agenda.ended(f"known {number}", 300 * dice.lognormvariate(0, 0.35))

    def add(self, name: str, now: float, draw: float) -> None:
        """Track one."""
        self.agenda.add(name, now, draw=draw)

    def event(self, now: float, draw: float, *, ends: bool) -> float:
        """Poll whoever is due next; return when that was."""
        due = self.agenda.next_due()
        assert due is not None
        now = max(now, due)
        taken = self.agenda.take(now)
        assert taken is not None
        if ends:
            self.agenda.ended(taken, now)
        self.agenda.answered(taken, now, draw=draw, running=not ends)
        return now


def measure(kind: str, size: int, what: str) -> float:
    """Return bytes each, or microseconds of an add or an event."""
    dice = Random(1)
    names = [f"generation-{number:09d}" for number in range(size)]
    draws = [dice.random() for _ in range(max(size, EVENTS))]
    tracked: Bare | Agenda = Agenda() if kind == "agenda" else Bare()
    gc.collect()
    gc.freeze()  # what the measurement itself made is no part of it
    if what == "bytes":
        tracemalloc.start()
    began = time.process_time()
    for number, name in enumerate(names):
        tracked.add(name, number * 1e-4, draws[number])
    if what == "bytes":
        return tracemalloc.get_traced_memory()[0] / size
    if what == "add":
        return 1e6 * (time.process_time() - began) / size
    ending, now = [draw < ENDING for draw in reversed(draws)], 0.0
    events = min(EVENTS, 10 * size)
    began = time.process_time()
    for number in range(events):
        now = tracked.event(now, draws[number], ends=ending[number])
    return 1e6 * (time.process_time() - began) / events


def measured(kind: str, size: int, what: str) -> float:
    """Measure in a fresh process: the least of three for CPU time, since others disturb but never help."""
    command = [sys.executable, "-m", "benchmarks.tracking", kind, str(size), what]
    tries = 1 if what == "bytes" else 3
    return min(float(json.loads(subprocess.check_output(command))) for _ in range(tries))


def main() -> None:
    """Print the table; exit with 1 where a target is missed."""
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
        return
    missed = []
    print(f"{'tracked':>10}  {'':12}{'agenda':>10}{'bare':>10}{'ratio':>8}  target")
    for size in SIZES:
        found = {}
        for what, unit in (("bytes", "bytes each"), ("add", "us to add"), ("event", "us an event")):
            ours, bare = measured("agenda", size, what), measured("bare", size, what)
            found[what] = ours
            target = {"bytes": f"<= {MOST_BYTES}", "event": f"<= {MOST_EVENT}" if size == 100_000 else ""}.get(what, "")
            target = f"<= {MOST_MILLION}" if what == "add" and size == 1_000_000 else target
            print(f"{size:>10,}  {unit:12}{ours:>10.2f}{bare:>10.2f}{ours / bare:>8.2f}  {target}", flush=True)
        if found["bytes"] > MOST_BYTES:
            missed.append(f"{size:,}: {found['bytes']:.0f} bytes each")
        if size == 100_000 and found["event"] > MOST_EVENT:
            missed.append(f"{size:,}: {found['event']:.1f} us an event")
        if size == 1_000_000 and found["add"] * size / 1e6 > MOST_MILLION:
            missed.append(f"{size:,}: {found['add'] * size / 1e6:.2f} s to add them")
    if missed:
        print(f"missed: {', '.join(missed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
