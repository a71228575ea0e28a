"""The live display of a run on a terminal (extra `progress`). It shows what `kling_async.cli.progress` gathers.

Nothing that comes from outside (keys, messages of the service) is taken as markup or reaches the terminal as a control
character.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kling_async.cli.ends import printable
from kling_async.cli.view import View, clock, duration

if TYPE_CHECKING:
    from kling_async.types.statistics import AdmissionStatistics, DownloadStatistics, PollStatistics

_STAGES = {
    "planned": "to do",
    "submitting": "being submitted",
    "submitted": "generating",
    "rendered": "downloading",
    "done": "done",
    "uncertain": "uncertain",
    "failed": "failed",
}


class Display:
    """A few lines at the foot of the terminal, drawn anew in place; what is said meanwhile scrolls by above them."""

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=False)
        self._live.start()

    def show(self, view: View) -> None:
        """Draw a view."""
        self._live.update(picture(view), refresh=True)

    def close(self) -> None:
        """Leave what was drawn last where it stands."""
        self._live.stop()


def picture(view: View) -> Group:
    """Return what is drawn of a view."""
    ended = view.stages["done"] + view.stages["failed"]
    left = "" if not view.seconds_left else f", about {duration(view.seconds_left)} left"
    head = _line(f"{view.out}  {view.stages['done']} of {view.rows} done after {clock(view.elapsed)}{left}", "bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="cyan", min_width=9)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for name, text in _facts(view):
        table.add_row(name, _line(text))
    bar = Table.grid(expand=True)  # a line of its own
    bar.add_row(ProgressBar(total=max(1, view.rows), completed=ended))
    return Group(head, bar, table, *_failures(view))


def _facts(view: View) -> Iterator[tuple[str, str]]:
    yield "rows", " · ".join(f"{view.stages[stage]} {word}" for stage, word in _STAGES.items() if view.stages[stage])
    yield "service", _service(view.figures.admission)
    yield "polls", _polls(view.figures.polling)
    yield "downloads", _downloads(view.figures.downloads, view.bytes_per_second)
    ceiling = "" if view.budget is None else f" of {view.budget:.2f}"
    yield "money", f"{view.spent:.2f} USD spent, {view.held:.2f} held{ceiling}"


def _service(admission: AdmissionStatistics) -> str:
    parts = [f"{admission.open} of {admission.window} slots taken"]
    if admission.searching:
        parts.append("searching for the limit")
    if admission.refused:
        parts.append(f"{admission.refused} submits refused as too many")
    if admission.paused_for > 0:
        parts.append(f"all wait for {duration(admission.paused_for)}")
    return ", ".join(parts)


def _polls(polling: PollStatistics) -> str:
    if not polling.finished or polling.mean_lag is None or polling.median is None:
        return f"{polling.polls} so far"
    each = polling.polls / polling.finished
    return (
        f"{each:.1f} a video, noticed {polling.mean_lag:.1f} s after its end; the median takes {polling.median:.0f} s"
    )


def _downloads(downloads: DownloadStatistics, rate: float) -> str:
    return f"{downloads.running} under way, {downloads.waiting} waiting, {rate / 1e6:.1f} MB/s"


def _failures(view: View) -> Iterator[Text]:
    if view.failures:
        yield _line("last in trouble", "cyan")
    for key, message in view.failures:
        yield _line(f"  {key}: {message}", "red")


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text).replace("\n", " "), style=style, no_wrap=True, overflow="ellipsis")
