"""The threads of one door: its blocking work goes there, by executor calls of the running loop.

Each door has threads of its own, so that none can starve another; the loop's default ones are left to the resolver.
Nothing here may keep a thread for itself or hand work over by a queue of its own: under virtual time both fail.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import anyio

from kling_async.adapters.disk import describe, is_out_of_files
from kling_async.logs import get_logger

T = TypeVar("T")

_CORES: Final = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
WORKERS: Final = min(4, max(2, _CORES))
"""Threads of a door whose work is to digest or to encode as much as to wait for the disk. More of them than there are
cores only take turns; with two, one may wait while the other computes; more than four were slower."""

logger = get_logger(__name__)

_FILES_AGAIN: Final = 1.0
"""Seconds until a file is opened again that could not be, since too many are."""


class Threads:
    """The threads of one door; none runs before there is work.

    Args:
        name: What they are called, for a debugger.
        count: How many at the most.
    """

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._told = False

    async def ask(self, work: Callable[[], T]) -> T:
        """Do work that changes nothing; a caller that is cancelled leaves at once."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def read(self, work: Callable[[], T]) -> T:
        """Do work that opens files and changes nothing, as soon as they can be opened.

        Where too many are open for another one, that is no fault of the file's: it is told once, and tried again.

        Raises:
            OSError: The work raised it, for any other reason.
        """
        while True:
            try:
                return await self.ask(work)
            except OSError as error:
                if not is_out_of_files(error):
                    raise
                self._tell(error)
            await asyncio.sleep(_FILES_AGAIN)

    def _tell(self, error: OSError) -> None:
        level = logging.INFO if self._told else logging.WARNING
        logger.log(level, "%s cannot be read (%s): it is tried again", error.filename, describe(error))
        self._told = True

    async def finish(self, work: Callable[[], T]) -> T:
        """Do work that changes something: once called it is done, and a caller that is cancelled waits for its end.

        Only a second cancellation leaves before. Even then the work is done.
        """
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                await asyncio.wait({future})
                raise
        return future.result()

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do work that nobody waits for now; its end, or its error, is in the future."""
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Take no more work; what is under way ends by itself."""
        self._executor.shutdown(wait=False)
