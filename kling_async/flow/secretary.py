"""Keeps the result files a view of the journal: metadata as rows become DONE, failures at the start and at the end.

The journal is the truth and remembers how far the metadata reach; whatever a crash left is made good from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from kling_async.errors import KlingError
from kling_async.logs import get_logger
from kling_async.ports import Journal, Results, VideoStore
from kling_async.types.record import Record

logger = get_logger(__name__)

_POSITION: Final = "metadata_position"
_PAGE: Final = 256
_GATHERED: Final = 0.5
"""Seconds for which rows that become DONE are gathered: to read, to write and to note them costs as much for one as for
many."""


class Secretary:
    """Writes down what the journal says.

    Args:
        journal: The truth.
        results: The files.
        store: Knows where videos lie.
    """

    def __init__(self, journal: Journal, results: Results, store: VideoStore) -> None:
        self._journal = journal
        self._results = results
        self._store = store
        self._order = 0
        self._wake = asyncio.Event()

    def changed(self, _before: Record, after: Record) -> None:
        """Hear of a saved change (an `Observer`)."""
        if after.stage == "done":
            self._wake.set()

    async def open(self) -> None:
        """Bring the files into agreement with the journal."""
        self._order = await self._results.resume(await self._journal.note(_POSITION))
        await self._catch_up()
        await self._write_failures()

    async def keep(self) -> None:
        """Add lines as rows become DONE, soon after that and some at a time, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHERED)
            self._wake.clear()
            try:
                await self._catch_up()
            except KlingError as error:
                # The journal knows what is missing here: it is made good with the next row, or at the next start.
                logger.warning("the metadata cannot be written: %s", error)

    async def close(self) -> None:
        """Write what is missing, and the failures as they stand; what cannot be is made good at the next start."""
        try:
            await self._catch_up()
            await self._write_failures()
        except KlingError as error:
            logger.warning("the results cannot be written: %s", error)

    async def forget(self) -> None:
        """Note that the metadata are true no more, before a row changes that stands in them: they are written anew."""
        await self._journal.note(_POSITION, "")

    async def renew(self) -> None:
        """Write all of it anew; what cannot be is made good at the next start."""
        try:
            await self.open()
        except KlingError as error:
            logger.warning("the results cannot be written: %s", error)

    async def _catch_up(self) -> None:
        position, more = None, True
        while more and (page := await self._journal.done_since(self._order, limit=_PAGE)):
            position = await self._results.add(
                [(order, record, self._store.path(record.name)) for order, record in page]
            )
            self._order, more = page[-1][0], len(page) == _PAGE
        if position is not None:
            await self._journal.note(_POSITION, position)

    async def _write_failures(self) -> None:
        await self._results.write_failures(self._failures())

    async def _failures(self) -> AsyncIterator[list[Record]]:
        for read in (self._journal.again, self._journal.unfinished):
            after = 0
            while page := await read(after=after, limit=_PAGE):
                after = page[-1][0]
                yield [record for _, record in page if _has_no_video(record)]


def _has_no_video(record: Record) -> bool:
    """Tell whether a row has ended without a video, for now or for good."""
    return record.stage == "failed" or record.set_aside or record.waits
