"""What a file is, read once from its beginning to its end: its size, its digest, and whether it is a whole MP4.

Fed with the pieces as they are read; they are not kept. What of that is wrong follows from the record of the row whose
file it is. This room must never take another whole video for the one that the journal knows.
"""

from __future__ import annotations

import hashlib

from kling_async.errors import DownloadError
from kling_async.rules.mp4 import BoxWalk
from kling_async.types.outcome import FileFacts, FileFault
from kling_async.types.record import Record


class Reading:
    """One reading of a file. Feed every piece in order, then ask for the facts."""

    def __init__(self) -> None:
        self._size = 0
        self._digest = hashlib.sha256()
        self._walk = BoxWalk()
        self._fault: str | None = None

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the file. What is no MP4 is digested to its end all the same."""
        self._size += len(piece)
        self._digest.update(piece)
        if self._fault is None:
            try:
                self._walk.feed(piece)
            except DownloadError as error:
                self._fault = str(error)

    def facts(self) -> FileFacts:
        """Return what the file is, now that all of it has been fed."""
        if self._fault is None:
            try:
                self._walk.finish()
            except DownloadError as error:
                self._fault = str(error)
        return FileFacts(self._size, self._digest.hexdigest(), self._fault)


def fault_of(record: Record, facts: FileFacts | None) -> tuple[FileFault, str] | None:
    """Return what is wrong with the file of a row that is done, and that in words; None where nothing is.

    Args:
        record: The row.
        facts: What its file is; None where there is none.
    """
    if facts is None:
        return FileFault.MISSING, "there is no such file"
    looks = f"; {facts.fault}" if facts.fault else ""
    if facts.size != record.size:
        return FileFault.SIZE, f"it has {facts.size:,} bytes, not the {record.size or 0:,} that came{looks}"
    if facts.sha256 != record.sha256:
        return FileFault.DIGEST, f"its bytes are not those that came{looks}"
    if facts.fault:
        return FileFault.BROKEN, facts.fault
    return None
