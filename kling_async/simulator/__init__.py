"""The remote side, simulated: jobs, money, a CDN, and troubles by plan.

It shares no line with the client, so that a misreading of the service cannot hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kling_async.simulator.book import AccountBook as AccountBook
    from kling_async.simulator.book import Purchase as Purchase
    from kling_async.simulator.calls import Call as Call
    from kling_async.simulator.calls import Reaction as Reaction
    from kling_async.simulator.desk import Desk as Desk
    from kling_async.simulator.faultfile import load_plan as load_plan
    from kling_async.simulator.faultfile import parse_plan as parse_plan
    from kling_async.simulator.faults import Fault as Fault
    from kling_async.simulator.faults import FaultPlan as FaultPlan
    from kling_async.simulator.server import Simulator as Simulator
    from kling_async.simulator.server import serve as serve
    from kling_async.simulator.settings import SimulatorSettings as SimulatorSettings
    from kling_async.simulator.troubles import TROUBLES as TROUBLES
    from kling_async.simulator.validation import fingerprint as fingerprint
    from kling_async.simulator.validation import image_digest as image_digest
    from kling_async.simulator.world import World as World

_ROOMS = {
    "AccountBook": "book",
    "Call": "calls",
    "Desk": "desk",
    "Fault": "faults",
    "FaultPlan": "faults",
    "Purchase": "book",
    "Reaction": "calls",
    "Simulator": "server",
    "SimulatorSettings": "settings",
    "TROUBLES": "troubles",
    "World": "world",
    "fingerprint": "validation",
    "image_digest": "validation",
    "load_plan": "faultfile",
    "parse_plan": "faultfile",
    "serve": "server",
}

if not TYPE_CHECKING:

    def __getattr__(name):  # noqa: ANN001, ANN202 - hidden from type checkers, which would take any name for granted
        """Load a name on its first use."""
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - loaded on use, like all else

        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)

    def __dir__():  # noqa: ANN202 - as above
        """List the names too that are not loaded yet."""
        return sorted({*globals(), *_ROOMS})
