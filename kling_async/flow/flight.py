"""Where the rows of a run stand beside each other: the slots of those that are made, and the flight of them all.

A slot is a place among the generations that are open at the service. This room must never let a row have two places,
nor keep in mind more than what is in flight and a bounded number of failures.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kling_async.flow.gate import Gate
from kling_async.types.record import Record, Trouble

_FAILED_AT_MOST: Final = 10_000
"""Contents that failed in a run and are kept in mind: memory is bounded, whatever the length of the job."""


class Slot:
    """A row's place among the open generations; given back once."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.taken = False
        """Whether the row has it."""

    async def enter(self) -> None:
        """Wait for a place, if the row has none.

        Raises:
            KlingError: The gate was closed.
        """
        if not self.taken:
            await self._gate.enter()
            self.taken = True

    def adopt(self) -> None:
        """Take a place without waiting, for what is open already."""
        self._gate.adopt()
        self.taken = True

    def release(self) -> None:
        """Give the place back, if the row has one."""
        if self.taken:
            self.taken = False
            self._gate.leave()


class Bench(Slot):
    """The slot of a row that was set aside: watched, or looked for, once more without a place among the open ones.

    It sits on the bench, and counts among those that wait, until it gives up or gets a place after all, to be bought
    again.
    """

    def __init__(self, gate: Gate, flight: Flight) -> None:
        super().__init__(gate)
        self._flight = flight
        self._sits = True
        flight.parked += 1

    async def enter(self) -> None:
        """Wait for a place on the bench, and get up for it."""
        await super().enter()
        self._get_up()

    def release(self) -> None:
        """Get up, and give back the place that was got meanwhile."""
        self._get_up()
        super().release()

    def _get_up(self) -> None:
        if self._sits:
            self._sits = False
            self._flight.parked -= 1


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
