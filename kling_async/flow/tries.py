"""What a run keeps in mind of the POSTs of a row that bought nothing: how many, and whether the last may be repeated.

For this process alone: nothing of it is in the journal. It must never count what was no fault of the row's.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

_MOST_IN_VAIN: Final = 20
"""POSTs of one row that this process saw taken and come to nothing, for a reason that looks like the service's, after
which it is taken for the row's own."""


_MOST_LOOKS: Final = 20
"""Tries of one row that did not leave since an image of it had changed, after which that is the row's own trouble."""


class Tries:
    """The tries of the rows in flight, by their keys."""

    def __init__(self) -> None:
        self._in_vain: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()
        self._once_more = set[str]()

    def is_in_vain(self, key: str) -> bool:
        """Count a POST that was taken and came to nothing; tell whether it is no use to try again in this process.

        What was surely never taken is not counted: a refused connection and a 429 are no row's fault.
        """
        self._in_vain[key] += 1
        return self._in_vain[key] >= _MOST_IN_VAIN

    def is_restless(self, key: str) -> bool:
        """Count a POST that did not leave since an image had changed; tell whether it is no use to look at it anew."""
        self._changes[key] += 1
        return self._changes[key] >= _MOST_LOOKS

    def in_vain(self, key: str) -> int:
        """Return how many of a row's POSTs were taken and came to nothing."""
        return self._in_vain[key]

    def came_to_nothing(self, key: str) -> None:
        """Note that a POST bought nothing for a reason that is not the row's: it may be repeated."""
        self._once_more.add(key)

    def once_more(self, key: str) -> bool:
        """Tell whether the last POST came to nothing so; each is told once."""
        told = key in self._once_more
        self._once_more.discard(key)
        return told

    def forget(self, key: str) -> None:
        """Forget a row that has ended."""
        self._in_vain.pop(key, None)
        self._changes.pop(key, None)
        self._once_more.discard(key)
