"""The folder's lock: one run at a time. `flock`, so that it goes with the process however it ends.

Host and process id stand in the file for the message alone; they decide nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from kling_async.errors import ConfigurationError, JournalLocked

if sys.platform != "win32":
    import fcntl


class FolderLock:
    """An advisory lock on one file. Blocking calls: use it on a thread of the journal's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            JournalLocked: Another process has it; the message says which.
            ConfigurationError: This system has no such locks.
        """
        if sys.platform == "win32":
            raise ConfigurationError(
                "bulk jobs need file locks that Windows does not have: run them under Linux, macOS or WSL"
            )
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip() or "another process"
            os.close(handle)
            folder = self._path.parent.parent
            raise JournalLocked(f"{folder} is in use by {holder}: wait for it, or choose another folder") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None
