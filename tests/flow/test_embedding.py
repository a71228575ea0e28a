"""`open_client` and `open_batch` inside other people's programs: entered in one task, left in another."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from kling_async import (
    Batch,
    GenerationStatus,
    ImageToVideo,
    JournalLocked,
    KlingClient,
    Outcome,
    open_batch,
    open_client,
)
from kling_async.simulator import Fault, FaultPlan, Simulator, SimulatorSettings
from tests.flow.harness import IMAGE_URL, World, found_in, requests, world

pytestmark = pytest.mark.looptime


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        yield found


@pytest.fixture
async def client(service: World) -> AsyncIterator[KlingClient]:
    async with service.client() as found:
        yield found


@pytest.fixture
async def batch(service: World) -> AsyncIterator[Batch]:
    async with service.batch() as found:
        yield found


async def test_a_client_as_a_fixture(client: KlingClient) -> None:
    """A client that a fixture entered serves the test, and is left by the fixture."""
    generation = await client.submit(requests(1)[0])
    assert (await client.wait(generation)).status is GenerationStatus.COMPLETED


async def test_a_batch_as_a_fixture(batch: Batch) -> None:
    """A batch that a fixture entered serves the test, and is left by the fixture."""
    assert (await batch.run(requests(3))).tally.done == 3


async def test_in_a_web_frameworks_start_and_stop_hooks(service: World) -> None:
    """A batch entered when an application starts is left when it stops, by other calls than those that used it."""
    key = web.AppKey("batch", Batch)

    async def start(app: web.Application) -> None:
        app[key] = await service.batch().__aenter__()

    async def stop(app: web.Application) -> None:
        await app[key].__aexit__(None, None, None)

    app = web.Application()
    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    runner = web.AppRunner(app)
    await runner.setup()
    assert (await app[key].run(requests(2))).tally.done == 2
    await runner.cleanup()
    async with service.batch() as again:
        assert (await again.tally()).done == 2


def one(prompt: str = "a cat") -> ImageToVideo:
    return ImageToVideo(IMAGE_URL, prompt)


@pytest.fixture
async def streaming(batch: Batch) -> AsyncIterator[AsyncIterator[Outcome]]:
    """A stream that is entered in a fixture, read in a test, and left in the fixture."""
    async with batch.stream(requests(6)) as outcomes:
        yield outcomes


async def test_a_stream_as_a_fixture(streaming: AsyncIterator[Outcome]) -> None:
    """Read to its middle: the rest is left to the fixture's end."""
    assert (await anext(streaming)).ok


async def test_a_client_that_is_never_used(service: World, client: KlingClient) -> None:
    """Nothing is begun by entering it, and nothing is there to be ended: no task, no call."""
    assert client._background._task is None
    tasks = asyncio.all_tasks()
    async with service.client():
        assert asyncio.all_tasks() == tasks
    assert asyncio.all_tasks() == tasks
    assert not service.book.calls


async def test_handlers_share_one_client(service: World, tmp_path: Path) -> None:
    """Opened on start-up, used by many at once, one of them cancelled as its browser leaves, closed at the end."""
    key = web.AppKey("client", KlingClient)

    async def start(app: web.Application) -> None:
        app[key] = await service.client().__aenter__()

    async def stop(app: web.Application) -> None:
        await app[key].__aexit__(None, None, None)

    async def make(request: web.Request) -> web.Response:
        name = request.query["name"]
        file = await request.app[key].generate(one(name), tmp_path / f"{name}.mp4")
        return web.json_response({"bytes": file.size})

    app = web.Application()
    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    app.router.add_get("/make", make)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as browser:

        async def ask(name: str, timeout: float = 1000) -> int:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with browser.get("/make", params={"name": name}, timeout=limit) as answer:
                return int((await answer.json())["bytes"])

        hasty = asyncio.ensure_future(ask("hasty", timeout=20))
        sizes = await asyncio.gather(*(ask(f"v{i}") for i in range(5)))
        await asyncio.wait({hasty})
    await runner.cleanup()
    assert isinstance(hasty.exception(), TimeoutError)
    assert all(sizes)
    assert await found_in(tmp_path) == {f"v{i}.mp4" for i in range(5)}
    assert len(service.book.bought()) == 6


async def test_a_batch_feeds_a_streamed_answer(service: World) -> None:
    """Entered in a handler, its outcomes leave as they come; a browser that goes away ends it cleanly."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        async with service.batch(max_in_flight=3) as batch, batch.stream(requests(9)) as outcomes:
            async for outcome in outcomes:
                await answer.write(f"{outcome.key}\n".encode())
        return answer

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10_000)) as browser:
        async with browser.get(url) as answer:
            assert (await answer.content.readline()).startswith(b"row")
        await asyncio.sleep(60)
        async with browser.get(url) as answer:
            keys = (await answer.text()).split()
    await runner.cleanup()
    assert sorted(keys) == sorted(f"row{i}" for i in range(9))
    await service.audit()


ERRORS = [LookupError("mine"), KeyboardInterrupt(), SystemExit(3), ExceptionGroup("group", [OSError()])]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", ["client", "batch", "stream"])
async def test_the_callers_exception_comes_out_as_it_is(service: World, error: BaseException, kind: str) -> None:
    """The very same object, in no group, while work is under way; the folder is free again."""
    raised: BaseException | None = None
    waiting: asyncio.Future[Any] | None = None
    try:
        if kind == "client":
            async with service.client() as client:
                waiting = asyncio.ensure_future(client.wait(await client.submit(one())))
                await asyncio.sleep(5)
                raise error
        async with service.batch() as batch:
            if kind == "batch":
                await batch.run(requests(1))
                raise error
            async with batch.stream(requests(5)) as outcomes:
                await anext(outcomes)
                raise error
    except BaseException as caught:  # noqa: BLE001 - whatever it is
        raised = caught
    assert raised is error
    if waiting is not None:
        with pytest.raises((RuntimeError, asyncio.CancelledError)):
            await waiting
    else:
        async with service.batch():
            pass


async def test_an_error_of_the_source_is_the_callers(service: World) -> None:
    """What its iterator raises comes out of the run by itself, and the batch may run again."""

    async def source() -> AsyncIterator[ImageToVideo]:
        yield one("first")
        await asyncio.sleep(1)
        raise LookupError("the source broke")

    async with service.batch() as batch:
        with pytest.raises(LookupError, match="the source broke"):
            await batch.run(source())
        assert (await batch.run([one("first")])).tally.done == 1
    await service.audit()


async def test_a_time_out_of_the_callers(service: World, tmp_path: Path) -> None:
    """`asyncio.timeout` around all of it: TimeoutError, and a later run goes on where it was."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60), service.batch(max_in_flight=3) as batch:
            await batch.run(requests(9))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60), service.client() as client:
            await client.generate(one(), tmp_path / "a.mp4")
    async with service.batch() as batch:
        assert (await batch.run(requests(9))).tally.done == 9
    assert len(service.book.bought()) == 10


async def test_from_a_task_group_of_anyios(service: World, tmp_path: Path) -> None:
    """Callers as its children; where the group fails it is the group that tells so, and the client goes on."""
    async with service.client() as client:
        async with anyio.create_task_group() as group:
            for row in requests(4):
                group.start_soon(client.generate, row, tmp_path / f"{row.key}.mp4")
        assert len(await found_in(tmp_path)) == 4
        with pytest.raises(ExceptionGroup) as raised:
            async with anyio.create_task_group() as group:
                group.start_soon(client.generate, one("other"), tmp_path / "other.mp4")
                await anyio.sleep(10)
                raise LookupError("mine")
        assert [type(error) for error in raised.value.exceptions] == [LookupError]
        assert (await client.generate(one("last"), tmp_path / "last.mp4")).size


async def test_a_cancel_scope_around_a_batch_gives_the_folder_back(service: World) -> None:
    """A scope strikes at every await until it is left: the journal is closed all the same, at once."""
    for seconds in (0.5, 1.0, 30.0, 250.0):
        with anyio.move_on_after(seconds):
            async with service.batch() as batch:
                await batch.run(requests(4))
        async with service.batch():
            pass
    async with service.batch() as batch:
        assert (await batch.run(requests(4))).tally.done == 4
    await service.audit()


async def test_a_cancel_scope_inside_a_batch_leaves_it_usable(service: World) -> None:
    """A run that is given up does not end the batch."""
    async with service.batch(max_in_flight=2) as batch:
        with anyio.move_on_after(100):
            await batch.run(requests(4))
        assert (await batch.run(requests(4))).tally.done == 4
    await service.audit()


async def test_a_batch_whose_journal_is_gone_tells_its_reader(service: World) -> None:
    """Amid a run: a JournalError, neither a hang nor a group."""
    service.simulator.faults = FaultPlan.of(Fault("submit", "slow_after", seconds=30.0))
    async with service.batch() as batch:
        running = asyncio.ensure_future(batch.run(requests(3)))
        await asyncio.sleep(10)
        journal: Any = batch._crew.journal
        await journal._writer.run(lambda connection: connection.execute("DROP TABLE row").rowcount)
        with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is asked below
            await running
        assert type(raised.value).__name__ == "JournalError"


async def test_two_clients_and_a_batch_side_by_side(service: World, tmp_path: Path) -> None:
    """They share nothing but the account; a second batch in the folder is told who holds it."""
    async with service.client() as first, service.client() as second, service.batch() as batch:
        with pytest.raises(JournalLocked):
            async with service.batch():
                pass
        await asyncio.gather(
            first.generate(one("first"), tmp_path / "1.mp4"),
            second.generate(one("second"), tmp_path / "2.mp4"),
            batch.run(requests(3)),
        )
    assert len(service.book.bought()) == 5


# ----------------------------------------------------------------- loops of one's own

OWN_LOOP = pytest.mark.looptime(False)


async def _whole_life(folder: Path) -> int:
    """Make a video with a client and five with a batch that is left amid its run; return how many were bought."""
    async with Simulator(SimulatorSettings(clips="template", durations=0.2, limit=None)) as simulator:
        flags: dict[str, Any] = {"base_url": simulator.base_url, "api_key": "sim-key", "poll_interval_min": 0.05}
        async with open_client(**flags) as client:
            await client.generate(one(), folder / "a.mp4")
        async with open_batch(folder / "out", **flags) as batch, batch.stream(requests(5)) as outcomes:
            await anext(outcomes)
        async with open_batch(folder / "out", **flags) as batch:
            assert (await batch.run(requests(5))).tally.done == 5
        assert await found_in(folder / "out" / "videos") == {f"row{i}.mp4" for i in range(5)}
        assert "a.mp4" in await found_in(folder)
        return len(simulator.book.bought())


@OWN_LOOP
def test_under_debug_mode_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No coroutine that was never awaited, no error that nobody read, nothing left open; in two loops, one by one."""
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in ("one", "two"):
            assert asyncio.run(_whole_life(tmp_path / name), debug=True) == 6
        gc.collect()
    assert [str(warning.message) for warning in said] == []
    assert [line for line in caplog.messages if not line.startswith("Executing")] == []  # a slow machine's affair


@OWN_LOOP
def test_under_a_task_factory_of_the_programs_own(tmp_path: Path) -> None:
    """Whatever makes the tasks, and though it begins them at once (as Python 3.12's can): nothing is other."""
    made = 0

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        if sys.version_info >= (3, 12):
            return asyncio.eager_task_factory(loop, work, **options)
        return asyncio.Task(work, loop=loop, **options)

    async def main() -> int:
        asyncio.get_running_loop().set_task_factory(factory)
        return await _whole_life(tmp_path)

    assert asyncio.run(main()) == 6
    assert made > 20, "the factory was not asked"


@OWN_LOOP
def test_nothing_of_it_stays_in_the_loop(tmp_path: Path) -> None:
    """When client and batch are closed no task of theirs is there any more."""

    async def main() -> None:
        before = asyncio.all_tasks()
        assert await _whole_life(tmp_path) == 6
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == before

    asyncio.run(main())
