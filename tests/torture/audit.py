"""The audit: the account book, which the service keeps, against the journal and the folder, which the program keeps.

It believes nothing that the program says of itself. The journal is read from a copy of its files, so that looking at
what a killed process left changes nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import field, frozen

from kling_async.simulator import Purchase
from kling_async.simulator.settings import DAY
from kling_async.simulator.usagelog import LogQuery
from tests.cli.harness import KEY, LoopThread
from tests.torture.witness import Witness

STAGES: Final = ("planned", "submitting", "uncertain", "submitted", "rendered", "done", "failed")
_SUMS: Final = {"credits": "credits", "bytes": "size", "sunk": "sunk"}
"""Which column of the rows each column of the tally adds up."""


@frozen
class Journal:
    """What a journal holds."""

    rows: Mapping[str, Mapping[str, Any]]
    """Every row by its key."""

    def of(self, *stages: str) -> list[Mapping[str, Any]]:
        """Return the rows in some stages."""
        return [row for row in self.rows.values() if row["stage"] in stages]

    @property
    def stages(self) -> Counter[str]:
        """How many rows stand in each stage."""
        return Counter(row["stage"] for row in self.rows.values())


@frozen
class Books:
    """The account book and what else the service knows, as they stood at one moment."""

    purchases: Mapping[str, Purchase]
    """Every purchase by its generation's id, as it stood."""
    duplicates: list[list[str]]
    """Bodies bought more than once without a refund."""
    leaks: list[str]
    """Requests to the file host that carried the key."""
    unclean: list[str]
    """Ids asked for that no job ever had."""
    submits: int
    """How many submits arrived."""
    linkless: frozenset[str]
    """Generations that end without a link: nobody can fetch them."""
    listed: Mapping[str, str]
    """What the usage log lists now: the state by the id that the submit carried."""
    files: Mapping[str, frozenset[str]] = field(repr=False)
    """The digests of each finished generation's file, of all its editions."""


def read_journal(path: Path) -> Journal | None:
    """Return what a journal holds, from a copy of its files; None where there is none yet.

    The copy is damaged, its tally is wrong, or a row makes no sense: `AssertionError`.
    """
    if not path.exists() or not path.stat().st_size:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        for suffix in ("", "-wal"):
            if (source := path.with_name(path.name + suffix)).exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        with closing(sqlite3.connect(copy)) as connection:
            connection.row_factory = sqlite3.Row
            assert [tuple(row) for row in connection.execute("PRAGMA integrity_check")] == [("ok",)]
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return None  # killed before the first migration
            rows = {row["key"]: dict(row) for row in connection.execute("SELECT * FROM row")}
            tally = {row["stage"]: dict(row) for row in connection.execute("SELECT * FROM tally")}
    journal = Journal(rows)
    assert set(tally) == set(STAGES)
    for stage, told in tally.items():
        assert told == {"stage": stage, **_added_up(journal.of(stage), told)}, f"the tally of {stage} is wrong"
    return journal


def _added_up(rows: list[Mapping[str, Any]], columns: Mapping[str, object]) -> dict[str, int]:
    sums = {name: sum(row[of] or 0 for row in rows) for name, of in _SUMS.items() if name in columns}
    return {"rows": len(rows), "shared": sum(row["shares"] is not None for row in rows), **sums}


def read_books(service: Witness, loop: LoopThread) -> Books:
    """Return what the service knows now."""

    async def read() -> Books:
        now = service.now()
        service.world.advance(now)
        book, jobs = service.book, service.world.jobs
        return Books(
            purchases={name: attrs.evolve(purchase) for name, purchase in book.purchases.items()},
            duplicates=[[one.generation_id for one in group] for group in book.duplicates()],
            leaks=list(book.key_leaks),
            unclean=list(book.unclean_polls),
            submits=book.calls["submit"],
            linkless=frozenset(name for name, job in jobs.items() if not job.fate.linked),
            listed={row["client_request_id"]: row["status"] for row in _list(service, now)},
            files={
                name: frozenset([hashlib.sha256(file).hexdigest() for file in await service.editions(name)])
                for name, job in jobs.items()
                if job.done
            },
        )

    return loop.do(read())


def _list(service: Witness, now: float) -> Iterator[dict[str, Any]]:
    """Yield each row that the usage log lists."""
    more, offset = True, 0
    while more:
        query = LogQuery(start=now - DAY, end=now, limit=100, offset=offset)
        page: dict[str, Any] = service.world.log.page(query, KEY, now)
        yield from page["data"]
        offset, more = offset + 100, page["pagination"]["has_more"]


def hold_at_any_time(books: Books, journal: Journal | None, out: Path) -> int:
    """Assert what must hold at every moment, whatever just died; return how many files were compared.

    Nothing is bought twice; whatever money stands behind is known to one row; a file under a final name is whole.
    """
    assert not books.duplicates, f"bought twice: {books.duplicates}"
    assert not books.leaks, f"the key was sent to the file host: {books.leaks}"
    assert not books.unclean, f"polled for what was never sold: {books.unclean}"
    rows = list(journal.rows.values()) if journal else []
    asked = {row["client_request_id"]: row for row in rows if row["client_request_id"]}
    owned = {row["generation_id"]: row for row in rows if row["generation_id"]}
    for name, purchase in books.purchases.items():
        if purchase.state == "refunded" or name in owned:
            continue
        row = asked.get(purchase.request_id)
        assert row is not None, f"lost, no row knows it: {purchase}"
        assert row["stage"] in {"submitting", "uncertain"}, f"lost, its row forgot it: {purchase}, {row}"
    for name, row in owned.items():
        paid = row["stage"] not in {"planned", "failed"}
        assert not paid or name in books.purchases, f"a generation that was never sold: {row}"
    return _compare_files(books, rows, out)


def _compare_files(books: Books, rows: list[Mapping[str, Any]], out: Path) -> int:
    """Assert that each file under a final name is the whole video of its row, and that the journal knew it before."""
    videos = out / "videos"
    names = {row["name"]: row for row in rows}
    shared = {(_content(row), row["sha256"]): row["generation_id"] for row in rows if row["stage"] == "done"}
    found = [path for path in videos.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    for path in found:
        row = names[path.relative_to(videos).as_posix()]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == row["sha256"], f"{path.name} is not what the journal says: {row}"
        one = row["generation_id"] or row["shares"] or shared[_content(row), digest]
        assert digest in books.files[one], f"{path.name} is not what was made: {row}"
    return len(found)


def hold_at_the_end(books: Books, journal: Journal, out: Path, summary: Mapping[str, Any], code: int) -> None:
    """Assert what must hold when a run came to its end by itself: the summary, the exit code, and the results agree."""
    stages = journal.stages
    done = journal.of("done")
    aside = [row for row in journal.of("uncertain", "submitted", "rendered") if row["trouble_kind"]]
    assert not journal.of("submitting"), "a run ended with a submit in the air"
    assert len(aside) == stages["uncertain"] + stages["submitted"] + stages["rendered"], "a row was left on its way"
    pending = stages["planned"] + stages["submitted"] + stages["rendered"]
    told = {name: summary[name] for name in ("rows", "done", "failed", "uncertain", "pending")}
    assert told == {
        "rows": len(journal.rows),
        "done": len(done),
        "failed": stages["failed"],
        "uncertain": stages["uncertain"],
        "pending": pending,
    }
    assert code == (0 if len(done) == len(journal.rows) else 3)
    content = {_content(row) for row in aside}
    for row in journal.of("planned"):
        assert _content(row) in content, f"left unbought: {row}"
    waiting = [row for row in journal.of("planned") if row["trouble_kind"]]
    _hold_results(done, [*journal.of("failed"), *aside, *waiting], out)
    for row in done:
        if row["generation_id"] and row["credits"] is not None:
            assert row["credits"] == books.purchases[row["generation_id"]].charged, f"the money does not agree: {row}"


def _content(row: Mapping[str, Any]) -> tuple[object, object]:
    """Return what a row asks for: rows that ask for the same wait for one another."""
    request = json.loads(row["request"])
    return request["image"]["text"], request["prompt"]


def _hold_results(done: list[Mapping[str, Any]], rest: list[Mapping[str, Any]], out: Path) -> None:
    """Assert that each row stands in the results exactly once, and that nothing else lies in the folder."""
    told = sorted((line["key"], line["file_name"], line["sha256"], line["size"]) for line in _lines(out, "metadata"))
    assert told == sorted((row["key"], f"videos/{row['name']}", row["sha256"], row["size"]) for row in done)
    assert sorted(line["key"] for line in _lines(out, "failures")) == sorted(row["key"] for row in rest)
    videos = {path.relative_to(out).as_posix() for path in (out / "videos").rglob("*") if path.is_file()}
    assert videos - {f"videos/{row['name']}" for row in rest} == {f"videos/{row['name']}" for row in done}
    left = [path for path in out.rglob("*") if path.name.endswith((".part", ".tmp"))]
    assert not left, f"temporary files were left: {left}"


def _lines(out: Path, name: str) -> list[dict[str, Any]]:
    path = out / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def hold_when_calm(before: Books, after: Books, journal: Journal) -> None:
    """Assert what is left after a start at which nothing went wrong: only what nobody could know or fetch.

    Args:
        before: What the service knew as the run began.
        after: What it knew in the end.
        journal: How the rows stand.
    """
    for row in journal.of("uncertain"):
        assert row["client_request_id"] not in before.listed, f"listed in the log, and not found: {row}"
    for row in journal.of("submitted", "rendered"):
        assert row["generation_id"] in after.linkless, f"a video that could be fetched is not here: {row}"
    for row in journal.of("failed"):
        bought = after.purchases.get(row["generation_id"] or "")
        assert bought is None or bought.state == "refunded", f"failed, and charged: {row}"
