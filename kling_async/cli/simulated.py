"""The simulator beside a command (`--simulate`): no key, no cost, a generation in seconds instead of minutes.

The simulated world ends with the command. What an earlier one left open is taken over by the next as finished, so that
an interrupted job can be resumed like a real one.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kling_async.simulator.server import Simulator
    from kling_async.types.record import Record

SPEED: Final = 60.0
"""How many times faster the simulated service is than the real one."""

NAME: Final = "simulator"
"""What a journal remembers as the service."""

_KEY: Final = "sim-key"


class Simulated:
    """What a command must know of the simulator beside it, if there is one.

    Args:
        simulator: The simulator; None where the real service is meant.
    """

    def __init__(self, simulator: Simulator | None) -> None:
        self._simulator = simulator

    @property
    def settings(self) -> dict[str, object]:
        """The settings that lead to it."""
        return {} if self._simulator is None else {"base_url": self._simulator.base_url, "api_key": _KEY}

    def take_over(self, records: Iterable[Record]) -> None:
        """Let the world know what an earlier one sold."""
        if self._simulator is None:
            return
        from kling_async.simulator.jobs import Order
        from kling_async.simulator.world import Bidder

        for record in records:
            request = record.request
            order = Order(
                fingerprint=record.content or record.key,
                image_digest="",
                prompt=request.prompt or "",
                duration=request.duration,
            )
            bidder = Bidder(key=_KEY, request_id=record.client_request_id)
            ordered_at = record.sent_at if record.sent_at is not None else self._simulator.now()
            self._simulator.world.revive(order, bidder, ordered_at, generation_id=record.generation_id)


@asynccontextmanager
async def simulated(*, on: bool) -> AsyncIterator[Simulated]:
    """Start a simulator, if asked."""
    if not on:
        yield Simulated(None)
        return
    from kling_async.simulator.server import Simulator
    from kling_async.simulator.settings import SimulatorSettings

    # Another seed each time: an id that was given once is not given again.
    async with Simulator(SimulatorSettings(speed=SPEED, seed=secrets.randbits(48))) as simulator:
        yield Simulated(simulator)
