"""Rows that stand twice in a manifest, found without keeping them in memory: on a disk of their own, sorted at the end.

A key that stands twice with the same content is no error: it is one row. Everything here blocks. This room must never
keep more than a page of rows in memory, whatever the length of the manifest.
"""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from kling_async.adapters.manifest_rows import Row
from kling_async.errors import ManifestError
from kling_async.rules.identity import default_key, written_digest

_PAGE: Final = 1000
_CACHE: Final = 1024
"""KiB of memory that the sorting may take; the rest lies in a temporary file."""
_REPEATS: Final = """
SELECT number, line, file, first, content = of_first, (SELECT key FROM seen WHERE rowid = number + 1) FROM (
    SELECT number, line, file, content, first_value(line || ':' || file) OVER key AS first,
        first_value(content) OVER key AS of_first, row_number() OVER key AS time
    FROM seen WINDOW key AS (PARTITION BY mark ORDER BY number)
) WHERE time > 1 ORDER BY number
"""


@frozen
class Repeated:
    """What stands twice."""

    same: array[int] = field(factory=lambda: array("Q"))
    """The numbers of the rows that repeat an earlier one, from 0, in their order: 8 bytes each."""
    clashes: int = 0
    """Rows that have the key of an earlier one, and other content."""
    errors: tuple[ManifestError, ...] = ()
    """The first of these."""


class Repeats:
    """Takes note of rows in their order, and tells which of them stand twice. Used on one thread, and closed there."""

    def __init__(self) -> None:
        self.count = 0
        """Rows so far."""
        self._waiting: list[tuple[bytes, bytes, int, int, str, str]] = []
        self._rows = sqlite3.connect(
            "", isolation_level=None, check_same_thread=False
        )  # a file that has no name, and goes with the connection
        self._rows.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._rows.execute("PRAGMA temp_store = FILE")
        self._rows.execute(
            "CREATE TABLE seen (mark BLOB, content BLOB, number INTEGER, line INTEGER, file TEXT, key TEXT)"
        )
        self._rows.execute("BEGIN")

    def note(self, row: Row) -> None:
        """Take note of a row that has a request."""
        if row.request is None:
            return
        written = written_digest(row.request)
        key = row.request.key or default_key(written)
        mark = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:12]
        self._waiting.append((mark, bytes.fromhex(written[:16]), self.count, row.line, row.file, key))
        self.count += 1
        if len(self._waiting) >= _PAGE:
            self._write()

    def _write(self) -> None:
        self._rows.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?)", self._waiting)
        self._waiting.clear()

    def find(self, *, shown: int) -> Repeated:
        """Tell what stands twice.

        Args:
            shown: How many errors are wanted at the most; the others are counted.
        """
        self._write()
        same, clashes, errors = array("Q"), 0, list[ManifestError]()
        for number, line, file, first, equal, key in self._found():
            if equal:
                same.append(number)
                continue
            clashes += 1
            if len(errors) < shown:
                before, _, name = first.partition(":")
                place = name or f"line {before}"
                message = f"{key!r} stands on {place} with other content: give each row a key of its own"
                errors.append(ManifestError(message, line=line or None, file=file, field="key"))
        return Repeated(same, clashes, tuple(errors))

    def _found(self) -> Iterator[tuple[int, int, str, str, int, str]]:
        yield from self._rows.execute(_REPEATS)

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()
