"""Finds the journal that a folder has, and reads from it how far the job has come, beside the process that runs it.

What begins no job must not make one: nothing here writes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from kling_async.adapters.clock import SystemClock
from kling_async.adapters.pointer import known_place
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.errors import ConfigurationError, KlingError
from kling_async.flow.experience import STATISTICS
from kling_async.ports import SOURCE
from kling_async.types.outcome import Tally, usd
from kling_async.types.statistics import AdmissionStatistics, DownloadStatistics, PollStatistics, Statistics

_FRESH: Final = 15.0
"""Seconds after which the figures of a run are those of one that has ended."""


def find_journal(folder: Path, journal: Path | None = None) -> Path:
    """Return where the journal of a folder lies: in it, or where its pointer says. Blocking.

    Args:
        folder: The job's folder.
        journal: Where its owner says that the journal lies; None where nobody says.

    Raises:
        ConfigurationError: There is no journal, or it is another one.
    """
    try:
        place = known_place(folder)
        found = place.is_file()
    except OSError as error:
        raise ConfigurationError(f"the journal of {folder} cannot be looked for: {error}") from error
    if not found:
        raise ConfigurationError(_nowhere(folder, place))
    if journal is not None and journal.resolve() != place.resolve():
        raise ConfigurationError(f"the journal of {folder} is {place}, not {journal}: leave --journal out")
    return place


def _nowhere(folder: Path, place: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}: give the one that a run had as --out"
    if folder not in place.parents:
        return f"the journal of {folder} was {place}, and is not there: bring it back, since it knows what was bought"
    return f"{folder} has no journal ({place}): nothing was run there. Give the folder that a run had as --out"


@frozen
class JobStatus:
    """How far a job has come."""

    out: Path
    """The folder."""
    tally: Tally
    """The rows by stage, and their money."""
    figures: Mapping[str, Any] | None
    """The figures of the run under way, as `kling_async.types.statistics.Statistics` has them; None where none is."""

    @property
    def ended(self) -> bool:
        """Whether no run is under way, or no row is left to it."""
        return self.figures is None or self.tally.done + self.tally.failed == self.tally.rows

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last row ends, by what was learned; None where too little is known."""
        if self.figures is None or not self.figures["polling"]["median"]:
            return None
        left = self.tally.planned + self.tally.submitting + self.tally.submitted
        return float(left * self.figures["polling"]["median"] / max(1, self.figures["admission"]["window"]))

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        tally = self.tally
        stages = ("planned", "submitting", "uncertain", "submitted", "rendered", "done", "failed")
        return {
            "rows": tally.rows,
            "done": tally.done,
            "failed": tally.failed,
            "uncertain": tally.uncertain,
            "pending": tally.pending,
            "duplicates": tally.shared,
            "stages": {stage: getattr(tally, stage) for stage in stages},
            "spent_usd": round(usd(tally.spent), 6),
            "held_usd": round(usd(tally.held), 6),
            "bytes": tally.bytes,
            "out": str(self.out),
            "running": self.figures is not None,
            "seconds_left": self.seconds_left,
            "statistics": self.figures,
        }


async def read_source(folder: Path, journal: Path | None = None) -> str | None:
    """Return the one source whose rows a folder's journal holds, as `Enrolment.source` does, without taking the folder.

    None where there is no journal, too, or it cannot be read: what is wrong is told when a run takes the folder.
    """
    try:
        place = await asyncio.get_running_loop().run_in_executor(None, find_journal, folder, journal)
        book = SqliteJournal(place, lock=False, read_only=True)
        await book.open()
    except KlingError:
        return None
    try:
        return await book.note(SOURCE)
    except KlingError:
        return None
    finally:
        await book.aclose()


async def read_status(folder: Path, journal: Path | None = None) -> JobStatus:
    """Read how far a job has come, beside the process that runs it.

    Args:
        folder: The job's folder.
        journal: Where its owner says that the journal lies; None where nobody says.

    Raises:
        ConfigurationError: There is no journal, or it is another one.
        JournalError: It cannot be read.
    """
    place = await asyncio.get_running_loop().run_in_executor(None, find_journal, folder, journal)
    book = SqliteJournal(place, lock=False, read_only=True)
    await book.open()
    try:
        tally, told = await book.tally(), await book.note(STATISTICS)
    finally:
        await book.aclose()
    return JobStatus(folder, tally, _figures(told))


def _figures(told: str | None) -> Mapping[str, Any] | None:
    """Return the figures of a run under way; None where there are none, or they are old or of another version."""
    try:
        figures = json.loads(told or "null")
        if not isinstance(figures, dict) or not abs(SystemClock().wall() - figures.pop("at")) < _FRESH:
            return None
        whole = Statistics(
            admission=AdmissionStatistics(**figures["admission"]),
            polling=PollStatistics(**figures["polling"]),
            downloads=DownloadStatistics(**figures["downloads"]),
            seconds=float(figures["seconds"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return asdict(whole)
