"""What every transport promises: the scripted one and HTTP, against a host that says the same over a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from attrs import define, frozen

from kling_async.adapters.http import HttpTransport
from kling_async.adapters.images import LocalImages
from kling_async.errors import AnswerLost, KlingError, NotSent
from kling_async.ports import Transport
from kling_async.testing import ScriptedDownload, ScriptedTransport
from kling_async.types.exchange import HttpCall, HttpReply

pytestmark = pytest.mark.looptime

KEY = "sk-0123456789abcdef"
"""The key of the transports under test."""


# --------------------------------------------------- a host that does as it is told


@define
class Request:
    """One request as it came over the wire."""

    line: str
    headers: dict[str, str]
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""

    async def read_body(self) -> bytes:
        self.body = await self.reader.readexactly(int(self.headers.get("content-length", 0)))
        return self.body

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Act: TypeAlias = Callable[[Request], Awaitable[None]]
"""What the host does about one request. An act that leaves the connection in doubt closes it."""


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> Act:
    """Read the request and answer it; the connection stays open."""

    async def act(request: Request) -> None:
        await request.read_body()
        told = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        await request.say(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body)

    return act


def raw(data: bytes = b"", *, read_body: bool = True) -> Act:
    """Say these bytes and close the connection."""

    async def act(request: Request) -> None:
        if read_body:
            await request.read_body()
        await request.say(data)
        request.writer.close()

    return act


async def silence(request: Request) -> None:
    """Read the request and say nothing, until the client leaves."""
    await request.read_body()
    await request.reader.read()
    request.writer.close()


class Host:
    """Keeps every request, and does what its acts say, the last one for ever."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self._acts = list(acts) or [answer()]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self, **options: Any) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer, self.connections)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
            fields = dict(line.split(": ", 1) for line in head[1:])
            headers = {name.lower(): value for name, value in fields.items()}
            request = Request(head[0], headers, number, reader, writer)
            self.requests.append(request)
            act = self._acts[min(len(self.requests), len(self._acts)) - 1]
            await act(request)


@asynccontextmanager
async def hosting(*acts: Act, **options: Any) -> AsyncIterator[Host]:
    """Open a host on loopback."""
    host = Host(acts)
    await host.open(**options)
    try:
        yield host
    finally:
        await host.close()


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def connected(base_url: str, **options: Any) -> AsyncIterator[HttpTransport]:
    """Make a transport to an address, and close it."""
    images = LocalImages()
    transport = HttpTransport(base_url, KEY, images, **{"connect_timeout": 5.0, **options})
    try:
        yield transport
    finally:
        await transport.aclose()
        await images.aclose()


def get(path: str = "/v2/things", *, timeout: float = 30.0, **query: str) -> HttpCall:
    return HttpCall("GET", path, timeout, query=tuple(query.items()))


def post(*body: Any, timeout: float = 30.0) -> HttpCall:
    parts = body or (b'{"prompt":"a cat"}',)
    return HttpCall("POST", "/v2/things", timeout, headers=(("X-Id", "1"),), body=parts, fresh_connection=True)


# -------------------------------------------------------------- both, by one script


@frozen
class Script:
    """What is to be said, in a form that both kinds of transport can be made from."""

    replies: Sequence[HttpReply | KlingError] = ()
    downloads: Sequence[ScriptedDownload | KlingError] = ()


Play: TypeAlias = Callable[[Script], Any]
"""Opens a transport that plays a script, and the address to fetch from."""


def _act_of(entry: HttpReply | ScriptedDownload | KlingError) -> Act:
    if isinstance(entry, KlingError):
        return raw(b"")
    headers: Mapping[str, str] = {name.replace("-", "_"): value for name, value in entry.headers.items()}
    if isinstance(entry, HttpReply):
        return answer(entry.status, entry.body, **headers)
    pieces = [piece for piece in entry.content if isinstance(piece, bytes)]
    if len(pieces) == len(entry.content):
        return answer(entry.status, b"".join(pieces), **headers)
    head = f"HTTP/1.1 {entry.status} Whatever\r\ncontent-length: 1000000\r\n\r\n".encode()
    return raw(head + b"".join(pieces))


@asynccontextmanager
async def _scripted(script: Script) -> AsyncIterator[tuple[Transport, str]]:
    yield ScriptedTransport(script.replies, script.downloads), "https://cdn.example/a.mp4"


@asynccontextmanager
async def _over_http(script: Script) -> AsyncIterator[tuple[Transport, str]]:
    entries: Iterable[Any] = [*script.replies, *script.downloads]
    async with hosting(*map(_act_of, entries)) as host:
        refused = any(isinstance(entry, NotSent) for entry in entries)
        url = f"http://127.0.0.1:{closed_port()}" if refused else host.url
        async with connected(url) as transport:
            yield transport, f"{url}/a.mp4"


@pytest.fixture(params=[_scripted, _over_http], ids=["scripted", "http"])
def play(request: pytest.FixtureRequest) -> Play:
    """Open each kind of transport in turn."""
    chosen: Play = request.param
    return chosen


async def taken(transport: Transport, url: str) -> bytes:
    async with transport.fetch(url, headers={}, stall_after=30.0) as download:
        return b"".join([piece async for piece in download.pieces()])


@pytest.mark.parametrize("status", [200, 202, 301, 307, 400, 404, 429, 500, 503])
async def test_any_status_is_an_answer(play: Play, status: int) -> None:
    """Status, headers with their names in lower case, and the whole body; nothing is followed or tried again."""
    reply = HttpReply(status, {"location": "/elsewhere", "x-request-id": "Abc"}, b'{"a": 1}')
    async with play(Script([reply, HttpReply(200)])) as (transport, _):
        found = await transport.send(post())
    assert (found.status, found.body) == (status, b'{"a": 1}')
    assert found.headers.items() >= reply.headers.items()
    assert all(name == name.lower() for name in found.headers)


async def test_answers_come_in_the_order_of_the_calls(play: Play) -> None:
    """One for each, whether they read or write."""
    replies = [HttpReply(200, body=b"%d" % number) for number in range(4)]
    async with play(Script(replies)) as (transport, _):
        found = [(await transport.send(call)).body for call in (get(), post(), get(), post())]
    assert found == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("error", [NotSent, AnswerLost])
@pytest.mark.parametrize("call", [get(), post()], ids=["get", "post"])
async def test_what_went_wrong_is_one_of_two(play: Play, error: type[KlingError], call: HttpCall) -> None:
    """Surely not received, or perhaps received: never anything else, and never in silence."""
    async with play(Script([error("no answer")])) as (transport, _):
        with pytest.raises(error) as raised:
            await transport.send(call)
    assert type(raised.value) is error


async def test_a_lost_answer_is_the_end_of_one_call_alone(play: Play) -> None:
    """The next call is answered."""
    async with play(Script([AnswerLost("gone"), HttpReply(200, body=b"here")])) as (transport, _):
        with pytest.raises(AnswerLost):
            await transport.send(post())
        assert (await transport.send(post())).body == b"here"


async def test_a_download_comes_whole_and_in_order(play: Play) -> None:
    """Its status and headers first, then its bytes in whatever pieces."""
    download = ScriptedDownload(206, {"content-range": "bytes 0-5/6", "etag": '"E"'}, [b"abc", b"", b"def"])
    async with (
        play(Script(downloads=[download])) as (transport, url),
        transport.fetch(url, headers={}, stall_after=30.0) as found,
    ):
        assert found.status == 206
        assert found.headers["etag"] == '"E"'
        assert b"".join([piece async for piece in found.pieces()]) == b"abcdef"


@pytest.mark.parametrize("status", [302, 403, 416, 500])
async def test_a_refused_download_is_an_answer_too(play: Play, status: int) -> None:
    """No redirect is followed, and no status raised."""
    download = ScriptedDownload(status, {"location": "https://elsewhere.example/"}, [b"no"])
    async with (
        play(Script(downloads=[download])) as (transport, url),
        transport.fetch(url, headers={}, stall_after=30.0) as found,
    ):
        assert (found.status, found.headers["location"]) == (status, "https://elsewhere.example/")


async def test_a_cut_comes_after_what_came_before_it(play: Play) -> None:
    """The bytes before the cut are given; then AnswerLost."""
    download = ScriptedDownload(200, {}, [b"abc", b"def", AnswerLost("cut")])
    got = b""
    async with play(Script(downloads=[download])) as (transport, url):
        with pytest.raises(AnswerLost):
            async with transport.fetch(url, headers={}, stall_after=30.0) as found:
                async for piece in found.pieces():
                    got += piece
    assert got == b"abcdef"


@pytest.mark.parametrize("error", [NotSent, AnswerLost])
async def test_a_download_that_does_not_begin(play: Play, error: type[KlingError]) -> None:
    """It is raised on entering."""
    async with play(Script(downloads=[error("no answer")])) as (transport, url):
        with pytest.raises(error):
            await taken(transport, url)


async def test_a_download_may_be_left_at_any_piece(play: Play) -> None:
    """By a break or an error of the caller's, which comes out as it is; the next one is whole."""
    downloads = [ScriptedDownload(200, {}, [b"abc", b"def"])] * 3
    async with play(Script(downloads=downloads)) as (transport, url):
        async with transport.fetch(url, headers={}, stall_after=30.0) as found:
            assert await anext(found.pieces())
        with pytest.raises(LookupError, match="mine"):
            async with transport.fetch(url, headers={}, stall_after=30.0):
                raise LookupError("mine")
        assert await taken(transport, url) == b"abcdef"


async def test_closing_twice_does_no_harm(play: Play) -> None:
    """Nor closing what was never used; a call that comes after it was surely not sent."""
    async with play(Script()) as (transport, url):
        await transport.aclose()
        await transport.aclose()
        for call in (get(), post()):
            with pytest.raises(NotSent):
                await transport.send(call)
        with pytest.raises(NotSent):
            await taken(transport, url)
