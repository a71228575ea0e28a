"""Doors that hang: each call of a door passes a hinge, which may hold it for an hour, before it takes effect or after.

Nothing of the package is replaced: the real doors stand behind, and do what they do.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

from attrs import evolve

from kling_async import Batch, KlingClient

Moment: TypeAlias = Literal["before", "after"]
"""Whether a call hangs before it takes effect, or when it has and its caller is not told."""


class Hinge:
    """Hears of the calls of all doors; at one of them its caller is stuck for an hour, or until it is cancelled.

    Args:
        number: Which call, counted from 1; 0 for none.
        moment: Where it hangs.
        name: Calls of this name alone are counted: see `name_of`; without it, all are.
    """

    def __init__(self, number: int, moment: Moment, name: str = "") -> None:
        self._number, self._moment, self._name = number, moment, name
        self.count = 0
        self.heard: list[str] = []
        self.stuck = asyncio.Event()
        self.where = ""

    @asynccontextmanager
    async def around(self, name: str, *values: Any) -> AsyncIterator[None]:
        full = name_of(name, values)
        self.heard.append(full)
        counts = not self._name or self._name == full
        self.count += counts
        mine = counts and self.count == self._number
        if mine and self._moment == "before":
            await self._hang(name)
        yield
        if mine and self._moment == "after":
            await self._hang(name)

    async def _hang(self, name: str) -> None:
        self.where = name
        self.stuck.set()
        await asyncio.sleep(3600)


_OPERATIONS = {"/v2/logs": "log", "/v2/billing": "balance", "/v1/models": "price"}


def name_of(name: str, values: tuple[Any, ...]) -> str:
    """Return what a call is called: `save rendered`, `note journal_id`, `submit`, `poll`; else the method's name."""
    if name == "save":
        return f"save {values[0].stage}"
    if name == "note":
        return f"{'note' if len(values) > 1 else 'read'} {values[0]}"
    if name == "send":
        return _OPERATIONS.get(values[0].path, "submit" if values[0].method == "POST" else "poll")
    return name


class Door:
    """Passes every call on to a real door, through a hinge."""

    def __init__(self, door: Any, hinge: Hinge) -> None:
        self._door, self._hinge = door, hinge

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._door, name)
        if name in {"stage", "fetch"}:
            return self._block(found, name)
        if inspect.isasyncgenfunction(found):
            return self._stream(found, name)
        return self._call(found, name) if inspect.iscoroutinefunction(found) else found

    def _call(self, found: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def call(*values: Any, **named: Any) -> Any:
            async with self._hinge.around(name, *values):
                return await found(*values, **named)

        return call

    def _stream(self, found: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def stream(*values: Any, **named: Any) -> AsyncIterator[Any]:
            async for piece in found(*values, **named):
                async with self._hinge.around(name):
                    pass
                yield piece

        return stream

    def _block(self, found: Callable[..., Any], name: str) -> Callable[..., Any]:
        @asynccontextmanager
        async def block(*values: Any, **named: Any) -> AsyncIterator[Door]:
            async with self._hinge.around(name), found(*values, **named) as inner:
                yield Door(inner, self._hinge)

        return block


def hinged_batch(batch: Batch, hinge: Hinge) -> None:
    """Put a hinge between a batch that is not entered yet and its doors."""
    crew = batch._crew
    journal, store = Door(crew.journal, hinge), Door(crew.store, hinge)
    crew.service.transport = crew.downloader._transport = Door(crew.service.transport, hinge)
    crew.downloader._store = store
    batch._crew = evolve(crew, journal=journal, store=store)
    crew.purse._journal = journal
    secretary = batch._secretary
    secretary._journal, secretary._results = journal, Door(secretary._results, hinge)


def hinged_client(client: KlingClient, hinge: Hinge) -> None:
    """Put a hinge between a client and its doors."""
    client._service.transport = Door(client._service.transport, hinge)
    place = client._place

    def hinged(path: Any) -> Any:
        store, downloader, name = place(path)
        if not isinstance(downloader._store, Door):
            downloader._transport = client._service.transport
            downloader._store = Door(store, hinge)
        return downloader._store, downloader, name

    client._place = hinged


async def left_where_it_hangs(
    work: Callable[[], Coroutine[Any, Any, object]], hinge: Hinge, look: Callable[[], Awaitable[object]] | None = None
) -> bool:
    """Do work, have a look when it hangs, and leave it; tell whether it did hang."""
    task, stuck = asyncio.ensure_future(work()), asyncio.ensure_future(hinge.stuck.wait())
    await asyncio.wait({task, stuck}, return_when=asyncio.FIRST_COMPLETED)
    stuck.cancel()
    if not hinge.stuck.is_set():
        await task
        return False
    if look is not None:
        await look()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled(), f"{hinge.where}: {task.exception()!r}"
    return True
