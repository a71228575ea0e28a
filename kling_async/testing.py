"""Doors for the tests of those who use this package: a journal and a store in memory, a scripted transport.

They keep the contracts of `kling_async.ports`, held to them by the same suites as the real ones; nothing in them waits.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import define, field

from kling_async.errors import KlingError, NotSent
from kling_async.memory import MemoryJournal
from kling_async.rules.reading import Reading
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.outcome import FileFacts

__all__ = ["MemoryJournal", "MemoryStagedVideo", "MemoryStore", "ScriptedDownload", "ScriptedTransport"]


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

    def sha256(self) -> str:
        """Return the digest of the bytes written so far, in hex."""
        return hashlib.sha256(self._content).hexdigest()

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

    async def examine(self, name: str) -> FileFacts | None:
        """Read a video through; None where there is none."""
        content = self.videos.get(name)
        if content is None:
            return None
        reading = Reading()
        reading.feed(content)
        return reading.facts()

    async def names(self) -> AsyncIterator[Sequence[str]]:
        """Yield the names of all videos."""
        yield sorted(self.videos)

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
