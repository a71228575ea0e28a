"""One call to the API, and what the service does about it, as plain data.

Values only. This room must never know what a call means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from kling_async.simulator.envelopes import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kling_async.simulator.jobs import Order
    from kling_async.simulator.validation import Issue

Manner = Literal["send", "drop", "stall", "cut"]


@frozen(kw_only=True)
class Call:
    """One call to the API."""

    method: str
    """HTTP method."""

    path: str
    """Path without the query."""

    query: Mapping[str, str] = field(factory=dict)
    """Query parameters, decoded."""

    authorization: str | None = None
    """The Authorization header."""

    request_id: str | None = None
    """The `X-Client-Request-Id` header."""

    body: bytes = b""
    """The body."""

    order: Order | list[Issue] | None = None
    """What `read_submit` made of the body; None: it was not asked yet."""


@frozen(kw_only=True)
class Reaction:
    """What the service does about a call. All effects of the call have happened already."""

    answer: Answer = field(factory=Answer)
    """The answer, as far as one is sent."""

    manner: Manner = "send"
    """Send it; close the connection; say nothing until the client leaves; or send half of it and cut."""

    delay: float = 0.0
    """Seconds until then."""
