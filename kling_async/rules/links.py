"""Which links a download may follow: https, to a public host; both rules are lifted where the service itself is local.

Pure: it looks at addresses as they are written, and resolves no name. What a name resolves to is judged by the same
rule before it is connected to (`is_private_host`).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from typing import Final
from urllib.parse import urljoin, urlsplit

MAX_REDIRECTS: Final = 5
"""Redirects of a file host that are followed, each held to the same rules."""

_LOCAL_ENDINGS: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_EXPIRY: Final = re.compile(r"(?:^|&)ksTime=([0-9a-fA-F]{1,16})(?:&|\Z)")
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")


def is_local(url: str) -> bool:
    """Tell whether an address is somebody's own: loopback, private, or a name without a dot."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return bool(host) and is_private_host(host or "")


def is_private_host(host: str) -> bool:
    """Tell whether a host is, as it is written, not on the public internet."""
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    try:
        return not _is_public(ipaddress.ip_address(name))
    except ValueError:
        # A name that ends in a number is an address in disguise: 127.1, 0x7f.0.0.1.
        return "." not in name or name.endswith(_LOCAL_ENDINGS) or bool(_NUMBER.match(name.rpartition(".")[2]))


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an address is one of the public internet's, also the one of version 4 that stands in one of 6."""
    if isinstance(address, ipaddress.IPv6Address):
        number = int(address)
        if address in _NAT64 or number >> 32 in {0, 0xFFFF}:
            return _is_public(ipaddress.IPv4Address(number & 0xFFFFFFFF))
        if address.sixtofour is not None:
            return _is_public(address.sixtofour)
    return address.is_global and not address.is_multicast


def fault_of_addresses(host: str, addresses: Sequence[str]) -> str:
    """Return why a host may not be connected to that resolves to private addresses alone."""
    return f"the link's host {host} has the private address {', '.join(addresses)}"


def fault_of_link(url: str, *, local_service: bool) -> str:
    """Return why a link may not be followed; empty where it may."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  # it is read to hear whether it is a number
    except ValueError:
        return "the link is no address"
    if parts.scheme not in {"http", "https"} or not host:
        return "the link is no http(s) address"
    if local_service:
        return ""
    if parts.scheme != "https":
        return f"the link to {host} is not https"
    return f"the link leads to the private address {host}" if is_private_host(host) else ""


def expiry_of(url: str) -> float:
    """Return when a link ends, in Unix seconds, as it tells itself (`ksTime`, hexadecimal); 0 where it does not.

    One that does not tell may end in minutes. Nothing is refused by this: a link that looks expired is tried all the
    same.
    """
    try:
        found = _EXPIRY.search(urlsplit(url).query)
    except ValueError:
        return 0.0
    return float(int(found[1], 16)) if found else 0.0


def redirected(url: str, location: str) -> str:
    """Return where a redirect leads; a space in it, which no request could hold, is encoded."""
    try:
        return urljoin(url, location.strip().replace(" ", "%20"))
    except ValueError:
        return ""
