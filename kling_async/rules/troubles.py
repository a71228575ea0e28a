"""An error <-> the trouble that a record keeps of it. Nothing is decided here."""

from __future__ import annotations

from typing import Final

from kling_async import errors
from kling_async.errors import AnswerLost, ImageChanged, KlingError, ServerTrouble
from kling_async.rules.envelopes import is_too_many_jobs
from kling_async.types.record import Record, Trouble

_OF_NO_ROW: Final = frozenset({ServerTrouble.__name__, ImageChanged.__name__})


def trouble_of(error: KlingError) -> Trouble:
    """Return what a record keeps of an error."""
    # What a file system or a service says may hold half a character, which no journal can keep.
    return Trouble(type(error).__name__, str(error).encode("utf-8", "replace").decode())


def is_of_the_row(record: Record) -> bool:
    """Tell whether a row failed for what it asks for, so that another one of equal content would fail alike.

    What looks like the service's own trouble, or the account's limit, says nothing of the row; nor does an image that
    changed say anything of the picture that it was.
    """
    trouble = record.trouble
    return trouble is not None and trouble.kind not in _OF_NO_ROW and not is_too_many_jobs(trouble.message)


def error_of_record(record: Record) -> KlingError | None:
    """Return the error that a record's trouble stands for; None where it has none."""
    trouble = record.trouble
    if trouble is None:
        return None
    if trouble.kind == AnswerLost.__name__:
        return AnswerLost(trouble.message, client_request_id=record.client_request_id)
    kind = getattr(errors, trouble.kind, KlingError)
    known = isinstance(kind, type) and issubclass(kind, KlingError)
    error: KlingError = (kind if known else KlingError)(trouble.message)
    error.generation_id = record.generation_id
    if isinstance(error, errors.ApiError):
        error.status = None  # The message tells it already.
    return error
