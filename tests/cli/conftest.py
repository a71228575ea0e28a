"""A simulated service for each test, on one thread for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kling_async.simulator import FaultPlan, Simulator
from tests.cli.harness import LoopThread, World, clean_environment, open_service

OpenWorld = Callable[..., World]


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """A loop on a thread of its own, for the simulated services."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def open_world(loop_thread: LoopThread, tmp_path: Path) -> Iterator[OpenWorld]:
    """Opens a folder and a service of its own, with a plan of troubles and settings of choice."""
    opened: list[tuple[Simulator, World]] = []

    def opens(plan: FaultPlan | None = None, **settings: Any) -> World:
        folder = tmp_path / f"world{len(opened)}"
        folder.mkdir()
        simulator = open_service(loop_thread, plan, settings)
        world = World(loop_thread, folder, simulator, clean_environment())
        opened.append((simulator, world))
        return world

    yield opens
    for simulator, world in opened:
        for process in world.processes:
            process.close()
        loop_thread.do(simulator.__aexit__(None, None, None))


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    """A folder and a service where nothing goes wrong."""
    return open_world()
