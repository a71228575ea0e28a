"""The journal's own rows in place of requests: all that nothing was bought for yet, or those under some keys.

A job goes on without its source: what is bought is what was taken in, whatever the source holds by now. No row is
bought here. This room must never hold more rows in memory than a page of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Final, TypeAlias

from anyio.abc import TaskGroup
from attrs import frozen

from kling_async.flow.crew import Crew, Instruction
from kling_async.flow.retries import PAGE, Choice, Retry, pages
from kling_async.flow.rows import Rows
from kling_async.flow.streams import Requests
from kling_async.ports import Journal
from kling_async.types.record import Stage

STARTS: Final = frozenset({Stage.PLANNED, Stage.FAILED, Stage.DONE})
"""Where a row may stand that is not in flight: all others were taken up at the start."""


@frozen
class Remaining:
    """The journal's own rows that are PLANNED, given to a batch in place of requests.

    What money stands behind is brought to its end first, as under requests.
    """


@frozen
class Enrolled:
    """Rows that were taken in, by their keys, given to a batch in place of requests; others are left alone.

    What money stands behind is brought to its end first, as under requests.
    """

    keys: AsyncIterable[Sequence[str]]
    """The keys, some at a time, each once; they are asked for as slots free up."""


Source: TypeAlias = Requests | Retry | Remaining | Enrolled
"""What a batch is given: requests, or which of the journal's own rows."""


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
    found.plan(await journal.census())
    return found


async def feed_remaining(crew: Crew, rows: Rows, group: TaskGroup) -> None:
    """Start the PLANNED rows, as slots free up; those that were taken up before are on their way already."""
    async for record in pages(crew.journal.planned):
        if record.key not in rows.resumed:
            await rows.admit(group, record)


async def feed_enrolled(crew: Crew, rows: Rows, group: TaskGroup, source: Enrolled, *, retry_failed: bool) -> None:
    """Start the rows under some keys as they stand, as slots free up.

    Args:
        crew: Whose journal it is.
        rows: Those in flight.
        group: Gets a task for each.
        source: The keys.
        retry_failed: Whether those that failed in an earlier run are tried again.
    """
    async for keys in source.keys:
        for begin in range(0, len(keys), PAGE):
            for record in await crew.journal.under(keys[begin : begin + PAGE]):
                if record.key in rows.resumed or record.stage not in STARTS:
                    continue
                again = record.stage is Stage.FAILED and retry_failed
                await rows.admit(group, record, Instruction.RETRY if again else Instruction.GO_ON)
