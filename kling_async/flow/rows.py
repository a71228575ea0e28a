"""The rows of a batch that are in flight: one task for each, bounded by slots and by what may wait behind them.

Outcomes leave through a stream without a buffer: a slow consumer holds the rows back, and they the source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from kling_async.errors import KlingError, RequestChanged, TooManyFailures
from kling_async.flow.crew import Crew, Instruction
from kling_async.flow.enrolment import planned_record
from kling_async.flow.flight import Slot
from kling_async.flow.latecomers import Latecomers
from kling_async.flow.walker import Walker
from kling_async.logs import about
from kling_async.ports import VideoStore
from kling_async.rules.troubles import error_of_record
from kling_async.types.outcome import Outcome
from kling_async.types.record import Record, Stage
from kling_async.types.request import ImageToVideo

_MAX_PARKED: Final = 1000
"""Rows that may wait for others of equal content before the source is read on."""


class Closed(Exception):  # noqa: N818  # a signal, not an error
    """No more rows start."""


class Rows:
    """The rows in flight: one task for each, bounded by slots and by what may wait behind them."""

    def __init__(
        self,
        crew: Crew,
        walker: Walker,
        late: Latecomers,
        send: MemoryObjectSendStream[Outcome],
    ) -> None:
        self._crew = crew
        self._late = late
        self._fed = False
        self._walker = walker
        self._send = send
        self._tasks = 0
        self._failures = 0
        self._left = asyncio.Event()
        self._behind = 4 * crew.settings.downloads.downloads_at_once
        self.resumed: set[str] = set()
        """Keys that were taken up from the journal at the start."""

    async def room(self) -> None:
        """Wait while too many rows have left their slot and are not yet delivered."""
        flight, admission = self._crew.flight, self._crew.gate.admission
        while self._tasks - admission.open - flight.parked >= self._behind or flight.parked >= _MAX_PARKED:
            self._left.clear()
            await self._left.wait()

    async def admit(self, group: TaskGroup, record: Record, word: Instruction = Instruction.GO_ON) -> None:
        """Start a row when there is a slot for it; one that has ended, and is left so, is an outcome at once."""
        if record.stage in {Stage.DONE, Stage.FAILED} and word is Instruction.GO_ON:
            await self._send.send(outcome_of(record, self._crew.store, resumed=True))
            return
        await self.room()
        slot = Slot(self._crew.gate)
        try:
            await slot.enter()
        except KlingError as error:
            if error is self._crew.gate.closed:
                raise Closed from None
            raise
        self.begin(group, record, slot, word)

    def begin(self, group: TaskGroup, record: Record, slot: Slot, word: Instruction = Instruction.GO_ON) -> None:
        """Start a row's task."""
        self._tasks += 1
        self._crew.flight.begin(record)
        group.start_soon(self._row, record, slot, word)

    async def refuse(self, request: ImageToVideo, error: KlingError) -> None:
        """Tell that a row was not taken in."""
        key = getattr(error, "key", request.key or "")
        await self._send.send(Outcome(key, Stage.PLANNED, request, error=error, generation_id=error.generation_id))

    async def not_in_flight(self, chunk: Sequence[ImageToVideo]) -> list[ImageToVideo]:
        """Leave out what is in flight: a row that stands twice in the source is one row, and one edited is refused."""
        flying, fresh = self._crew.flight.written(), list[ImageToVideo]()
        for request in chunk:
            planned = await planned_record(request, self._crew.service.images)
            known = flying.get(planned.key)
            if known is None:
                flying[planned.key] = planned.written
                fresh.append(request)
            elif known != planned.written:
                await self.refuse(request, await self._changed(planned.key))
        return fresh

    async def _changed(self, key: str) -> RequestChanged:
        """Return what is told of a row that comes with other content than the one in flight under its key."""
        if key not in self.resumed:
            message = f"row {key!r} stands in the source twice, with other content: give one another key"
            return RequestChanged(message, key=key)
        record = await self._crew.journal.get(key)
        return RequestChanged(
            f"row {key!r} was edited after money stood behind it: restore the row, or give the new one another key",
            key=key,
            generation_id=None if record is None else record.generation_id,
        )

    async def _row(self, record: Record, slot: Slot, word: Instruction) -> None:
        about(record.key, record.generation_id)
        try:
            ended = await self._walker.walk(record, slot, word)
            slot.release()
            if self._late.takes(ended) and not record.set_aside:
                ended = await self._follow(ended, slot)
            if not record.set_aside:
                self._note_failure(ended)
            await self._send.send(outcome_of(ended, self._crew.store))
        except KlingError as error:
            # The gate is closed and this row was not bought: it stays as it is, for the next run.
            if error is not self._crew.gate.closed:
                raise
        finally:
            slot.release()
            self._tasks -= 1
            self._crew.flight.end(record.key)
            self._left.set()
            self._end_if_late()

    def _note_failure(self, ended: Record) -> None:
        """Count a row that ended without a video; buy no more where that makes as many as the owner allows."""
        limit = self._crew.settings.money.max_failures
        if limit is None or not (ended.stage is Stage.FAILED or ended.set_aside):
            return
        self._failures += 1
        if self._failures >= limit:
            rows = "a row" if limit == 1 else f"{limit} rows"
            reason = ended.trouble.message if ended.trouble is not None else "no reason is told"
            self._crew.gate.close(
                TooManyFailures(
                    f"{rows} ended without a video, the last one {ended.key!r}: {reason}; no more is bought"
                )
            )

    async def _follow(self, record: Record, slot: Slot) -> Record:
        """Follow a row that is late; those that wait for it, and the run itself, wait no longer."""
        self._crew.flight.end(record.key)
        self._left.set()
        following = self._late.follow(record)
        asyncio.get_running_loop().call_soon(self._end_if_late)
        moved = await following
        return record if moved is record else await self._walker.walk(moved, slot)

    async def until_closed(self, fed: Callable[[], Awaitable[None]]) -> None:
        """Feed rows; a source that waits is left when no more may be submitted: what it waits for may never come."""
        async with anyio.create_task_group() as watch:

            async def leave() -> None:
                await self._crew.gate.shut()
                self._crew.gate.turned_away = True  # as far as is known: the source is not at its end
                watch.cancel_scope.cancel()

            watch.start_soon(leave)
            with suppress(Closed):
                await fed()
            watch.cancel_scope.cancel()

    def fed(self) -> None:
        """Note that no more rows come."""
        self._fed = True
        self._end_if_late()

    def _end_if_late(self) -> None:
        """End the following where nothing else is left to do."""
        if self._fed and self._tasks <= self._late.count:
            self._late.end()


def outcome_of(record: Record, store: VideoStore, *, resumed: bool = False) -> Outcome:
    """Return how a record ended, or why it was set aside."""
    done = record.stage is Stage.DONE
    return Outcome(
        record.key,
        record.stage,
        record.request,
        path=store.path(record.name) if done else None,
        error=error_of_record(record),
        generation_id=record.generation_id or record.shares,
        size=record.size if done else None,
        sha256=record.sha256 if done else None,
        seconds=record.seconds if done else None,
        credits=record.credits,
        resumed=resumed,
    )
