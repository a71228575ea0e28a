"""Asks for rows that were set aside: once at each start, and before one is bought again by its owner's word.

A video that the service has finished meanwhile is fetched, never bought again. This room must never buy, nor take
trouble of the network, of the disk or of the service for word that there is no video: it is gone only where the service
says so again and again, or where the file host refuses one fresh link after the other.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final

from kling_async.errors import (
    AuthenticationFailed,
    GenerationFailed,
    GenerationOverdue,
    KlingError,
    LinkExpired,
    NotAVideo,
    NotFound,
)
from kling_async.flow.crew import Crew, Scribe, generation_id_of
from kling_async.logs import get_logger
from kling_async.rules.wire import FINISHED
from kling_async.types.generation import Generation, GenerationStatus, RemoteVideo
from kling_async.types.record import Failed, Record, Rendered, Retried, Stage, Trouble

logger = get_logger(__name__)

_PAUSES: Final = (2.0, 10.0, 30.0, 30.0, 30.0, None)
"""Seconds after an answer that settles nothing, before the question is put again; after the last one it is not."""

_DENIALS: Final = 3
"""Answers that there is no such generation, or no link to its video, before that is believed."""

_FRESH_LINKS: Final = 2
"""Fresh links that a file host must have refused, after the first one, before a video is taken for gone."""

_NO_ANSWER: Final = frozenset({"", "unknown"})
"""What the service says where it cannot tell for the moment."""


class Denial(enum.Enum):
    """Why there is nothing to fetch, by the service's own word."""

    GONE = "gone"
    """It does not know the generation, or has no link to its video, however often it is asked; or it failed."""
    UNFINISHED = "unfinished"
    """It is still on its way."""


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

    async def settle(self, record: Record) -> tuple[Record, RemoteVideo | None, Denial | None]:
        """Ask for a row that its owner wants bought again.

        Args:
            record: SUBMITTED or RENDERED, and set aside.

        Returns:
            The record: RENDERED with its video to fetch; PLANNED, where its generation failed, which was free; or as it
            was. And why it may be bought again; None where it may not.

        Raises:
            AuthenticationFailed: The key is refused.
        """
        answer = await self.ask(record)
        if isinstance(answer, Generation) and answer.status is GenerationStatus.COMPLETED:
            logger.info("%s: its generation is finished meanwhile: it is fetched", record.key)
            found = Retried() if record.stage is Stage.RENDERED else Rendered(answer.usage.credits)
            return await self._scribe.move(record, found), answer.video, None
        if isinstance(answer, Generation):
            trouble = Trouble(GenerationFailed.__name__, answer.failure or "")
            failed = await self._scribe.move(record, Failed(trouble))
            if failed.stage is Stage.FAILED:
                return await self._scribe.move(failed, Retried()), None, None
            if failed is record:
                return record, None, Denial.GONE
            if failed.stage is Stage.UNCERTAIN:
                return failed, None, None
            return await self.settle(failed)  # it had replaced another one, which is asked for in its turn
        if answer is Denial.UNFINISHED and record.stage is Stage.RENDERED:
            answer = None  # it was finished before: this tells of the service, not of the video
        if answer is None:
            logger.warning("%s: it is not bought again: the service does not say that there is no video", record.key)
        return record, None, answer

    async def ask(self, record: Record) -> Generation | Denial | None:
        """Return a generation that has ended, or why there is none; None where the service does not settle it."""
        denials = 0
        for pause in _PAUSES:
            try:
                generation = await self._crew.service.retrieve(generation_id_of(record))
            except NotFound:
                denials += 1
            except KlingError as error:
                if isinstance(error, AuthenticationFailed) and await self._crew.poller.key_check.is_refused():
                    raise
                logger.info("%s: it cannot be asked for: %s", record.key, error)
            else:
                if generation.status in {GenerationStatus.COMPLETED, GenerationStatus.FAILED}:
                    return generation
                word = generation.raw_status.lower()
                known = generation.status is not GenerationStatus.UNKNOWN
                if known or word not in _NO_ANSWER | FINISHED:
                    return Denial.UNFINISHED
                denials += word in FINISHED  # without a usable link: not yet, or never
            if denials >= _DENIALS:
                return Denial.GONE
            if pause is not None:
                await asyncio.sleep(pause)
        return None

    async def is_gone(self, record: Record, error: KlingError, *, fresh_links: int) -> bool:
        """Tell whether a fetch that failed just now found out that there is no whole video to be had.

        Args:
            record: RENDERED, and set aside for the error.
            error: What ended the fetch.
            fresh_links: How many the service gave meanwhile.

        Raises:
            AuthenticationFailed: The key is refused.
        """
        if isinstance(error, LinkExpired | NotAVideo):
            return fresh_links >= _FRESH_LINKS
        if isinstance(error, NotFound | GenerationOverdue | GenerationFailed):
            answer = await self.ask(record)  # it was asked for a link
            return answer is Denial.GONE or (
                isinstance(answer, Generation) and answer.status is GenerationStatus.FAILED
            )
        return False
