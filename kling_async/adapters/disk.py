"""The local disk, as the doors that lie on it use it: whole files or none, durable when a call returns.

All calls block: they belong on a door's threads. They raise `OSError`; what that means is for the door to say.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened that must not be there yet."""

_OLD_FILE: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_MANY_OPEN: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES})
_PIECES_AT_ONCE: Final = 1024  # IOV_MAX of Linux and macOS
_NAME_SHOWN: Final = 100
_TEMPORARY: Final = re.compile(r"\..*\.[0-9]+\.[0-9a-f]{16}\.part", re.DOTALL)


def is_full(error: OSError) -> bool:
    """Tell whether there was no room: the disk is full, or a quota is used up."""
    return error.errno in _FULL


def has_no_room(error: OSError) -> bool:
    """Tell whether there was no room: on the disk, or among the files that may be open."""
    return is_full(error) or is_out_of_files(error)


def is_out_of_files(error: OSError) -> bool:
    """Tell whether no file could be opened since too many are: of this process, or of the whole system."""
    return error.errno in _TOO_MANY_OPEN


def describe(error: OSError | ValueError) -> str:
    """Return the system's own words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def temporary_name(name: str) -> str:
    """Return `.NAME.PID.RANDOM.part`; the name is cut, so that it never passes the 255 bytes of a file name."""
    shown = name.encode(errors="ignore")[:_NAME_SHOWN].decode(errors="ignore")
    return f".{shown}.{os.getpid()}.{secrets.token_hex(8)}.part"


def is_temporary(name: str) -> bool:
    """Tell whether `temporary_name` made this name, in this process or an earlier one."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporary(folder: Path, *, spared: Container[Path] = frozenset()) -> int:
    """Remove what earlier processes left in a folder under temporary names; return how many."""
    removed = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(path.name) and path not in spared:
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def open_regular(path: str | Path) -> FileIO:
    """Open a file for reading, without a buffer.

    Raises:
        OSError: It cannot be opened, or it is no regular file. A pipe never makes this wait.
    """
    handle = os.open(path, _OLD_FILE)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return FileIO(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it, durably."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    try:
        folder.mkdir(mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    if sys.platform == "win32":
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def write_all(handle: int, pieces: Sequence[bytes]) -> int:
    """Write every piece, however little the system takes at a time; return how many bytes that were."""
    views = [memoryview(piece) for piece in pieces if piece]
    total, at = sum(map(len, views)), 0
    while at < len(views):
        written = _write_some(handle, views[at : at + _PIECES_AT_ONCE])
        while written and written >= len(views[at]):
            written -= len(views[at])
            at += 1
        if written:
            views[at] = views[at][written:]
    return total


def append_all(handle: int, pieces: Sequence[bytes]) -> None:
    """Append every piece, or none: what a full disk took of them is cut off again."""
    before = os.fstat(handle).st_size
    try:
        write_all(handle, pieces)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, before)
        raise


def _write_some(handle: int, views: Sequence[memoryview]) -> int:
    if sys.platform == "win32":
        return os.write(handle, views[0])
    return os.writev(handle, views)


def write_whole(path: Path, pieces: Iterable[bytes], *, mode: int = 0o666) -> None:
    """Replace a file: by a temporary name beside it and a rename, durable on return."""
    part = path.with_name(temporary_name(path.name))
    handle = os.open(part, NEW_FILE, mode)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - a handle, not a path
            file.writelines(pieces)
            file.flush()
            os.fsync(handle)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)
