"""The simulator as a whole: its ports, its outages, its end, its independence."""

from __future__ import annotations

import ast
import asyncio
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

import kling_async.simulator as face
from kling_async.simulator import Call, Desk, Fault, FaultPlan, Simulator, SimulatorSettings, serve
from kling_async.simulator.clock import LoopClock

if TYPE_CHECKING:
    from tests.simulator.conftest import Visit, Visitor

ROOMS = sorted(Path(face.__file__).parent.glob("*.py"))


@pytest.mark.looptime
async def test_outage(visit: Visit) -> None:
    """In an outage connections are refused; afterwards the same ports answer, and jobs went on meanwhile."""
    async with visit() as visitor:
        generation_id = await visitor.bought()
        addresses = (visitor.sim.base_url, visitor.sim.cdn_url)
        await visitor.sim.stop_listening()
        await asyncio.sleep(1.0)
        for address in addresses:
            assert (await visitor.send("GET", address)).failure is aiohttp.ClientConnectorError
        await asyncio.sleep(200.0)
        await visitor.sim.listen_again()
        assert (visitor.sim.base_url, visitor.sim.cdn_url) == addresses
        assert (await visitor.poll(generation_id)).json["status"] == "completed"


async def test_nobody_else_gets_the_ports_of_an_outage() -> None:
    """A server that lets the system choose its port is never the one that is asked meanwhile."""
    async with Simulator(SimulatorSettings(clips="template")) as sim:
        ports = [URL(address).port for address in (sim.base_url, sim.cdn_url)]
        await sim.stop_listening()
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))


@pytest.mark.looptime
async def test_outage_cuts_what_is_open(visit: Visit) -> None:
    """An outage cuts answers that are on their way; what they were about was done."""
    async with visit(latency=50.0) as visitor:
        reply, _ = await asyncio.gather(visitor.submit(), _outage(visitor, 10.0))
        assert reply.failure is not None
        assert len(visitor.sim.book.bought()) == 1


async def _outage(visitor: Visitor, after: float) -> None:
    await asyncio.sleep(after)
    await visitor.sim.stop_listening()


@pytest.mark.looptime
async def test_outage_twice(visit: Visit) -> None:
    """Beginning or ending an outage twice changes nothing."""
    async with visit() as visitor:
        await visitor.sim.listen_again()
        await visitor.sim.stop_listening()
        await visitor.sim.stop_listening()
        await visitor.sim.listen_again()
        assert (await visitor.submit()).status == 200


async def test_quick_end() -> None:
    """The end does not wait for calls that are stalled, in real time too."""
    plan = FaultPlan.of(Fault("submit", "stalled_after"))
    async with aiohttp.ClientSession() as session:
        async with Simulator(SimulatorSettings(clips="template"), plan) as sim:
            asking = asyncio.ensure_future(_post(session, sim))
            while not sim.book.bought():  # noqa: ASYNC110 - the book has no event, and the wait is short
                await asyncio.sleep(0.01)
            before = time.monotonic()
        assert time.monotonic() - before < 2.0
        with pytest.raises(aiohttp.ClientError):
            await asking


async def _post(session: aiohttp.ClientSession, sim: Simulator) -> int:
    body = {"model": "kling-video/v1/standard/image-to-video", "image_url": "https://images.example/a.png"}
    headers = {"Authorization": "Bearer sim-key"}
    async with session.post(f"{sim.base_url}/v2/video/generations", json=body, headers=headers) as response:
        return response.status


async def test_real_time() -> None:
    """In real time a fast simulator finishes a job, and its clock follows the wall's."""
    settings = SimulatorSettings(speed=24_000.0, clips="template")
    async with Simulator(settings) as sim, aiohttp.ClientSession() as session:
        assert await _post(session, sim) == 200
        while not sim.book.paid():
            sim.world.advance(sim.now())
            await asyncio.sleep(0.005)
        assert sim.now() == pytest.approx(time.time(), abs=1.0)


async def test_loopback() -> None:
    """Only the loopback address is listened on unless told, and both ports differ."""
    async with Simulator() as sim:
        assert {URL(sim.base_url).host, URL(sim.cdn_url).host} == {"127.0.0.1"}
        assert URL(sim.base_url).port != URL(sim.cdn_url).port


async def test_port_in_use() -> None:
    """A port in use is an error, and nothing is left open."""
    async with Simulator() as first:
        with pytest.raises(OSError, match="address already in use"):
            await Simulator(api_port=int(URL(first.base_url).port or 0)).__aenter__()


async def test_serve() -> None:
    """`serve` runs until it is cancelled, on the ports asked for."""
    ready: asyncio.Future[Simulator] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(serve(SimulatorSettings(admin=True), on_ready=ready.set_result))
    sim = await ready
    async with aiohttp.ClientSession() as session, session.get(f"{sim.base_url}/_sim/book") as response:
        assert (await response.json())["calls"] == {}
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.looptime
async def test_same_seed_same_world(visit: Visit) -> None:
    """The same seed and the same order of requests make the same ids, times, troubles and answers."""

    async def trace() -> list[Any]:
        plan = FaultPlan.of(submit={"500_after": 0.3, "429": 0.2}, job={"error_text": 0.3}, seed=3)
        async with visit(plan, seed=5, durations="log-normal", id_style="mixed", log_listing="mixed") as visitor:
            replies = [await visitor.submit(str(number)) for number in range(12)]
            await asyncio.sleep(400.0)
            visitor.sim.world.advance(visitor.sim.now())
            jobs = [(job.id, job.length, job.listing, job.purchase.state) for job in visitor.sim.world.jobs.values()]
            return [[(reply.status, reply.headers.get("x-request-id")) for reply in replies], jobs]

    assert await trace() == await trace()


@pytest.mark.looptime
async def test_many_at_once(visit: Visit) -> None:
    """Many generations at once keep to the limit, each ends once, and every one is charged once."""
    async with visit(limit=7, limit_policy="queue", balance_usd=1_000.0) as visitor:
        replies = await asyncio.gather(*(visitor.submit(str(number)) for number in range(100)))
        assert len({reply.id for reply in replies}) == 100
        await asyncio.sleep(2_000.0)
        visitor.sim.world.advance(visitor.sim.now())
        assert (len(visitor.sim.book.paid()), visitor.sim.book.max_running_at_once) == (100, 7)
        assert visitor.sim.book.max_open_at_once == 100
        assert visitor.sim.book.charges == 100 * 520_000


def test_desk_without_sockets() -> None:
    """The desk answers without a loop, a socket or a clock."""
    desk = Desk(SimulatorSettings(durations=10.0), FaultPlan(), cdn_url="https://cdn.example", now=1e9)
    body = b'{"model":"kling-video/v1/standard/image-to-video","image_url":"https://images.example/a.png"}'
    call = Call(method="POST", path="/v2/video/generations", authorization="Bearer sim-key", body=body)
    assert desk.ask(call, 1e9).answer.status == 200
    (job,) = desk.world.jobs.values()
    poll = Call(method="GET", path=call.path, query={"generation_id": job.id}, authorization=call.authorization)
    assert b"https://cdn.example/generations/" in desk.ask(poll, 1e9 + 10.0).answer.body


async def test_clock_never_goes_back() -> None:
    """A loop whose clock is set back, as by a switch to virtual time, does not set back the service's."""

    class Loop:
        moment = 5_000.0

        def time(self) -> float:
            return self.moment

    loop = Loop()
    clock = LoopClock(loop, lambda: 1e9)  # type: ignore[arg-type] # only its clock is asked
    loop.moment = 5_010.0
    assert clock.now() == 1e9 + 10.0
    loop.moment = 0.0
    assert clock.now() == 1e9 + 10.0
    loop.moment = 5.0
    assert clock.now() == 1e9 + 15.0


def test_face() -> None:
    """Every name on the package's face leads to its room, and no other name does."""
    for name in face._ROOMS:
        assert getattr(face, name).__name__ if name != "TROUBLES" else face.TROUBLES
        assert name in dir(face)
    with pytest.raises(AttributeError, match="nothing_here"):
        face.nothing_here  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.stem)
def test_shares_nothing_with_the_client(room: Path) -> None:
    """No room imports anything of the client, nor starts a task."""
    tree = ast.parse(room.read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    own = [name for name in names if name.split(".")[0] == "kling_async"]
    assert all(name.startswith("kling_async.simulator") for name in own)
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"create_task", "ensure_future", "TaskGroup"}
