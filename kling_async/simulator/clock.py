"""The simulator's one clock: the loop's, told as Unix time.

It starts at the wall's time and from then on follows the loop, virtual or not. This room must never wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class LoopClock:
    """Tells the time of a loop as a Unix time that never goes back.

    Args:
        loop: Whose clock it follows.
        wall: Asked once, at the start; a skewed one makes a skewed service.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wall: Callable[[], float]) -> None:
        self._loop = loop
        self._last = loop.time()
        self._ahead = wall() - self._last

    def now(self) -> float:
        """Return the time, as a Unix time.

        A loop that is switched to virtual time (a test whose fixtures ran in real time) goes on from where it was.
        """
        moment = self._loop.time()
        if moment < self._last:
            self._ahead += self._last - moment
        self._last = moment
        return self._ahead + moment
