"""The folder's lock: one run at a time. `flock`, so that it goes with the process however it ends.

Host and process id stand in the file for the message alone; they decide nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

from kling_async.errors import ConfigurationError, JournalLocked

if sys.platform != "win32":
    import fcntl


_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "fuse.sshfs"}
)
"""File systems over which SQLite's locks and shared memory cannot be trusted."""


def network_file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Return the kind of network file system that a folder lies on; None for a local one, or where nobody tells.

    Args:
        folder: An existing folder.
        mounts: The kernel's table of mounts.
    """
    try:
        rows = [line.split(" ") for line in mounts.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return None
    place = folder.resolve()
    found = [(Path(row[1].replace("\\040", " ")), row[2]) for row in rows if len(row) > 2]
    above = [(len(point.parts), kind) for point, kind in found if point == place or point in place.parents]
    kind = max(above, default=(0, ""))[1]
    return kind if kind in _NETWORK else None


class FolderLock:
    """An advisory lock on one file. Blocking calls: use it on a thread of the journal's.

    Args:
        path: The file that is locked; it is made.
        held: What is told of as being in use: a job's folder, or a journal that has none.
    """

    def __init__(self, path: Path, held: Path) -> None:
        self._path = path
        self._held = held
        self._handle: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            JournalLocked: Another process has it; the message says which.
            ConfigurationError: This system, or this file system, has no such locks.
        """
        kind = network_file_system(self._path.parent)
        if kind is not None:
            raise ConfigurationError(
                f"{self._path.parent} lies on a network file system ({kind}), where the journal's locks cannot be "
                "trusted: put it on a local disk with --journal PATH"
            )
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
            raise JournalLocked(f"{self._held} is in use by {holder}: wait for it, or choose another") from None
        self._handle = handle
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None
