"""The journal's schema: numbered scripts that bring a database up to date, each in a transaction of its own.

Nothing is ever taken back; a database that is newer than the last script is refused, never guessed at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib import resources
from typing import Final

from kling_async.errors import JournalError, JournalTooNew

_PACKAGE: Final = "kling_async.adapters"


def _migrations() -> list[str]:
    """Return the scripts of all migrations, in their order."""
    found = resources.files(_PACKAGE).joinpath("migrations").iterdir()
    return [
        entry.read_text("utf-8") for entry in sorted(found, key=lambda entry: entry.name) if entry.name[-4:] == ".sql"
    ]


def _version(connection: sqlite3.Connection, known: int) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise JournalTooNew(
            f"the journal was written by a newer kling-async (schema {version}; this one knows {known}): "
            "upgrade kling-async",
            version=version,
        )
    return version


def check_schema(connection: sqlite3.Connection) -> None:
    """Hold the schema against the one that is known, where nothing may be written."""
    known = len(_migrations())
    if _version(connection, known) < known:
        raise JournalError("the journal was written by an older kling-async: `run` or `retry` bring it up to date")


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the numbered migrations that the database has not seen, each in a transaction of its own."""
    scripts = _migrations()
    for number in range(_version(connection, len(scripts)) + 1, len(scripts) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection, len(scripts)) < number:  # another process may have been first
                for statement in _split(scripts[number - 1]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _split(script: str) -> Iterator[str]:
    """Yield a script's statements; a trigger's own semicolons do not end it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
