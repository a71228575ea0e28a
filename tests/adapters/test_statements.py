"""The journal's statements: each finds its rows by an index, so that none grows slower with the length of the job."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from kling_async.adapters.migrate import migrate
from kling_async.adapters.sqlite import _read_statements

STATEMENTS = _read_statements()


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        migrate(made)
        yield made


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_all_rows(connection: sqlite3.Connection, name: str) -> None:
    """A scan of the rows costs nothing in a small job, and a step of a job of a million rows would take seconds."""
    statement = STATEMENTS[name]
    named = re.findall(r":([a-z_]\w*)", statement)
    values: object = dict.fromkeys(named) if named else (None,) * statement.count("?")
    plan = [str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]  # type: ignore[arg-type]  # a dict or a tuple
    assert [step for step in plan if re.match(r"(SCAN|SEARCH) row\b(?!.* USING )", step)] == []


def test_the_search_finds_a_scan(connection: sqlite3.Connection) -> None:
    """The test above can fail: this is what SQLite says of a scan, whatever it calls it."""
    told = [
        str(connection.execute(f"EXPLAIN QUERY PLAN {question}").fetchone()[3])
        for question in ("SELECT max(done_order) FROM row", "SELECT * FROM row WHERE size > 1")
    ]
    assert all(re.match(r"(SCAN|SEARCH) row\b(?!.* USING )", step) for step in told), told
