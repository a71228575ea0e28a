"""Finds uncertain submits again: POSTs whose answer was lost, in the service's usage log, by the id that they carried.

One paged read serves all that are looked for. What is not in the log yet may be listed later; it is looked for until it
would have ended. Nothing here submits.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable

from attrs import define, frozen

from kling_async.errors import KlingError
from kling_async.flow.background import Background, Job
from kling_async.flow.service import Service
from kling_async.ports import Clock
from kling_async.rules.account import LogEntry

logger = logging.getLogger(__name__)

SKEW = 900.0
"""Seconds that are read to either side of a POST: clocks differ."""

_MAX_PAGES = 200
"""Pages of one read; the log takes 200 requests a minute."""
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0
"""Seconds between two reads; they grow."""


class Finding(enum.Enum):
    """What the log says of a lost POST."""

    BOUGHT = "bought"
    """It made a generation."""
    NOT_BOUGHT = "not bought"
    """It failed, and cost nothing."""
    NOT_LISTED = "not listed"
    """The log was read, and does not know it so far."""
    NOT_ASKED = "not asked"
    """The log could not be read."""


@frozen
class Found:
    """The result of a look into the log."""

    finding: Finding
    """What it says."""
    generation_id: str | None = None
    """The generation, if one was bought."""


@define
class _Search:
    earliest: float
    latest: float
    future: asyncio.Future[Found]
    reads: int = 0

    def so_far(self) -> Found:
        if self.future.done():
            return self.future.result()
        return Found(Finding.NOT_LISTED if self.reads else Finding.NOT_ASKED)


class Reconciler:
    """Looks for lost POSTs.

    Args:
        service: The service.
        background: Where the reading lives.
        clock: The wall's clock: the log is asked by it.
        heard: Is told of each read: None for a usable answer, else the error.
    """

    def __init__(
        self,
        service: Service,
        background: Background,
        clock: Clock,
        *,
        heard: Callable[[KlingError | None], None] = lambda _error: None,
    ) -> None:
        self._service = service
        self._background = background
        self._clock = clock
        self._heard = heard
        self._searches: dict[str, _Search] = {}
        self._reading: Job[None] | None = None
        self._new = asyncio.Event()

    async def find(self, client_request_id: str, *, sent_at: float, timeout: float, look_back: float = 0.0) -> Found:
        """Look for a POST until it is found, or for `timeout` seconds; at least once.

        Args:
            client_request_id: The id that the POST carried.
            sent_at: When it left, in wall-clock seconds.
            timeout: Seconds to look; 0 for one look.
            look_back: Seconds before `sent_at` at which it may have left, too.

        Raises:
            KlingError: Where one look was asked for: the log cannot be read.
        """
        search = self._searches.get(client_request_id)
        if search is None:
            search = _Search(sent_at - look_back, sent_at, asyncio.get_running_loop().create_future())
            self._searches[client_request_id] = search
        try:
            if timeout <= 0:
                await self._read_once()
                return search.so_far()
            await self._start()
            async with asyncio.timeout(timeout):
                return await self._background.until(search.future)
        except TimeoutError:
            return search.so_far()
        finally:
            if self._searches.get(client_request_id) is search:
                del self._searches[client_request_id]

    async def _start(self) -> None:
        self._new.set()
        if self._reading is None:
            self._reading = await self._background.start(self._read_on)

    async def _read_on(self) -> None:
        wait = _FIRST_WAIT
        try:
            while True:
                if not self._searches:
                    self._new.clear()
                    await self._new.wait()
                    wait = _FIRST_WAIT
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT, wait * 1.6)
                try:
                    await self._read_once()
                except KlingError as error:
                    logger.info("the usage log cannot be read: %s; trying again", error)
        finally:
            for search in self._searches.values():
                search.future.cancel()

    async def _read_once(self) -> None:
        """Read the log around all that are looked for, newest first, until all are found or the pages end."""
        searches = [search for search in self._searches.values() if not search.future.done()]
        if not searches:
            return
        start = min(search.earliest for search in searches) - SKEW
        end = max(search.latest for search in searches) + SKEW
        offset = 0
        for _ in range(_MAX_PAGES):
            try:
                page = await self._service.log_page(start, end, offset=offset)
            except KlingError as error:
                self._heard(error)
                raise
            self._heard(None)
            for entry in page.entries:
                self._match(entry)
            offset += page.size
            if not page.has_more or not page.size or all(search.future.done() for search in searches):
                break
        for search in searches:
            search.reads += 1

    def _match(self, entry: LogEntry) -> None:
        search = self._searches.get(entry.client_request_id)
        if search is None or search.future.done():
            return
        if entry.failed:
            search.future.set_result(Found(Finding.NOT_BOUGHT))
        elif entry.generation_id is not None:
            search.future.set_result(Found(Finding.BOUGHT, entry.generation_id))
