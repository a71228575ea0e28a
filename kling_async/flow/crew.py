"""What the walkers of a batch share: the crew that does a row's steps, its slot, the scribe that saves each change."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from kling_async.errors import BudgetExceeded, JournalError
from kling_async.flow.background import Background
from kling_async.flow.downloader import Downloader
from kling_async.flow.gate import Gate
from kling_async.flow.poller import Poller
from kling_async.flow.purse import Purse
from kling_async.flow.reconciler import Reconciler
from kling_async.flow.service import Service
from kling_async.ports import Clock, Journal, Observer, VideoStore
from kling_async.rules.lifecycle import advance
from kling_async.types.outcome import usd
from kling_async.types.record import Event, Record, Trouble
from kling_async.types.settings import Settings

logger = logging.getLogger(__name__)

_FAILED_AT_MOST: Final = 10_000
"""Contents that failed in a run and are kept in mind: memory is bounded, whatever the length of the job."""


class Word(enum.Enum):
    """What the owner of a row says of it as a run takes it up."""

    NONE = "none"
    """Nothing: it goes on from where it stands; was it set aside, it is asked for once."""
    RETRY = "retry"
    """Try it again: a failed row from the start, one set aside from where it stands. Money behind it is never spent
    again."""
    BUY_AGAIN = "buy again"
    """Buy it anew, at the risk of paying twice, where it was set aside and the service still has no video of it."""


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


class Bench(Slot):
    """Where a row that was set aside is watched, or looked for, once more: it takes no slot of those that are made."""

    def __init__(self, gate: Gate, flight: Flight) -> None:
        super().__init__(gate)
        self._flight = flight
        self._sits = True
        flight.parked += 1

    def release(self) -> None:
        """Get up, and give a slot back that was taken meanwhile."""
        if self._sits:
            self._sits = False
            self._flight.parked -= 1
        super().release()


class Flight:
    """The rows that are in flight, by their keys; some wait for another's end."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Event | None] = {}
        self._written: dict[str, str] = {}
        self.parked = 0
        """Rows that wait without a slot: for another of equal content, or on a bench."""

        self._failed: dict[str, Trouble] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._ends

    def clear(self) -> None:
        """Forget all, as a run begins."""
        self._ends.clear()
        self._written.clear()
        self._failed.clear()
        self.parked = 0

    def written(self) -> dict[str, str]:
        """Return the keys of all rows in flight, each with the digest of its row as written."""
        return dict(self._written)

    def begin(self, record: Record) -> None:
        """Note that a row is in flight."""
        self._ends[record.key] = None
        self._written[record.key] = record.written

    def failed(self, record: Record) -> None:
        """Note that a row's content failed for what it is; of many, the last ones are kept in mind."""
        if record.content is not None and record.trouble is not None:
            self._failed[record.content] = record.trouble
            if len(self._failed) > _FAILED_AT_MOST:
                del self._failed[next(iter(self._failed))]

    def failed_alike(self, content: str) -> Trouble | None:
        """Return why a content failed in this run; None where it did not."""
        return self._failed.get(content)

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
    purse: Purse
    settings: Settings
    flight: Flight = field(factory=Flight)

    async def settle(self) -> None:
        """Say at the end of a run what the budget had to do with it: by how much it was passed, and whether it stopped.

        A price that rose as the last row was bought has stopped nothing.
        """
        closed = self.gate.closed
        if not isinstance(closed, BudgetExceeded):
            return
        beyond = self.purse.overshoot(await self.journal.tally())
        if not self.gate.turned_away:
            self.gate.amend(None)
        elif beyond:
            self.gate.amend(BudgetExceeded(f"{closed}; {usd(beyond):.2f} USD more than the budget are spent or held"))


@frozen
class Start:
    """What a batch must know of its journal before the first row."""

    journal_id: str
    """The journal's own id."""
    key_digest: str
    """The digest of today's key."""


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
