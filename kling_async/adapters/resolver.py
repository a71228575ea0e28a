"""The names of file hosts, resolved to public addresses alone: a part of `http`.

A name may be public as it is written and lead into the caller's own network all the same, today or by the next answer
of its name server. What is connected to is exactly what was judged here: nothing resolves the name a second time.
"""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from kling_async.errors import DownloadError
from kling_async.rules.links import fault_of_addresses, is_private_host


class PublicResolver(AbstractResolver):
    """Resolves as the system does, and gives public addresses only."""

    def __init__(self) -> None:
        self._system = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the public addresses of a name.

        Raises:
            DownloadError: It has none but private ones.
            OSError: It has none at all.
        """
        found = await self._system.resolve(host, port, family)
        public = [address for address in found if not is_private_host(address["host"])]
        if found and not public:
            raise DownloadError(
                f"{fault_of_addresses(host, [address['host'] for address in found])}: it is not followed"
            )
        return public

    async def close(self) -> None:
        """Close the system's resolver."""
        await self._system.close()
