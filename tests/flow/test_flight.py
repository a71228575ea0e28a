"""Places among the open generations, and the bench beside them: each row counts once."""

from __future__ import annotations

import random

import pytest

from kling_async.flow.flight import Bench, Flight, Slot
from kling_async.flow.gate import Gate
from kling_async.rules.admission import Admission, Limits

pytestmark = pytest.mark.looptime


@pytest.fixture
def gate() -> Gate:
    """A gate that lets ten in at once."""
    limits = Limits(10, adaptive=False, starts_per_second=None)
    return Gate(Admission(limits), random.Random(1), retry_after_cap=60.0)


async def test_a_place_is_given_back_once(gate: Gate) -> None:
    """However often it is asked for, and released."""
    slot = Slot(gate)
    for _ in range(2):
        await slot.enter()
    assert gate.admission.open == 1
    for _ in range(2):
        slot.release()
    assert gate.admission.open == 0


@pytest.mark.parametrize("enters", [True, False])
async def test_who_gets_a_place_has_left_the_bench(gate: Gate, *, enters: bool) -> None:
    """A row counts among those that wait, or among those that are open, and never as both."""
    flight = Flight()
    bench = Bench(gate, flight)
    assert (flight.parked, gate.admission.open) == (1, 0)
    if enters:
        await bench.enter()
        assert (flight.parked, gate.admission.open) == (0, 1)
    bench.release()
    bench.release()
    assert (flight.parked, gate.admission.open) == (0, 0)
