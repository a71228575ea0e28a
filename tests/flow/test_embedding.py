"""`open_client` and `open_batch` inside other people's programs: entered in one task, left in another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kling_async import Batch, GenerationStatus, KlingClient
from tests.flow.harness import World, requests, world

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
