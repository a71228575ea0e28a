"""Those who wait for one of a few places: the most urgent goes first, and of two that are equal the one who came first.

It knows numbers, not what they stand for. A place must never be lost with a waiter who leaves.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count


class Line:
    """A line before a few places.

    Args:
        places: How many.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @property
    def full(self) -> bool:
        """Whether all places are taken."""
        return not self._free

    @asynccontextmanager
    async def place(self, rank: float) -> AsyncIterator[None]:
        """Wait for a place and keep it for the block.

        Args:
            rank: The lower, the earlier.
        """
        await self._enter(rank)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, rank: float) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()  # the place came just before its waiter left: it is the next one's
            raise

    def _leave(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
