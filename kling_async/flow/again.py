"""Buys rows again by their owner's word, in place of what stands behind them.

The service, its log and the file host are asked first. What stands behind a row is given up with the intent of the POST
that replaces it, never before, so that nothing is given up for none. This room must never buy without that word.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kling_async.errors import GenerationFailed, KlingError
from kling_async.flow.asker import Asker
from kling_async.flow.buyer import Buyer, Original
from kling_async.flow.crew import Crew, Instruction, Scribe
from kling_async.flow.flight import Slot
from kling_async.logs import get_logger
from kling_async.types.generation import RemoteVideo
from kling_async.types.record import Record, Stage

logger = get_logger(__name__)

_STALE: Final = 60.0
"""Seconds after which the service is asked once more, since what it said may be true no longer."""


class Again:
    """Buys again.

    Args:
        crew: Those who do the steps.
        scribe: Saves each change.
        buyer: Buys.
    """

    def __init__(self, crew: Crew, scribe: Scribe, buyer: Buyer) -> None:
        self._crew = crew
        self._buyer = buyer
        self._asker = Asker(crew, scribe)

    def is_wanted(self, record: Record, word: Instruction) -> bool:
        """Tell whether a row is bought again by its owner's word: this one, or what holds for all uncertain rows."""
        resubmit = self._crew.settings.uncertain.on_uncertain == "resubmit"
        return word is Instruction.BUY_AGAIN or (resubmit and record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN})

    def is_due(self, record: Record, word: Instruction) -> bool:
        """Tell whether a row is tried once more: the POST of this run came to nothing, and is wanted still."""
        came_to_nothing = record.set_aside and self._buyer.tries.once_more(record.key)
        return came_to_nothing and self.is_wanted(record, word)

    async def buy(self, record: Record, slot: Slot) -> Record:
        """Buy a row in place of what stands behind it; where that cannot be, it stays what it is."""
        if not await self._has_place(slot):
            return record
        return await self._buy(record)

    async def _has_place(self, slot: Slot) -> bool:
        """Wait for a place for what is bought in place of something else; tell whether there is one."""
        if slot.taken:
            slot.release()  # what had it is out of sight; the new POST waits for its turn
        try:
            await slot.enter()
        except KlingError as error:
            if error is not self._crew.gate.closed:
                raise
            return False
        return True

    async def _buy(self, record: Record) -> Record:
        bought = await self._buyer.buy(record)
        if isinstance(bought, Original):
            logger.warning("%s: it is not bought again: row %r is bought, with equal content", record.key, bought.key)
            return record
        if not bought.set_aside:
            given_up = record.generation_id or record.client_request_id
            logger.warning("%s: %s was given up, and the row bought again, as asked", record.key, given_up)
        return bought

    async def settle(self, record: Record, slot: Slot) -> tuple[Record, RemoteVideo | None, Instruction]:
        """Ask for a row with an id that was set aside, and buy it again where the service has no video of it.

        Returns:
            The record: RENDERED with its video to fetch, bought again, or as it was; and what is left of the word for
            its next step.

        Raises:
            AuthenticationFailed: The key is refused.
        """
        if self._buyer.is_of_another_key(record):
            logger.warning("%s: it is not bought again: it was sent with another key; run with that one", record.key)
            return record, None, Instruction.BUY_AGAIN
        loop = asyncio.get_running_loop()
        record, video, denial = await self._asker.settle(record)
        asked = loop.time()
        if denial is None or not await self._has_place(slot):
            return record, video, Instruction.BUY_AGAIN
        if loop.time() - asked > _STALE:
            record, video, denial = await self._asker.settle(record)
        if denial is None:
            slot.release()
            self._crew.gate.landed()
            return record, video, Instruction.BUY_AGAIN
        record = await self._buy(record)
        return record, None, Instruction.BUY_AGAIN if record.set_aside else Instruction.GO_ON

    async def fetched_in_vain(self, record: Record, slot: Slot, error: KlingError, *, fresh_links: int) -> Record:
        """Buy a row again whose video could not be fetched just now, if it is gone; else it stays aside.

        Raises:
            AuthenticationFailed: The key is refused.
        """
        if await self._asker.is_gone(record, error, fresh_links=fresh_links):
            return await self.buy(record, slot)
        logger.warning("%s: it is not bought again: nobody says that its video is gone (%s)", record.key, error)
        return record

    def failed(self, record: Record, error: GenerationFailed) -> None:
        """Take note that what was bought in place of something else has failed, for free: the row is what it was."""
        logger.warning("%s: what was bought again has failed: %s", record.key, error)
        if error.too_many_jobs and not self._buyer.tries.is_in_vain(record.key):
            self._crew.gate.crowded()
            self._buyer.tries.came_to_nothing(record.key)
