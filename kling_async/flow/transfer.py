"""The bytes of one video on their way: gathered to blocks, and each written and walked while the next one comes in.

It judges an answer by its head and the whole by its boxes. Whether to try again is the downloader's affair. It must
never hold more than two blocks of a video, nor count a byte that is not written.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from kling_async.errors import (
    AnswerLost,
    DownloadError,
    KlingError,
    LinkExpired,
    NotAVideo,
    ServerTrouble,
    TooLarge,
    Truncated,
)
from kling_async.ports import Download, StagedVideo
from kling_async.rules.mp4 import BoxWalk
from kling_async.types.record import Verified

BLOCK: Final = 1024 * 1024
"""Bytes gathered before they are written."""

_Append: TypeAlias = Callable[[Sequence[bytes], int], Awaitable[None]]
"""Appends a block: its pieces, and how many bytes they are."""

_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)")
_STRONG: Final = re.compile(r"(?!W/)[!-~]+")
"""A mark that stands for the very bytes, and can be sent back."""


class Transfer:
    """The bytes of one video on their way: counted and walked as soon as they are written."""

    def __init__(self, staged: StagedVideo, max_bytes: int) -> None:
        self._staged = staged
        self._max_bytes = max_bytes
        self._expected: int | None = None
        self._etag: str | None = None
        self._begin()

    def _begin(self) -> None:
        self.got = 0
        self._walk = BoxWalk()

    async def restart(self) -> None:
        """Throw away what came."""
        self._begin()
        self._expected = self._etag = None
        await self._staged.restart()

    def range_headers(self) -> Mapping[str, str]:
        """Ask for the rest, if the host told by what to know that it is the same file."""
        if not self.got or self._etag is None:
            return {}
        return {"Range": f"bytes={self.got}-", "If-Range": self._etag}

    async def take(self, download: Download) -> None:
        """Take an answer's bytes, from where they begin.

        What came before a cut is kept: the next try goes on from there.

        Raises:
            LinkExpired: The host refuses the link.
            ServerTrouble: It is in trouble.
            AnswerLost: It broke off.
            Truncated: Fewer or more bytes came than were announced, or it gave another status.
            NotAVideo: It is no MP4.
            DownloadError: It is too large (`TooLarge`), or the disk refused it (also `DiskFull`).
        """
        await self._place(download)
        failed: Exception | None = None
        async with anyio.create_task_group() as group:
            blocks = _Appender(self._append, group)
            failed = await _receive(download, blocks)
        failed = blocks.refused or failed
        if failed is not None:
            raise failed
        if self._expected is not None and self.got != self._expected:
            raise Truncated(
                f"{self.got} bytes came, {self._expected} were announced", expected=self._expected, got=self.got
            )

    async def _place(self, download: Download) -> None:
        """Judge the answer's head; begin again where it is not the rest of what is here."""
        if download.status == 206 and self._continues(download.headers):
            return
        if download.status != 200:
            if self.got and download.status in {206, 416}:
                await self.restart()
            raise error_of_status(download.status)
        if self.got:
            await self.restart()
        self._expected = _length(download.headers)
        etag = download.headers.get("etag", "")
        # Where the bytes come packed, a place among them is none in the file.
        resumable = _STRONG.fullmatch(etag) and "content-encoding" not in download.headers
        self._etag = etag if resumable else None
        if self._expected is not None and self._expected > self._max_bytes:
            raise TooLarge(f"the file has {self._expected} bytes; at most {self._max_bytes} are taken")

    def _continues(self, headers: Mapping[str, str]) -> bool:
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or int(found[1]) != self.got or "content-encoding" in headers:
            return False
        total = self._expected if found[2] == "*" else int(found[2])
        if self.got and (self._expected not in {None, total} or headers.get("etag", self._etag) != self._etag):
            return False  # of another file: the host does not heed what it was asked by
        self._expected = total
        return True

    async def _append(self, pieces: Sequence[bytes], gathered: int) -> None:
        if self.got + gathered > self._max_bytes:
            raise TooLarge(f"the file has more than {self._max_bytes} bytes")
        await self._staged.write(pieces)
        self.got += gathered
        try:
            for piece in pieces:
                self._walk.feed(piece)
        except NotAVideo:
            await self.restart()
            raise

    async def finish(self) -> Verified:
        """Judge the whole file; what is not whole is thrown away.

        Raises:
            Truncated: A box is not complete.
            NotAVideo: It is no MP4.
        """
        try:
            facts = self._walk.finish()
        except DownloadError:
            await self.restart()
            raise
        return Verified(self.got, self._staged.sha256(), facts.duration)


class _Appender:
    """Appends one block while the next one comes in; where that is full, too, who gives it waits.

    Args:
        append: Appends a block of so many bytes.
        group: The task group of the download. A block that is refused ends it, the receiving too.
    """

    def __init__(self, append: _Append, group: TaskGroup) -> None:
        self._append = append
        self._group = group
        self._turn = asyncio.Semaphore(1)
        self.refused: Exception | None = None
        """Why a block was refused; no further one is appended."""

    async def begin(self, pieces: Sequence[bytes], gathered: int) -> None:
        """Begin to append a block, as soon as the one before is appended."""
        await self._turn.acquire()
        self._group.start_soon(self._appended, pieces, gathered)

    async def finish(self, pieces: Sequence[bytes], gathered: int) -> None:
        """Append the last block, without a task: nothing comes in meanwhile."""
        await self._turn.acquire()
        await self._appended(pieces, gathered)

    async def _appended(self, pieces: Sequence[bytes], gathered: int) -> None:
        try:
            await self._append(pieces, gathered)
        except Exception as error:  # noqa: BLE001  # told as it is, not as one of a group
            self.refused = error
            self._group.cancel_scope.cancel()
        else:
            self._turn.release()


async def _receive(download: Download, blocks: _Appender) -> Exception | None:
    """Gather what comes to blocks; return what ended it too early."""
    pieces: list[bytes] = []
    gathered, lost = 0, None
    try:
        async for piece in download.pieces():
            pieces.append(piece)
            gathered += len(piece)
            if gathered >= BLOCK:
                block, pieces, gathered = (pieces, gathered), [], 0
                await blocks.begin(*block)
    except AnswerLost as error:
        lost = error
    except Exception as error:  # noqa: BLE001  # told as it is, not as one of a group
        return error
    if pieces:
        await blocks.finish(pieces, gathered)
    return lost


def error_of_status(status: int) -> KlingError:
    """Return the error that a file host's answer stands for."""
    if status in {401, 403, 404, 410}:
        return LinkExpired(f"the file host refuses the link (HTTP {status}): a fresh one is needed")
    if status >= 500 or status in {408, 425, 429}:
        return ServerTrouble("the file host is in trouble", status=status)
    return Truncated(f"the file host answered HTTP {status}")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and "content-encoding" not in headers else None
