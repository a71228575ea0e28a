"""How a run is shown while it goes: a live line on a terminal, else a plain line now and then. Always on stderr."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from kling_async.cli.ends import say

if TYPE_CHECKING:
    from kling_async.types.outcome import Tally
    from kling_async.types.record import Record

_LIVE_EVERY: Final = 0.25
_PLAIN_EVERY: Final = 10.0


class Progress:
    """Counts rows by stage as their changes are saved (an `Observer`).

    Args:
        quiet: Whether to show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        """Whether nothing is shown."""
        self._stages: Counter[str] = Counter()
        self._rows = 0
        self._began = 0.0
        self._last = ""
        self._live: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, before: Record, after: Record) -> None:
        """Count one saved change; tell a failure at once."""
        self._stages[str(before.stage)] -= 1
        self._stages[str(after.stage)] += 1
        if self.quiet or after.trouble is None or before.trouble == after.trouble:
            return
        say(f"{after.key}: {after.stage}: {after.trouble.message}")

    def start(self, tally: Tally) -> None:
        """Begin to show, from what the journal says."""
        for stage in ("planned", "submitting", "uncertain", "submitted", "rendered", "done", "failed"):
            self._stages[stage] = getattr(tally, stage)
        self._rows = tally.rows
        if self.quiet:
            return
        self._began = asyncio.get_running_loop().time()
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
            self._live = _live_display()
        self._tick()

    def stop(self) -> None:
        """Show no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._live is not None:
            self._live.update(self._line(), refresh=True)
            self._live.stop()
            self._live = None

    def _tick(self) -> None:
        line = self._line()
        if self._live is not None:
            self._live.update(line)
        elif line != self._last and self._last:
            say(line)
        self._last = line
        every = _PLAIN_EVERY if self._live is None else _LIVE_EVERY
        self._timer = asyncio.get_running_loop().call_later(every, self._tick)

    def _line(self) -> str:
        stages = self._stages
        seconds = int(asyncio.get_running_loop().time() - self._began)
        generating = stages["submitting"] + stages["submitted"]
        parts = [f"{stages['done']}/{self._rows} done", f"{generating} generating"]
        words = {"rendered": "downloading", "uncertain": "uncertain", "failed": "failed"}
        parts += [f"{stages[stage]} {word}" for stage, word in words.items() if stages[stage]]
        return f"[{seconds // 60}:{seconds % 60:02d}] " + ", ".join(parts)


def _live_display() -> Any:
    """Return a live line; None where the extra `progress` is not installed."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    display = Live(console=Console(stderr=True), auto_refresh=True, refresh_per_second=4, transient=False)
    display.start()
    return display
