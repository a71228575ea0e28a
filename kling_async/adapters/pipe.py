"""A manifest that comes by standard input: spooled to a file, which is read like any other, and kept beside a job.

What is kept can be run again although the pipe is gone: it is named by a digest of what came, and a file beside it
names the folder that relative paths in it start from. This room must never wait where a signal cannot end the waiting.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Final

from kling_async.adapters.disk import describe, make_folder, write_all, write_whole
from kling_async.errors import ManifestError

STDIN: Final = Path("-")
"""What stands for standard input in the place of a manifest."""

_PREFIX: Final = "stdin-"
_FOLDER: Final = ".folder"
_PIECE: Final = 1024 * 1024


class Pipe:
    """What comes by standard input, in a temporary file until it is kept.

    Args:
        threads: Where what may block is done, one thing at a time.
    """

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._handle: int | None = None
        self._digest = hashlib.sha256(os.fsencode(Path.cwd()) + b"\0")
        self.path: Path | None = None
        """The temporary file."""

    async def read(self, source: int = 0) -> Path:
        """Read to the end, and return the file.

        Args:
            source: The handle to read from.

        Raises:
            ManifestError: There is nothing to read from, or no room for it.
        """
        loop = asyncio.get_running_loop()
        if source == 0 and sys.stdin is None:
            raise ManifestError("standard input is closed: pipe a manifest into it, or name a file")
        try:
            path = await loop.run_in_executor(self._threads, self._begin)
            while await _is_readable(source) and await loop.run_in_executor(self._threads, self._move, source):
                pass
        except OSError as error:
            raise ManifestError(f"standard input cannot be spooled: {describe(error)}") from error
        return path

    def _begin(self) -> Path:
        self._handle, name = tempfile.mkstemp(prefix=f"kling-{_PREFIX}")
        self.path = Path(name)
        return self.path

    def _move(self, source: int) -> bool:
        """Take what is there; tell whether more may come."""
        piece = os.read(source, _PIECE)
        if self._handle is None:
            return False
        write_all(self._handle, [piece])
        self._digest.update(piece)
        return bool(piece)

    def keep(self, folder: Path) -> Path:
        """Copy what came into a folder, durably, and return where it lies there. Blocking.

        Raises:
            OSError: It cannot be copied.
        """
        if self.path is None:
            raise RuntimeError("nothing was read that could be kept")
        place = folder / f"{_PREFIX}{self._digest.hexdigest()[:16]}"
        make_folder(folder, mode=0o700)
        write_whole(place.with_name(f"{place.name}{_FOLDER}"), [os.fsencode(Path.cwd()) + b"\n"])
        with self.path.open("rb") as file:
            write_whole(place, iter(partial(file.read, _PIECE), b""))
        return place

    def close(self) -> None:
        """Remove the temporary file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def folder_of(kept: Path) -> Path | None:
    """Return the folder that paths in a kept manifest start from; None where it is not a kept one. Blocking.

    Raises:
        ManifestError: What names the folder is gone.
    """
    if kept.parent.name != ".kling" or not kept.name.startswith(_PREFIX):
        return None
    beside = kept.with_name(f"{kept.name}{_FOLDER}")
    try:
        return Path(os.fsdecode(beside.read_bytes().removesuffix(b"\n")))
    except OSError as error:
        raise ManifestError(
            f"{beside} cannot be read, which names the folder of the paths: {describe(error)}"
        ) from error


async def _is_readable(handle: int) -> bool:
    """Wait until there is something to read, or the end; at once for a file. A caller may be cancelled meanwhile."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(handle, ready.set)
    except (PermissionError, NotImplementedError):  # a file never waits; on Windows nothing can be waited for
        return True
    try:
        await ready.wait()
    finally:
        loop.remove_reader(handle)
    return True
