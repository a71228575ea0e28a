"""An event loop whose time jumps to the next timer, and that can die at any moment without another word.

Work for executors is done in place and its result comes a little later, by the seed: what threads would do at random,
the dice do. A dead loop does nothing more, and whatever still runs on it can reach neither disk nor network: a process
that was killed has no `finally`.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from random import Random
from typing import Any

_LONGEST_HOP = 0.004
"""Seconds that a hop to a thread and back takes at the most."""


class Deadlock(Exception):  # noqa: N818 - what happened, as in the package
    """Everything waits, and nothing will ever wake it."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number: sets of tasks are walked in the same order in every process."""

    _number = 0

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.BaseEventLoop):
    """A loop of virtual time.

    Args:
        dice: Decides how long hops to threads take.
        dies_at: At which effect (a hop to a thread, or a call's way out or back, counted from 1) it dies; 0 for never.
        near: Only effects whose names hold this are counted for that; empty for all.
    """

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, dice: Random, dies_at: int = 0, near: str = "") -> None:
        super().__init__()
        self._dice = dice
        self._dies_at = dies_at
        self._near = near
        self._counted = 0
        self._now = 0.0
        self._tasks = 0
        self.effects = 0
        """Effects so far."""
        self.dead = False
        """Whether it has died."""
        self.place = ""
        """Where it died."""
        self.main: asyncio.Task[Any] | None = None
        """What it was made for; kept, so that nothing of a dead one is unwound before it is buried."""
        self.wall: Callable[[], float] = self.time
        """The wall's clock of the life that it carries."""
        self.set_task_factory(self._numbered)

    def time(self) -> float:
        return self._now

    def dies_here(self, place: str) -> bool:
        """Count an effect, and tell whether the loop is dead now: then nothing may follow."""
        self.effects += 1
        self._counted += self._near in place
        if not self.dead and self._dies_at and self._counted == self._dies_at:
            self.die(place)
        return self.dead

    def die(self, place: str) -> None:
        """End here, as if the process were killed."""
        self.dead, self.place = True, place
        self.stop()

    def run_in_executor(self, _executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override] # the base leaves it to threads
        """Do the work in place; its result is told later."""
        future: asyncio.Future[Any] = self.create_future()
        name = getattr(func, "__qualname__", "work")
        if self.dies_here(f"before {name}"):
            return future
        try:
            result, error = func(*args), None
        except Exception as raised:  # noqa: BLE001 - it is the caller's
            result, error = None, raised
        if not self.dies_here(f"after {name}"):
            self.call_later(self._dice.random() * _LONGEST_HOP, _settle, future, result, error)
        return future

    def bury(self) -> None:
        """Let go of everything that was left when it died, without a sound and without an effect."""
        if self.is_closed():
            return
        self.dead = True
        self.set_exception_handler(lambda _loop, _context: None)
        hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
        try:
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            self._ready.clear()
            self._scheduled.clear()
            self.main = None
            gc.collect()
            self.close()
        finally:
            sys.unraisablehook = hook

    def _numbered(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> NumberedTask:
        task = NumberedTask(coroutine, loop=loop, **options)
        self._tasks += 1
        task._number = self._tasks
        return task

    def _run_once(self) -> None:
        """Run one callback; where none is ready, jump to the next timer."""
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if not self._ready and not self._scheduled:
            raise Deadlock(f"everything waits at {self._now:.3f} s")
        if not self._ready:
            self._now = max(self._now, self._scheduled[0].when())
        while self._scheduled and self._scheduled[0].when() <= self._now:
            self._ready.append(heapq.heappop(self._scheduled))
        handle = self._ready.popleft()
        if not handle.cancelled():
            handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _write_to_self(self) -> None:
        """There is no selector to be woken."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
