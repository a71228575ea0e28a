"""The bulk job: walks each record from its stage to the end. Resume is not a mode: a known key keeps its stage.

Requests come in as slots free up, outcomes leave as they finish, and back-pressure holds in both directions: what is in
memory is what is in flight. The rows live in the background task, so that a batch may be entered and left anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeAlias

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import evolve, frozen

from kling_async.errors import ConfigurationError, KlingError, ServiceUnavailable
from kling_async.flow.background import Job
from kling_async.flow.buyer import Buyer
from kling_async.flow.crew import Crew, Scribe, Slot
from kling_async.flow.secretary import Secretary
from kling_async.flow.walker import Walker
from kling_async.ports import Observer
from kling_async.rules.identity import default_key, written_digest
from kling_async.rules.lifecycle import HOLDS_SLOT
from kling_async.rules.naming import file_stem
from kling_async.rules.troubles import error_of_record
from kling_async.types.outcome import BatchReport, Outcome, Tally, usd
from kling_async.types.record import Record, Retried, Stage
from kling_async.types.request import ImageToVideo

logger = logging.getLogger(__name__)

Requests: TypeAlias = Iterable[ImageToVideo] | AsyncIterable[ImageToVideo]
"""Where a batch's rows come from; read as slots free up."""

_CHUNK: Final = 32
"""Rows that are read from the source, and enrolled, at once."""
_PAGE: Final = 64
"""Rows that are read from the journal at once."""
_GUARD: Final = 5.0
"""Seconds between two looks whether the service has been silent for too long."""


@frozen
class Start:
    """What a batch must know of its journal before the first row."""

    journal_id: str
    """The journal's own id."""
    same_key: bool
    """Whether its rows were sent with today's key."""
    ceiling: int | None
    """The budget in credits."""


class Batch:
    """A durable, resumable job in a folder. Make it with `open_batch`.

    Args:
        out: The folder.
        crew: Those who do a row's steps.
        secretary: Keeps metadata and failures.
        prepare: Opens the doors, and says what the walkers must know.
        close: Closes the doors.
        observers: Are told of every saved change.
    """

    def __init__(
        self,
        out: Path,
        crew: Crew,
        secretary: Secretary,
        *,
        prepare: Callable[[], Awaitable[Start]],
        close: Callable[[], Awaitable[None]],
        observers: Sequence[Observer] = (),
    ) -> None:
        self._out = out
        self._crew = crew
        self._secretary = secretary
        self._prepare = prepare
        self._close = close
        self._observers = observers
        self._buyer: Buyer | None = None
        self._streaming = False

    async def __aenter__(self) -> Self:
        try:
            start = await self._prepare()
        except BaseException:
            await self._close()
            raise
        scribe = Scribe(self._crew.journal, self._crew.clock, self._observers)
        self._buyer = Buyer(
            self._crew, scribe, journal_id=start.journal_id, ceiling=start.ceiling, same_key=start.same_key
        )
        self._scribe = scribe
        self._walker = Walker(self._crew, scribe, self._buyer)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._buyer is not None:
            self._buyer.stopping = True
        try:
            await self._crew.background.aclose()
        finally:
            await self._close()

    async def tally(self) -> Tally:
        """Return the rows by stage, and their money."""
        return await self._crew.journal.tally()

    async def balance(self) -> float | None:
        """Return the account's balance in USD; None where the service does not tell it."""
        try:
            return await self._crew.service.balance()
        except KlingError as error:
            logger.info("the balance is not known: %s", error)
            return None

    def price(self, duration: int) -> float | None:
        """Return what one video costs in USD; None where nobody told."""
        credits_ = self._crew.prices.hold(duration)
        return None if credits_ is None else usd(credits_)

    async def enrol(self, requests: Sequence[ImageToVideo]) -> list[Record | Exception]:
        """Take rows into the journal without starting them, and return each as the journal knows it.

        An edited row that money stands behind is a `RequestChanged` in the answer; nothing is bought for it.
        """
        planned = [await self._planned(request) for request in requests]
        known = await self._crew.journal.enrol(planned)
        return [
            evolve(record, request=request) if isinstance(record, Record) else record
            for record, request in zip(known, requests, strict=True)
        ]

    async def _planned(self, request: ImageToVideo) -> Record:
        images = self._crew.service.images
        kept = evolve(
            request,
            image=await images.keep(request.image),
            tail_image=None if request.tail_image is None else await images.keep(request.tail_image),
            static_mask=None if request.static_mask is None else await images.keep(request.static_mask),
            dynamic_masks=tuple(
                [evolve(mask, mask=await images.keep(mask.mask)) for mask in request.dynamic_masks],
            ),
        )
        written = written_digest(kept)
        key = request.key if request.key is not None else default_key(written)
        return Record(key, f"{file_stem(key)}.mp4", kept, written)

    @asynccontextmanager
    async def stream(self, requests: Requests, *, retry_failed: bool = False) -> AsyncIterator[AsyncIterator[Outcome]]:
        """Run requests, and give their outcomes as they finish; leaving the block stops cleanly.

        What the journal knows as bought is brought to its end first, and its outcomes come too.

        Args:
            requests: Any iterable or async iterable; it is read as slots free up.
            retry_failed: Whether rows that failed in an earlier run are tried again.

        Raises:
            KlingError: After the last outcome, why no more was submitted (key, credit, budget); or at once, where the
                journal cannot be written or the service gave no usable answer for too long.
        """
        if self._buyer is None:
            raise ConfigurationError("the batch is not open: use it as `async with open_batch(…) as batch`")
        if self._streaming:
            raise ConfigurationError("the batch runs already: one stream at a time")
        self._streaming, self._buyer.stopping = True, False
        send, receive = anyio.create_memory_object_stream[Outcome](0)
        job = await self._crew.background.start(partial(self._serve, requests, send, retry_failed=retry_failed))
        try:
            yield _Outcomes(receive, partial(self._crew.background.result, job))
        finally:
            self._buyer.stopping = True
            await _stop(job)
            receive.close()
            self._streaming = False

    async def run(self, requests: Requests, *, retry_failed: bool = False) -> BatchReport:
        """Run requests to the end.

        Returns:
            The report. Where submitting stopped early (key, credit, budget, service), `stopped` says why.

        Raises:
            KlingError: The journal cannot be written.
        """
        loop, began, fresh = asyncio.get_running_loop(), asyncio.get_running_loop().time(), 0
        service, stopped = self._crew.service, None
        submits, polls = service.submits, service.polls
        try:
            async with self.stream(requests, retry_failed=retry_failed) as outcomes:
                async for outcome in outcomes:
                    fresh += outcome.ok and not outcome.resumed
        except KlingError as error:
            if error is not self._crew.gate.closed:
                raise
            stopped = error
        return BatchReport(
            await self.tally(),
            self._out,
            loop.time() - began,
            submits=service.submits - submits,
            polls=service.polls - polls,
            fresh=fresh,
            stopped=stopped,
        )

    async def _serve(self, requests: Requests, send: MemoryObjectSendStream[Outcome], *, retry_failed: bool) -> None:
        rows = _Rows(self._crew, self._walker, self._outcome, send)
        async with send, anyio.create_task_group() as around:
            await self._secretary.open()
            around.start_soon(self._guard)
            around.start_soon(self._secretary.keep)
            async with anyio.create_task_group() as group:
                with suppress(_Closed):
                    await self._resume(group, rows)
                    await self._feed(group, rows, requests, retry_failed=retry_failed)
            around.cancel_scope.cancel()
        await self._secretary.close()
        if self._crew.gate.closed is not None:
            raise self._crew.gate.closed

    async def _guard(self) -> None:
        """End the run when the service has given no usable answer for too long; every row stands where it stood."""
        limit = self._crew.settings.admission.unavailable_after
        while True:
            await asyncio.sleep(min(_GUARD, limit))
            silence = self._crew.gate.silence()
            if silence is not None and silence[0] >= limit:
                error = ServiceUnavailable(
                    f"no usable answer from the service for {silence[0] / 60:.0f} minutes, last: {silence[1]}"
                )
                self._crew.gate.close(error)
                raise error

    async def _resume(self, group: TaskGroup, rows: _Rows) -> None:
        """Take up what was bought before: money stands behind it, whatever the source brings."""
        after = 0
        while page := await self._crew.journal.unfinished(after=after, limit=_PAGE):
            for number, record in page:
                after = number
                rows.resumed.add(record.key)
                slot = Slot(self._crew.gate)
                if record.stage in HOLDS_SLOT and not record.set_aside:
                    slot.adopt()
                else:
                    await rows.room()
                rows.begin(group, record, slot)

    async def _feed(self, group: TaskGroup, rows: _Rows, requests: Requests, *, retry_failed: bool) -> None:
        async for chunk in _chunks(requests):
            await rows.room()
            known = await self.enrol(chunk)
            for request, record in zip(chunk, known, strict=True):
                if not isinstance(record, Record):
                    await rows.refuse(request, record)
                    continue
                if record.key in rows.resumed:
                    continue
                if record.stage is Stage.FAILED and retry_failed:
                    record = await self._scribe.move(record, Retried())  # noqa: PLW2901  # the same row, one step on
                await rows.admit(group, record)

    def _outcome(self, record: Record, *, resumed: bool = False) -> Outcome:
        done = record.stage is Stage.DONE
        return Outcome(
            record.key,
            record.stage,
            record.request,
            path=self._crew.store.path(record.name) if done else None,
            error=error_of_record(record),
            generation_id=record.generation_id,
            size=record.size if done else None,
            sha256=record.sha256 if done else None,
            seconds=record.seconds if done else None,
            credits=record.credits,
            resumed=resumed,
        )


class _Closed(Exception):  # noqa: N818  # a signal, not an error
    """No more rows start."""


class _Rows:
    """The rows in flight: one task for each, bounded by slots and by what may wait behind them."""

    def __init__(
        self,
        crew: Crew,
        walker: Walker,
        outcome: Callable[..., Outcome],
        send: MemoryObjectSendStream[Outcome],
    ) -> None:
        self._crew = crew
        self._walker = walker
        self._outcome = outcome
        self._send = send
        self._tasks = 0
        self._left = asyncio.Event()
        self._behind = 4 * crew.settings.downloads.downloads_at_once
        self.resumed: set[str] = set()

    async def room(self) -> None:
        """Wait while too many rows have left their slot and are not yet delivered."""
        while self._tasks - self._crew.gate.admission.open >= self._behind:
            self._left.clear()
            await self._left.wait()

    async def admit(self, group: TaskGroup, record: Record) -> None:
        """Start a row when there is a slot for it; one that has ended is an outcome at once."""
        if record.stage in {Stage.DONE, Stage.FAILED}:
            await self._send.send(self._outcome(record, resumed=True))
            return
        await self.room()
        slot = Slot(self._crew.gate)
        try:
            await slot.enter()
        except KlingError as error:
            if error is self._crew.gate.closed:
                raise _Closed from None
            raise
        self.begin(group, record, slot)

    def begin(self, group: TaskGroup, record: Record, slot: Slot) -> None:
        """Start a row's task."""
        self._tasks += 1
        group.start_soon(self._row, record, slot)

    async def refuse(self, request: ImageToVideo, error: Exception) -> None:
        """Tell that a row was not taken in."""
        if not isinstance(error, KlingError):
            raise error
        key = getattr(error, "key", request.key or "")
        await self._send.send(Outcome(key, Stage.PLANNED, request, error=error, generation_id=error.generation_id))

    async def _row(self, record: Record, slot: Slot) -> None:
        try:
            ended = await self._walker.walk(record, slot)
            slot.release()
            await self._send.send(self._outcome(ended))
        except KlingError as error:
            # The gate is closed and this row was not bought: it stays as it is, for the next run.
            if error is not self._crew.gate.closed:
                raise
        finally:
            slot.release()
            self._tasks -= 1
            self._left.set()


class _Outcomes:
    """The outcomes as they finish; at their end, the error that stopped the run."""

    def __init__(self, receive: MemoryObjectReceiveStream[Outcome], result: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._result = result

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            await self._result()
            raise StopAsyncIteration from None


async def _stop(job: Job[None]) -> None:
    if not job.result.done():
        await job.stop()


async def _chunks(requests: Requests) -> AsyncIterator[list[ImageToVideo]]:
    """Read a source: an async one row by row, since it may wait; another one a few rows at a time."""
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield [request]
        return
    rows = iter(requests)
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk
