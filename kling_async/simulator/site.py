"""One listening port, and the ways in which an answer leaves it: whole, late, cut, or not at all.

This room knows sockets and nothing else. It must never know what an answer means, nor keep a client waiting at its
end.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

from aiohttp import web

from kling_async.simulator.stamps import http_date

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler

    from kling_async.simulator.cdn import Delivery
    from kling_async.simulator.envelopes import Answer
    from kling_async.simulator.settings import SimulatorSettings

_GRACE: Final = 0.05
_RESET: Final = struct.pack("ii", 1, 0)


class Site:
    """A port that can be closed and opened again under the same number.

    Args:
        answer: Answers each request.
        settings: Say how long connections and how large bodies may be.
        host: The address to listen on.
        port: The port; 0: any free one, kept from then on.
    """

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        settings: SimulatorSettings,
        host: str,
        port: int,
    ) -> None:
        self._answer = answer
        self._settings = settings
        self._host = host
        self.port = port
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._kept: socket.socket | None = None

    async def listen(self) -> None:
        """Open the port, unless it is open."""
        if self._listener is not None:
            return
        if self._server is None:
            self._server = web.Server(
                self._answer,
                request_factory=self._request,
                handler_cancellation=True,
                access_log=None,
                keepalive_timeout=self._settings.keepalive,
            )
        self._give_up_port()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._server, self._host, self.port, backlog=4_096, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections and cut every one there is. The port stays taken: nobody else answers there."""
        if self._listener is None or self._server is None:
            return
        self._keep_port(self._listener)
        self._listener = None
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Close the port for good; handlers that still wait are cancelled."""
        await self.refuse()
        self._give_up_port()
        if self._server is not None:
            await self._server.shutdown(_GRACE)

    def _keep_port(self, listener: asyncio.Server) -> None:
        """Close a listener, and keep its port by a socket that listens to nobody."""
        listening = listener.sockets[0]
        family, place = listening.family, listening.getsockname()
        listener.close()
        kept = socket.socket(family, socket.SOCK_STREAM)
        try:
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that were cut still have it
            kept.bind(place)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # from now on it is shared with nobody
        except OSError:
            kept.close()
        else:
            self._kept = kept

    def _give_up_port(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._settings.max_body)


def send(answer: Answer, now: float) -> web.Response:
    """Return an answer, to be sent whole."""
    return web.Response(status=answer.status, headers=_headers(answer, now), body=answer.body)


async def send_part(
    request: web.BaseRequest, answer: Answer, announced: int | None, now: float, pieces: int = 1, spread: float = 0.0
) -> web.StreamResponse:
    """Send an answer's body under another Content-Length than its own, in pieces or at once.

    Args:
        request: Whom it answers.
        answer: The answer, with what is really sent.
        announced: The Content-Length that is told; None: none is.
        now: The time, for the header `Date`.
        pieces: In how many pieces the body is sent.
        spread: The seconds over which they are spread.
    """
    response = web.StreamResponse(status=answer.status, headers=_headers(answer, now))
    response.content_length = announced
    await response.prepare(request)
    length = max(1, -(-len(answer.body) // pieces))
    for start in range(0, len(answer.body), length):
        if spread:
            await asyncio.sleep(spread / pieces)
        await response.write(answer.body[start : start + length])
    return response


def drop(request: web.BaseRequest, *, reset: bool = False) -> web.Response:
    """Cut the connection; nothing is answered.

    Args:
        request: Whose connection is cut.
        reset: Whether the client sees a reset (True), or an end of the stream.
    """
    transport = request.transport
    if transport is not None:
        if reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response()


async def hang() -> None:
    """Wait until the client leaves, or the simulator is closed."""
    await asyncio.Event().wait()


async def send_delivery(request: web.BaseRequest, delivery: Delivery, now: float) -> web.StreamResponse:
    """Send what the CDN decided on."""
    whole = delivery.announced == len(delivery.answer.body) and delivery.pieces == 1
    if request.method == "HEAD" or (whole and delivery.manner == "send"):
        return send(delivery.answer, now)
    response = await send_part(request, delivery.answer, delivery.announced, now, delivery.pieces, delivery.spread)
    await leave(request, delivery.manner)
    return response


async def leave(request: web.BaseRequest, manner: str) -> None:
    """Do to the connection what follows a part of an answer: hang, cut, or close in order."""
    if manner == "hang":
        await hang()
    elif manner == "cut":
        drop(request, reset=True)
    elif manner == "close" and request.transport is not None:
        request.transport.close()


def _headers(answer: Answer, now: float) -> dict[str, str]:
    return {"Server": "kling-simulator", "Date": http_date(int(now)), **answer.headers}
