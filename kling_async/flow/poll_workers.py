"""A fixed number of workers who take from one agenda what is due, one poll at a time each.

They know when, not whom or why: what an answer means is the poller's affair. Never a task for each generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kling_async.flow.background import Background, Job
from kling_async.rules.agenda import PollAgenda

_EARLY = 0.001
"""Seconds by which a poll may leave early: a timer may fire a little before its time, and must not spin until then."""


class PollWorkers:
    """The workers.

    Args:
        background: Where they live.
        count: How many.
        agenda: Returns the agenda that they take from.
        ask: Asks for one generation.
        died: Is told that a worker has ended: by an error of our own, or (None) since all is being stopped.
    """

    def __init__(
        self,
        background: Background,
        count: int,
        *,
        agenda: Callable[[], PollAgenda],
        ask: Callable[[str], Awaitable[None]],
        died: Callable[[Exception | None], None],
    ) -> None:
        self._background = background
        self._count = count
        self._agenda = agenda
        self._ask = ask
        self._died = died
        self._idle: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._jobs: list[Job[None]] = []

    async def start(self) -> None:
        """Begin the work, if it is not under way."""
        await self._background.ready()
        # Nothing waits from here on: of many who come at once, the first one starts the workers for all.
        self._jobs = [job for job in self._jobs if not job.result.done()]
        while len(self._jobs) < self._count:
            self._jobs.append(await self._background.start(self._work))

    def arm(self) -> None:
        """Set the one timer to when the next poll is due, if anybody is free to make it."""
        due = self._agenda().next_due() if self._idle else None
        if self._timer is not None:
            if self._due == due:
                return
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._wake)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                generation_id = self._agenda().take(loop.time() + _EARLY)
                if generation_id is None:
                    await self._rest()
                    continue
                self.arm()
                await self._ask(generation_id)
        except Exception as error:
            self._died(error)
            raise
        finally:
            self._died(None)

    async def _rest(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        self.arm()
        try:
            await waiting
        finally:
            if waiting in self._idle:
                self._idle.remove(waiting)

    def _wake(self) -> None:
        self._timer = None
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.done():
                waiting.set_result(None)
                return
