"""The verdict table: what follows from an error of a POST, or of a download. The only place where that is decided.

Polls and the other free questions need no table: they are asked again whatever came, for as long as their caller waits.

Whoever changes it keeps this in mind: a POST may be sent again only where it is *proven* that no job was made.
Everything else is UNCERTAIN and is looked up. A test asserts that every leaf of the error tree stands here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from kling_async.errors import (
    AnswerLost,
    ApiError,
    AuthenticationFailed,
    BudgetExceeded,
    ConfigurationError,
    DiskFull,
    DownloadError,
    GenerationFailed,
    GenerationOverdue,
    ImageChanged,
    InvalidRequest,
    JournalError,
    KlingError,
    LinkExpired,
    NotAVideo,
    NotFound,
    NotSent,
    OutOfCredit,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
    ServiceUnavailable,
    TooLarge,
    TooManyFailures,
    Truncated,
)


class Operation(enum.StrEnum):
    """What was tried."""

    SUBMIT = "submit"
    """The POST that buys. The only one that costs money."""
    DOWNLOAD = "download"
    """Bytes from the file host: free, and safe to repeat."""


class Verdict(enum.StrEnum):
    """What follows."""

    AGAIN = "again"
    """It did no harm: try again after a pause."""
    ANEW = "anew"
    """It says nothing of the service: look at the request anew, a bounded number of times."""
    REFUSED = "refused"
    """It will not work however often it is tried."""
    UNCERTAIN = "uncertain"
    """Something may have been bought: look it up, never send it again."""
    STOP = "stop"
    """No more submits; what is open is still watched and fetched."""
    CREDENTIALS = "credentials"
    """The key may be refused: ask for the balance to be sure, then stop."""
    FRESH_LINK = "fresh link"
    """Ask the service for another link."""
    RAISE = "raise"
    """Not of this operation: tell the caller."""


Rule: TypeAlias = Verdict | Callable[[KlingError], Verdict]


def _after_trouble(error: KlingError) -> Verdict:
    return Verdict.AGAIN if isinstance(error, ServerTrouble) and error.refused else Verdict.UNCERTAIN


def _after_unreadable(error: KlingError) -> Verdict:
    """A redirect made no job; an unreadable 2xx probably did."""
    status = error.status if isinstance(error, ProtocolViolation) else None
    return Verdict.REFUSED if status is not None and 300 <= status < 400 else Verdict.UNCERTAIN


def _row(submit: Rule, download: Rule) -> Mapping[Operation, Rule]:
    return {Operation.SUBMIT: submit, Operation.DOWNLOAD: download}


_AGAIN, _RAISE, _REFUSED = Verdict.AGAIN, Verdict.RAISE, Verdict.REFUSED

TABLE: Final[Mapping[type[KlingError], Mapping[Operation, Rule]]] = {
    #                         SUBMIT               DOWNLOAD
    NotSent: _row(_AGAIN, _AGAIN),
    ImageChanged: _row(Verdict.ANEW, _RAISE),
    AnswerLost: _row(Verdict.UNCERTAIN, _AGAIN),
    InvalidRequest: _row(_REFUSED, _AGAIN),
    AuthenticationFailed: _row(Verdict.CREDENTIALS, _AGAIN),
    OutOfCredit: _row(Verdict.STOP, _AGAIN),
    RateLimited: _row(_AGAIN, _AGAIN),
    ServerTrouble: _row(_after_trouble, _AGAIN),
    NotFound: _row(_REFUSED, Verdict.FRESH_LINK),
    ApiError: _row(_REFUSED, _AGAIN),
    ProtocolViolation: _row(_after_unreadable, _AGAIN),
    GenerationFailed: _row(_RAISE, _RAISE),
    GenerationOverdue: _row(_RAISE, _RAISE),
    ServiceUnavailable: _row(_RAISE, _RAISE),
    LinkExpired: _row(_RAISE, Verdict.FRESH_LINK),
    Truncated: _row(_RAISE, _AGAIN),
    NotAVideo: _row(_RAISE, Verdict.FRESH_LINK),
    TooLarge: _row(_RAISE, Verdict.FRESH_LINK),
    DiskFull: _row(_RAISE, _RAISE),
    DownloadError: _row(_RAISE, _RAISE),
    BudgetExceeded: _row(Verdict.STOP, _RAISE),
    TooManyFailures: _row(Verdict.STOP, _RAISE),
    JournalError: _row(_RAISE, _RAISE),
    ConfigurationError: _row(_RAISE, _RAISE),
}
"""Every kind of error, and what follows from it. A kind that is not named is judged as its nearest ancestor."""


def decide(operation: Operation, error: KlingError) -> Verdict:
    """Return what follows from an error of an operation."""
    for kind in type(error).__mro__:
        row = TABLE.get(kind)
        if row is not None:
            rule = row[operation]
            return rule if isinstance(rule, Verdict) else rule(error)
    return Verdict.RAISE


def backoff(attempt: int, draw: float, *, first: float, cap: float) -> float:
    """Return the pause before the next try, in seconds.

    It doubles from `first` up to `cap`. The jitter goes *under* it: at the cap, too, no two clients wake at once.

    Args:
        attempt: Tries that failed in a row, from 1.
        draw: A draw from [0, 1).
        first: The first pause.
        cap: The longest.
    """
    full = min(cap, first * 2.0 ** min(attempt - 1, 60))
    return full * (0.5 + 0.5 * draw)


def named_pause(error: KlingError, *, cap: float) -> float | None:
    """Return the pause that an answer asked for, within [0, cap]; None where it named none."""
    asked = error.retry_after if isinstance(error, RateLimited | ServerTrouble) else None
    return None if asked is None else min(max(asked, 0.0), cap)
