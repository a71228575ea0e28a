"""How many generations may be open, how fast new ones start, and the pause that all share.

Pure: told the time (the loop's, in seconds), the answers and the dice. It knows of the account's limit only what the
service accepted and refused. A slot is taken before a POST and given back when the end of its generation is noticed.

The window is first searched for: it grows with each accepted submit, so that the limit is found in round trips and not
in generation times, with few POSTs in the air, so that few are refused when it is met. Once found it is kept, and one
POST more is tried now and then: if that is accepted, the limit has risen, and the search goes on.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import frozen

from kling_async.rules.retry import backoff
from kling_async.types.statistics import AdmissionStatistics

START: Final = 4
"""Where `auto` begins."""
SEARCH_SHARE: Final = 1 / 20
"""Share of what is open that may be in the air beside it during the search: at most so many are refused at its end."""
RAMP_LEAST: Final = 8
"""POSTs that may be in the air at once where the window is given or found; as many as are open, if that is more."""
PROBE_AFTER: Final = 45
"""Accepted submits after which one more than the window is tried: one in so many may be refused. Fewer where the
window has just sunk by half, or to nothing: as many as it holds, and twice as many after each try in vain."""
SLACK: Final = 0.05
"""A search that finds no more than this above the window has found nothing."""
DECREASE: Final = 0.9
"""What the window is multiplied by when submits within it are refused again and again: the limit has sunk."""
SLOWER: Final = (0.1, 5.0)
"""Seconds between two starts after "too many requests": the first step, and the longest; they double."""
FASTER: Final = 0.95
"""What that time is multiplied by at each accepted submit."""
QUEUED_SHARE: Final = 0.2
"""The window does not grow while more than this share of the open ones is queued for long…"""
UNBEGUN: Final = (16, 0.8)
"""…or more than so many, and than this share, are not known to have begun."""

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
    in_air: float = math.inf
    """POSTs in the air at once that are never passed: each has files open."""


class Admission:
    """The window, the pace, and the pause.

    Args:
        limits: What it is held to.
        window: Where `auto` begins, if something is known: what is open, or what was found earlier.
    """

    def __init__(self, limits: Limits, *, window: int = START) -> None:
        self._limits = limits
        self._window = min(limits.cap, max(START, window)) if limits.adaptive else limits.cap
        self._searching = limits.adaptive
        self._open = 0
        self._in_air = 0
        self._answered = self._burst = 0
        self._met = False
        self._uncertain: set[str] = set()
        self._paused_until = -math.inf
        self._next_start = -math.inf
        self._troubles = 0
        self._one_by_one = False
        self._trying = self._told_late = False
        self._step = START
        self._base = 0  # the window before the try that began this search; 0 where none did
        self._fitted = 0  # the most that were open at once beside what is in the air, up to the window
        self._held = 0  # the largest window since it last sank by half
        self._streak = self._accepted_since = 0
        self._patience = PROBE_AFTER
        self._spacing = 0.0
        self._accepted = self._refused = 0
        self.queued = 0
        """Open generations that the service has been keeping in its queue for long."""
        self.unbegun = 0
        """Open generations that are not known to have begun: queued, or not asked yet."""

    @property
    def open(self) -> int:
        """Slots that are taken."""
        return self._open

    @property
    def window(self) -> int:
        """Slots there are, as far as is known."""
        return self._window

    @property
    def known(self) -> bool:
        """Whether the window was met: the service refused one more, once at the least."""
        return self._limits.adaptive and self._met

    def statistics(self, now: float) -> AdmissionStatistics:
        """Return the figures of the moment."""
        return AdmissionStatistics(
            open=self._open,
            in_air=self._in_air,
            window=self.window,
            searching=self._searching,
            accepted=self._accepted,
            refused=self._refused,
            uncertain=len(self._uncertain),
            queued=self.queued,
            paused_for=max(0.0, self._paused_until - now),
        )

    def begin(self) -> None:
        """Forget what was open, as a run begins; what was learned of the account stays."""
        self._open = self._in_air = self._answered = self._burst = self.queued = self.unbegun = 0
        self._trying = False
        self._uncertain.clear()

    def wait(self, now: float) -> float:
        """Return the seconds until a POST may start: 0 for now, infinity for "when something changes"."""
        if self._open >= self._allowed() or self._in_air >= self._allowed_in_air() or self._too_uncertain():
            return math.inf
        return max(0.0, self._paused_until - now, self._next_start - now)

    def _allowed(self) -> int:
        """Return how many may be open."""
        if self._open - self._in_air > self._limits.cap or not self._may_grow():
            return self._window
        if self._searching:
            return min(self._limits.cap, max(self._window, self._open - self._in_air + self._step))
        return min(self._limits.cap, self._window + (self._accepted_since >= self._patience))

    def _allowed_in_air(self) -> int:
        """Return how many POSTs may be in the air: what is refused at the limit is never more."""
        wanted = self._step if self._searching else max(RAMP_LEAST, self._open - self._in_air)
        return 1 if self._one_by_one else int(min(wanted, self._limits.in_air))

    def _may_grow(self) -> bool:
        unbegun = self.unbegun > max(UNBEGUN[0], UNBEGUN[1] * self._open)
        return self.queued <= QUEUED_SHARE * self._open and not unbegun

    def take(self, now: float) -> None:
        """Take a slot for a POST that starts now."""
        self._trying = self._trying or (not self._searching and self._open >= self._window)
        self._open += 1
        self._in_air += 1
        rate = self._limits.starts_per_second
        spacing = max(self._spacing, 0.0 if rate is None else 1 / rate)
        if spacing:
            self._next_start = max(self._next_start, now) + spacing

    def adopt(self) -> None:
        """Take a slot for what is open already, whatever the window says."""
        self._open += 1

    def release(self) -> None:
        """Give a slot back: the end of its generation was noticed, or there was none."""
        self._open = max(0, self._open - 1)

    def landed(self) -> None:
        """Note that a POST is no longer in the air, whatever its answer was."""
        if self._answered:
            self._answered -= 1
        else:
            self._in_air = max(0, self._in_air - 1)
        self._burst = max(0, self._burst - 1)

    def accepted(self) -> None:
        """Note an accepted submit, before it is said to have landed: the trouble is over, and so many fit.

        From now on it counts as open, not as in the air: it may take a while to be written down, and a refusal that
        comes meanwhile must not find fewer than there are.
        """
        self._accepted += 1
        self._accepted_since += 1
        self._one_by_one, self._troubles, self._streak = False, 0, 0
        self._spacing = self._spacing * FASTER if self._spacing > SLOWER[0] / 10 else 0.0
        if self._in_air:
            self._in_air -= 1
            self._answered += 1
        fit = self._open - self._in_air
        self._fitted = max(self._fitted, fit)
        if fit <= self._window:
            return
        if self._trying and self._told_late:
            self._trying, self._accepted_since = False, 0
        elif self._trying:
            self._searching, self._trying, self._step, self._base = True, False, 0, self._window
        self._window = min(self._limits.cap, fit)
        # Each one that fits shows how far to reach for the next ones, up to a share of what is open.
        found_more = fit > self._base * (1 + SLACK)
        self._step = max(START // 2, min(self._step + 1, int(SEARCH_SHARE * fit))) if found_more else 1

    def refused(self, now: float, *, pause: float | None, jobs: bool | None, draw: float) -> None:
        """Note a 429, still counted as in the air: the window shrinks, and all wait once.

        Args:
            now: The time.
            pause: Seconds that the answer asked for; None where it named none.
            jobs: Whether the limit is on generations at once (True), on requests (False), or not told (None).
            draw: A draw for the jitter.
        """
        self._refused += 1
        fit = self._open - self._in_air
        if jobs is None:
            # Where far fewer are open than fitted before, it cannot be their number.
            jobs = self._searching or fit >= self._fitted / 2
        if not self._burst:
            self._burst = self._in_air + self._answered
            if jobs:
                self._shrink(fit)
            else:
                self._spacing = min(max(2 * self._spacing, SLOWER[0]), SLOWER[1])
        self.troubled(now, pause=pause, draw=draw)

    def crowded(self, now: float, *, draw: float) -> None:
        """Note a generation that was accepted, and failed since there were too many at once; its slot is still taken.

        Each such one shrinks the window to what is open beside it: unlike refusals that come in one burst, each gives
        its slot back. Where refusals come so late, one that is accepted proves nothing: no search follows from it.

        Args:
            now: The time.
            draw: A draw for the jitter.
        """
        self._told_late = True
        self._meet(self._open - self._in_air - 1, in_vain=True)
        self.troubled(now, pause=None, draw=draw)

    def _shrink(self, fit: int) -> None:
        """Take what is open beside a refused one for the limit; less, where it was within the window itself."""
        self._streak += 1
        self._told_late = False
        if self._searching or self._trying:
            # Generations that ended without our notice let a few more in than there are slots: so few are no find.
            found_nothing = self._base > 0 and fit <= self._base * (1 + SLACK)
            self._meet(self._base if found_nothing else fit, in_vain=self._trying or found_nothing)
        elif self._streak == 1:
            # Some of what is open may have ended without our notice: the limit may be a little less than that.
            self._meet(min(fit, self._window - 1), in_vain=False)
        else:
            self._meet(int(DECREASE * min(fit, self._window)), in_vain=False)

    def _meet(self, fits: int, *, in_vain: bool) -> None:
        """Hold so many for the limit and search no more; after a try in vain, the next one waits twice as long."""
        self._window = max(1, min(self._window, fits))
        if 2 * self._window <= self._held or (fits < 1 and not self._told_late):
            # Others fill the account, and leave it some day; or a refusal meant little: no limit is 0.
            self._held, self._patience = self._window, min(PROBE_AFTER, self._window)
        elif in_vain:
            self._patience = min(PROBE_AFTER, 2 * self._patience)
        self._held = max(self._held, self._window)
        self._fitted = min(self._fitted, self._window)
        self._searching = self._trying = False
        self._met = True
        self._base = 0
        self._accepted_since = 0

    def troubled(self, now: float, *, pause: float | None, draw: float) -> None:
        """Note the service's trouble: all submits pause as one, then one goes at a time until one is accepted."""
        if now >= self._paused_until or not self._troubles:  # once a pause; after an accepted submit, anew
            self._troubles += 1
        own = backoff(self._troubles, draw, first=self._limits.backoff_first, cap=self._limits.backoff_cap)
        # An answer may ask for no pause at all: the first step of our own back-off is kept all the same.
        asked = own if pause is None else max(pause, min(own, self._limits.backoff_first / 2))
        self._paused_until = max(self._paused_until, now + asked)
        self._one_by_one = True

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
