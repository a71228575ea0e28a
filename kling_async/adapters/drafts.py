"""The rows of a manifest between their check and their taking in, on a disk of their own; which of them stand twice.

A key that stands twice with the same content is no error: it is one row. They lie in a file without a name, a page
after the other; where keys do not rise, SQLite looks for those that stand twice, in another such file. Everything here
blocks. This room must never keep more than a page of rows in memory (and two numbers for each page), whatever the
length of the manifest, nor an image's bytes anywhere.
"""

from __future__ import annotations

import marshal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import lt
from typing import Final

from attrs import frozen

from kling_async.adapters.manifest_rows import Row
from kling_async.errors import ManifestError
from kling_async.rules.identity import draft_of
from kling_async.types.record import Draft

_PAGE: Final = 1000
"""Rows that are written as one piece, given out as one page, and taken in by a journal in one transaction."""
_LARGE: Final = 2_000_000
"""Characters of requests that make a page, however few rows they are."""
_PRAGMAS: Final = (
    "PRAGMA cache_size = -1024",  # KiB of memory that it may take, the sorting too; the rest lies in temporary files
    "PRAGMA temp_store = FILE",
)
_TABLE: Final = "CREATE TABLE draft (number INTEGER PRIMARY KEY, line INTEGER, file TEXT, key TEXT, written TEXT)"
_TWICE: Final = "CREATE TABLE twice AS SELECT key FROM draft GROUP BY key HAVING count(*) > 1"
_REPEATED: Final = """
CREATE TABLE repeated AS SELECT number, key, line, file, of_first, written = first AS same FROM (
    SELECT number, key, line, file, written, row_number() OVER one AS time, first_value(written) OVER one AS first,
        first_value(coalesce(nullif(file, ''), 'line ' || line)) OVER one AS of_first
    FROM draft WHERE key IN twice WINDOW one AS (PARTITION BY key ORDER BY number)
) WHERE time > 1
"""
_CLASHES: Final = "SELECT key, line, file, of_first FROM repeated WHERE NOT same ORDER BY number LIMIT ?"
_GONE: Final = (
    "CREATE TABLE gone (number INTEGER PRIMARY KEY)",
    "INSERT INTO gone SELECT number FROM repeated WHERE same",
)
_SAME: Final = "SELECT number FROM gone WHERE number >= ? AND number < ?"

_Row = tuple[int, str, str, str, str, str, int]
"""A row as it lies there: its line and file, and the values of its draft."""


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
        self._page: list[_Row] = []
        self._size = 0
        self._last = (-1, "")
        self._rising = True
        self._pages: list[tuple[int, int]] = []
        with _told():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `close` closes it
        self._search: sqlite3.Connection | None = None

    def note(self, row: Row) -> None:
        """Keep a row, if it has a request."""
        if row.request is None:
            return
        draft = draft_of(row.request)
        self._page.append((row.line, row.file, *draft))
        self._size += len(draft.document)
        self.count += 1
        if len(self._page) == _PAGE or self._size >= _LARGE:
            self._write()

    def _write(self) -> None:
        page = marshal.dumps(self._page)
        # Keys that rise, the shorter ones first, are all different: nothing is to be looked for then.
        marks = [self._last, *[(len(row[2]), row[2]) for row in self._page]]
        self._rising = self._rising and all(map(lt, marks, marks[1:]))
        self._last = marks[-1]
        self._pages.append((self.count - len(self._page), len(page)))
        left = memoryview(page)
        with _told():
            while left:
                left = left[self._file.write(left) :]
        self._page.clear()
        self._size = 0

    def find(self, *, shown: int) -> Repeated:
        """Tell what stands twice; of rows that are one, the first is kept. No more rows can be noted then.

        Args:
            shown: How many errors are wanted at the most; the others are counted.
        """
        if self._page:
            self._write()
        if self._rising:
            return Repeated()
        with _told():
            self._search = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            found = self._find(self._search, shown)
        if not found.same:
            self._search.close()
            self._search = None
        return found

    def _find(self, search: sqlite3.Connection, shown: int) -> Repeated:
        for statement in (*_PRAGMAS, "BEGIN", _TABLE):
            search.execute(statement)
        for first, page in self._written():
            rows = [(number, *row[:4]) for number, row in enumerate(page, first)]
            search.executemany("INSERT INTO draft VALUES (?, ?, ?, ?, ?)", rows)
        search.execute(_TWICE)
        if search.execute("SELECT NOT EXISTS (SELECT * FROM twice)").fetchone()[0]:
            return Repeated()
        for statement in (_REPEATED, *_GONE):
            search.execute(statement)
        same = search.execute("SELECT count(*) FROM gone").fetchone()[0]
        clashes = search.execute("SELECT count(*) FROM repeated WHERE NOT same").fetchone()[0]
        found = search.execute(_CLASHES, (shown,)).fetchall()
        search.execute("COMMIT")  # from here on nothing is written that a full disk could refuse
        return Repeated(same, clashes, tuple(_clash(*values) for values in found))

    def _written(self) -> Iterator[tuple[int, list[_Row]]]:
        """Yield the pages as they were written, each with the number of its first row."""
        at = 0
        for first, size in self._pages:
            if self._file.closed:
                raise ManifestError("the rows of the manifest were let go while they were read")
            self._file.seek(at)
            page = self._file.read(size)
            yield first, marshal.loads(page)  # noqa: S302 - this process wrote it, into a file that nobody else can open
            at += size

    def pages(self, until: int) -> Iterator[list[Draft]]:
        """Yield the rows that are kept, some at a time, in their order.

        Args:
            until: The number of the first one that is not wanted.
        """
        with _told():
            for first, page in self._written():
                kept = page[: max(0, until - first)]
                if gone := self._gone(first, first + len(kept)):
                    kept = [row for number, row in enumerate(kept, first) if number not in gone]
                if kept:
                    yield [Draft._make(row[2:]) for row in kept]

    def _gone(self, first: int, end: int) -> set[int]:
        """Return the numbers of rows that repeat an earlier one."""
        return set() if self._search is None else {number for (number,) in self._search.execute(_SAME, (first, end))}

    def close(self) -> None:
        """Let the files go."""
        self._file.close()
        if self._search is not None:
            self._search.close()


@contextmanager
def _told() -> Iterator[None]:
    """Tell a trouble of the disk in a user's words."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        message = f"the rows cannot be kept on the disk for temporary files: {error}; TMPDIR names another"
        raise ManifestError(message) from error


def _clash(key: str, line: int, file: str, first: str) -> ManifestError:
    message = f"{key!r} stands on {first} with other content: give each row a key of its own"
    return ManifestError(message, line=line or None, file=file, field="key")
