"""Both ends of a batch: requests come in a few at a time, outcomes leave as they finish."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from itertools import islice
from typing import Final, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from kling_async.types.outcome import Outcome
from kling_async.types.request import ImageToVideo

Requests: TypeAlias = Iterable[ImageToVideo] | AsyncIterable[ImageToVideo]
"""Where a batch's rows come from; read as slots free up."""

_CHUNK: Final = 32
"""Rows that are read from the source, and enrolled, at once."""


class Outcomes:
    """The outcomes as they finish; at their end, the error that stopped the run."""

    def __init__(self, receive: MemoryObjectReceiveStream[Outcome], result: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._result = result

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            await self._result()
            raise StopAsyncIteration from None


async def chunks(requests: Requests) -> AsyncIterator[list[ImageToVideo]]:
    """Read a source: an async one row by row, since it may wait; another one a few rows at a time."""
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield [request]
        return
    rows = iter(requests)
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk
