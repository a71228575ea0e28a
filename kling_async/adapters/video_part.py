"""The file of one video on its way: it grows under a temporary name, and takes its final one when all of it is durable.

Everything here blocks: threads call it. This room must never leave anything but a whole file under a final name.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from kling_async.adapters.disk import (
    NEW_FILE,
    describe,
    has_no_room,
    make_folder,
    sync_folder,
    temporary_name,
)
from kling_async.adapters.sectors import Buffers, SectorFile
from kling_async.errors import DiskFull, DownloadError


class Part:
    """The file itself, used on threads. Its lock keeps the work in order for a caller that left before its end."""

    def __init__(self, final: Path, buffers: Buffers) -> None:
        self.path = final.with_name(temporary_name(final.name))
        self.over = False
        self._final = final
        self._buffers = buffers
        self._file: SectorFile | None = None
        self._is_open = False
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return 0 if self._file is None else self._file.size

    @property
    def sha256(self) -> str:
        """The digest of these, in hex, while it is open."""
        return self._opened().digest.hexdigest()

    def open(self) -> None:
        """Open it under its temporary name; its folder is made."""
        with self._lock, told(self._final):
            if self.over:
                return
            if self._final.is_dir():
                raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
            try:
                handle = os.open(self.path, NEW_FILE, 0o666)
            except FileNotFoundError:
                make_folder(self.path.parent)
                handle = os.open(self.path, NEW_FILE, 0o666)
            self._file, self._is_open = SectorFile(handle, self._buffers), True

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append and digest; all of it or nothing."""
        with self._lock, told(self._final):
            self._opened().append(pieces)

    def restart(self) -> None:
        """Throw away what was written."""
        with self._lock, told(self._final):
            self._opened().restart()

    def commit(self) -> Path:
        """Make the bytes durable, and give them their final name."""
        with self._lock, told(self._final):
            file = self._opened()
            os.ftruncate(file.handle, file.size)
            os.fsync(file.handle)
            self._close()
            self.path.replace(self._final)
            self.over = True
            sync_folder(self._final.parent)
        return self._final

    def link_to(self, source: Path) -> bool:
        """Become a link to a file, or a copy of it, and take the final name."""
        with self._lock, told(self._final):
            if not source.is_file():
                return False
            make_folder(self.path.parent)
            try:
                self._become(source)
                self.path.replace(self._final)
            except OSError:
                with suppress(OSError):  # a part of a copy must not keep the room that it lacked
                    self.path.unlink(missing_ok=True)
                raise
            # Two names of one file: renaming one over the other leaves both.
            self.path.unlink(missing_ok=True)
            self.over = True
            sync_folder(self._final.parent)
        return True

    def _become(self, source: Path) -> None:
        try:
            os.link(source, self.path)
        except OSError:
            shutil.copyfile(source, self.path)
            with self.path.open("rb") as copy:
                os.fsync(copy.fileno())

    def discard(self) -> None:
        """Remove it, unless it has its name; whatever the disk says."""
        with self._lock, suppress(OSError):
            if self.over:
                return
            self.over = True
            if self._is_open:
                with suppress(OSError):
                    self._close()
            self.path.unlink(missing_ok=True)

    def _opened(self) -> SectorFile:
        if self._file is None or not self._is_open:
            raise RuntimeError(f"{self._final}: the staging of this video is over")
        return self._file

    def _close(self) -> None:
        handle, self._is_open = self._opened().handle, False
        os.close(handle)


@contextmanager
def told(final: Path) -> Iterator[None]:
    """Say what the disk's refusal means."""
    try:
        yield
    except OSError as error:
        if has_no_room(error):
            raise DiskFull(f"there is no room for {final} ({describe(error)}): make room") from error
        raise DownloadError(f"{final} cannot be written ({describe(error)})") from error
