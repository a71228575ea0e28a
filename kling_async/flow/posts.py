"""A client's POSTs: each has its place and its grace, and what comes of it is heard by all submits.

Nothing here tries again or looks up. A place is given back as soon as its POST is answered: what follows must not keep
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from kling_async.errors import KlingError, ServiceUnavailable
from kling_async.flow.background import Background
from kling_async.flow.flight import Slot
from kling_async.flow.gate import Gate
from kling_async.flow.service import Prepared, Service
from kling_async.logs import get_logger
from kling_async.rules.retry import Operation, Verdict, decide
from kling_async.types.generation import Generation

T = TypeVar("T")

logger = get_logger(__name__)

POST_GRACE: Final = 10.0
"""Seconds that a POST which is out may take to be answered after its caller was cancelled."""

LOOK_UP: Final = 900.0
"""Seconds that a lost answer is looked up before the caller is told."""

MOST_ATTEMPTS: Final = 200
"""POSTs of one request, each proven to have made no job, after which the caller is told."""


MOST_LOOKS: Final = 20
"""Tries of one request that came to nothing since an image of it had changed, after which the caller is told."""


class Posts:
    """The POSTs of one client.

    Args:
        service: The service.
        gate: Paces submits and pauses them as one.
        background: Where they live.
        unavailable_after: Seconds without one usable answer after which a submit is given up.
    """

    def __init__(self, service: Service, gate: Gate, background: Background, *, unavailable_after: float) -> None:
        self._service = service
        self._gate = gate
        self._background = background
        self._unavailable_after = unavailable_after
        self._warned_of_echo = False

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Slot]:
        """Wait for a place; it is given back at the end at the latest, also where the POST never began."""
        place = Slot(self._gate)
        await place.enter()
        try:
            yield place
        finally:
            self._give_back(place)

    async def shielded(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do what a POST belongs to; a caller that is cancelled leaves it its grace, and its id in the log.

        Args:
            name: The id that the POST carries.
            work: What to do; it calls `send`.
        """
        try:
            return await self._background.shielded(work, grace=POST_GRACE)
        except asyncio.CancelledError:
            warn_cancelled(name)
            raise

    async def send(self, prepared: Prepared, name: str, place: Slot) -> Generation:
        """Send one POST and let all submits know; only then give the place back.

        Raises:
            KlingError: One leaf; `kling_async.rules.retry` tells what follows.
        """
        try:
            generation = await self._service.submit(prepared, client_request_id=name)
        except KlingError as error:
            if decide(Operation.SUBMIT, error) in {Verdict.AGAIN, Verdict.UNCERTAIN}:
                self._gate.troubled(error)
            raise
        else:
            self._gate.accepted()
        finally:
            self._give_back(place)
        logger.info("submit %s was accepted as generation %s", name, generation.id)
        if generation.echoed is False and not self._warned_of_echo:
            self._warned_of_echo = True
            logger.warning("the service does not echo X-Client-Request-Id: lost answers will not be found again")
        return generation

    def _give_back(self, place: Slot) -> None:
        if place.taken:
            self._gate.landed()
            place.release()

    def check_silence(self, error: KlingError) -> None:
        """Hold the service's silence against what is waited for, after a POST that may be sent again.

        Raises:
            ServiceUnavailable: It gave no usable answer for too long.
        """
        silence = self._gate.silence()
        if silence is not None and silence[0] >= self._unavailable_after:
            raise ServiceUnavailable(f"no usable answer for {silence[0] / 60:.0f} minutes, last: {error}") from error


def warn_cancelled(name: str) -> None:
    """Tell in the log under which id a submit that was cancelled can be found."""
    logger.warning("a submit was cancelled; client.find(%r) tells whether it bought a video", name)


def refused_too_often() -> ServiceUnavailable:
    """Return what is told of a request that is refused again and again."""
    return ServiceUnavailable(f"the service refused {MOST_ATTEMPTS} submits one after the other; nothing was bought")
