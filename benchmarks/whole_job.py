"""The whole job, side by side: rows in, files out, against one stand-in service. Ours, the floor, and the peers.

    python -m benchmarks.whole_job [--full] [--only PART_OF_A_NAME ...] [--rows N] [--rounds N]
                                   [--squeeze TIMES] [--json FILE] [--plot FILE]

Each contender submits every row, waits for its generation, and writes its video to the disk, at most so many at once.
All times of the real service are squeezed by one factor, and so is what each contender waits between two polls: 10 s,
the vendor's own default, for all but ours, which learns when to ask (at its defaults). The n-th accepted generation
takes equally long for each. They run in turn, and the medians of the rounds are told.

- *CPU a video*: of all threads of the contender's process, without the start of Python and the imports; the command
  line's whole process, start and end included. `BENCH_DIR` says where the files go: on a disk that others use, too, the
  contenders that write in their loop stand still with it.
- *over ideal*: from the first submit to the end, over a schedule that begins each of the same generations the moment
  that a place is free. A contender that needs more CPU than there is, is held up by that: the squeeze makes it worse.
- *polls* a video, and the *lag* from the end of a generation to the poll that told it, in seconds of the real service.
- *memory* of the process at the most. *lost*: rows without a whole file at the end.

Targets, in the full job: the library costs at most 1.5 times the floor's CPU a video, and at most a fifteenth of the
vendor's SDK; its makespan is at most 1.03 of the ideal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import asdict, evolve, frozen

from benchmarks import contest
from benchmarks.peers.frame import Task
from benchmarks.standin.plan import Plan

MEDIAN: Final = 240.0
"""Seconds that a generation of the real service takes."""
INTERVAL: Final = 10.0
"""Seconds between two polls of the real service, by the vendor's own default."""
MOST_OF_FLOOR: Final = 1.5
LEAST_OF_VENDOR: Final = 15.0
MOST_OVER_IDEAL: Final = 1.03


@frozen
class Size:
    """How large a job is."""

    rows: int
    at_once: int
    squeeze: float
    rounds: int


QUICK: Final = Size(rows=120, at_once=60, squeeze=24.0, rounds=1)
FULL: Final = Size(rows=2_000, at_once=300, squeeze=8.0, rounds=3)
"""No faster than 8 times the real pace: else the dearest contenders need more CPU than there is, leave polls out, and
seem cheaper than they are."""


@frozen
class Line:
    """One contender's figures; medians, once there are several rounds."""

    cpu: float
    """Milliseconds a video."""
    over_ideal: float
    polls: float
    """A video."""
    lag: float
    """Seconds of the real service."""
    memory: float
    """MB."""
    lost: float
    """Rows."""
    bought: float
    """Videos a row."""
    busy: float
    """Share of the time that the stand-in was busy: were it near 1, it would be the limit."""
    errors: str = ""


def run(contender: contest.Contender, size: Size) -> Line:
    """Let one contender do the job once."""
    plan = Plan(MEDIAN / size.squeeze)
    place = Path(tempfile.mkdtemp(prefix="whole-job-", dir=os.environ.get("BENCH_DIR")))
    try:
        with contest.standin(plan) as address:
            task = Task(
                address, str(place / "out"), size.rows, size.at_once, INTERVAL / size.squeeze, squeeze=size.squeeze
            )
            result = contest.contend(contender, task, plan)
    finally:
        shutil.rmtree(place)
    seen = result.seen
    return Line(
        cpu=1000 * result.cpu / size.rows,
        over_ideal=result.took / ideal if (ideal := contest.ideal(seen, size.at_once)) else float("nan"),
        polls=seen.polls / size.rows,
        lag=size.squeeze * statistics.fmean(seen.lags) if seen.lags else float("nan"),
        memory=result.memory / 1e6,
        lost=size.rows - result.whole,
        bought=len(seen.lengths) / size.rows,
        busy=seen.cpu / seen.wall,
        errors="; ".join(f"{count} x {error}" for error, count in result.errors.items())[:200],
    )


def median_of(lines: list[Line]) -> Line:
    """Return the medians of the rounds."""
    values = {
        name: statistics.median(getattr(line, name) for line in lines) for name in asdict(lines[0]) if name != "errors"
    }
    return Line(**values, errors=lines[-1].errors)


def table(found: dict[str, Line]) -> str:
    """Lay the figures out as a table in Markdown."""
    floor = found.get(contest.FLOOR.name)
    columns: tuple[tuple[str, Callable[[Line], str]], ...] = (
        ("CPU a video, ms", lambda line: f"{line.cpu:.2f}"),
        ("of the floor's", lambda line: f"{line.cpu / floor.cpu:.2f}" if floor else ""),
        ("over ideal", lambda line: f"{line.over_ideal:.3f}"),
        ("polls", lambda line: f"{line.polls:.1f}"),
        ("lag, s", lambda line: f"{line.lag:.1f}"),
        ("memory, MB", lambda line: f"{line.memory:.0f}"),
        ("bought a row", lambda line: f"{line.bought:.2f}"),
        ("lost", lambda line: f"{line.lost:.0f}"),
        ("stand-in busy", lambda line: f"{line.busy:.0%}"),
    )
    rows = [f"| | {' | '.join(name for name, _ in columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    rows += [f"| {name} | {' | '.join(show(line) for _, show in columns)} |" for name, line in found.items()]
    return "\n".join(rows)


def plot(place: Path, found: dict[str, Line]) -> None:
    """Draw what a video costs, and the memory of the whole job."""
    import matplotlib as mpl  # noqa: PLC0415  # the table needs none

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "whole job", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt  # noqa: PLC0415  # as above

    names = sorted(found, key=lambda name: found[name].cpu, reverse=True)
    colours = ["C0" if "kling_async" in name else "0.6" if name == contest.FLOOR.name else "C1" for name in names]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
    for axes, title, values in (
        (left, "CPU a video, ms", [found[name].cpu for name in names]),
        (right, "memory at the most, MB", [found[name].memory for name in names]),
    ):
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, fmt="{:.0f}", padding=3)
        axes.margins(x=0.12)
        axes.set_title(title)
    figure.savefig(place, metadata={"Date": None, "Creator": None})


def misses(found: dict[str, Line]) -> list[str]:
    """Return the targets that were missed."""
    missed: list[str] = []
    ours, floor, vendor = (found.get(one.name) for one in (contest.LIBRARY, contest.FLOOR, contest.VENDOR))
    if ours and floor and ours.cpu > MOST_OF_FLOOR * floor.cpu:
        missed.append(f"{ours.cpu / floor.cpu:.2f} times the floor's CPU, target <= {MOST_OF_FLOOR}")
    if ours and vendor and LEAST_OF_VENDOR * ours.cpu > vendor.cpu:
        missed.append(f"{vendor.cpu / ours.cpu:.1f} times less CPU than the vendor's SDK, target >= {LEAST_OF_VENDOR}")
    if ours and ours.over_ideal > MOST_OVER_IDEAL:
        missed.append(f"a makespan of {ours.over_ideal:.3f} of the ideal, target <= {MOST_OVER_IDEAL}")
    return missed


def _read(place: Path | None) -> dict[str, list[Line]]:
    """Return the rounds that a file holds; --rounds 0 shows them."""
    if place is None or not place.exists():
        return {}
    return {name: [Line(**line) for line in lines] for name, lines in json.loads(place.read_text()).items()}


def main() -> None:
    """Print the table; exit with 1 where the full job, at its own pace, misses a target, or ours loses a row."""
    parser = argparse.ArgumentParser(description="The whole job, side by side")
    parser.add_argument("--full", action="store_true", help="2,000 videos")
    parser.add_argument("--only", nargs="+", default=[""], help="contenders whose names contain one of these")
    parser.add_argument("--rounds", type=int, help="how often each runs")
    parser.add_argument("--rows", type=int, help="how many videos")
    parser.add_argument("--squeeze", type=float, help="how many times faster than the real service all goes")
    parser.add_argument("--json", type=Path, help="add the figures of each round to those there, of the same size")
    parser.add_argument("--plot", type=Path, help="draw it, too, into an SVG")
    given = parser.parse_args()
    if given.squeeze is not None and given.squeeze <= 0:
        parser.error("--squeeze is a number above 0")
    judged = given.full and given.squeeze in {None, FULL.squeeze}
    size = FULL if given.full else QUICK
    size = evolve(size, rows=given.rows or size.rows, squeeze=given.squeeze or size.squeeze)
    rounds = _read(given.json)
    wanted = [one for one in contest.ALL if any(part in one.name for part in given.only)]
    wanted = [one for one in wanted if contest.is_there(one)]
    print(f"{size.rows} videos, {size.at_once} at once, squeezed {size.squeeze:g} times", flush=True)
    for number in range(size.rounds if given.rounds is None else given.rounds):
        for contender in wanted:
            line = run(contender, size)
            rounds.setdefault(contender.name, []).append(line)
            print(
                f"  round {number + 1}, {contender.name}: {line.cpu:.2f} ms, {line.over_ideal:.3f} {line.errors}",
                flush=True,
            )
            if given.json:
                plain = {name: [asdict(line) for line in lines] for name, lines in rounds.items()}
                given.json.write_text(json.dumps(plain, indent=1) + "\n")
    found = {name: median_of(lines) for name, lines in rounds.items()}
    print(table(found))
    if given.plot:
        plot(given.plot, found)
    lost = sum(found[one.name].lost for one in (contest.LIBRARY, contest.COMMAND_LINE) if one.name in found)
    missed = misses(found)
    if missed:
        print("missed:", *missed, sep="\n  ")
    if lost or (missed and judged):
        sys.exit(1)


if __name__ == "__main__":
    main()
