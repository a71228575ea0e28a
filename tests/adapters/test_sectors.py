"""A file that grows by whole sectors: whatever comes in whatever pieces, what stands there is what came."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kling_async.adapters.sectors import SECTOR, Buffers, SectorFile

NOISE = random.Random(1).randbytes(5_000_000)


@contextmanager
def growing(folder: Path) -> Iterator[tuple[SectorFile, Path]]:
    """Open a file that grows."""
    path = folder / "part"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        yield SectorFile(handle, Buffers()), path
    finally:
        os.close(handle)


def holds(file: SectorFile, path: Path, content: bytes) -> bool:
    """Tell whether a file has these bytes at its front, and says so."""
    told = (file.size, file.digest.hexdigest()) == (len(content), hashlib.sha256(content).hexdigest())
    return told and path.read_bytes()[: file.size] == content


sizes = st.lists(st.integers(0, 3 * SECTOR) | st.integers(0, 2_000_000), max_size=4)


@settings(max_examples=40)
@given(appends=st.lists(sizes, max_size=4))
@example(appends=[[SECTOR], [SECTOR], [1], [SECTOR - 1], [0], []])
@example(appends=[[1_500_000, 100_000], [1], [1_569_000], [70_000, 4_000_000]])
def test_what_was_appended_stands_there(appends: list[list[int]]) -> None:
    """After each append: of bytes that fill a buffer, or pass it, or end within a sector."""
    with TemporaryDirectory() as folder, growing(Path(folder)) as (file, path):
        content = b""
        for append in appends:
            pieces = [NOISE[size % 997 :][:size] for size in append]
            file.append(pieces)
            content += b"".join(pieces)
            assert holds(file, path, content)


def test_it_begins_again(tmp_path: Path) -> None:
    """Nothing is left of what was thrown away, not even of a sector that was begun."""
    with growing(tmp_path) as (file, path):
        file.append([NOISE[:5000]])
        file.restart()
        assert holds(file, path, b"")
        file.append([NOISE[7000:7100]])
        assert holds(file, path, NOISE[7000:7100])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no way past the cache")
def test_it_goes_past_the_cache(tmp_path: Path) -> None:
    """Where the disk can: it is asked to, and never gives up on whole sectors."""
    with growing(tmp_path) as (file, path):
        if not file._direct:
            pytest.skip("the disk of the tests' folders cannot")
        file.append([NOISE])
        assert file._direct, "it gave up on the way"
        assert fcntl.fcntl(file.handle, fcntl.F_GETFL) & os.O_DIRECT
        assert holds(file, path, NOISE)


def test_what_cannot_go_past_the_cache_goes_through_it(tmp_path: Path) -> None:
    """Where a disk's sectors are larger than ours, or it took a part of one: no byte is lost by that."""
    with growing(tmp_path) as (file, path):
        file._write(memoryview(NOISE)[1:100], 0)
        assert path.read_bytes() == NOISE[1:100]
        file.append([NOISE[:5000]])
        assert holds(file, path, NOISE[:5000])


def test_as_many_buffers_as_are_in_use_at_once() -> None:
    """They are used again."""
    buffers = Buffers()
    for _ in range(10):
        with ExitStack() as stack:
            lent = [stack.enter_context(buffers.lent()) for _ in range(3)]
            assert len({id(view.obj) for view in lent}) == 3
    assert len(buffers._free) == 3
