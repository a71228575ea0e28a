"""The pause that all downloads into one store share while it has no room: told once, and one of them looks at a time.

What was received is kept meanwhile: a write that found no room is made again. Nothing here gives up: room is made by
people, and they may take their time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import define

from kling_async.errors import DiskFull
from kling_async.logs import get_logger
from kling_async.ports import StagedVideo

logger = get_logger(__name__)

LOOK_AGAIN: Final = 15.0
"""Seconds between two looks whether there is room again."""
_SHORTEST: Final = 0.001
"""Seconds of the shortest wait: a clock's resolution must not make it spin."""
_QUIET: Final = 60.0
"""Seconds for which a new lack of room is not told: a disk that is nearly full has some for one write now and then."""


class Room:
    """Whether a store has room, as far as its last write told."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._ended: float | None = None
        self._told = False
        self._next_look = 0.0
        self._one_by_one = asyncio.Lock()
        self._found = asyncio.Event()

    def lacking(self, error: DiskFull) -> None:
        """Note that something found no room."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since, self._next_look, self._told = now, now + LOOK_AGAIN, False
            self._found.clear()
        lately = self._ended is not None and now - self._ended < _QUIET
        if not self._told and not lately:
            self._told = True
            logger.warning("%s; downloads go on when there is room", error)

    def found(self) -> None:
        """Note that something was written: there is room."""
        if self._since is None:
            return
        now = asyncio.get_running_loop().time()
        if self._told:
            logger.warning("there is room again, after %.0f minutes: downloads go on", (now - self._since) / 60)
        self._since, self._ended = None, now
        self._found.set()

    async def turn(self) -> None:
        """Wait for the turn to look; at once where there is room."""
        loop = asyncio.get_running_loop()
        async with self._one_by_one:
            while self._since is not None and (wait := self._next_look - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, _SHORTEST)):
                        await self._found.wait()
            self._next_look = loop.time() + LOOK_AGAIN


@define
class PatientVideo:
    """A staged video whose writes wait for room.

    Its commit does not: what a disk refused when it was to be made durable may be lost, and is fetched again.
    """

    _staged: StagedVideo
    _room: Room

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._staged.size

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append, as soon as there is room.

        Raises:
            DownloadError: The disk refused otherwise.
        """
        while True:
            try:
                await self._staged.write(pieces)
            except DiskFull as error:
                self._room.lacking(error)
            else:
                self._room.found()
                return
            await self._room.turn()

    def sha256(self) -> str:
        """Return the digest of the bytes written so far, in hex."""
        return self._staged.sha256()

    def restart(self) -> Coroutine[Any, Any, None]:
        """Throw away what was written, and begin again."""
        return self._staged.restart()

    def commit(self) -> Coroutine[Any, Any, Path]:
        """Make the bytes durable, give them their final name, and return it.

        Raises:
            DiskFull: There is no room.
            DownloadError: The disk refused otherwise.
        """
        return self._staged.commit()
