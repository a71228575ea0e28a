"""A file that grows past the system's cache, where its disk can do so: in whole sectors, from buffers used again.

Through the cache each byte would be copied once more, and written out at a time of the system's own; a job of many
videos would have everything else thrown out of it. Everything here blocks: threads call it. This room must never count
a byte that the disk refused.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

if sys.platform == "linux":
    import fcntl

SECTOR: Final = 4096
"""Bytes. What goes past the cache begins and ends where a sector does, in memory and on the disk."""

_CANNOT: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})
_BUFFER: Final = 1536 * 1024
"""Bytes of a buffer: a block of a download and the piece that filled it up go out in one call."""


class Buffers:
    """Buffers that begin where a sector may: as many as are in use at once, and used again."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    @contextmanager
    def lent(self) -> Iterator[memoryview]:
        """Lend one for the length of a block."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = mmap.mmap(-1, _BUFFER)
        try:
            yield memoryview(buffer)
        finally:
            self._free.append(buffer)


class SectorFile:
    """An open file that grows, and the digest of its bytes.

    A sector that is begun stands on the disk, too, filled up with anything: it is written once more with what follows,
    and who closes the file cuts it to `size`.

    Args:
        handle: The file, open for writing and empty; it is its owner's to close.
        buffers: What it writes from.
    """

    def __init__(self, handle: int, buffers: Buffers) -> None:
        self.handle = handle
        self._buffers = buffers
        self._direct = _leave_cache(handle)
        self._begin()

    def _begin(self) -> None:
        self.size = 0
        """Bytes written so far."""
        self.digest = hashlib.sha256()
        """Of these."""
        self._rest = b""

    def append(self, pieces: Iterable[bytes]) -> None:
        """Append and digest; all of it or nothing.

        Raises:
            OSError: The disk refused.
        """
        size, rest, digest = self.size, self._rest, self.digest.copy()
        with self._buffers.lent() as buffer:
            for portion in _portions(pieces, len(buffer) - SECTOR):
                begin, end = len(rest), _fill(buffer, [rest, *portion])
                self._write(buffer[: end + -end % SECTOR], size - begin)
                digest.update(buffer[begin:end])
                size += end - begin
                rest = bytes(buffer[end - end % SECTOR : end])
        self.size, self._rest, self.digest = size, rest, digest

    def restart(self) -> None:
        """Throw away what was written.

        Raises:
            OSError: The disk refused.
        """
        os.ftruncate(self.handle, 0)
        self._begin()

    def _write(self, view: memoryview, at: int) -> None:
        """Write whole sectors, however little the system takes at a time."""
        os.lseek(self.handle, at, os.SEEK_SET)
        while view:
            try:
                view = view[os.write(self.handle, view) :]
            except OSError as error:
                if error.errno not in _CANNOT or not self._direct:
                    raise
                self._direct = _leave_cache(self.handle, leave=False)  # larger sectors than ours, or a part of one


def _leave_cache(handle: int, *, leave: bool = True) -> bool:
    """Let a file be written past the system's cache, or through it; tell whether it is past it now."""
    if sys.platform != "linux":
        return False
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    with suppress(OSError):  # its file system cannot
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_DIRECT if leave else flags & ~os.O_DIRECT)
        return leave
    return False


def _portions(pieces: Iterable[bytes], most: int) -> Iterator[Sequence[memoryview]]:
    """Yield the pieces so many bytes at a time."""
    portion: list[memoryview] = []
    room = most
    for piece in pieces:
        left = memoryview(piece)
        while left:
            portion.append(left[:room])
            left = left[room:]
            room -= len(portion[-1])
            if not room:
                yield portion
                portion, room = [], most
    if portion:
        yield portion


def _fill(buffer: memoryview, pieces: Iterable[bytes | memoryview]) -> int:
    """Copy pieces to the front of a buffer; return where they end."""
    end = 0
    for piece in pieces:
        buffer[end : end + len(piece)] = piece
        end += len(piece)
    return end
