"""Generations polled without a service: how many polls, and how long from an end to its notice.

Shared by the tests of the rules and by `benchmarks/polling.py`. Time is a number here; a poll takes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, pairwise
from random import Random
from statistics import fmean
from typing import Final, TypeAlias

from attrs import frozen

from kling_async.rules.agenda import PollAgenda
from kling_async.rules.durations import EDGES, Schedule

MEDIAN: Final = 300.0
"""Seconds of the median generation, where nothing else is said."""
INSTANT_SHARE: Final = 0.2
"""Share of the mixture's generations that end within seconds."""
SHIFT: Final = (300.0, 600.0, 200.0)
"""Seconds of the median in each third of the scenario that shifts."""
RAMP: Final = 10.0
"""Seconds over which the first generations begin."""

Draw: TypeAlias = Callable[[Random, float], float]
"""Draws how long a generation takes, told its place in the job from 0 to 1."""
Survival: TypeAlias = Callable[[float], float]
"""The share that still runs at an age."""
Interval: TypeAlias = Callable[[int, float, Random], float]
"""The seconds until the next poll of a generation, told how often it was asked, its age, and the dice."""


@frozen
class Scenario:
    """How long generations take."""

    draw: Draw
    """Draws one."""
    survivals: tuple[Survival, ...]
    """What is drawn from, in each equal part of the job."""


def lognormal(median: float, sigma: float) -> Survival:
    """Return the share of log-normal generations that still runs at an age."""
    return lambda age: 0.5 * math.erfc(math.log(age / median) / (sigma * math.sqrt(2))) if age > 0 else 1.0


def _draw_lognormal(sigma: float, dice: Random, _place: float, *, median: float = MEDIAN) -> float:
    return median * dice.lognormvariate(0, sigma)


def _draw_mixture(dice: Random, place: float) -> float:
    return dice.uniform(1, 5) if dice.random() < INSTANT_SHARE else _draw_lognormal(0.35, dice, place)


def _mixture(age: float) -> float:
    instant = min(1.0, max(0.0, (5 - age) / 4))
    return INSTANT_SHARE * instant + (1 - INSTANT_SHARE) * lognormal(MEDIAN, 0.35)(age)


def _draw_shift(dice: Random, place: float) -> float:
    return _draw_lognormal(0.25, dice, place, median=SHIFT[min(2, int(3 * place))])


SCENARIOS: Final[Mapping[str, Scenario]] = {
    **{
        f"log-normal {sigma:.2f}": Scenario(partial(_draw_lognormal, sigma), (lognormal(MEDIAN, sigma),))
        for sigma in (0.15, 0.35, 0.60)
    },
    "mixture": Scenario(_draw_mixture, (_mixture,)),
    "shift": Scenario(_draw_shift, tuple(lognormal(median, 0.25) for median in SHIFT)),
}
"""The five that the targets speak of: three spreads, a fifth that ends at once, a median that moves."""


def lengths(scenario: Scenario, number: int, seed: int) -> list[float]:
    """Draw how long each generation of a job takes, in seconds."""
    dice = Random(f"lengths/{seed}")
    return [scenario.draw(dice, place / number) for place in range(number)]


@frozen
class Polled:
    """What polling a job came to."""

    polls: int
    """Polls made."""
    lags: tuple[float, ...]
    """Seconds from each end to its notice, in the order of the ends' notice."""

    @property
    def lag(self) -> float:
        """The mean of them."""
        return fmean(self.lags)

    @property
    def late(self) -> float:
        """The lag that one in a hundred passes."""
        return sorted(self.lags)[int(0.99 * len(self.lags))]


def poll_agenda(agenda: PollAgenda, durations: Sequence[float], *, seed: int, width: int = 50) -> Polled:
    """Poll a job as an agenda says, so many at once: the next one begins when the end of one is noticed."""
    dice = Random(f"agenda/{seed}")
    ramp = sorted((dice.uniform(0, RAMP) for _ in durations[:width]), reverse=True)
    begun: dict[str, tuple[float, float]] = {}
    waiting = iter(enumerate(durations))
    lags: list[float] = []

    def begin(at: float) -> None:
        for number, length in waiting:
            begun[str(number)] = at, length
            agenda.add(str(number), at, draw=dice.random())
            return

    for polls in count():
        due = agenda.next_due()
        while ramp and (due is None or ramp[-1] <= due):
            begin(ramp.pop())
            due = agenda.next_due()
        if due is None:
            return Polled(polls, tuple(lags))
        taken = agenda.take(due)
        assert taken is not None
        began, length = begun[taken]
        if running := due - began < length:
            agenda.answered(taken, due, draw=dice.random(), running=running)
        else:
            lags.append(due - began - length)
            agenda.ended(taken, due)
            begin(due)
    raise AssertionError("an endless count has ended")


def poll_each(interval: Interval, durations: Sequence[float], *, seed: int) -> Polled:
    """Poll a job by a rule that learns nothing: each generation by itself."""
    dice, polls, lags = Random(f"each/{seed}"), 0, []
    for length in durations:
        age, asked = 0.0, 0
        while age < length or not asked:
            age += interval(asked, age, dice)
            asked += 1
        polls += asked
        lags.append(age - length)
    return Polled(polls, tuple(lags))


def fixed(seconds: float) -> Interval:
    """Return the rule that asks each so many seconds, give or take a tenth."""
    return lambda _asked, _age, dice: seconds * dice.uniform(0.9, 1.1)


def poll_known(scenario: Scenario, durations: Sequence[float], *, lag: float, seed: int) -> Polled:
    """Poll a job by the best rule for durations that are known."""
    schedules = [Schedule(hazards(survival), lag) for survival in scenario.survivals]
    parts = []
    for part, schedule in enumerate(schedules):
        first, last = (len(durations) * edge // len(schedules) for edge in (part, part + 1))
        best = partial(_best, schedule)
        parts.append(poll_each(best, durations[first:last], seed=seed + part))
    return Polled(sum(part.polls for part in parts), tuple(lag for part in parts for lag in part.lags))


def _best(schedule: Schedule, _asked: int, age: float, dice: Random) -> float:
    return min(schedule.interval(age, polls=dice.uniform(0.9, 1.1)), 600.0)


def hazards(survival: Survival) -> list[float]:
    """Return the hazard of a distribution in each bin that is learned."""
    found: list[float] = []
    for before, after in pairwise(EDGES):
        left, right = survival(before), survival(after)
        known = left > 1e-9 and right > 1e-9 * left
        found.append(max(math.log(left / right) / (after - before), 1e-9) if known else found[-1])
    return found


def least(scenario: Scenario) -> float:
    """Return the least share of a fixed interval's polls, at an equal mean lag, that theory permits.

    K²/E[T] with K the integral of sqrt(f S); for parts of a job that differ, weighed by what each costs.
    """
    parts = [_roots_and_mean(survival) for survival in scenario.survivals]
    return fmean(root for root, _ in parts) ** 2 / fmean(mean for _, mean in parts)


def _roots_and_mean(survival: Survival) -> tuple[float, float]:
    step, roots, mean = 0.25, 0.0, 0.0
    for number in range(20_000):
        left, right = survival(number * step), survival((number + 1) * step)
        roots += math.sqrt(max(0.0, left - right) / step * (left + right) / 2) * step
        mean += (left + right) / 2 * step
    return roots, mean


def share_of_fixed(polled: Polled, durations: Sequence[float], *, seed: int) -> float:
    """Return the polls as a share of those of a fixed interval with the same measured mean lag."""
    other = poll_each(fixed(2 * polled.lag), durations, seed=seed)
    return polled.polls / (other.polls * other.lag / polled.lag)
