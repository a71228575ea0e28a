"""The journal on SQLite: WAL, `synchronous=FULL`, one writer with group commit, and reads beside it.

A call returns when what it wrote survives a crash.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

from kling_async.adapters.group_commit import Connection, GroupCommit
from kling_async.adapters.lock import FolderLock
from kling_async.adapters.migrate import check_schema, migrate
from kling_async.adapters.pointer import check_place, claim, point
from kling_async.adapters.sqlite_enrolment import enrol, enter
from kling_async.adapters.sqlite_rows import record_of, state_of
from kling_async.errors import JournalError, KlingError
from kling_async.rules.budget import SEEN, check_ceiling, note_of
from kling_async.rules.naming import ENDING, place_fold
from kling_async.types.outcome import Tally
from kling_async.types.record import Draft, Record, Stage

_PACKAGE: Final = "kling_async.adapters"
_FOLDER: Final = "folder"
"""The note that names the journal's folder."""
_CENSUS: Final = 50_000
"""Rows that are counted in one go; others may read between two."""
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
)


class SqliteJournal:
    """The journal of one job, in one file.

    Args:
        path: The database; its folder is made.
        folder: The job's folder, which has this journal and no other; None where nobody asks.
        lock: Whether to take the folder for this process alone. Reading the state of a running job needs no lock.
        read_only: Whether nothing is to be written, not even a newer schema: for looking on while a job runs.
    """

    def __init__(self, path: Path, *, folder: Path | None = None, lock: bool = True, read_only: bool = False) -> None:
        self._path = path
        self._folder = folder
        self._locks = lock
        self._lock: FolderLock | None = None
        before = partial(check_place, folder, path) if folder is not None else lambda: None
        self._read_only = read_only
        self._writer = Connection(path, "kling-journal", before=before, read_only=read_only)
        self._reader = Connection(path, "kling-journal-read", read_only=read_only)
        self._commits = GroupCommit(self._writer)
        self._sql: dict[str, str] = {}

    async def open(self) -> None:
        """Open the database, bring its schema up to date, and take the folder."""
        try:
            await self._writer.run(self._prepare)
            await self._reader.run(_nothing)
        except BaseException:
            await self._close_all()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._sql = _read_statements()
        if self._read_only:
            check_schema(connection)
            return
        if self._locks:
            real = self._path.resolve()  # one lock, by whatever name the journal is called
            self._lock = FolderLock(real.with_name(f"{real.name}.lock"), self._folder or self._path)
            self._lock.take()
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        migrate(connection)
        if self._folder is not None:
            self._belong(connection, self._folder)

    def _belong(self, connection: sqlite3.Connection, folder: Path) -> None:
        """Let the journal and its folder know each other."""
        row = connection.execute(self._sql["read_note"], (_FOLDER,)).fetchone()
        noted = None if row is None else str(row["value"])
        here = claim(folder, self._path, noted)
        if noted != here:
            connection.execute(self._sql["write_note"], (_FOLDER, here))
        point(folder, self._path)

    async def aclose(self) -> None:
        """Write what is waiting, and let go."""
        try:
            await self._commits.drain()
        finally:
            await self._close_all()

    async def _close_all(self) -> None:
        try:
            await self._reader.close()
        finally:
            await self._writer.close(lambda: self._lock.release() if self._lock is not None else None)

    async def enter(self, drafts: Sequence[Draft], names: Sequence[str]) -> list[int]:
        """Take new rows in, and return the positions of the others."""
        return await self._commits.do(lambda connection: enter(connection, self._sql, drafts, names))

    async def enrol(self, planned: Sequence[Record]) -> list[Record | KlingError]:
        """Take rows in, and return each as the journal knows it, in order."""
        return await self._commits.do(lambda connection: enrol(connection, self._sql, planned))

    async def save(self, record: Record, *, patiently: bool = False) -> None:
        """Write a record's new state; patiently: it may wait for what others write."""
        values = state_of(record)
        await self._commits.do(lambda connection: self._save_one(connection, values), patiently=patiently)

    def _save_one(self, connection: sqlite3.Connection, values: dict[str, Any]) -> None:
        try:
            changed = connection.execute(self._sql["save"], values).rowcount
        except sqlite3.IntegrityError:
            raise JournalError(
                f"row {values['key']!r}: generation {values['generation_id']} belongs to another row already",
                generation_id=values["generation_id"],
            ) from None
        if changed != 1:
            known = connection.execute(self._sql["get"], (values["key"],)).fetchone()
            told = "is not in the journal" if known is None else f"is done, and cannot become {values['stage']} again"
            raise JournalError(f"row {values['key']!r} {told}")

    async def intend(self, record: Record, *, ceiling: int | None) -> str | None:
        """Write a SUBMITTING record, unless its content is bought already or it would pass the ceiling."""
        given_up = record.fallback
        values = state_of(record) | {
            "before": Stage.PLANNED if given_up is None else given_up.stage,
            "given_up": None if given_up is None else given_up.generation_id,
        }

        def work(connection: sqlite3.Connection) -> str | None:
            original = connection.execute(self._sql["original"], values).fetchone()
            if original is not None:
                return str(original["key"])
            values["credits"] = price = self._price(connection, record)
            if ceiling is not None:
                taken = int(connection.execute(self._sql["committed"]).fetchone()[0])
                check_ceiling(price, taken=taken, ceiling=ceiling)
            if connection.execute(self._sql["intend"], values).rowcount != 1:
                raise JournalError(f"row {record.key!r} was submitted by somebody else meanwhile: nothing is bought")
            return None

        return await self._commits.do(work)

    def _price(self, connection: sqlite3.Connection, record: Record) -> int | None:
        """Return what an intent holds: the record's price, or what the service was seen to hold, if that is more."""
        name = note_of(SEEN, record.request.model, record.request.duration)
        row = connection.execute(self._sql["read_note"], (name,)).fetchone()
        seen = 0 if row is None else int(row["value"])
        return seen if seen > (record.credits or 0) else record.credits

    async def raise_price(self, model: str, duration: int, credits_: int) -> None:
        """Note what the service was seen to hold for a video, and hold no less for those that it has not told yet."""
        name, values = note_of(SEEN, model, duration), {"model": model, "duration": duration, "credits": credits_}

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute(self._sql["read_note"], (name,)).fetchone()
            if row is None or int(row["value"]) < credits_:
                connection.execute(self._sql["write_note"], (name, str(credits_)))
                connection.execute(self._sql["raise_held"], values)
                connection.execute(self._sql["fill_untold"], values)

        await self._commits.do(work)

    async def fill_price(self, model: str, duration: int, credits_: int) -> None:
        """Count a price for the rows that money stands behind and that have none, since nobody had told it."""
        values = {"model": model, "duration": duration, "credits": credits_}
        await self._commits.do(lambda connection: connection.execute(self._sql["fill_untold"], values).rowcount)

    async def get(self, key: str) -> Record | None:
        """Return one row."""
        rows = await self._read("get", key)
        return record_of(rows[0]) if rows else None

    async def under(self, keys: Sequence[str]) -> list[Record]:
        """Return the rows under some keys."""
        found = await self._reader.run(
            lambda connection: [connection.execute(self._sql["get"], (key,)).fetchone() for key in keys]
        )
        return [record_of(row) for row in found if row is not None]

    async def unfinished(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that money stands behind and that are not DONE."""
        return [(row["seq"], record_of(row)) for row in await self._read("unfinished", after, limit)]

    async def failed(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next FAILED rows."""
        return [(row["seq"], record_of(row)) for row in await self._read("failed", after, limit)]

    async def again(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that cost nothing now and were tried before: FAILED, PLANNED anew, or waiting."""
        return [(row["seq"], record_of(row)) for row in await self._read("again", after, limit)]

    async def rows(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows of any stage."""
        return [(row["seq"], record_of(row)) for row in await self._read("rows", after, limit)]

    async def planned(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next PLANNED rows."""
        return [(row["seq"], record_of(row)) for row in await self._read("planned", after, limit)]

    async def census(self) -> Counter[tuple[str, int]]:
        """Count the PLANNED rows by model and duration."""
        found, after, last = Counter[tuple[str, int]](), 0, (await self.tally()).rows
        while after < last:
            for row in await self._read("census", after, after + _CENSUS):
                found[row["model"], row["duration"]] += row["rows"]
            after += _CENSUS
        return found

    async def done_since(self, order: int, *, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that became DONE, in the order of their ends."""
        return [(row["done_order"], record_of(row)) for row in await self._read("done_since", order, limit)]

    async def tally(self) -> Tally:
        """Return the rows by stage, and their money."""
        found = {row["stage"]: row for row in await self._read("tally")}
        money = {stage: row["credits"] for stage, row in found.items()}
        return Tally(
            **{stage: row["rows"] for stage, row in found.items()},
            spent=money["rendered"] + money["done"],
            held=money["submitting"]
            + money["uncertain"]
            + money["submitted"]
            + sum(row["sunk"] for row in found.values()),
            bytes=found["done"]["bytes"],
            shared=found["done"]["shared"],
        )

    async def named(self, names: Sequence[str]) -> set[str]:
        """Return those of some names of files that a row's video has, or will have."""
        folds = {name: place_fold(name) for name in names if name.endswith(ENDING)}
        found = {row["name_fold"] for row in await self._read("named", json.dumps([*folds.values()]))}
        return {name for name, fold in folds.items() if fold in found}

    async def note(self, name: str, value: str | None = None) -> str | None:
        """Remember a fact about the job, or (without a value) return it."""
        if value is not None:
            await self._commits.do(
                lambda connection: connection.execute(self._sql["write_note"], (name, value)).rowcount
            )
            return value
        rows = await self._read("read_note", name)
        return str(rows[0]["value"]) if rows else None

    async def _read(self, statement: str, *values: object) -> list[sqlite3.Row]:
        return await self._reader.run(lambda connection: connection.execute(self._sql[statement], values).fetchall())


def _nothing(_connection: sqlite3.Connection) -> None:
    return None


def _read_statements() -> dict[str, str]:
    text = resources.files(_PACKAGE).joinpath("sqlite.sql").read_text("utf-8")
    sections = (section.partition("\n") for section in text.split("-- name: ")[1:])
    return {name.strip(): statement.strip() for name, _, statement in sections}
