"""Tells a refused key from a passing whim: asks for the balance, which the same key opens.

All who doubt the key at a time share one call. Nothing here decides what follows from a refused key.
"""

from __future__ import annotations

from kling_async.errors import AuthenticationFailed, KlingError, OutOfCredit
from kling_async.flow.background import Background, Job
from kling_async.flow.service import Service
from kling_async.logs import get_logger

logger = get_logger(__name__)


class KeyCheck:
    """The check of the key.

    Args:
        service: The service.
        background: Where the call lives.
    """

    def __init__(self, service: Service, background: Background) -> None:
        self._service = service
        self._background = background
        self._job: Job[bool] | None = None

    async def is_refused(self) -> bool:
        """Ask for the balance; False where it is told, and where the answer says nothing of the key."""
        await self._background.ready()  # where nothing waits between a look and a start, none is started twice
        job = self._job
        if job is None:
            job = self._job = await self._background.start(self._ask)
        return await self._background.result(job)

    async def _ask(self) -> bool:
        try:
            await self._service.balance()
        except (AuthenticationFailed, OutOfCredit):
            return True
        except KlingError as error:
            logger.info("the key cannot be checked: %s", error)
        finally:
            self._job = None
        return False
