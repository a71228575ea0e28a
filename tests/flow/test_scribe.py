"""What is written at once, and what may wait: nothing that is money, nor what must stand before the next step."""

from __future__ import annotations

import pytest

from kling_async.adapters.clock import SystemClock
from kling_async.flow.crew import Scribe
from kling_async.memory import MemoryJournal
from kling_async.rules.lifecycle import TRANSITIONS
from kling_async.types.record import (
    Accepted,
    Event,
    Failed,
    Intended,
    Lost,
    Overdue,
    Record,
    Refetched,
    Refused,
    Rendered,
    Resubmitted,
    Retried,
    Shared,
    Stage,
    Stored,
    Unbought,
    Unfound,
    Unsent,
    Unstored,
    Verified,
    Waiting,
)
from tests.contracts.test_journal import TROUBLE, brought

SHA256 = "ab" * 32
EXAMPLES: tuple[Event, ...] = (
    Accepted("id", 7),
    Failed(TROUBLE),
    Lost(),
    Overdue(TROUBLE),
    Refetched(9, SHA256, 5.0),
    Refused(TROUBLE),
    Rendered(7),
    Retried(),
    Shared("id", "content", 9, SHA256, 5.0),
    Stored(),
    Unbought(),
    Unfound(TROUBLE),
    Unsent(),
    Unstored(TROUBLE),
    Verified(9, SHA256, 5.0),
    Waiting(TROUBLE),
)
"""One of each kind that is saved by itself; the intents have a transaction of their own."""


class Listening(MemoryJournal):
    """A journal that notes of each save whether it may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.patient: list[bool] = []

    async def save(self, record: Record, *, patiently: bool = False) -> None:
        self.patient.append(patiently)
        await super().save(record, patiently=patiently)


@pytest.mark.parametrize(("stage", "event"), [(stage, e) for stage in Stage for e in EXAMPLES], ids=repr)
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
    await Scribe(journal, SystemClock(), ()).move(record, Rendered(7), Verified(9, SHA256, 5.0))
    assert journal.patient == [False]


def test_each_kind_of_event_is_tried() -> None:
    """A new one must be told apart, too."""
    assert {type(event) for event in EXAMPLES} | {Intended, Resubmitted} == {event for _, event in TRANSITIONS}
