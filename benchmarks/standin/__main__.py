"""Serve one run: `python -m benchmarks.standin PLAN`, where PLAN is `Plan.to_json`; the port is the first line printed.

A few hundred lines of protocol by hand, since a web framework would be the limit of what is measured. It reads only
what the contenders send: a head, and a body of a told length. It listens on the loopback address alone, and ends when
its standard input does.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Final

from benchmarks.standin.books import Books
from benchmarks.standin.desk import DROPPED, SILENCE, Desk, Reply
from benchmarks.standin.plan import Plan

_WORDS: Final = {
    200: "OK",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Trouble",
    502: "Bad Gateway",
}
_SILENCE: Final = 120.0
"""Seconds of silence at the most: nothing is left open for ever."""


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._got = bytearray()
        self._transport: asyncio.Transport | None = None
        self._silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is there whole."""
        self._got += data
        while not self._silent and (found := self._got.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._got[:found])
            size = int(_header(head, b"content-length") or 0)
            end = found + 4 + size
            if len(self._got) < end:
                return
            body = bytes(self._got[found + 4 : end])
            del self._got[:end]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        request = (_header(head, b"x-client-request-id") if body else b"").decode("latin-1")
        reply = self._desk.answer(method, target.decode("latin-1"), request, body)
        assert self._transport is not None
        if reply is SILENCE:
            self._silent = True
            asyncio.get_running_loop().call_later(_SILENCE, self._transport.close)
            return
        if reply is not DROPPED:
            self._write(self._transport, reply)
        if reply is DROPPED or reply.told is not None or _header(head, b"connection").lower() == b"close":
            self._silent = True
            self._transport.close()

    def _write(self, transport: asyncio.Transport, reply: Reply) -> None:
        size = sum(map(len, reply.body)) if reply.told is None else reply.told
        more = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        head = (
            f"HTTP/1.1 {reply.status} {_WORDS[reply.status]}\r\ncontent-type: {reply.kind}\r\n"
            f"content-length: {size}\r\n{more}\r\n"
        ).encode("latin-1")
        first, *rest = reply.body
        transport.write(head + first)
        for part in rest:
            transport.write(part)


def _header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header, or nothing."""
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    begin = at + len(name) + 3
    end = head.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else len(head)].strip()


async def serve(plan: Plan) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    desk: list[Desk] = []
    server = await loop.create_server(lambda: Conversation(desk[0]), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    desk.append(Desk(Books(plan), f"http://127.0.0.1:{port}"))
    gc.collect()
    gc.freeze()
    print(port, flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


def main() -> None:
    """Serve what the first argument says."""
    asyncio.run(serve(Plan.from_json(sys.argv[1])))


if __name__ == "__main__":
    main()
