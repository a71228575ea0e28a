"""What the service says of a generation. Values only: reading an answer is `kling_async.rules.wire`."""

from __future__ import annotations

import enum

from attrs import field, frozen


def _without_query(url: str) -> str:
    return repr(url.partition("?")[0])


class GenerationStatus(enum.StrEnum):
    """Where a generation stands, in four words; the service's own word is `Generation.raw_status`."""

    RUNNING = "running"
    """Queued, waiting, or being made."""
    UNKNOWN = "unknown"
    """A word we do not know, or one that is no answer: ask again."""
    COMPLETED = "completed"
    """Finished, with a usable link."""
    FAILED = "failed"
    """Ended without a video; it costs nothing."""


@frozen
class RemoteVideo:
    """A finished video as the service offers it."""

    url: str = field(repr=_without_query)
    """Where to fetch it. The query string is a secret and expires; it is left out of the repr."""
    content_type: str | None = None
    """The media type, where the service told."""
    file_name: str | None = None
    """The service's name of the file, where it told."""
    file_size: int | None = None
    """Bytes, where the service told."""


@frozen
class Usage:
    """What an answer says of money. On a submit it is a hold, not a charge."""

    credits: int | None = None
    """Whole credits; 2,000,000 are one USD."""
    usd: float | None = None
    """USD, where the service told them."""


@frozen
class Generation:
    """One generation, as one answer described it."""

    id: str
    """The service's id: opaque, never split, always encoded into a URL."""
    status: GenerationStatus
    """Where it stands."""
    raw_status: str = ""
    """The service's own word."""
    video: RemoteVideo | None = None
    """The video, when it is there."""
    failure: str | None = None
    """The service's reason, of a failed one."""
    usage: Usage = Usage()
    """What the answer said of money."""
    request_id: str | None = None
    """The service's id of the call that answered this (`x-request-id`)."""
    client_request_id: str | None = None
    """The id that our submit carried, where this came from one."""
    echoed: bool | None = None
    """Whether the submit's answer echoed our id; None where this is no submit's answer. Without the echo, a lost
    answer cannot be looked up."""
