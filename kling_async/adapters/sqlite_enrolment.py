"""How the journal takes rows in: new ones all at once, known ones held against what is known of them, row by row.

Part of a transaction of `kling_async.adapters.sqlite`. This room must never write over a row that money stands behind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from kling_async.adapters.sqlite_rows import enrolment_of, record_of
from kling_async.errors import KlingError, RequestChanged
from kling_async.ports import SOURCE
from kling_async.rules.lifecycle import PAID_FOR
from kling_async.rules.naming import collision_key, distinct_place
from kling_async.types.record import Record


def enrol(
    connection: sqlite3.Connection, sql: Mapping[str, str], planned: Sequence[Record]
) -> list[Record | KlingError]:
    """Take rows in, and return each as the journal knows it, in order.

    Args:
        connection: In a transaction.
        sql: The journal's statements by name.
        planned: The rows.
    """
    if not planned:
        return []
    values = [enrolment_of(record) for record in planned]
    connection.execute("SAVEPOINT enrolment")
    try:
        fresh = connection.executemany(sql["insert"], values).rowcount
    except sqlite3.IntegrityError:  # two names are one on some file system: who is known is found out row by row
        connection.execute("ROLLBACK TO enrolment")
        fresh = 0
    connection.execute("RELEASE enrolment")
    if fresh == len(planned):
        connection.execute(sql["forget_note"], (SOURCE,))
        return list(planned)
    found = [_enrol_one(connection, sql, *pair) for pair in zip(planned, values, strict=True)]
    if fresh or any(edited for _, edited in found):
        connection.execute(sql["forget_note"], (SOURCE,))
    return [record for record, _ in found]


def _enrol_one(
    connection: sqlite3.Connection, sql: Mapping[str, str], record: Record, values: dict[str, Any]
) -> tuple[Record | KlingError, bool]:
    """Take one row in; return it as the journal knows it, and whether anything was written."""
    try:
        fresh = connection.execute(sql["insert"], values).rowcount
    except sqlite3.IntegrityError:
        # Another key's name differs in case alone: this one gets its digest.
        place = distinct_place(record.name, record.key)
        values |= {"name": place, "name_fold": collision_key(place.removesuffix(".mp4"))}
        fresh = connection.execute(sql["insert"], values).rowcount
    if fresh and values["name"] == record.name:
        return record, True
    row = connection.execute(sql["get"], (record.key,)).fetchone()
    known = record_of(row, record.request if row["request"] == values["request"] else None)
    if known.written == record.written:
        # What is carried, and where paths start from, are the caller's to change: nothing is bought by them.
        if row["request"] != values["request"]:
            connection.execute(sql["renew"], values)
            return evolve(known, request=record.request), True
        return known, bool(fresh)
    if known.stage in PAID_FOR:
        error = RequestChanged(
            f"row {record.key!r} was edited after money stood behind it (it is {known.stage}): "
            "restore the row, or give the new one another key",
            key=record.key,
            generation_id=known.generation_id,
        )
        return error, False
    connection.execute(sql["replace"], values)
    return record_of(connection.execute(sql["get"], (record.key,)).fetchone()), True
