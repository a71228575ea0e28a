"""When to poll: the learned rule against fixed intervals, back-off and the best there could be.

    python -m benchmarks.polling [--plot FILE.svg]

Five scenarios, 50 generations at once, a mean lag of 5 s asked for, several seeds. Polls alone say nothing: whoever
asks less notices later. So each rule is held against a fixed interval *at the mean lag that it really had*, and the
table shows its polls as a share of that one's. Time is a number here: nothing is sent, nothing waits. It must never
compare polls at lags that differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final, TypeAlias

from attrs import frozen

from kling_async.rules.agenda import JITTER, Pace, PollAgenda
from tests.rules.polled import (
    MEDIAN,
    SCENARIOS,
    Polled,
    Scenario,
    fixed,
    least,
    lengths,
    poll_agenda,
    poll_each,
    poll_known,
)

LAG: Final = 5.0
"""Seconds of the mean lag asked for."""
NUMBERS: Final = {100: 20, 1_000: 8, 5_000: 3}
"""Generations in a job, and how many seeds of it."""
MOST: Final = {
    "log-normal 0.15": 0.45,
    "log-normal 0.35": 0.72,
    "log-normal 0.60": 0.90,
    "mixture": 0.80,
    "shift": 0.85,
}
"""The targets from 1,000 generations on: polls as a share of a fixed interval's at the same mean lag."""
MOST_EVER: Final = 1.05
LAG_OFF: Final = 0.15
"""How far the mean lag may be from the one asked for."""

Rule: TypeAlias = Callable[[Scenario, Sequence[float], int], Polled]


def _ours(_scenario: Scenario, durations: Sequence[float], seed: int) -> Polled:
    return poll_agenda(PollAgenda(Pace(0.2, 60.0, lag=LAG)), durations, seed=seed)


def _fixed(seconds: float, _scenario: Scenario, durations: Sequence[float], seed: int) -> Polled:
    return poll_each(fixed(seconds), durations, seed=seed)


def _vendor(_scenario: Scenario, durations: Sequence[float], seed: int) -> Polled:
    """Ask each at 10, 20, 30 … s after its submit, without jitter."""
    return poll_each(lambda _asked, _age, _dice: 10.0, durations, seed=seed)


def _exponential(_scenario: Scenario, durations: Sequence[float], seed: int) -> Polled:
    """Double the interval from 1 s up to 60 s."""

    def interval(asked: int, _age: float, dice: Random) -> float:
        return min(60.0, 2.0**asked) * dice.uniform(1 - JITTER, 1 + JITTER)

    return poll_each(interval, durations, seed=seed)


def _best(scenario: Scenario, durations: Sequence[float], seed: int) -> Polled:
    return poll_known(scenario, durations, lag=LAG, seed=seed)


RULES: Final[Mapping[str, Rule]] = {
    "ours": _ours,
    "best if known": _best,
    "fixed 10 s": partial(_fixed, 10.0),
    "fixed 15 s": partial(_fixed, 15.0),
    "vendor's SDK": _vendor,
    "exponential": _exponential,
}


@frozen
class Row:
    """What a rule came to, over all seeds."""

    polls: float
    """Polls of each generation, on average."""
    lag: float
    """Seconds of the mean lag."""
    late: float
    """Seconds of lag that one in a hundred passes."""
    share: float
    """Polls as a share of a fixed interval's at the same mean lag."""


def measure(rule: Rule, scenario: Scenario, number: int, seeds: int) -> Row:
    """Poll the same jobs by a rule."""
    jobs = [lengths(scenario, number, seed) for seed in range(seeds)]
    found = [rule(scenario, job, seed) for seed, job in enumerate(jobs)]
    lag = fmean(polled.lag for polled in found)
    yardstick = [poll_each(fixed(2 * lag), job, seed=seed) for seed, job in enumerate(jobs)]
    others, their_lag = sum(one.polls for one in yardstick), fmean(one.lag for one in yardstick)
    polls = sum(polled.polls for polled in found)
    late = fmean(polled.late for polled in found)
    return Row(polls / number / seeds, lag, late, polls / (others * their_lag / lag))


def misses(number: int, scenario: str, row: Row) -> list[str]:
    """Return what of the targets is missed; a hundred generations have none: little can be learned of them."""
    if number < 1_000:
        return []
    found = []
    if row.share > min(MOST[scenario], MOST_EVER):
        found.append(f"{scenario}, {number}: {row.share:.3f} of the polls, target {MOST[scenario]}")
    if abs(row.lag / LAG - 1) > LAG_OFF:
        found.append(f"{scenario}, {number}: a lag of {row.lag:.2f} s, asked for {LAG} s")
    return found


def plot(place: Path, shares: Mapping[str, Mapping[str, float]]) -> None:
    """Draw the shares, and the polls of one generation."""
    import matplotlib as mpl  # noqa: PLC0415  # the table needs none

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "polling", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt  # noqa: PLC0415  # as above

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1.1, 1), layout="constrained")
    _draw_polls(left)
    _draw_shares(right, shares)
    figure.savefig(place, metadata={"Date": None, "Creator": None})


def _draw_polls(axes: Any) -> None:
    agenda = PollAgenda(Pace(0.2, 60.0, lag=LAG))
    scenario = SCENARIOS["log-normal 0.35"]
    poll_agenda(agenda, lengths(scenario, 1_000, 1), seed=1)
    age, moments = 0.0, []
    agenda.add("shown", 0.0)
    while age < 2.4 * MEDIAN:
        age = agenda.next_due() or 0.0
        agenda.take(age)
        moments.append(age)
        agenda.answered("shown", age, draw=0.5, running=True)
    fixed_ones = [10.0 * (number + 1) for number in range(int(2.4 * MEDIAN / 10))]
    ends = lengths(scenario, 20_000, 2)
    axes.hist(ends, bins=60, range=(0, 2.4 * MEDIAN), density=True, color="0.85")
    axes.set_yticks([])
    top = axes.get_ylim()[1]
    for height, name, at, colour in ((1.25, "fixed, 10 s", fixed_ones, "C1"), (1.1, "learned", moments, "C0")):
        axes.plot(at, [height * top] * len(at), "|", color=colour, markersize=9)
        axes.text(0, (height + 0.035) * top, f"{name}: {len([one for one in at if one <= MEDIAN])} polls to the median")
    axes.set_ylim(0, 1.4 * top)
    axes.set_xlim(0, 2.4 * MEDIAN)
    axes.set_xlabel("seconds since the submit (grey: when generations end)")
    axes.set_title("When one generation is asked for, at one mean lag")


def _draw_shares(axes: Any, shares: Mapping[str, Mapping[str, float]]) -> None:
    rules = ("exponential", "fixed 10 s", "ours", "best if known")
    width = 0.8 / len(rules)
    for number, rule in enumerate(rules):
        places = [place + (number - 1.5) * width for place in range(len(shares))]
        axes.bar(places, [shares[name][rule] for name in shares], width, label=rule)
    axes.axhline(1.0, color="0.4", linewidth=0.8)
    axes.set_xticks(range(len(shares)), [name.replace("log-normal ", "sigma ") for name in shares])
    axes.set_title("Polls at the same mean lag, fixed interval = 1")
    axes.legend(fontsize=8)


def main() -> None:
    """Print the tables; exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="When to poll")
    parser.add_argument("--plot", type=Path, help="draw it, too, into an SVG")
    place = parser.parse_args().plot
    missed: list[str] = []
    shares: dict[str, dict[str, float]] = {}
    for number, seeds in NUMBERS.items():
        print(f"{number} generations, 50 at once, {seeds} seeds; a mean lag of {LAG} s asked for")
        print(f"{'':16}{'':16}{'polls each':>11}{'mean lag':>10}{'p99':>7}{'of fixed':>10}  target")
        for name, scenario in SCENARIOS.items():
            for rule, poll in RULES.items():
                row = measure(poll, scenario, number, seeds)
                told = f"<= {MOST[name]:.2f}" if rule == "ours" and number >= 1_000 else ""
                told = f"in theory {least(scenario):.2f}" if rule == "best if known" else told
                print(f"{name:16}{rule:16}{row.polls:>11.1f}{row.lag:>10.2f}{row.late:>7.1f}{row.share:>10.3f}  {told}")
                if rule == "ours":
                    missed += misses(number, name, row)
                if number == 1_000:
                    shares.setdefault(name, {})[rule] = row.share
        print()
    if place is not None:
        plot(place, shares)
    if missed:
        print("missed:", *missed, sep="\n  ")
        sys.exit(1)
    print("all targets are met")


if __name__ == "__main__":
    main()
