"""One HTTP call and its answer as plain data. The door `Transport` moves them; nothing here touches a socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

from kling_async.types.image import ImageSource, ImageState


@frozen
class EncodedImage:
    """A place in a body where an image stands as base64. It is read and encoded while it is sent."""

    source: ImageSource
    """Which image."""
    state: ImageState
    """What it was when the call was made; in another one it is not sent."""

    @property
    def encoded_size(self) -> int:
        """Characters of base64, padding included."""
        return (self.state.size + 2) // 3 * 4


BodyPart: TypeAlias = bytes | EncodedImage
"""A body is bytes and images, in order."""


@frozen
class HttpCall:
    """One call to the service's own address."""

    method: str
    """GET or POST."""
    path: str
    """From the root: `/v2/video/generations`."""
    timeout: float
    """Seconds for the whole call."""
    query: tuple[tuple[str, str], ...] = ()
    """Parameters, not yet encoded."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers beside the authorization, which the transport adds."""
    body: tuple[BodyPart, ...] = field(default=(), repr=False)
    """The parts of the body, in order."""
    fresh_connection: bool = False
    """Whether it must go over a connection that was not used before: an idle one that closes at the wrong moment
    looks like a lost answer."""

    @property
    def content_length(self) -> int:
        """Bytes of the whole body."""
        return sum(len(part) if isinstance(part, bytes) else part.encoded_size for part in self.body)


@frozen
class HttpReply:
    """One answer, read to its end."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str] = field(factory=dict, hash=False)
    """Headers, their names in lower case."""
    body: bytes = b""
    """The body."""

    def excerpt(self) -> str:
        """Return the beginning of the body as text, at most 200 characters."""
        return self.body[:800].decode("utf-8", "replace")[:200]
