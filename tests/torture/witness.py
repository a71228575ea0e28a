"""A simulated service that can be told to strike: when it has seen something for the n-th time, a process is hit.

The moments that matter are narrow: after a submit was accepted and before its answer is read, between an answer and the
journal's next commit, between a digest and a rename. Who kills at random times alone seldom meets them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from attrs import field, frozen

from kling_async.simulator import Reaction, Simulator
from kling_async.simulator.cdn import Delivery

SIGHTS: Final = (
    "submit begun",
    "submit accepted",
    "submit answered",
    "poll completed",
    "poll answered",
    "download begun",
    "log answered",
    "price answered",
)
"""What is seen: the head of a submit, its body not yet read; a submit that made a job, its answer not yet sent; any
submit's end, the answer not yet sent; a poll that is about to tell a job's end; any other poll; a video about to be
sent; a page of the usage log and a price about to be told."""

_PATHS: Final = {
    ("POST", "/v2/video/generations"): "submit",
    ("GET", "/v2/video/generations"): "poll",
    ("GET", "/v2/logs"): "log",
    ("GET", "/v1/models"): "price",
}


@frozen
class Trap:
    """Strikes so long after something was seen for the n-th time, counted from when it was set."""

    sight: str
    """What must be seen: one of `SIGHTS`."""
    times: int
    """How often."""
    delay: float
    """Seconds from then to the blow; 0: at once, before anything else happens at the service."""
    strike: Callable[[], None] = field(repr=False)
    """The blow; called on the service's loop."""


class Witness(Simulator):
    """The simulated service, with a trap or none."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._trap: Trap | None = None
        self._counted: Counter[str] = Counter()
        self._known = 0
        self.seen: Counter[str] = Counter()
        """How often each sight was seen."""
        self.sprung = False
        """Whether the last trap struck, or is about to."""

    def set_trap(self, trap: Trap | None) -> None:
        """Wait for a moment to strike, in place of any other."""
        self._trap, self.sprung = trap, False
        self._counted.clear()

    def _see(self, sight: str) -> None:
        self.seen[sight] += 1
        self._counted[sight] += 1
        trap = self._trap
        if trap is None or trap.sight != sight or self._counted[sight] < trap.times:
            return
        self._trap, self.sprung = None, True
        if trap.delay:
            asyncio.get_running_loop().call_later(trap.delay, trap.strike)
        else:
            trap.strike()

    async def _answer_api(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            self._see("submit begun")
        return await super()._answer_api(request)

    async def _react(self, request: web.BaseRequest, reaction: Reaction) -> web.StreamResponse:
        name = _PATHS.get((request.method, request.path), "other")
        if len(self.world.jobs) > self._known:
            self._known = len(self.world.jobs)
            self._see("submit accepted")
        ended = any(word in reaction.answer.body for word in (b'"completed"', b'"succeeded"'))
        self._see("poll completed" if name == "poll" and ended else f"{name} answered")
        return await super()._react(request, reaction)

    async def _hand_over(self, request: web.BaseRequest, delivery: Delivery) -> web.StreamResponse:
        self._see("download begun")
        return await super()._hand_over(request, delivery)

    async def editions(self, generation_id: str) -> list[bytes]:
        """Return every file that the CDN has, or had, for a generation: a file may have been made anew."""
        job = self.world.jobs[generation_id]
        master = await self._studio.master(job)
        numbers = range(job.edition + 1)
        return [master.stamped(job.id, number, self.settings.clip_bytes) for number in numbers]
