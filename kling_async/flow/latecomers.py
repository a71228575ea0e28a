"""Generations past all expectation: they gave their slots up, and are asked slowly on while the run goes on anyway.

One that finishes late is still saved. None keeps a run from ending: when only latecomers are left, they stay set aside.
"""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from kling_async.errors import AuthenticationFailed, GenerationFailed, GenerationOverdue, NotFound
from kling_async.flow.crew import Crew, Scribe, generation_id_of
from kling_async.rules.identity import kind_of
from kling_async.rules.troubles import trouble_of
from kling_async.types.record import Failed, Record, Rendered, Stage

MOST: Final = 500
"""Latecomers that are followed at once: memory is bounded, whatever becomes of the service."""

PATIENCE: Final = 4
"""Times the age at which one was set aside; after that it is asked for at the next start."""


class Latecomers:
    """Follows latecomers until the run is over.

    Args:
        crew: Those who do a row's steps.
        scribe: Saves each change.
    """

    def __init__(self, crew: Crew, scribe: Scribe) -> None:
        self._crew = crew
        self._scribe = scribe
        self._over = asyncio.Event()
        self.count = 0
        """Latecomers that are followed now."""

    def end(self) -> None:
        """Follow none any more: the run has nothing else to do."""
        self._over.set()

    def takes(self, record: Record) -> bool:
        """Tell whether a row is followed: it was just set aside since its generation is not finished."""
        overdue = record.trouble is not None and record.trouble.kind == GenerationOverdue.__name__
        return record.stage is Stage.SUBMITTED and overdue and self.count < MOST and not self._over.is_set()

    async def follow(self, record: Record) -> Record:
        """Watch a row until it finishes, or the run has nothing else to do.

        Returns:
            The row RENDERED or FAILED, or as it was.
        """
        self.count += 1
        self._crew.flight.parked += 1
        event: Rendered | Failed | None = None
        try:
            async with anyio.create_task_group() as race:

                async def end() -> None:
                    await self._over.wait()
                    race.cancel_scope.cancel()

                race.start_soon(end)
                event = await self._ended(record)
                race.cancel_scope.cancel()
        finally:
            self.count -= 1
            self._crew.flight.parked -= 1
        return record if event is None else await self._scribe.move(record, event)

    async def _ended(self, record: Record) -> Rendered | Failed | None:
        patience = PATIENCE * self._crew.settings.polling.give_up_after
        try:
            generation = await self._crew.poller.watch(
                generation_id_of(record), kind=kind_of(record.request), age=self._scribe.age(record), timeout=patience
            )
        except GenerationFailed as error:
            return Failed(trouble_of(error))
        except (GenerationOverdue, NotFound, AuthenticationFailed):
            return None
        return Rendered(generation.usage.credits)
