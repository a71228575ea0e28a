"""What every test has: no blocking call in the loop goes unseen, and no setting of the machine is read."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from typing import Final

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

LOOKS: Final = 42
"""How often a loop of virtual time looks for what sockets and threads bring, before it jumps to the next timer.

Six looks would save a third of what these tests do, and may be too few where a busy machine keeps a thread waiting: the
clock goes on without it, and what is counted by time is no more what it was.
"""


def pytest_configure() -> None:
    """Set no loop for the main thread: one that a plugin makes on demand would never be closed. Time no example."""
    asyncio.set_event_loop(None)
    # How long an example takes says something of the machine alone.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let virtual time jump as soon as nothing moves: see `LOOKS`."""
    for item in items:
        if item.get_closest_marker("looptime") is not None:
            item.add_marker(pytest.mark.looptime(noop_cycles=LOOKS))


def pytest_collection_finish() -> None:
    """Leave thousands of tests and all modules out of every collection of garbage to come: they stay to the end."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests have counted, in whichever process they ran."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(str(value))


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """Fail a test whose package code blocks the loop."""
    with blockbuster_ctx("kling_async"):
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the machine's own keys, addresses and proxies from the test."""
    for name in os.environ:
        if name.startswith(("KLING_ASYNC_", "AIMLAPI_", "AIML_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
