"""How many generations may be open, how fast new ones start, and the pause that all share.

Pure: told the time (the loop's, in seconds), the answers and the dice. It knows one thing of the account's limit: what
the service refused. A slot is taken before a POST and given back when the end of its generation is noticed.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import frozen

from kling_async.rules.retry import backoff

START: Final = 4
"""Where `auto` begins."""

UNCERTAIN_SHARE: Final = 0.05
"""Submits stop while more than this share of the open ones is uncertain…"""
UNCERTAIN_FREE: Final = 3
"""…and more than so many."""


@frozen
class Limits:
    """What admission is held to."""

    cap: int
    """Generations at once that are never passed."""
    adaptive: bool
    """Whether the window is searched for below the cap (`auto`), or begins at it."""
    starts_per_second: float | None = None
    """At most so many POSTs a second."""
    backoff_first: float = 1.0
    """Seconds of the first pause."""
    backoff_cap: float = 60.0
    """Seconds of the longest pause."""


class Admission:
    """The window, the pace, and the pause."""

    def __init__(self, limits: Limits, *, open_now: int = 0) -> None:
        self._limits = limits
        self._window = float(min(limits.cap, max(START, open_now)) if limits.adaptive else limits.cap)
        self._growing = limits.adaptive
        self._open = 0
        self._in_air = 0
        self._uncertain: set[str] = set()
        self._paused_until = -math.inf
        self._next_start = -math.inf
        self._troubles = 0
        self._probing = False

    @property
    def open(self) -> int:
        """Slots that are taken."""
        return self._open

    @property
    def window(self) -> int:
        """Slots there are, as far as is known."""
        return max(1, int(self._window))

    @property
    def probing(self) -> bool:
        """Whether the service is tried with one POST at a time."""
        return self._probing

    def begin(self) -> None:
        """Forget what was open, as a run begins; what was learned of the account stays."""
        self._open = self._in_air = 0
        self._uncertain.clear()

    def wait(self, now: float) -> float:
        """Return the seconds until a POST may start: 0 for now, infinity for "when something changes"."""
        if self._open >= self.window or self._too_uncertain() or (self._probing and self._in_air):
            return math.inf
        return max(0.0, self._paused_until - now, self._next_start - now)

    def take(self, now: float) -> None:
        """Take a slot for a POST that starts now."""
        self._open += 1
        self._in_air += 1
        if self._limits.starts_per_second is not None:
            self._next_start = max(self._next_start, now) + 1 / self._limits.starts_per_second

    def adopt(self) -> None:
        """Take a slot for what is open already, whatever the window says."""
        self._open += 1

    def release(self) -> None:
        """Give a slot back: the end of its generation was noticed, or there was none."""
        self._open = max(0, self._open - 1)

    def landed(self) -> None:
        """Note that a POST is no longer in the air, whatever its answer was."""
        self._in_air = max(0, self._in_air - 1)

    def accepted(self) -> None:
        """Note an accepted submit: the trouble is over, and there is room for more.

        The one that ends a trouble shows that there is room again, and nothing of room for more.
        """
        probed, self._probing, self._troubles = self._probing, False, 0
        if probed or self._open + 1 < self.window:
            return
        step = 1.0 if self._growing else 1.0 / max(1.0, self._window)
        self._window = min(float(self._limits.cap), self._window + step)

    def refused(self, now: float, *, pause: float | None, jobs: bool | None, draw: float) -> None:
        """Note a 429: the window shrinks to what is open, and all wait once.

        Args:
            now: The time.
            pause: Seconds that the answer asked for; None where it named none.
            jobs: Whether the limit is on generations at once (True), on requests (False), or not told (None).
            draw: A draw for the jitter.
        """
        if jobs is not False and not self._probing:
            self._shrink(self._open - self._in_air)
        self.troubled(now, pause=pause, draw=draw)

    def crowded(self, now: float, *, draw: float) -> None:
        """Note a generation that was accepted, and failed since there were too many at once; its slot is still taken.

        Each such one shrinks the window to what is open beside it: unlike refusals that come in one burst, each gives
        its slot back.

        Args:
            now: The time.
            draw: A draw for the jitter.
        """
        self._shrink(self._open - self._in_air - 1)
        self.troubled(now, pause=None, draw=draw)

    def _shrink(self, fits: int) -> None:
        """Take what was open beside a refused one for the limit."""
        self._growing = False
        self._window = float(max(1, min(self.window, fits)))

    def troubled(self, now: float, *, pause: float | None, draw: float) -> None:
        """Note the service's trouble: all submits pause as one, then one probes at a time until one is accepted."""
        if now >= self._paused_until:
            self._troubles += 1
        own = backoff(self._troubles, draw, first=self._limits.backoff_first, cap=self._limits.backoff_cap)
        # An answer may ask for no pause at all: the first step of our own back-off is kept all the same.
        asked = own if pause is None else max(pause, min(own, self._limits.backoff_first / 2))
        self._paused_until = max(self._paused_until, now + asked)
        self._probing = True

    def uncertain(self, name: str) -> None:
        """Note that an open one is uncertain."""
        self._uncertain.add(name)

    def certain(self, name: str) -> None:
        """Note that it is so no longer."""
        self._uncertain.discard(name)

    def log_read(self) -> None:
        """Note that the usage log was read: what it lists is known, and what it does not list is waited for."""
        self._uncertain.clear()

    def _too_uncertain(self) -> bool:
        return len(self._uncertain) > max(UNCERTAIN_FREE, UNCERTAIN_SHARE * self._open)
