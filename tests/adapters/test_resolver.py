"""A public name that leads into the caller's own network is not followed there: it is judged by what it resolves to."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kling_async import DownloadError
from kling_async.adapters.http import HttpTransport
from kling_async.adapters.resolver import PublicResolver
from kling_async.errors import NotSent
from kling_async.flow.downloader import Downloader, Parcel
from kling_async.ports import Download
from kling_async.testing import MemoryStore, ScriptedDownload
from kling_async.types.generation import RemoteVideo
from kling_async.types.settings import AdmissionSettings, DownloadSettings
from tests.contracts.test_transport import connected, get, hosting, taken

pytestmark = pytest.mark.looptime

Names = dict[str, Sequence[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names that the system's resolver knows, with their addresses; a name that is not here, it does not know."""
    known: Names = {"127.0.0.1": ["127.0.0.1"]}

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in known[host]]
        rest = {socket.AF_INET6: (port, 0, 0), socket.AF_INET: (port,)}
        found = zip(kinds, known[host], strict=True)
        return [(kind, socket.SOCK_STREAM, 6, "", (address, *rest[kind])) for kind, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


PRIVATE = [
    "127.0.0.1",
    "10.0.0.7",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "::1",
    "fd00::7",
    "::ffff:127.0.0.1",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_with_a_private_address_is_not_connected_to(names: Names, address: str) -> None:
    """The error tells the name and the address, and nobody heard a thing."""
    names["cdn.example"] = [address]
    async with hosting() as host, connected("https://api.example") as transport:
        with pytest.raises(DownloadError, match=r"cdn\.example has the private address .*not followed"):
            await taken(transport, f"http://cdn.example:{host.port}/a.mp4?sig=1")
        assert host.connections == 0


async def test_of_several_addresses_the_public_ones_are_left(names: Names) -> None:
    """A name server that mixes them in gains nothing by it."""
    names["cdn.example"] = ["127.0.0.1", "8.8.8.8", "::1", "2606:4700:4700::1111"]
    found = await PublicResolver().resolve("cdn.example", 443)
    assert [address["host"] for address in found] == ["8.8.8.8", "2606:4700:4700::1111"]


async def test_a_name_that_changes_its_mind_is_judged_anew(names: Names) -> None:
    """What was public at the first look is refused at the second: no look is before the one that is connected by."""
    resolver = PublicResolver()
    names["cdn.example"] = ["8.8.8.8"]
    assert await resolver.resolve("cdn.example", 443)
    names["cdn.example"] = ["127.0.0.1"]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1"):
        await resolver.resolve("cdn.example", 443)


async def test_a_name_that_nobody_knows_is_trouble_and_no_fault(names: Names) -> None:
    """It is tried again, as ever."""
    async with connected("https://api.example") as transport:
        with pytest.raises(NotSent, match=r"cdn\.example cannot be reached"):
            await taken(transport, "https://cdn.example/a.mp4")


async def test_a_local_services_files_may_lie_on_a_local_name(names: Names) -> None:
    """Its links are lifted from the rule, those of a name among them."""
    names["files.example"] = ["127.0.0.1"]
    async with hosting() as host, connected("http://localhost:9") as transport:
        await taken(transport, f"http://files.example:{host.port}/a.mp4")
        assert len(host.requests) == 1


async def test_the_services_own_calls_may_go_to_a_private_address(names: Names) -> None:
    """Its address is a setting: whoever gave it knows where it leads."""
    names["api.example"] = ["127.0.0.1"]
    async with hosting() as host, connected(f"http://api.example:{host.port}") as transport:
        await transport.send(get())
        with pytest.raises(DownloadError, match="not followed"):
            await taken(transport, f"http://api.example:{host.port}/a.mp4")
        assert len(host.requests) == 1


async def test_a_proxy_may_have_a_private_address(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the caller's own network, and resolves the names itself."""
    names["proxy.example"] = ["127.0.0.1"]
    async with hosting() as proxy:
        monkeypatch.setenv("http_proxy", f"http://proxy.example:{proxy.port}")
        async with connected("https://api.example") as transport:
            await taken(transport, "http://cdn.example/a.mp4")
        assert [request.line for request in proxy.requests] == ["GET http://cdn.example/a.mp4 HTTP/1.1"]


class Redirecting:
    """A file host on the public internet that redirects; everything else goes over the real transport.

    Args:
        transport: The real one.
        location: Where it redirects to.
    """

    def __init__(self, transport: HttpTransport, location: str) -> None:
        self._transport = transport
        self._location = location
        self.fetched: list[str] = []

    @asynccontextmanager
    async def fetch(self, url: str, **options: Any) -> AsyncIterator[Download]:
        self.fetched.append(url)
        if len(self.fetched) == 1:
            yield ScriptedDownload(302, {"location": self._location}, [])
        else:
            async with self._transport.fetch(url, **options) as download:
                yield download


async def _fetch(transport: Any) -> None:
    """Fetch a video of a public service from its public link."""

    async def fresh() -> RemoteVideo:
        raise AssertionError("no link is asked for: another would lead nowhere else")

    async def verified(_: object) -> None:
        raise AssertionError("nothing was fetched")

    loader = Downloader(
        transport,
        MemoryStore(),
        DownloadSettings(),
        pauses=AdmissionSettings(),
        dice=random.Random(1),
        local_service=False,
        wait_for_room=True,
    )
    video = RemoteVideo("https://cdn.example/a.mp4?sig=1")
    await loader.fetch(Parcel("a.mp4", video, "gen-1", fresh_link=fresh, verified=verified))


async def test_a_redirect_to_such_a_name_is_not_followed(names: Names) -> None:
    """Nor is it tried again: it is no trouble that passes. The error tells the generation."""
    names["inside.example"] = ["10.0.0.7"]
    async with hosting() as host, connected("https://api.example") as transport:
        way = Redirecting(transport, f"https://inside.example:{host.port}/latest/meta-data")
        with pytest.raises(DownloadError, match=r"inside\.example has the private address 10\.0\.0\.7") as raised:
            await _fetch(way)
        assert raised.value.generation_id == "gen-1"
        assert len(way.fetched) == 2
        assert host.connections == 0
