"""Run seeds by hand: `python -m tests.simulation FIRST [LAST]`; one seed alone is told with its trace."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.simulation.lives import run_seed
from tests.simulation.many import several, what_broke
from tests.simulation.scenario import scenario

_AT_ONCE = 25
"""Seeds that one task of a process runs."""
_USAGE = "usage: python -m tests.simulation SEED | FIRST LAST (LAST is not run)"


def told(seed: int) -> bool:
    """Run one seed and tell its trace; return whether every promise was kept."""
    trace: list[str] = []
    try:
        run = run_seed(scenario(seed), trace=trace)
    except Exception as error:  # noqa: BLE001  # whatever ends a seed is told with its trace
        print("\n".join(trace))
        print(f"seed {seed}: {what_broke(error)}")
        return False
    print("\n".join(trace))
    print(f"seed {seed}: {run.lives} lives, killed at {run.crashes}, {run.bought} bought; its trace is {run.digest}")
    return True


def many(first: int, last: int) -> bool:
    """Run seeds on every core and tell the figures; return whether every promise was kept."""
    began, figures = time.monotonic(), Counter[str]()
    parts = [range(start, min(last, start + _AT_ONCE)) for start in range(first, last, _AT_ONCE)]
    # A few parts to a process: what the dead leave behind goes with it.
    with multiprocessing.get_context("spawn").Pool(maxtasksperchild=4) as pool:
        for found in pool.imap_unordered(several, parts):
            figures += found
    print(
        f"{figures['seeds']} seeds kept every promise, {figures['broken']} did not: {figures['lives']} lives, "
        f"{figures['crashes']} of them killed, {figures['bought']} generations bought; {time.monotonic() - began:.0f} s"
    )
    return not figures["broken"]


def main(arguments: Sequence[str]) -> int:
    """Run the seeds that are asked for; return the exit code."""
    if len(arguments) not in {1, 2} or not all(argument.isdecimal() for argument in arguments):
        print(_USAGE, file=sys.stderr)
        return 2
    numbers = [int(argument) for argument in arguments]
    return 0 if (told(numbers[0]) if len(numbers) == 1 else many(numbers[0], numbers[1])) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
