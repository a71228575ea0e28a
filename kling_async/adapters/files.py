"""Videos on the local disk: each grows under a temporary name beside its final one, and takes that when it is whole.

Nothing is decided here: whether the bytes are a video, and whether to try again, is for others to say. This room must
never touch the disk on the loop's thread, nor leave anything but a whole file under a final name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from kling_async.adapters.disk import (
    describe,
    is_out_of_files,
    is_temporary,
    open_regular,
)
from kling_async.adapters.sectors import Buffers
from kling_async.adapters.threads import WORKERS, Threads
from kling_async.adapters.video_part import Part
from kling_async.errors import DownloadError
from kling_async.rules.reading import Reading
from kling_async.types.outcome import FileFacts

_BLOCK: Final = 1024 * 1024
"""Bytes that are read at once."""
_PAGE: Final = 1000
"""Names that are given at once."""


class LocalVideoStore:
    """Videos below one folder, which is made when the first one is staged.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = Threads("kling-files", WORKERS)
        self._buffers = Buffers()
        self._live: set[Path] = set()

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[LocalStagedVideo]:
        """Begin a video under a temporary name beside its final one.

        Raises:
            DiskFull: There is no room.
            DownloadError: The folder cannot be written.
        """
        part = Part(self.path(name), self._buffers)
        self._live.add(part.path)
        try:
            await self._threads.finish(part.open)
            yield LocalStagedVideo(part, self._threads)
        finally:
            try:
                if not part.over:
                    await self._threads.finish(part.discard)
            finally:
                self._live.discard(part.path)

    async def holds(self, name: str, *, size: int, sha256: str) -> bool:
        """Tell whether a file with that digest stands under the name; one that cannot be read is none.

        Where no file can be opened, since too many are, it waits until one can.
        """
        return await self._threads.read(partial(_holds, self.path(name), size, sha256))

    async def examine(self, name: str) -> FileFacts | None:
        """Read a file from its beginning to its end, once; None where there is none.

        Where no file can be opened, since too many are, it waits until one can.

        Raises:
            DownloadError: It cannot be read.
        """
        return await self._threads.read(partial(_examine, self.path(name)))

    async def names(self) -> AsyncIterator[Sequence[str]]:
        """Yield the names of all files, some at a time; not those under temporary names."""
        found = _names(self._folder)
        while page := await self._threads.ask(lambda: list(islice(found, _PAGE))):
            yield page

    async def link(self, name: str, other: str) -> bool:
        """Give a whole video another name, too: by a hard link, or a copy; tell whether it was there.

        Raises:
            DiskFull: There is no room.
            DownloadError: The disk refused otherwise.
        """
        part = Part(self.path(other), self._buffers)
        self._live.add(part.path)
        try:
            return await self._threads.finish(partial(part.link_to, self.path(name)))
        finally:
            self._live.discard(part.path)

    def path(self, name: str) -> Path:
        """Return where the name lies.

        Raises:
            ValueError: The name leads out of the folder.
        """
        pure = PurePosixPath(name)
        if not pure.parts or pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"{name!r} is no name below {self._folder}")
        return self._folder.joinpath(*pure.parts)

    async def clean(self) -> int:
        """Remove what earlier processes left under temporary names; return how many.

        Call it where the folder is this process's own: another's unfinished videos look the same.
        """
        return await self._threads.finish(self._clean)

    async def aclose(self) -> None:
        """Let the threads go."""
        self._threads.close()

    def _clean(self) -> int:
        removed, waiting = 0, [self._folder]
        while waiting:
            with suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.name[0] == "." and is_temporary(entry.name) and Path(entry.path) not in self._live:
                        with suppress(OSError):
                            os.unlink(entry.path)  # noqa: PTH108 - text, where a million names are looked at
                            removed += 1
        return removed


class LocalStagedVideo:
    """A video under its temporary name; `LocalVideoStore.stage` makes it.

    Each call takes effect as a whole or not at all, also when it fails or is cancelled, and `size` tells which: a
    download goes on from there.
    """

    def __init__(self, part: Part, threads: Threads) -> None:
        self._part = part
        self._threads = threads
        self.size = 0

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append and digest, in one hand-over.

        Raises:
            DiskFull: There is no room.
            DownloadError: The disk refused otherwise.
        """
        try:
            await self._threads.finish(partial(self._part.write, pieces))
        finally:
            self.size = self._part.size

    def sha256(self) -> str:
        """Return the digest of the bytes written so far, in hex."""
        return self._part.sha256

    async def restart(self) -> None:
        """Throw away what was written, and begin again."""
        try:
            await self._threads.finish(self._part.restart)
        finally:
            self.size = self._part.size

    async def commit(self) -> Path:
        """Make the bytes durable, give them their final name, and return it. Replaces what stood there.

        Raises:
            DiskFull: There is no room.
            DownloadError: The disk refused otherwise.
        """
        return await self._threads.finish(self._part.commit)


def _examine(path: Path) -> FileFacts | None:
    reading, block = Reading(), memoryview(bytearray(_BLOCK))
    try:
        with open_regular(path) as file:
            while got := file.readinto(block):
                reading.feed(block[:got])
    except FileNotFoundError:
        return None
    except OSError as error:
        if is_out_of_files(error):
            raise
        raise DownloadError(f"{path} cannot be read ({describe(error)})") from error
    return reading.facts()


def _names(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder, but for temporary ones; what cannot be listed has none."""
    for place, _, names in os.walk(folder):
        below = PurePosixPath(Path(place).relative_to(folder).as_posix())
        yield from (str(below / name) for name in names if not is_temporary(name))


def _holds(path: Path, size: int, sha256: str) -> bool:
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256.lower()
    except OSError as error:
        if is_out_of_files(error):
            raise
        return False
