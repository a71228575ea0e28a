"""Whom to ask next, and when: one agenda for all open generations.

Pure: told the time (the loop's, in seconds) and the dice (`draw` in [0, 1)). It never asks anybody itself. Nobody is
lost and nobody is asked twice at once: an entry is either waiting, out, or gone. When to ask is learned from the
generations that ended (`kling_async.rules.durations`), for each kind of them apart.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from kling_async.rules.durations import Durations, Schedule
from kling_async.types.settings import PollSettings
from kling_async.types.statistics import PollStatistics

JITTER: Final = 0.1
"""Intervals vary by this share to either side, so that generations begun together do not stay together."""

LEAST_LAG: Final = 0.2
"""Seconds of the shortest mean lag, where it is asked for as a share."""

WARM: Final = 20
"""Finishes of a kind until which its schedule is not trusted…"""
UNKNOWN_GROWTH: Final = 0.25
"""…and an interval is this share of the age, where the lag is a share, too: a service of any speed is met within a few
polls. Where the lag is asked for in seconds, the interval is twice that."""

LONG: Final = 4.0
"""The longest interval is at least so many times the mean lag: a slow service is not asked without end."""

SOON: Final = 0.05
"""Share of its age after which one that is finished without its link is asked again."""

BUCKET: Final = 0.1
"""Seconds of one bucket: what is due within it is asked at its end, never sooner than it should be."""

_FOLLOW: Final = 0.05
"""How fast the schedule follows the lag that it really has."""
_GAINS: Final = (0.5, 2.0)
"""How far it follows."""
_OUT: Final = -1
"""In place of a bucket: a poll is under way."""

_Watched = tuple[str, float, float, int]
"""An open generation: its kind's name; when it was accepted, by the loop's clock (before now where that was in another
process); the age in seconds at which it was last known to run, below 0 where nothing can be learned of its time; the
bucket that it waits in. Plain tuples of plain values: the collector of garbage need not look at a million of them."""


@frozen
class Pace:
    """How often to ask."""

    interval_min: float
    """Seconds of the shortest interval."""
    interval_max: float
    """Seconds of the longest interval, unless the lag asked for is so long that it is passed (`LONG`)."""
    lag: float | None = None
    """Seconds of the mean lag asked for; None for a share of the median time."""
    share: float = 0.02
    """The lag as a share of the median time that a generation takes, where it is not asked for in seconds."""
    polls_per_second: float = math.inf
    """At most so many polls a second, of all generations together."""


def pace_of(settings: PollSettings) -> Pace:
    """Read the lag: seconds, or a share such as `2%`."""
    low, high, lag, rate = (
        settings.poll_interval_min,
        settings.poll_interval_max,
        settings.poll_lag,
        settings.polls_per_second or math.inf,
    )
    if isinstance(lag, str):
        return Pace(low, high, share=float(lag.rstrip("%")) / 100, polls_per_second=rate)
    return Pace(low, high, lag, polls_per_second=rate)


class Kind:
    """Generations of one model and length: what was learned of them, and the schedule that follows from it."""

    def __init__(self, pace: Pace, document: Mapping[str, Any] | None = None) -> None:
        self._pace = pace
        self._shortest = pace.interval_min
        self.durations = Durations(document)
        self._gain = 1.0
        self._half_gap: float | None = None
        self.ended = 0
        """Generations of it whose end was noticed by this process."""
        self.half_gaps = 0.0
        """Seconds between the two polls around each of those ends, halved and added up."""
        self._plan()

    def _plan(self) -> None:
        self.median = self.durations.quantile(0.5)
        """Seconds of the median generation."""
        share = max(LEAST_LAG, self._pace.share * self.median)
        self.lag = share if self._pace.lag is None else self._pace.lag
        """Seconds of the mean lag asked for."""
        self._longest = max(self._pace.interval_max, LONG * self.lag)
        self._schedule = Schedule(self.durations.hazard, self.lag * self._gain)
        self.first = self.interval(0.0, 0.0)
        """Seconds until the first poll, at the least…"""
        self.spread = self.interval(0.0, 1.0) - self.first
        """…and how many more it may be."""

    def interval(self, age: float, draw: float) -> float:
        """Return the seconds until the next poll."""
        jitter = 1 - JITTER + 2 * JITTER * draw
        if self.durations.seen >= WARM:
            wait = self._schedule.interval(age, polls=jitter)
        else:
            wait = jitter * (UNKNOWN_GROWTH * age if self._pace.lag is None else 2 * self.lag)
        if wait < self._shortest:
            return self._shortest
        return min(self._longest, wait)

    def finished(self, since: float, age: float) -> None:
        """Learn from a generation that ended between two ages."""
        half = (age - since) / 2
        self.ended += 1
        self.half_gaps += half
        if self.durations.seen >= 2 * WARM:
            # Before that, many of them were asked without a schedule.
            self._half_gap = half if self._half_gap is None else self._half_gap + _FOLLOW * (half - self._half_gap)
        if self.durations.finished(since, age):
            if self._half_gap:
                wanted = self._gain * (self.lag / self._half_gap) ** _FOLLOW
                self._gain = min(max(wanted, _GAINS[0]), _GAINS[1])
            self._plan()


class PollAgenda:
    """The open generations in the order in which they are to be asked: a wheel of buckets, drained one after another.

    Args:
        pace: How often to ask.
        learned: What earlier runs learned of each kind, as `learned` returns it.
    """

    def __init__(self, pace: Pace, learned: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._pace = pace
        self._kinds = {name: Kind(pace, document) for name, document in (learned or {}).items()}
        self._watched: dict[str, _Watched] = {}
        self._buckets: dict[int, list[str]] = {}
        self._order: list[int] = []
        self._left_out: set[str] = set()
        self._polls = 0
        self._gap = 1 / pace.polls_per_second
        self._next_free = self.paused_until = -math.inf
        """Until when nobody is asked; what is answered before that was asked before the pause, and is no news."""

    def __len__(self) -> int:
        return len(self._watched)

    def add(
        self, generation_id: str, now: float, *, kind: str = "", age: float = 0.0, ran: float = 0.0, draw: float = 0.5
    ) -> None:
        """Begin to watch a generation.

        Args:
            generation_id: Its id; watching it already changes nothing.
            now: The time.
            kind: What it is one of: model and length.
            age: Seconds since it was sent.
            ran: The age at which it was surely not finished. One that is older is asked at once.
            draw: A draw for the jitter.
        """
        if generation_id in self._watched:
            return
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = Kind(self._pace)
        if age > ran:
            # What was open when an earlier process stopped may be finished: ask soon, but not all in one instant.
            wait, seen = self._pace.interval_min * draw, -1.0
        elif age > 0:
            wait, seen = found.interval(age, draw), ran
        else:
            wait, seen = found.first + found.spread * draw, 0.0
        if self._left_out and generation_id in self._left_out:
            # It was removed while a poll was under way: the answer to that one is the next.
            self._left_out.discard(generation_id)
            bucket = _OUT
        else:
            bucket = self._put(generation_id, now + wait)
        self._watched[generation_id] = kind, now - age, seen, bucket

    def remove(self, generation_id: str) -> None:
        """Watch it no longer."""
        watched = self._watched.pop(generation_id, None)
        if watched is not None and watched[-1] == _OUT:
            self._left_out.add(generation_id)

    def next_due(self) -> float | None:
        """Return when the next poll is due; None where nothing waits. It may lie in the past."""
        while self._order:
            number = self._order[0]
            waiting = self._buckets[number]
            while waiting:
                watched = self._watched.get(waiting[-1])
                if watched is not None and watched[-1] == number:
                    return max(number * BUCKET, self.paused_until, self._next_free)
                waiting.pop()
            del self._buckets[heapq.heappop(self._order)]
        return None

    def take(self, now: float) -> str | None:
        """Return the id of the next generation that is due, and count it as out; None where none is."""
        due = self.next_due()
        if due is None or due > now:
            return None
        generation_id = self._buckets[self._order[0]].pop()
        kind, began, seen, _ = self._watched[generation_id]
        self._watched[generation_id] = kind, began, seen, _OUT
        self._polls += 1
        if self._gap:
            self._next_free = max(self._next_free, now) + self._gap
        return generation_id

    def answered(
        self, generation_id: str, now: float, *, draw: float, running: bool = False, ended: bool = False
    ) -> None:
        """Note the answer to a poll: what is still watched is put back, for its next one.

        Args:
            generation_id: Whose it was.
            now: The time.
            draw: A draw for the jitter.
            running: Whether the answer says that it is not finished yet: that teaches, an answer that failed does not.
            ended: Whether it says that it is finished, and lacks what belongs to that: it is asked again before long.
        """
        if self._left_out:
            self._left_out.discard(generation_id)
        watched = self._watched.get(generation_id)
        if watched is None or watched[-1] != _OUT:
            return
        name, began, seen, _ = watched
        kind, age = self._kinds[name], now - began
        if running:
            if seen >= 0:
                kind.durations.waited(seen, age)
            seen = age
        wait = kind.interval(age, draw)
        if ended:
            wait = min(wait, max(SOON * age, self._pace.interval_min))
        self._watched[generation_id] = name, began, seen, self._put(generation_id, now + wait)

    def ended(self, generation_id: str, now: float) -> None:
        """Learn that a generation has ended, and watch it no longer."""
        watched = self._watched.get(generation_id)
        if watched is None:
            return
        name, began, seen, _ = watched
        if seen >= 0:
            self._kinds[name].finished(seen, now - began)
        self.remove(generation_id)

    def pause(self, until: float) -> None:
        """Ask nobody before a moment: a failing service is left in peace by all at once."""
        self.paused_until = max(self.paused_until, until)

    def median(self, kind: str) -> float | None:
        """Return the seconds that the median generation of a kind takes; None where none has ended yet."""
        found = self._kinds.get(kind)
        return found.median if found is not None and found.durations.seen else None

    def learned(self) -> dict[str, dict[str, Any]]:
        """Return what was learned of each kind as plain JSON values, for the next run."""
        return {name: kind.durations.to_document() for name, kind in self._kinds.items() if kind.durations.seen}

    def statistics(self, now: float) -> PollStatistics:
        """Return the figures of the moment."""
        ended = [kind for kind in self._kinds.values() if kind.ended]
        count = sum(kind.ended for kind in ended)
        return PollStatistics(
            watched=len(self._watched),
            polls=self._polls,
            finished=count,
            mean_lag=sum(kind.half_gaps for kind in ended) / count if count else None,
            median=max(ended, key=lambda kind: kind.ended).median if ended else None,
            paused_for=max(0.0, self.paused_until - now),
        )

    def _put(self, generation_id: str, due: float) -> int:
        """Let one wait until a moment, and return the bucket that it waits in."""
        number = int(due // BUCKET) + 1
        waiting = self._buckets.get(number)
        if waiting is None:
            self._buckets[number] = [generation_id]
            heapq.heappush(self._order, number)
        else:
            waiting.append(generation_id)
        return number
