"""How a command ends: an error -> one line on stderr and an exit code; a signal -> a clean stop, then a hard one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

import click

from kling_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    BudgetExceeded,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    JournalLocked,
    JournalTooNew,
    KlingError,
    NotFound,
    OutOfCredit,
    RequestChanged,
    ServiceUnavailable,
    TransportError,
)

OK: Final = 0
UNFORESEEN: Final = 1
USAGE: Final = 2
ROWS_FAILED: Final = 3
KEY: Final = 4
MONEY: Final = 5
IN_USE: Final = 6
UNAVAILABLE: Final = 75

_CODES: Final = (
    (JournalLocked, IN_USE),
    ((ConfigurationError, InvalidRequest, RequestChanged, JournalTooNew, JournalError), USAGE),
    (AuthenticationFailed, KEY),
    ((OutOfCredit, BudgetExceeded), MONEY),
    (AnswerLost, ROWS_FAILED),
    ((ServiceUnavailable, TransportError), UNAVAILABLE),
    (KlingError, ROWS_FAILED),
)
"""The first that applies."""


def code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), UNFORESEEN)


_ADVICE: Final = (
    (AuthenticationFailed, "AIMLAPI_API_KEY", "check the key in AIMLAPI_API_KEY"),
    (OutOfCredit, "top up", "top up the account"),
    (BudgetExceeded, "--budget", "raise --budget to go on"),
    (NotFound, "address", "check the model, and the address (kling-async config shows it)"),
)
"""What to do next, where the error's own words come from the service and do not say so."""


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Replace what a terminal would act on, or show in another order: keys and messages come from outside."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def say(text: str = "") -> None:
    """Write a line to stderr, for a person. Nobody listening is no reason to stop.

    It goes to `sys.stderr` itself, where a live display takes it and shows it above its own lines; click would write
    past the display, which then erases what was said.
    """
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()


def show(document: object) -> None:
    """Write the one document of `--json` to stdout."""
    click.echo(json.dumps(document, indent=2))


def complain(error: KlingError, *, as_json: bool = False) -> int:
    """Tell an error and what to do, with `as_json` as a document too, and return its exit code."""
    if as_json:
        show(error_document(error))
    say(f"kling-async: {error}")
    for kind, word, advice in _ADVICE:
        if isinstance(error, kind) and word not in str(error):
            say(f"  {advice}")
    if error.generation_id and error.generation_id not in str(error):
        say(f"  generation: {error.generation_id}")
    return code_of(error)


def error_document(error: KlingError) -> dict[str, object]:
    """Return an error for `--json`."""
    return {
        "error": type(error).__name__,
        "message": str(error),
        "generation_id": error.generation_id,
        "exit_code": code_of(error),
    }


async def ask(question: str) -> bool:
    """Ask on the terminal, and wait for the answer in the loop: a signal ends the waiting. No answer is a no."""
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    with contextlib.suppress(OSError):
        click.echo(f"{question} [y/N]: ", nl=False, err=True)
    loop.add_reader(sys.stdin.fileno(), answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


class Stopped(Exception):  # noqa: N818  # a signal, not an error
    """The run was stopped by a signal.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number

    def document(self) -> dict[str, object]:
        """Return it for `--json`, as an error."""
        return {"error": "Stopped", "message": str(self), "generation_id": None, "exit_code": self.code}


def run_loop(
    work: Callable[[], Awaitable[int]], *, as_json: bool = False, stopped: Callable[[Stopped], None] | None = None
) -> int:
    """Run a command's work in a loop, and return its exit code. With `as_json`, an error is a document on stdout, too.

    The first SIGINT or SIGTERM cancels the work, which then stops cleanly; the second ends the process at once: the
    journal stays true, since nothing in it waits for an orderly end.

    Args:
        work: The work.
        as_json: Whether a document was asked for.
        stopped: Tells of a stop by a signal, in place of the document that an error would be.
    """
    signals = _Signals()
    try:
        return asyncio.run(_guarded(work, signals))
    except KlingError as error:
        return complain(error, as_json=as_json)
    except Stopped as stop:
        if stopped is not None:
            stopped(stop)
        elif as_json:
            show(stop.document())
        return stop.code


class _Signals:
    """Hears signals until the process is gone, and not only while the loop lives: the exit code is theirs."""

    def __init__(self) -> None:
        self.received: list[int] = []
        """The signals so far."""
        self._stop: Callable[[], object] | None = None
        if sys.platform != "win32":
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._hear)

    @contextlib.contextmanager
    def first_stops(self, work: asyncio.Task[object]) -> Iterator[None]:
        """Let the first signal cancel work; without work it ends the process, as the second does."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            say("\nstopping: what is out is written down (once more to stop at once)")
            work.cancel()

        self._stop = partial(loop.call_soon_threadsafe, stop)
        try:
            yield
        finally:
            self._stop = None

    def _hear(self, number: int, _frame: object) -> None:
        if self.received or self._stop is None:
            os._exit(128 + number)
        self.received.append(number)
        self._stop()


async def _guarded(work: Callable[[], Awaitable[int]], signals: _Signals) -> int:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a command's work needs a task")
    with signals.first_stops(task):
        try:
            return await work()
        except asyncio.CancelledError:
            if signals.received:
                raise Stopped(signals.received[0]) from None
            raise


def log_to_stderr(*, verbose: bool) -> None:
    """Show warnings (with `verbose`, all) of the package on stderr."""
    handler = _Said()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    package = logging.getLogger("kling_async")
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if verbose else logging.WARNING)


class _Said(logging.Handler):
    """Says each line as everything else is said: above a live display, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one line."""
        say(self.format(record))
