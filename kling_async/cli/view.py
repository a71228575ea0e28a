"""What is shown of a run at one moment, and how it reads as one plain line. Pure: it is told all that it shows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from kling_async.types.statistics import Statistics


@frozen(kw_only=True)
class View:
    """What is known of a run at one moment."""

    out: str
    """The folder."""
    elapsed: float
    """Seconds since the run began."""
    rows: int
    """Rows that the run is about."""
    stages: Counter[str]
    """Those rows, by stage."""
    figures: Statistics
    """The figures of the admission, the poller and the downloader."""
    spent: float
    """USD that are spent, over the folder's whole life."""
    held: float
    """USD that are held."""
    budget: float | None
    """The ceiling in USD; None for none."""
    bytes_per_second: float
    """How fast videos came in of late."""
    failures: tuple[tuple[str, str], ...]
    """The last rows that met with trouble, each with what happened, the newest last."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last row ends, by what was learned; None where too little is known."""
        left = self.stages["planned"] + self.stages["submitting"] + self.stages["submitted"]
        return self.figures.seconds_left(left)


def line_of(view: View) -> str:
    """Return one plain line about a run."""
    stages = view.stages
    parts = [f"{stages['done']}/{view.rows} done", f"{stages['submitting'] + stages['submitted']} generating"]
    words = {"rendered": "downloading", "uncertain": "uncertain", "failed": "failed"}
    parts += [f"{stages[stage]} {word}" for stage, word in words.items() if stages[stage]]
    parts.append(f"{view.spent:.2f} USD spent")
    if view.seconds_left:
        parts.append(f"about {duration(view.seconds_left)} left")
    return f"[{clock(view.elapsed)}] " + ", ".join(parts)


def clock(seconds: float) -> str:
    """Return seconds as `M:SS`, or `H:MM:SS`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """Return seconds in the words of a forecast."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
