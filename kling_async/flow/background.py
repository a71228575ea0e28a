"""The one task that outlives a call: the poller's workers, a batch's rows and POSTs live in its task group.

It is the only place of the package that makes a task. `open_client` and `open_batch` may be entered in one task and
left in another, and a task group may not; so the group lives inside a task of its own, begun on first use. If it dies,
whoever waits for it gets its error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from kling_async.logs import about, get_logger

T = TypeVar("T")

logger = get_logger(__name__)


class Job(Generic[T]):
    """Work that runs in the background task; its result, and the way to stop it."""

    def __init__(self) -> None:
        self.result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.scope = anyio.CancelScope()

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do the work and keep what came of it. However it ends, the result is settled."""
        try:
            with self.scope:
                value = await work()
                if not self.result.done():
                    self.result.set_result(value)
        except Exception as error:  # noqa: BLE001  # it is the waiting caller's
            if not self.result.done():
                self.result.set_exception(error)
                self.result.exception()  # where nobody waits any more, nobody is missed
        finally:
            self.result.cancel()

    async def stop(self) -> None:
        """Cancel the work and wait until it has ended."""
        self.scope.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self.result])


class Background:
    """A task group inside a task of its own."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._group: TaskGroup | None = None
        self._stopping: asyncio.Event | None = None

    async def start(self, work: Callable[[], Awaitable[T]]) -> Job[T]:
        """Begin work in the background task and return it at once.

        Whoever asks for it first, it is done for all: what it logs is about no row.
        """
        return await self._begin(partial(_of_no_row, work))

    async def _begin(self, work: Callable[[], Awaitable[T]]) -> Job[T]:
        group = await self.ready()
        job: Job[T] = Job()
        group.start_soon(job.run, work)
        return job

    async def result(self, job: Job[T]) -> T:
        """Wait for a job, without ending it when the waiting is cancelled.

        Raises:
            BaseException: The job's own error, or what the background task died of.
        """
        return await self.until(job.result)

    async def until(self, future: asyncio.Future[T]) -> T:
        """Wait for a future that background work settles; cancelling the wait leaves the future alone.

        Raises:
            BaseException: The future's error; if it was given up since the background task died, what that died of.
        """
        if not future.done():
            await asyncio.wait([future])
        if future.cancelled():
            self._raise_death()
            raise RuntimeError("the background work was stopped")
        error = future.exception()
        if error is not None:
            raise _single(error)
        return future.result()

    async def shielded(self, work: Callable[[], Awaitable[T]], *, grace: float) -> T:
        """Do work that a cancelled caller must not lose: it goes on for up to `grace` seconds, then it is stopped.

        Args:
            work: What to do; its errors are the caller's.
            grace: Seconds.
        """
        job = await self._begin(work)  # it is this caller's, and so are its lines in the log
        try:
            return await self.result(job)
        except BaseException:
            if not job.result.done():
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([job.result], timeout=grace)
                    if not job.result.done():
                        await job.stop()
            raise

    async def aclose(self) -> None:
        """Stop everything and wait until it has ended."""
        task, self._task = self._task, None
        if task is None:
            return
        if self._stopping is not None:
            self._stopping.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise _single(error)

    async def ready(self) -> TaskGroup:
        """Wait until the task is there; once it is, neither this nor `start` waits."""
        if self._task is None:
            self._stopping = asyncio.Event()
            self._task = asyncio.create_task(self._serve(self._stopping), name="kling-async background")
        while self._group is None:
            if self._task.done():
                self._raise_death()
                raise RuntimeError("the background task has ended")
            await asyncio.sleep(0)
        return self._group

    async def _serve(self, stopping: asyncio.Event) -> None:
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                await stopping.wait()
                group.cancel_scope.cancel()
        finally:
            self._group = None

    def _raise_death(self) -> None:
        if self._task is not None and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if error is not None:
                raise _single(error)


async def _of_no_row(work: Callable[[], Awaitable[T]]) -> T:
    about(None, None)
    return await work()


def _single(error: BaseException) -> BaseException:
    """Unwrap a group: callers see the first error, not the group that carried it; the others are logged."""
    while isinstance(error, BaseExceptionGroup):
        for other in error.exceptions[1:]:
            logger.warning("and: %r", other)
        error = error.exceptions[0]
    return error
