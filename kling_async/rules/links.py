"""Which links a download may follow: https, to a public host; both rules are lifted where the service itself is local.

Pure: it looks at the address as it is written, and resolves no name.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urljoin, urlsplit

MAX_REDIRECTS: Final = 5
"""Redirects of a file host that are followed, each held to the same rules."""

_LOCAL_ENDINGS: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def is_local(url: str) -> bool:
    """Tell whether an address is somebody's own: loopback, private, a name without a dot, or plain http."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "http" or is_private_host(parts.hostname or "")


def is_private_host(host: str) -> bool:
    """Tell whether a host is, as it is written, not on the public internet."""
    name = host.rstrip(".").lower()
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        return "." not in name or name.endswith(_LOCAL_ENDINGS)


def fault_of_link(url: str, *, local_service: bool) -> str:
    """Return why a link may not be followed; empty where it may."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "the link is no address"
    if parts.scheme not in {"http", "https"} or not host:
        return "the link is no http(s) address"
    if local_service:
        return ""
    if parts.scheme != "https":
        return f"the link to {host} is not https"
    return f"the link leads to the private address {host}" if is_private_host(host) else ""


def redirected(url: str, location: str) -> str:
    """Return where a redirect leads."""
    try:
        return urljoin(url, location)
    except ValueError:
        return ""
