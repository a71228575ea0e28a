"""Whose turn it is: the most urgent's, and no place is lost with one who leaves."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.flow.line import Line


async def _stand(line: Line, rank: float, name: int, seen: list[int], leave: asyncio.Event) -> None:
    async with line.place(rank):
        seen.append(name)
        await leave.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 3), st.data())
def test_the_most_urgent_goes_first_and_of_equals_the_first(ranks: list[int], places: int, data: st.DataObject) -> None:
    """Whoever leaves before it is their turn, or as it comes, takes nothing along."""
    gone = set(data.draw(st.lists(st.integers(0, len(ranks) - 1), max_size=4)))
    late = set(data.draw(st.lists(st.integers(0, len(ranks) - 1), max_size=4)))

    async def scene() -> None:
        line, seen, leave = Line(places), list[int](), asyncio.Event()
        first = asyncio.Event()
        taken = [asyncio.ensure_future(_stand(line, 0.0, -1, [], first)) for _ in range(places)]
        await _settle()
        waiting = [asyncio.ensure_future(_stand(line, rank, at, seen, leave)) for at, rank in enumerate(ranks)]
        await _settle()
        for at in gone:
            waiting[at].cancel()
        await _settle()
        leave.set()
        first.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the first places are handed over, and nobody knows yet
        for at in late:
            waiting[at].cancel()
        await asyncio.gather(*taken, *waiting, return_exceptions=True)
        order = sorted((at for at in range(len(ranks)) if at not in gone), key=lambda at: (ranks[at], at))
        assert [at for at in order if at in seen] == seen
        assert set(order) - late <= set(seen)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:  # as many places as ever
            meeting = asyncio.Barrier(places)

            async def meet() -> None:
                async with line.place(0.0):
                    await meeting.wait()

            for _ in range(places):
                group.create_task(meet())

    asyncio.run(scene())


async def test_no_more_than_there_are_places() -> None:
    """Those that come while all are taken wait."""
    line, seen, leave = Line(2), list[int](), asyncio.Event()
    tasks = [asyncio.ensure_future(_stand(line, 0.0, at, seen, leave)) for at in range(5)]
    await _settle()
    assert seen == [0, 1]
    leave.set()
    await asyncio.gather(*tasks)
    assert seen == [0, 1, 2, 3, 4]
