"""Finds uncertain submits again: POSTs whose answer was lost, in the service's usage log, by the id that they carried.

One paged read serves all that are looked for. What is not in the log yet may be listed later; it is looked for until it
would have ended, and called unfound only after a whole read that began when that time was over. Nothing here submits.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable

from attrs import define, frozen

from kling_async.errors import KlingError, ProtocolViolation
from kling_async.flow.background import Background, Job
from kling_async.flow.service import Service
from kling_async.rules.account import LogEntry, LogPage

logger = logging.getLogger(__name__)

SKEW = 900.0
"""Seconds that are read to either side of a POST: clocks differ."""

_MAX_PAGES = 1000
"""Pages of one read."""
_PAGE_TRIES = 4
"""Tries for one page before a read is given up."""
_PAGE_PAUSE = 1.0
"""Seconds after a page that failed; the log takes 200 requests a minute."""
_GATHER = 0.1
"""Seconds that a read waits for others who want one, too."""
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0
"""Seconds between two reads; they grow."""


class Finding(enum.Enum):
    """What the log says of a lost POST."""

    BOUGHT = "bought"
    """It made a generation."""
    NOT_BOUGHT = "not bought"
    """It failed, and cost nothing."""
    NOT_LISTED = "not listed"
    """The whole log was read when the time was over, and does not know it."""
    NOT_ASKED = "not asked"
    """The log could not be read when the time was over, or lists it without an id."""


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
    waiting: int = 0
    listed: bool = False

    def so_far(self) -> Found:
        """Return what is known when the time is over and the whole log was read."""
        if self.future.done():
            return self.future.result()
        return Found(Finding.NOT_ASKED if self.listed else Finding.NOT_LISTED)


class Reconciler:
    """Looks for lost POSTs.

    Args:
        service: The service.
        background: Where the reading lives.
        heard: Is told of each answer: None for a usable one, else the error.
        read: Is told of each whole read of the log.
    """

    def __init__(
        self,
        service: Service,
        background: Background,
        *,
        heard: Callable[[KlingError | None], None] = lambda _error: None,
        read: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._background = background
        self._heard = heard
        self._read = read
        self._searches: dict[str, _Search] = {}
        self._reading: Job[None] | None = None
        self._next_read: Job[None] | None = None
        self._new = asyncio.Event()

    async def find(self, client_request_id: str, *, sent_at: float, timeout: float, look_back: float = 0.0) -> Found:
        """Look for a POST until it is found, or for `timeout` seconds and a last whole read after them.

        Args:
            client_request_id: The id that the POST carried.
            sent_at: When it left, in wall-clock seconds.
            timeout: Seconds to look; 0 for one look.
            look_back: Seconds before `sent_at` at which it may have left, too.
        """
        await self._background.ready()  # where nothing waits between a look and a start, none is started twice
        search = self._searches.get(client_request_id)
        if search is None:
            search = _Search(sent_at - look_back, sent_at, asyncio.get_running_loop().create_future())
            self._searches[client_request_id] = search
        search.waiting += 1
        try:
            if timeout > 0 and await self._found_within(search, timeout):
                return search.future.result()
            try:
                await self._fresh_read()
            except KlingError as error:
                logger.info("the usage log cannot be read: %s", error)
                return search.future.result() if search.future.done() else Found(Finding.NOT_ASKED)
            return search.so_far()
        finally:
            search.waiting -= 1
            if not search.waiting and self._searches.get(client_request_id) is search:
                del self._searches[client_request_id]

    async def _found_within(self, search: _Search, seconds: float) -> bool:
        self._new.set()
        if self._reading is None:
            self._reading = await self._background.start(self._read_on)
        try:
            async with asyncio.timeout(seconds):
                await self._background.until(search.future)
        except TimeoutError:
            return False
        return True

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
                    await self._fresh_read()
                except KlingError as error:
                    logger.info("the usage log cannot be read: %s; trying again", error)
        finally:
            for search in self._searches.values():
                search.future.cancel()

    async def _fresh_read(self) -> None:
        """Wait for one whole read that begins after this call; all who want one at a time share it."""
        job = self._next_read
        if job is None:
            job = self._next_read = await self._background.start(self._read_soon)
        await self._background.result(job)

    async def _read_soon(self) -> None:
        await asyncio.sleep(_GATHER)
        self._next_read = None
        await self._read_whole()

    async def _read_whole(self) -> None:
        """Read the log around all that are looked for; those sent about the same time share one read."""
        searches = [search for search in self._searches.values() if not search.future.done()]
        for group in _groups(searches):
            await self._read_around(group)
        if searches:
            self._read()

    async def _read_around(self, searches: list[_Search]) -> None:
        """Read the log around some, newest first, until all are found or the pages end.

        Raises:
            KlingError: A page cannot be read, or the pages do not end: what was not found may still be there.
        """
        start = min(search.earliest for search in searches) - SKEW
        end = max(search.latest for search in searches) + SKEW
        offset = 0
        for _ in range(_MAX_PAGES):
            page = await self._page(start, end, offset)
            for entry in page.entries:
                self._match(entry)
            offset += page.size
            if not page.has_more or not page.size or all(search.future.done() for search in searches):
                return
        raise ProtocolViolation(f"the usage log has more than {_MAX_PAGES} pages around the moment")

    async def _page(self, start: float, end: float, offset: int) -> LogPage:
        """Read one page; a failed one is asked for again, so that a long log is not begun anew."""
        tries = 0
        while True:
            try:
                page = await self._service.log_page(start, end, offset=offset)
            except KlingError as error:
                self._heard(error)
                tries += 1
                if tries >= _PAGE_TRIES:
                    raise
                await asyncio.sleep(_PAGE_PAUSE * tries)
            else:
                self._heard(None)
                return page

    def _match(self, entry: LogEntry) -> None:
        search = self._searches.get(entry.client_request_id)
        if search is None or search.future.done():
            return
        if entry.failed:
            search.future.set_result(Found(Finding.NOT_BOUGHT))
        elif entry.generation_id is not None:
            search.future.set_result(Found(Finding.BOUGHT, entry.generation_id))
        else:
            # Listed, but not under which id: it may be bought, so it is never "not listed".
            search.listed = True


def _groups(searches: list[_Search]) -> list[list[_Search]]:
    """Put searches together whose times lie close: the days between two of them hold other people's requests."""
    groups: list[list[_Search]] = []
    for search in sorted(searches, key=lambda search: search.earliest):
        if groups and search.earliest - groups[-1][-1].latest < 4 * SKEW:
            groups[-1].append(search)
        else:
            groups.append([search])
    return groups
