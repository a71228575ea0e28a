"""What the caller gets: a file, an outcome for each row, a report for the whole."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kling_async.errors import KlingError
    from kling_async.types.record import Stage
    from kling_async.types.request import ImageToVideo

CREDITS_PER_USD = 2_000_000
"""The service's own rate."""


def usd(credits_: int) -> float:
    """Return whole credits as USD."""
    return credits_ / CREDITS_PER_USD


@frozen
class VideoFile:
    """A whole video on the local disk."""

    path: Path
    """Where it stands."""
    size: int
    """Bytes."""
    sha256: str
    """Hex digest of the bytes."""
    generation_id: str | None = None
    """The generation it came from."""
    seconds: float | None = None
    """Its length, where the file tells."""


@frozen
class FileFacts:
    """What reading a file from its beginning to its end has found."""

    size: int
    """Bytes."""
    sha256: str
    """Hex digest of the bytes."""
    fault: str | None = None
    """Why it is no whole MP4, by its boxes; None where it is one."""


class FileFault(enum.StrEnum):
    """What is wrong with the file of a row that is done. Where several things are, the first."""

    MISSING = "missing"
    """There is none."""
    UNREADABLE = "unreadable"
    """The disk does not give it, or it is no regular file."""
    SIZE = "size"
    """It has more bytes, or fewer, than the journal says."""
    DIGEST = "digest"
    """It has other bytes than the journal says."""
    BROKEN = "broken"
    """Its bytes are those that came, and it is no whole MP4."""
    UNDECODABLE = "undecodable"
    """Its bytes are those that came, and its frames cannot all be decoded."""


@frozen
class Finding:
    """What `Batch.verify` found of one row that is done, and did about it."""

    key: str
    """The row's key."""
    path: Path
    """Where its video lies, or should."""
    fault: FileFault | None = None
    """What was wrong with it; None where it is whole, and the one that the journal knows."""
    reason: str = ""
    """The same in words; empty where nothing was wrong."""
    fetched: bool = False
    """Whether a whole file was fetched in its place."""
    unmended: str = ""
    """Why it is bad still, in words; empty where it is not."""
    size: int = 0
    """Bytes that were read of it."""
    generation_id: str | None = None
    """The generation that it comes from."""

    @property
    def bad(self) -> bool:
        """Whether the row is without its whole video now."""
        return bool(self.unmended)


@frozen
class VerifyReport:
    """How holding a folder against its journal ended."""

    out: Path
    """The folder."""
    checked: int
    """Rows that are done; the file of each was looked for, and read."""
    whole: int
    """Those whose file was as it should be."""
    fetched: int
    """Those whose file was not, and was fetched again."""
    bad: int
    """Those without a whole video."""
    strays: int
    """Files among the videos that no row names. They are left alone."""
    bytes: int
    """Bytes that were read."""
    seconds: float
    """How long it took."""
    stopped: KlingError | None = None
    """Why no more was fetched before all was: the key, or the service; None where nothing stopped it."""

    def summary(self) -> dict[str, object]:
        """Return its fields by their documented names."""
        return {
            "checked": self.checked,
            "whole": self.whole,
            "fetched": self.fetched,
            "bad": self.bad,
            "strays": self.strays,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "out": str(self.out),
        }


@frozen
class Outcome:
    """How one row ended, or why it was set aside."""

    key: str
    """The row's key."""
    stage: Stage
    """DONE, FAILED, or where a row that was set aside stands."""
    request: ImageToVideo
    """What was asked for."""
    path: Path | None = None
    """The video, when it is done."""
    error: KlingError | None = None
    """Why there is none."""
    generation_id: str | None = None
    """The generation, where one was bought."""
    size: int | None = None
    """Bytes of the video."""
    sha256: str | None = None
    """Digest of the video."""
    seconds: float | None = None
    """Length of the video."""
    credits: int | None = None
    """Whole credits charged, or still held."""
    resumed: bool = False
    """Whether it was done before this run began."""

    @property
    def ok(self) -> bool:
        """Whether the video is there."""
        return self.path is not None

    @property
    def carry(self) -> Mapping[str, object]:
        """The caller's own data, as it was given with the request."""
        return self.request.carry


@frozen
class Tally:
    """The journal's rows by stage, and their money; kept by the journal itself."""

    planned: int = 0
    """Rows not yet bought."""
    submitting: int = 0
    """Rows whose POST may be out."""
    uncertain: int = 0
    """Rows whose POST's answer is lost."""
    submitted: int = 0
    """Rows bought and not yet finished."""
    rendered: int = 0
    """Rows finished at the service and not yet here."""
    done: int = 0
    """Rows with their video."""
    failed: int = 0
    """Rows that ended without one."""
    spent: int = 0
    """Whole credits of finished generations."""
    held: int = 0
    """Whole credits of those that may yet be charged, and of all that were given up to be bought again."""
    bytes: int = 0
    """Bytes of the videos that are here."""
    shared: int = 0
    """Rows among those done that share another row's generation."""

    @property
    def rows(self) -> int:
        """All rows."""
        return self.done + self.failed + self.uncertain + self.pending

    @property
    def pending(self) -> int:
        """Rows on their way or waiting, set-aside ones with an id too."""
        return self.planned + self.submitting + self.submitted + self.rendered


@frozen
class BatchReport:
    """How a run ended."""

    tally: Tally
    """The rows by stage, and their money."""
    out: Path
    """The folder."""
    seconds: float
    """How long this run took."""
    submits: int = 0
    """POSTs of this run."""
    polls: int = 0
    """Polls of this run."""
    fresh: int = 0
    """Videos that this run brought."""
    stopped: KlingError | None = None
    """Why submitting stopped before the rows did; None where it did not."""
    overshoot: int = 0
    """Whole credits that are spent and held beyond the budget, since a video became dearer while POSTs were out, or
    since the budget was lowered; 0 where there are none."""

    def summary(self) -> dict[str, object]:
        """Return the summary's fields by their documented names; money in USD, time in seconds."""
        return {
            "rows": self.tally.rows,
            "done": self.tally.done,
            "failed": self.tally.failed,
            "uncertain": self.tally.uncertain,
            "pending": self.tally.pending,
            "duplicates": self.tally.shared,
            "spent_usd": round(usd(self.tally.spent), 6),
            "held_usd": round(usd(self.tally.held), 6),
            "bytes": self.tally.bytes,
            "polls": self.polls,
            "submits": self.submits,
            "seconds": round(self.seconds, 3),
            "out": str(self.out),
        }
