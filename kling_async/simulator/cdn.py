"""The CDN's side: one request for a video in, one delivery out, without any socket.

It checks links, answers ranges, and carries out the troubles of downloads. It is told the time, and must never ask for
a key: a request that carries one is noted as a leak.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

from attrs import evolve, field, frozen

from kling_async.simulator.envelopes import Answer, write_html
from kling_async.simulator.faults import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kling_async.simulator.desk import Desk
    from kling_async.simulator.faults import Fault
    from kling_async.simulator.jobs import Job

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_PIECES: Final = 20


@frozen(kw_only=True)
class Fetch:
    """One request to the CDN."""

    method: str
    """HTTP method."""

    path: str
    """Path without the query."""

    target: str = ""
    """Path with the query, as it came."""

    query: Mapping[str, str] = field(factory=dict)
    """Query parameters, decoded."""

    headers: Mapping[str, str] = field(factory=dict)
    """All headers; names in any case are the caller's care."""


@frozen(kw_only=True)
class Delivery:
    """What the CDN does about a request."""

    answer: Answer = field(factory=Answer)
    """Status, headers, and the bytes that are really sent."""

    announced: int | None = None
    """The Content-Length that is told; None: none is, and the body comes in chunks."""

    manner: Literal["send", "drop", "stall", "hang", "cut", "close"] = "send"
    """Send it; cut at once; say nothing; or send it and then say nothing, cut, or close in order."""

    delay: float = 0.0
    """Seconds before anything."""

    spread: float = 0.0
    """Seconds over which the body is spread."""

    pieces: int = 1
    """In how many pieces the body is sent."""


class Cdn:
    """Serves finished videos.

    Args:
        desk: The API's desk, whose jobs, links, dice and book are shared.
        other_url: The same CDN under another host name, without a path.
    """

    def __init__(self, desk: Desk, other_url: str) -> None:
        self._desk = desk
        self._other_url = other_url

    def admit(self, fetch: Fetch, now: float) -> Job | Delivery:
        """Return the job whose video is asked for, or the delivery that needs no video."""
        self._desk.world.advance(now)
        self._note(fetch)
        job = self._desk.links.find(fetch.path)
        if job is None or fetch.method not in {"GET", "HEAD"}:
            return self._plain(write_html(404 if job is None else 405, "Not Found"))
        self._desk.book.downloads_by_id[job.id] += 1
        if self._desk.dice.draw("download", self._subject(job, now), now, door=True) is not None:
            self._desk.book.troubles["download", "refused"] += 1
            return Delivery(manner="drop")
        if self._desk.links.judge(job, fetch.query, now) != "good":
            return self._plain(write_html(403, "Forbidden"))
        return job

    def deliver(self, job: Job, fetch: Fetch, make: Callable[[], bytes], now: float) -> Delivery:
        """Return what is done about an admitted request.

        Args:
            job: Whose video is asked for.
            fetch: The request.
            make: Returns the file's bytes, of today's edition.
            now: The time.
        """
        fault = self._desk.dice.draw("download", self._subject(job, now), now)
        if fault is None:
            return self._ranged(job, fetch, make())
        self._desk.book.troubles["download", fault.kind] += 1
        if fault.kind == "etag_changed":
            job.edition += 1
        elif fault.kind == "expired":
            self._desk.world.call_back_link(job)
        short = self._without_video(fault, fetch)
        return self._spoiled(fault, job, fetch, make()) if short is None else short

    def etag(self, job: Job) -> str:
        """Return the ETag of today's edition."""
        return f'"{sha256(f"{job.id}/{job.edition}".encode()).hexdigest()[:32]}"'

    # ------------------------------------------------------------ good answers

    def _ranged(self, job: Job, fetch: Fetch, data: bytes) -> Delivery:
        headers = {"Content-Type": "video/mp4", "ETag": self.etag(job), "Accept-Ranges": "bytes"}
        if fetch.headers.get("If-None-Match") == headers["ETag"]:
            return self._plain(Answer(status=304, headers=headers))
        wanted = fetch.headers.get("Range")
        if wanted is None or fetch.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            return self._plain(Answer(headers=headers, body=data))
        span = read_range(wanted, len(data))
        if span is None:
            return self._plain(Answer(headers=headers, body=data))
        if span.start >= span.stop:
            return self._plain(Answer(status=416, headers={**headers, "Content-Range": f"bytes */{len(data)}"}))
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{len(data)}"
        return self._plain(Answer(status=206, headers=headers, body=data[span.start : span.stop]))

    @staticmethod
    def _plain(answer: Answer) -> Delivery:
        return Delivery(answer=answer, announced=len(answer.body))

    # ---------------------------------------------------------------- troubles

    def _without_video(self, fault: Fault, fetch: Fetch) -> Delivery | None:
        """Return the delivery of a trouble that needs no video; None if it needs one."""
        if fault.kind == "stalled":
            return Delivery(manner="stall")
        if fault.kind == "redirected":
            location = (fault.text or self._other_url) + fetch.target
            return self._plain(write_html(302, "Found", {"Location": location}))
        if fault.kind in {"html", "html_video"}:
            page = write_html(200, "Just a moment...")
            kind = "video/mp4" if fault.kind == "html_video" else page.headers["Content-Type"]
            return self._plain(evolve(page, headers={"Content-Type": kind}))
        if fault.kind == "429_seconds":
            seconds = 7.0 if fault.seconds is None else fault.seconds
            return self._plain(write_html(429, "Too Many Requests", {"Retry-After": f"{seconds:g}"}))
        status = 403 if fault.kind == "expired" else int(fault.kind) if fault.kind.isdecimal() else None
        return None if status is None else self._plain(write_html(status, f"{status}"))

    def _spoiled(self, fault: Fault, job: Job, fetch: Fetch, data: bytes) -> Delivery:
        if fault.kind == "range_ignored":
            fetch = evolve(fetch, headers={})
        good = self._ranged(job, fetch, _spoil(fault.kind, data))
        body, length = good.answer.body, len(good.answer.body)
        half = evolve(good, answer=evolve(good.answer, body=body[: length // 2]))
        seconds = 30.0 if fault.seconds is None else fault.seconds
        spoiled = {
            "cut": evolve(half, manner="cut"),
            "closed": evolve(half, manner="close"),
            "stalled_midway": evolve(half, manner="hang"),
            "wrong_length": evolve(good, announced=length + 1_000, manner="close"),
            "no_length": evolve(good, announced=None),
            "slow": evolve(good, spread=seconds, pieces=_PIECES),
            "late": evolve(good, delay=seconds),
        }
        return spoiled.get(fault.kind, good)

    # ----------------------------------------------------------------- details

    def _note(self, fetch: Fetch) -> None:
        self._desk.book.calls["download"] += 1
        keys = self._desk.settings.keys
        carried = [*fetch.headers.values(), fetch.target]
        leaked = any(name.lower() == "authorization" for name in fetch.headers)
        if leaked or any(key in text for key in keys for text in carried):
            self._desk.book.key_leaks.append(f"{fetch.method} {fetch.path}")

    @staticmethod
    def _subject(job: Job, now: float) -> Subject:
        return Subject(prompt=job.order.prompt, generation_id=job.id, age=now - job.accepted_at)


def read_range(text: str, size: int) -> range | None:
    """Return the bytes that a Range header asks for; None if it is to be ignored, an empty range if none exist."""
    found = _RANGE.fullmatch(text.replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


def _spoil(kind: str, data: bytes) -> bytes:
    """Return the file as a trouble left it."""
    if kind == "truncated":
        return data[: len(data) // 2]
    if kind == "garbage":
        return (b"this is no video. " * (len(data) // 18 + 1))[: len(data)]
    if kind == "damaged":
        middle = data.find(b"mdat") + (len(data) - data.find(b"mdat")) // 2
        return data[:middle] + b"\xa5" * min(256, len(data) - middle) + data[middle + 256 :]
    return data
