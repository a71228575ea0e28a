"""What the walkers of a batch share: the crew that does a row's steps, and the scribe that saves each change.

Where rows stand beside each other is `kling_async.flow.flight`. This room must never decide where a row goes.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from kling_async.errors import BudgetExceeded, JournalError, TooManyFailures
from kling_async.flow.background import Background
from kling_async.flow.downloader import Downloader
from kling_async.flow.experience import Experience
from kling_async.flow.flight import Flight
from kling_async.flow.gate import Gate
from kling_async.flow.poller import Poller
from kling_async.flow.purse import Purse
from kling_async.flow.reconciler import Reconciler
from kling_async.flow.service import Service
from kling_async.logs import generation_is, get_logger
from kling_async.ports import Clock, Decoder, Journal, Observer, VideoStore
from kling_async.rules.lifecycle import advance
from kling_async.types.outcome import usd
from kling_async.types.record import Event, Record, Rendered, Stored
from kling_async.types.settings import Settings

logger = get_logger(__name__)

GUARD: Final = 5.0
"""Seconds between two looks whether the service has been silent for too long."""

_PATIENT: Final = (Rendered, Stored)
"""Events that are lost at no cost: the next process hears `Rendered` from a poll, which is free, and finds `Stored` by
the digest that `Verified` wrote. All others are written at once: they are rare, or money, or needed on the disk before
what follows."""


class Instruction(enum.Enum):
    """What a run is to do with a row that it takes up, by its owner's word."""

    GO_ON = "go on"
    """Nothing was said: it goes on from where it stands; was it set aside, it is asked for once."""
    RETRY = "retry"
    """Try it again: a failed row from the start, one set aside from where it stands. Money behind it is never spent
    again."""
    BUY_AGAIN = "buy again"
    """Buy it anew, at the risk of paying twice, where it was set aside and the service still has no video of it."""


@frozen
class Crew:
    """Those who do a row's steps."""

    service: Service
    journal: Journal
    store: VideoStore
    decoder: Decoder
    gate: Gate
    poller: Poller
    downloader: Downloader
    experience: Experience
    reconciler: Reconciler
    background: Background
    clock: Clock
    purse: Purse
    settings: Settings
    flight: Flight = field(factory=Flight)

    async def guard(self) -> None:
        """End a run when the service has given no usable answer for too long; every row stands where it stood.

        Raises:
            ServiceUnavailable: There was none; or the error for which the gate was closed before.
        """
        limit = self.settings.admission.unavailable_after
        while True:
            await self.experience.tell()
            await asyncio.sleep(min(GUARD, limit))
            self.gate.tell_outage()
            if (error := self.gate.outage(limit)) is not None:
                raise self.gate.close(error)

    async def settle(self) -> None:
        """Say at the end of a run what its owner's limits had to do with it: whether they stopped it, and how far.

        A price that rose as the last row was bought has stopped nothing, nor has a last row that failed.
        """
        closed = self.gate.closed
        if not isinstance(closed, BudgetExceeded | TooManyFailures):
            return
        if not self.gate.turned_away:
            self.gate.amend(None)
        elif isinstance(closed, BudgetExceeded) and (beyond := self.purse.overshoot(await self.journal.tally())):
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
            await self._journal.save(after, patiently=all(isinstance(event, _PATIENT) for event in events))
            self.tell(record, after)
        return after

    def tell(self, before: Record, after: Record) -> None:
        """Tell the observers of a change that was saved."""
        generation_is(after.key, after.generation_id)
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
