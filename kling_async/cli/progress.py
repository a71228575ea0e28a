"""How a run is shown while it goes: a live display on a terminal, else a plain line now and then. Always on stderr.

What is shown is gathered here; how it looks is `kling_async.cli.view` and, on a terminal, `kling_async.cli.display`.
None of them may ever end a run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from kling_async.cli.ends import say
from kling_async.cli.view import View, line_of
from kling_async.errors import KlingError
from kling_async.types.outcome import usd

if TYPE_CHECKING:
    from kling_async.cli.display import Display
    from kling_async.flow.batch import Batch
    from kling_async.types.outcome import BatchReport, Tally
    from kling_async.types.record import Record

_LIVE_EVERY: Final = 0.5
_PLAIN_EVERY: Final = 10.0
_PLAIN_LATER: Final = 60.0
_LATER: Final = 600.0
"""Seconds after which a plain line comes every minute: a log of days is read by people."""
_LAST: Final = 5
"""Failures that a live display keeps in sight."""
_TOLD: Final = 50
"""Failures that are told one by one where there is no live display; the others are counted."""


class Progress:
    """Counts rows by stage as their changes are saved (an `Observer`), and shows them beside the work.

    Args:
        quiet: Whether to show nothing.
        budget: The ceiling in USD; None for none.
    """

    def __init__(self, *, quiet: bool, budget: float | None) -> None:
        self._quiet = quiet
        self._budget = budget
        self._stages: Counter[str] = Counter()
        self._rows = 0
        self._began = 0.0
        self._told = 0
        self._failures: deque[tuple[str, str]] = deque(maxlen=_LAST)
        self._display: Display | None = None
        self._pace = _Pace()

    def changed(self, before: Record, after: Record) -> None:
        """Count one saved change; without a live display, tell a row's trouble at once."""
        self._stages[str(before.stage)] -= 1
        self._stages[str(after.stage)] += 1
        if after.trouble is None or before.trouble == after.trouble:
            return
        self._failures.append((after.key, after.trouble.message))
        if self._quiet or self._display is not None:
            return
        self._told += 1
        if self._told <= _TOLD:
            say(" ".join(f"{after.key}: {after.stage}: {after.trouble.message}".splitlines()))
        if self._told == _TOLD:
            say("further rows in trouble are only counted from here on: failures.jsonl will list them")

    async def beside(self, work: Callable[[], Awaitable[BatchReport]], batch: Batch, tally: Tally) -> BatchReport:
        """Do the work, and show how it goes.

        Args:
            work: Returns the report.
            batch: The batch that works.
            tally: The rows that the run is about, as it begins.
        """
        self._start(tally)
        if self._quiet:
            return await work()
        failure: Exception | None = None
        report: BatchReport | None = None
        async with anyio.create_task_group() as around:
            around.start_soon(self._show, batch)
            try:
                report = await work()
            except Exception as error:  # noqa: BLE001  # it goes on below: the group would wrap it
                failure = error
            if self._display is not None:
                await self._look(batch)  # what stays on the terminal is how it ended
            around.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if report is None:
            raise RuntimeError("the work has no report")
        return report

    def _start(self, tally: Tally) -> None:
        for stage in ("planned", "submitting", "uncertain", "submitted", "rendered", "done", "failed"):
            self._stages[stage] = getattr(tally, stage)
        self._rows = tally.rows
        self._began = asyncio.get_running_loop().time()
        if not self._quiet and sys.stderr.isatty() and not _is_plain():
            self._display = _display()

    async def _show(self, batch: Batch) -> None:
        try:
            while True:
                await asyncio.sleep(self._every())
                await self._look(batch)
        finally:
            if self._display is not None:
                with suppress(OSError):
                    self._display.close()
                self._display = None

    def _every(self) -> float:
        if self._display is not None:
            return _LIVE_EVERY
        return _PLAIN_EVERY if asyncio.get_running_loop().time() - self._began < _LATER else _PLAIN_LATER

    async def _look(self, batch: Batch) -> None:
        """Look how things stand, and tell it; not at all where the journal cannot be read just now."""
        try:
            view = self._view(await batch.tally(), batch)
        except KlingError:
            return
        if self._display is None:
            say(line_of(view))
            return
        try:
            self._display.show(view)
        except OSError:  # the terminal is gone; the run goes on
            self._display = None

    def _view(self, tally: Tally, batch: Batch) -> View:
        now, figures = asyncio.get_running_loop().time(), batch.statistics()
        return View(
            out=str(batch.out),
            elapsed=now - self._began,
            rows=self._rows,
            stages=self._stages,
            figures=figures,
            spent=usd(tally.spent),
            held=usd(tally.held),
            budget=self._budget,
            bytes_per_second=self._pace.of(now, figures.downloads.bytes),
            failures=tuple(self._failures),
        )


class _Pace:
    """How fast a count rises, over the last ten seconds or so."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=20)

    def of(self, now: float, count: int) -> float:
        """Take note of a count, and return by how much it rises a second."""
        self._seen.append((now, count))
        since, before = self._seen[0]
        return (count - before) / (now - since) if now > since else 0.0


def _is_plain() -> bool:
    """Tell whether the owner or the terminal asks for plain text."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _display() -> Display | None:
    """Return a live display; None where the extra `progress` is not installed."""
    try:
        from kling_async.cli.display import Display
    except ImportError:
        return None
    return Display()
