"""Where the folders of tests lie: in memory where there is enough, for an fsync costs nothing there.

Under virtual time that is more than speed: while a thread waits for the disk, time goes on as on the wall, and a test
that is played beside others would see more of it pass than one that is played alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is made in it has a name that nobody else has
_ENOUGH: Final = 2**30
"""Bytes that must be free in it."""


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Make a folder, and remove it."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH
    with tempfile.TemporaryDirectory(dir=_MEMORY if roomy else None, prefix=prefix) as place:
        yield Path(place)
