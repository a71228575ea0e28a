"""The one task that outlives a call: its shield and its grace, and that nobody waits for what is dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest

from kling_async.flow.background import Background
from kling_async.logs import about, row_key

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    made = Background()
    yield made
    with contextlib.suppress(Exception):
        await made.aclose()


class Work:
    """Takes its time, and tells how it ended."""

    def __init__(self, seconds: float, error: BaseException | None = None) -> None:
        self._seconds, self._error = seconds, error
        self.ended = ""

    async def __call__(self) -> str:
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        if self._error is not None:
            raise self._error
        return "result"


async def test_a_jobs_result_is_its_callers(background: Background) -> None:
    """Its value, or its own error, not wrapped."""
    assert await background.result(await background.start(Work(1))) == "result"
    error = LookupError("mine")
    with pytest.raises(LookupError) as raised:
        await background.result(await background.start(Work(1, error)))
    assert raised.value is error


async def test_jobs_do_not_harm_each_other(background: Background) -> None:
    """One that fails takes no other with it."""
    failing = await background.start(Work(1, ZeroDivisionError()))
    other = await background.start(Work(2))
    with pytest.raises(ZeroDivisionError):
        await background.result(failing)
    assert await background.result(other) == "result"


async def test_waiting_may_be_cancelled_and_the_job_goes_on(background: Background) -> None:
    """The job is not its waiter's."""
    work = Work(10)
    job = await background.start(work)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(background.result(job), 1)
    assert await background.result(job) == "result"
    assert work.ended == "done"


async def test_a_stopped_job_has_ended_when_stop_returns(background: Background) -> None:
    """Its cleaning up included."""
    ended = []

    async def slow_to_leave() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(5)
            ended.append(now())

    job = await background.start(slow_to_leave)
    await asyncio.sleep(1)
    await job.stop()
    assert ended == [now()]
    with pytest.raises(RuntimeError, match="stopped"):
        await background.result(job)


@pytest.mark.parametrize("seconds", [3.0, 9.9])
async def test_shielded_work_is_done_though_its_caller_is_cancelled(background: Background, seconds: float) -> None:
    """Within the grace: the caller hears of its cancellation only when the work has ended."""
    work = Work(seconds)
    began = now()
    caller = asyncio.ensure_future(background.shielded(work, grace=10.0))
    await asyncio.sleep(1)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert work.ended == "done"
    assert now() - began == pytest.approx(seconds)


async def test_after_the_grace_shielded_work_is_stopped(background: Background) -> None:
    """It does not go on behind its caller's back."""
    work = Work(100)
    caller = asyncio.ensure_future(background.shielded(work, grace=10.0))
    await asyncio.sleep(1)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert work.ended == "cancelled"
    assert now() == pytest.approx(11, abs=0.01)


async def test_the_shield_holds_against_a_cancel_scope(background: Background) -> None:
    """One that strikes at every await, as those of anyio do."""
    work = Work(5)
    with anyio.move_on_after(1) as scope:
        await background.shielded(work, grace=10.0)
    assert scope.cancelled_caught
    assert work.ended == "done"


async def test_shielded_work_may_end_in_the_moment_of_the_cancellation(background: Background) -> None:
    """Nothing hangs, whichever comes first."""
    for turns in range(8):
        event = asyncio.Event()
        caller = asyncio.ensure_future(background.shielded(event.wait, grace=10.0))
        await asyncio.sleep(1)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait({caller}, timeout=1)
        assert caller.done()
        assert caller.cancelled() or caller.result() is True


async def test_errors_of_shielded_work_are_its_callers(background: Background) -> None:
    """As they are; an interrupt too is not wrapped in a group."""
    with pytest.raises(LookupError):
        await background.shielded(Work(1, LookupError()), grace=10.0)


async def test_a_job_stopped_under_its_waiter_is_told(background: Background) -> None:
    """Closing leaves nobody hanging."""
    waiting = asyncio.ensure_future(background.result(await background.start(Work(100))))
    await asyncio.sleep(1)
    await background.aclose()
    with pytest.raises(RuntimeError, match="stopped"):
        await asyncio.wait_for(waiting, 1)


class Death(BaseException):
    """What kills more than a job: as an interrupt does."""


async def test_what_kills_the_task_is_told_to_all_who_wait(background: Background) -> None:
    """By itself, not in a group; also to those who come later, and on closing."""
    works = [Work(100) for _ in range(3)]
    waiting = [asyncio.ensure_future(background.result(await background.start(work))) for work in works]
    waiting.append(asyncio.ensure_future(background.shielded(Work(100), grace=10.0)))
    await asyncio.sleep(1)
    await background.start(Work(1, Death("the end")))
    await asyncio.wait(waiting, timeout=30)
    assert [type(one.exception()) for one in waiting] == [Death] * 4
    assert {work.ended for work in works} == {"cancelled"}
    with pytest.raises(Death):
        await background.start(Work(1))
    with pytest.raises(Death):
        await background.aclose()


async def test_it_is_entered_in_one_task_and_left_in_another() -> None:
    """As fixtures and web frameworks do: nobody minds which task closes it."""
    background = Background()
    work = Work(100)
    await asyncio.ensure_future(background.start(work))
    await asyncio.sleep(1)
    await asyncio.ensure_future(background.aclose())
    assert work.ended == "cancelled"


async def test_a_task_of_its_starters_may_end() -> None:
    """What one caller began goes on when that caller's task is over, or was cancelled."""
    background, work = Background(), Work(100)

    async def begin() -> None:
        await background.start(work)
        await asyncio.sleep(100)

    starter = asyncio.ensure_future(begin())
    await asyncio.sleep(1)
    starter.cancel()
    await asyncio.wait({starter})
    assert starter.cancelled()
    assert await background.result(await background.start(Work(1))) == "result"
    assert work.ended == ""
    await asyncio.sleep(100)
    assert work.ended == "done"
    await background.aclose()


async def test_many_first_callers_get_one_task() -> None:
    """Whoever comes first begins it for all."""
    background = Background()
    before = len(asyncio.all_tasks())
    jobs = await asyncio.gather(*(background.start(partial(asyncio.sleep, 1)) for _ in range(20)))
    assert len(asyncio.all_tasks()) == before + 1 + 20
    await asyncio.gather(*map(background.result, jobs))
    await background.aclose()
    assert len(asyncio.all_tasks()) == before


async def test_closing_what_never_began_does_nothing() -> None:
    """And twice neither: it takes no time, ends nothing, and what is begun afterwards lives until it is closed."""
    background, work, tasks, began = Background(), Work(1), asyncio.all_tasks(), now()
    await background.aclose()
    assert (asyncio.all_tasks(), now()) == (tasks, began)
    job = await background.start(work)
    assert await background.result(job) == "result"
    await background.aclose()
    await background.aclose()
    assert asyncio.all_tasks() == tasks
    assert work.ended == "done"


async def test_closing_waits_though_it_is_cancelled() -> None:
    """What runs has ended when a cancelled `aclose` returns."""
    background, work = Background(), Work(100)
    await background.start(work)
    await asyncio.sleep(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await background.aclose()
    assert work.ended == "cancelled"


async def test_what_is_done_for_all_is_logged_under_no_row(background: Background) -> None:
    """The row that happened to ask first is not named; one that is shielded itself is."""
    seen = list[str | None]()

    async def look() -> None:
        seen.append(row_key())

    about("row 7", None)
    await background.result(await background.start(look))
    await background.shielded(look, grace=0.0)
    assert (seen, row_key()) == ([None, "row 7"], "row 7")
