"""A simulated service for each test, and several tests at a time: they wait for processes far more than they work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from kling_async.simulator import FaultPlan
from tests.cli.forks import Forks
from tests.cli.harness import LoopThread, World, clean_environment, open_service, png
from tests.folders import scratch

AT_ONCE = 8
"""Tests of a module that are played at the same time."""

FROM_NOTHING = {"test_help", "test_open_files", "test_secrets", "test_streams", "test_tutorial"}
"""Modules that start the program from nothing each time: what it loads, reads and is given then is their subject."""

OpenWorld = Callable[..., World]


class Stage:
    """Where one test is played: the folders and services that it opens, and their end."""

    def __init__(self, loop: LoopThread, folder: Path, environment: dict[str, str], forks: Forks | None) -> None:
        self._loop = loop
        self._folder = folder
        self._environment = environment
        self._forks = forks
        self._worlds: list[World] = []

    def open_world(self, plan: FaultPlan | None = None, **settings: Any) -> World:
        """Open a folder and a service of its own, with a plan of troubles and settings of choice."""
        place = self._folder / f"world{len(self._worlds)}"
        place.mkdir(parents=True)
        (place / "cat.png").write_bytes(png())
        world = World(self._loop, place, open_service(self._loop, plan, settings), self._environment, self._forks)
        self._worlds.append(world)
        return world

    def play(self, test: Callable[..., None]) -> None:
        """Call a test with what it asks for: `world`, where nothing goes wrong, or `open_world`."""
        wanted = inspect.signature(test).parameters
        given: dict[str, Any] = {"open_world": self.open_world} if "open_world" in wanted else {}
        if "world" in wanted:
            given["world"] = self.open_world()
        try:
            test(**given)
        finally:
            for world in self._worlds:
                for process in world.processes:
                    process.close()
                self._loop.do(world.service.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """A loop on a thread of its own, for the simulated services."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The program, loaded once."""
    forks = Forks(clean_environment())
    yield forks
    forks.close()


@pytest.fixture(scope="module", autouse=True)
def begun(request: pytest.FixtureRequest, loop_thread: LoopThread, forks: Forks) -> Iterator[dict[str, Future[None]]]:
    """Begin the tests of a module, some at a time; each is asked for its result in its turn."""
    environment = clean_environment()
    loaded = None if request.module.__name__.rpartition(".")[2] in FROM_NOTHING else forks
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    mine = [test for test in tests if test.module is request.module]
    with scratch("kling-cli-") as place, ThreadPoolExecutor(AT_ONCE) as threads:
        stages = [Stage(loop_thread, place / f"stage{number}", environment, loaded) for number in range(len(mine))]
        yield {test.nodeid: threads.submit(stage.play, test.obj) for test, stage in zip(mine, stages, strict=True)}
        threads.shutdown(cancel_futures=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module in one process, where several are: they are begun together."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Wait for a test that was begun before, and raise what it raised."""
    begun = cast("dict[str, Future[None]]", pyfuncitem.funcargs["begun"])
    begun[pyfuncitem.nodeid].result()
    return True


@pytest.fixture
def open_world() -> None:
    """Opens worlds; the test gets it from its stage."""


@pytest.fixture
def world() -> None:
    """A world where nothing goes wrong; the test gets it from its stage."""
