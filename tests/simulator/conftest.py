"""A plain visitor of the simulated service: it sends what it is told and tells what came back, no more."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from attrs import frozen
from yarl import URL

from kling_async.simulator import FaultPlan, Simulator, SimulatorSettings
from kling_async.simulator.settings import MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    Visit = Callable[..., AbstractAsyncContextManager["Visitor"]]

GENERATIONS = "/v2/video/generations"
START = 1_800_000_000.0
"""The wall's time in tests, as a Unix time."""


@frozen
class Reply:
    """What came back."""

    status: int = 0
    """HTTP status; 0 if there was no answer."""

    headers: Mapping[str, str] = {}
    """Headers, without regard to case."""

    body: bytes = b""
    """As much of the body as came."""

    failure: type[BaseException] | None = None
    """How the call failed, if it did."""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The generation id of a submit's answer."""
        return str(self.json["id"])


class Visitor:
    """Sends requests to a simulator.

    Args:
        sim: The simulator.
        session: Sends them.
    """

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    async def send(self, method: str, url: str | URL, *, timeout: float = 120.0, **options: Any) -> Reply:
        """Send a request; never raise for how it went."""
        limit = aiohttp.ClientTimeout(total=timeout)
        chunks: list[bytes] = []
        status: int = 0
        headers: Mapping[str, str] = {}
        try:
            async with self.session.request(method, url, timeout=limit, allow_redirects=False, **options) as response:
                status, headers = response.status, response.headers
                async for chunk in response.content.iter_any():
                    chunks.append(chunk)  # noqa: PERF401 - what came before a failure counts
        except (aiohttp.ClientError, TimeoutError) as error:
            return Reply(status, headers, b"".join(chunks), type(error))
        return Reply(status, headers, b"".join(chunks))

    async def api(
        self, method: str, path: str, *, key: str | None = "sim-key", rid: str | None = None, **o: Any
    ) -> Reply:
        """Send a request to the API."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if rid is not None:
            headers["X-Client-Request-Id"] = rid
        return await self.send(method, self.sim.base_url + path, headers=headers, **o)

    async def submit(
        self, prompt: str = "p", *, key: str | None = "sim-key", rid: str | None = None, **fields: Any
    ) -> Reply:
        """Submit a request; fields that are None are left out."""
        body = {"model": MODEL, "image_url": "https://images.example/a.png", "prompt": prompt, **fields}
        body = {name: value for name, value in body.items() if value is not None}
        data = io.BytesIO(json.dumps(body).encode())
        return await self.api("POST", GENERATIONS, key=key, rid=rid, data=data)

    async def poll(self, generation_id: str, **options: Any) -> Reply:
        """Ask where a job stands."""
        return await self.api("GET", GENERATIONS, params={"generation_id": generation_id}, **options)

    async def log(self, *, key: str = "sim-key", **params: str) -> Reply:
        """Ask for the usage log, of the last day unless told."""
        return await self.api("GET", "/v2/logs", key=key, params=params or {"period": "1d"})

    async def bought(self, prompt: str = "p", **fields: Any) -> str:
        """Submit a request that is accepted, and return the generation id."""
        reply = await self.submit(prompt, **fields)
        assert reply.status == 200, reply
        return reply.id

    async def finished(self, prompt: str = "p", **fields: Any) -> Any:
        """Buy a generation and return its last poll's answer as JSON."""
        generation_id = await self.bought(prompt, **fields)
        await self.until_ended(generation_id)
        return (await self.poll(generation_id)).json

    async def until_ended(self, generation_id: str) -> None:
        """Wait until a job has ended, without asking the service."""
        job = self.sim.world.jobs[generation_id]
        while not job.ended:
            self.sim.world.advance(self.sim.now())
            await asyncio.sleep(1.0)

    async def fetch(self, url: str, **options: Any) -> Reply:
        """Fetch a video."""
        return await self.send("GET", URL(url, encoded=True), **options)


@asynccontextmanager
async def _visit(faults: FaultPlan | None = None, **settings: Any) -> AsyncIterator[Visitor]:
    chosen = {"clips": "template", "durations": 100.0, "id_style": "nanoid", **settings}
    async with (
        Simulator(SimulatorSettings(**chosen), faults, wall=lambda: START) as sim,
        aiohttp.ClientSession() as session,
    ):
        session._retry_connection = False  # aiohttp would send a GET again on its own when no answer comes
        yield Visitor(sim, session)


@pytest.fixture
def visit() -> Visit:
    """Opens a simulator with settings of choice (jobs last 100 s, packaged clips), and a visitor to it."""
    return _visit
