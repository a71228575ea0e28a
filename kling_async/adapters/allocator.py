"""The memory of large pieces: kept by the process when it is freed, and used again for the next ones.

Videos come in and images go out in pieces of some hundred kilobytes, thousands a second. What is set here holds for the
whole process; it must never change what a program has set itself (`MALLOC_MMAP_THRESHOLD_`, `mallopt`).
"""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 1024 * 1024
"""Bytes: larger than a piece of an image that is sent, or of a video that is received."""


def keep_freed() -> None:
    """Let the allocator keep the memory of freed pieces, up to twice `_SHOWN` for each thread.

    glibc maps a block of 128 KiB or more for itself, and unmaps it when it is freed: a fault for each page the next
    time. Once it has seen a mapped block freed, it takes smaller ones from its heap, and leaves twice as much free at
    the end of it. The block that it is shown here is never written to, and costs nothing. Other allocators do not mind.
    """
    bytes(_SHOWN)
