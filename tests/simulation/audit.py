"""Holds the account book, the journal and the folder against the promises.

It reads what a life left with its own eyes: SQL and files, not the client's doors.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Final

from attrs import frozen

from kling_async import Retry
from kling_async.rules.identity import client_request_id
from kling_async.simulator import Purchase
from kling_async.simulator.settings import CREDITS_PER_USD, MODEL
from kling_async.types.record import Stage
from tests.simulation.remote import Remote
from tests.simulation.scenario import Scenario

_OWN_FAULT: Final = frozenset({"GenerationFailed", "InvalidRequest", "ApiError", "NotFound", "ProtocolViolation"})
"""What may fail a row for good: never the service's trouble."""
_MOST: Final = 20
"""POSTs after which a row that was taken and came to nothing each time is given up."""
_DENIALS: Final = 3
"""Answers that there is no video before a generation may be given up."""
_FULL: Final = 0.8
"""Share of the slots' time that must be used where nothing is wrong."""


class Broken(AssertionError):  # noqa: N818 - what happened, as in the package
    """A promise was broken."""


def hold(*, true: bool, otherwise: str) -> None:
    """Hold a promise.

    Raises:
        Broken: It is not kept.
    """
    if not true:
        raise Broken(otherwise)


@frozen
class Left:
    """What a life left behind."""

    folder: Path
    """The job's folder."""
    remote: Remote
    """The service and its account book."""
    rows: dict[str, sqlite3.Row]
    """The journal's rows by their keys."""
    tally: dict[str, sqlite3.Row]
    """The journal's tally by stage."""
    notes: dict[str, str]
    """What else the journal remembers."""

    @classmethod
    def read(cls, folder: Path, remote: Remote) -> Left:
        """Read the journal; an empty one where there is none yet."""
        path = folder / ".kling" / "journal.db"
        if not path.exists():
            return cls(folder, remote, {}, {}, {})
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            hold(true=connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok", otherwise="a damaged journal")
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return cls(folder, remote, {}, {}, {})
            rows = {row["key"]: row for row in connection.execute("SELECT * FROM row")}
            tally = {row["stage"]: row for row in connection.execute("SELECT * FROM tally")}
            notes = dict(connection.execute("SELECT name, value FROM note").fetchall())
        remote.excused |= {row["generation_id"] or row["client_request_id"] for row in rows.values() if _set_aside(row)}
        return cls(folder, remote, rows, tally, notes)

    @property
    def ids(self) -> set[str]:
        """Every generation that the journal knows."""
        known = {row["generation_id"] for row in self.rows.values()}
        return {one for one in known if one} | {one for row in self.rows.values() for one in _former(row)}

    @property
    def set_aside(self) -> bool:
        """Whether a row waits for a person, or for another start."""
        return any(_set_aside(row) for row in self.rows.values())

    def by_request_id(self) -> dict[str, sqlite3.Row]:
        """Return the row of each POST that the journal knows of."""
        journal_id = self.notes.get("journal_id", "")
        return {
            client_request_id(journal_id, key, attempt): row
            for key, row in self.rows.items()
            for attempt in range(1, row["attempt"] + 1)
        }

    def underrated(self) -> list[Purchase]:
        """Return what was bought at the dearer price before the client could know of it, and is not refunded."""
        remote = self.remote
        return [
            one
            for one in remote.desk.book.bought()
            if one.state != "refunded"
            and one.price > remote.price_before(one.duration)
            and remote.left_at[one.request_id] <= remote.told_at.get(one.duration, inf)
        ]

    def surplus(self, purchase: Purchase) -> int:
        """Return the credits by which a purchase was dearer than before the price rose."""
        return purchase.price - self.remote.price_before(purchase.duration)

    def forget_unwritten_prices(self) -> None:
        """Forget that a dearer price was told, where the life that was told it could not write it down."""
        for duration in list(self.remote.told_at):
            seen = int(self.notes.get(f"price seen {duration} {MODEL}", "0"))
            if seen <= self.remote.price_before(duration):
                del self.remote.told_at[duration]

    def videos(self) -> dict[str, Path]:
        """Return what stands under final names, and under temporary ones."""
        found = (self.folder / "videos").rglob("*")
        return {path.relative_to(self.folder / "videos").as_posix(): path for path in found if path.is_file()}

    def open_rows(self) -> list[str]:
        """Return the rows that have not ended and are not set aside."""
        waited_for = {_asked_for(row) for row in self.rows.values() if _set_aside(row)}
        ended = {Stage.DONE, Stage.FAILED}
        return [
            f"{key} {row['stage']}"
            for key, row in self.rows.items()
            if row["stage"] not in ended
            and not _set_aside(row)
            and not (row["stage"] == Stage.PLANNED and _asked_for(row) in waited_for)
        ]

    def at_its_end(self, scenario: Scenario) -> bool:
        """Tell whether every row has ended."""
        return len(self.rows) == len(scenario.requests) and not self.open_rows()


def _asked_for(row: sqlite3.Row) -> str:
    """Return what a row asks for, its key apart: rows of equal content share one generation."""
    return json.dumps({**json.loads(row["request"]), "key": None}, sort_keys=True)


def _set_aside(row: sqlite3.Row) -> bool:
    return bool(row["trouble_kind"]) and row["stage"] in {Stage.SUBMITTED, Stage.RENDERED, Stage.UNCERTAIN}


def _has_no_video(row: sqlite3.Row) -> bool:
    """Tell whether a row was set aside, or waits for the video of one that was."""
    return _set_aside(row) or bool(row["trouble_kind"] and row["stage"] == Stage.PLANNED)


def _former(row: sqlite3.Row) -> list[str]:
    return list(json.loads(row["former"] or "[]")) if "former" in row.keys() else []  # noqa: SIM118 - of a Row


def _is_temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def audit_life(left: Left, scenario: Scenario) -> None:
    """Hold what must be true at every moment, a crash's too."""
    book = left.remote.desk.book
    given_up = {one for row in left.rows.values() for one in _former(row)}
    twice = [
        [one for one in group if not {one.generation_id, one.request_id} & given_up] for group in book.duplicates()
    ]
    twice = [group for group in twice if len(group) > 1]
    hold(true=not twice, otherwise=f"bought twice: {_names(twice)}")
    hold(true=not book.key_leaks, otherwise="the key was sent to the file host")
    hold(true=not book.unclean_polls, otherwise=f"asked for ids that never were: {book.unclean_polls}")
    most = left.remote.most_open
    hold(true=most <= scenario.cap, otherwise=f"{most} generations were open at once, {scenario.cap} may be")
    _audit_writing(left)
    _audit_files(left)
    _audit_money(left)


def _audit_writing(left: Left) -> None:
    """What was sent was written before; what was asked for is known."""
    book, known, ids = left.remote.desk.book, left.by_request_id(), left.ids
    unwritten = [one for one in book.request_ids if one not in known]
    hold(true=not unwritten, otherwise=f"POSTs left before their intents were written: {unwritten}")
    free = {one.generation_id for one in book.bought() if one.state == "refunded"}
    forgotten = [one for one in book.polls_by_id if one not in ids and one not in free]
    hold(true=not forgotten, otherwise=f"polled, and not written down: {forgotten}")
    for key, row in left.rows.items():
        purchase = book.purchases.get(row["generation_id"] or "")
        if purchase is None:
            hold(true=row["generation_id"] is None, otherwise=f"{key} has an id that was never given")
            continue
        prompt = json.loads(row["request"]).get("prompt")
        hold(true=purchase.prompt == prompt, otherwise=f"{key} has the generation of another row: {purchase.prompt!r}")
    for purchase in book.bought():
        if purchase.state == "refunded" or purchase.generation_id in ids:
            continue
        sender = known.get(purchase.request_id or "")
        searched = sender is not None and sender["stage"] in {Stage.SUBMITTING, Stage.UNCERTAIN}
        hold(true=searched or _given_up(known, purchase), otherwise=f"{purchase.prompt!r} was bought and is lost")


def _given_up(known: dict[str, sqlite3.Row], purchase: Purchase) -> bool:
    """Tell whether its owner gave a purchase up, knowing of it."""
    row = known.get(purchase.request_id or "")
    return row is not None and purchase.request_id in _former(row)


def _audit_files(left: Left) -> None:
    """What stands under a final name is what was served, and the journal knew it before."""
    jobs = left.remote.desk.world.jobs
    by_name = {row["name"]: row for row in left.rows.values()}
    for name, path in left.videos().items():
        if _is_temporary(name):
            continue
        digest, row = sha256(path.read_bytes()).hexdigest(), by_name.get(name)
        hold(true=row is not None, otherwise=f"{name} belongs to no row")
        if row is None:
            continue
        hold(true=row["sha256"] == digest, otherwise=f"{name} was named before its digest was written")
        one = row["generation_id"] or row["shares"]
        if one is not None:
            hold(true=digest in left.remote.digests(jobs[one]), otherwise=f"{name} is not what was served")
    for row in left.rows.values():
        if row["stage"] == Stage.DONE:
            hold(
                true=(left.folder / "videos" / row["name"]).is_file(), otherwise=f"{row['key']} is done without a file"
            )


def _audit_money(left: Left) -> None:
    """The tally is the sum of the rows; what is spent or held at the service is counted."""
    rows = Counter(row["stage"] for row in left.rows.values())
    money = Counter[str]()
    for row in left.rows.values():
        money[row["stage"]] += row["credits"] or 0
    for stage, told in left.tally.items():
        hold(true=told["rows"] == rows[stage], otherwise=f"{told['rows']} rows {stage} by the tally, not {rows[stage]}")
        hold(
            true=told["credits"] == money[stage],
            otherwise=f"{told['credits']} credits {stage} by the tally, not {money[stage]}",
        )
    if left.tally:
        book = left.remote.desk.book
        counted = sum(amount for stage, amount in money.items() if stage != Stage.FAILED)
        counted += sum(row["sunk"] for row in left.rows.values() if "sunk" in row.keys())  # noqa: SIM118 - of a Row
        known = left.by_request_id()
        unknown = sum(
            max(0, one.price - (known[one.request_id or ""]["credits"] or 0))
            for one in left.underrated()
            if not _given_up(known, one)
        )
        unknown += sum(left.surplus(one) for one in left.underrated() if _given_up(known, one))
        hold(
            true=counted + unknown >= book.charges + book.holds,
            otherwise=f"{book.charges + book.holds} credits are spent or held, the journal counts {counted}",
        )


def audit_word(before: Left, left: Left, retry: Retry | None, *, log_was_read: bool) -> None:
    """Nothing is given up but by its owner's word, of a row that was set aside, and that nobody has a video of.

    Args:
        before: What the life before left.
        left: What this one left.
        retry: What its owner said; None for a plain run.
        log_was_read: Whether this life asked the usage log.
    """
    for key, row in left.rows.items():
        known = before.rows.get(key)
        given_up = [one for one in _former(row) if known is None or one not in _former(known)]
        hold(true=not given_up or (retry is not None and retry.buy_again), otherwise=f"{key} was given up unasked")
        for one in given_up:
            aside = known is not None and _set_aside(known)
            hold(true=aside and len(given_up) == 1, otherwise=f"{key} gave up {one}, and was not set aside")
            if known is None or retry is None:
                continue
            if one == known["client_request_id"] and known["stage"] == Stage.UNCERTAIN:
                looked = retry.uncertain and log_was_read
                hold(true=looked, otherwise=f"{key} gave up its lost POST, which was not looked for")
                continue
            said = left.remote.said.get(one, [])
            unfinished = known["stage"] == Stage.SUBMITTED and said[-1:] == ["unfinished"]
            denied = said.count("denied") >= _DENIALS and said[-1:] != ["link"]
            gone = unfinished or denied or said.count("refused") >= _DENIALS
            hold(true=gone, otherwise=f"{key} gave up {one}, of which was said in this life: {said}")


def audit_budget(left: Left, budget: float | None) -> None:
    """The ceiling was passed by nothing but the POSTs that were in the air when a dearer price was first told."""
    book = left.remote.desk.book
    if budget is not None:
        taken = (book.charges + book.holds) / CREDITS_PER_USD
        beyond = sum(map(left.surplus, left.underrated())) / CREDITS_PER_USD
        hold(
            true=taken <= budget + beyond + 1e-6,
            otherwise=f"{taken:.2f} USD are spent or held, the budget is {budget:.2f}, and {beyond:.2f} were not known",
        )


def audit_end(left: Left, scenario: Scenario) -> None:
    """Hold what must be true when the job has come to its end."""
    book, jobs = left.remote.desk.book, left.remote.desk.world.jobs
    known, ids = left.by_request_id(), left.ids
    for purchase in book.paid():
        if purchase.generation_id in ids:
            continue
        row = known.get(purchase.request_id or "")
        listed = jobs[purchase.generation_id].listing != "never" and left.remote.desk.settings.echo_request_id
        hold(true=row is not None and not listed, otherwise=f"{purchase.prompt!r} was paid for and is lost")
    for key, row in left.rows.items():
        if row["stage"] == Stage.FAILED:
            own = row["trouble_kind"] in _OWN_FAULT or row["attempt"] >= _MOST
            hold(true=own, otherwise=f"{key} failed by {row['trouble_kind']}")
            charged = book.purchases[row["generation_id"]].state == "charged" if row["generation_id"] else False
            hold(true=not charged, otherwise=f"{key} failed, and was charged")
    strays = [name for name in left.videos() if _is_temporary(name)]
    hold(true=not strays, otherwise=f"left under temporary names: {strays}")
    _audit_results(left)
    if scenario.calm:
        _audit_use(left, scenario)


def _audit_results(left: Left) -> None:
    """Metadata and failures say what the journal says."""
    done = sorted(f"videos/{row['name']}" for row in left.rows.values() if row["stage"] == Stage.DONE)
    told = sorted(one["file_name"] for one in _lines(left.folder / "metadata.jsonl"))
    hold(true=told == done, otherwise="the metadata are not the rows that are done, each once")
    failed = sorted(key for key, row in left.rows.items() if row["stage"] == Stage.FAILED or _has_no_video(row))
    told = sorted(one["key"] for one in _lines(left.folder / "failures.jsonl"))
    hold(true=told == failed, otherwise=f"failures.jsonl tells {told}, not {failed}")


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _audit_use(left: Left, scenario: Scenario) -> None:
    """The account's slots are used, though downloads take longer than generations."""
    purchases = left.remote.desk.book.bought()
    begun, ended = min(one.bought_at for one in purchases), max(one.ended_at or 0.0 for one in purchases)
    busy = sum((one.ended_at or 0.0) - one.bought_at for one in purchases)
    share = busy / (scenario.cap * (ended - begun))
    hold(true=share >= _FULL, otherwise=f"the slots were used for {share:.0%} of the time")


def _names(groups: list[list[Purchase]]) -> list[str]:
    return [f"{group[0].prompt!r} {len(group)} times" for group in groups]
