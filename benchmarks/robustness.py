"""Who survives what: for each trouble and each contender, videos bought a row, rows lost, and bad files.

    python -m benchmarks.robustness [--full] [--only PART_OF_A_NAME ...] [--trouble PART_OF_A_NAME ...] [--json FILE]

Each trouble of `benchmarks.standin.plan` strikes each row, or each generation, once; then all is well: whoever tries
again, in the right way, gets through. The last one kills the contender amid its work and starts it again, as one
would: rows that have a file are skipped, by the contender's own knowledge where it has any.

A cell reads `bought a row / rows lost / bad files`; 1.00 / 0 / 0 is what one wants, and stands there as `ok`. A bad
file is one under its final name that is not byte for byte the video of a generation that was sold; a row is lost where
it has no whole file in the end. Nothing is timed, so several contenders run beside each other.

Target: the command line of ours has 1.00 / 0 / 0 everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from attrs import asdict, frozen

from benchmarks import contest
from benchmarks.peers.frame import Task
from benchmarks.standin.plan import TROUBLES, Plan

KILLED: Final = "killed, started again"
SQUEEZE: Final = 240.0
"""A generation takes a second."""
BESIDE: Final = 3
"""Contenders that run beside each other."""
NO_LINKS: Final = {("openai", "link expired")}
"""Its files have no links of their own that could expire."""


@frozen
class Cell:
    """What one trouble made of one contender."""

    bought: float
    """Videos a row."""
    lost: int
    bad: int
    errors: str = ""

    def shown(self) -> str:
        """Return it as it stands in the table."""
        if (self.bought, self.lost, self.bad) == (1.0, 0, 0):
            return "ok"
        return f"{self.bought:.2f} / {self.lost} / {self.bad}"


def measure(contender: contest.Contender, trouble: str, rows: int) -> Cell:
    """Let one contender meet one trouble."""
    killed = trouble == KILLED
    plan = Plan(
        240.0 / SQUEEZE * (2 if killed else 1),
        sigma=0.1,
        trouble="none" if killed else trouble,
        clip=4 << 20 if killed else 1 << 18,
    )
    place = Path(tempfile.mkdtemp(prefix="robustness-", dir=os.environ.get("BENCH_DIR")))
    try:
        with contest.standin(plan) as address:
            timeout = 2.0 if trouble == "accepted, silence" else None
            # Killed while half of the rows are at the service, and none is done.
            seats = max(1, rows // 2) if killed else rows
            task = Task(address, str(place / "out"), rows, seats, 10.0 / SQUEEZE, SQUEEZE, timeout)
            result = contest.contend(contender, task, plan, kill_after=1.0 if killed else None)
    finally:
        shutil.rmtree(place)
    errors = "; ".join(f"{count} x {error}" for error, count in result.errors.items())
    return Cell(len(result.seen.lengths) / rows, rows - result.whole, result.bad, errors[:300])


def table(found: dict[str, dict[str, Cell]], rows: int) -> str:
    """Lay the cells out as a table in Markdown."""
    names = list(next(iter(found.values())))
    lines = [f"| {rows} rows each | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for trouble, cells in found.items():
        shown = (
            "no links" if (name, trouble) in NO_LINKS else cells[name].shown() if name in cells else "?"
            for name in names
        )
        lines.append(f"| {trouble} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table; exit with 1 where ours buys twice, loses a row or leaves a bad file."""
    parser = argparse.ArgumentParser(description="Who survives what")
    parser.add_argument("--full", action="store_true", help="12 rows, not 4")
    parser.add_argument("--only", nargs="+", default=[""], help="contenders whose names contain one of these")
    parser.add_argument("--trouble", nargs="+", default=[""], help="troubles whose names contain one of these")
    parser.add_argument("--json", type=Path, help="write the cells there, too")
    given = parser.parse_args()
    rows = 12 if given.full else 4
    wanted = [
        one
        for one in contest.ALL
        if one != contest.LIBRARY and any(part in one.name for part in given.only) and contest.is_there(one)
    ]
    found: dict[str, dict[str, Cell]] = {}
    with ThreadPoolExecutor(BESIDE) as pool:
        for trouble in (*TROUBLES, KILLED):
            if any(part in trouble for part in given.trouble):
                cells = pool.map(partial(measure, trouble=trouble, rows=rows), wanted)
                found[trouble] = {one.name: cell for one, cell in zip(wanted, cells, strict=True)}
                told = ", ".join(f"{name} {cell.shown()}" for name, cell in found[trouble].items())
                print(f"  {trouble}: {told}", flush=True)
    print(table(found, rows))
    if given.json:
        plain = {trouble: {name: asdict(cell) for name, cell in cells.items()} for trouble, cells in found.items()}
        given.json.write_text(json.dumps(plain, indent=1))
    ours = contest.COMMAND_LINE.name
    missed = [trouble for trouble, cells in found.items() if ours in cells and cells[ours].shown() != "ok"]
    if missed:
        print(f"missed: ours does not come through {', '.join(missed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
