"""HTTP through aiohttp: the only client-side import of it, beside its own `resolver`.

Moves calls and bytes, and tells apart what surely was not received from what may have been. It follows no redirect,
keeps no cookie, and tries nothing twice. The key goes to the service's own address, in `send`, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
from yarl import URL

from kling_async._version import __version__
from kling_async.adapters.http_body import Body, Encoder
from kling_async.adapters.resolver import PublicResolver
from kling_async.errors import AnswerLost, ConfigurationError, KlingError, NotSent, ProtocolViolation
from kling_async.rules.envelopes import shown
from kling_async.rules.links import is_local
from kling_async.types.exchange import HttpCall, HttpReply

MAX_REPLY: Final = 1024 * 1024
"""Bytes of an answer that are read at the most."""

_URLS_KEPT: Final = 2048
"""Addresses that are kept: more than generations are open at once, for most."""

_TIMES: Final = 2
"""How many times the seconds to connect and those of a stall the head of a file host's answer may take."""

_SHORTEST_KEY: Final = 6
"""Characters below which a text is too common to be blotted out; no key of the service's is so short."""

_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientProxyConnectionError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
)


class HttpTransport:
    """The service's calls and the file host's bytes.

    Args:
        base_url: The service's address; a path in it is kept.
        api_key: The bearer key.
        images: What encodes local images.
        connect_timeout: Seconds to open a connection.
    """

    def __init__(self, base_url: str, api_key: str, images: Encoder, *, connect_timeout: float) -> None:
        self._base = base_url
        self._key = api_key.encode()
        self._key_text = api_key
        self._authorization = {"Authorization": f"Bearer {api_key}"}
        self._url = lru_cache(_URLS_KEPT)(self._url_of)
        self._images = images
        self._connect_timeout = connect_timeout
        self._reused: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._files: aiohttp.ClientSession | None = None
        self._resolver: PublicResolver | None = None
        self._closed = False
        self._proxies = getproxies()

    async def send(self, call: HttpCall) -> HttpReply:
        """Send one call to the service, with the key, and read the whole answer."""
        body = Body(call, self._images)
        headers = {**dict(call.headers), **self._authorization}
        if call.body:
            headers["Content-Length"] = str(call.content_length)
        timeout = aiohttp.ClientTimeout(total=call.timeout, sock_connect=self._connect_timeout)
        url = self._url(call.path, call.query)
        try:
            async with self._session(fresh=call.fresh_connection).request(
                call.method,
                url,
                headers=headers,
                data=body.pieces() if call.body else None,
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxy_for(url),
            ) as response:
                headers = {name.lower(): self._blotted(value) for name, value in response.headers.items()}
                content = await _read_bounded(response)
        except _NEVER_SENT as error:
            raise NotSent(f"{url.host} cannot be reached: {self._words(error)}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._lost(call, body, url, error) from error
        reply = HttpReply(response.status, headers, self._blotted_bytes(content))
        if len(content) > MAX_REPLY:
            raise _too_large(reply)
        return reply

    def _blotted_bytes(self, content: bytes) -> bytes:
        """Blot out the key where an answer repeats it: what comes in here is shown, logged and kept."""
        return content.replace(self._key, b"***") if len(self._key) >= _SHORTEST_KEY else content

    def _blotted(self, text: str) -> str:
        if self._key_text not in text:
            return text
        return self._blotted_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def _words(self, error: BaseException) -> str:
        return self._blotted(_words(error))

    def _lost(self, call: HttpCall, body: Body, url: URL, error: Exception) -> KlingError:
        """Tell a body that was not finished from an answer that did not come."""
        if body.error is not None:
            return body.error if isinstance(body.error, KlingError) else NotSent(f"the body broke off: {body.error}")
        if not body.finished:
            return NotSent(f"the connection to {url.host} ended before the request was out: {self._words(error)}")
        if isinstance(error, TimeoutError):
            return AnswerLost(f"no answer from {url.host} to {call.method} within {call.timeout:g} s")
        return AnswerLost(f"the connection to {url.host} ended before the answer: {self._words(error)}")

    @asynccontextmanager
    async def fetch(self, url: str, *, headers: Mapping[str, str], stall_after: float) -> AsyncIterator[HttpDownload]:
        """Open a file host's answer, without the key.

        Raises:
            DownloadError: The host's name has private addresses only, and the service is not local itself.
        """
        try:
            target = URL(url, encoded=url.isascii())
            target.port  # noqa: B018  # it is read to hear whether it is one
        except ValueError as error:
            raise NotSent(f"the link is no address: {error}") from None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout, sock_read=stall_after)
        try:
            proxy = self._proxy_for(target)
            # Hints without end, or a head that drips, are bytes: no stall, and yet no answer.
            async with asyncio.timeout(_TIMES * (self._connect_timeout + stall_after)):
                response = await self._file_session(proxy).get(
                    target,
                    headers={"Accept-Encoding": "identity", **headers},
                    timeout=timeout,
                    allow_redirects=False,
                    proxy=proxy,
                )
        except _NEVER_SENT as error:
            raise NotSent(f"{target.host} cannot be reached: {_words(error)}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AnswerLost(f"{target.host} gave no answer: {_words(error)}") from error
        try:
            yield HttpDownload(response)
        finally:
            # Not released: a download that was cut short must not be drained.
            response.close()

    async def aclose(self) -> None:
        """Close all connections, also where the caller is cancelled; no call is sent from then on."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as stack:
                if self._resolver is not None:
                    stack.push_async_callback(self._resolver.close)
                for session in (self._reused, self._fresh, self._files):
                    if session is not None:
                        stack.push_async_callback(session.close)

    def _url_of(self, path: str, query: tuple[tuple[str, str], ...]) -> URL:
        """Make an address; a generation is asked for again and again, so they are kept for a while."""
        asked = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
        try:
            return URL(f"{self._base}{path}{'?' * bool(asked)}{asked}", encoded=self._base.isascii())
        except ValueError as error:
            raise ConfigurationError(f"base_url {self._base!r} is not an address: {error}") from None

    def _proxy_for(self, url: URL) -> str | None:
        """Return the proxy that the environment names for an address (`HTTPS_PROXY`, `NO_PROXY`)."""
        if not self._proxies or proxy_bypass(url.authority):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        """Return the session of connections that are reused, or of those that are not; made on first use."""
        if fresh:
            self._fresh = self._usable(self._fresh, force_close=True)
            return self._fresh
        self._reused = self._usable(self._reused, keepalive_timeout=30)
        return self._reused

    def _file_session(self, proxy: str | None) -> aiohttp.ClientSession:
        """Return the session of file hosts: no name leads it to a private address.

        A local service's files may lie anywhere, and a proxy resolves names itself.
        """
        if proxy is not None or is_local(self._base):
            return self._session(fresh=False)
        self._resolver = self._resolver or PublicResolver()
        self._files = self._usable(self._files, keepalive_timeout=30, resolver=self._resolver)
        return self._files

    def _usable(self, session: aiohttp.ClientSession | None, **options: Any) -> aiohttp.ClientSession:
        if self._closed:
            raise NotSent("the transport is closed")
        return session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, **options),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"kling-async/{__version__}"},
        )


class HttpDownload:
    """An answer of a file host that is still coming in."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = _lower(response.headers)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; what came together is one piece, however small a host's chunks are."""
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerLost(f"the download broke off: {_words(error)}") from error


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read a body as far as it is taken, and a little more where it goes on: it may unpack to far more than came."""
    stream = response.content
    content = await stream.readany()
    while len(content) <= MAX_REPLY and not stream.at_eof():
        content += await stream.readany()
    return content


def _too_large(reply: HttpReply) -> ProtocolViolation:
    return ProtocolViolation(
        "the answer is larger than 1 MiB",
        excerpt=shown(reply.excerpt(), 200),
        status=reply.status,
        request_id=reply.headers.get("x-request-id"),
    )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _words(error: BaseException) -> str:
    """Return an error's text without the query of any URL in it: a signed one is a secret."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message}"
    text = str(error) or type(error).__name__
    if isinstance(error, asyncio.TimeoutError):
        return "timed out"
    return " ".join(word.partition("?")[0] for word in text.split())
