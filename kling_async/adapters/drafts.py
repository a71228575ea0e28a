"""The rows of a manifest between their check and their taking in, on a disk of their own; which of them stand twice.

A key that stands twice with the same content is no error: it is one row. They lie in a file without a name, which goes
with its connection. Everything here blocks. This room must never keep more than a page of rows in memory, whatever the
length of the manifest, nor an image's bytes anywhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from kling_async.adapters.manifest_rows import Row
from kling_async.errors import ManifestError
from kling_async.rules.identity import draft_of
from kling_async.types.record import Draft

_PAGE: Final = 500
"""Rows that are written in one go."""
_GIVEN: Final = 1000
"""Rows that are given out in one go, and that a journal takes in in one transaction."""
_LARGE: Final = 2_000_000
"""Characters of requests that make a page, however few rows they are."""
_PRAGMAS: Final = (
    "PRAGMA page_size = 16384",  # written once and read once, from the beginning to the end
    "PRAGMA cache_size = -1024",  # KiB of memory that it may take, the sorting too; the rest lies in temporary files
    "PRAGMA temp_store = FILE",
)
_TABLE: Final = """
CREATE TABLE draft (number INTEGER PRIMARY KEY, line INTEGER, file TEXT,
    key TEXT, written TEXT, document TEXT, model TEXT, duration INTEGER)
"""
_TWICE: Final = "CREATE TABLE twice AS SELECT key FROM draft GROUP BY key HAVING count(*) > 1"
_REPEATED: Final = """
CREATE TABLE repeated AS SELECT number, key, line, file, of_first, written = first AS same FROM (
    SELECT number, key, line, file, written, row_number() OVER one AS time, first_value(written) OVER one AS first,
        first_value(coalesce(nullif(file, ''), 'line ' || line)) OVER one AS of_first
    FROM draft WHERE key IN twice WINDOW one AS (PARTITION BY key ORDER BY number)
) WHERE time > 1
"""
_DROP: Final = "DELETE FROM draft WHERE number IN (SELECT number FROM repeated WHERE same)"
_KEPT: Final = "SELECT key, written, document, model, duration FROM draft WHERE number < ? ORDER BY number"


@frozen
class Repeated:
    """What stands twice."""

    same: int = 0
    """Rows that repeat an earlier one."""
    clashes: int = 0
    """Rows that have the key of an earlier one, and other content."""
    errors: tuple[ManifestError, ...] = ()
    """The first of these."""


class Drafts:
    """Keeps rows in their order, and tells which of them stand twice. Used by one thread at a time."""

    def __init__(self) -> None:
        self.count = 0
        """Rows so far: the number of the next one."""
        self._waiting: list[tuple[object, ...]] = []
        self._size = 0
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        with _told():
            for statement in (*_PRAGMAS, _TABLE, "BEGIN"):
                self._rows.execute(statement)

    def note(self, row: Row) -> None:
        """Keep a row, if it has a request."""
        if row.request is None:
            return
        draft = draft_of(row.request)
        self._waiting.append((self.count, row.line, row.file, *draft))
        self._size += len(draft.document)
        self.count += 1
        if len(self._waiting) >= _PAGE or self._size >= _LARGE:
            self._write()

    def _write(self) -> None:
        with _told():
            self._rows.executemany("INSERT INTO draft VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._waiting)
        self._waiting.clear()
        self._size = 0

    def find(self, *, shown: int) -> Repeated:
        """Tell what stands twice; of rows that are one, the first is kept. No more rows can be noted then.

        Args:
            shown: How many errors are wanted at the most; the others are counted.
        """
        self._write()
        with _told():
            found = self._find(shown)
            self._rows.execute("COMMIT")  # from here on nothing is written that a full disk could refuse
        return found

    def _find(self, shown: int) -> Repeated:
        self._rows.execute(_TWICE)
        if not self._one("SELECT count(*) FROM twice"):
            return Repeated()
        self._rows.execute(_REPEATED)
        same = self._rows.execute(_DROP).rowcount
        clashes = self._one("SELECT count(*) FROM repeated WHERE NOT same")
        found = self._rows.execute(
            "SELECT key, line, file, of_first FROM repeated WHERE NOT same ORDER BY number LIMIT ?", (shown,)
        )
        return Repeated(same, clashes, tuple(_clash(*values) for values in found))

    def _one(self, question: str) -> int:
        return int(self._rows.execute(question).fetchone()[0])

    def pages(self, until: int) -> Iterator[list[Draft]]:
        """Yield the rows that are kept, some at a time, in their order.

        Args:
            until: The number of the first one that is not wanted.
        """
        page, size = list[Draft](), 0
        with _told():
            for values in self._rows.execute(_KEPT, (until,)):
                page.append(Draft._make(values))
                size += len(page[-1].document)
                if len(page) == _GIVEN or size >= _LARGE:
                    yield page
                    page, size = [], 0
        if page:
            yield page

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()


@contextmanager
def _told() -> Iterator[None]:
    """Tell a trouble of the disk in a user's words."""
    try:
        yield
    except sqlite3.Error as error:
        message = f"the rows cannot be kept on the disk for temporary files: {error}; TMPDIR names another"
        raise ManifestError(message) from error


def _clash(key: str, line: int, file: str, first: str) -> ManifestError:
    message = f"{key!r} stands on {first} with other content: give each row a key of its own"
    return ManifestError(message, line=line or None, file=file, field="key")
