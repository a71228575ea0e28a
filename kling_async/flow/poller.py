"""A few workers over one agenda watch every open generation; never a task for each.

Who is asked when is `kling_async.rules.agenda`. What is neither finished nor failed is asked again, whatever it says:
no answer, no error and no number of either ends a paid generation.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from attrs import define, field

from kling_async.errors import (
    AuthenticationFailed,
    GenerationFailed,
    GenerationOverdue,
    KlingError,
    NotFound,
    RateLimited,
)
from kling_async.flow.background import Background, Job
from kling_async.flow.key_check import KeyCheck
from kling_async.flow.service import Service
from kling_async.rules.agenda import Pace, PollAgenda
from kling_async.rules.envelopes import is_too_many_jobs
from kling_async.rules.retry import backoff, named_pause
from kling_async.types.generation import Generation, GenerationStatus
from kling_async.types.settings import AdmissionSettings, PollSettings

logger = logging.getLogger(__name__)

_REFUSED_KEY = 3
"""Polls refused for the key, in a row, after which the balance is asked for: is it refused there too, those who wait
are told."""
_FREE_TROUBLES = 3
"""Failed polls in a row that slow nobody down: one bad answer says nothing of the service."""
_EARLY = 0.001
"""Seconds by which a poll may leave early: a timer may fire a little before its time, and must not spin until then."""
_NO_LINK_LIMIT = 10
"""Answers of "completed" without a link after which it is no use to ask on."""


@define
class _Watch:
    """Those who wait for one generation."""

    future: asyncio.Future[Generation]
    grace_until: float
    waiting: int = 0
    warned: set[str] = field(factory=set)
    without_link: int = 0


class Poller:
    """Watches generations until they end.

    Args:
        service: The service.
        background: Where the workers live.
        settings: Intervals and workers.
        pauses: How long to pause under the service's trouble.
        dice: For the jitter.
        heard: Is told of each poll: None for a usable answer, else the error.
    """

    def __init__(
        self,
        service: Service,
        background: Background,
        settings: PollSettings,
        *,
        pauses: AdmissionSettings,
        dice: random.Random,
        heard: Callable[[KlingError | None], None] = lambda _error: None,
    ) -> None:
        self.key_check = KeyCheck(service, background)
        """Tells whether the key is refused."""
        self._service = service
        self._background = background
        self._settings = settings
        self._pauses = pauses
        self._dice = dice
        self._heard = heard
        self._agenda = PollAgenda(_pace(settings))
        self._watches: dict[str, _Watch] = {}
        self._idle: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: list[Job[None]] = []
        self._troubles = 0
        self._refused_key = 0

    async def watch(self, generation_id: str, *, age: float = 0.0, timeout: float) -> Generation:
        """Wait until a generation is finished, and return it with its video.

        Args:
            generation_id: The service's id.
            age: Seconds since it was accepted.
            timeout: Seconds to wait at the most.

        Raises:
            GenerationFailed: The service could not make it.
            GenerationOverdue: It is not finished after `timeout`.
            NotFound: The service does not know it, after the grace time for that.
            AuthenticationFailed: The key is refused again and again, and by the balance call, too.
        """
        await self._start()
        now = asyncio.get_running_loop().time()
        watch = self._watches.get(generation_id)
        if watch is None:
            future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
            watch = self._watches[generation_id] = _Watch(future, now + self._settings.not_found_grace - age)
            self._agenda.add(generation_id, now, age=age, draw=self._dice.random())
            self._arm()
        watch.waiting += 1
        try:
            async with asyncio.timeout(timeout):
                return await self._background.until(watch.future)
        except TimeoutError:
            raise GenerationOverdue(
                f"generation {generation_id} is not finished after {age + timeout:.0f} s: resume it by its id later; "
                "it is paid for, do not buy it again",
                generation_id=generation_id,
            ) from None
        finally:
            watch.waiting -= 1
            if not watch.waiting and self._watches.get(generation_id) is watch:
                self._forget(generation_id)

    def _forget(self, generation_id: str) -> None:
        self._agenda.remove(generation_id)
        del self._watches[generation_id]

    async def _start(self) -> None:
        await self._background.ready()
        # Nothing waits from here on: of many who come at once, the first one starts the workers for all.
        self._jobs = [job for job in self._jobs if not job.result.done()]
        while len(self._jobs) < self._settings.poll_workers:
            self._jobs.append(await self._background.start(self._work))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                taken = self._agenda.take(loop.time() + _EARLY)
                if taken is None:
                    await self._rest()
                    continue
                self._arm()
                await self._ask(taken.generation_id)
        except Exception as error:
            # A fault of our own: whoever waits is told of it, not of a time-out hours later.
            for watch in self._watches.values():
                _fail(watch, error)
            raise
        finally:
            for watch in self._watches.values():
                watch.future.cancel()

    async def _rest(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        self._arm()
        try:
            await waiting
        finally:
            if waiting in self._idle:
                self._idle.remove(waiting)

    def _arm(self) -> None:
        """Set the one timer to when the next poll is due, if anybody is free to make it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._agenda.next_due()
        if due is not None and self._idle:
            self._timer = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.done():
                waiting.set_result(None)
                return

    async def _ask(self, generation_id: str) -> None:
        try:
            generation = await self._service.retrieve(generation_id)
        except KlingError as error:
            await self._missed(generation_id, error)
        else:
            self._troubles = self._refused_key = 0
            self._heard(None)
            self._answered(generation_id, generation)
        finally:
            # Also where the poll broke off: what is out for ever is never asked again.
            self._agenda.answered(generation_id, asyncio.get_running_loop().time(), draw=self._dice.random())
            self._arm()

    def _answered(self, generation_id: str, generation: Generation) -> None:
        watch = self._watches.get(generation_id)
        if watch is None:
            return
        if generation.status is GenerationStatus.COMPLETED:
            self._end(generation_id, generation)
        elif generation.status is GenerationStatus.FAILED:
            reason = generation.failure or "the service gave no reason"
            self._end(
                generation_id,
                GenerationFailed(
                    f"generation {generation_id} failed: {reason}",
                    too_many_jobs=is_too_many_jobs(reason),
                    generation_id=generation_id,
                    request_id=generation.request_id,
                ),
            )
        elif generation.status is GenerationStatus.UNKNOWN:
            self._puzzled(generation_id, watch, generation.raw_status)

    def _puzzled(self, generation_id: str, watch: _Watch, word: str) -> None:
        """Ask again under an unknown status, with one warning; give up where it is finished but has no link."""
        if word.lower() in {"completed", "succeeded"}:
            watch.without_link += 1
            if watch.without_link >= _NO_LINK_LIMIT:
                message = f"generation {generation_id} is {word}, but the service gives no link to it"
                self._end(generation_id, GenerationOverdue(message, generation_id=generation_id))
            return
        if word not in watch.warned:
            watch.warned.add(word)
            logger.warning("generation %s: status %r is not known; asking again", generation_id, word)

    async def _missed(self, generation_id: str, error: KlingError) -> None:
        """Take note of a failed poll. It never ends a generation by itself."""
        if isinstance(error, NotFound):
            self._heard(None)
            watch = self._watches.get(generation_id)
            if watch is not None and asyncio.get_running_loop().time() >= watch.grace_until:
                self._end(generation_id, error)
            return
        if isinstance(error, AuthenticationFailed):
            await self._doubt_key(error)
        self._troubles += 1
        self._heard(None if isinstance(error, RateLimited) else error)
        logger.debug("poll of %s failed: %s", generation_id, error)
        self._slow_down(error)

    def _slow_down(self, error: KlingError) -> None:
        """Pause all polls together: for as long as an answer asks, or longer and longer while the trouble lasts."""
        now = asyncio.get_running_loop().time()
        if self._troubles > _FREE_TROUBLES or isinstance(error, RateLimited):
            own = backoff(
                max(1, self._troubles - _FREE_TROUBLES),
                self._dice.random(),
                first=self._pauses.backoff_first,
                cap=self._pauses.backoff_cap,
            )
            asked = named_pause(error, cap=self._pauses.retry_after_cap)
            self._agenda.pause(now + (own if asked is None else asked))

    async def _doubt_key(self, error: AuthenticationFailed) -> None:
        """Tell a refused key from a passing whim; those who wait hear of the former alone."""
        self._refused_key += 1
        if self._refused_key < _REFUSED_KEY:
            return
        if not await self.key_check.is_refused():
            self._refused_key = 0
            return
        for generation_id in list(self._watches):
            told = AuthenticationFailed(
                error.message, status=error.status, generation_id=generation_id, request_id=error.request_id
            )
            self._end(generation_id, told)

    def _end(self, generation_id: str, result: Generation | KlingError) -> None:
        watch = self._watches.get(generation_id)
        if watch is None or watch.future.done():
            return
        self._forget(generation_id)
        if isinstance(result, Generation):
            watch.future.set_result(result)
        else:
            _fail(watch, result)


def _fail(watch: _Watch, error: Exception) -> None:
    if not watch.future.done():
        watch.future.set_exception(error)
        watch.future.exception()  # those who wait read it again; nobody may be waiting any more


def _pace(settings: PollSettings) -> Pace:
    """Read the lag: seconds, or a share such as `2%`."""
    low, high, lag = settings.poll_interval_min, settings.poll_interval_max, settings.poll_lag
    if isinstance(lag, str):
        return Pace(low, high, share=float(lag.rstrip("%")) / 100)
    return Pace(low, high, lag)
