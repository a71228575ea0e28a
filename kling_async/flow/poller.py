"""A few workers over one agenda watch every open generation; never a task for each.

Who is asked when is `kling_async.rules.agenda`. What is neither finished nor failed is asked again, whatever it says:
no answer, no error and no number of either ends a paid generation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from kling_async.errors import (
    AuthenticationFailed,
    GenerationFailed,
    GenerationOverdue,
    KlingError,
    NotFound,
    RateLimited,
)
from kling_async.flow.background import Background
from kling_async.flow.backlog import Backlog
from kling_async.flow.key_check import KeyCheck
from kling_async.flow.poll_workers import PollWorkers
from kling_async.flow.service import Service
from kling_async.flow.watch import Watch
from kling_async.logs import about, get_logger, row_key
from kling_async.rules.agenda import PollAgenda, pace_of
from kling_async.rules.envelopes import is_too_many_jobs
from kling_async.rules.retry import backoff, named_pause
from kling_async.rules.wire import FINISHED
from kling_async.types.generation import Generation, GenerationStatus
from kling_async.types.settings import AdmissionSettings, PollSettings
from kling_async.types.statistics import PollStatistics

logger = get_logger(__name__)

_REFUSED_KEY = 3
"""Polls refused for the key, in a row, after which the balance is asked for: is it refused there too, those who wait
are told."""
_FREE_TROUBLES = 3
"""Failed polls in a row that slow nobody down: one bad answer says nothing of the service."""
_QUEUED_LONG = 0.2
"""Share of the median time after which one that is queued still has been so for long."""
_NO_LINK_LIMIT = 10
"""Answers of "completed" without a link after which it is no use to ask on."""


class Poller:
    """Watches generations until they end.

    Args:
        service: The service.
        background: Where the workers live.
        settings: Intervals and workers.
        pauses: How long to pause under the service's trouble.
        dice: For the jitter.
        heard: Is told of each poll: None for a usable answer, else the error.
        queued: Is told of the generations that the service keeps in its queue (`Backlog`).
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
        queued: Callable[[int, int], None] = lambda _long, _unbegun: None,
    ) -> None:
        self.key_check = KeyCheck(service, background)
        """Tells whether the key is refused."""
        self._service = service
        self._background = background
        self._settings = settings
        self._pauses = pauses
        self._dice = dice
        self._heard = heard
        self._backlog = Backlog(queued)
        self._agenda = PollAgenda(pace_of(settings))
        self._watches: dict[str, Watch] = {}
        self._workers = PollWorkers(
            background, settings.poll_workers, agenda=lambda: self._agenda, ask=self._ask, died=self._died
        )
        self._troubles = self._refused_key = 0

    def take_over(self, learned: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on from what an earlier run learned of how long generations take; before anything is watched."""
        self._agenda = PollAgenda(pace_of(self._settings), learned)

    def learned(self) -> dict[str, dict[str, Any]]:
        """Return what was learned of how long generations take, as plain JSON values."""
        return self._agenda.learned()

    def statistics(self) -> PollStatistics:
        """Return the figures of the moment."""
        return self._agenda.statistics(asyncio.get_running_loop().time())

    async def watch(
        self, generation_id: str, *, kind: str = "", age: float = 0.0, ran: float = 0.0, timeout: float
    ) -> Generation:
        """Wait until a generation is finished, and return it with its video.

        Args:
            generation_id: The service's id.
            kind: What it is one of: generations of one kind take about as long.
            age: Seconds since it was sent.
            ran: The age at which it was surely not finished; one that is older is asked at once.
            timeout: Seconds to wait at the most.

        Raises:
            GenerationFailed: The service could not make it.
            GenerationOverdue: It is not finished after `timeout`.
            NotFound: The service does not know it, after the grace time for that.
            AuthenticationFailed: The key is refused again and again, and by the balance call, too.
        """
        await self._workers.start()
        now = asyncio.get_running_loop().time()
        watch = self._watches.get(generation_id)
        if watch is None:
            future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
            call, grace = self._service.poll_call(generation_id), self._settings.not_found_grace
            watch = self._watches[generation_id] = Watch(future, call, now - age, kind, now + grace - age, row_key())
            self._agenda.add(generation_id, now, kind=kind, age=age, ran=ran, draw=self._dice.random())
            self._workers.arm()
            self._backlog.note(generation_id, unbegun=True)
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
        self._backlog.note(generation_id)

    def _died(self, error: Exception | None) -> None:
        """Tell those who wait that nobody asks any more: a fault of our own, not a time-out hours later."""
        for watch in self._watches.values():
            if error is None:
                watch.future.cancel()
            else:
                watch.fail(error)

    async def _ask(self, generation_id: str) -> None:
        """Ask once, and take note of the answer. It never raises for the service's trouble."""
        running = ended = False
        watch = self._watches.get(generation_id)
        about(None if watch is None else watch.key, generation_id)
        try:
            generation = await self._service.retrieve(generation_id, call=None if watch is None else watch.call)
        except KlingError as error:
            await self._missed(generation_id, error)
        else:
            self._troubles = self._refused_key = 0
            self._heard(None)
            self._answered(generation_id, generation)
            running, ended = generation.status is GenerationStatus.RUNNING, generation.raw_status.lower() in FINISHED
        finally:
            # Also where the poll broke off: what is out for ever is never asked again.
            now = asyncio.get_running_loop().time()
            self._agenda.answered(generation_id, now, draw=self._dice.random(), running=running, ended=ended)
            self._workers.arm()

    def _answered(self, generation_id: str, generation: Generation) -> None:
        watch = self._watches.get(generation_id)
        if watch is None:
            return
        self._look(generation_id, watch, generation.raw_status)
        if generation.status is GenerationStatus.COMPLETED:
            self._finished(generation_id, generation)
        elif generation.status is GenerationStatus.FAILED:
            reason = generation.failure or ""
            self._finished(
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

    def _look(self, generation_id: str, watch: Watch, word: str) -> None:
        """Tell whether one is queued still, past the time in which a free slot of the service would have taken it up.

        Before that, each one that is queued may be one too many.
        """
        queued, median = word.lower() == "queued", self._agenda.median(watch.kind)
        long = median is not None and asyncio.get_running_loop().time() - watch.began > _QUEUED_LONG * median
        self._backlog.note(generation_id, long=queued and long, unbegun=queued)

    def _finished(self, generation_id: str, result: Generation | KlingError) -> None:
        """Tell those who wait that the service is through with it, and learn how long that took."""
        self._agenda.ended(generation_id, asyncio.get_running_loop().time())
        self._end(generation_id, result)

    def _puzzled(self, generation_id: str, watch: Watch, word: str) -> None:
        """Ask again under an unknown status, with one warning; give up where it is finished but has no link."""
        if word.lower() in FINISHED:
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
        # What was asked before the pause in force is answered by it: polls that were out together are one trouble.
        is_news = asyncio.get_running_loop().time() >= self._agenda.paused_until
        if isinstance(error, AuthenticationFailed):
            await self._doubt_key(error, is_news=is_news)
        self._troubles += is_news
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

    async def _doubt_key(self, error: AuthenticationFailed, *, is_news: bool) -> None:
        """Tell a refused key from a passing whim; those who wait hear of the former alone."""
        self._refused_key += is_news
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
            watch.fail(result)
