"""The journal on SQLite beyond its contract: durable before acknowledged, one holder, honest when the disk is not."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kling_async.adapters.lock import FolderLock, network_file_system
from kling_async.adapters.migrate import migrate
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.errors import BudgetExceeded, ConfigurationError, JournalError, JournalLocked, JournalTooNew
from kling_async.rules.identity import draft_of
from kling_async.rules.lifecycle import advance
from kling_async.rules.naming import distinct_stem
from kling_async.types.record import Accepted, Record, Stage
from tests.contracts.test_journal import brought, counted, entered, intent, planned

CancelEverywhere = Any

HOLDER = """
import asyncio, sys
from pathlib import Path
from kling_async.adapters.sqlite import SqliteJournal

async def main():
    await SqliteJournal(Path(sys.argv[1])).open()
    print("open", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""
"""A process that opens a journal and holds it until it is killed."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".kling" / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    made = SqliteJournal(path)
    await made.open()
    yield made
    await made.aclose()


async def reopened(path: Path) -> list[Record]:
    """Return what a journal holds, read by one that takes no lock."""
    other = SqliteJournal(path, lock=False)
    await other.open()
    try:
        return [record for _, record in await other.rows(after=0, limit=10_000)]
    finally:
        await other.aclose()


async def traced(journal: SqliteJournal, hear: Callable[[str], object] | None) -> None:
    """Let a callable hear of every statement of the writer's, just before it is carried out."""
    await journal._writer.run(lambda connection: connection.set_trace_callback(hear))


def statement(path: Path, text: str) -> None:
    """Change a database behind the journal's back."""
    connection = sqlite3.connect(path)
    connection.execute(text)
    connection.commit()
    connection.close()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def taken_away(path: Path) -> bytes:
    """Return what a file held, and remove it."""
    content = path.read_bytes()
    path.unlink()
    return content


# ------------------------------------------------------------------ what opens


async def test_a_newer_schema_is_refused_and_left_alone(path: Path, open_handles: Callable[[], int]) -> None:
    """The error tells the version; nothing stays open or locked, and the file works again when it is put right."""
    before = open_handles()
    journal = SqliteJournal(path)
    await journal.open()
    row = await brought(journal, "row", Stage.SUBMITTED)
    await journal.aclose()
    statement(path, "PRAGMA user_version = 99")
    with pytest.raises(JournalTooNew, match="upgrade kling-async") as refused:
        await SqliteJournal(path).open()
    assert refused.value.version == 99
    assert open_handles() == before
    statement(path, "PRAGMA user_version = 4")
    assert await reopened(path) == [row]


def made_by_the_first_schema(path: Path) -> None:
    """Make a journal as the first schema had it, with a row in every stage, one of which shares another's video."""
    script = resources.files("kling_async.adapters").joinpath("migrations", "0001_rows.sql").read_text("utf-8")
    request = '{"image":{"kind":"url","text":"https://images.example/cat.png"},"prompt":"a cat","duration":5}'
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(script + "PRAGMA user_version = 1;")
        for stage in Stage:
            bought = stage in {Stage.SUBMITTED, Stage.RENDERED, Stage.DONE}
            connection.execute(
                "INSERT INTO row (key, name, name_fold, request, written, stage, content, attempt, client_request_id, "
                "sent_at, generation_id, credits, size) VALUES (?, ?, ?, ?, 'w', ?, ?, 1, ?, 5.5, ?, ?, ?)",
                (
                    str(stage),
                    f"{stage}.mp4",
                    str(stage),
                    request,
                    str(stage),
                    f"content of {stage}",
                    f"ka1.{stage}",
                    f"id of {stage}" if bought else None,
                    None if stage in {Stage.PLANNED, Stage.FAILED} else 100,
                    9 if stage is Stage.DONE else None,
                ),
            )
        connection.execute("UPDATE row SET done_order = 1 WHERE stage = 'done'")
        connection.execute("INSERT INTO note VALUES ('journal_id', 'abc')")


async def test_a_journal_of_the_first_schema_is_brought_up_to_date(path: Path) -> None:
    """Each row is what it was, with nothing sunk; the money agrees, and what is given up from then on is counted."""
    made_by_the_first_schema(path)
    journal = SqliteJournal(path)
    await journal.open()
    try:
        rows = [record for _, record in await journal.rows(after=0, limit=100)]
        assert [record.stage for record in rows] == list(Stage)
        assert [record.generation_id for record in rows] == [
            f"id of {stage}" if stage in {Stage.SUBMITTED, Stage.RENDERED, Stage.DONE} else None for stage in Stage
        ]
        assert all((record.sunk, record.former, record.attempt) == (0, (), 1) for record in rows)
        assert await journal.tally() == counted(rows)
        assert (await journal.tally()).spent + (await journal.tally()).held == 500
        assert await journal.note("journal_id") == "abc"
        assert [record.key for _, record in await journal.again(after=0, limit=10)] == ["planned", "failed"]
        by_key = {record.key: record for record in rows}
        for stage in (Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED):
            by_key[stage] = intent(by_key[stage], credits_=0, again=True)
            assert await journal.intend(by_key[stage], ceiling=None) is None
        assert await journal.tally() == counted(list(by_key.values()))
        assert (await journal.tally()).held == 400
        assert by_key["uncertain"].former == ("ka1.uncertain",)
        with pytest.raises(BudgetExceeded):
            await journal.intend(intent(by_key["planned"], credits_=1), ceiling=500)
        assert await journal.intend(intent(by_key["planned"], credits_=1), ceiling=501) is None
    finally:
        await journal.aclose()
    assert {record.key: record.stage for record in await reopened(path)}["planned"] is Stage.SUBMITTING


def made_by_the_third_schema(path: Path, *names: str) -> None:
    """Make a journal as the third schema had it, with a row for each place of a video, in whatever stages."""
    scripts = resources.files("kling_async.adapters").joinpath("migrations")
    request = '{"image":{"kind":"url","text":"https://images.example/cat.png"},"prompt":"a cat","duration":5}'
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        for script in ("0001_rows.sql", "0002_sunk.sql", "0003_untold.sql"):
            connection.executescript(scripts.joinpath(script).read_text("utf-8"))
        connection.execute("PRAGMA user_version = 3")
        for name, (stage, money) in zip(names, cycle(_OLD_MONEY), strict=False):
            fold = name.removesuffix(".mp4").lower()
            connection.execute(
                "INSERT INTO row (key, name, name_fold, request, written, stage, credits, size, sunk)"
                " VALUES (?, ?, ?, ?, 'w', ?, ?, ?, ?)",
                (
                    name.rpartition("/")[2].removesuffix(".mp4"),
                    name,
                    fold,
                    request,
                    stage,
                    money,
                    7 * money,
                    money // 2,
                ),
            )


_OLD_MONEY = (("planned", 0), ("submitted", 40), ("done", 20), ("failed", 0))
"""Where rows of an older schema stand, and the credits behind them."""


async def test_places_of_the_third_schema_are_still_taken(path: Path) -> None:
    """In folders and without them; a new row whose place is one of theirs on some file system gets another."""
    made_by_the_third_schema(path, "ab/Cat.mp4", "cd/ab.mp4", "ab/cd.mp4", "Dog.mp4")
    journal = SqliteJournal(path)
    await journal.open()
    try:
        tally = await journal.tally()
        assert (tally.planned, tally.submitted, tally.done, tally.failed) == (1, 1, 1, 1)
        assert (tally.spent, tally.held, tally.bytes) == (20, 40 + 20 + 10, 7 * 20)
        known = {"AB/cat.mp4", "cd/ab.mp4", "ab/cd.mp4", "dog.mp4"}
        assert await journal.named([*known, "ab/dog.mp4", "cd/cat.mp4"]) == known
        new = [evolve(planned(key), name=name) for key, name in (("cat", "ab/cat.mp4"), ("cAt", "cd/cAt.mp4"))]
        names = [record.name for record in await journal.enrol(new) if isinstance(record, Record)]
        assert names == [f"ab/{distinct_stem('cat')}.mp4", "cd/cAt.mp4"]
        assert (await journal.tally()).planned == 3
    finally:
        await journal.aclose()


WRITES = st.one_of(
    st.tuples(st.just("in"), st.sampled_from(Stage), st.none() | st.integers(0, 9), st.none() | st.just("id")),
    st.tuples(st.just("move"), st.integers(1, 9), st.sampled_from(Stage), st.none() | st.integers(0, 9)),
    st.tuples(st.just("sink"), st.integers(1, 9), st.integers(0, 9), st.none() | st.integers(0, 9)),
    st.tuples(st.just("horizon"), st.integers(-1, 9)),
)


def write(connection: sqlite3.Connection, what: str, *values: Any) -> None:
    """Write to a journal as nobody of the program does."""
    match what, values:
        case "in", [stage, amount, shares]:
            key = str(connection.execute("SELECT count(*) FROM row").fetchone()[0])
            connection.execute(
                "INSERT INTO row (key, name, name_fold, request, written, stage, credits, size, shares, sunk)"
                " VALUES (?1, ?1, ?1, '{}', 'w', ?2, ?3, ?3, ?4, coalesce(?3, 0))",
                (key, str(stage), amount, shares),
            )
        case "move", [seq, stage, amount]:
            connection.execute("UPDATE row SET stage = ?, credits = ? WHERE seq = ?", (str(stage), amount, seq))
        case "sink", [seq, amount, size]:
            connection.execute("UPDATE row SET sunk = ?, size = ?, shares = NULL WHERE seq = ?", (amount, size, seq))
        case "horizon", [seq]:
            last, now = connection.execute(
                "SELECT (SELECT coalesce(max(seq), 0) FROM row), (SELECT seq FROM horizon)"
            ).fetchone()
            if now <= seq <= last:
                connection.execute("UPDATE horizon SET seq = ?", (seq,))
                return
            with pytest.raises(sqlite3.IntegrityError, match="horizon"):
                connection.execute("UPDATE horizon SET seq = ?", (seq,))


@given(st.lists(WRITES, max_size=25))
def test_the_tally_is_right_whoever_writes(writes: list[tuple[Any, ...]]) -> None:
    """Rows that were counted and such that were not, in any stage, moved in any way: it is what the rows add up to."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        for one in writes:
            write(connection, *one)
            added = connection.execute(
                "SELECT stage, count(*), coalesce(sum(credits), 0), coalesce(sum(size), 0), count(shares), sum(sunk)"
                " FROM row GROUP BY stage ORDER BY stage"
            ).fetchall()
            told = connection.execute("SELECT stage, rows, credits, bytes, shared, sunk FROM tally ORDER BY stage")
            assert [line for line in told if any(line[1:])] == added


async def test_rows_that_are_taken_in_are_counted_then(journal: SqliteJournal) -> None:
    """The tally reads no row: it costs the same with a million."""
    await journal.enrol([planned("a"), planned("b")])
    await journal.enter([draft_of(planned("c").request)], ["c.mp4"])
    question = "SELECT (SELECT max(seq) FROM row), (SELECT seq FROM horizon)"
    last = await journal._reader.run(lambda connection: connection.execute(question).fetchone())
    assert tuple(last) == (3, 3)
    assert (await journal.tally()).planned == 3


async def test_rows_to_try_again_are_found_by_an_index(journal: SqliteJournal) -> None:
    """Whoever tries three rows of a million again does not read a million."""
    plan = await journal._reader.run(
        lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {journal._sql['again']}", (0, 1)).fetchall()
    )
    assert [row["detail"] for row in plan] == ["SEARCH row USING INDEX row_begun (seq>?)"]


@pytest.mark.parametrize("content", [b"this is no database, and long enough to be taken for one" * 100, b"\0" * 5000])
async def test_a_file_that_is_no_database_is_refused_and_kept(
    path: Path, content: bytes, open_handles: Callable[[], int]
) -> None:
    """The error names the file, which is not overwritten, and the folder is not left locked."""
    before = open_handles()
    put(path, content)
    with pytest.raises(JournalError, match=r"journal\.db cannot be used: file is not a database"):
        await SqliteJournal(path).open()
    assert taken_away(path) == content
    assert open_handles() == before
    journal = SqliteJournal(path)
    await journal.open()
    await journal.aclose()


@pytest.mark.parametrize("place", ["file/.kling/journal.db", "folder"])
async def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, place: str, open_handles: Callable[[], int]
) -> None:
    """Below a file, or where a folder stands: a JournalError, and nothing stays open."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    before = open_handles()
    with pytest.raises(JournalError, match="cannot be used"):
        await SqliteJournal(tmp_path / place).open()
    assert open_handles() == before


async def test_what_was_written_is_there_after_closing(path: Path) -> None:
    """Rows of every stage and notes, as they were."""
    journal = SqliteJournal(path)
    await journal.open()
    rows = [await brought(journal, stage, stage) for stage in Stage]
    await journal.note("service", "https://api.example")
    tally = await journal.tally()
    await journal.aclose()
    assert await reopened(path) == rows
    again = SqliteJournal(path)
    await again.open()
    assert await again.note("service") == "https://api.example"
    assert await again.tally() == tally == counted(rows)
    await again.aclose()


async def test_a_commit_reaches_the_disk(journal: SqliteJournal) -> None:
    """The writer waits for the disk at each commit: WAL, and `synchronous=FULL`."""

    def ask(connection: sqlite3.Connection) -> list[object]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert await journal._writer.run(ask) == ["wal", 2]


async def test_the_journals_folder_is_its_owners(path: Path, journal: SqliteJournal) -> None:
    """It holds prompts and images: nobody else reads it."""
    assert path.parent.stat().st_mode & 0o777 == 0o700


# ------------------------------------------------------------------- the lock


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the journal."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


async def test_a_second_process_is_told_who_holds_the_folder(holder: subprocess.Popen[str], path: Path) -> None:
    """By process and host. A reader without the lock is let in; when the holder is killed, so is everybody."""
    with pytest.raises(JournalLocked, match=rf"process {holder.pid} on {socket.gethostname()}") as refused:
        await SqliteJournal(path).open()
    assert str(path.parent.parent) in str(refused.value)
    assert await reopened(path) == []
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    journal = SqliteJournal(path)
    await journal.open()
    await journal.aclose()


async def test_a_refused_opening_changes_nothing(journal: SqliteJournal, path: Path) -> None:
    """Neither the holder's database nor the note of who holds it."""
    row = await brought(journal, "row", Stage.SUBMITTED)
    for _ in range(2):
        with pytest.raises(JournalLocked, match=r"in use by process \d+ on"):
            await SqliteJournal(path).open()
    assert await journal.get("row") == row
    await journal.save(row)


async def test_closing_gives_the_folder_back(path: Path, open_handles: Callable[[], int]) -> None:
    """The next one opens it at once, and no file stays open."""
    before = open_handles()
    for _ in range(3):
        journal = SqliteJournal(path)
        await journal.open()
        await journal.aclose()
    assert open_handles() == before


def test_a_lock_that_cannot_be_noted_is_not_kept(tmp_path: Path) -> None:
    """Where the disk has no room for the holder's name, the lock is given back with the error."""
    (tmp_path / "lock").write_bytes(b"")
    lock = FolderLock(tmp_path / "lock", tmp_path)
    with largest_file(0), pytest.raises(OSError, match="File too large"):
        lock.take()
    other = FolderLock(tmp_path / "lock", tmp_path)
    other.take()
    other.release()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("data/job", "nfs4"),
        ("data/local/job", None),
        ("with space/job", "cifs"),
        ("elsewhere", None),
        ("database", None),
    ],
)
def test_network_file_systems_are_told_from_local_ones(tmp_path: Path, folder: str, kind: str | None) -> None:
    """By the nearest mount above the folder."""
    (tmp_path / folder).mkdir(parents=True)
    mounts = tmp_path / "mounts"
    spaced = str(tmp_path / "with space").replace(" ", "\\040")
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path}/data nfs4 rw 0 0\n"
        f"/dev/sdb {tmp_path}/data/local ext4 rw 0 0\n//host/y {spaced} cifs rw 0 0\nbroken\n"
    )
    assert network_file_system(tmp_path / folder, mounts) == kind
    assert network_file_system(tmp_path / folder, tmp_path / "none") is None


async def test_a_journal_on_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the way out: the option that puts it on a local disk."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"host:/x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(network_file_system, "__defaults__", (mounts,))
    with pytest.raises(ConfigurationError, match=r"network file system \(nfs\).*--journal PATH"):
        await SqliteJournal(path).open()


# ---------------------------------------------------------------- group commit


async def test_what_waits_together_is_committed_together(journal: SqliteJournal) -> None:
    """A hundred saves at once are two commits: the first alone, and all that came while it was under way."""
    records = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(100)]
    commits: list[str] = []
    await traced(journal, lambda text: commits.append(text) if text == "COMMIT" else None)
    await asyncio.gather(*(journal.save(advance(record, Accepted(f"id{record.key}"))) for record in records))
    await traced(journal, None)
    assert len(commits) == 2
    assert (await journal.tally()).submitted == 100


async def test_nothing_is_acknowledged_before_its_commit(journal: SqliteJournal, path: Path) -> None:
    """While a commit is not carried out none of its callers is told; once one is told, another process can read it."""
    records = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(5)]
    at_commit, may_commit = threading.Event(), threading.Event()

    def hear(text: str) -> None:
        if text == "COMMIT":
            at_commit.set()
            may_commit.wait()

    await traced(journal, hear)
    saves = [asyncio.ensure_future(journal.save(advance(record, Accepted(record.key)))) for record in records]
    await asyncio.get_running_loop().run_in_executor(None, at_commit.wait)
    assert {record.stage for record in await reopened(path)} == {Stage.SUBMITTING}
    assert not any(save.done() for save in saves)
    may_commit.set()
    for record, save in zip(records, saves, strict=True):
        await save
        assert advance(record, Accepted(record.key)) in await reopened(path)


async def test_a_copy_of_any_moment_holds_all_that_was_acknowledged(journal: SqliteJournal, path: Path) -> None:
    """As after a power cut: the database and its log, copied again and again while 200 rows are saved."""
    records = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(200)]
    acknowledged: set[str] = set()

    async def save(record: Record) -> None:
        await journal.save(advance(record, Accepted(record.key)))
        acknowledged.add(record.key)

    async def run() -> None:
        for at in range(0, len(records), 10):
            await asyncio.gather(*map(save, records[at : at + 10]))

    running = asyncio.ensure_future(run())
    copies: list[tuple[Path, set[str]]] = []
    while not running.done():
        copy = path.parent / f"copy{len(copies)}"
        copies.append((copy, set(acknowledged)))
        copy.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(path.with_name(name), copy)
        await asyncio.sleep(0.002)
    await running
    assert len(copies) > 2
    for copy, known in copies[:: max(1, len(copies) // 8)]:
        rows = await reopened(copy / "journal.db")
        assert known <= {record.key for record in rows if record.stage is Stage.SUBMITTED}
        assert len(rows) == 200


async def test_a_cancelled_waiter_takes_nothing_from_the_others(journal: SqliteJournal) -> None:
    """Whoever of a batch leaves, in whatever commit: the others are told of their own, and all is written."""
    records = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(10)]
    saves = [asyncio.ensure_future(journal.save(advance(record, Accepted(record.key)))) for record in records]
    await asyncio.sleep(0)
    for i in (0, 1, 5):
        saves[i].cancel()
    await asyncio.wait(saves)
    assert [i for i, save in enumerate(saves) if save.cancelled()] == [0, 1, 5]
    assert [save.result() for i, save in enumerate(saves) if i not in {0, 1, 5}] == [None] * 7
    await brought(journal, "after", Stage.PLANNED)
    assert (await journal.tally()).submitted == 10


async def test_work_that_fails_fails_alone(journal: SqliteJournal) -> None:
    """An error of whatever kind in one piece of work leaves the others of its commit as they are."""
    first = asyncio.ensure_future(entered(journal, planned("first")))
    results = await asyncio.gather(
        journal.enrol([planned("before")]),
        journal.note("name", "half a letter: \udc80"),
        journal._commits.do(lambda connection: connection.execute("INSERT INTO nowhere VALUES (1)")),
        journal._commits.do(lambda _connection: 1 // 0),
        journal.enrol([planned("after")]),
        return_exceptions=True,
    )
    await first
    assert results[0] == [planned("before")]
    assert results[4] == [planned("after")]
    assert [type(results[i]) for i in (1, 2, 3)] == [JournalError, JournalError, ZeroDivisionError]
    assert [record.key for _, record in await journal.rows(after=0, limit=9)] == ["first", "before", "after"]


async def test_work_that_fails_half_way_leaves_nothing(journal: SqliteJournal) -> None:
    """What it had written by then is undone, and what was asked beside it stands."""

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO note VALUES ('half', 'done')")
        raise JournalError("it is not to be")

    first = asyncio.ensure_future(entered(journal, planned("first")))
    await asyncio.sleep(0)
    results = await asyncio.gather(journal._commits.do(half), journal.note("whole", "done"), return_exceptions=True)
    await first
    assert isinstance(results[0], JournalError)
    assert (await journal.note("half"), await journal.note("whole")) == (None, "done")


async def test_saves_wherever_they_are_cancelled_leave_a_whole_journal(
    path: Path, cancel_everywhere: CancelEverywhere, open_handles: Callable[[], int]
) -> None:
    """Opened, written and closed, cancelled at each await: what the rows say fits together, and nothing stays open."""
    before = open_handles()
    made: list[SqliteJournal] = []
    count = 0

    async def scenario() -> None:
        nonlocal count
        count += 1
        journal = SqliteJournal(path.with_name(f"journal{count}.db"), lock=False)
        made.append(journal)
        await journal.open()
        record = intent(await entered(journal, planned("row")))
        await journal.intend(record, ceiling=None)
        await journal.save(advance(record, Accepted("id")))

    async def check() -> None:
        journal = made.pop()
        with anyio.CancelScope(shield=True):
            await journal.aclose()
        rows = await reopened(journal._path)
        assert [record.stage for record in rows] in ([], ["planned"], ["submitting"], ["submitted"])
        assert open_handles() == before

    assert await cancel_everywhere(scenario, check) >= 4


async def test_closing_writes_what_is_waiting(path: Path) -> None:
    """A save that nobody waited for is there."""
    journal = SqliteJournal(path)
    await journal.open()
    records = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(10)]
    saves = [asyncio.ensure_future(journal.save(advance(record, Accepted(record.key)))) for record in records]
    await asyncio.sleep(0)
    await journal.aclose()
    await asyncio.gather(*saves)
    assert {record.stage for record in await reopened(path)} == {Stage.SUBMITTED}


async def test_closing_gives_the_folder_back_though_it_is_cancelled(path: Path) -> None:
    """A cancel scope strikes at every await: the lock and the files are let go all the same."""
    journal = SqliteJournal(path)
    await journal.open()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await journal.aclose()
    again = SqliteJournal(path)
    await again.open()
    await again.aclose()


# --------------------------------------------------- a disk that takes no more


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse what goes beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_told_and_nothing_is_half_written(journal: SqliteJournal, path: Path) -> None:
    """Every caller hears a JournalError, none waits for ever; when there is room again the journal goes on."""
    rows = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(20)]
    log = path.with_name("journal.db-wal").stat().st_size
    with largest_file(log):
        saves = [journal.save(advance(row, Accepted(row.key))) for row in rows]
        results = await asyncio.wait_for(asyncio.gather(*saves, return_exceptions=True), 30)
        assert {type(result) for result in results} == {JournalError}
        assert all("cannot be used" in str(result) for result in results)
        assert [record for _, record in await journal.rows(after=0, limit=100)] == rows
    moved = [advance(row, Accepted(row.key)) for row in rows]
    await asyncio.gather(*map(journal.save, moved))
    assert await reopened(path) == moved


async def test_a_full_database_is_told(journal: SqliteJournal) -> None:
    """SQLite's own "disk is full" is a JournalError too, for all of the commit; later ones stand again."""
    await brought(journal, "row", Stage.PLANNED)
    pages = await journal._writer.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await journal._writer.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    many = [planned(f"more{i}", "a cat " * 400) for i in range(50)]
    results = await asyncio.gather(*(journal.enrol([one]) for one in many), return_exceptions=True)
    assert JournalError in {type(result) for result in results}
    stand = [record.key for _, record in await journal.rows(after=0, limit=100)]
    kept = [one.key for one, result in zip(many, results, strict=True) if isinstance(result, list)]
    assert stand == ["row", *kept]
    await journal._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 10000").fetchone())
    assert await journal.enrol(many) == many


@pytest.mark.parametrize("lost", ["deleted", "moved", "another"])
async def test_a_journal_that_is_not_at_its_place_any_more_takes_no_intent(path: Path, lost: str) -> None:
    """SQLite would go on with a file that nobody finds again: what is bought into it is lost."""
    journal = SqliteJournal(path)
    await journal.open()
    record = await entered(journal, planned("row"))
    if lost == "deleted":
        shutil.rmtree(path.parent)
    else:
        path.parent.rename(path.parent.with_name("elsewhere"))
    if lost == "another":
        put(path, b"")
    with pytest.raises(JournalError, match="deleted or moved while it was in use: nothing more is bought"):
        await journal.intend(intent(record), ceiling=None)
    await journal.aclose()


async def test_a_broken_journal_says_so_when_read(path: Path) -> None:
    """Pages that were overwritten are a JournalError, not an answer."""
    journal = SqliteJournal(path)
    await journal.open()
    await journal.enrol([planned(f"row{i}", "a cat " * 300) for i in range(50)])
    await journal.aclose()
    content = taken_away(path)
    put(path, content[:4096] + b"\xff" * (len(content) - 4096))
    again = SqliteJournal(path)
    with pytest.raises(JournalError):
        await again.open()
        await again.rows(after=0, limit=100)
    await again.aclose()
