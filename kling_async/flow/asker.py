"""Asks for rows that were set aside: once at each start, and before one is bought again by its owner's word.

A video that the service has finished meanwhile is fetched, never bought again. This room must never buy; it gives up a
generation only where its owner said so, and the service itself answered that the video is not there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from kling_async.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    GenerationFailed,
    GenerationOverdue,
    InvalidRequest,
    KlingError,
    NotFound,
)
from kling_async.flow.crew import Crew, Scribe, Slot, generation_id_of
from kling_async.rules.budget import check_ceiling
from kling_async.types.generation import Generation, GenerationStatus, RemoteVideo
from kling_async.types.record import Failed, Record, Rendered, Resubmitted, Retried, Stage, Trouble

logger = logging.getLogger(__name__)

_PAUSES: Final = (2.0, 10.0, None)
"""Seconds after an answer that tells nothing, before the question is put again; after the last one it is not."""

_NO_ANSWER: Final = frozenset({"", "unknown"})
"""What the service says where it cannot tell for the moment."""

_GONE: Final = frozenset({"LinkExpired", "NotAVideo", "Truncated", "NotFound", "GenerationOverdue", "GenerationFailed"})
"""Troubles of a fetch that say that the file host has no whole video; not those of the disk, or of the way there."""


class Asker:
    """Asks for what was set aside.

    Args:
        crew: Those who do the steps.
        scribe: Saves each change.
    """

    def __init__(self, crew: Crew, scribe: Scribe) -> None:
        self._crew = crew
        self._scribe = scribe

    async def once(self, record: Record) -> Generation:
        """Ask once for a row that was set aside; what is still not finished stays aside.

        Raises:
            GenerationFailed: The service could not make it.
            GenerationOverdue: It is not finished, or gave no usable answer.
            AuthenticationFailed: The key is refused.
        """
        try:
            generation = await self._crew.service.retrieve(generation_id_of(record))
        except KlingError as error:
            if isinstance(error, AuthenticationFailed) and await self._crew.poller.key_check.is_refused():
                raise
            raise GenerationOverdue(str(error), generation_id=record.generation_id) from error
        if generation.status is GenerationStatus.COMPLETED:
            return generation
        if generation.status is GenerationStatus.FAILED:
            raise GenerationFailed(generation.failure or "", generation_id=record.generation_id)
        raise GenerationOverdue(
            f"generation {record.generation_id} is still {generation.raw_status or 'unfinished'}; "
            "it is asked once at each start. `kling-async retry DIR` watches it for longer; with --buy-again it buys "
            "the row again, if it is not finished then",
            generation_id=record.generation_id,
        )

    async def settle(self, record: Record, slot: Slot) -> tuple[Record, RemoteVideo | None]:
        """Ask for a row that its owner wants bought again, and give it up where the service has no video of it.

        Args:
            record: SUBMITTED or RENDERED, and set aside.
            slot: Is taken before the row is given up: one that cannot be bought now stays what it is.

        Returns:
            The record: RENDERED with its video to fetch, PLANNED to be bought, or as it was.

        Raises:
            AuthenticationFailed: The key is refused.
        """
        answer = await self._ask(record)
        if answer is None:
            return record, None
        if isinstance(answer, Generation) and answer.status is GenerationStatus.COMPLETED:
            logger.info("%s: its generation is finished meanwhile: it is fetched", record.key)
            found = Retried() if record.stage is Stage.RENDERED else Rendered(answer.usage.credits)
            return await self._scribe.move(record, found), answer.video
        if isinstance(answer, Generation) and answer.status is GenerationStatus.FAILED:
            trouble = Trouble(GenerationFailed.__name__, answer.failure or "the service gave no reason")
            failed = await self._scribe.move(record, Failed(trouble))
            if failed.stage is Stage.FAILED:
                return await self._scribe.move(failed, Retried()), None
        return await self.give_up(record, slot), None

    async def give_up(self, record: Record, slot: Slot) -> Record:
        """Give a row's generation up, by its owner's word, as soon as another one can be bought.

        Where none can, the row stays what it is.
        """
        if not await self.can_buy(record, slot):
            return record
        logger.warning("%s: generation %s is given up, and bought again, as asked", record.key, record.generation_id)
        return await self._scribe.move(record, Resubmitted())

    async def can_buy(self, record: Record, slot: Slot) -> bool:
        """Wait for a slot for what is bought in place of a row's generation; tell whether it came, and is paid for.

        A row that is given up in vain would have lost what stands behind it. That the budget is never passed is the
        journal's affair all the same: of several rows that see room for one, one is bought.
        """
        gate, purse, request = self._crew.gate, self._crew.purse, record.request
        try:
            await slot.enter()
        except KlingError as error:
            if error is not gate.closed:
                raise
            return False
        if purse.ceiling is None:
            return True
        await purse.learn(request.model)
        tally = await self._crew.journal.tally()
        price = purse.hold(request.model, request.duration)
        try:
            check_ceiling(price, taken=tally.spent + tally.held, ceiling=purse.ceiling)
        except (BudgetExceeded, InvalidRequest) as error:
            if isinstance(error, BudgetExceeded):
                gate.close(error)
                gate.turned_away = True
            slot.release()
            gate.landed()
            return False
        return True

    async def _ask(self, record: Record) -> Generation | NotFound | None:
        """Return what the service says of a row; None where it does not say whether the video is there."""
        answer: Generation | NotFound | None = None
        for pause in _PAUSES:
            try:
                answer = await self._crew.service.retrieve(generation_id_of(record))
            except NotFound as error:
                answer = error
            except KlingError as error:
                if isinstance(error, AuthenticationFailed) and await self._crew.poller.key_check.is_refused():
                    raise
                answer = None
                logger.info("%s: it cannot be asked for: %s", record.key, error)
            if isinstance(answer, Generation):
                if answer.status is not GenerationStatus.UNKNOWN or answer.raw_status.lower() not in _NO_ANSWER:
                    return answer
                answer = None
            if pause is not None:
                await asyncio.sleep(pause)
        return answer


def is_gone(record: Record) -> bool:
    """Tell whether the last fetch of a row found out that there is no whole video to fetch."""
    return record.stage is Stage.RENDERED and record.trouble is not None and record.trouble.kind in _GONE
