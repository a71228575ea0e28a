"""Finds uncertain submits again: POSTs whose answer was lost, in the service's usage log, by the id that they carried.

One paged read serves all that are looked for. What is not in the log yet may be listed later; it is looked for until it
would have ended, and called unfound only after a whole read that began when that time was over. What is listed as
failed with a generation's id is called so only when a poll of that id agrees. Nothing here submits.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from attrs import define, frozen

from kling_async.errors import KlingError, NotFound, ProtocolViolation, RateLimited
from kling_async.flow.background import Background, Job
from kling_async.flow.log_pages import LogPages
from kling_async.flow.service import Service
from kling_async.logs import get_logger
from kling_async.rules.account import LOG_PAGE, LogEntry
from kling_async.types.generation import GenerationStatus

logger = get_logger(__name__)

SKEW = 900.0
"""Seconds that are read to either side of a POST: clocks differ."""

_MAX_PAGES = 1000
"""Pages of one read: 100,000 requests, read in six minutes where nothing fails."""
_POLL_PAUSES = 2.0, 5.0, 10.0
"""Seconds between polls of a generation that the log calls failed, while their answers tell nothing, or deny it."""
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


@frozen
class _Broken:
    """A read that broke off."""

    start: float
    end: float
    offset: int
    """Rows that were read. New ones push them on, so that none is missed from there."""
    searches: frozenset[str]
    """What was looked for; nothing else was."""


@define
class _Search:
    earliest: float
    latest: float
    future: asyncio.Future[Found]
    waiting: int = 0
    listed: bool = False
    over: bool = False
    """Whether its time is over: only a read that begins anew tells that it is not listed."""

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
        retry_after_cap: Seconds of the longest pause that the service may ask for.
    """

    def __init__(
        self,
        service: Service,
        background: Background,
        *,
        heard: Callable[[KlingError | None], None] = lambda _error: None,
        read: Callable[[], None] = lambda: None,
        retry_after_cap: float = 300.0,
    ) -> None:
        self._service = service
        self._background = background
        self._heard = heard
        self._read = read
        self._pages = LogPages(service, heard=heard, retry_after_cap=retry_after_cap)
        self._broken: _Broken | None = None
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
        return await self._checked(
            await self._look(client_request_id, sent_at=sent_at, timeout=timeout, look_back=look_back)
        )

    async def _look(self, client_request_id: str, *, sent_at: float, timeout: float, look_back: float) -> Found:
        await self._background.ready()  # where nothing waits between a look and a start, none is started twice
        search = self._searches.get(client_request_id)
        if search is None:
            search = _Search(sent_at - look_back, sent_at, asyncio.get_running_loop().create_future())
            self._searches[client_request_id] = search
        search.waiting += 1
        try:
            if timeout > 0 and await self._found_within(search, timeout):
                return search.future.result()
            search.over = True
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
        offset = self._reached(start, end, searches)
        for _ in range(_MAX_PAGES):
            try:
                page = await self._pages.read(start, end, offset=offset)
            except KlingError:
                names = frozenset(name for name, search in self._searches.items() if search in searches)
                self._broken = _Broken(start, end, offset, names)
                raise
            for entry in page.entries:
                self._match(entry)
            offset += page.size
            if not page.has_more or not page.size or all(search.future.done() for search in searches):
                return
        raise ProtocolViolation(f"the usage log has more than {_MAX_PAGES} pages around the moment")

    def _reached(self, start: float, end: float, searches: list[_Search]) -> int:
        """Return how many rows an earlier read of the same moments has read for all of these before it broke off."""
        broken, self._broken = self._broken, None
        if broken is None or (broken.start, broken.end) != (start, end) or any(search.over for search in searches):
            return 0
        known = [self._searches[name] for name in broken.searches if name in self._searches]
        return max(0, broken.offset - LOG_PAGE) if all(search in known for search in searches) else 0

    async def _checked(self, found: Found) -> Found:
        """Ask for a generation that the log lists as failed: polls are free, and the log may speak of the answer alone.

        It was bought unless polls say that it failed, or deny it each time: in doubt it is watched under its id.
        """
        if found.finding is not Finding.NOT_BOUGHT or found.generation_id is None:
            return found
        denied = 0
        for pause in (*_POLL_PAUSES, None):
            try:
                generation = await self._service.retrieve(found.generation_id)
            except KlingError as error:
                self._heard(None if isinstance(error, NotFound | RateLimited) else error)
                denied += isinstance(error, NotFound)
            else:
                self._heard(None)
                if generation.status is GenerationStatus.FAILED:
                    return Found(Finding.NOT_BOUGHT)
                if generation.status is not GenerationStatus.UNKNOWN:
                    break
            if pause is not None:
                await asyncio.sleep(pause)
        if denied > len(_POLL_PAUSES):
            return Found(Finding.NOT_BOUGHT)
        return Found(Finding.BOUGHT, found.generation_id)

    def _match(self, entry: LogEntry) -> None:
        search = self._searches.get(entry.client_request_id)
        if search is None or search.future.done():
            return
        if entry.failed:
            search.future.set_result(Found(Finding.NOT_BOUGHT, entry.generation_id))
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
