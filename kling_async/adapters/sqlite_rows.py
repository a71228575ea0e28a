"""A record <-> its row of the journal's table. Values only: what is asked of the database is `sqlite.sql`.

This room must never leave out a field of a record: what is not written is lost with the process.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from attrs import asdict

from kling_async.rules.identity import request_of
from kling_async.types.record import Record, Stage, Standing, Trouble
from kling_async.types.request import ImageToVideo

_STATE: Final = (
    "key",
    "written",
    "content",
    "attempt",
    "client_request_id",
    "sent_at",
    "sent_with",
    "generation_id",
    "shares",
    "credits",
    "size",
    "sha256",
    "seconds",
    "sunk",
)


def state_of(record: Record) -> dict[str, Any]:
    """Return the values of a record's state."""
    trouble = record.trouble
    values = {name: getattr(record, name) for name in _STATE}
    return values | {
        "stage": str(record.stage),
        "former": json.dumps(record.former) if record.former else "[]",  # nearly always, and thirty times as fast
        "fallback": json.dumps(asdict(record.fallback)) if record.fallback else None,
        "trouble_kind": trouble.kind if trouble else None,
        "trouble_message": trouble.message if trouble else None,
    }


def record_of(row: sqlite3.Row, request: ImageToVideo | None = None) -> Record:
    """Return the record that a row of the table is.

    Args:
        row: The row.
        request: What is asked for, where the caller has it; read from the row if not given.
    """
    return Record(
        name=row["name"],
        request=request_of(row["request"]) if request is None else request,
        stage=Stage(row["stage"]),
        former=tuple(json.loads(row["former"])),
        fallback=_standing_of(json.loads(row["fallback"])) if row["fallback"] else None,
        trouble=Trouble(row["trouble_kind"], row["trouble_message"]) if row["trouble_kind"] else None,
        **{name: row[name] for name in _STATE},
    )


def _standing_of(document: dict[str, Any]) -> Standing:
    trouble, fallback = document["trouble"], document["fallback"]
    return Standing(
        **document
        | {
            "stage": Stage(document["stage"]),
            "trouble": Trouble(**trouble) if trouble else None,
            "former": tuple(document["former"]),
            "fallback": _standing_of(fallback) if fallback else None,
        }
    )
