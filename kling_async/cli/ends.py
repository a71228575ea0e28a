"""How a command ends: an error -> one line on stderr and an exit code; a signal -> a clean stop, then a hard one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import click

from kling_async.errors import (
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
    ((ServiceUnavailable, TransportError), UNAVAILABLE),
    (KlingError, ROWS_FAILED),
)
"""The first that applies."""


def code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), UNFORESEEN)


_ADVICE: Final = (
    (AuthenticationFailed, "check the key in AIMLAPI_API_KEY"),
    (OutOfCredit, "top up the account"),
    (BudgetExceeded, "raise --budget to go on"),
    (NotFound, "check the model, and the address (kling-async config shows it)"),
)
"""What to do next, where the error's own words come from the service."""


def say(text: str = "") -> None:
    """Write a line to stderr, for a person. Nobody listening is no reason to stop."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def complain(error: KlingError) -> int:
    """Tell an error and what to do, and return its exit code."""
    say(f"kling-async: {error}")
    for kind, advice in _ADVICE:
        if isinstance(error, kind) and advice not in str(error):
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


class Stopped(Exception):  # noqa: N818  # a signal, not an error
    """The run was stopped by a signal.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def run_loop(work: Callable[[], Awaitable[int]], *, as_json: bool = False) -> int:
    """Run a command's work in a loop, and return its exit code. With `as_json`, an error is a document on stdout, too.

    The first SIGINT or SIGTERM cancels the work, which then stops cleanly; the second ends the process at once: the
    journal stays true, since nothing in it waits for an orderly end.
    """
    try:
        return asyncio.run(_guarded(work))
    except KlingError as error:
        if as_json:
            click.echo(json.dumps(error_document(error), indent=2))
        return complain(error)
    except Stopped as stop:
        return stop.code


async def _guarded(work: Callable[[], Awaitable[int]]) -> int:
    task, received = asyncio.current_task(), list[int]()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if received:
            sys.stderr.flush()
            os._exit(128 + number)
        received.append(number)
        say("\nstopping: what is out is written down (once more to stop at once)")
        if task is not None:
            task.cancel()

    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
    try:
        return await work()
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise


def log_to_stderr(*, verbose: bool) -> None:
    """Show warnings (with `verbose`, all) of the package on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    package = logging.getLogger("kling_async")
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if verbose else logging.WARNING)
