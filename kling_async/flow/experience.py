"""What a run knows beside its rows, kept in the journal: what it learned, for the next one; its figures, to be watched.

Losing it costs some polls and some round trips, never a video: trouble in writing it is logged and stops nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, Final

from attrs import asdict

from kling_async.errors import KlingError
from kling_async.flow.downloader import Downloader
from kling_async.flow.gate import Gate
from kling_async.flow.poller import Poller
from kling_async.logs import get_logger
from kling_async.ports import Clock, Journal
from kling_async.rules.admission import START
from kling_async.types.statistics import Statistics

logger = get_logger(__name__)

DURATIONS: Final = "durations"
"""The note that holds how long generations take, by kind."""
WINDOW: Final = "window:"
"""The notes that hold how many fit at once, by account."""
STATISTICS: Final = "statistics"
"""The note that holds the figures of the run under way."""

_FRESH: Final = 86_400.0
"""Seconds for which a window is remembered."""
_KEPT: Final = 0.75
"""Share of a remembered window that the next run begins at."""
_MOST: Final = 10**6
"""Slots that no account has: a note that says so is damaged."""


class Experience:
    """What was learned of the service and the account.

    Args:
        journal: Where it is kept.
        clock: The wall's clock.
        poller: Learns how long generations take.
        gate: Learns how many fit at once.
        downloader: Has figures, too.
    """

    def __init__(self, journal: Journal, clock: Clock, poller: Poller, gate: Gate, downloader: Downloader) -> None:
        self._journal = journal
        self._clock = clock
        self._poller = poller
        self._gate = gate
        self._downloader = downloader
        self._window_note = WINDOW
        self._began = 0.0

    async def read(self, account: str) -> int:
        """Hand over what earlier runs learned, and return the window to begin at.

        Args:
            account: The service's address and the key's digest: another account has another limit.

        Raises:
            JournalError: The journal cannot be read.
        """
        self._began = asyncio.get_running_loop().time()
        self._window_note = WINDOW + hashlib.sha256(account.encode()).hexdigest()[:16]
        durations = _read(await self._journal.note(DURATIONS))
        self._poller.take_over({name: found for name, found in durations.items() if isinstance(found, dict)})
        known = _read(await self._journal.note(self._window_note))
        window, at = known.get("window"), known.get("at")
        if not isinstance(window, int) or not isinstance(at, int | float) or abs(window) > _MOST:
            return START
        if not self._clock.wall() - at <= _FRESH:  # nor where that is no number
            return START
        return int(_KEPT * window)

    async def close(self) -> None:
        """Keep what was learned, as a run ends; from then on there are no figures to be watched."""
        try:
            await self._journal.note(STATISTICS, "null")
            learned = self._poller.learned()
            if learned:
                await self._journal.note(DURATIONS, json.dumps(learned, separators=(",", ":")))
            if self._gate.admission.known:
                known = {"window": self._gate.admission.window, "at": self._clock.wall()}
                await self._journal.note(self._window_note, json.dumps(known))
        except KlingError as error:
            logger.warning("what was learned cannot be kept: %s", error)

    def figures(self) -> Statistics:
        """Return the figures of the moment."""
        now = asyncio.get_running_loop().time()
        return Statistics(
            admission=self._gate.admission.statistics(now),
            polling=self._poller.statistics(),
            downloads=self._downloader.statistics(),
            seconds=now - self._began,
        )

    async def tell(self) -> None:
        """Write the figures of the moment down."""
        figures = {"at": self._clock.wall(), **asdict(self.figures())}
        try:
            await self._journal.note(STATISTICS, json.dumps(figures))
        except KlingError as error:
            logger.debug("the figures cannot be written: %s", error)


def _read(text: str | None) -> dict[str, Any]:
    """Return a note's document; an empty one where it cannot be read."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
