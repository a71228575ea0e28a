"""The event file: one line of JSON for each change of a row, as it is saved. For whoever follows a run with a program.

A view, not a record: the journal is the truth, and a file that cannot be written costs lines, never a row. This room
must never touch the disk on the loop's thread, nor keep more than a bounded number of lines in memory.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Final, Self

from kling_async.adapters.clock import SystemClock
from kling_async.adapters.disk import append_all, describe
from kling_async.adapters.threads import Threads
from kling_async.errors import ConfigurationError
from kling_async.logs import get_logger
from kling_async.ports import Clock
from kling_async.types.outcome import usd
from kling_async.types.record import Record

logger = get_logger(__name__)

_MOST_WAITING: Final = 20_000
"""Lines that wait for a slow disk; more are left out, and counted."""


class EventFile:
    """Appends one line for each saved change (an `Observer`); what comes while a write is out goes with the next one.

    Enter it before the batch, and give it to that: `open_batch(out, observers=[events])`.

    Args:
        path: The file; it is made, and added to where it is there.
        clock: The wall's clock; for tests.
    """

    def __init__(self, path: str | PathLike[str], *, clock: Clock | None = None) -> None:
        self._path = Path(path)
        self._clock = SystemClock() if clock is None else clock
        self._threads = Threads("kling-events", 1)
        self._handle: int | None = None
        self._waiting: list[bytes] = []
        self._left_out = 0
        self._writing: asyncio.Future[None] | None = None
        self._failing = False

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            ConfigurationError: It cannot be written.
        """
        try:
            await self._threads.finish(self._open)
        except OSError as error:
            self._threads.close()
            raise ConfigurationError(f"events cannot be written to {self._path}: {describe(error)}") from error
        except BaseException:
            await self.__aexit__()  # it was left meanwhile: what is open by now is closed
            raise
        return self

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._handle = os.open(self._path, flags, 0o666)

    async def __aexit__(self, *_: object) -> None:
        """Write what waits, and close the file."""
        while self._writing is not None:
            with suppress(OSError):
                await asyncio.shield(self._writing)
        handle, self._handle = self._handle, None
        if handle is not None:
            await self._threads.finish(partial(os.close, handle))
        self._threads.close()

    def changed(self, before: Record, after: Record) -> None:
        """Take note of one saved change."""
        if len(self._waiting) >= _MOST_WAITING:
            self._left_out += 1
            return
        self._waiting.append(line_of(before, after, self._clock.wall()))
        self._write_on()

    def _write_on(self) -> None:
        if self._writing is not None or self._handle is None or not self._waiting:
            return
        lines, self._waiting = self._waiting, []
        self._writing = self._threads.begin(partial(append_all, self._handle, lines))
        self._writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if writing.cancelled() else writing.exception()
        if error is not None and not self._failing:
            logger.warning("events cannot be written to %s, and are left out until they can: %s", self._path, error)
        self._failing = error is not None
        if not self._failing and self._left_out:
            logger.warning("%d events were left out of %s: its disk was too slow", self._left_out, self._path)
            self._left_out = 0
        self._write_on()


def line_of(before: Record, after: Record, at: float) -> bytes:
    """Return the line of one change.

    Args:
        before: The row as it was.
        after: The row as it is.
        at: Wall-clock seconds.
    """
    trouble = after.trouble
    event = {
        "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "key": after.key,
        "from": str(before.stage),
        "stage": str(after.stage),
        "generation_id": after.generation_id or after.shares,
        "attempt": after.attempt,
        "usd": None if after.credits is None else usd(after.credits),
        "file": after.name if after.stage == "done" else None,
        "size": after.size,
        "error": None if trouble is None else trouble.kind,
        "message": None if trouble is None else trouble.message,
    }
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
