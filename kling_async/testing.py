"""Doors for the tests of those who use this package: a journal and a store in memory, a scripted transport.

They keep the contracts of `kling_async.ports`, held to them by the same suites as the real ones; nothing in them waits.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import define, evolve, field

from kling_async.errors import BudgetExceeded, JournalError, KlingError, NotSent, RequestChanged
from kling_async.rules.lifecycle import PAID_FOR
from kling_async.rules.naming import collision_key, distinct_stem
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.outcome import Tally
from kling_async.types.record import Record, Stage

_SPENT = (Stage.RENDERED, Stage.DONE)
_HELD = (Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED)
_UNFINISHED = (Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED)


def _is_original(record: Record) -> bool:
    bought = record.generation_id is not None and record.stage in {Stage.SUBMITTED, Stage.RENDERED, Stage.DONE}
    return bought or record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}


class MemoryJournal:
    """A journal that is gone with the process. Keeps the contract of `kling_async.ports.Journal` but for durability."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._numbers: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._ended: dict[str, int] = {}
        self._notes: dict[str, str] = {}

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def aclose(self) -> None:
        """Nothing is to be closed."""

    async def enrol(self, planned: Sequence[Record]) -> list[Record | KlingError]:
        """Take rows in, and return each as the journal knows it, in order."""
        return [self._enrol_one(record) for record in planned]

    def _enrol_one(self, record: Record) -> Record | KlingError:
        known = self._records.get(record.key)
        if known is None:
            return self._enter(record)
        if known.written == record.written:
            self._records[record.key] = evolve(known, request=record.request)
            return self._records[record.key]
        if known.stage in PAID_FOR:
            return RequestChanged(
                f"row {record.key!r} was edited after money stood behind it (it is {known.stage})",
                key=record.key,
                generation_id=known.generation_id,
            )
        fresh = evolve(record, name=known.name, attempt=known.attempt, client_request_id=known.client_request_id)
        self._records[record.key] = evolve(fresh, sent_at=known.sent_at, sent_with=known.sent_with)
        return self._records[record.key]

    def _enter(self, record: Record) -> Record:
        if collision_key(record.name.removesuffix(".mp4")) in self._names:
            record = evolve(record, name=f"{distinct_stem(record.key)}.mp4")
        self._names[collision_key(record.name.removesuffix(".mp4"))] = record.key
        self._numbers[record.key] = len(self._numbers) + 1
        self._records[record.key] = record
        return record

    async def save(self, record: Record) -> None:
        """Write a record's new state."""
        if record.key not in self._records:
            raise JournalError(f"row {record.key!r} is not in the journal")
        if record.generation_id is not None and any(
            other.generation_id == record.generation_id and other.key != record.key for other in self._records.values()
        ):
            raise JournalError(
                f"row {record.key!r}: generation {record.generation_id} belongs to another row already",
                generation_id=record.generation_id,
            )
        self._records[record.key] = record
        if record.stage is Stage.DONE:
            self._ended.setdefault(record.key, len(self._ended) + 1)

    async def intend(self, record: Record, *, ceiling: int | None) -> str | None:
        """Write a SUBMITTING record, unless its content is bought already or it would pass the ceiling."""
        for other in self._records.values():
            if other.content == record.content and other.key != record.key and _is_original(other):
                return other.key
        taken = sum(found.credits or 0 for found in self._records.values() if found.stage is not Stage.FAILED)
        if ceiling is not None and taken + (record.credits or 0) > ceiling:
            raise BudgetExceeded("the next video would pass the budget")
        known = self._records.get(record.key)
        if known is None or (known.stage, known.attempt, known.written) != (
            Stage.PLANNED,
            record.attempt - 1,
            record.written,
        ):
            raise JournalError(f"row {record.key!r} was submitted by somebody else meanwhile: nothing is bought")
        await self.save(record)
        return None

    async def get(self, key: str) -> Record | None:
        """Return one row."""
        return self._records.get(key)

    async def unfinished(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that money stands behind and that are not DONE."""
        return self._page(after, limit, lambda record: record.stage in _UNFINISHED)

    async def failed(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next FAILED rows."""
        return self._page(after, limit, lambda record: record.stage is Stage.FAILED)

    async def rows(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows of any stage."""
        return self._page(after, limit, lambda _record: True)

    def _page(self, after: int, limit: int, wanted: Callable[[Record], bool]) -> list[tuple[int, Record]]:
        rows = ((self._numbers[key], record) for key, record in self._records.items() if wanted(record))
        return [row for row in rows if row[0] > after][:limit]

    async def done_since(self, order: int, *, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that became DONE, in the order of their ends."""
        rows = [(number, self._records[key]) for key, number in self._ended.items() if number > order]
        return rows[:limit]

    async def tally(self) -> Tally:
        """Return the rows by stage, and their money."""
        records = self._records.values()
        counts = {str(stage): sum(record.stage is stage for record in records) for stage in Stage}
        return Tally(
            **counts,
            spent=sum(record.credits or 0 for record in records if record.stage in _SPENT),
            held=sum(record.credits or 0 for record in records if record.stage in _HELD),
            bytes=sum(record.size or 0 for record in records if record.stage is Stage.DONE),
            shared=sum(record.shares is not None for record in records if record.stage is Stage.DONE),
        )

    async def note(self, name: str, value: str | None = None) -> str | None:
        """Remember a fact about the job, or (without a value) return it."""
        if value is not None:
            self._notes[name] = value
        return self._notes.get(name)


@define
class MemoryStagedVideo:
    """A video on its way into a `MemoryStore`."""

    _name: str
    _store: MemoryStore
    _content: bytearray = field(factory=bytearray)
    size: int = field(default=0, init=False)
    """Bytes written so far."""

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append."""
        self._content += b"".join(pieces)
        self.size = len(self._content)

    async def restart(self) -> None:
        """Throw away what was written, and begin again."""
        self._content.clear()
        self.size = 0

    async def commit(self) -> Path:
        """Give the bytes their final name."""
        self._store.videos[self._name] = bytes(self._content)
        return self._store.path(self._name)


class MemoryStore:
    """Videos in memory. Keeps the contract of `kling_async.ports.VideoStore` but for durability."""

    def __init__(self) -> None:
        self.videos: dict[str, bytes] = {}
        """The whole videos by their names."""

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[MemoryStagedVideo]:
        """Begin a video."""
        yield MemoryStagedVideo(name, self)

    async def holds(self, name: str, *, size: int, sha256: str) -> bool:
        """Tell whether a video with that digest stands under the name."""
        content = self.videos.get(name)
        return content is not None and len(content) == size and hashlib.sha256(content).hexdigest() == sha256

    async def link(self, name: str, other: str) -> bool:
        """Give a video another name, too; tell whether it was there."""
        if name in self.videos:
            self.videos[other] = self.videos[name]
        return name in self.videos

    def path(self, name: str) -> Path:
        """Return a path that stands for the name; no file is there."""
        return Path("memory", name)

    async def clean(self) -> int:
        """Nothing is ever left behind."""
        return 0

    async def aclose(self) -> None:
        """Nothing is to be closed."""


@define
class ScriptedDownload:
    """A file host's answer that is already here."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str]
    """Headers, their names in lower case."""
    content: Sequence[bytes | KlingError]
    """The body's pieces; an error is raised where it stands."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        for piece in self.content:
            if isinstance(piece, KlingError):
                raise piece
            yield piece


class ScriptedTransport:
    """Answers calls from a script and keeps what was sent. Keeps the contract of `kling_async.ports.Transport`.

    Args:
        replies: What each call of the service gets, in order; an error is raised.
        downloads: What each request to a file host gets, in order; an error is raised.
    """

    def __init__(
        self, replies: Iterable[HttpReply | KlingError] = (), downloads: Iterable[ScriptedDownload | KlingError] = ()
    ) -> None:
        self._replies = iter(replies)
        self._downloads = iter(downloads)
        self.calls: list[HttpCall] = []
        """The calls of the service, in order."""
        self.fetched: list[tuple[str, Mapping[str, str]]] = []
        """The URLs and headers of the file host's requests, in order."""

    async def send(self, call: HttpCall) -> HttpReply:
        """Answer with the next reply of the script."""
        self.calls.append(call)
        reply = next(self._replies, NotSent("the script has no more replies"))
        if isinstance(reply, KlingError):
            raise reply
        return reply

    @asynccontextmanager
    async def fetch(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        stall_after: float,  # noqa: ARG002  # nothing stalls here
    ) -> AsyncIterator[ScriptedDownload]:
        """Open the next download of the script."""
        self.fetched.append((url, headers))
        download = next(self._downloads, NotSent("the script has no more downloads"))
        if isinstance(download, KlingError):
            raise download
        yield download

    async def aclose(self) -> None:
        """Nothing is to be closed."""
