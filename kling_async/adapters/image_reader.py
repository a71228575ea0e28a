"""One image file as base64, piece by piece, so that no image stands whole in memory.

This room must never let the first piece go of a file that changed since it was looked at, nor the last one of a file
that changed since then: the service would make a video of a picture that nobody knows of.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, FileIO
from threading import Lock
from typing import Final

from kling_async.adapters.disk import describe, is_out_of_files
from kling_async.errors import ImageChanged
from kling_async.types.image import ImageState

PIECE: Final = 192 * 1024
"""Bytes that are read and encoded in one hand-over; a multiple of 3, so that only the last piece is padded."""


class ImageReader:
    """Reads and encodes one file. Its calls block: threads make them. Its lock lets it be closed at any moment.

    Args:
        name: What messages call it.
        opened: Opens it, at the first piece.
        state: What it must be, at the first piece and at the last.
    """

    def __init__(self, name: str, opened: Callable[[], FileIO], state: ImageState) -> None:
        self.closed = False
        self._name = name
        self._open = opened
        self._state = state
        self._left = state.size
        self._file: FileIO | None = None
        self._lock = Lock()

    def next_piece(self) -> bytes:
        """Return the next piece as base64; none if closed.

        The first one only where the file is what it was when it was looked at, the last one only where it still is.

        Raises:
            ImageChanged: The file changed, or cannot be read.
            OSError: Too many files are open for it; it may be asked again.
        """
        with self._lock, self._told():
            if self.closed:
                return b""
            if self._file is None:
                self._file = self._open()
                self._check(self._file, "before")
            data = read_exactly(self._file, min(PIECE, self._left))
            self._left -= len(data)
            if self._left == 0:
                self._end(self._file)
            elif len(data) < PIECE:
                raise self._changed("while")
            return base64.b64encode(data)

    def close(self) -> None:
        """Close the file, once no piece is being read."""
        with self._lock:
            self.closed = True
            if self._file is not None:
                self._file.close()

    def _end(self, file: FileIO) -> None:
        self._check(file, "while")
        self.closed = True
        file.close()

    def _check(self, file: FileIO, when: str) -> None:
        status = os.fstat(file.fileno())
        if state_of(status) != self._state and not self._is_without_name(status):
            raise self._changed(when)

    def _is_without_name(self, status: os.stat_result) -> bool:
        """Tell whether the file only lost its name, to another one or for good: who opens it anew writes elsewhere."""
        return status.st_nlink == 0 and (status.st_size, status.st_mtime_ns) == (self._state.size, self._state.modified)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and is_out_of_files(error):
                raise
            raise ImageChanged(
                f"{self._name} cannot be read ({describe(error)}): the request was not finished; mend that and "
                "send it again"
            ) from error

    def _changed(self, when: str) -> ImageChanged:
        return ImageChanged(
            f"{self._name} changed {when} it was sent (it had {self._state.size:,} bytes): the request was not "
            "finished; leave the file alone and send it again"
        )


def state_of(status: os.stat_result) -> ImageState:
    """Return what a file is, as far as the system tells without its content."""
    return ImageState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_exactly(file: FileIO | BytesIO, count: int) -> bytes:
    """Read so many bytes, or to the end."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data
