"""One row from its stage to its end: step = next_step(record); event = do(step); record = advance(record, event).

Each change is saved before the next step begins. Cancelling writes nothing: a record stays where it stands. Nothing
here decides: where a record goes is `kling_async.rules.lifecycle`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from attrs import evolve

from kling_async.errors import (
    AuthenticationFailed,
    DownloadError,
    GenerationFailed,
    GenerationOverdue,
    JournalError,
    KlingError,
    NotFound,
)
from kling_async.flow.again import Again
from kling_async.flow.asker import Asker
from kling_async.flow.buyer import Buyer, Original
from kling_async.flow.crew import Crew, Instruction, Scribe, generation_id_of
from kling_async.flow.downloader import Parcel
from kling_async.flow.flight import Slot
from kling_async.logs import get_logger
from kling_async.rules.identity import kind_of
from kling_async.rules.lifecycle import HOLDS_SLOT, Step, next_step
from kling_async.rules.troubles import is_of_the_row, trouble_of
from kling_async.types.generation import Generation, RemoteVideo
from kling_async.types.record import (
    Failed,
    Overdue,
    Record,
    Refused,
    Retried,
    Shared,
    Stage,
    Stored,
    Trouble,
    Unstored,
    Verified,
    Waiting,
)

logger = get_logger(__name__)

_FRESH: Final = 60.0
"""Seconds of age at which this process must have begun to watch a generation, to know how long it took."""

_LENGTH_SLACK: Final = 1.0
"""Seconds by which a video may be longer or shorter than it was asked for without a word: clips end on a frame."""

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
        self._asker = Asker(crew, scribe)
        self._again = Again(crew, scribe, buyer)

    async def walk(self, record: Record, slot: Slot, word: Instruction = Instruction.GO_ON) -> Record:
        """Bring a record to its end, or to where it is set aside.

        Args:
            record: Where it stands.
            slot: Its place among the open generations.
            word: What its owner says of it.

        Raises:
            KlingError: The gate closed before the row was bought, or the journal cannot be written.
        """
        try:
            record = await self._walk(record, slot, word, first=True)
            while self._again.is_due(record, word):
                record = await self._walk(record, slot, word, first=False)
        except AuthenticationFailed as error:
            raise self._crew.gate.close(error) from None
        self._buyer.ended(record)
        return record

    async def _walk(self, record: Record, slot: Slot, word: Instruction, *, first: bool) -> Record:
        told, once = word, record.set_aside and (word is Instruction.GO_ON or not first)
        record, video, word = await self._take_up(record, slot, word)
        once = once and word is told  # what was bought just now is watched in full
        if word is not Instruction.GO_ON and record.set_aside:
            slot.release()
            return record
        fresh = False
        while (step := next_step(record)) is not Step.NONE:
            match step:
                case Step.SUBMIT:
                    record = await self._submit(record, slot)
                    fresh = record.stage is Stage.SUBMITTED
                case Step.FIND:
                    record = await self._find(record, slot, word, once=once)
                case Step.WATCH:
                    record, video = await self._watch(record, once=once, fresh=fresh)
                case Step.FETCH:
                    record = await self._fetch(record, video, slot, word)
            if record.set_aside or record.stage not in HOLDS_SLOT:
                slot.release()
            once, word = False, Instruction.GO_ON
            if record.set_aside or record.waits:
                break
        return record

    async def _submit(self, record: Record, slot: Slot) -> Record:
        await slot.enter()
        bought = await self._buyer.buy(record)
        if isinstance(bought, Original):
            slot.release()
            return await self._share(record, bought)
        return bought

    async def _find(self, record: Record, slot: Slot, word: Instruction, *, once: bool) -> Record:
        again = partial(self._again.buy, slot=slot) if self._again.is_wanted(record, word) else None
        anew = word is not Instruction.GO_ON and not once
        return await self._buyer.find(record, once=once, anew=anew, again=again)

    async def _take_up(
        self, record: Record, slot: Slot, word: Instruction
    ) -> tuple[Record, RemoteVideo | None, Instruction]:
        """Do what the owner of a row says of it, before its first step; return what is left of that for the step."""
        if record.waits:
            return evolve(record, trouble=None), None, word  # perhaps no longer: that is found out anew
        if word is Instruction.GO_ON:
            return record, None, word
        if word is Instruction.RETRY or record.stage is Stage.UNCERTAIN or await self._is_here(record):
            return await self._scribe.move(record, Retried()), None, word
        return await self._again.settle(record, slot)

    async def _share(self, record: Record, original: Original) -> Record:
        """Wait for the row whose generation this one shares, and share its end.

        Where it ended without a video for the service's own trouble, or was not bought after all, this row is PLANNED
        still, to be submitted itself. Where it was set aside or its video is gone, this row waits, with a trouble that
        tells so: the next run tries again, and `retry` does.
        """
        await self._crew.flight.landed(original.key)
        other = await self._crew.journal.get(original.key)
        if other is None or other.stage is Stage.PLANNED:
            return record
        if other.stage is Stage.FAILED:
            # It was not FAILED when this row met it, so it was tried in this run: the same again would end the same.
            alike = other.trouble if is_of_the_row(other) else None
            return record if alike is None else await self._scribe.move(record, Refused(alike))
        if other.stage is not Stage.DONE:
            return await self._scribe.move(record, Waiting(_waits(record, other)))
        try:
            video = await self._copy(record, other)
        except (JournalError, AuthenticationFailed):
            raise
        except KlingError as error:
            logger.warning("%s: the video of %s cannot be shared: %s", record.key, other.key, error)
            return await self._scribe.move(record, Waiting(_gone(record, other, error)))
        bought = other.generation_id or other.shares or ""
        return await self._scribe.move(
            record, Shared(bought, original.content, video.size, video.sha256, video.seconds)
        )

    async def _copy(self, record: Record, other: Record) -> Verified:
        """Give another row's video this row's name, too; one that is gone or was changed is fetched again.

        The digest is saved first, as before every name.
        """
        store, same = self._crew.store, Verified(other.size or 0, other.sha256 or "", other.seconds)

        async def verified(event: Verified) -> None:
            await self._scribe.move(record, event)

        if await store.holds(other.name, size=same.size, sha256=same.sha256):
            await verified(same)
            if await self._crew.downloader.patiently(partial(store.link, other.name, record.name)):
                return same
        source = other if other.generation_id else evolve(other, generation_id=other.shares)
        parcel = Parcel(
            record.name,
            await self._link(source),
            generation_id_of(source),
            fresh_link=partial(self._link, source),
            verified=verified,
        )
        file = await self._crew.downloader.fetch(parcel)
        return Verified(file.size, file.sha256, file.seconds)

    async def _watch(self, record: Record, *, once: bool, fresh: bool) -> tuple[Record, RemoteVideo | None]:
        age = self._scribe.age(record)
        try:
            generation = await (self._asker.once(record) if once else self._wait(record, fresh=fresh))
        except GenerationFailed as error:
            return await self._failed(record, error), None
        except (GenerationOverdue, NotFound) as error:
            return await self._scribe.move(record, Overdue(trouble_of(error))), None
        if not once and age < _FRESH:
            self._buyer.longest = max(self._buyer.longest, self._scribe.age(record))
        return await self._buyer.rendered(record, generation.usage.credits), generation.video

    async def _failed(self, record: Record, error: GenerationFailed) -> Record:
        """Write down that a generation failed; where it was the account's limit, the row is tried again."""
        failed = await self._scribe.move(record, Failed(trouble_of(error)))
        if failed.stage is not Stage.FAILED:
            self._again.failed(record, error)
        elif error.too_many_jobs and not self._buyer.tries.is_in_vain(record.key):
            self._crew.gate.crowded()
            return await self._scribe.move(failed, Retried())
        return failed

    async def _wait(self, record: Record, *, fresh: bool) -> Generation:
        age = self._scribe.age(record)
        timeout = max(WATCHED_AT_LEAST, self._crew.settings.polling.give_up_after - age)
        name, kind = generation_id_of(record), kind_of(record.request)
        # Accepted just now, it runs, however long its POST took: no poll is spent on being told so.
        ran = age if fresh else 0.0
        return await self._crew.poller.watch(name, kind=kind, age=age, ran=ran, timeout=timeout)

    async def _fetch(self, record: Record, video: RemoteVideo | None, slot: Slot, word: Instruction) -> Record:
        crew = self._crew
        if await self._is_here(record):
            return await self._scribe.move(record, Stored())
        saved, fresh_links = record, 0

        async def fresh_link() -> RemoteVideo:
            nonlocal fresh_links
            link = await self._link(record)
            fresh_links += 1
            return link

        async def verified(event: Verified) -> None:
            nonlocal saved
            if event.seconds is not None and abs(event.seconds - record.request.duration) > _LENGTH_SLACK:
                logger.warning(
                    "%s: lasts %.1f s, %d were asked for: kept", record.key, event.seconds, record.request.duration
                )
            saved = await self._scribe.move(saved, event)

        try:
            parcel = Parcel(
                record.name,
                video or await self._link(record),
                generation_id_of(record),
                fresh_link=fresh_link,
                verified=verified,
            )
            await crew.downloader.fetch(parcel)
        except (JournalError, AuthenticationFailed):
            raise
        except KlingError as error:
            aside = await self._scribe.move(saved, Unstored(trouble_of(error)))
            if word is Instruction.BUY_AGAIN:
                return await self._again.fetched_in_vain(aside, slot, error, fresh_links=fresh_links)
            return aside
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


def _waits(record: Record, other: Record) -> Trouble:
    return Trouble(
        GenerationOverdue.__name__,
        f"row {record.key!r} waits for the video of row {other.key!r}, which has equal content and is set aside: run "
        "again later",
    )


def _gone(record: Record, other: Record, error: KlingError) -> Trouble:
    return Trouble(
        DownloadError.__name__,
        f"row {record.key!r} has the content of row {other.key!r}, whose video is gone from the folder and cannot be "
        f"fetched again ({error}); nothing was bought: put {other.name} back and run again",
    )
