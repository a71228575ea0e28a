"""Strikes a program at each of its awaits, and keeps account of them: where a coroutine stood when it was cancelled.

Every task of the loop is watched. At an await that was not struck yet its task is made to hang (what it waits for may
come, and it is not told), and the caller is cancelled; that await, and each at which a cancellation then arrives, is
noted by file, function and text. Which awaits there are is read from the source.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import types
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from attrs import field, frozen

Span: TypeAlias = tuple[int, int, int, int]
"""First line, first column, last line, last column."""

_FOR_EVER = 100_000.0
"""Seconds after which work that was cancelled must have ended, whatever hangs."""
_HANGS = 100.0
"""Seconds for which an await that is aimed at hangs, unless it is struck before: a shield knows that its work ends."""


@frozen
class Place:
    """An await in the source."""

    name: str
    """File, function and text: `rows.py Rows.room: await self._left.wait()`."""
    span: Span
    """All of it; of a statement, its body too."""
    head: Span
    """All of it; of a statement, only what stands before its body."""

    def holds(self, span: Span) -> bool:
        """Tell whether an instruction that waits is this one's, or lies in it."""
        return span == self.span or _within(span, self.head)


def _within(inner: Span, outer: Span) -> bool:
    return outer[:2] <= inner[:2] and inner[2:] <= outer[2:]


def _span(node: ast.expr | ast.stmt) -> Span:
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0


def _awaits(path: Path) -> Iterator[Place]:
    """Yield the awaits of a file."""
    seen: Counter[str] = Counter()

    def walk(node: ast.AST, function: str) -> Iterator[Place]:
        for child in ast.iter_child_nodes(node):
            inside = function
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inside = f"{function}.{child.name}".lstrip(".")
            elif isinstance(child, ast.Await | ast.AsyncWith | ast.AsyncFor):
                text = ast.unparse(child).splitlines()[0].removesuffix(":")
                name = f"{path.name} {function}: {text}"
                seen[name] += 1
                head = _span(child)
                if isinstance(child, ast.AsyncWith | ast.AsyncFor):
                    head = *head[:2], child.body[0].lineno, child.body[0].col_offset
                yield Place(name if seen[name] == 1 else f"{name} ({seen[name]})", _span(child), head)
            yield from walk(child, inside)

    return walk(ast.parse(path.read_text("utf-8")), "")


@frozen
class Account:
    """All awaits of some files, and those that were struck.

    Args:
        paths: The files.
    """

    _paths: tuple[Path, ...]
    places: dict[str, tuple[Place, ...]] = field(init=False)
    """The awaits of each file, by its path."""
    struck: set[str] = field(factory=set, init=False)
    """The names of those at which a coroutine stood when it was cancelled."""
    _names: dict[tuple[types.CodeType, int], str | None] = field(factory=dict, init=False)
    """The name of each await that was seen, by its code and instruction."""

    @places.default
    def _read(self) -> dict[str, tuple[Place, ...]]:
        return {str(path): tuple(_awaits(path)) for path in self._paths}

    @property
    def spared(self) -> set[str]:
        """The names of those that were not struck."""
        return {place.name for places in self.places.values() for place in places} - self.struck

    def standing(self, coroutine: Any) -> set[str]:
        """Return the names of the awaits at which a coroutine stands, from the outermost to the innermost."""
        return {name for frame in _frames(coroutine) if (name := self._name(frame)) is not None}

    def _name(self, frame: types.FrameType) -> str | None:
        seen = frame.f_code, frame.f_lasti
        if seen not in self._names:
            self._names[seen] = self._found(*seen)
        return self._names[seen]

    def _found(self, code: types.CodeType, instruction: int) -> str | None:
        places = self.places.get(code.co_filename)
        if places is None:
            return None
        line, last_line, column, last_column = list(code.co_positions())[instruction // 2]
        span = line or 0, column or 0, last_line or 0, last_column or 0
        around = [place for place in places if place.holds(span)]
        if not around:  # a comprehension, whose own frame stands at its await
            return None
        return max(around, key=lambda place: (place.span[:2], (-place.span[2], -place.span[3]))).name


_WAITING = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


def _frames(waiting: Any) -> Iterator[types.FrameType]:
    """Yield the frames of what waits, from the outermost to the innermost."""
    while waiting is not None:
        frame: types.FrameType | None = None
        if isinstance(waiting, types.CoroutineType):
            frame, inner = waiting.cr_frame, waiting.cr_await
        elif isinstance(waiting, types.GeneratorType):
            frame, inner = waiting.gi_frame, waiting.gi_yieldfrom
        elif isinstance(waiting, types.AsyncGeneratorType):
            frame, inner = waiting.ag_frame, waiting.ag_await
        else:  # a step of an async generator, or a coroutine in a wrapper
            inner = next((one for one in gc.get_referents(waiting) if isinstance(one, _WAITING)), None)
        if frame is not None:
            yield frame
        waiting = inner


class Striker:
    """Watches all tasks that are made while it is the loop's task factory.

    Args:
        account: Where strikes are noted.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._leave: Callable[[], object] | None = None
        self.aimed: set[str] = set()
        """What was aimed at last."""

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task (the loop's task factory)."""
        return asyncio.Task(self._watched(work), loop=loop, **options)

    async def strike(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Do work, and cancel it at the first await that was not struck yet; tell whether there was one."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self)
        self.aimed = set()
        task = asyncio.ensure_future(work())
        self._leave = task.cancel
        try:
            await asyncio.wait({task}, timeout=_FOR_EVER)
            assert task.done(), f"cancelled at {self.aimed}, it does not end"
        finally:
            self._leave = None
            loop.set_task_factory(None)
        if self.aimed:
            assert task.cancelled(), f"cancelled at {self.aimed}, it ends with {task.exception()!r}"
            return True
        task.result()
        return False

    async def _watched(self, work: Any) -> Any:
        return await self._passed(work)

    @types.coroutine
    def _passed(self, work: Any) -> Generator[Any, Any, Any]:
        """Pass everything through, and hang where the work stands at an await that is aimed at."""
        resume: Callable[[], Any] = lambda: work.send(None)  # noqa: E731 - it is replaced at every await
        while True:
            try:
                waited = resume()
            except StopIteration as stop:
                return stop.value
            hangs = self._aims(work)
            try:
                value = yield waited
                if hangs:
                    yield from asyncio.sleep(_HANGS).__await__()
            except BaseException as error:  # noqa: BLE001 - thrown into the work, where it belongs
                if isinstance(error, asyncio.CancelledError):
                    self._account.struck.update(self._account.standing(work))
                resume = _thrower(work, error)
            else:
                resume = _sender(work, value)

    def _aims(self, work: Any) -> bool:
        if self._leave is None:
            return False
        self.aimed = self._account.standing(work) - self._account.struck
        if not self.aimed:
            return False
        self._account.struck.update(self.aimed)
        leave, self._leave = self._leave, None
        asyncio.get_running_loop().call_soon(leave)
        return True


def _thrower(work: Any, error: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(error)


def _sender(work: Any, value: object) -> Callable[[], Any]:
    return lambda: work.send(value)
