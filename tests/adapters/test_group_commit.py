"""What waits for company begins no commit while others come, is never told before it is durable, and waits briefly."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kling_async.adapters.group_commit import PATIENCE, Connection, GroupCommit
from kling_async.errors import JournalError

pytestmark = pytest.mark.looptime

SHORT = PATIENCE / 4


class Table:
    """A table of words on the disk, written by group commit, and the batches in which they came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = Connection(path, "writer")
        self.commits = GroupCommit(self.connection)
        self.batches: list[list[str]] = []

    def _work(self, word: str) -> Callable[[sqlite3.Connection], str]:
        def work(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT INTO word VALUES (?)", (word,))
            self.batches[-1].append(word)
            return word

        return work

    async def write(self, word: str, *, patiently: bool = False) -> str:
        return await self.commits.do(self._work(word), patiently=patiently)

    def begin(self, word: str, *, patiently: bool = False) -> asyncio.Task[str]:
        return asyncio.create_task(self.write(word, patiently=patiently))

    def durable(self) -> list[str]:
        """Return what another process would read."""
        with sqlite3.connect(self.path) as other:
            found = [word for (word,) in other.execute("SELECT word FROM word ORDER BY rowid")]
        other.close()
        return found


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[Table]:
    made = Table(tmp_path / "words.db")

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE word (word TEXT)")
        connection.set_trace_callback(lambda text: made.batches.append([]) if text.startswith("BEGIN") else None)

    await made.connection.run(prepare)
    yield made
    await made.commits.drain()
    await made.connection.close()


async def test_in_a_quiet_time_the_patient_one_is_written_at_once(table: Table) -> None:
    """Nobody else has written of late: there is nobody to wait for."""
    assert await table.write("first", patiently=True) == "first"
    await asyncio.sleep(2 * PATIENCE)
    began = now()
    await table.write("second", patiently=True)
    assert now() - began < SHORT
    assert table.batches == [["first"], ["second"]]


async def test_the_patient_one_goes_along_with_the_next(table: Table) -> None:
    """One commit for both, in the order in which they came; neither is told before it."""
    await table.write("before")
    patient = table.begin("patient", patiently=True)
    await asyncio.sleep(SHORT)
    assert not patient.done()
    assert table.durable() == ["before"]
    await table.write("urgent")
    assert await patient == "patient"
    assert table.batches == [["before"], ["patient", "urgent"]]
    assert table.durable() == ["before", "patient", "urgent"]


async def test_where_nobody_comes_it_does_not_wait_long(table: Table) -> None:
    """All that wait are written together, as long after the last commit as is said, and not once more."""
    began = now()
    await table.write("before")
    first = table.begin("first", patiently=True)
    await asyncio.sleep(2 * SHORT)
    second = table.begin("second", patiently=True)
    await asyncio.gather(first, second)
    assert now() - began == pytest.approx(PATIENCE, abs=SHORT)
    await asyncio.sleep(3 * PATIENCE)
    assert table.batches == [["before"], ["first", "second"]]


async def test_behind_a_commit_the_patient_one_waits_on(table: Table) -> None:
    """The end of a commit is no reason for one of its own; an urgent one beside it is."""
    before = table.begin("before")
    await asyncio.sleep(0)
    patient = table.begin("patient", patiently=True)
    await before
    await asyncio.sleep(SHORT)
    assert not patient.done()
    await table.write("urgent")
    await patient

    before = table.begin("before")
    await asyncio.sleep(0)
    both = [table.begin("patient", patiently=True), table.begin("urgent")]
    began = now()
    await asyncio.gather(before, *both)
    assert now() - began < SHORT
    assert table.batches == [["before"], ["patient", "urgent"], ["before"], ["patient", "urgent"]]


async def test_a_patient_one_whose_caller_left_is_written_all_the_same(table: Table) -> None:
    """Its caller is free at once."""
    await table.write("before")
    patient = table.begin("patient", patiently=True)
    await asyncio.sleep(SHORT)
    patient.cancel()
    await asyncio.wait([patient])
    assert patient.cancelled()
    await asyncio.sleep(PATIENCE)
    await table.write("after")
    assert table.durable() == ["before", "patient", "after"]


async def test_who_closes_waits_for_no_company(table: Table) -> None:
    """What waits patiently is written now."""
    await table.write("before")
    patient = table.begin("patient", patiently=True)
    await asyncio.sleep(0)
    began = now()
    await table.commits.drain()
    assert now() - began < SHORT
    assert table.durable() == ["before", "patient"]
    assert await patient == "patient"


async def test_the_second_wait_ends_as_the_first_did(table: Table) -> None:
    """Each has a timer of its own."""
    await table.write("before")
    await table.write("one", patiently=True)
    async with asyncio.timeout(5 * PATIENCE):
        await table.write("two", patiently=True)
    assert table.batches == [["before"], ["one"], ["two"]]


async def test_a_wait_that_was_cut_short_does_not_cut_the_next(table: Table) -> None:
    """The timer of one that went along with another is gone."""
    await table.write("before")
    first = table.begin("first", patiently=True)
    await asyncio.sleep(2 * SHORT)
    await table.write("urgent")
    await first
    await asyncio.sleep(SHORT)
    second = table.begin("second", patiently=True)
    await asyncio.sleep(2 * SHORT)
    assert not second.done()


async def test_one_that_can_wait_makes_no_other_wait(table: Table) -> None:
    """Behind a commit, an urgent one and then a patient one: both are written when it ends."""
    before = table.begin("before")
    await asyncio.sleep(0)
    both = [table.begin("urgent"), table.begin("patient", patiently=True)]
    began = now()
    await asyncio.gather(before, *both)
    assert now() - began < SHORT


@pytest.mark.parametrize("patiently", [True, False])
async def test_what_comes_when_it_is_closed_is_refused(table: Table, *, patiently: bool) -> None:
    """Nobody waits for ever: after a commit of late, and in a quiet time."""
    await table.write("before")
    await table.connection.close()
    for _ in range(2):
        async with asyncio.timeout(5 * PATIENCE):
            with pytest.raises(JournalError, match="is closed"):
                await table.write("late", patiently=patiently)
        await asyncio.sleep(2 * PATIENCE)
    assert table.durable() == ["before"]


async def test_what_comes_while_it_is_being_closed_is_written_at_once(table: Table) -> None:
    """After the last look at what waits, and before the connection goes: nobody would write it later."""
    await table.write("before")
    await table.commits.drain()
    began = now()
    await table.write("late", patiently=True)
    assert now() - began < SHORT
    assert table.durable() == ["before", "late"]
