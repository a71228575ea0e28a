"""The simulated service behind real sockets: the API and the CDN, each on a port of its own.

Everything is decided at the desk and at the CDN; here it is carried out. This room must never decide what happens to a
call, start a task of its own, or wait by another clock than the loop's.
"""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from aiohttp import ClientError, web
from attrs import evolve

from kling_async.simulator.calls import Call
from kling_async.simulator.cdn import Cdn, Delivery, Fetch
from kling_async.simulator.clock import LoopClock
from kling_async.simulator.desk import Desk
from kling_async.simulator.faults import FaultPlan
from kling_async.simulator.settings import SimulatorSettings
from kling_async.simulator.site import Site, drop, hang, leave, send, send_delivery, send_part
from kling_async.simulator.studio import Studio
from kling_async.simulator.validation import read_submit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from kling_async.simulator.book import AccountBook
    from kling_async.simulator.calls import Reaction
    from kling_async.simulator.world import World

_LARGE: Final = 64 << 10
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, never listened on


class Simulator:
    """A whole simulated service, for `async with`.

    Args:
        settings: What the service is like.
        faults: What goes wrong.
        host: The address to listen on; loopback unless told.
        api_port: The API's port; 0: any free one.
        cdn_port: The CDN's port; 0: any free one.
        wall: Asked once for the wall's time, as a Unix time; from then on the loop's clock counts.
    """

    _clock: LoopClock
    _desk: Desk
    _cdn: Cdn

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        faults: FaultPlan | None = None,
        *,
        host: str = "127.0.0.1",
        api_port: int = 0,
        cdn_port: int = 0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings = SimulatorSettings() if settings is None else settings
        self._plan = FaultPlan() if faults is None else faults
        self._wall = wall
        self._shown_host = "127.0.0.1" if host in _ANY_ADDRESS else host
        self._api_site = Site(self._answer_api, self.settings, host, api_port)
        self._cdn_site = Site(self._answer_cdn, self.settings, host, cdn_port)
        self._studio = Studio(self.settings)

    async def __aenter__(self) -> Self:
        self._clock = LoopClock(asyncio.get_running_loop(), self._wall)
        await self._studio.open()
        try:
            await self._cdn_site.listen()
            self._desk = Desk(
                self.settings,
                self._plan,
                cdn_url=self.cdn_url,
                now=self.now(),
                on_accepted=self._studio.begin,
            )
            self._desk.service.clip_size = self._studio.size
            self._cdn = Cdn(self._desk, f"http://localhost:{self._cdn_site.port}")
            await self._api_site.listen()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self._api_site.close()
        await self._cdn_site.close()
        await self._studio.close()

    # --------------------------------------------------------------- questions

    @property
    def base_url(self) -> str:
        """The API's address."""
        return f"http://{self._shown_host}:{self._api_site.port}"

    @property
    def cdn_url(self) -> str:
        """The CDN's address."""
        return f"http://{self._shown_host}:{self._cdn_site.port}"

    @property
    def desk(self) -> Desk:
        """The API's desk, which can be asked without a socket."""
        return self._desk

    @property
    def world(self) -> World:
        """The jobs."""
        return self._desk.world

    @property
    def book(self) -> AccountBook:
        """The account book. Let `world.advance(sim.now())` happen first if no call came lately."""
        return self._desk.book

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong; another plan may be set at any time, and starts anew then."""
        return self._plan

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._desk.set_plan(plan, self.now())

    def now(self) -> float:
        """Return the simulator's time, as a Unix time."""
        return self._clock.now()

    async def served_bytes(self, generation_id: str) -> bytes:
        """Return the whole file that the CDN has for a generation."""
        job = self.world.jobs[generation_id]
        return self._studio.clip(job, await self._studio.master(job))

    async def served_sha256(self, generation_id: str) -> str:
        """Return the SHA-256 of the whole file that the CDN has for a generation."""
        return sha256(await self.served_bytes(generation_id)).hexdigest()

    # ------------------------------------------------------------------ outages

    async def stop_listening(self) -> None:
        """Begin an outage: connections are cut, and new ones refused. Jobs go on."""
        await self._api_site.refuse()
        await self._cdn_site.refuse()

    async def listen_again(self) -> None:
        """End an outage: the same ports answer again."""
        await self._api_site.listen()
        await self._cdn_site.listen()

    # ------------------------------------------------------------------ the API

    async def _answer_api(self, request: web.BaseRequest) -> web.StreamResponse:
        call = _read_call(request)
        if self._desk.refuses(call, self.now()):
            return drop(request, reset=True)
        try:
            call = await self._read_body(call, request)
        except (ConnectionError, ClientError):
            return drop(request)
        await self._await_clip(call)
        return await self._react(request, self._desk.ask(call, self.now()))

    async def _read_body(self, call: Call, request: web.BaseRequest) -> Call:
        if not request.body_exists:
            return call
        body = await request.read()
        if call.method == "POST" and len(body) > _LARGE:
            return evolve(call, order=await self._studio.run(read_submit, body, self.settings))
        return evolve(call, body=body)

    async def _await_clip(self, call: Call) -> None:
        """Wait for a rendering whose size the answer is going to tell."""
        job = self.world.jobs.get(call.query.get("generation_id", ""))
        if job is not None and self.settings.video == "full":
            await self._studio.ready(job)

    async def _react(self, request: web.BaseRequest, reaction: Reaction) -> web.StreamResponse:
        if reaction.delay:
            await asyncio.sleep(reaction.delay)
        if reaction.manner == "drop":
            return drop(request)
        if reaction.manner == "stall":
            await hang()
        if reaction.manner == "cut":
            body = reaction.answer.body
            half = evolve(reaction.answer, body=body[: len(body) // 2])
            response = await send_part(request, half, len(body), self.now())
            await leave(request, "cut")
            return response
        return send(reaction.answer, self.now())

    # ------------------------------------------------------------------ the CDN

    async def _answer_cdn(self, request: web.BaseRequest) -> web.StreamResponse:
        fetch = Fetch(
            method=request.method,
            path=request.path,
            target=request.path_qs,
            query=request.query,
            headers=request.headers,
        )
        job = self._cdn.admit(fetch, self.now())
        if isinstance(job, Delivery):
            return drop(request, reset=True) if job.manner == "drop" else await self._hand_over(request, job)
        master = await self._studio.master(job)
        delivery = self._cdn.deliver(job, fetch, lambda: self._studio.clip(job, master), self.now())
        return await self._hand_over(request, delivery)

    async def _hand_over(self, request: web.BaseRequest, delivery: Delivery) -> web.StreamResponse:
        if delivery.delay:
            await asyncio.sleep(delivery.delay)
        if delivery.manner == "stall":
            await hang()
        return await send_delivery(request, delivery, self.now())


def _read_call(request: web.BaseRequest) -> Call:
    headers = request.headers
    return Call(
        method=request.method,
        path=request.path,
        query=request.query,
        authorization=headers.get("Authorization"),
        request_id=headers.get("X-Client-Request-Id"),
    )


async def serve(
    settings: SimulatorSettings | None = None,
    faults: FaultPlan | None = None,
    *,
    host: str = "127.0.0.1",
    api_port: int = 0,
    cdn_port: int = 0,
    on_ready: Callable[[Simulator], None] | None = None,
) -> None:
    """Run a simulator until cancelled.

    Args:
        settings: What the service is like.
        faults: What goes wrong.
        host: The address to listen on; loopback unless told.
        api_port: The API's port; 0: any free one.
        cdn_port: The CDN's port; 0: any free one.
        on_ready: Told when both ports are open.
    """
    async with Simulator(settings, faults, host=host, api_port=api_port, cdn_port=cdn_port) as simulator:
        if on_ready is not None:
            on_ready(simulator)
        await hang()
