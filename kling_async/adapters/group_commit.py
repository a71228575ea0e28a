"""Group commit on SQLite: one writer; what waits while a commit is under way goes into the next one together.

A list on the loop's side, one hand-off a batch to a thread of its own, one future a caller. Nothing is ever
acknowledged before its commit. What can wait for company begins no commit within `PATIENCE` of the last one. What is
written is the journal's affair.
"""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from kling_async.errors import JournalError

T = TypeVar("T")

PATIENCE: Final = 0.1
"""Seconds at the most from the beginning of the last commit until work that can wait begins one of its own."""

Work = Callable[[sqlite3.Connection], Any]
"""What is done inside a transaction, on the writer's thread."""


class Connection:
    """One connection and the one thread that uses it, by executor calls of the running loop."""

    def __init__(
        self, path: Path, name: str, *, before: Callable[[], None] = lambda: None, read_only: bool = False
    ) -> None:
        self._path = path
        self._read_only = read_only
        self._before = before
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._place = ""
        self._file: tuple[int, int] | None = None
        self._closed = False

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Begin work on the thread, and return its future.

        Raises:
            JournalError: The connection is closed.
        """
        if self._closed:
            raise JournalError(f"the journal {self._path} is closed")
        return asyncio.get_running_loop().run_in_executor(self._executor, self._call, work)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work on the thread; a cancelled caller leaves it to its end."""
        return await asyncio.shield(self.submit(work))

    def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._opened())
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {self._path} cannot be used: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._before()
            self._connection = self._connect()
            self._connection.row_factory = sqlite3.Row
            self._place = os.path.abspath(self._path)  # noqa: PTH100 - text, looked at with every batch
        elif not self._read_only:
            self._check_place()
        return self._connection

    def _check_place(self) -> None:
        """Make sure that what is written can be found again: SQLite goes on with a file that was deleted or moved."""
        with suppress(FileNotFoundError, NotADirectoryError):
            file = _file_at(self._place)
            self._file = self._file or file
            if file == self._file:
                return
        raise JournalError(
            f"the journal {self._path} was deleted or moved while it was in use: nothing more is bought; put it back, "
            "with its -wal file, and run again"
        )

    def _connect(self) -> sqlite3.Connection:
        if self._read_only:
            # Of a database at rest SQLite would write two files to read it, and could not where nothing may be written.
            real = self._path.resolve()
            at_rest = not real.with_name(f"{real.name}-wal").exists()
            mode = "mode=ro&immutable=1" if at_rest else "mode=ro"
            return sqlite3.connect(f"{real.as_uri()}?{mode}", uri=True, timeout=30)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sqlite3.connect(self._path, isolation_level=None, timeout=30)

    async def close(self, last: Callable[[], None] | None = None) -> None:
        """Close the connection, do a last thing on its thread, and let the thread go; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._executor, self._close, last)
        self._executor.shutdown(wait=False)
        with anyio.CancelScope(shield=True):
            await asyncio.wait({closing})
        closing.result()

    def _close(self, last: Callable[[], None] | None) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if last is not None:
            last()


class GroupCommit:
    """Commits work in groups.

    It is idle (nothing waits), gathering (only work that can wait does, and the timer is set), or committing (there is
    no timer; what comes waits for the end of the commit).

    Args:
        connection: The writer's own connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._urgent = self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_begun = -math.inf
        """Of the loop's clock."""
        self._committing: asyncio.Future[None] | None = None

    async def do(self, work: Callable[[sqlite3.Connection], T], *, patiently: bool = False) -> T:
        """Put work into the next commit, and return its result when that is durable.

        A caller that is cancelled leaves at once; the work is done all the same.

        Args:
            work: What is done.
            patiently: Whether it may wait for a commit that others need. If none comes, its own begins `PATIENCE` after
                the last one began, or when that ends; at once, where that is past.

        Raises:
            JournalError: It could not be written: the disk or SQLite refused, or the journal is closed.
            Exception: What the work itself raised; nothing of it is written then.
        """
        # A future of its own for each: to shield one that is shared costs a caller three times as much.
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        self._urgent = self._urgent or not patiently
        if self._committing is None:
            self._commit_or_wait()
        return await future

    def _commit_or_wait(self) -> None:
        """Commit what waits: now where some of it is urgent, or the last commit is long past; else as soon as it is."""
        loop = asyncio.get_running_loop()
        due = self._last_begun + PATIENCE
        if self._urgent or self._closing or loop.time() >= due:
            self._commit()
        elif self._waiting and self._timer is None:
            self._timer = loop.call_at(due, self._commit)

    def _commit(self) -> None:
        """Hand everything that waits to the writer's thread; what comes meanwhile is the next batch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting, self._urgent = self._waiting, [], False
        if not batch:
            return
        self._last_begun = asyncio.get_running_loop().time()
        works = [work for work, _ in batch]
        try:
            job = self._connection.submit(lambda connection: _transact(connection, works))
        except JournalError as error:
            self._refuse(batch, error)
            return
        self._committing = asyncio.get_running_loop().create_future()
        job.add_done_callback(partial(self._committed, [future for _, future in batch], self._committing))

    def _refuse(self, batch: Sequence[tuple[Work, asyncio.Future[Any]]], error: JournalError) -> None:
        """Tell all callers of a batch that it cannot be written."""
        for _, future in batch:
            if not future.done():
                future.set_exception(error)

    def _committed(
        self, callers: list[asyncio.Future[Any]], over: asyncio.Future[None], job: asyncio.Future[list[Any]]
    ) -> None:
        """Begin the next batch, so that the disk has work, and tell each caller how its own work ended."""
        self._committing = None
        self._commit_or_wait()
        error = job.exception()
        results = job.result() if error is None else [_Raised(error)] * len(callers)
        for future, result in zip(callers, results, strict=True):
            if future.done():
                continue  # its caller was cancelled
            if isinstance(result, _Raised):
                future.set_exception(result.error)
            else:
                future.set_result(result)
        over.set_result(None)

    async def drain(self) -> None:
        """Wait until nothing waits any more; from now on nothing waits for company."""
        self._closing = True
        with anyio.CancelScope(shield=True):
            while self._waiting or self._committing is not None:
                if self._committing is None:
                    self._commit()
                if self._committing is not None:
                    await asyncio.wait([self._committing])


class _Raised:
    """An error of one piece of work; the others of its batch stand."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _file_at(place: str) -> tuple[int, int]:
    status = os.stat(place)  # noqa: PTH116 - text, looked at with every batch
    return status.st_dev, status.st_ino


def _told(error: Exception) -> Exception:
    """Return an error of one piece of work as its caller hears it."""
    if isinstance(error, sqlite3.Error | ValueError | OverflowError):
        return JournalError(f"the journal cannot keep this: {error}")
    return error


def _transact(connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
    results: list[Any] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            connection.execute("SAVEPOINT work")
            try:
                results.append(work(connection))
            except Exception as error:
                if not connection.in_transaction:
                    raise  # The disk refused, and SQLite gave up the whole.
                connection.execute("ROLLBACK TO work")
                results.append(_Raised(_told(error)))
            connection.execute("RELEASE work")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results
