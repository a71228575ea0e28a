"""The simulator beside a command (`--simulate`): no key, no cost, a generation in seconds instead of minutes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SPEED: Final = 60.0
"""How many times faster the simulated service is than the real one."""

NAME: Final = "simulator"
"""What a journal remembers as the service."""


@asynccontextmanager
async def simulated(*, on: bool) -> AsyncIterator[dict[str, object]]:
    """Start a simulator, if asked, and give the settings that lead to it."""
    if not on:
        yield {}
        return
    from kling_async.simulator.server import Simulator
    from kling_async.simulator.settings import SimulatorSettings

    async with Simulator(SimulatorSettings(speed=SPEED)) as simulator:
        yield {"base_url": simulator.base_url, "api_key": "sim-key"}
