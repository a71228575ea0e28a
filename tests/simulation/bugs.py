"""Sixteen planted bugs: the faults that every client of this kind is tempted by. Each must be caught by the seeds.

A bug is a patch that holds while its block lasts; the tests alone know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from attrs import evolve

from kling_async.adapters import sqlite
from kling_async.errors import DownloadError, GenerationFailed, KlingError, NotFound
from kling_async.flow import asker, buyer, downloader, walker
from kling_async.flow.crew import Instruction, Scribe
from kling_async.flow.log_pages import LogPages
from kling_async.flow.reconciler import Finding, Found, Reconciler
from kling_async.rules import lifecycle
from kling_async.rules.account import LogEntry
from kling_async.rules.lifecycle import advance
from kling_async.rules.mp4 import BoxWalk, Mp4Facts
from kling_async.rules.retry import Operation, Verdict, decide
from kling_async.types.record import Accepted, Event, Record, Retried, Stage, Verified
from tests.simulation.loop import SimulatedLoop

Bug = Callable[[], AbstractContextManager[None]]


@contextmanager
def post_again_after_a_lost_answer() -> Iterator[None]:
    """Take an answer that was lost for a POST that was not received."""

    def hasty(operation: Operation, error: KlingError) -> Verdict:
        verdict = decide(operation, error)
        return Verdict.AGAIN if verdict is Verdict.UNCERTAIN else verdict

    with patch.object(buyer, "decide", hasty):
        yield


@contextmanager
def post_before_the_intent() -> Iterator[None]:
    """POST first and write the intent with what came of it."""
    real_intend, real_save = sqlite.SqliteJournal.intend, sqlite.SqliteJournal.save
    waiting: dict[str, Any] = {}

    async def intend(self: Any, record: Record, *, ceiling: int | None) -> str | None:
        waiting[record.key] = partial(real_intend, self, record, ceiling=ceiling)
        return None

    async def save(self: Any, record: Record, *, patiently: bool = False) -> None:
        if record.key in waiting:
            await waiting.pop(record.key)()
        await real_save(self, record, patiently=patiently)

    with patch.object(sqlite.SqliteJournal, "intend", intend), patch.object(sqlite.SqliteJournal, "save", save):
        yield


@contextmanager
def next_step_before_the_id_is_saved() -> Iterator[None]:
    """Go on to polling while the id is still on its way to the disk."""
    real = Scribe.move
    under_way = set[asyncio.Future[Record]]()

    async def move(self: Scribe, record: Record, *events: Event) -> Record:
        if not any(isinstance(event, Accepted) for event in events):
            return await real(self, record, *events)
        after = record
        for event in events:
            after = advance(after, event)

        async def later() -> Record:
            await asyncio.sleep(30)
            return await real(self, record, *events)

        saving = asyncio.ensure_future(later())
        under_way.add(saving)
        return after

    with patch.object(Scribe, "move", move):
        yield


@contextmanager
def slot_freed_after_the_download() -> Iterator[None]:
    """Keep the slot of a finished generation until its video is here."""
    with patch.object(walker, "HOLDS_SLOT", lifecycle.HOLDS_SLOT | {Stage.RENDERED}):
        yield


@contextmanager
def digest_saved_after_the_rename() -> Iterator[None]:
    """Give the file its name, and then write its digest down."""
    real = downloader.Downloader._fetch

    async def fetch(self: Any, parcel: downloader.Parcel) -> Any:
        seen: list[Verified] = []

        async def keep(event: Verified) -> None:
            seen.append(event)

        file = await real(self, evolve(parcel, verified=keep))
        await parcel.verified(seen[-1])
        return file

    with patch.object(downloader.Downloader, "_fetch", fetch):
        yield


@contextmanager
def adopt_by_model() -> Iterator[None]:
    """Take the newest generation of the model in the usage log for the lost one."""

    def match(self: Any, entry: LogEntry) -> None:
        for search in self._searches.values():
            if not search.future.done() and entry.generation_id is not None and not entry.failed:
                search.future.set_result(Found(Finding.BOUGHT, entry.generation_id))
                return

    with patch.object(Reconciler, "_match", match):
        yield


@contextmanager
def ask_the_log_for_one_hour_only() -> Iterator[None]:
    """Read the last hour of the usage log, whenever the POST was."""
    real = LogPages.read

    async def page(self: Any, start: float, end: float, *, offset: int) -> Any:
        loop = asyncio.get_running_loop()
        now = loop.wall() if isinstance(loop, SimulatedLoop) else end
        return await real(self, max(start, now - 3600), max(end, now), offset=offset)

    with patch.object(LogPages, "read", page):
        yield


@contextmanager
def not_found_is_failed() -> Iterator[None]:
    """Take 404 on a poll for a generation that failed."""
    real = walker.Walker._wait

    async def wait(self: Any, record: Record, *, fresh: bool) -> Any:
        try:
            return await real(self, record, fresh=fresh)
        except NotFound as error:
            raise GenerationFailed(str(error), generation_id=record.generation_id) from error

    with patch.object(walker.Walker, "_wait", wait):
        yield


@contextmanager
def refund_twice() -> Iterator[None]:
    """Give the money of a failed generation back twice."""
    real = sqlite.SqliteJournal._save_one

    def save(self: Any, connection: Any, values: dict[str, Any]) -> None:
        before = connection.execute("SELECT credits FROM row WHERE key = :key", values).fetchone()
        real(self, connection, values)
        if values["stage"] == "failed" and before is not None and before["credits"]:
            connection.execute(
                "UPDATE counted SET credits = credits - ? WHERE stage = 'submitted'", (before["credits"],)
            )

    with patch.object(sqlite.SqliteJournal, "_save_one", save):
        yield


@contextmanager
def window_that_ignores_uncertain() -> Iterator[None]:
    """Give an uncertain row's slot to another one."""
    with patch.object(walker, "HOLDS_SLOT", lifecycle.HOLDS_SLOT - {Stage.UNCERTAIN}):
        yield


@contextmanager
def retry_of_a_paid_row() -> Iterator[None]:
    """Let `retry` begin anew what money stands behind."""
    table = dict(lifecycle.TRANSITIONS)
    for stage in (Stage.SUBMITTED, Stage.RENDERED, Stage.UNCERTAIN):
        table[stage, Retried] = Stage.PLANNED
    with patch.object(lifecycle, "TRANSITIONS", table):
        yield


@contextmanager
def truncated_file_gets_its_name() -> Iterator[None]:
    """Take what came for the whole."""

    def finish(self: BoxWalk) -> Mp4Facts:
        try:
            return real(self)
        except DownloadError:
            return Mp4Facts()

    real = BoxWalk.finish
    with patch.object(BoxWalk, "finish", finish):
        yield


@contextmanager
def buy_on_when_the_price_has_risen() -> Iterator[None]:
    """Go on under a budget as if the dearer answer had told nothing."""
    with patch.object(buyer.Buyer, "_hear_price", lambda *_: None):
        yield


@contextmanager
def plain_retry_gives_up() -> Iterator[None]:
    """Let a plain `retry` buy again whatever was set aside."""
    real = walker.Walker._take_up

    async def take_up(self: Any, record: Record, slot: Any, word: Instruction) -> Any:
        if word is Instruction.RETRY and record.set_aside and record.generation_id is not None:
            record = await self._again.buy(record, slot)
            return record, None, word if record.set_aside else Instruction.GO_ON
        return await real(self, record, slot, word)

    with patch.object(walker.Walker, "_take_up", take_up):
        yield


@contextmanager
def buy_again_never_asks_first() -> Iterator[None]:
    """Take the owner's word for the service's."""

    async def settle(_self: Any, record: Record) -> Any:
        return record, None, asker.Denial.GONE

    with patch.object(asker.Asker, "settle", settle):
        yield


@contextmanager
def sunk_money_is_forgotten() -> Iterator[None]:
    """Give the money of what was given up back to the budget."""
    real = lifecycle._given_up

    def given_up(record: Record) -> dict[str, Any]:
        return real(record) | {"sunk": record.sunk}

    with patch.object(lifecycle, "_given_up", given_up):
        yield


BUGS: Final[Mapping[str, Bug]] = {
    "POST again after a lost answer": post_again_after_a_lost_answer,
    "POST before the intent is saved": post_before_the_intent,
    "next step before the id is saved": next_step_before_the_id_is_saved,
    "slot freed after the download": slot_freed_after_the_download,
    "digest saved after the rename": digest_saved_after_the_rename,
    "adopting by model in place of id": adopt_by_model,
    "asking the log for one hour only": ask_the_log_for_one_hour_only,
    "404 as failed": not_found_is_failed,
    "a refund twice": refund_twice,
    "a window that ignores UNCERTAIN": window_that_ignores_uncertain,
    "retry of a paid row": retry_of_a_paid_row,
    "a truncated file given its name": truncated_file_gets_its_name,
    "buying on when the price has risen": buy_on_when_the_price_has_risen,
    "a plain retry gives up": plain_retry_gives_up,
    "buy-again never asks first": buy_again_never_asks_first,
    "sunk money is forgotten": sunk_money_is_forgotten,
}
"""Every planted bug by its name."""
