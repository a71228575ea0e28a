"""The body of one call on its way out: its parts in order, and whether the service may have all of it.

A part of `http` that knows no HTTP library. This room must never let a body pass for unfinished once its last piece was
asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kling_async.types.exchange import HttpCall
from kling_async.types.image import ImageSource, ImageState


class Encoder(Protocol):
    """Encodes a local image, as `kling_async.ports.Images` does."""

    def encoded(self, source: ImageSource, state: ImageState) -> AsyncIterator[bytes]:
        """Yield the image as base64, in pieces."""
        ...


class Body:
    """The parts of a body in order, and whether the last of them was asked for."""

    def __init__(self, call: HttpCall, images: Encoder) -> None:
        self._parts = call.body
        self._images = images
        self.finished = not call.body
        self.error: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body. Once the last piece was asked for, the service may have all of it."""
        try:
            for number, part in enumerate(self._parts, 1):
                if isinstance(part, bytes):
                    self.finished = number == len(self._parts)
                    yield part
                else:
                    async for piece in self._images.encoded(part.source, part.state):
                        yield piece
        except Exception as error:
            self.error = error
            raise
