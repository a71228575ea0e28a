"""How many files the system lets this process have open, and the raising of that.

Connections count as files. What follows from the number is `kling_async.rules.handles`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

_MANY: Final = 1 << 20
"""What stands for a limit that there is not."""
_ENOUGH: Final = 65_536
"""Files that nobody here needs more of."""


def most_open_files() -> int:
    """Return how many files may be open at once."""
    if sys.platform == "win32":
        return _MANY
    import resource  # noqa: PLC0415  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else min(_MANY, soft)


def raise_open_files() -> None:
    """Take as many as the system permits a process to take: what it gives at first is often a few hundred."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a limit of its own below the hard one: then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
