"""What the walkers of a batch share: the crew that does a row's steps, its slot, the scribe that saves each change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from attrs import field, frozen

from kling_async.errors import JournalError
from kling_async.flow.background import Background
from kling_async.flow.downloader import Downloader
from kling_async.flow.gate import Gate
from kling_async.flow.poller import Poller
from kling_async.flow.reconciler import Reconciler
from kling_async.flow.service import Service
from kling_async.ports import Clock, Journal, Observer, VideoStore
from kling_async.rules.budget import Prices
from kling_async.rules.lifecycle import advance
from kling_async.types.record import Event, Record
from kling_async.types.settings import Settings

logger = logging.getLogger(__name__)


class Slot:
    """A place among the open generations; given back once."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.taken = False

    async def enter(self) -> None:
        """Wait for a slot, if it has none."""
        if not self.taken:
            await self._gate.enter()
            self.taken = True

    def adopt(self) -> None:
        """Take one without waiting, for what is open already."""
        self._gate.adopt()
        self.taken = True

    def release(self) -> None:
        """Give it back, if it has one."""
        if self.taken:
            self.taken = False
            self._gate.leave()


class Flight:
    """The rows that are in flight, by their keys; some wait for another's end."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Event | None] = {}
        self._written: dict[str, str] = {}
        self.parked = 0
        """Rows that wait for another of equal content."""

    def __contains__(self, key: str) -> bool:
        return key in self._ends

    def clear(self) -> None:
        """Forget all, as a run begins."""
        self._ends.clear()
        self._written.clear()
        self.parked = 0

    def written(self) -> dict[str, str]:
        """Return the keys of all rows in flight, each with the digest of its row as written."""
        return dict(self._written)

    def begin(self, record: Record) -> None:
        """Note that a row is in flight."""
        self._ends[record.key] = None
        self._written[record.key] = record.written

    def end(self, key: str) -> None:
        """Note that it has ended, and let those who wait for it know."""
        self._written.pop(key, None)
        event = self._ends.pop(key, None)
        if event is not None:
            event.set()

    async def landed(self, key: str) -> None:
        """Wait until a row has ended; at once where it is not in flight."""
        if key not in self._ends:
            return
        event = self._ends[key] = self._ends[key] or asyncio.Event()
        self.parked += 1
        try:
            await event.wait()
        finally:
            self.parked -= 1


@frozen
class Crew:
    """Those who do a row's steps."""

    service: Service
    journal: Journal
    store: VideoStore
    gate: Gate
    poller: Poller
    downloader: Downloader
    reconciler: Reconciler
    background: Background
    clock: Clock
    prices: Prices
    settings: Settings
    flight: Flight = field(factory=Flight)


@frozen
class Start:
    """What a batch must know of its journal before the first row."""

    journal_id: str
    """The journal's own id."""
    key_digest: str
    """The digest of today's key."""
    ceiling: int | None
    """The budget in credits."""


class Scribe:
    """Moves records and saves them. What is saved is told to the observers; what is not, to nobody.

    Args:
        journal: Where they are saved.
        clock: The wall's clock.
        observers: Are told of every saved change.
    """

    def __init__(self, journal: Journal, clock: Clock, observers: Sequence[Observer]) -> None:
        self._journal = journal
        self._clock = clock
        self._observers = observers

    async def move(self, record: Record, *events: Event) -> Record:
        """Advance a record and save it.

        Raises:
            JournalError: It could not be saved; `generation_id` is set where its id belongs to another row.
        """
        after = record
        for event in events:
            after = advance(after, event)
        if after is not record:
            await self._journal.save(after)
            self.tell(record, after)
        return after

    def tell(self, before: Record, after: Record) -> None:
        """Tell the observers of a change that was saved."""
        logger.debug("%s: %s -> %s", after.key, before.stage, after.stage)
        for observer in self._observers:
            try:
                observer.changed(before, after)
            except Exception:
                # Somebody who only looks on must not stand between an intent and its POST.
                logger.exception("an observer failed")

    def age(self, record: Record) -> float:
        """Return the seconds since a record's last POST; 0 where there was none."""
        return max(0.0, self._clock.wall() - record.sent_at) if record.sent_at is not None else 0.0


def generation_id_of(record: Record) -> str:
    """Return the id of a row that must have one.

    Raises:
        JournalError: It has none.
    """
    if record.generation_id is None:
        raise JournalError(f"row {record.key!r} is {record.stage} without a generation id: the journal is damaged")
    return record.generation_id
