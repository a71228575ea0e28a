"""Which links a download may follow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.rules.links import MAX_REDIRECTS, expiry_of, fault_of_link, is_local, is_private_host, redirected

QUICK = settings(deadline=None, max_examples=200)
PUBLIC = [
    "cdn.aimlapi.com",
    "CDN.AIMLAPI.COM.",
    "8.8.8.8",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "bücher.example",
    "1.2.3.4.example.com",
    "127.0.0.1.nip.example",
    "localhost.example.com",
    "a.b2",
]
PRIVATE = [
    "",
    "localhost",
    "LOCALHOST.",
    "api.localhost",
    "printer.local",
    "metadata.google.internal",
    "box.lan",
    "nas.home.arpa",
    "simulator",
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "１２７.0.0.1",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "0.0.0.0",  # noqa: S104  # nothing is bound to it
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",
    "224.0.0.1",
    "ff02::1",
]


def address(host: str, scheme: str = "https") -> str:
    return f"{scheme}://[{host}]/v.mp4" if ":" in host else f"{scheme}://{host}/v.mp4"


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_host_is_public(host: str) -> None:
    """By name, by address, in any case."""
    assert not is_private_host(host)
    assert fault_of_link(address(host), local_service=False) == ""


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_host_is_private(host: str) -> None:
    """However its address is written: a link must not lead into the caller's own network."""
    assert is_private_host(host)
    assert fault_of_link(address(host), local_service=False)


@pytest.mark.parametrize(
    "url", ["http://cdn.aimlapi.com/v.mp4", "HTTP://cdn.aimlapi.com/v.mp4", "http://cdn.aimlapi.com:443/v.mp4"]
)
def test_a_link_is_https(url: str) -> None:
    """The fault names the host, and not the query."""
    fault = fault_of_link(f"{url}?ksSecret=S2S2S2", local_service=False)
    assert "cdn.aimlapi.com" in fault
    assert "https" in fault
    assert "S2S2S2" not in fault


@pytest.mark.parametrize("host", [*PUBLIC, *(host for host in PRIVATE if host)])
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_a_local_service_may_link_anywhere(host: str, scheme: str) -> None:
    """Both rules are lifted together: its videos lie on its own machine."""
    assert fault_of_link(address(host, scheme), local_service=True) == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cdn.aimlapi.com/v.mp4",
        "/v.mp4",
        "//cdn.aimlapi.com/v.mp4",
        "ftp://cdn.aimlapi.com/v.mp4",
        "file:///etc/passwd",
        "data:video/mp4;base64,AAAA",
        "javascript:alert(1)",
        "https://",
        "https:///v.mp4",
        "https://?x",
        "https://[::1/v.mp4",
        "https://cdn.aimlapi.com:port/v.mp4",
        "https://cdn.aimlapi.com:99999/v.mp4",
    ],
)
@pytest.mark.parametrize("local", [True, False])
def test_what_is_no_address_is_never_followed(url: str, *, local: bool) -> None:
    """Not even of a local service."""
    assert fault_of_link(url, local_service=local)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080",
        "https://localhost",
        "http://simulator:80/api",
        "https://10.1.2.3",
        "http://[::1]:8080",
        "http://kling.internal",
    ],
)
def test_a_loopback_or_private_service_is_local(url: str) -> None:
    """Such as the simulator."""
    assert is_local(url)


@pytest.mark.parametrize(
    "url",
    ["https://api.aimlapi.com", "http://api.aimlapi.com", "http://8.8.8.8", "https://", "", "https://[::1", "nonsense"],
)
def test_no_other_service_is_local(url: str) -> None:
    """Plain http does not make an address one's own."""
    assert not is_local(url)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.example/w.mp4?x=1", "https://other.example/w.mp4?x=1"),
        ("/w.mp4", "https://cdn.example/w.mp4"),
        ("w.mp4", "https://cdn.example/a/w.mp4"),
        ("//other.example/w.mp4", "https://other.example/w.mp4"),
        ("?fresh=1", "https://cdn.example/a/v.mp4?fresh=1"),
        (" /a film%20.mp4?x=b c ", "https://cdn.example/a%20film%20.mp4?x=b%20c"),
        ("https://[bad", ""),
        ("//[bad", ""),
    ],
)
def test_a_redirect_leads_where_it_says(location: str, target: str) -> None:
    """Relative to where it was found; nowhere where that is no address."""
    assert redirected("https://cdn.example/a/v.mp4?old=1", location) == target


def test_redirects_come_to_an_end() -> None:
    """A few of them."""
    assert 1 <= MAX_REDIRECTS <= 10


@QUICK
@given(st.text(), st.text())
def test_any_text_is_judged(url: str, location: str) -> None:
    """A link, or a redirect, of any text is followed or refused; it is never an error of another kind."""
    for text in (url, f"https://{url}", f"https://{url}:{location}/", redirected("https://cdn.example/", location)):
        assert isinstance(fault_of_link(text, local_service=False), str)
        assert expiry_of(text) >= 0
        assert not (is_local(text) and fault_of_link(text, local_service=False) == "")


@pytest.mark.parametrize(
    ("query", "ends"),
    [
        ("cacheKey=00&ksSecret=ab&ksTime=6996dc99", 0x6996DC99),
        ("ksTime=6996DC99&x=1", 0x6996DC99),
        ("ksTime=0", 0),
        ("", 0),
        ("ksTime=", 0),
        ("ksTime=xyz", 0),
        ("ksTime=1" + "0" * 16, 0),
        ("notksTime=6996dc99", 0),
        ("x=ksTime=6996dc99", 0),
    ],
)
def test_a_link_tells_its_end(query: str, ends: int) -> None:
    """As the service writes it; one that tells nothing that can be read is taken for one that ends at any moment."""
    assert expiry_of(f"https://cdn.example/a.mp4?{query}") == ends
