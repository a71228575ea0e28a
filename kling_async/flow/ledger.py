"""The rows of a client that keeps a journal: whose turn it is at one, whom a generation is for, and how it ends.

One caller at a time is at a row, and a POST that its caller left behind is waited for: what is read of a row here is
what stands in the journal. This room must never buy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from weakref import WeakValueDictionary

from kling_async.errors import ConfigurationError, GenerationFailed, JournalError, KlingError
from kling_async.flow.crew import Scribe, Start
from kling_async.flow.enrolment import planned_record
from kling_async.flow.purse import Purse
from kling_async.logs import get_logger
from kling_async.ports import Clock, Images, Journal
from kling_async.rules.lifecycle import Step, next_step
from kling_async.rules.troubles import trouble_of
from kling_async.types.generation import Generation, GenerationStatus
from kling_async.types.outcome import VideoFile, usd
from kling_async.types.record import (
    Accepted,
    Event,
    Failed,
    Lost,
    Record,
    Rendered,
    Shared,
    Stage,
    Stored,
    Unbought,
)
from kling_async.types.request import ImageToVideo

logger = get_logger(__name__)

_PAGE: Final = 256
"""Rows that are read from the journal at once."""


class Ledger:
    """The rows, and what is known of those on their way.

    Args:
        journal: The truth.
        purse: Knows prices and the budget.
        images: Keeps bytes beside the journal.
        clock: The wall's clock.
    """

    def __init__(self, journal: Journal, purse: Purse, images: Images, clock: Clock) -> None:
        self.journal = journal
        self.purse = purse
        self.scribe = Scribe(journal, clock, ())
        self._images = images
        self._start: Start | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._out: dict[str, asyncio.Event] = {}
        self._owners: dict[str, str] = {}
        self._sharers: dict[str, dict[str, str]] = {}

    @property
    def start(self) -> Start:
        """What is known of the journal since it was opened.

        Raises:
            ConfigurationError: It is not open.
        """
        if self._start is None:
            raise ConfigurationError("the client is not open: use it as `async with open_client(…) as client`")
        return self._start

    async def open(self, start: Start) -> None:
        """Begin with a journal that was opened.

        Args:
            start: Its own id, and the digest of today's key.

        Raises:
            ConfigurationError: There is a budget, and nobody tells the price.
            JournalError: It cannot be read or written.
        """
        async for record in self._unfinished():
            if record.generation_id is not None:
                self._owners[record.generation_id] = record.key
        if self.purse.ceiling is not None:
            await self.purse.open()
        self._start = start

    def close(self) -> None:
        """Let nothing more be bought."""
        self._start = None

    async def _unfinished(self) -> AsyncIterator[Record]:
        after = 0
        while page := await self.journal.unfinished(after=after, limit=_PAGE):
            after = page[-1][0]
            for _, record in page:
                yield record

    async def plan(self, request: ImageToVideo) -> Record:
        """Return the PLANNED record of a request; nothing is written.

        Raises:
            ConfigurationError: The client is not open.
            JournalError: The request's bytes cannot be kept.
        """
        _ = self.start
        return await planned_record(request, self._images)

    async def exact(self, record: Record) -> Record:
        """Take a row in, and return it as it stands after all that was written before, also by callers who left.

        Raises:
            RequestChanged: It was edited after money stood behind it.
            JournalError: It cannot be written.
        """
        (known,) = await self.journal.enrol([record])
        if isinstance(known, KlingError):
            raise known
        return known

    # ------------------------------------------------------------------------- turns

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for a row's turn: nobody else is at it, and none of its POSTs is out."""
        lock = asyncio.Lock()
        lock = self._locks.setdefault(key, lock)
        async with lock:
            while key in self._out:
                await self._out[key].wait()
            yield

    @contextmanager
    def posting(self, key: str) -> Iterator[None]:
        """Note that a POST of a row is out: its turn is not over before that is, whether its caller waits or not."""
        ended = self._out[key] = asyncio.Event()
        try:
            yield
        finally:
            del self._out[key]
            ended.set()

    def _is_taken(self, key: str) -> bool:
        lock = self._locks.get(key)
        return key in self._out or (lock is not None and lock.locked())

    # ------------------------------------------------------------------------ its way

    async def accepted(self, record: Record, generation_id: str, credits_: int | None) -> None:
        """Write a generation's id, before anything else.

        Raises:
            JournalError: It could not be written; the error and the log tell the id.
        """
        self._hear_price(record, credits_)
        try:
            await self.scribe.move(self.purse.held(record), Accepted(generation_id, credits_))
        except JournalError as error:
            logger.error("%s: generation %s is bought and could not be written down", record.key, generation_id)  # noqa: TRY400  # the error goes on
            error.generation_id = generation_id
            raise
        self._owners[generation_id] = record.key
        await self.purse.write()

    def _hear_price(self, record: Record, credits_: int | None) -> None:
        """Take note of what a video really costs: from now on no less is held for one."""
        if self.purse.told(record, credits_):
            request, cost = record.request, f"{usd(credits_ or 0):.2f} USD"
            logger.warning("a video of %d s by %s costs %s, more than was known", request.duration, request.model, cost)

    def share(self, generation_id: str, record: Record, content: str) -> None:
        """Note that a generation is for another row of equal content, too."""
        self._sharers.setdefault(generation_id, {})[record.key] = content

    async def found(self, name: str, generation_id: str | None) -> None:
        """Take over what the usage log told of a lost submit, unless somebody is at its row.

        Args:
            name: The id that it carried.
            generation_id: What it bought; None for nothing.
        """
        async for record in self._unfinished():
            if record.client_request_id != name or self._is_taken(record.key):
                continue
            async with self.turn(record.key):
                known = await self.exact(record)
                if known.client_request_id != name or next_step(known) is not Step.FIND:
                    return
                if generation_id is None:
                    await self.scribe.move(known, Lost(), Unbought())
                else:
                    await self.accepted(known, generation_id, None)
            return

    async def ended(self, generation: Generation) -> None:
        """Write a generation's end, if this is one."""
        if generation.status is GenerationStatus.COMPLETED:
            await self.moved(generation.id, Rendered(generation.usage.credits))
        elif generation.status is GenerationStatus.FAILED:
            await self.failed(GenerationFailed(generation.failure or "", generation_id=generation.id))

    async def failed(self, error: GenerationFailed) -> None:
        """Write that a generation failed; it is free."""
        generation_id = error.generation_id or ""
        await self.moved(generation_id, Failed(trouble_of(error)))
        self._forget(generation_id)

    async def moved(self, generation_id: str, event: Event) -> None:
        """Write what happened to the row that a generation was bought for; nothing, where none is on its way."""
        key = self._owners.get(generation_id)
        if key is None:
            return
        async with self.turn(key):
            record = await self.journal.get(key)
            if record is None or record.generation_id != generation_id:
                return
            if isinstance(event, Rendered):
                self._hear_price(record, event.credits)
            await self.purse.write()  # what is held for others first: the row itself may wait for company
            await self.scribe.move(record, event)

    async def stored(self, file: VideoFile) -> None:
        """Write that a generation's video stands under its name: the rows that it is for are DONE."""
        generation_id = file.generation_id or ""
        await self.moved(generation_id, Stored())
        for key, content in self._sharers.get(generation_id, {}).items():
            async with self.turn(key):
                record = await self.journal.get(key)
                if record is not None and record.stage is Stage.PLANNED:
                    shared = Shared(generation_id, content, file.size, file.sha256, file.seconds)
                    await self.scribe.move(record, shared)
        self._forget(generation_id)

    def _forget(self, generation_id: str) -> None:
        self._owners.pop(generation_id, None)
        self._sharers.pop(generation_id, None)
