"""One row of a job, its stages, and the events that move it.

Values only: which event leads where is `kling_async.rules.lifecycle`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

from attrs import frozen

from kling_async.types.request import ImageToVideo


class Stage(enum.StrEnum):
    """Where a row stands."""

    PLANNED = "planned"
    """Nothing was bought."""
    SUBMITTING = "submitting"
    """The intent is written; a POST may be out."""
    UNCERTAIN = "uncertain"
    """A POST was out and its answer is lost: something may have been bought."""
    SUBMITTED = "submitted"
    """Bought: the generation's id is known."""
    RENDERED = "rendered"
    """Finished at the service; its video is not yet here."""
    DONE = "done"
    """The whole video stands under its final name."""
    FAILED = "failed"
    """Ended without a video; nothing was charged."""


@frozen
class Trouble:
    """Why a row failed, or was set aside."""

    kind: str
    """The error's class: `GenerationFailed`."""
    message: str
    """What happened, and what to do next."""


@frozen
class Standing:
    """Where a row stood, and all that stood behind it, when its owner gave that up for another POST."""

    stage: Stage
    """UNCERTAIN, SUBMITTED or RENDERED."""
    trouble: Trouble | None
    """Why it was set aside."""
    content: str | None
    """The digest of what had been sent."""
    client_request_id: str | None
    """The id of the POST."""
    sent_at: float | None
    """When that left, in wall-clock seconds."""
    sent_with: str | None
    """The digest of the key that it carried."""
    generation_id: str | None
    """The generation."""
    credits: int | None
    """Whole credits held or charged."""
    size: int | None
    """Bytes of the video, where one was verified."""
    sha256: str | None
    """Its digest."""
    seconds: float | None
    """Its length."""
    sunk: int
    """Whole credits of POSTs that were given up before it."""
    former: tuple[str, ...]
    """Those POSTs, as a record names them."""
    fallback: Standing | None
    """What it would have led back to itself, had it bought nothing."""


@frozen
class Record:
    """One row, as the journal keeps it."""

    key: str
    """The caller's key, or the digest of the row as written. Unique in the journal."""
    name: str
    """Where its video lies, relative to the folder of videos: `KEY.mp4`. Unique in the journal."""
    request: ImageToVideo
    """What was asked for."""
    written: str
    """The digest of the row as written: tells an edited row."""
    stage: Stage = Stage.PLANNED
    """Where it stands."""
    content: str | None = None
    """The digest of what is sent, images by their bytes; known from the first intent on."""
    attempt: int = 0
    """POSTs made so far."""
    client_request_id: str | None = None
    """The id of the last POST."""
    sent_at: float | None = None
    """When the last POST left, in wall-clock seconds."""
    sent_with: str | None = None
    """The digest of the key that the last POST carried: no other key's usage log lists it."""
    generation_id: str | None = None
    """The generation, once bought. Unique in the journal."""
    shares: str | None = None
    """The generation of another row of equal content whose video this one got; None where it has its own."""
    credits: int | None = None
    """Whole credits held for it, or charged once it is rendered; None where nobody told."""
    trouble: Trouble | None = None
    """Why it failed, was set aside, or waits for another row's video; None on the way."""
    size: int | None = None
    """Bytes of the video, from before it is given its name."""
    sha256: str | None = None
    """Digest of the video, from before it is given its name."""
    seconds: float | None = None
    """Length of the video as the file tells it."""
    sunk: int = 0
    """Whole credits that former POSTs of this row, given up by its owner, cost or may have cost."""
    former: tuple[str, ...] = ()
    """The generations of those POSTs; where none is known, the id that the POST carried."""
    fallback: Standing | None = None
    """Where it stood before a POST that is to replace another, and stands again if that buys nothing; else None."""

    @property
    def set_aside(self) -> bool:
        """Whether it waits for a person: neither done nor failed, and not on its way."""
        return self.trouble is not None and self.stage in {Stage.SUBMITTED, Stage.RENDERED, Stage.UNCERTAIN}

    @property
    def waits(self) -> bool:
        """Whether nothing is bought for it, since it shares the video of another row, which is not to be had now."""
        return self.trouble is not None and self.stage is Stage.PLANNED


class Draft(NamedTuple):
    """A new row on its way into the journal: checked, and written as it will stand there."""

    key: str
    """As a record's."""
    written: str
    """As a record's."""
    document: str
    """What is asked for, as JSON: nobody looks at it on the way. Empty where it brings bytes, which are kept first."""
    model: str
    """The model that is asked for."""
    duration: int
    """The seconds of video that are asked for."""


@frozen
class Intended:
    """The intent to POST: written before the POST leaves."""

    client_request_id: str
    """The id that the POST will carry."""
    at: float
    """Wall-clock seconds."""
    content: str
    """Digest of what is sent."""
    credits: int | None = None
    """The price to hold; None where nobody told."""
    sent_with: str | None = None
    """The digest of the key that the POST will carry."""


@frozen
class Unsent:
    """Surely no job was made; the row may be submitted again."""


@frozen
class Accepted:
    """The service took it: bought."""

    generation_id: str
    """The generation's id."""
    credits: int | None = None
    """What the service holds for it, where it told."""


@frozen
class Refused:
    """The request itself is wrong: nothing was bought, and asking again will not help."""

    trouble: Trouble
    """The reason."""


@frozen
class Lost:
    """The answer to a POST is lost: something may have been bought."""


@frozen
class Unbought:
    """The service's log shows that the lost POST bought nothing."""


@frozen
class Resubmitted:
    """Its owner says to buy it again, at the risk of paying twice: what stood behind it is given up, not forgotten.

    It is one with the intent of the new POST, so that nothing is ever given up for none.
    """

    intent: Intended
    """The intent to POST."""


@frozen
class Unfound:
    """Looked for long enough in the service's log, and not found: set aside."""

    trouble: Trouble
    """What was looked for."""


@frozen
class Rendered:
    """The video is finished at the service."""

    credits: int | None = None
    """What was charged, where the service told."""


@frozen
class Failed:
    """The service tried and could not. Free."""

    trouble: Trouble
    """The service's reason."""


@frozen
class Overdue:
    """Watched for long enough and not finished: set aside, with its id."""

    trouble: Trouble
    """How long."""


@frozen
class Verified:
    """A whole video is about to get its final name: from beside it, or from that of a row of equal content."""

    size: int
    """Bytes."""
    sha256: str
    """Digest of the bytes."""
    seconds: float | None = None
    """Its length, where the file tells."""


@frozen
class Stored:
    """The video stands under its final name."""


@frozen
class Refetched(Verified):
    """The video of a row that is done was fetched again, with other bytes; it is about to replace a bad file."""


@frozen
class Shared:
    """The video of another row of equal content stands under this row's name, too; nothing was bought for it."""

    generation_id: str
    """The other row's generation."""
    content: str
    """Digest of what would have been sent."""
    size: int
    """Bytes."""
    sha256: str
    """Digest of the bytes."""
    seconds: float | None = None
    """Its length, where the file tells."""


@frozen
class Waiting:
    """The row of equal content whose video this one shares has none to give now: nothing is bought."""

    trouble: Trouble
    """Why."""


@frozen
class Unstored:
    """The video is made but cannot be stored for now: set aside, with its id."""

    trouble: Trouble
    """Why."""


@frozen
class Retried:
    """Its owner says to try again: a failed row from the start, which is free; one set aside from where it stands."""


Event: TypeAlias = (
    Intended
    | Unsent
    | Accepted
    | Refused
    | Lost
    | Unbought
    | Resubmitted
    | Unfound
    | Rendered
    | Failed
    | Overdue
    | Verified
    | Stored
    | Shared
    | Waiting
    | Unstored
    | Refetched
    | Retried
)
"""Everything that can happen to a record."""
