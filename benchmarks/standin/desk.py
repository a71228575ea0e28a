"""What the stand-in answers: a request as method, target and body, and a reply, or what becomes of the connection.

Nothing here knows of sockets.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen

from benchmarks.standin.books import Books, Generation
from benchmarks.standin.dialects import ALL, OPENAI, Dialect
from kling_async.simulator.clips import free_box, read_template

_JSON: Final = "application/json"
_PAGE: Final = b"<html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"
_TROUBLE: Final = b'{"statusCode":500,"message":"Internal server error"}'
_ROW: Final = re.compile(rb"row-\d+")
_PAGE_OF_LOG: Final = 100


@frozen
class Reply:
    """One answer."""

    status: int = 200
    """The HTTP status; 0: the connection is closed without a word; -1: no answer ever comes."""
    body: tuple[bytes, ...] = ()
    """Its parts."""
    kind: str = _JSON
    """Its media type."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further ones."""
    told: int | None = None
    """The length that is told, where it is not that of the body: the connection is closed after it."""


DROPPED: Final = Reply(0)
SILENCE: Final = Reply(-1)


def _json(document: object, **more: Any) -> Reply:
    return Reply(body=(json.dumps(document, separators=(",", ":")).encode(),), **more)


@frozen
class Desk:
    """Answers requests.

    Args:
        books: What is written down.
        here: The stand-in's own address.
    """

    books: Books
    here: str
    _tail: bytes = field(init=False)
    _head: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        master = read_template(5)
        object.__setattr__(self, "_head", master.head)
        object.__setattr__(self, "_tail", master.tail + free_box(self.books.plan.clip - master.size))

    def answer(self, method: bytes, target: str, request: str, body: bytes) -> Reply:
        """Answer one request.

        Args:
            method: GET or POST.
            target: Path and query.
            request: The client's own id for it, or nothing.
            body: Its body.
        """
        if target.startswith("/files/"):
            return self._file(target[7:])
        for dialect in ALL:
            if method == b"POST" and target.startswith(dialect.submit):
                return self._submit(dialect, request, body)
            if method == b"GET" and target.startswith(dialect.poll):
                return self._poll(dialect, target[len(dialect.poll) :])
        return self._aside(target)

    def _submit(self, dialect: Dialect, request: str, body: bytes) -> Reply:
        books, found = self.books, _ROW.search(body)
        row = found[0].decode() if found else ""
        books.submitted()
        if books.strikes("429", row):
            books.refused += 1
            return _json(
                {"statusCode": 429, "message": "Too many requests"}, status=429, headers=(("Retry-After", "1"),)
            )
        sold = books.accept(request)
        if books.strikes("accepted, 500", row):
            return Reply(500, (_TROUBLE,))
        if books.strikes("accepted, 502", row):
            return Reply(502, (_PAGE,), "text/html")
        if books.strikes("accepted, dropped", row):
            return DROPPED
        if books.strikes("accepted, silence", row):
            return SILENCE
        echo = (("x-client-request-id", request),) if request else ()
        return _json(dialect.accepted(sold.name, self.here), headers=echo)

    def _poll(self, dialect: Dialect, rest: str) -> Reply:
        name, _, what = rest.partition("/")
        sold = self.books.generations.get(name)
        if sold is None:
            return _json({"statusCode": 404, "message": "Inference not found"}, status=404)
        if dialect is OPENAI and what.startswith("content"):
            ended = self.books.clock() >= sold.ends
            return self._download(sold) if ended else _json({"message": "Video is not ready yet"}, status=404)
        ended = self.books.ask(sold)
        if self.books.strikes("poll 500", name):
            return Reply(500, (_TROUBLE,))
        if self.books.strikes("poll dropped", name):
            return DROPPED
        if not ended:
            return _json(dialect.running(name, self.books.plan.trouble == "waiting"))
        self.books.told(sold)
        return _json(dialect.finished(name, f"{self.here}/files/{name}.mp4?edition={sold.links}"))

    def _file(self, rest: str) -> Reply:
        name, _, edition = rest.partition(".mp4?edition=")
        sold = self.books.generations.get(name)
        if sold is None:
            return Reply(404, (_PAGE,), "text/html")
        if self.books.plan.trouble == "link expired" and self.books.expired.setdefault(name, edition) == edition:
            self.books.downloads += 1
            return Reply(
                403, (b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",), "text/xml"
            )
        return self._download(sold)

    def _download(self, sold: Generation) -> Reply:
        books = self.books
        books.downloads += 1
        parts = (self._head + sold.title.encode(), self._tail)
        size = sum(map(len, parts))
        if books.strikes("download HTML", sold.name):
            return Reply(200, (_PAGE,), "text/html")
        half = (b"".join(parts)[: size // 2],)
        if books.strikes("download cut", sold.name):
            return Reply(200, half, "video/mp4", told=size)
        if books.strikes("download short", sold.name):
            return Reply(200, half, "video/mp4")
        books.sent += size
        return Reply(200, parts, "video/mp4")

    def _aside(self, target: str) -> Reply:
        path, _, query = target.partition("?")
        if path == "/standin/report":
            return _json(self.books.report())
        if path == "/v2/billing":
            return _json({"current_balance": 1e6, "currency": "USD"})
        if path == "/v2/logs":
            return self._log(query)
        if path == "/v1/models":
            units = [{"name": "video", "measure": "second", "price": 0.042, "per": 1}]
            model = "kling-video/v1/standard/image-to-video"
            return _json({"data": [{"id": model, "pricing": {"type": "fixed", "units": units}}]})
        return _json({"statusCode": 404, "message": "No such path"}, status=404)

    def _log(self, query: str) -> Reply:
        """Give a page of the usage log: newest first, each listed as soon as it is accepted."""
        asked = re.search(r"(?:^|&)offset=(\d+)", query)
        offset = int(asked[1]) if asked else 0
        rows = list(self.books.generations.values())[::-1]
        now = datetime.now(UTC).isoformat()
        data = [
            {
                "created": now,
                "status": "succeeded",
                "model": "kling-video/v1/standard/image-to-video",
                "cost": {"usd": 0.21, "credits": 420_000},
                "request_id": one.name,
                "inference_id": one.name,
                "client_request_id": one.request,
            }
            for one in rows[offset : offset + _PAGE_OF_LOG]
        ]
        more = offset + len(data) < len(rows)
        pagination = {"limit": _PAGE_OF_LOG, "offset": offset, "total": len(rows), "has_more": more}
        return _json({"data": data, "pagination": pagination})
