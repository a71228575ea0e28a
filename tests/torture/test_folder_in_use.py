"""Two programs and one folder: the second is told so and changes nothing, whenever it comes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kling_async.simulator import SimulatorSettings
from tests.cli.harness import KEY, LoopThread, Process, clean_environment, png, until
from tests.torture.audit import hold_at_any_time, hold_at_the_end, read_books, read_journal
from tests.torture.scenario import ENVIRONMENT
from tests.torture.witness import Witness

ROWS = 8


@pytest.fixture
def service(loop: LoopThread) -> Iterator[Witness]:
    settings = SimulatorSettings(keys=(KEY,), clips="template", durations=1.5, limit=4, limit_policy="queue")
    opened = loop.do(Witness(settings).__aenter__())
    yield opened
    loop.do(opened.__aexit__(None, None, None))


def start(folder: Path, service: Witness) -> Process:
    """Start the program on the folder."""
    command = [sys.executable, "-m", "kling_async", "run", "shots.jsonl", "--out", "out", "--json", "--yes"]
    environment = {"AIMLAPI_BASE_URL": service.base_url, "AIMLAPI_API_KEY": KEY, **ENVIRONMENT}
    return Process(command, cwd=folder, env={**clean_environment(), **environment})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cat.png").write_bytes(png())
    rows = [{"key": f"row{i}", "image": "cat.png", "prompt": f"prompt {i}"} for i in range(ROWS)]
    (tmp_path / "shots.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return tmp_path


def test_of_two_started_together_one_works(folder: Path, service: Witness, loop: LoopThread) -> None:
    """Exactly one finds the folder in use, names the other, and all is bought once."""
    both = [start(folder, service) for _ in range(2)]
    until(lambda: any(process.popen.poll() is not None for process in both), "one of the two to end")
    loser, winner = sorted(both, key=lambda process: process.popen.poll() is None)
    told = loser.finish()
    assert (told.code, winner.popen.poll()) == (6, None)
    assert f"in use by process {winner.popen.pid} " in told.err
    assert told.document["error"] == "JournalLocked"
    ended = winner.finish()
    assert ended.code == 0, ended.err
    books, journal = read_books(service, loop), read_journal(folder / "out" / ".kling" / "journal.db")
    assert journal is not None
    assert hold_at_any_time(books, journal, folder / "out") == ROWS
    hold_at_the_end(books, journal, folder / "out", ended.document, ended.code)
    assert books.submits == len(books.purchases) == ROWS


def test_one_in_the_midst_of_another_changes_nothing(folder: Path, service: Witness, loop: LoopThread) -> None:
    """It ends with 6 and buys nothing; when the first one is killed, the folder is free at once."""
    first = start(folder, service)
    until(lambda: loop.call(lambda: service.book.calls["submit"]) >= 2, "two submits")
    before = read_journal(folder / "out" / ".kling" / "journal.db")
    second = start(folder, service).finish()
    assert (second.code, first.popen.poll()) == (6, None)
    assert "Traceback" not in second.err
    os.killpg(first.popen.pid, signal.SIGKILL)
    assert first.finish().code == -signal.SIGKILL
    after = read_journal(folder / "out" / ".kling" / "journal.db")
    assert before is not None
    assert after is not None
    assert before.rows.keys() == after.rows.keys()
    hold_at_any_time(read_books(service, loop), after, folder / "out")
    ended = start(folder, service).finish()
    assert ended.code == 0, ended.err
    books = read_books(service, loop)
    assert (len(books.purchases), books.duplicates) == (ROWS, [])
