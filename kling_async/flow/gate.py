"""Waits for what `kling_async.rules.admission` decides. First come, first served; one gate for all submits.

It also hears every answer of the service, to tell how long there was no usable one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random

from kling_async.errors import KlingError, RateLimited, ServiceUnavailable
from kling_async.logs import get_logger
from kling_async.rules.admission import START, Admission, Limits
from kling_async.rules.handles import posts_within
from kling_async.rules.retry import named_pause
from kling_async.types.settings import Settings

logger = get_logger(__name__)

_SHORTEST = 0.001
"""Seconds of the shortest wait: a clock's resolution must not make it spin."""
_OUTAGE = 60.0
"""Seconds without a usable answer after which that is told; once, and its end once. A full account, alike."""
_KEY_WAVES = 3
"""Waves of POSTs refused for the key, none taken between, after which no more is tried."""


def admission_of(settings: Settings, files: int, *, window: int = START) -> Admission:
    """Make the decisions that settings ask for, within the files that may be open; `auto` begins with such a window."""
    wanted = settings.admission
    adaptive = not isinstance(wanted.max_in_flight, int)
    cap = wanted.max_window if not isinstance(wanted.max_in_flight, int) else wanted.max_in_flight
    limits = Limits(
        cap,
        adaptive,
        wanted.starts_per_second,
        backoff_first=wanted.backoff_first,
        backoff_cap=wanted.backoff_cap,
        in_air=posts_within(settings, files),
    )
    return Admission(limits, window=window)


class Gate:
    """The way to a POST.

    Args:
        admission: The decisions.
        dice: For the jitter.
        retry_after_cap: Seconds of the longest pause that the service may ask for.
    """

    def __init__(self, admission: Admission, dice: random.Random, *, retry_after_cap: float) -> None:
        self.admission = admission
        self._dice = dice
        self._cap = retry_after_cap
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed: KlingError | None = None
        self._shut = asyncio.Event()
        self._silent_since: float | None = None
        self._trouble: KlingError | None = None
        self._outage_since: float | None = None
        self._full_since: float | None = None
        self._full_told = False
        self._let_in = 0
        self._key_waves = 0
        self._key_wave: int | None = None
        self.turned_away = False
        """Whether anybody wanted to submit since it was closed."""

    @property
    def closed(self) -> KlingError | None:
        """Why no more submits start; None while they may."""
        return self._closed

    def begin(self) -> None:
        """Begin a run: nothing is open, and what closed the gate before is tried again."""
        self.admission.begin()
        self._closed = self._trouble = self._silent_since = self._outage_since = None
        self._understood()
        self.turned_away = False
        self._shut.clear()

    async def enter(self) -> None:
        """Wait for a slot and take it.

        Raises:
            KlingError: The gate was closed.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            while True:
                if self._closed is not None:
                    self.turned_away = True
                    raise self._closed
                wait = self.admission.wait(loop.time())
                if wait <= 0:
                    self.admission.take(loop.time())
                    self._let_in += 1
                    return
                await self._change(max(wait, _SHORTEST))

    async def _change(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._changed.wait()

    def close(self, error: KlingError) -> KlingError:
        """Let no more submits start, and return why: the first reason stands."""
        if self._closed is None:
            self._closed = error
            logger.warning("no more submits: %s", error)
        self._changed.set()
        self._shut.set()
        return self._closed

    def amend(self, error: KlingError | None) -> None:
        """Replace the reason why it is closed by one that tells more; None where it turned nobody away after all."""
        self._closed = error

    async def shut(self) -> None:
        """Wait until the gate is closed."""
        await self._shut.wait()

    def adopt(self) -> None:
        """Take a slot for what is open already."""
        self.admission.adopt()

    def leave(self) -> None:
        """Give a slot back."""
        self.admission.release()
        self._changed.set()

    def landed(self) -> None:
        """Note that a POST is no longer in the air."""
        self.admission.landed()
        self._changed.set()

    def accepted(self) -> None:
        """Note an accepted submit."""
        self.admission.accepted()
        self._understood()
        self.heard()

    def refused(self) -> None:
        """Note a submit that was refused for what it asks for: the service answers, and takes the key."""
        self._understood()
        self.heard()

    def _understood(self) -> None:
        """Forget what was counted of a refused key and of a full account."""
        self._key_waves, self._key_wave = 0, None
        self._full_since, self._full_told = None, False

    def key_refused(self, error: KlingError) -> bool:
        """Note a POST that was refused for the key: all wait. Return whether that is so again and again.

        POSTs that were out together are one wave: after the first refusal no other leaves before all of them have
        landed. Only a submit that is taken, or refused for what it asks for, ends the row of waves: a key that may ask
        and may not submit gets usable answers to its polls.
        """
        if self._key_wave != self._let_in:
            self._key_wave = self._let_in
            self._key_waves += 1
        self.troubled(error)
        return self._key_waves >= _KEY_WAVES

    def queued(self, long: int, unbegun: int) -> None:
        """Note how many generations the service has been keeping in its queue for long, and may not have begun."""
        self.admission.queued, self.admission.unbegun = long, unbegun
        self._changed.set()

    def uncertain(self, name: str) -> None:
        """Note that a row is uncertain: too many of them stop all submits until the usage log was read."""
        self.admission.uncertain(name)

    def certain(self, name: str) -> None:
        """Note that it is so no longer."""
        self.admission.certain(name)
        self._changed.set()

    def log_read(self) -> None:
        """Note that the usage log was read."""
        self.admission.log_read()
        self._changed.set()

    def troubled(self, error: KlingError) -> None:
        """Note the service's trouble with a submit: all wait."""
        now, draw = asyncio.get_running_loop().time(), self._dice.random()
        pause = named_pause(error, cap=self._cap)
        if isinstance(error, RateLimited):
            self.admission.refused(now, pause=pause, jobs=error.too_many_jobs, draw=draw)
            self._crammed(now, error)
            self.heard()
        else:
            self.admission.troubled(now, pause=pause, draw=draw)
            self.missed(error)
        self._changed.set()

    def _crammed(self, now: float, error: RateLimited) -> None:
        """Note a 429: an answer. Where nothing of ours is open for a minute of them, tell that others fill the account.

        Whoever fills it leaves it some day: it is waited for, however long that takes.
        """
        if self.admission.open > 1:  # more than the one that was refused
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= _OUTAGE and not self._full_told:
            self._full_told = True
            logger.warning(
                "the account is full for 1 minute, and nothing of this run is open: it waits; last: %s", error
            )

    def crowded(self) -> None:
        """Note a generation that failed since there were too many at once; its slot is still taken."""
        self.admission.crowded(asyncio.get_running_loop().time(), draw=self._dice.random())
        self._changed.set()

    def heard(self) -> None:
        """Note a usable answer of the service, to whatever call."""
        self._silent_since = self._trouble = None
        self._changed.set()

    def missed(self, error: KlingError) -> None:
        """Note that the service gave no usable answer."""
        if self._silent_since is None:
            # From the first trouble on: before it, nobody may have asked for anything.
            self._silent_since = asyncio.get_running_loop().time()
        self._trouble = error

    def silence(self) -> tuple[float, KlingError] | None:
        """Return for how many seconds there was no usable answer, and the last trouble; None where there is none."""
        if self._trouble is None or self._silent_since is None:
            return None
        return asyncio.get_running_loop().time() - self._silent_since, self._trouble

    def outage(self, limit: float) -> ServiceUnavailable | None:
        """Return why to give up, where there was no usable answer for `limit` seconds; None where there was one."""
        silence = self.silence()
        if silence is None or silence[0] < limit:
            return None
        minutes = silence[0] / 60
        return ServiceUnavailable(f"no usable answer from the service for {minutes:.0f} minutes, last: {silence[1]}")

    def tell_outage(self) -> None:
        """Tell that there is no usable answer for a minute, and when there is one again; each once."""
        silence, now = self.silence(), asyncio.get_running_loop().time()
        if self._outage_since is None:
            if silence is not None and silence[0] >= _OUTAGE:
                self._outage_since = self._silent_since
                logger.warning("no usable answer from the service for 1 minute: all submits wait; last: %s", silence[1])
        elif self._outage_since != self._silent_since:
            logger.warning("the service answers again, after %.0f minutes", (now - self._outage_since) / 60)
            self._outage_since = None
