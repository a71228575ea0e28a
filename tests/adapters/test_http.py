"""HTTP over real sockets: what surely was not received, what may have been, and where the key never goes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from attrs import evolve

from kling_async.adapters.http import MAX_REPLY, HttpTransport
from kling_async.adapters.image_reader import state_of
from kling_async.adapters.images import LocalImages
from kling_async.errors import AnswerLost, ConfigurationError, KlingError, NotSent, ProtocolViolation, TransportError
from kling_async.rules.wire import SizedImage, encode_poll, encode_submit
from kling_async.types.exchange import EncodedImage, HttpCall
from kling_async.types.image import ImageSource, ImageState
from kling_async.types.request import ImageToVideo
from tests.contracts.test_transport import (
    KEY,
    Request,
    answer,
    closed_port,
    connected,
    get,
    hosting,
    post,
    raw,
    silence,
    taken,
)

CancelEverywhere = Any

pytestmark = pytest.mark.looptime

CA = """-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIBATAKBggqhkjOPQQDAjAeMRwwGgYDVQQDDBNrbGluZy1h
c3luYyB0ZXN0IENBMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjUwMTAxMDAwMDAwWjAe
MRwwGgYDVQQDDBNrbGluZy1hc3luYyB0ZXN0IENBMFkwEwYHKoZIzj0CAQYIKoZI
zj0DAQcDQgAEliuipauXKS3e1kmsbIjwqGQxPYqFmVPW+4WYIJTST9oTc0dIcUOY
MMG9eBSTShbfSFOSBeEOppK4oJ4XCrXjnKNCMEAwDwYDVR0TAQH/BAUwAwEB/zAO
BgNVHQ8BAf8EBAMCAgQwHQYDVR0OBBYEFBffInunMOaf+cFwRwis1Hk/INJVMAoG
CCqGSM49BAMCA0gAMEUCIBuknsu8qpVbHV974gASLUES8S/eOSuxJKm9eOW23AeY
AiEA7HQrkSnHxBtarM8e3PdB3rpVYWJSHq2p7ovaWqZX7lI=
-----END CERTIFICATE-----
"""
"""A certificate authority of our own, until 2125."""

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBljCCATygAwIBAgIBAjAKBggqhkjOPQQDAjAeMRwwGgYDVQQDDBNrbGluZy1h
c3luYyB0ZXN0IENBMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjUwMTAxMDAwMDAwWjAU
MRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARD
BpNB8SaPNpoqCStiTsRtZmb6aNRp1HFRKAyYiymRSiU7nP7twZzAKp1qeVrJK3p7
UNQcgH1hjK74m8u+pUCao3MwcTAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEw
EwYDVR0lBAwwCgYIKwYBBQUHAwEwHwYDVR0jBBgwFoAUF98ie6cw5p/5wXBHCKzU
eT8g0lUwHQYDVR0OBBYEFNvBNL9CTXEb0mM3ndGY8tEG4W/CMAoGCCqGSM49BAMC
A0gAMEUCIFbwmliNfEWGmadzKej8w2stUoZo9r4BrdVNsMAEC0tsAiEAhWmBVMpC
IzzhgdOaRaw/DQTlNWCfapdEFYkDszbT+NU=
-----END CERTIFICATE-----
"""
"""What it certifies: localhost and 127.0.0.1."""

CERTIFICATE_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgK2FTEm9UBMwi9iRV
B7QECGSLBhDHbmEHOKqT7JBTHCGhRANCAARDBpNB8SaPNpoqCStiTsRtZmb6aNRp
1HFRKAyYiymRSiU7nP7twZzAKp1qeVrJK3p7UNQcgH1hjK74m8u+pUCa
-----END PRIVATE KEY-----
"""

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8000
"""Two megabytes: more than all buffers between a client and a server on loopback hold."""


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture(autouse=True)
def _nothing_stays_open(open_handles: Callable[[], int]) -> Iterator[None]:
    """No socket outlives its test."""
    before = open_handles()
    yield
    assert open_handles() <= before


# ------------------------------------------------ surely not received: NotSent


@pytest.mark.parametrize("call", [get(), post()], ids=["get", "post"])
async def test_a_refused_connection_is_not_sent(call: HttpCall) -> None:
    """The error names the host."""
    async with connected(f"http://127.0.0.1:{closed_port()}") as transport:
        with pytest.raises(NotSent, match=r"127\.0\.0\.1 cannot be reached"):
            await transport.send(call)
        with pytest.raises(NotSent):
            await taken(transport, f"http://127.0.0.1:{closed_port()}/a.mp4")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".invalid", "a..b", "\u00e4\u00df.invalid"])
async def test_a_host_that_nobody_knows_is_not_sent(host: str) -> None:
    """A name without an address, and one that can have none."""
    async with connected(f"http://{host}") as transport:
        for call in (get(), post()):
            with pytest.raises(NotSent if call.body else TransportError):
                await transport.send(call)


async def test_a_host_that_does_not_speak_tls_is_not_sent() -> None:
    """Nor is anything told in the clear to it."""
    async with (
        hosting(raw(b"HTTP/1.1 200 OK\r\n\r\n")) as host,
        connected(f"https://127.0.0.1:{host.port}") as transport,
    ):
        with pytest.raises(NotSent):
            await transport.send(post())
        assert host.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_not_sent(tls: ssl.SSLContext) -> None:
    """The key is not given to whoever happens to answer."""
    async with hosting(ssl=tls) as host, connected(f"https://localhost:{host.port}") as transport:
        with pytest.raises(NotSent, match="certificate"):
            await transport.send(post())
        assert host.requests == []


async def test_a_server_that_leaves_before_the_body_is_out_did_not_get_it() -> None:
    """Most of the body was never asked for."""
    async with hosting(raw(read_body=False)) as host, connected(host.url) as transport:
        with pytest.raises(NotSent, match="before the request was out"):
            await transport.send(post(*[PICTURE] * 8))
        assert len(host.requests) == 1


async def test_a_server_that_reads_no_further_did_not_get_it() -> None:
    """A time-out while the body is on its way out is no lost answer."""
    async with hosting(deaf) as host, connected(host.url) as transport:
        with pytest.raises(NotSent):
            await transport.send(post(*[PICTURE] * 8, timeout=5.0))


async def deaf(request: Request) -> None:
    """Read nothing of the body until the client leaves."""
    await asyncio.sleep(100.0)


def as_it_is(path: Path) -> EncodedImage:
    """Return a file as it stands in a body, in the state that it has now."""
    return EncodedImage(ImageSource.of(path), state_of(path.stat()))


@pytest.mark.parametrize("size", [-1, 1])
async def test_an_image_of_another_size_than_was_told_is_not_sent(tmp_path: Path, size: int) -> None:
    """The body cannot be finished as it was announced: the service gets no whole request."""
    image = as_it_is(put(tmp_path / "a.png", PICTURE))
    other = evolve(image, state=evolve(image.state, size=len(PICTURE) + size))
    async with hosting() as host, connected(host.url) as transport:
        with pytest.raises(NotSent):
            await transport.send(post(b'{"a":"', other, b'"}'))
        assert all(request.body == b"" for request in host.requests)


async def test_an_image_that_changes_while_it_is_sent_is_not_sent(tmp_path: Path) -> None:
    """The last piece is held back until the file is found as it was at the first."""
    picture = PICTURE * 8  # not out before the host begins to read
    path = put(tmp_path / "a.png", picture)

    async def meddle(request: Request) -> None:
        put(path, picture[::-1])
        await request.read_body()

    async with hosting(meddle) as host, connected(host.url) as transport:
        call = post(b'{"a":"', as_it_is(path), b'"}')
        with pytest.raises(NotSent):
            await transport.send(call)
        assert [request.body for request in host.requests] == [b""]


async def test_an_image_that_is_gone_is_not_sent(tmp_path: Path) -> None:
    """It cannot be read when its turn comes."""
    source = ImageSource.of(tmp_path / "gone.png")
    async with hosting() as host, connected(host.url) as transport:
        with pytest.raises(NotSent):
            await transport.send(post(b'{"a":"', EncodedImage(source, ImageState(1000)), b'"}'))


async def test_an_error_of_the_encoders_own_is_not_sent() -> None:
    """Whatever it raises, the body was not finished."""

    class Broken:
        async def encoded(self, source: ImageSource, state: ImageState) -> AsyncIterator[bytes]:
            yield b"abcd"
            raise RuntimeError("the encoder broke")

    async with hosting() as host:
        transport = HttpTransport(host.url, KEY, Broken(), connect_timeout=5.0)
        with pytest.raises(NotSent, match="the encoder broke"):
            await transport.send(post(EncodedImage(ImageSource.of(b"abcdef"), ImageState(6)), b"x"))
        await transport.aclose()


async def test_a_handshake_that_does_not_come_is_not_sent() -> None:
    """A time-out before there is a connection is no lost answer: nothing was told yet."""
    async with hosting() as host, connected(f"https://127.0.0.1:{host.port}", connect_timeout=2.0) as transport:
        with pytest.raises(NotSent):
            await transport.send(post(timeout=3.0))


# ------------------------------------------------ perhaps received: AnswerLost


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
        b"this is not HTTP at all, whatever it is\r\n\r\n",
        b"\x16\x03\x01\x00\xff\x00",
        b"HTTP/1.1 abc\r\n\r\n",
    ],
)
@pytest.mark.parametrize("call", [get(), post(), post(PICTURE)], ids=["get", "post", "large"])
async def test_an_answer_that_cannot_be_read_is_lost(data: bytes, call: HttpCall) -> None:
    """None, half of one, or no HTTP: the request was out, and may have been acted on."""
    async with hosting(raw(data)) as host, connected(host.url) as transport:
        with pytest.raises(AnswerLost):
            await transport.send(call)
        assert host.requests[0].body == b"".join(part for part in call.body if isinstance(part, bytes))


async def test_an_answer_that_does_not_come_is_lost() -> None:
    """The call's own time counts for all of it, and the error tells it."""
    async with hosting(silence) as host, connected(host.url) as transport:
        began = now()
        with pytest.raises(AnswerLost, match=r"no answer from 127\.0\.0\.1 to POST within 7 s"):
            await transport.send(post(timeout=7.0))
        assert 7.0 <= now() - began < 7.5


async def test_an_answer_that_drips_is_lost_in_time() -> None:
    """A byte now and then does not keep a call alive."""

    async def drip(request: Request) -> None:
        await request.read_body()
        await request.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not request.reader.at_eof():
            await request.say(b"x")
            await asyncio.sleep(1.0)

    async with hosting(drip) as host, connected(host.url) as transport:
        began = now()
        with pytest.raises(AnswerLost):
            await transport.send(get(timeout=20.0))
        assert now() - began < 21


# -------------------------------------------------------- connections, redirects


async def test_a_post_never_goes_over_a_used_connection() -> None:
    """An idle connection that closes at the wrong moment would look like a lost answer."""
    async with hosting() as host, connected(host.url) as transport:
        for call in (get(), post(), get(), post(), post(), get()):
            await transport.send(call)
        posts = [request.connection for request in host.requests if request.line.startswith("POST")]
        gets = {request.connection for request in host.requests if request.line.startswith("GET")}
        assert len(set(posts)) == 3
        assert len(gets) == 1
        assert not gets & set(posts)
        assert all(r.headers["connection"] == "close" for r in host.requests if r.line.startswith("POST"))


@pytest.mark.parametrize("after", [raw(), silence], ids=["closed", "silent"])
async def test_a_post_is_sent_once(after: Any) -> None:
    """Whatever comes of it, and though earlier ones were answered."""
    async with hosting(answer(), after, answer()) as host, connected(host.url) as transport:
        await transport.send(post())
        with pytest.raises(AnswerLost):
            await transport.send(post(timeout=3.0))
        assert len(host.requests) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """Neither of a POST nor of a GET nor of a download: it is an answer, and one request was made."""
    async with hosting() as other, hosting(answer(status, location=f"{other.url}/x")) as host:
        async with connected(host.url) as transport:
            assert (await transport.send(post())).status == status
            assert (await transport.send(get())).status == status
            async with transport.fetch(f"{host.url}/a", headers={}, stall_after=5.0) as download:
                assert (download.status, download.headers["location"]) == (status, f"{other.url}/x")
        assert (len(host.requests), len(other.requests)) == (3, 0)


# -------------------------------------------------------------- what is sent


async def test_a_body_with_images_is_what_was_announced(tmp_path: Path) -> None:
    """Byte for byte the JSON that a whole document would be, of files and of bytes, under its own length."""
    file = put(tmp_path / "a.png", PICTURE)
    request = ImageToVideo(file, '日本 "quoted"', tail_image=PICTURE[:100_001], extra={"a": [1, None]})
    states = {"image": state_of(file.stat()), "tail_image": ImageState(100_001)}
    sized = {name: SizedImage("image/png", state) for name, state in states.items()}
    call = encode_submit(request, sized, client_request_id="ka1.x", timeout=30.0)
    async with hosting() as host, connected(host.url) as transport:
        await transport.send(call)
        (got,) = host.requests
    assert got.headers["content-length"] == str(len(got.body)) == str(call.content_length)
    assert "transfer-encoding" not in got.headers
    assert json.loads(got.body) == {
        "model": request.model,
        "image_url": "data:image/png;base64," + base64.b64encode(PICTURE).decode(),
        "prompt": '日本 "quoted"',
        "tail_image_url": "data:image/png;base64," + base64.b64encode(PICTURE[:100_001]).decode(),
        "duration": 5,
        "a": [1, None],
    }


@pytest.mark.parametrize("size", [1, 2, 3, 4, 196_607, 196_608, 196_609])
async def test_images_of_every_remainder_fit_their_length(tmp_path: Path, size: int) -> None:
    """Padding stands at the end alone."""
    content = PICTURE[:size]
    call = post(b"<", as_it_is(put(tmp_path / "a", content)), b">")
    async with hosting() as host, connected(host.url) as transport:
        await transport.send(call)
        assert host.requests[0].body == b"<" + base64.b64encode(content) + b">"


async def test_the_key_goes_with_every_call() -> None:
    """As a bearer's, once, beside the call's own headers and the name of this package."""
    async with hosting() as host, connected(host.url) as transport:
        await transport.send(post())
        await transport.send(get())
    for request in host.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["user-agent"].startswith("kling-async/")
    assert host.requests[0].headers["x-id"] == "1"


@pytest.mark.parametrize(
    "generation_id",
    [
        "nJ8X-_abcdefghijklmno",
        "-begins_with_a_dash",
        "6d2f:kling-video/v1/standard/image-to-video",
        "1234567890123456789",
        "a b&c=d+e%2F#f?g",
        "日本/\u00e9",
        "..",
        "%3A",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/proxy/v9"])
async def test_ids_stand_encoded_on_the_wire(generation_id: str, prefix: str) -> None:
    """The raw request line holds the id as one encoded parameter, behind the base URL's own path."""
    async with hosting() as host, connected(host.url + prefix) as transport:
        await transport.send(encode_poll(generation_id, timeout=5.0))
    method, target, version = host.requests[0].line.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    assert target.isascii()
    assert not set(target.partition("?")[2]) & set(":/+#? ")
    assert urlsplit(target).path == f"{prefix}/v2/video/generations"
    assert parse_qs(urlsplit(target).query, strict_parsing=True) == {"generation_id": [generation_id]}


async def test_an_address_that_is_none_is_a_setting() -> None:
    """It is told as such, and nothing is sent."""
    async with connected("http://[::1") as transport:
        with pytest.raises(ConfigurationError, match="base_url"):
            await transport.send(get())


# -------------------------------------------------------------------- answers


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [MAX_REPLY, MAX_REPLY + 1, 3 * MAX_REPLY])
async def test_answers_are_read_up_to_a_mebibyte(size: int, *, chunked: bool) -> None:
    """A larger one is a ProtocolViolation that shows its beginning, with the status and the call's id."""

    async def act(request: Request) -> None:
        await request.read_body()
        length = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        head = f"HTTP/1.1 200 OK\r\nx-request-id: r1\r\nconnection: close\r\n{length}\r\n\r\n".encode()
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"a" * size) if chunked else b"a" * size
        await request.say(head + body)
        request.writer.close()

    async with hosting(act) as host, connected(host.url) as transport:
        if size <= MAX_REPLY:
            assert (await transport.send(post())).body == b"a" * size
            return
        with pytest.raises(ProtocolViolation, match="larger than 1 MiB") as refused:
            await transport.send(post())
    assert refused.value.excerpt == "a" * 200
    assert (refused.value.status, refused.value.request_id) == (200, "r1")


async def test_a_small_answer_that_unpacks_to_a_large_one_is_not_unpacked() -> None:
    """The bound is on what stands in memory, not on what came over the wire."""
    packed = gzip.compress(b"a" * 64 * MAX_REPLY)
    assert len(packed) < MAX_REPLY
    async with hosting(answer(200, packed, content_encoding="gzip")) as host, connected(host.url) as transport:
        with pytest.raises(ProtocolViolation, match="larger than 1 MiB"):
            await transport.send(get())


async def test_a_packed_answer_is_unpacked() -> None:
    """As servers do without being asked."""
    packed = gzip.compress(b'{"a": 1}')
    async with hosting(answer(200, packed, content_encoding="gzip")) as host, connected(host.url) as transport:
        assert (await transport.send(get())).body == b'{"a": 1}'


# ------------------------------------------------------------ where the key goes


def shows_key(error: BaseException) -> bool:
    return KEY in f"{error!s} {error!r} {getattr(error, 'excerpt', '')}"


@pytest.mark.parametrize(
    "act",
    [
        answer(500, f"your headers: Bearer {KEY}".encode()),
        answer(200, f'{{"id": "{KEY}", "again": "{KEY}"}}'.encode()),
    ],
)
async def test_a_key_that_an_answer_repeats_is_blotted_out(act: Any) -> None:
    """What comes in is shown, logged and kept."""
    async with hosting(act) as host, connected(host.url) as transport:
        reply = await transport.send(get())
    assert KEY.encode() not in reply.body
    assert b"***" in reply.body


async def test_a_key_in_a_header_of_an_answer_is_blotted_out() -> None:
    """An id of the call stands in every error."""
    async with hosting(answer(500, b"", x_request_id=f"for {KEY}")) as host, connected(host.url) as transport:
        reply = await transport.send(get())
    assert reply.headers["x-request-id"] == "for ***"


@pytest.mark.parametrize("size", [0, MAX_REPLY])
async def test_errors_do_not_show_the_key(size: int) -> None:
    """Neither that of an answer which is no HTTP but an echo, nor that of one which is too large."""

    async def echo(request: Request) -> None:
        await request.read_body()
        said = "\r\n".join([request.line, *(f"{name}: {value}" for name, value in request.headers.items())])
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {2 * size}\r\n\r\n" if size else ""
        await request.say(f"{head}authorization: Bearer {KEY}\r\n{said}\r\n\r\n{'a' * 2 * size}".encode())
        request.writer.close()

    async with hosting(echo) as host, connected(host.url) as transport:
        with pytest.raises(KlingError) as raised:
            await transport.send(post())
    assert not shows_key(raised.value)


async def test_the_key_and_cookies_never_go_to_a_file_host() -> None:
    """Not even to the service's own address, and though it set cookies before."""
    async with hosting(answer(set_cookie="session=abc; Path=/")) as host, connected(host.url) as transport:
        await transport.send(get())
        await transport.send(get())
        await taken(transport, f"{host.url}/a.mp4?sig=1")
        await taken(transport, f"{host.url}/a.mp4?sig=2")
    for request in host.requests:
        assert "cookie" not in request.headers
    for request in host.requests[2:]:
        assert "authorization" not in request.headers
        assert KEY not in "".join([request.line, *request.headers.values()])


async def test_a_signed_link_does_not_stand_in_an_error() -> None:
    """Its query is a secret."""
    async with hosting(raw()) as host, connected(host.url) as transport:
        for url in (f"{host.url}/a?ksSecret=s3cr3t", f"http://127.0.0.1:{closed_port()}/a?ksSecret=s3cr3t"):
            with pytest.raises(KlingError) as raised:
                await taken(transport, url)
            assert "s3cr3t" not in f"{raised.value!s} {raised.value!r}"


# ------------------------------------------------------------------ downloads


async def test_a_link_goes_out_as_it_was_given() -> None:
    """A signature is over the bytes of the query: nothing in it is encoded anew, or decoded."""
    query = "sig=a%2Fb+c%20d~e%7E&x=%E6%97%A5&y=1:2/3"
    async with hosting() as host, connected(host.url) as transport:
        await taken(transport, f"{host.url}/dir/a%20b.mp4?{query}")
        assert host.requests[0].line == f"GET /dir/a%20b.mp4?{query} HTTP/1.1"
        assert host.requests[0].headers["accept-encoding"] == "identity"


async def test_a_downloads_own_headers_are_sent() -> None:
    """The range that is asked for."""
    async with hosting() as host, connected(host.url) as transport:
        async with transport.fetch(host.url, headers={"Range": "bytes=5-"}, stall_after=5.0):
            pass
        assert host.requests[0].headers["range"] == "bytes=5-"


async def test_a_download_that_stalls_is_cut_in_time_and_a_slow_one_is_not() -> None:
    """Each byte gives another `stall_after` seconds; no total counts."""

    async def slow(request: Request) -> None:
        await request.read_body()
        await request.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(50):
            await asyncio.sleep(9.0)
            await request.say(b"x")
        await request.reader.read()

    async with hosting(slow) as host, connected(host.url) as transport:
        began, got = now(), b""
        with pytest.raises(AnswerLost, match="broke off"):
            async with transport.fetch(host.url, headers={}, stall_after=10.0) as download:
                async for piece in download.pieces():
                    got += piece
        assert got == b"x" * 50
        assert 460 <= now() - began < 461


@pytest.mark.parametrize(
    ("begin", "drip"),
    [(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), (b"HTTP/1.1 200 OK\r\nx: ", b"y")],
    ids=["hints", "a line"],
)
async def test_a_download_whose_head_never_ends_is_cut_in_time(begin: bytes, drip: bytes) -> None:
    """It would keep a place for ever: what comes is no byte of the video."""

    async def dripping(request: Request) -> None:
        await request.read_body()
        await request.say(begin)
        with contextlib.suppress(ConnectionError):
            while True:
                await request.say(drip)
                await asyncio.sleep(5.0)

    async with hosting(dripping) as host, connected(host.url) as transport:
        began = now()
        with pytest.raises(AnswerLost, match="gave no answer: timed out"):
            async with asyncio.timeout(600), transport.fetch(host.url, headers={}, stall_after=10.0):
                pass
        assert now() - began < 60


@pytest.mark.parametrize("url", ["http://", "http://[", "nothing", "http://a b/", "http://127.0.0.1:99999/"])
async def test_a_link_that_is_no_address_is_an_error_of_ours(url: str) -> None:
    """Whatever the service told, a KlingError is what comes of it."""
    async with connected("http://127.0.0.1:9") as transport:
        with pytest.raises(KlingError):
            await taken(transport, url)


async def test_calls_wherever_they_are_cancelled_leave_no_connection(
    cancel_everywhere: CancelEverywhere, open_handles: Callable[[], int], tmp_path: Path
) -> None:
    """A POST with an image, a GET, a download: after each the next call is answered, and no file is open."""
    picture = as_it_is(put(tmp_path / "a.png", PICTURE))
    made: list[tuple[HttpTransport, LocalImages]] = []
    async with hosting(answer(200, b"x" * 100)) as host:

        async def scenario() -> None:
            images = LocalImages()
            transport = HttpTransport(host.url, KEY, images, connect_timeout=5.0)
            made.append((transport, images))
            await transport.send(post(b"<", picture, b">"))
            await transport.send(get())
            await taken(transport, host.url)

        async def check() -> None:
            transport, images = made.pop()
            assert (await transport.send(get())).status == 200
            await transport.aclose()
            await images.aclose()

        assert await cancel_everywhere(scenario, check) >= 5


async def test_closing_is_done_though_it_is_cancelled() -> None:
    """A cancel scope strikes at every await: no connection stays."""
    async with hosting() as host:
        images = LocalImages()
        transport = HttpTransport(host.url, KEY, images, connect_timeout=5.0)
        await transport.send(get())
        with anyio.CancelScope() as scope:
            scope.cancel()
            await transport.aclose()
        await images.aclose()


# -------------------------------------------------------------- proxies and TLS


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """For calls and downloads: the whole address stands in the request line."""
    async with hosting() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        async with connected("http://api.example") as transport:
            assert (await transport.send(post())).status == 200
            await taken(transport, "http://cdn.example/a.mp4")
        lines = [request.line for request in proxy.requests]
    assert lines == ["POST http://api.example/v2/things HTTP/1.1", "GET http://cdn.example/a.mp4 HTTP/1.1"]
    assert "authorization" not in proxy.requests[1].headers


async def test_https_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is asked for a tunnel and never sees the key; one that refuses it means that nothing was sent."""
    async with hosting(answer(407, b"")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with connected("https://api.example") as transport:
            with pytest.raises(NotSent):
                await transport.send(post())
        assert proxy.requests[0].line == "CONNECT api.example:443 HTTP/1.1"
        assert KEY not in str(proxy.requests[0].headers)


async def test_a_proxy_that_is_away_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service did not get it."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    async with connected("http://api.example") as transport:
        with pytest.raises(NotSent):
            await transport.send(post())


@pytest.mark.parametrize("excepted", ["127.0.0.1", "localhost,127.0.0.1", "*"])
async def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, excepted: str) -> None:
    """What it names is reached directly."""
    async with hosting() as proxy, hosting() as host:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", excepted)
        async with connected(host.url) as transport:
            await transport.send(post())
            await taken(transport, f"{host.url}/a")
        assert (len(proxy.requests), len(host.requests)) == (0, 2)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's context with the certificate above."""
    certificate, key = (
        put(tmp_path / "server.pem", CERTIFICATE.encode()),
        put(tmp_path / "server.key", CERTIFICATE_KEY.encode()),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


CLIENT = """
import asyncio, sys
from kling_async.adapters.http import HttpTransport
from kling_async.adapters.images import LocalImages
from kling_async.types.exchange import HttpCall

async def main():
    transport = HttpTransport(sys.argv[1], "sk-0123456789", LocalImages(), connect_timeout=10.0)
    try:
        reply = await transport.send(HttpCall("GET", "/x", 10.0))
        print(reply.status)
    except Exception as error:
        print(type(error).__name__)
    finally:
        await transport.aclose()

asyncio.run(main())
"""


@pytest.mark.looptime(False)
@pytest.mark.parametrize(("known", "said"), [(True, "200"), (False, "NotSent")])
async def test_a_companys_own_authority_is_taken_from_the_environment(
    tmp_path: Path, tls: ssl.SSLContext, said: str, *, known: bool
) -> None:
    """`SSL_CERT_FILE` names it, as for other programs; without it the connection is refused."""
    environment = {"SSL_CERT_FILE": str(put(tmp_path / "ca.pem", CA.encode()))} if known else {}
    async with hosting(ssl=tls) as host:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CLIENT,
            f"https://localhost:{host.port}",
            env={"PATH": "", **environment},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert out.decode().strip() == said


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
