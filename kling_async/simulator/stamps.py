"""Times as the service writes and reads them.

Pure conversions. This room must never ask for the time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from kling_async.simulator.settings import DAY


def iso_stamp(moment: float) -> str:
    """Return a Unix time as ISO-8601 with milliseconds, as in error envelopes and the usage log."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@lru_cache(maxsize=16)
def http_date(second: int) -> str:
    """Return a Unix time in whole seconds as an HTTP date."""
    return formatdate(second, usegmt=True)


def read_http_date(text: str) -> float | None:
    """Return the Unix time of an HTTP date; None if it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def read_iso(text: str) -> float | None:
    """Return the Unix time of an ISO-8601 text, taken as UTC without an offset; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def read_period(text: str) -> float | None:
    """Return the seconds of a period such as `24h` or `7d`; None if it is none."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in {"h", "d"} or int(number) == 0:
        return None
    return int(number) * (3_600.0 if unit == "h" else DAY)
