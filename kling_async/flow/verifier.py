"""Files against the journal: is the video of each row that is done there, whole, and the one that came?

What is missing or damaged is asked for by its generation's id, and fetched again: a poll costs nothing. What stands
under a name gives way to a verified file alone. This room must never buy, and never ask anybody to: where a generation
is not to be had any more, its row stays done, and its file is told as bad.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from attrs import evolve

from kling_async.errors import AuthenticationFailed, DownloadError, GenerationOverdue, JournalError, KlingError
from kling_async.flow.crew import GUARD, Crew, Scribe, generation_id_of
from kling_async.flow.downloader import Parcel
from kling_async.flow.secretary import Secretary
from kling_async.logs import about, get_logger
from kling_async.ports import Journal
from kling_async.rules.reading import fault_of
from kling_async.types.generation import RemoteVideo
from kling_async.types.outcome import FileFault, Finding, VerifyReport
from kling_async.types.record import Record, Refetched, Verified

logger = get_logger(__name__)

Told: TypeAlias = Callable[[Finding], object]
"""Is told what was found of each row."""

_PAGE: Final = 64
"""Rows that are read from the journal at once."""
_AT_ONCE: Final = 32
"""Rows that are looked at, or fetched, at once. How many files are read at once is the store's affair."""
_LONG_AGO: Final = 86_400.0
"""Seconds of age of a generation that ended long ago: it is asked for at once, and a 404 is believed."""
_PATIENCE: Final = 600.0
"""Seconds that a generation is asked for a link, while the service answers."""
_CLOSING: Final = 30.0
"""Seconds that the metadata may take to be written at the end; a disk that hangs must not keep a cancelled run."""
_AS_IT_CAME: Final = frozenset({FileFault.BROKEN, FileFault.UNDECODABLE})
"""Faults of a file that has the very bytes that came: to fetch it again would bring the same."""


async def ends(journal: Journal) -> AsyncIterator[Record]:
    """Yield the rows that are done, in the order of their ends, a page in memory at a time."""
    order = 0
    while page := await journal.done_since(order, limit=_PAGE):
        for order, record in page:  # noqa: B007  # the last number is where the next page begins
            yield record


class Verifier:
    """Holds the files of a folder against its journal, once.

    Args:
        crew: Those who read, ask and fetch.
        scribe: Saves each change.
        secretary: Keeps the metadata.
        deep: Whether to decode every frame, too.
        told: Is told what was found of each row.
    """

    def __init__(self, crew: Crew, scribe: Scribe, secretary: Secretary, *, deep: bool, told: Told) -> None:
        self._crew = crew
        self._scribe = scribe
        self._secretary = secretary
        self._deep = deep
        self._told = told
        self._unasked = ""
        self._stopped: KlingError | None = None
        self._shut = asyncio.Event()
        self._changed = False
        self._counts: Counter[str] = Counter()

    async def run(self, out: Path, *, unasked: str = "") -> VerifyReport:
        """Look at the file of each row that is done.

        Args:
            out: The folder.
            unasked: Why nothing is fetched; empty where it is.

        Raises:
            ConfigurationError: There is nothing to decode with, or the results cannot be written.
            JournalError: The journal cannot be read or written.
        """
        began = asyncio.get_running_loop().time()
        self._unasked = unasked
        if self._deep:
            await self._crew.decoder.check()
        self._crew.gate.begin()
        await self._secretary.open()
        try:
            async with anyio.create_task_group() as around:
                around.start_soon(self._guard)
                await self._look()
                around.cancel_scope.cancel()
        finally:
            if self._changed:
                with anyio.move_on_after(_CLOSING, shield=True):
                    await self._secretary.renew()
        counts, strays = self._counts, await self._strays()
        return VerifyReport(
            out,
            checked=counts["checked"],
            whole=counts["whole"],
            fetched=counts["fetched"],
            bad=counts["bad"],
            strays=strays,
            bytes=counts["bytes"],
            seconds=asyncio.get_running_loop().time() - began,
            stopped=self._stopped,
        )

    async def _look(self) -> None:
        send, receive = anyio.create_memory_object_stream[Record](0)
        async with anyio.create_task_group() as group:
            with receive:
                for _ in range(_AT_ONCE):
                    group.start_soon(self._work, receive.clone())
            with send:
                async for record in ends(self._crew.journal):
                    await send.send(record)

    async def _work(self, records: MemoryObjectReceiveStream[Record]) -> None:
        with records:
            async for record in records:
                about(record.key, record.generation_id or record.shares)
                finding = await self._examine(record)
                if finding.fault is not None:
                    finding = await self._mend(record, finding)
                self._count(finding)
                self._told(finding)

    def _count(self, finding: Finding) -> None:
        end = "bad" if finding.bad else "fetched" if finding.fetched else "whole"
        self._counts.update({"checked": 1, end: 1, "bytes": finding.size})

    async def _strays(self) -> int:
        """Count the files that no row names."""
        strays = 0
        async for names in self._crew.store.names():
            strays += len(names) - len(await self._crew.journal.named(names))
        return strays

    # ------------------------------------------------------------------ one file

    async def _examine(self, record: Record) -> Finding:
        """Read a row's file, and tell what is wrong with it."""
        path = self._crew.store.path(record.name)
        finding = Finding(record.key, path, generation_id=record.generation_id or record.shares)
        try:
            facts = await self._crew.store.examine(record.name)
        except DownloadError as error:
            return evolve(finding, fault=FileFault.UNREADABLE, reason=str(error))
        finding = evolve(finding, size=0 if facts is None else facts.size)
        fault = fault_of(record, facts)
        if fault is None and self._deep and (damage := await self._crew.decoder.fault(path)):
            fault = FileFault.UNDECODABLE, damage
        return finding if fault is None else evolve(finding, fault=fault[0], reason=fault[1])

    async def _mend(self, record: Record, finding: Finding) -> Finding:
        """Fetch a file again, if its generation is still to be had; tell what came of it."""
        if finding.fault in _AS_IT_CAME:
            return evolve(finding, unmended="it is as it came; delete it to have it fetched anew")
        if self._unasked:
            return evolve(finding, unmended=self._unasked)
        refused = await self._unless_stopped(partial(self._fetch, record))
        if refused:
            return evolve(finding, unmended=refused)
        damage = await self._crew.decoder.fault(finding.path) if self._deep else None
        return evolve(finding, fetched=True, unmended=f"it was fetched again, and {damage}" if damage else "")

    async def _fetch(self, record: Record) -> str:
        """Fetch a row's video; return why that cannot be, empty where it could."""
        source = evolve(record, generation_id=record.generation_id or record.shares)
        if source.generation_id is None:
            return "the journal names no generation of it"
        link = partial(self._link, source)
        try:
            parcel = Parcel(
                record.name,
                await link(),
                generation_id_of(source),
                fresh_link=link,
                verified=partial(self._verified, record),
            )
            await self._crew.downloader.fetch(parcel)
        except JournalError:
            raise
        except AuthenticationFailed as error:
            self._stop(error)
            return str(error)
        except KlingError as error:
            return str(error)
        return ""

    async def _verified(self, record: Record, file: Verified) -> None:
        """Save what is known of a whole file before it gets its name, where the journal knows another."""
        if (file.size, file.sha256) == (record.size, record.sha256):
            return
        logger.warning("%s: the service gives other bytes by now: they are kept", record.key)
        self._changed = True
        await self._secretary.forget()
        await self._scribe.move(record, Refetched(file.size, file.sha256, file.seconds))

    async def _link(self, record: Record) -> RemoteVideo:
        """Ask the service for a link, for as long as it gives no usable answer to anybody, or refuses one."""
        age = max(self._scribe.age(record), _LONG_AGO)
        while True:
            try:
                generation = await self._crew.poller.watch(generation_id_of(record), age=age, timeout=_PATIENCE)
            except GenerationOverdue as error:
                silence = self._crew.gate.silence()
                if silence is None:
                    raise
                logger.warning("no usable answer from the service for %.0f s: %s; asking on", silence[0], error)
                continue
            if generation.video is None:
                raise GenerationOverdue("the service gives no link", generation_id=record.generation_id)
            return generation.video

    # ------------------------------------------------------------- when to give up

    async def _unless_stopped(self, fetch: Callable[[], Awaitable[str]]) -> str:
        """Fetch, and leave that when no more is to be had of the service; the files are looked at all the same."""
        if self._stopped is not None:
            return str(self._stopped)
        refused = None
        async with anyio.create_task_group() as race:

            async def leave() -> None:
                await self._shut.wait()
                race.cancel_scope.cancel()

            race.start_soon(leave)
            refused = await fetch()
            race.cancel_scope.cancel()
        return str(self._stopped) if refused is None else refused

    async def _guard(self) -> None:
        limit = self._crew.settings.admission.unavailable_after
        while self._stopped is None:
            await asyncio.sleep(min(GUARD, limit))
            error = self._crew.gate.outage(limit)
            if error is not None:
                self._stop(error)

    def _stop(self, error: KlingError) -> None:
        if self._stopped is None:
            self._stopped = error
        self._shut.set()
