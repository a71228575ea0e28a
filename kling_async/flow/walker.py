"""One row from its stage to its end: step = next_step(record); event = do(step); record = advance(record, event).

Each change is saved before the next step begins. Cancelling writes nothing: a record stays where it stands. Nothing
here decides: where a record goes is `kling_async.rules.lifecycle`.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from attrs import evolve

from kling_async.errors import (
    AuthenticationFailed,
    GenerationFailed,
    GenerationOverdue,
    JournalError,
    KlingError,
    NotFound,
)
from kling_async.flow.buyer import MOST_ATTEMPTS, Buyer, Original
from kling_async.flow.crew import Crew, Scribe, Slot, generation_id_of
from kling_async.flow.downloader import Parcel
from kling_async.rules.lifecycle import HOLDS_SLOT, Step, next_step
from kling_async.rules.troubles import trouble_of
from kling_async.types.generation import Generation, GenerationStatus, RemoteVideo
from kling_async.types.record import (
    Failed,
    Overdue,
    Record,
    Rendered,
    Retried,
    Shared,
    Stage,
    Stored,
    Unstored,
    Verified,
)

logger = logging.getLogger(__name__)

_FRESH: Final = 60.0
"""Seconds of age at which this process must have begun to watch a generation, to know how long it took."""

WATCHED_AT_LEAST: Final = 600.0
"""Seconds that this process watches a generation before it may call it overdue."""


class Walker:
    """Walks rows.

    Args:
        crew: Those who do the steps.
        scribe: Saves each change.
        buyer: Buys, and finds again.
    """

    def __init__(self, crew: Crew, scribe: Scribe, buyer: Buyer) -> None:
        self._crew = crew
        self._scribe = scribe
        self._buyer = buyer

    async def walk(self, record: Record, slot: Slot) -> Record:
        """Bring a record to its end, or to where it is set aside.

        Raises:
            KlingError: The gate closed before the row was bought, or the journal cannot be written.
        """
        video: RemoteVideo | None = None
        once = record.set_aside
        while (step := next_step(record)) is not Step.NONE:
            match step:
                case Step.SUBMIT:
                    await slot.enter()
                    bought = await self._buyer.buy(record)
                    if isinstance(bought, Original):
                        slot.release()
                        shared = await self._share(record, bought)
                        if shared is None:
                            break
                        bought = shared
                    record = bought
                case Step.FIND:
                    record = await self._buyer.find(record, once=once)
                case Step.WATCH:
                    record, video = await self._watch(record, once=once)
                case Step.FETCH:
                    record = await self._fetch(record, video)
            once = False
            if record.set_aside or record.stage not in HOLDS_SLOT:
                slot.release()
            if record.set_aside:
                break
        return record

    async def _share(self, record: Record, original: Original) -> Record | None:
        """Wait for the row whose generation this one shares; None where that one was set aside.

        If it failed, this row stays PLANNED, to be submitted itself.
        """
        await self._crew.flight.landed(original.key)
        other = await self._crew.journal.get(original.key)
        if other is None or other.stage in {Stage.PLANNED, Stage.FAILED}:
            return record
        if other.stage is not Stage.DONE:
            return None
        try:
            video = await self._copy(record, other)
        except JournalError:
            raise
        except KlingError as error:
            logger.warning("%s: the video of %s cannot be shared: %s", record.key, other.key, error)
            return None
        bought = other.generation_id or other.shares or ""
        return await self._scribe.move(
            record, Shared(bought, original.content, video.size, video.sha256, video.seconds)
        )

    async def _copy(self, record: Record, other: Record) -> Verified:
        """Give another row's video this row's name, too; one that is gone or was changed is fetched again."""
        store, size, sha256 = self._crew.store, other.size or 0, other.sha256 or ""
        if await store.holds(other.name, size=size, sha256=sha256) and await store.link(other.name, record.name):
            return Verified(size, sha256, other.seconds)
        source = other if other.generation_id else evolve(other, generation_id=other.shares)
        parcel = Parcel(
            record.name,
            await self._link(source),
            generation_id_of(source),
            fresh_link=partial(self._link, source),
            verified=_nothing_to_save,
        )
        file = await self._crew.downloader.fetch(parcel)
        return Verified(file.size, file.sha256, file.seconds)

    async def _watch(self, record: Record, *, once: bool) -> tuple[Record, RemoteVideo | None]:
        age = self._scribe.age(record)
        try:
            generation = await (self._ask_once(record) if once else self._wait(record))
        except GenerationFailed as error:
            failed = Failed(trouble_of(error))
            if error.too_many_jobs and record.attempt < MOST_ATTEMPTS:
                self._crew.gate.crowded()
                return await self._scribe.move(record, failed, Retried()), None
            return await self._scribe.move(record, failed), None
        except (GenerationOverdue, NotFound) as error:
            return await self._scribe.move(record, Overdue(trouble_of(error))), None
        except AuthenticationFailed as error:
            raise self._crew.gate.close(error) from None
        if not once and age < _FRESH:
            self._buyer.longest = max(self._buyer.longest, self._scribe.age(record))
        return await self._scribe.move(record, Rendered(generation.usage.credits)), generation.video

    async def _wait(self, record: Record) -> Generation:
        age = self._scribe.age(record)
        timeout = max(WATCHED_AT_LEAST, self._crew.settings.polling.give_up_after - age)
        return await self._crew.poller.watch(generation_id_of(record), age=age, timeout=timeout)

    async def _ask_once(self, record: Record) -> Generation:
        """Ask once for a row that was set aside; what is still not finished stays aside."""
        try:
            generation = await self._crew.service.retrieve(generation_id_of(record))
        except AuthenticationFailed:
            raise
        except KlingError as error:
            raise GenerationOverdue(str(error), generation_id=record.generation_id) from error
        if generation.status is GenerationStatus.COMPLETED:
            return generation
        if generation.status is GenerationStatus.FAILED:
            raise GenerationFailed(generation.failure or "", generation_id=record.generation_id)
        raise GenerationOverdue(
            f"generation {record.generation_id} is still {generation.raw_status or 'unfinished'}; "
            "it is asked again at the next start",
            generation_id=record.generation_id,
        )

    async def _fetch(self, record: Record, video: RemoteVideo | None) -> Record:
        crew = self._crew
        if await self._is_here(record):
            return await self._scribe.move(record, Stored())
        saved = record

        async def verified(event: Verified) -> None:
            nonlocal saved
            saved = await self._scribe.move(saved, event)

        try:
            parcel = Parcel(
                record.name,
                video or await self._link(record),
                generation_id_of(record),
                fresh_link=partial(self._link, record),
                verified=verified,
            )
            await crew.downloader.fetch(parcel)
        except JournalError:
            raise
        except AuthenticationFailed as error:
            raise crew.gate.close(error) from None
        except KlingError as error:
            return await self._scribe.move(saved, Unstored(trouble_of(error)))
        return await self._scribe.move(saved, Stored())

    async def _is_here(self, record: Record) -> bool:
        """Tell whether an earlier process gave the file its name and could not say so any more."""
        if record.sha256 is None or record.size is None:
            return False
        return await self._crew.store.holds(record.name, size=record.size, sha256=record.sha256)

    async def _link(self, record: Record) -> RemoteVideo:
        """Ask the service for a link; polls are free."""
        generation = await self._crew.poller.watch(
            generation_id_of(record), age=self._scribe.age(record), timeout=WATCHED_AT_LEAST
        )
        if generation.video is None:
            raise GenerationOverdue("the service gives no link", generation_id=record.generation_id)
        return generation.video


async def _nothing_to_save(_verified: Verified) -> None:
    return None
