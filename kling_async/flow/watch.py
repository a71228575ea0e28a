"""Those who wait for one generation, and what was seen of it so far. Data alone: whoever asks is the poller."""

from __future__ import annotations

import asyncio

from attrs import define, field

from kling_async.types.exchange import HttpCall
from kling_async.types.generation import Generation


@define
class Watch:
    """Those who wait for one generation."""

    future: asyncio.Future[Generation]
    """Its end, for all of them."""
    call: HttpCall
    """The call that asks for it."""
    began: float
    """When it was sent, by the loop's clock."""
    kind: str
    """What it is one of."""
    grace_until: float
    """Until when it means nothing that the service does not know it."""
    key: str | None
    """The row that it is of; None where it is of none."""
    waiting: int = 0
    """How many wait."""
    warned: set[str] = field(factory=set)
    """Statuses that nobody knows and that were told."""
    without_link: int = 0
    """Answers so far that it is finished, without a link to it."""

    def fail(self, error: Exception) -> None:
        """Tell those who wait why it has no end."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # those who wait read it again; nobody may be waiting any more
