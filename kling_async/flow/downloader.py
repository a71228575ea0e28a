"""One video to its place: whole, or not at all.

Streams into a temporary name, resumes after a cut, and gives the final name only to a file whose every box is there. A
link that is refused leads to a fresh link, a bounded number of times; nothing here ever leads to a new generation.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from attrs import frozen

from kling_async.errors import (
    AnswerLost,
    DiskFull,
    DownloadError,
    KlingError,
    LinkExpired,
    NotAVideo,
    NotSent,
    ServerTrouble,
    Truncated,
)
from kling_async.ports import Download, StagedVideo, Transport, VideoStore
from kling_async.rules.links import MAX_REDIRECTS, fault_of_link, redirected
from kling_async.rules.mp4 import BoxWalk
from kling_async.rules.retry import Operation, Verdict, backoff, decide
from kling_async.types.generation import RemoteVideo
from kling_async.types.outcome import VideoFile
from kling_async.types.record import Verified
from kling_async.types.settings import AdmissionSettings, DownloadSettings

logger = logging.getLogger(__name__)

BLOCK: Final = 1024 * 1024
"""Bytes gathered before they are written."""

_ROOM_AGAIN: Final = 15.0
"""Seconds between two looks whether a full disk has room again."""
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

FreshLink = Callable[[], Awaitable[RemoteVideo]]
OnVerified = Callable[[Verified], Awaitable[None]]


@frozen
class Parcel:
    """One video to fetch."""

    name: str
    """Where it shall lie, as the store names it."""
    video: RemoteVideo
    """Where it comes from."""
    generation_id: str
    """Whose it is."""
    fresh_link: FreshLink
    """Asks the service for another link."""
    verified: OnVerified
    """Is awaited before the file is given its name: the digest is durable first."""


class Downloader:
    """Fetches videos.

    Args:
        transport: The way to the file host.
        store: Where videos lie.
        settings: Limits.
        pauses: How long to pause under the file host's trouble, and for how long to try.
        dice: For the jitter.
        local_service: Whether the service itself is local; its links may then be, too.
        wait_for_room: Whether a full disk is waited for, or raised.
    """

    def __init__(
        self,
        transport: Transport,
        store: VideoStore,
        settings: DownloadSettings,
        *,
        pauses: AdmissionSettings,
        dice: random.Random,
        local_service: bool,
        wait_for_room: bool,
    ) -> None:
        self._transport = transport
        self._store = store
        self._settings = settings
        self._pauses = pauses
        self._dice = dice
        self._local_service = local_service
        self._wait_for_room = wait_for_room
        self._places = asyncio.Semaphore(settings.downloads_at_once)

    async def fetch(self, parcel: Parcel) -> VideoFile:
        """Bring one video to its place.

        Raises:
            DownloadError: It could not be fetched within the tries, or its links were refused.
        """
        async with self._places:
            while True:
                try:
                    return await self._fetch(parcel)
                except DownloadError as error:
                    error.generation_id = parcel.generation_id
                    if not isinstance(error, DiskFull) or not self._wait_for_room:
                        raise
                    logger.warning("%s; downloads go on when there is room", error)
                await asyncio.sleep(_ROOM_AGAIN)

    async def _fetch(self, parcel: Parcel) -> VideoFile:
        async with self._store.stage(parcel.name) as staged:
            transfer = _Transfer(staged, self._settings.max_video_bytes)
            verified = await self._persist(parcel, transfer)
            if parcel.video.file_size not in {None, verified.size}:
                logger.warning(
                    "%s has %d bytes, %d were announced: kept", parcel.name, verified.size, parcel.video.file_size
                )
            await parcel.verified(verified)
            path = await staged.commit()
        return VideoFile(path, verified.size, verified.sha256, parcel.generation_id, verified.seconds)

    async def _persist(self, parcel: Parcel, transfer: _Transfer) -> Verified:
        """Try until the file is whole: as often as there is progress, and a bounded number of times without."""
        loop = asyncio.get_running_loop()
        link, tries, progress, began = parcel.video, 0, 0, loop.time()
        while True:
            try:
                await self._transfer(link.url, transfer)
                return await transfer.finish()
            except KlingError as error:
                error.generation_id = parcel.generation_id
                verdict = decide(Operation.DOWNLOAD, error)
                if verdict not in {Verdict.AGAIN, Verdict.FRESH_LINK}:
                    raise
                if transfer.got > progress:
                    tries, began, progress = 0, loop.time(), transfer.got
                tries += 1
                patient = isinstance(error, NotSent | AnswerLost | ServerTrouble)
                waited = loop.time() - began
                if tries >= self._settings.download_attempts and not (
                    patient and waited < self._pauses.unavailable_after
                ):
                    raise self._as_download_error(error, parcel) from error
                logger.info("%s: %s; trying again", parcel.name, error)
                await asyncio.sleep(self._pause(tries))
            if verdict is Verdict.FRESH_LINK:
                link = await parcel.fresh_link()

    def _pause(self, tries: int) -> float:
        return backoff(tries, self._dice.random(), first=self._pauses.backoff_first, cap=self._pauses.backoff_cap)

    def _as_download_error(self, error: KlingError, parcel: Parcel) -> KlingError:
        if isinstance(error, DownloadError):
            return error
        return DownloadError(f"{parcel.name} could not be fetched: {error}", generation_id=parcel.generation_id)

    async def _transfer(self, url: str, transfer: _Transfer) -> None:
        """Open the link, follow its redirects by the rules, and take what comes."""
        for _ in range(MAX_REDIRECTS + 1):
            fault = fault_of_link(url, local_service=self._local_service)
            if fault:
                raise DownloadError(f"{fault}: it is not followed")
            async with self._transport.fetch(
                url, headers=transfer.range_headers(), stall_after=self._settings.stall_after
            ) as download:
                location = download.headers.get("location", "")
                if not (300 <= download.status < 400 and location):
                    await transfer.take(download)
                    return
                url = redirected(url, location)
        raise DownloadError(f"the file host redirects more than {MAX_REDIRECTS} times")


class _Transfer:
    """The bytes of one video on their way: counted, digested and walked as they pass."""

    def __init__(self, staged: StagedVideo, max_bytes: int) -> None:
        self._staged = staged
        self._max_bytes = max_bytes
        self._expected: int | None = None
        self._etag: str | None = None
        self._begin()

    def _begin(self) -> None:
        self.got = 0
        self._digest = hashlib.sha256()
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
        """Take an answer's bytes, from where they begin."""
        await self._place(download)
        pieces: list[bytes] = []
        gathered = 0
        try:
            async for piece in download.pieces():
                pieces.append(piece)
                gathered += len(piece)
                if gathered >= BLOCK:
                    block, size, pieces, gathered = pieces, gathered, [], 0
                    await self._append(block, size)
        except AnswerLost:
            # What came before the cut is kept: the next try goes on from there.
            await self._append(pieces, gathered)
            raise
        await self._append(pieces, gathered)
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
        self._etag = etag if etag and not etag.startswith("W/") else None
        if self._expected is not None and self._expected > self._max_bytes:
            raise NotAVideo(f"the file has {self._expected} bytes; at most {self._max_bytes} are taken")

    def _continues(self, headers: Mapping[str, str]) -> bool:
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or int(found[1]) != self.got:
            return False
        if found[2] != "*":
            self._expected = int(found[2])
        return True

    async def _append(self, pieces: list[bytes], gathered: int) -> None:
        if not pieces:
            return
        if self.got + gathered > self._max_bytes:
            raise NotAVideo(f"the file has more than {self._max_bytes} bytes")
        try:
            for piece in pieces:
                self._digest.update(piece)
                self._walk.feed(piece)
        except NotAVideo:
            await self.restart()
            raise
        await self._staged.write(pieces)
        self.got += gathered

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
        return Verified(self.got, self._digest.hexdigest(), facts.duration)


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
