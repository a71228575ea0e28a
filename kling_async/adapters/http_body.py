"""The body of one call on its way out: its parts in order, and whether the service may have all of it.

A part of `http` that knows no HTTP library. This room must never let a body pass for unfinished once its last piece was
asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from kling_async.errors import NotSent
from kling_async.types.exchange import HttpCall
from kling_async.types.image import ImageSource, ImageState

AT_ONCE: Final = 8
"""Bodies with images that are sent at once: more share the same line, end later all together, and hold the loop up."""


class Encoder(Protocol):
    """Encodes a local image, as `kling_async.ports.Images` does."""

    def encoded(self, source: ImageSource, state: ImageState) -> AsyncIterator[bytes]:
        """Yield the image as base64, in pieces."""
        ...


class Body:
    """The parts of a body in order, and whether the last of them was asked for.

    One with images has a place among those that are sent at once, until its last piece was asked for.
    """

    def __init__(self, call: HttpCall, images: Encoder, places: asyncio.Semaphore) -> None:
        self._parts = call.body
        self._timeout = call.timeout
        self._images = images
        self._places = places
        self._has_place = False
        self.finished = not call.body
        self.error: Exception | None = None

    async def begin(self) -> None:
        """Wait for a place, if the body has images; for as long as the call itself may take, and no longer.

        When a call was meant to leave is written down before, and is where a lost one is looked for.

        Raises:
            NotSent: There was none.
        """
        if all(isinstance(part, bytes) for part in self._parts):
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._places.acquire()
        except TimeoutError:
            raise NotSent(f"{AT_ONCE} images were being sent, and none was out within {self._timeout:g} s") from None
        self._has_place = True

    def end(self) -> None:
        """Give the place back, if the body has one."""
        if self._has_place:
            self._has_place = False
            self._places.release()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body. Once the last piece was asked for, the service may have all of it."""
        try:
            for number, part in enumerate(self._parts, 1):
                if isinstance(part, bytes):
                    self.finished = number == len(self._parts)
                    if self.finished:
                        self.end()
                    yield part
                else:
                    async for piece in self._images.encoded(part.source, part.state):
                        yield piece
        except Exception as error:
            self.error = error
            raise
