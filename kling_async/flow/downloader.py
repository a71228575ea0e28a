"""One video to its place: whole, or not at all.

Streams into a temporary name, resumes after a cut, and gives the final name only to a file whose every box is there. A
link that is refused leads to a fresh link, a bounded number of times; nothing here ever leads to a new generation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from attrs import frozen

from kling_async.errors import (
    AnswerLost,
    DiskFull,
    DownloadError,
    KlingError,
    NotSent,
    ServerTrouble,
)
from kling_async.flow.line import Line
from kling_async.flow.room import PatientVideo, Room
from kling_async.flow.transfer import Transfer
from kling_async.logs import get_logger
from kling_async.ports import Transport, VideoStore
from kling_async.rules.links import MAX_REDIRECTS, expiry_of, fault_of_link, redirected
from kling_async.rules.retry import Operation, Verdict, backoff, decide
from kling_async.types.generation import RemoteVideo
from kling_async.types.outcome import VideoFile
from kling_async.types.record import Verified
from kling_async.types.settings import AdmissionSettings, DownloadSettings
from kling_async.types.statistics import DownloadStatistics

logger = get_logger(__name__)

T = TypeVar("T")

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
        self._room = Room() if wait_for_room else None
        self._line = Line(settings.downloads_at_once)
        self._asked_for = self._running = self._done = self._failed = self._bytes = 0

    def statistics(self) -> DownloadStatistics:
        """Return the figures of the moment."""
        return DownloadStatistics(
            running=self._running,
            waiting=self._asked_for - self._running,
            done=self._done,
            tries_failed=self._failed,
            bytes=self._bytes,
        )

    async def fetch(self, parcel: Parcel) -> VideoFile:
        """Bring one video to its place; of those that wait for their turn, the one whose link ends first.

        Raises:
            DownloadError: It could not be fetched within the tries, or its links were refused.
        """
        self._asked_for += 1
        try:
            async with self._line.place(expiry_of(parcel.video.url)):
                self._running += 1
                try:
                    file = await self.patiently(partial(self._fetch, parcel))
                except DownloadError as error:
                    error.generation_id = parcel.generation_id
                    raise
                finally:
                    self._running -= 1
        finally:
            self._asked_for -= 1
        self._done += 1
        self._bytes += file.size
        return file

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do work that needs room on the disk; where room is waited for, as soon as there is some."""
        while True:
            if self._room is not None:
                await self._room.turn()
            try:
                return await work()
            except DiskFull as error:
                if self._room is None:
                    raise
                self._room.lacking(error)

    async def _fetch(self, parcel: Parcel) -> VideoFile:
        async with self._store.stage(parcel.name) as staged:
            patient = staged if self._room is None else PatientVideo(staged, self._room)
            transfer = Transfer(patient, self._settings.max_video_bytes)
            verified = await self._persist(parcel, transfer)
            if parcel.video.file_size not in {None, verified.size}:
                logger.warning(
                    "%s has %d bytes, %d were announced: kept", parcel.name, verified.size, parcel.video.file_size
                )
            await parcel.verified(verified)
            path = await staged.commit()
        return VideoFile(path, verified.size, verified.sha256, parcel.generation_id, verified.seconds)

    async def _persist(self, parcel: Parcel, transfer: Transfer) -> Verified:
        """Try until the file is whole: as often as there is progress, and a bounded number of times without."""
        loop = asyncio.get_running_loop()
        link, tries, progress, began = parcel.video, 0, 0, loop.time()
        while True:
            try:
                await self._transfer(link.url, transfer)
                return await transfer.finish()
            except KlingError as error:
                error.generation_id = parcel.generation_id
                self._failed += 1
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

    async def _transfer(self, url: str, transfer: Transfer) -> None:
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
