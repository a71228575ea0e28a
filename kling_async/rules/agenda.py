"""Whom to ask next, and when: one agenda for all open generations.

Pure: told the time (the loop's, in seconds) and the dice (`draw` in [0, 1)). It never asks anybody itself. Nobody is
lost and nobody is asked twice at once: an entry is either waiting, out, or gone.
"""

from __future__ import annotations

import heapq
from typing import Final

from attrs import define, frozen

JITTER: Final = 0.1
"""Intervals vary by this share to either side, so that generations begun together do not stay together."""

GROWTH: Final = 6.0
"""The interval as a share of a generation's age, over the share asked for as lag: what is old is asked rarely, what is
young and may be quick, often. An interval of twice the lag at *every* age would ask a young one hundreds of times."""


@frozen
class Pace:
    """How often to ask."""

    interval_min: float
    """Seconds of the shortest interval."""
    interval_max: float
    """Seconds of the longest interval."""
    lag: float | None = None
    """Seconds of the mean lag asked for; None for a share of the age."""
    share: float = 0.02
    """The lag as a share of the time that a generation takes, where it is not asked for in seconds."""


@define
class Watched:
    """One open generation."""

    generation_id: str
    """The service's id."""
    began: float
    """When it was accepted, by the loop's clock; before now where it was accepted in another process."""
    asked: int = 0
    """Polls answered so far."""
    out: bool = False
    """Whether a poll is under way."""
    turn: int = 0
    """Its place in the agenda; one from before it was put back counts no more."""


class PollAgenda:
    """The open generations in the order in which they are to be asked."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._watched: dict[str, Watched] = {}
        self._due: list[tuple[float, int, str]] = []
        self._left_out: set[str] = set()
        self._counter = 0
        self._paused_until = float("-inf")

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, generation_id: str, now: float, *, age: float = 0.0, draw: float = 0.5) -> None:
        """Begin to watch a generation.

        Args:
            generation_id: Its id; watching it already changes nothing.
            now: The time.
            age: Seconds since it was accepted. One that is old already is asked at once.
            draw: A draw for the jitter.
        """
        if generation_id in self._watched:
            return
        watched = self._watched[generation_id] = Watched(generation_id, now - age)
        if generation_id in self._left_out:
            # It was removed while a poll was under way: the answer to that one is the next.
            self._left_out.discard(generation_id)
            watched.out = True
            return
        # What was open when an earlier process stopped may be finished: ask soon, but not all in one instant.
        wait = self._interval(0.0, draw) if age < self._pace.interval_max else draw * self._pace.interval_min
        self._put(watched, now + wait)

    def remove(self, generation_id: str) -> None:
        """Watch it no longer."""
        watched = self._watched.pop(generation_id, None)
        if watched is not None and watched.out:
            self._left_out.add(generation_id)

    def next_due(self) -> float | None:
        """Return when the next poll is due; None where nothing waits. It may lie in the past."""
        while self._due and not self._waits(*self._due[0][1:]):
            heapq.heappop(self._due)
        return max(self._due[0][0], self._paused_until) if self._due else None

    def take(self, now: float) -> Watched | None:
        """Return the next generation that is due, and count it as out; None where none is."""
        due = self.next_due()
        if due is None or due > now:
            return None
        watched = self._watched[heapq.heappop(self._due)[2]]
        watched.out = True
        return watched

    def answered(self, generation_id: str, now: float, *, draw: float) -> None:
        """Note the answer to a poll: what is still watched is put back, for its next one."""
        self._left_out.discard(generation_id)
        watched = self._watched.get(generation_id)
        if watched is not None and watched.out:
            watched.out = False
            watched.asked += 1
            self._put(watched, now + self._interval(now - watched.began, draw))

    def pause(self, until: float) -> None:
        """Ask nobody before a moment: a failing service is left in peace by all at once."""
        self._paused_until = max(self._paused_until, until)

    def _waits(self, turn: int, generation_id: str) -> bool:
        watched = self._watched.get(generation_id)
        return watched is not None and watched.turn == turn

    def _put(self, watched: Watched, due: float) -> None:
        self._counter += 1
        watched.turn = self._counter
        heapq.heappush(self._due, (due, self._counter, watched.generation_id))

    def _interval(self, age: float, draw: float) -> float:
        pace = self._pace
        wanted = age * GROWTH * pace.share if pace.lag is None else 2 * pace.lag
        bounded = min(max(wanted, pace.interval_min), pace.interval_max)
        return bounded * (1 - JITTER + 2 * JITTER * draw)
