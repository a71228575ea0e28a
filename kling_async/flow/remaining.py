"""All of the journal's rows that nothing was bought for yet, in place of requests: a job goes on without its source.

Where the journal holds the rows of one source and no others, to read that again would tell nothing new. No row is
bought here. This room must never hold more rows in memory than a page of them.
"""

from __future__ import annotations

from anyio.abc import TaskGroup
from attrs import frozen

from kling_async.flow.crew import Crew, Instruction
from kling_async.flow.retries import Choice, pages
from kling_async.flow.rows import Rows
from kling_async.ports import Journal
from kling_async.types.record import Stage


@frozen
class Remaining:
    """The journal's own rows that are PLANNED, given to a batch in place of requests.

    What money stands behind is brought to its end first, as under requests.
    """


async def foresee(journal: Journal, *, resubmit: bool) -> Choice:
    """Tell what running all remaining rows would do; nothing is done yet.

    Args:
        journal: Its rows.
        resubmit: Whether uncertain rows that are not found are bought again in any case (`on_uncertain`).
    """
    found = Choice()
    async for record in pages(journal.unfinished):
        lost = record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}
        found.note(record, Instruction.BUY_AGAIN if lost and resubmit else Instruction.GO_ON)
    for (model, duration), rows in (await journal.census()).items():
        found.chosen[Stage.PLANNED] += rows
        found.lengths[Stage.PLANNED, duration] += rows
        found.new[model, duration] += rows
    return found


async def feed_remaining(crew: Crew, rows: Rows, group: TaskGroup) -> None:
    """Start the PLANNED rows, as slots free up; those that were taken up before are on their way already."""
    async for record in pages(crew.journal.planned):
        if record.key not in rows.resumed:
            await rows.admit(group, record)
