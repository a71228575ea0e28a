"""What the tests of the doors share: cancellation at every await, and a count of open files."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

Scenario: TypeAlias = Callable[[], Coroutine[Any, Any, object]]
CancelEverywhere: TypeAlias = Callable[[Scenario, Callable[[], Awaitable[object]]], Awaitable[int]]


@pytest.fixture
def open_handles() -> Callable[[], int]:
    """Return a count of this process's open files."""
    return lambda: sum(1 for _ in Path("/dev/fd").iterdir())


@pytest.fixture(params=["native", "twice", "scope"])
def cancel_everywhere(request: pytest.FixtureRequest) -> CancelEverywhere:
    """Return a driver: a scenario is cancelled at its first await, then anew at its second, until it is through.

    By `Task.cancel`, by two of them one await apart, and by a cancel scope. After each run `check` is awaited.
    """

    async def drive(scenario: Scenario, check: Callable[[], Awaitable[object]]) -> int:
        for step in range(1, 1000):
            through = await _run(scenario, step, request.param)
            await check()
            if through:
                return step - 1
        raise AssertionError("the scenario does not end")

    return drive


async def _run(scenario: Scenario, step: int, kind: str) -> bool:
    """Run a scenario, cancelled at one await; tell whether it had fewer."""
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:

        def strike(count: int) -> None:
            if kind == "scope" and count == step:
                loop.call_soon(scope.cancel)
            elif kind != "scope" and (count == step or (kind == "twice" and count == step + 1)):
                loop.call_soon(task.cancel)

        async def steps() -> int:
            return await _watched(scenario(), strike)

        if kind == "scope":
            return await steps() < step
        task = loop.create_task(steps())
        await asyncio.wait({task})
        return not task.cancelled() and task.result() < step
    return False


@types.coroutine
def _watched(coroutine: Coroutine[Any, Any, object], strike: Callable[[int], None]) -> Generator[Any, Any, int]:
    """Pass everything through, and say at which await the coroutine stands; return how many there were."""
    count = 0
    resume: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731 - it is replaced at every await
    while True:
        try:
            waited = resume()
        except StopIteration:
            return count
        count += 1
        strike(count)
        try:
            value = yield waited
        except BaseException as error:  # noqa: BLE001 - thrown into the coroutine, where it belongs
            resume = _thrower(coroutine, error)
        else:
            resume = _sender(coroutine, value)


def _thrower(coroutine: Coroutine[Any, Any, object], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


def _sender(coroutine: Coroutine[Any, Any, object], value: object) -> Callable[[], Any]:
    return lambda: coroutine.send(value)
