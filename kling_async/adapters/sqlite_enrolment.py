"""How the journal takes rows in: new ones all at once, known ones held against what is known of them, row by row.

Part of a transaction of `kling_async.adapters.sqlite`. This room must never write over a row that money stands behind,
nor look at a request that nobody asks about.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, TypeAlias

from attrs import evolve

from kling_async.adapters.sqlite_rows import record_of
from kling_async.errors import KlingError, RequestChanged
from kling_async.ports import SOURCE
from kling_async.rules.identity import document_of
from kling_async.rules.lifecycle import PAID_FOR
from kling_async.rules.naming import distinct_place, place_fold
from kling_async.types.record import Draft, Record

Statements: TypeAlias = Mapping[str, str]
"""The journal's statements by name."""


_ROW: Final = "(?, ?, ?, ?, ?, 'planned')"
_TOGETHER: Final = 100
"""Rows that one statement writes: to begin one costs as much as a row. SQLite takes 999 values in one at the least."""

_Values: TypeAlias = tuple[str, str, str, str, str]
"""What is written of a new row: its key, its name, what that folds to, its request, its digest as written."""


def enter(connection: sqlite3.Connection, sql: Statements, drafts: Sequence[Draft], names: Sequence[str]) -> list[int]:
    """Take new rows in, and return the positions of the others, which are left as they stand.

    Args:
        connection: In a transaction.
        sql: The journal's statements.
        drafts: The rows, each under a key of its own.
        names: Where their videos will lie.
    """
    last = connection.execute(sql["last"]).fetchone()[0]
    rows = [
        (draft.key, name, place_fold(name), draft.document, draft.written)
        for draft, name in zip(drafts, names, strict=True)
    ]
    if _insert(connection, sql, rows) == len(rows):
        return []
    new = {row["key"] for row in connection.execute(sql["keys_since"], (last,))}
    return [at for at, draft in enumerate(drafts) if draft.key not in new]


def enrol(connection: sqlite3.Connection, sql: Statements, planned: Sequence[Record]) -> list[Record | KlingError]:
    """Take rows in, and return each as the journal knows it, in order.

    Args:
        connection: In a transaction.
        sql: The journal's statements.
        planned: The rows.
    """
    rows = [_values(record, document_of(record.request)) for record in planned]
    if _insert(connection, sql, rows) == len(rows):
        return list(planned)
    return [_enrol_one(connection, sql, *pair) for pair in zip(planned, rows, strict=True)]


def _insert(connection: sqlite3.Connection, sql: Statements, rows: Sequence[_Values]) -> int:
    """Write those of some rows whose keys are new, and return how many; none where a name is another row's already."""
    connection.execute("SAVEPOINT enrolment")
    try:
        fresh = sum([_insert_some(connection, sql, rows[at : at + _TOGETHER]) for at in range(0, len(rows), _TOGETHER)])
    except sqlite3.IntegrityError:  # two names are one on some file system: who is known is found out row by row
        connection.execute("ROLLBACK TO enrolment")
        fresh = 0
    connection.execute("RELEASE enrolment")
    if fresh:
        connection.execute(sql["count"])
        _no_more_of_one_source(connection, sql)
    return fresh


def _insert_some(connection: sqlite3.Connection, sql: Statements, rows: Sequence[_Values]) -> int:
    return connection.execute(_for_many(sql["insert"], len(rows)), tuple(chain.from_iterable(rows))).rowcount


@lru_cache
def _for_many(insert: str, rows: int) -> str:
    return insert.replace(_ROW, ", ".join([_ROW] * rows))


def _no_more_of_one_source(connection: sqlite3.Connection, sql: Statements) -> None:
    connection.execute(sql["forget_note"], (SOURCE,))


def _enrol_one(connection: sqlite3.Connection, sql: Statements, record: Record, row: _Values) -> Record | KlingError:
    """Take one row in; return it as the journal knows it."""
    document = row[3]
    found = connection.execute(sql["get"], (record.key,)).fetchone()
    if found is None:
        return _enter_one(connection, sql, record, document)
    known = record_of(found, record.request if found["request"] == document else None)
    if known.written == record.written:
        if found["request"] == document:
            return known
        # What is carried, and where paths start from, are the caller's to change: nothing is bought by them.
        connection.execute(sql["renew"], (document, record.key))
        _no_more_of_one_source(connection, sql)
        return evolve(known, request=record.request)
    if known.stage in PAID_FOR:
        return RequestChanged(
            f"row {record.key!r} was edited after money stood behind it (it is {known.stage}): "
            "restore the row, or give the new one another key",
            key=record.key,
            generation_id=known.generation_id,
        )
    connection.execute(sql["replace"], (document, record.written, record.key))
    _no_more_of_one_source(connection, sql)
    return record_of(connection.execute(sql["get"], (record.key,)).fetchone())


def _enter_one(connection: sqlite3.Connection, sql: Statements, record: Record, document: str) -> Record:
    """Write a new row; where another key's name differs in case alone, this one's gets its digest."""
    if not _insert(connection, sql, [_values(record, document)]):
        record = evolve(record, name=distinct_place(record.name, record.key))
        _insert(connection, sql, [_values(record, document)])
    return record


def _values(record: Record, document: str) -> _Values:
    return record.key, record.name, place_fold(record.name), document, record.written
