"""The pages of the usage log, one after the other: paced, and asked for again where one fails.

The log is answered 200 times within 60 s, whoever asks with the key. Nothing here knows what is looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kling_async.errors import KlingError, RateLimited
from kling_async.flow.service import Service
from kling_async.rules.account import LogPage
from kling_async.rules.retry import named_pause

PAGE_GAP: Final = 0.35
"""Seconds from one page to the next: some 170 within 60 s, since others may read the log, too."""

_TRIES: Final = 4
"""Tries for one page before a read is given up."""
_PAUSE: Final = 1.0
"""Seconds after a page that failed; they grow."""
_FULL_TRIES: Final = 8
"""Tries for one page that the log refuses for being asked too often."""
_FULL_PAUSE: Final = 5.0
"""Seconds after such a refusal that names no pause; they double."""
_LONGEST_FULL_PAUSE: Final = 60.0
"""Seconds in which the log counts its calls."""


class LogPages:
    """Reads pages.

    Args:
        service: The service.
        heard: Is told of each answer: None for a usable one, else the error.
        retry_after_cap: Seconds of the longest pause that the service may ask for.
    """

    def __init__(self, service: Service, *, heard: Callable[[KlingError | None], None], retry_after_cap: float) -> None:
        self._service = service
        self._heard = heard
        self._cap = retry_after_cap
        self._next = 0.0

    async def read(self, start: float, end: float, *, offset: int) -> LogPage:
        """Read one page, not too soon after the last one; a failed one again, after the pause that it asks for.

        Args:
            start: Wall-clock seconds.
            end: Wall-clock seconds.
            offset: Rows to skip, the newest first.

        Raises:
            KlingError: It cannot be read, however often it was tried.
        """
        tries = full = 0
        while True:
            await self._turn()
            try:
                page = await self._service.log_page(start, end, offset=offset)
            except RateLimited as error:
                self._heard(None)
                full += 1
                if full >= _FULL_TRIES:
                    raise
                asked = named_pause(error, cap=self._cap)
                own = min(_LONGEST_FULL_PAUSE, _FULL_PAUSE * 2.0 ** (full - 1))
                await asyncio.sleep(own if asked is None else asked)
            except KlingError as error:
                self._heard(error)
                tries += 1
                if tries >= _TRIES:
                    raise
                await asyncio.sleep(_PAUSE * tries)
            else:
                self._heard(None)
                return page

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self._next - loop.time()
        self._next = max(self._next, loop.time()) + PAGE_GAP
        if wait > 0:
            await asyncio.sleep(wait)
