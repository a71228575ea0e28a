"""The memory of large pieces: kept by the process when it is freed, and used again for the next ones.

Videos come in and images go out in pieces of some hundred kilobytes, thousands a second. This room must never ask for
more than the allocator offers to every program.
"""

from __future__ import annotations

from typing import Final

_LARGE: Final = 4 * 1024 * 1024
"""Bytes. All pieces are smaller, and a block of a video is."""


def keep_freed() -> None:
    """Let the allocator keep the memory of freed pieces, up to some megabytes.

    glibc gives memory of more than 128 KiB back to the system as soon as it is free, and fetches it anew, page by page,
    unless it has seen that a program frees larger blocks: from then on it keeps up to twice as much. One that is never
    written to costs nothing. Other allocators do not mind.
    """
    bytes(_LARGE)
