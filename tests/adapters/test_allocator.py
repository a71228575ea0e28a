"""Freed memory is used again: measured in page faults, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from kling_async.adapters.image_reader import PIECE

COUNTED = """
import resource
from kling_async.adapters.allocator import keep_freed
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def blocks(count):
    for _ in range(count):
        [bytes(bytearray(b"x") * 262144) for _ in range(4)]  # a block of a video, in pieces
blocks(5)
before = faults()
blocks(200)
print(faults() - before)
"""


def faults(first: str) -> int:
    """Return the faults of 200 blocks that are made and freed."""
    code = COUNTED.format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its own way")
def test_the_memory_of_freed_pieces_is_used_again() -> None:
    """Without it the system gives the same pages again and again."""
    assert faults("keep_freed()") < 2000 < faults("")


def test_pieces_of_an_image_are_padded_at_its_end_alone() -> None:
    """Base64 takes three bytes at a time."""
    assert PIECE % 3 == 0
