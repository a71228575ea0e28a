"""What is told of a row whose POST's answer was lost and that was not found again.

Words only: nothing is decided here.
"""

from __future__ import annotations

from kling_async.errors import AnswerLost
from kling_async.types.record import Record, Trouble


def not_listed(record: Record) -> Trouble:
    """Return the trouble of a row that the whole usage log does not list."""
    return _trouble(
        f"the answer to its submit was lost, and the usage log does not list {record.client_request_id}: it may have "
        "been bought. It is looked for once at each start. `kling-async retry DIR --uncertain` looks as long as at "
        "first; with --buy-again it buys the row again, if it is not listed then"
    )


def not_readable(record: Record) -> Trouble:
    """Return the trouble of a row that could not be looked for."""
    return _trouble(
        "the answer to its submit was lost, and the usage log could not be read to find "
        f"{record.client_request_id}: it may have been bought. It is looked for once at each start; "
        "`kling-async retry DIR --uncertain` looks as long as at first"
    )


def of_another_key(record: Record) -> Trouble:
    """Return the trouble of a row that was sent with another key."""
    return _trouble(
        "the answer to its submit was lost, and it was sent with another key, whose usage log this key cannot read: "
        f"run again with that key to find {record.client_request_id}"
    )


def _trouble(message: str) -> Trouble:
    return Trouble(AnswerLost.__name__, message)
