"""How many changes of rows the journal makes durable in a second, with 512 callers waiting, and what one costs in CPU.

Each caller walks rows of its own from the intent to the end, five changes a row, and waits for each to be durable
before the next. Three do the same changes with the same statement on the same schema, WAL and `synchronous=FULL`, each
on a database of its own:

- *the journal*, as the batch uses it (`SqliteJournal.save`);
- *a commit per event*: one thread hop for each change, which is one transaction;
- *aiosqlite* with a commit per event, under a lock, since a connection has one transaction at a time.

A fourth writes the changes by `executemany`, 512 in a transaction, without a loop, a thread or a caller: what the
statement itself costs. It is no contender, but what the CPU of the journal is held against.

They are run once as the disk is, and once with 2 ms added to each commit, as if the disk's flush took that much longer.
SQLite's flushes cannot be reached from Python; the delay is a sleep in the writer's own thread as it begins `COMMIT`,
the same for each, by the connection's trace callback. Flushes at checkpoints are not delayed, for none of them.

Targets: five times as many changes a second as a commit per event, on either disk, and at most so much CPU a change as
`MOST_MICROSECONDS` says. `BENCH_ROUNDS` and `BENCH_ROWS` set how much is measured, `BENCH_DIR` on which disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol

import aiosqlite
from attrs import frozen

from kling_async.adapters import sqlite, sqlite_enrolment, sqlite_rows
from kling_async.adapters.migrate import migrate
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.rules.identity import written_digest
from kling_async.rules.lifecycle import advance
from kling_async.types.record import Accepted, Event, Intended, Record, Rendered, Stored, Verified
from kling_async.types.request import ImageToVideo

AT_ONCE: Final = 512
ROWS: Final = int(os.environ.get("BENCH_ROWS", "2048"))
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "5"))
SLOWER: Final = 0.002
"""Seconds added to each commit on the slower disk."""
FEWER: Final = {0.0: (4, 5), SLOWER: (4, 1)}
"""Those who commit each event are slower by far: they get one row in so many, and make so many changes of each."""
AT_LEAST: Final = 5.0
"""Times as many changes a second as a commit per event: the target."""
MOST_MICROSECONDS: Final = 8.0
"""CPU of one change: the target."""

State = dict[str, Any]
Save = Callable[[Record], Any]


class Contender(Protocol):
    """Opens a database with rows in it, and gives what saves one record."""

    def __call__(self, path: Path, rows: list[Record], delay: float, /) -> AbstractAsyncContextManager[Save]:
        """Open it; `delay` seconds are added to each commit."""


@frozen
class Measured:
    """One contender's run."""

    rate: float
    """Changes a second."""
    cpu: float
    """Seconds of CPU a change, of all threads of this process."""


def planned(count: int) -> list[Record]:
    """Return rows as a batch enrols them."""
    requests = [ImageToVideo("https://images.example/cat.png", f"a cat {n}", key=f"row-{n:07}") for n in range(count)]
    return [Record(str(one.key), f"{one.key}.mp4", one, written_digest(one)) for one in requests]


def changes(row: Record) -> list[Record]:
    """Return a row's states from the intent to the end, as they are saved."""
    events: tuple[Event, ...] = (
        Intended(f"ka1.0123456789.{row.key:0>24}.1", 1_800_000_000.0, f"{row.key:0>64}", 520_000, "0123456789abcdef"),
        Accepted(f"{row.key}-0123456789", 520_000),
        Rendered(520_000),
        Verified(1_234_567, f"{row.key:0>64}", 5.04),
        Stored(),
    )
    states = []
    for event in events:
        row = advance(row, event)
        states.append(row)
    return states


def slow_down(connection: Any, delay: float) -> Any:
    """Let each COMMIT of a connection sleep first, in the thread that makes it."""

    def traced(statement: str) -> None:
        if statement == "COMMIT":
            time.sleep(delay)

    return connection.set_trace_callback(traced)


def prepare(connection: sqlite3.Connection, rows: list[Record]) -> str:
    """Give a connection the journal's own schema and some rows; return the statement that saves."""
    for pragma in sqlite._PRAGMAS:  # noqa: SLF001  # the same schema and safety for all
        connection.execute(pragma)
    migrate(connection)
    statements = sqlite._read_statements()  # noqa: SLF001
    connection.execute("BEGIN")
    sqlite_enrolment.enrol(connection, statements, rows)
    connection.execute("COMMIT")
    return statements["save"]


@asynccontextmanager
async def the_journal(path: Path, rows: list[Record], delay: float) -> AsyncIterator[Save]:
    """The journal, as the batch opens it."""
    journal = SqliteJournal(path)
    await journal.open()
    try:
        for begin in range(0, len(rows), AT_ONCE):
            await journal.enrol(rows[begin : begin + AT_ONCE])
        if delay:
            await journal._writer.run(lambda connection: slow_down(connection, delay))  # noqa: SLF001  # no door for it
        yield journal.save
    finally:
        await journal.aclose()


@asynccontextmanager
async def a_commit_per_event(path: Path, rows: list[Record], delay: float) -> AsyncIterator[Save]:
    """One thread hop for each change, which is one transaction."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread, closing(_connect(path)) as connection:
        statement = prepare(connection, rows)
        if delay:
            slow_down(connection, delay)

        def write(state: State) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(statement, state)
            connection.execute("COMMIT")

        async def save(record: Record) -> None:
            await loop.run_in_executor(thread, write, sqlite_rows.state_of(record))

        yield save


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@asynccontextmanager
async def aiosqlite_per_event(path: Path, rows: list[Record], delay: float) -> AsyncIterator[Save]:
    """The same by aiosqlite."""
    with closing(_connect(path)) as connection:
        statement = prepare(connection, rows)
    lock = asyncio.Lock()
    async with aiosqlite.connect(path, isolation_level=None) as database:
        for pragma in sqlite._PRAGMAS:  # noqa: SLF001  # those of one connection
            await database.execute(pragma)
        if delay:
            await slow_down(database, delay)

        async def save(record: Record) -> None:
            state = sqlite_rows.state_of(record)
            async with lock:
                await database.execute("BEGIN IMMEDIATE")
                await database.execute(statement, state)
                await database.execute("COMMIT")

        yield save


async def measure(contender: Contender, rows: list[Record], steps: int, delay: float) -> Measured:
    """Let 512 callers make the first so many changes of each row."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        async with contender(Path(folder, "journal.db"), rows, delay) as save:
            source = iter([changes(row)[:steps] for row in rows])

            async def walk() -> None:
                for states in source:
                    for state in states:
                        await save(state)

            began, cpu = time.perf_counter(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(walk())
            count = steps * len(rows)
            return Measured(count / (time.perf_counter() - began), (time.process_time() - cpu) / count)


def bare(rows: list[Record]) -> float:
    """Return the CPU seconds of one change written by `executemany`, 512 in a transaction."""
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder,
        closing(_connect(Path(folder, "journal.db"))) as connection,
    ):
        statement = prepare(connection, rows)
        batches = list(_batches([changes(row) for row in rows]))
        began = time.process_time()
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, batch)
            connection.execute("COMMIT")
        return (time.process_time() - began) / (5 * len(rows))


def _batches(walks: list[list[Record]]) -> Iterator[list[State]]:
    """Yield the changes as 512 callers make them: each row's next one, at the same time."""
    source = iter(walks)
    while some := list(islice(source, AT_ONCE)):
        for step in range(5):
            yield [sqlite_rows.state_of(states[step]) for states in some]


CONTENDERS: Final[dict[str, Contender]] = {
    "the journal": the_journal,
    "a commit per event": a_commit_per_event,
    "aiosqlite, a commit per event": aiosqlite_per_event,
}


def main() -> int:
    """Measure in turns, print medians and ratios, and return 1 if a target is missed."""
    rows = planned(ROWS)
    runs: dict[tuple[str, float], list[Measured]] = {}
    floors = []
    for _ in range(ROUNDS):
        floors.append(bare(rows))
        for delay in (0.0, SLOWER):
            for name, contender in CONTENDERS.items():
                share, steps = (1, 5) if contender is the_journal else FEWER[delay]
                measured = asyncio.run(measure(contender, rows[: len(rows) // share], steps, delay))
                runs.setdefault((name, delay), []).append(measured)
    return report(runs, median(floors))


def report(runs: dict[tuple[str, float], list[Measured]], floor: float) -> int:
    """Print the table and the verdicts."""
    print(f"{ROUNDS} rounds in turn, medians; {AT_ONCE} callers; {5 * ROWS} changes of the journal a round")
    print(f"{'':34}{'disk':>10}{'changes/s':>12}{'CPU us':>9}{'journal is':>14}")
    for (name, delay), found in runs.items():
        times = median(a.rate / b.rate for a, b in zip(runs["the journal", delay], found, strict=True))
        rate, cpu = median(one.rate for one in found), median(one.cpu for one in found)
        disk = f"+{delay * 1000:g} ms" if delay else "as it is"
        print(f"{name:34}{disk:>10}{rate:12,.0f}{cpu * 1e6:9.1f}{times:11.1f} x")
    print(f"{'executemany, no callers':34}{'as it is':>10}{'':12}{floor * 1e6:9.1f}")
    return judge(runs, floor)


def judge(runs: dict[tuple[str, float], list[Measured]], floor: float) -> int:
    """Print each target and whether it is reached; return 1 if one is missed."""
    verdicts = []
    for delay in (0.0, SLOWER):
        for name in ("a commit per event", "aiosqlite, a commit per event"):
            pairs = zip(runs["the journal", delay], runs[name, delay], strict=True)
            ratio = median(journal.rate / other.rate for journal, other in pairs)
            disk = f", {delay * 1000:g} ms added" if delay else ""
            verdicts.append(
                (ratio >= AT_LEAST, f"changes/s against {name}{disk}: {ratio:.1f} x, at least {AT_LEAST:g}")
            )
    cpu = median(one.cpu for one in runs["the journal", 0.0])
    told = f"CPU a change: {cpu * 1e6:.1f} us ({cpu / floor:.2f} x executemany), at most {MOST_MICROSECONDS:g}"
    verdicts.append((cpu * 1e6 <= MOST_MICROSECONDS, told))
    for reached, line in verdicts:
        print(f"{'reached' if reached else 'MISSED '}  {line}")
    return 0 if all(reached for reached, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
