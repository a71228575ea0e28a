"""What is written at once, and what may wait: nothing that is money, nor what must stand before the next step."""

from __future__ import annotations

import pytest

from kling_async.adapters.clock import SystemClock
from kling_async.flow.crew import Scribe
from kling_async.memory import MemoryJournal
from kling_async.types.record import Event, Intended, Record, Rendered, Resubmitted, Stage, Stored, Verified
from tests.contracts.test_journal import brought
from tests.rules.test_lifecycle import EVENTS

MOVES = [event for event in EVENTS if not isinstance(event, Intended | Resubmitted)]
"""One of each kind of event that is saved by itself; the intents have a transaction of their own."""


class Listening(MemoryJournal):
    """A journal that notes of each save whether it may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.patient: list[bool] = []

    async def save(self, record: Record, *, patiently: bool = False) -> None:
        self.patient.append(patiently)
        await super().save(record, patiently=patiently)


@pytest.mark.parametrize(("stage", "event"), [(stage, e) for stage in Stage for e in MOVES], ids=repr)
async def test_only_what_is_heard_again_for_nothing_may_wait(stage: Stage, event: Event) -> None:
    """The end of a generation, and that its video stands in its place; whatever else moves a row is written at once."""
    journal = Listening()
    record = await brought(journal, "row", stage)
    journal.patient.clear()
    moved = await Scribe(journal, SystemClock(), ()).move(record, event)
    wanted = [isinstance(event, Rendered | Stored)] if moved is not record else []
    assert journal.patient == wanted


async def test_what_is_saved_with_something_urgent_is_urgent() -> None:
    """Two events of one save: the more urgent one decides."""
    journal = Listening()
    record = await brought(journal, "row", Stage.SUBMITTED)
    journal.patient.clear()
    await Scribe(journal, SystemClock(), ()).move(record, Rendered(7), Verified(9, "ab" * 32, 5.0))
    assert journal.patient == [False]
