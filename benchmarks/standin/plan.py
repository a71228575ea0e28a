"""What the stand-in is told for one run, and what it tells afterwards."""

from __future__ import annotations

import json
from typing import Any, Final

from attrs import asdict, field, frozen

TROUBLES: Final = {
    "none": "nothing goes wrong",
    "accepted, 500": "the first submit of each row is accepted, and answered 500",
    "accepted, 502": "the same, answered with the HTML page of a proxy",
    "accepted, dropped": "the same, and the connection is closed without an answer",
    "accepted, silence": "the same, and no answer ever comes; a submit's time-out is 2 s",
    "429": "the first submit of each row is refused, with Retry-After: 1",
    "poll 500": "the first poll of each generation is answered 500",
    "poll dropped": "the first poll of each generation is closed without an answer",
    "waiting": "a generation that is not finished says `waiting`",
    "download cut": "the first download of each video ends at its half, its connection closed",
    "download short": "the first download of each video is half of it, and tells that as its length",
    "download HTML": "the first download of each video is a web page, with status 200",
    "link expired": "the first link to each video is answered 403; one that is asked for later works",
}
"""Each trouble by its name. A row or a generation is struck once, so that whoever tries again gets through."""


@frozen
class Plan:
    """One run of the stand-in."""

    median: float
    """Seconds of the median generation."""
    sigma: float = 0.35
    """Spread of the log-normal durations; 0 makes all of them alike."""
    trouble: str = field(default="none")
    """One of `TROUBLES`."""
    clip: int = 1 << 20
    """Bytes of a video."""
    seed: int = 1
    """Of the durations: the n-th accepted generation takes equally long in every run."""

    @trouble.validator
    def _known(self, _: object, value: str) -> None:
        if value not in TROUBLES:
            raise ValueError(f"no trouble is called {value!r}")

    def to_json(self) -> str:
        """Write it down."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@frozen
class Seen:
    """What the stand-in saw."""

    submits: int
    """Submits that came in."""
    refused: int
    """Those that were refused."""
    lengths: list[float]
    """Seconds that each accepted generation takes, in the order in which they were accepted."""
    titles: list[str]
    """The title inside the video of each."""
    first: float
    """When the first submit came, on the machine's monotonic clock."""
    polls: int
    """Polls that came in."""
    asked: list[int]
    """Polls of each generation."""
    lags: list[float]
    """Seconds from the end of each generation to the poll that told it, of those that were told."""
    downloads: int
    """Downloads that came in."""
    sent: int
    """Bytes of videos."""
    open_most: int
    """Generations that ran at once, at the most."""
    cpu: float
    """Seconds of CPU of the stand-in itself."""
    wall: float
    """Seconds from the first submit to this report."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Seen:
        """Read a report."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values)
