"""The wall's clock."""

from __future__ import annotations

import time


class SystemClock:
    """The system's own clock."""

    def wall(self) -> float:
        """Return Unix seconds."""
        return time.time()
