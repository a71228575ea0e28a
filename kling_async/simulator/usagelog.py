"""The usage log of the simulated service: what it lists, when, and one page of it.

Pure: it is told the time. It must never list a request to any key but the one that made it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from attrs import define, frozen

from kling_async.simulator.settings import CREDITS_PER_USD
from kling_async.simulator.stamps import iso_stamp

if TYPE_CHECKING:
    from kling_async.simulator.jobs import Job


@define(eq=False, kw_only=True)
class Entry:
    """One request that the log may list."""

    created: float
    """When the request came, as a Unix time."""

    key: str
    """The key that it was made with."""

    model: str
    """The model asked for."""

    call_id: str
    """`x-request-id` of its answer."""

    request_id: str | None
    """Its `X-Client-Request-Id`."""

    job: Job | None = None
    """The job that it made, if any."""

    def listed_from(self, delay: float) -> float:
        """Return the time from which it is listed; infinity while that is unknown."""
        if self.job is None or self.job.listing == "acceptance":
            return self.created
        ended_at = self.job.purchase.ended_at
        if ended_at is None or self.job.listing == "never":
            return inf
        return ended_at + delay if self.job.listing == "late" else ended_at

    @property
    def status(self) -> str:
        """What the log says of it: an accepted job has succeeded until it fails."""
        failed = self.job is None or (self.job.ended and not self.job.done)
        return "failed" if failed else "succeeded"

    def to_json(self) -> dict[str, object]:
        """Return it as the log tells it."""
        credits_used = self.job.purchase.price if self.job is not None and self.status == "succeeded" else 0
        return {
            "created": iso_stamp(self.created),
            "status": self.status,
            "model": self.model,
            "cost": {"usd": credits_used / CREDITS_PER_USD, "credits": credits_used},
            "request_id": self.call_id,
            "inference_id": self.job.id if self.job is not None else None,
            "client_request_id": self.request_id,
        }


@frozen(kw_only=True)
class LogQuery:
    """What is asked of the log."""

    start: float
    """Requests from this time on, as a Unix time."""

    end: float
    """Requests up to this time."""

    model: str | None = None
    """Only requests for this model."""

    status: str | None = None
    """Only requests of this status."""

    limit: int = 50
    """At most so many rows."""

    offset: int = 0
    """So many rows are left out first."""


class UsageLog:
    """All requests that the log may list, in the order in which they came.

    Args:
        delay: How many seconds after a late job's end it is listed.
        per_minute: How many times it may be asked within 60 s; None: any number of times.
    """

    def __init__(self, delay: float, per_minute: int | None) -> None:
        self._delay = delay
        self._per_minute = per_minute
        self._asked: deque[float] = deque()
        self._entries: list[Entry] = []
        self._times: list[float] = []

    def add(self, entry: Entry) -> None:
        """Note a request."""
        self._entries.append(entry)
        self._times.append(entry.created)

    def wait_for(self, now: float) -> float:
        """Count a request for the log, and return after how many seconds it would be answered; 0 if it is now."""
        while self._asked and self._asked[0] <= now - 60.0:
            self._asked.popleft()
        if self._per_minute is not None and len(self._asked) >= self._per_minute:
            return self._asked[0] + 60.0 - now
        self._asked.append(now)
        return 0.0

    def page(self, query: LogQuery, key: str, now: float) -> dict[str, object]:
        """Return one page as the log call answers it, newest first."""
        rows = [entry for entry in self._window(query) if self._shown(entry, query, key, now)]
        rows.reverse()
        part = rows[query.offset : query.offset + query.limit]
        return {
            "data": [entry.to_json() for entry in part],
            "pagination": {
                "limit": query.limit,
                "offset": query.offset,
                "total": len(rows),
                "has_more": query.offset + len(part) < len(rows),
            },
        }

    def _window(self, query: LogQuery) -> list[Entry]:
        return self._entries[bisect_left(self._times, query.start) : bisect_right(self._times, query.end)]

    def _shown(self, entry: Entry, query: LogQuery, key: str, now: float) -> bool:
        return (
            entry.key == key
            and entry.listed_from(self._delay) <= now
            and query.model in {None, entry.model}
            and query.status in {None, entry.status}
        )
