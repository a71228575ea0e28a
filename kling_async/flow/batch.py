"""The bulk job: walks each record from its stage to the end. Resume is not a mode: a known key keeps its stage.

Requests come in as slots free up, outcomes leave as they finish, and back-pressure holds in both directions: what is in
memory is what is in flight. The rows live in the background task, so that a batch may be entered and left anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from kling_async.errors import ConfigurationError, KlingError
from kling_async.flow.buyer import Buyer
from kling_async.flow.crew import Crew, Instruction, Scribe, Start
from kling_async.flow.enrolment import Enrolment
from kling_async.flow.latecomers import Latecomers
from kling_async.flow.remaining import STARTS, Enrolled, Remaining, Source, feed_enrolled, feed_remaining, foresee
from kling_async.flow.retries import Choice, Retry, choose, feed, pages, take_up
from kling_async.flow.rows import Rows
from kling_async.flow.secretary import Secretary
from kling_async.flow.streams import Outcomes, Requests, chunks
from kling_async.flow.verifier import Told, Verifier, ends
from kling_async.flow.walker import Walker
from kling_async.logs import get_logger
from kling_async.ports import Observer
from kling_async.types.outcome import BatchReport, Outcome, Tally, VerifyReport, usd
from kling_async.types.record import Record, Stage
from kling_async.types.request import ImageToVideo
from kling_async.types.statistics import Statistics

logger = get_logger(__name__)

_CLOSING: Final = 30.0
"""Seconds that the results may take to be written at the end; a disk that hangs must not keep a cancelled run."""


class Batch:
    """A durable, resumable job in a folder. Make it with `open_batch`.

    Args:
        out: The folder.
        crew: Those who do a row's steps.
        secretary: Keeps metadata and failures.
        prepare: Opens the doors, and says what the walkers must know.
        close: Closes the doors.
        observers: Are told of every saved change.
        offline: Whether nothing may be asked of the service.
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
        offline: bool = False,
    ) -> None:
        self.out = out
        """The folder."""
        self._crew = crew
        self._secretary = secretary
        self._prepare, self._close = prepare, close
        self._observers = observers
        self._offline = offline
        self._buyer: Buyer | None = None
        self._streaming = False
        self._began, self._fresh, self._calls_before = 0.0, 0, (0, 0)

    async def __aenter__(self) -> Self:
        try:
            start = await self._prepare()
        except BaseException:
            await self._close()
            raise
        scribe = Scribe(self._crew.journal, self._crew.clock, self._observers)
        self._buyer = Buyer(self._crew, scribe, journal_id=start.journal_id, key_digest=start.key_digest)
        self._scribe = scribe
        self.enrolment = Enrolment(self._crew.journal, self._crew.service.images)  # takes rows in, once it is open
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

    def statistics(self) -> Statistics:
        """Return the figures of the admission, the poller and the downloader at this moment."""
        return self._crew.experience.figures()

    async def balance(self) -> float | None:
        """Return the account's balance in USD; None where the service does not tell it."""
        try:
            return await self._crew.service.balance()
        except KlingError as error:
            logger.info("the balance is not known: %s", error)
            return None

    async def unfinished(self) -> AsyncIterator[Record]:
        """Yield the rows that money stands behind and that are not DONE."""
        async for record in pages(self._crew.journal.unfinished):
            yield record

    async def done(self) -> AsyncIterator[Record]:
        """Yield the rows that are done."""
        async for record in ends(self._crew.journal):
            yield record

    async def choose(self, retry: Retry) -> Choice:
        """Tell what trying rows again would do; nothing is done yet.

        Raises:
            ConfigurationError: A key is not in the journal.
        """
        resubmit = self._crew.settings.uncertain.on_uncertain == "resubmit"
        return await choose(self._crew.journal, retry, resubmit=resubmit)

    async def foresee(self) -> Choice:
        """Tell what running the `Remaining` rows would do; nothing is done yet."""
        return await foresee(self._crew.journal, resubmit=self._crew.settings.uncertain.on_uncertain == "resubmit")

    async def price(self, model: str, duration: int) -> float | None:
        """Return what one video of a model costs in USD; None where nobody told."""
        await self._crew.purse.learn(model)
        credits_ = self._crew.purse.hold(model, duration)
        return None if credits_ is None else usd(credits_)

    async def enrol(self, requests: Sequence[ImageToVideo]) -> list[Record | KlingError]:
        """Take rows into the journal without starting them, and return each as the journal knows it.

        An edited row that money stands behind is a `RequestChanged` in the answer; nothing is bought for it.
        """
        return await self.enrolment.enter(requests)

    @asynccontextmanager
    async def stream(self, requests: Source, *, retry_failed: bool = False) -> AsyncIterator[AsyncIterator[Outcome]]:
        """Run requests, and give their outcomes as they finish; leaving the block stops cleanly.

        What the journal knows as bought is brought to its end first, and its outcomes come too.

        Args:
            requests: Any iterable or async iterable; it is read as slots free up. Or a `Retry`: the journal's own
                rows again, as it says; of those that money stands behind, the ones that it does not choose and that
                were set aside are left alone. Or `Remaining`: all of its rows that nothing was bought for. Or
                `Enrolled`: its rows under some keys, as they were taken in.
            retry_failed: Whether rows among the requests that failed in an earlier run are tried again.

        Raises:
            KlingError: After the last outcome, why no more was submitted (key, credit, budget); or at once, where the
                journal cannot be written, a key of a `Retry` is not in it, or the service gave no usable answer for too
                long.
        """
        if self._buyer is None:
            raise ConfigurationError("the batch is not open: use it as `async with open_batch(…) as batch`")
        if self._offline:
            raise ConfigurationError("the batch was opened offline: it can be verified, and not run")
        await self._crew.background.ready()
        if self._streaming:
            raise ConfigurationError("the batch runs already: one stream at a time")
        service = self._crew.service
        self._began, self._fresh = asyncio.get_running_loop().time(), 0
        self._calls_before = service.submits, service.polls
        send, receive = anyio.create_memory_object_stream[Outcome](0)
        # Nothing waits from here on: a stream cancelled at its start locks nobody out.
        self._streaming, self._buyer.stopping = True, False
        job = await self._crew.background.start(partial(self._serve, requests, send, retry_failed=retry_failed))
        try:
            yield Outcomes(receive, partial(self._crew.background.result, job))
        finally:
            self._buyer.stopping = True
            try:
                with send, receive:
                    if not job.result.done():
                        await job.stop()
            finally:
                self._streaming = False

    async def run(self, requests: Source, *, retry_failed: bool = False) -> BatchReport:
        """Run requests to the end.

        Returns:
            The report. Where submitting stopped early (key, credit, budget, service), `stopped` says why.

        Raises:
            KlingError: The journal cannot be written.
        """
        try:
            async with self.stream(requests, retry_failed=retry_failed) as outcomes:
                async for outcome in outcomes:
                    self._fresh += outcome.ok and not outcome.resumed
        except KlingError as error:
            if error is not self._crew.gate.closed:
                raise
        return await self.report()

    async def verify(self, *, deep: bool = False, fetch: bool = True, told: Told = lambda _: None) -> VerifyReport:
        """Hold the file of each row that is done against the journal; what is missing or damaged is fetched again.

        Nothing is ever bought for it. Where the service gives other bytes by now, they are kept, and noted.

        Args:
            deep: Whether to decode every frame, too; needs the extra `video`.
            fetch: Whether to fetch; else it is only told. A batch that was opened offline never does.
            told: Is called with the finding of each row. It must not wait.

        Raises:
            ConfigurationError: The batch is not open, or runs already; or the extra is missing.
            JournalError: The journal cannot be read or written.
        """
        if self._buyer is None or self._streaming:
            raise ConfigurationError("a batch is verified inside its `async with`, and while it does not run")
        self._streaming = True
        try:
            verifier = Verifier(self._crew, self._scribe, self._secretary, deep=deep, told=told)
            keyless = "there is no key to ask for it with" if self._offline else ""
            work = partial(verifier.run, self.out, unasked=keyless if fetch else "it was not to be fetched")
            return await self._crew.background.shielded(work, grace=0.0)
        finally:
            self._streaming = False

    async def report(self) -> BatchReport:
        """Return how the run that goes on stands, or how the last one ended; also of one that was cancelled."""
        service, (submits, polls) = self._crew.service, self._calls_before
        tally = await self.tally()
        return BatchReport(
            tally,
            self.out,
            asyncio.get_running_loop().time() - self._began,
            submits=service.submits - submits,
            polls=service.polls - polls,
            fresh=self._fresh,
            stopped=self._crew.gate.closed,
            overshoot=self._crew.purse.overshoot(tally),
        )

    async def _serve(self, requests: Source, send: MemoryObjectSendStream[Outcome], *, retry_failed: bool) -> None:
        self._crew.gate.begin()
        self._crew.flight.clear()
        rows = Rows(self._crew, self._walker, Latecomers(self._crew, self._scribe), send)
        async with send, anyio.create_task_group() as around:
            await self._secretary.open()
            around.start_soon(self._crew.guard)
            around.start_soon(self._secretary.keep)
            try:
                async with anyio.create_task_group() as group:
                    await take_up(self._crew, rows, group, requests if isinstance(requests, Retry) else None)
                    if isinstance(requests, Retry):
                        fed = partial(feed, self._crew, rows, group, requests)
                    elif isinstance(requests, Remaining):
                        fed = partial(feed_remaining, self._crew, rows, group)
                    elif isinstance(requests, Enrolled):
                        fed = partial(feed_enrolled, self._crew, rows, group, requests, retry_failed=retry_failed)
                    else:
                        fed = partial(self._feed, group, rows, requests, retry_failed=retry_failed)
                    await rows.until_closed(fed)
                    rows.fed()
            finally:
                # However the run ends: the results say what the journal says.
                with anyio.move_on_after(_CLOSING, shield=True):
                    await self._secretary.close()
                    await self._crew.experience.close()
            around.cancel_scope.cancel()
        await self._crew.settle()
        if self._crew.gate.closed is not None:
            raise self._crew.gate.closed

    async def _feed(self, group: TaskGroup, rows: Rows, requests: Requests, *, retry_failed: bool) -> None:
        async for chunk in chunks(requests):
            await rows.room()
            fresh = await rows.not_in_flight(chunk)
            known = await self.enrol(fresh)
            for request, record in zip(fresh, known, strict=True):
                if not isinstance(record, Record):
                    await rows.refuse(request, record)
                    continue
                if record.key in rows.resumed or record.stage not in STARTS:
                    continue
                again = record.stage is Stage.FAILED and retry_failed
                await rows.admit(group, record, Instruction.RETRY if again else Instruction.GO_ON)
