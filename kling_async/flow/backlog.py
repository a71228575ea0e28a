"""Which of the watched generations the service has not begun, by its own word: what is told to admission.

A service that queues refuses nobody; without this, the search for the limit would fill its queue. Nothing here decides
how many may be open.
"""

from __future__ import annotations

from collections.abc import Callable


class Backlog:
    """The generations that the service keeps in its queue.

    Args:
        tell: Is told two numbers when one of them changes: how many have been in the queue for long; and how many are
            not known to have begun: queued, for however long, or not asked yet.
    """

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._long = set[str]()
        self._unbegun = set[str]()

    def note(self, generation_id: str, *, long: bool = False, unbegun: bool = False) -> None:
        """Take note of one; neither, where it runs or has ended."""
        before = len(self._long), len(self._unbegun)
        for holds, those in ((long, self._long), (unbegun, self._unbegun)):
            (those.add if holds else those.discard)(generation_id)
        after = len(self._long), len(self._unbegun)
        if after != before:
            self._tell(*after)
