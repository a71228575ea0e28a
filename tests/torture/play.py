"""Plays one round: lives that end by blows, each held against the account book; then lives that end by themselves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final, Self

from attrs import define, evolve, field

from kling_async.simulator import FaultPlan
from tests.cli.harness import KEY, Ended, LoopThread, Process, clean_environment, png, until
from tests.torture.audit import (
    Books,
    Journal,
    hold_at_any_time,
    hold_at_the_end,
    hold_when_calm,
    read_books,
    read_journal,
)
from tests.torture.scenario import ENVIRONMENT, Life, Scenario
from tests.torture.witness import Trap, Witness

_STOPPED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
_BETWEEN: Final = 0.05
"""Seconds between two blows on one process."""
LONGEST: Final = 90.0
"""Seconds after which a process that has not ended by itself is a fault; the machine may be busy."""
MOST_ENDS: Final = 3
"""Runs to the end that a round may take: a page of the log that fails at the wrong moment sets a row aside."""


@define
class Figures:
    """What was counted; figures of rounds add up."""

    rounds: int = 0
    lives: int = 0
    killed: int = 0
    """Lives ended by SIGKILL."""
    narrow: int = 0
    """Of these, at something that the service saw."""
    stopped: int = 0
    """Lives ended by SIGINT or SIGTERM."""
    locked_out: int = 0
    """Processes that found the folder in use."""
    rows: int = 0
    done: int = 0
    failed: int = 0
    aside: int = 0
    submits: int = 0
    bought: int = 0
    refunded: int = 0
    twice: int = 0
    lost: int = 0
    files: int = 0
    """Files whose bytes were compared with those that the service made."""

    def __iadd__(self, other: Figures) -> Self:
        for name in Figures.__annotations__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, name)} {name.replace('_', ' ')}" for name in Figures.__annotations__)


@define
class Round:
    """A folder, a service in which things go wrong, and one process after the other."""

    scenario: Scenario
    folder: Path
    loop: LoopThread
    figures: Figures = field(factory=Figures)
    service: Witness = field(init=False)
    processes: list[Process] = field(factory=list)

    @property
    def out(self) -> Path:
        """The job's folder."""
        return self.folder / "out"

    def play(self) -> Figures:
        """Play it, and return its figures.

        Raises:
            AssertionError: A promise was broken.
        """
        scenario = self.scenario
        (self.folder / "cat.png").write_bytes(png(shade=1))
        (self.folder / "dog.png").write_bytes(png(640, shade=2))
        self.service = self.loop.do(Witness(scenario.service, scenario.plan).__aenter__())
        try:
            for number, life in enumerate(scenario.lives, 1):
                # The manifest grows, so that each life finds something to buy.
                self._write_manifest(len(scenario.rows) * number // len(scenario.lives))
                self._live(life)
                self._hold()
            self._end()
            self._end(calm=True)
        finally:
            for process in self.processes:
                process.close()
            self.loop.do(self.service.__aexit__(None, None, None))
        self.figures.rounds = 1
        return self.figures

    def _write_manifest(self, count: int) -> None:
        lines = [json.dumps(row) for row in self.scenario.rows[:count]]
        (self.folder / "shots.jsonl").write_text("\n".join(lines), "utf-8")

    def _start(self) -> Process:
        command = [sys.executable, "-m", "kling_async", "run", "shots.jsonl", "--out", "out", "--json", "--yes"]
        environment = {"AIMLAPI_BASE_URL": self.service.base_url, "AIMLAPI_API_KEY": KEY, **ENVIRONMENT}
        process = Process([*command, *self.scenario.flags], cwd=self.folder, env={**clean_environment(), **environment})
        self.processes.append(process)
        self.figures.lives += 1
        return process

    # ------------------------------------------------------------- lives that end by blows

    def _live(self, life: Life) -> None:
        """Let one process live until it is struck, or ends before."""
        began = time.monotonic()
        process = self._start()

        def strike() -> None:
            _hit(process, life.signals[0])

        if life.sight is not None:
            trap = Trap(life.sight, life.times, life.delay, strike)
            self.loop.call(lambda: self.service.set_trap(trap))
        twin = self._meet_twin(process, life.twin) if life.twin is not None else None
        while process.popen.poll() is None and not self.service.sprung and time.monotonic() < began + life.after:
            time.sleep(0.005)
        self.loop.call(lambda: self.service.set_trap(None) if not self.service.sprung else None)
        if not self.service.sprung or life.sight is None:
            # An orderly stop is asked for only where there is somebody to hear it: from the first call on.
            _hit(process, life.signals[0] if life.sight else signal.SIGKILL)
        else:
            self.figures.narrow += life.signals[0] is signal.SIGKILL
            time.sleep(life.delay)
        for blow in life.signals[1:]:
            time.sleep(_BETWEEN)
            _hit(process, blow)
        self._judge_death(process.finish(timeout=LONGEST), life)
        if twin is not None:
            self._part_from(twin)

    def _meet_twin(self, first: Process, after: float) -> Process | None:
        """Start a second process on the same folder in the midst of the first one's life."""
        time.sleep(after)
        return self._start() if first.popen.poll() is None else None

    def _part_from(self, twin: Process) -> None:
        """The second process found the folder in use; or it came when the first had just died, and lived itself."""
        with contextlib.suppress(TimeoutError, AssertionError):
            until(lambda: twin.popen.poll() is not None, "the second process", timeout=0.7)
        _hit(twin, signal.SIGKILL)
        ended = twin.finish()
        assert ended.code in {6, 0, 3, -signal.SIGKILL}, (ended.code, ended.err)
        assert "Traceback" not in ended.err, ended.err
        self.figures.locked_out += ended.code == 6
        self.figures.killed += ended.code == -signal.SIGKILL

    def _judge_death(self, ended: Ended, life: Life) -> None:
        """Hold a process's last words against how it was ended."""
        if ended.code == 6:
            # The second one was faster; then it is the second one that lives, and is killed below.
            assert life.twin is not None, ended.err
            self.figures.locked_out += 1
            return
        codes = {0, 3, -signal.SIGKILL} | {_STOPPED[blow] for blow in life.signals}
        if len(life.signals) > 1:
            codes |= {-blow for blow in life.signals}  # the second one came when the program had just said its last
        assert ended.code in codes, (ended.code, ended.err)
        assert "Traceback" not in ended.err, ended.err
        self.figures.killed += ended.code == -signal.SIGKILL
        self.figures.stopped += ended.code in {130, 143}
        if ended.code >= 0 and (ended.out or ended.code not in {130, 143}):
            summary = ended.document
            if "rows" in summary:
                parts = (summary[name] for name in ("done", "failed", "uncertain", "pending"))
                assert summary["rows"] == sum(parts), summary

    def _hold(self) -> Books:
        """Hold the folder against the books, as a process has left it."""
        # The journal is read last: what a dead process sent may still arrive, and its intent stands there already.
        books = read_books(self.service, self.loop)
        self.figures.files += hold_at_any_time(books, read_journal(self.out / ".kling" / "journal.db"), self.out)
        return books

    # -------------------------------------------------------- lives that end by themselves

    def _end(self, *, calm: bool = False) -> None:
        """Let a process come to its end, and hold everything against the books."""
        if calm:
            self.loop.call(lambda: setattr(self.service, "faults", FaultPlan(seed=self.scenario.seed)))
        before = read_books(self.service, self.loop)
        ended = self._start().finish(timeout=LONGEST)
        assert ended.code in {0, 3}, (ended.code, ended.err)
        assert "Traceback" not in ended.err, ended.err
        books = self._hold()
        journal = read_journal(self.out / ".kling" / "journal.db")
        assert journal is not None, "there is no journal"
        hold_at_the_end(books, journal, self.out, ended.document, ended.code)
        if calm:
            hold_when_calm(before, books, journal)
            self._count(books, journal)

    def _count(self, books: Books, journal: Journal) -> None:
        stages, rows = journal.stages, len(journal.rows)
        known = {row[name] for row in journal.rows.values() for name in ("generation_id", "client_request_id")}
        paid = [purchase for purchase in books.purchases.values() if purchase.state != "refunded"]
        refunded = sum(purchase.state == "refunded" for purchase in books.purchases.values())
        self.figures = evolve(
            self.figures,
            rows=rows,
            done=stages["done"],
            failed=stages["failed"],
            aside=rows - stages["done"] - stages["failed"],
            submits=books.submits,
            bought=len(books.purchases),
            refunded=refunded,
            twice=len(books.duplicates),
            lost=sum(not known & {purchase.generation_id, purchase.request_id} for purchase in paid),
        )


def _hit(process: Process, blow: signal.Signals) -> None:
    """Strike a process and all that it started; one that has ended is left in peace."""
    if process.popen.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, blow)
