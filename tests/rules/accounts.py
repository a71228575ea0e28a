"""An account with a limit that nobody told, and the client's side of it: pure, without a loop or a socket.

Shared by the tests of admission. Time is a number; what happens is a heap of moments.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, Final

from kling_async.rules.admission import Admission, Limits

ROUND_TRIP: Final = 0.5
"""Seconds from a POST to its answer."""
LAG: Final = 4.0
"""Seconds from an end to its notice, on average."""
MEDIAN: Final = 240.0
"""Seconds of the median generation."""


class Account:
    """Drives admission as the buyer does, against an account.

    Args:
        limit: How many may run at once.
        admission: What decides.
        seed: Of durations and jitter.
        told: What a refusal says: of jobs (True), of requests (False), or nothing (None).
    """

    def __init__(self, limit: int, admission: Admission, *, seed: int = 1, told: bool | None = None) -> None:
        self.limit = limit
        self.admission = admission
        self.told = told
        self.policy = "refuse"
        """What happens over the limit: `refuse`, `queue`, or `fail` after it was accepted."""
        self.most_requests = math.inf
        """POSTs answered within one second; the next ones are refused."""
        self.now = 0.0
        self.running = self.submits = self.refused = self.ended = self.most_open = 0
        self.trace: list[tuple[float, int]] = []
        """How many ran, at each change."""
        self.refusals: list[float] = []
        """When submits were refused."""
        self._dice = Random(seed)
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._order = count()
        self._queue: list[float] = []
        self._recent: list[float] = []
        self.starts: list[float] = []
        """When POSTs left."""

    def at(self, when: float, event: Callable[..., None], *args: Any) -> None:
        """Let something happen."""
        heapq.heappush(self._events, (when, next(self._order), event, args))

    def change(self, limit: int) -> None:
        """Let the limit be another from now on."""
        self.limit = limit

    def run(self, number: int, *, until: float = math.inf) -> None:
        """Buy so many, or as many as there is time for."""
        left = number + self.ended + self.admission.open
        while True:
            while self.ended + self.admission.open < left and self.admission.wait(self.now) <= 0:
                self.admission.take(self.now)
                self.submits += 1
                self.starts.append(self.now)
                self.most_open = max(self.most_open, self.admission.open)
                self.at(self.now + ROUND_TRIP * self._dice.uniform(0.5, 1.5), self._arrive)
            pause = self.admission.wait(self.now) if self.ended + self.admission.open < left else math.inf
            wake = self.now + pause + 1e-6
            if not self._events and math.isinf(wake):
                return
            if self._events and self._events[0][0] <= wake:
                self.now, _, event, args = heapq.heappop(self._events)
                if self.now > until:
                    return
                event(*args)
            else:
                self.now = wake

    def _arrive(self) -> None:
        admission = self.admission
        self._recent = [at for at in self._recent if at > self.now - 1.0]
        full = self.running >= self.limit
        if len(self._recent) >= self.most_requests:
            self._refuse(jobs=False)
        elif full and self.policy == "refuse":
            self._refuse(jobs=self.told)
        else:
            self._recent.append(self.now)
            admission.accepted()
            admission.landed()
            length = MEDIAN * self._dice.lognormvariate(0, 0.35)
            if not full:
                self._start(length)
            elif self.policy == "queue":
                self._queue.append(length)
                self.at(self.now + 0.2 * MEDIAN, self._look)
            else:
                self.at(self.now + self._dice.uniform(0, 2 * LAG), self._crowded)

    def _refuse(self, *, jobs: bool | None) -> None:
        self.refused += 1
        self.refusals.append(self.now)
        self.admission.refused(self.now, pause=None, jobs=jobs, draw=self._dice.random())
        self.admission.landed()
        self.admission.release()

    def _crowded(self) -> None:
        self.refused += 1
        self.admission.crowded(self.now, draw=self._dice.random())
        self.admission.release()

    def _start(self, length: float) -> None:
        self.running += 1
        self.trace.append((self.now, self.running))
        self.at(self.now + length, self._end)

    def _end(self) -> None:
        self.running -= 1
        if self._queue and self.running < self.limit:
            self._start(self._queue.pop(0))
        self.trace.append((self.now, self.running))
        self.at(self.now + self._dice.uniform(0, 2 * LAG), self._noticed)

    def _noticed(self) -> None:
        self.ended += 1
        self.admission.release()
        self._look()

    def _look(self) -> None:
        self.admission.queued = len(self._queue)

    def first_full(self, share: float = 0.95) -> float:
        """Return when the limit was used first."""
        return next((at for at, running in self.trace if running >= share * self.limit), math.inf)

    def busy(self, since: float, until: float) -> float:
        """Return the mean of how many ran in a time."""
        total, last, running = 0.0, since, 0
        for at, now_running in self.trace:
            if at > since:
                total += (min(at, until) - last) * running
                last = min(at, until)
            running = now_running
        return total / (last - since)


def auto(cap: int = 1000, **more: Any) -> Admission:
    """Return admission that searches."""
    return Admission(Limits(cap, adaptive=True, **more))
