"""What finished generations taught about how long one takes, and when to ask for it so that little is asked in vain.

Pure. The hazard (the rate at which those still running finish) is learned in bins of age. Every answer "not yet" is
exposure up to that age, so that what is still running counts too, and nothing is ever scanned. Polls are best spent at
a rate proportional to the square root of the hazard: the mean lag of any other schedule with as many polls is longer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import Any, Final

FIRST_EDGE: Final = 0.01
"""Seconds up to which ages are one bin."""
GROWTH: Final = 1.06
"""Each further bin is this much longer than the one before: a service of any speed is told apart as finely."""
EDGES: Final = (0.0, *accumulate(range(330), lambda edge, _: edge * GROWTH, initial=FIRST_EDGE))
"""The bins' edges in seconds of age; the last one is weeks."""

PRIOR_MEDIAN: Final = 100.0
"""Seconds of the median generation, before anything is known."""
PRIOR_SIGMA: Final = 1.2
"""Its spread: broad, since a narrow one that is wrong costs more than it ever saves."""
PRIOR_WEIGHT: Final = 0.1
"""Finishes that the prior counts for in each bin…"""
PRIOR_PASSED: Final = 10.0
"""…but, where any has ended, not for more than so many that passed: a service much faster than it is soon believed."""

BLUR: Final = 0.5
"""Share of what was seen in each neighbour that counts for a bin, too: a bin by itself sees few."""
MEMORY: Final = 1000
"""Finishes over which what was learned is forgotten."""
TAKEN_OVER: Final = 30
"""Finishes that an earlier run's lessons count for at the most: the service may have become another since."""
REFRESH: Final = 5
"""Finishes after which the schedule is made anew…"""
REFRESH_SHARE: Final = 0.02
"""…or so many of those remembered, if that is more: one among many changes little."""

_MOST: Final = 1e12
"""Finishes, or seconds, that no bin has ever seen: a document that says so is damaged."""
_TELLING: Final = 1e-9
"""Share of those running that end between two polls for the hazard to tell where; of less, a float keeps too little."""

_BINS: Final = len(EDGES) - 1
_WIDTHS: Final = tuple(after - before for before, after in pairwise(EDGES))


def _prior() -> tuple[float, ...]:
    """Return the prior's hazard in each bin."""

    def survival(age: float) -> float:
        return 0.5 * math.erfc(math.log(age / PRIOR_MEDIAN) / (PRIOR_SIGMA * math.sqrt(2))) if age > 0 else 1.0

    hazards: list[float] = []
    for before, after in pairwise(EDGES):
        left, right = survival(before), survival(after)
        known = left > 1e-12 and right > 1e-12 * left
        hazards.append(math.log(left / right) / (after - before) if known else hazards[-1])
    return tuple(max(hazard, 1e-9) for hazard in hazards)


_PRIOR: Final = _prior()
_UNTRIED: Final = tuple(PRIOR_WEIGHT / hazard for hazard in _PRIOR)
_DISPROVED: Final = tuple(min(exposed, PRIOR_PASSED * width) for exposed, width in zip(_UNTRIED, _WIDTHS, strict=True))


def _blurred(values: Sequence[float]) -> list[float]:
    """Return each value with a share of its neighbours' added."""
    before, after = (0.0, *values), (*values[1:], 0.0)
    return [value + BLUR * (left + right) for left, value, right in zip(before, values, after, strict=False)]


def bin_of(age: float) -> int:
    """Return the bin that an age lies in."""
    return bisect_right(EDGES, age, 1, _BINS) - 1


class Durations:
    """The hazard of one kind of generation, learned while generations run.

    Args:
        document: What an earlier run learned (`to_document`); None to begin with the prior.
    """

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        self._finished = [0.0] * _BINS
        self._exposure = [0.0] * _BINS
        # Whole bins that were passed, as the differences from bin to bin: a long stretch costs two additions.
        self._passed = [0.0] * (_BINS + 1)
        self._stale = 0
        self.seen = 0.0
        """Finishes that are remembered."""
        self.hazard: Sequence[float] = _PRIOR
        """Finishes a second among those still running, in each bin."""
        if document is not None:
            self._read(document)
        self._learn()

    def waited(self, since: float, age: float) -> None:
        """Take note of an answer "not yet".

        Args:
            since: The age at the answer before, in seconds; 0 for the first one.
            age: The age at this one.
        """
        if age <= since:
            return
        first = bisect_right(EDGES, since, 1, _BINS) - 1
        last = bisect_right(EDGES, age, 1, _BINS) - 1
        exposure = self._exposure
        if first == last:
            exposure[first] += age - since
            return
        exposure[first] += EDGES[first + 1] - since
        exposure[last] += age - EDGES[last]
        self._passed[first + 1] += 1.0
        self._passed[last] -= 1.0

    def finished(self, since: float, age: float) -> bool:
        """Take note of a finish that was noticed: somewhere after `since`, not after `age`.

        It is spread over the bins between by what is known of them. Returns whether the schedule is to be made anew.
        """
        age = min(age, EDGES[-1])
        since = min(since, age)
        first, last = bin_of(since), bin_of(age)
        lengths = list(_WIDTHS[first : last + 1])
        lengths[0] -= since - EDGES[first]
        lengths[-1] -= EDGES[last + 1] - age
        passed = accumulate(map(mul, self.hazard[first : last + 1], lengths), initial=0.0)
        survival = [math.exp(-hazard) for hazard in passed]
        ended = 1.0 - survival[-1]
        told = ended > _TELLING
        for place, length, before, after in zip(range(first, last + 1), lengths, survival, survival[1:], strict=False):
            self._finished[place] += (before - after) / ended if told else 1 / len(lengths)
            self._exposure[place] += length * (((before + after) / 2 - survival[-1]) / ended if told else 0.5)
        self.seen += 1
        self._stale += 1
        if self._stale < max(REFRESH, REFRESH_SHARE * self.seen) and self.seen > REFRESH:
            return False
        self._forget()
        self._learn()
        return True

    def _forget(self) -> None:
        keep = (1 - 1 / MEMORY) ** self._stale
        self._stale = 0
        self.seen *= keep
        running = 0.0
        for place in range(_BINS):
            running += self._passed[place]
            self._exposure[place] = keep * (self._exposure[place] + running * _WIDTHS[place])
            self._finished[place] *= keep
        self._passed = [0.0] * (_BINS + 1)

    def _learn(self) -> None:
        seen = zip(_blurred(self._finished), _blurred(self._exposure), _UNTRIED, _DISPROVED, strict=True)
        self.hazard = [
            (PRIOR_WEIGHT + done) / ((disproved if done else untried) + exposed)
            for done, exposed, untried, disproved in seen
        ]

    def quantile(self, share: float) -> float:
        """Return the age in seconds by which a share of all generations have ended."""
        left, wanted = 0.0, -math.log1p(-share)
        for place, hazard in enumerate(self.hazard):
            more = hazard * _WIDTHS[place]
            if left + more >= wanted:
                return EDGES[place] + (wanted - left) / hazard
            left += more
        return EDGES[-1]

    def to_document(self) -> dict[str, Any]:
        """Return what was learned as plain JSON values, for the next run."""
        self._forget()
        told = [
            [place, round(done, 4), round(exposed, 3)]
            for place, (done, exposed) in enumerate(zip(self._finished, self._exposure, strict=True))
            if done or exposed
        ]
        return {"version": 1, "seen": round(self.seen, 3), "bins": told}

    def _read(self, document: Mapping[str, Any]) -> None:
        """Take over what an earlier run learned; what cannot be read is as if it were not there."""
        try:
            if document["version"] != 1:
                return
            bins = [(int(place), float(done), float(exposed)) for place, done, exposed in document["bins"]]
            seen = float(document["seen"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        sound = all(
            0 <= place < _BINS and 0 <= done <= _MOST and 0 <= exposed <= _MOST for place, done, exposed in bins
        )
        if not sound or not math.isfinite(seen):
            return
        keep = min(1.0, TAKEN_OVER / seen) if seen > 0 else 0.0
        self.seen = keep * max(0.0, seen)
        for place, done, exposed in bins:
            self._finished[place], self._exposure[place] = keep * done, keep * exposed


class Schedule:
    """The ages at which to ask, for one hazard and one mean lag: the square-root rule.

    Args:
        hazard: Of each bin.
        lag: Seconds of the mean lag asked for.
    """

    def __init__(self, hazard: Sequence[float], lag: float) -> None:
        roots = [math.sqrt(value) for value in hazard]
        survival, whole = 1.0, 0.0
        for root, value, width in zip(roots, hazard, _WIDTHS, strict=True):
            ending = survival * -math.expm1(-value * width)
            whole += root * ending / value
            survival -= ending
        self._rates = [whole / (2 * lag) * root for root in roots]
        self._polls = [0.0, *accumulate(rate * width for rate, width in zip(self._rates, _WIDTHS, strict=True))]

    def interval(self, age: float, *, polls: float = 1.0) -> float:
        """Return the seconds until the next poll.

        Args:
            age: Seconds now.
            polls: How many polls' worth to wait for; 1 for the plan, a little more or less for the jitter.
        """
        planned, rates = self._polls, self._rates
        place = bisect_right(EDGES, age, 1, _BINS) - 1
        wanted = planned[place] + (age - EDGES[place]) * rates[place] + polls
        if wanted >= planned[-1]:
            return math.inf
        there = bisect_right(planned, wanted, place) - 1
        return EDGES[there] + (wanted - planned[there]) / rates[there] - age
