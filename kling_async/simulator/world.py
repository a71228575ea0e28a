"""The jobs of the simulated service, as a state machine that is told the time.

A job is accepted or refused, gets a slot, runs, and ends once: charged or given back. Nothing ends unless the world is
told the time: `advance` first, then ask. This room must never ask for the time, wait, or roll other dice than its
seed's.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from attrs import frozen

from kling_async.simulator.book import AccountBook, Purchase
from kling_async.simulator.dice import draw_id, draw_seconds, make_dice
from kling_async.simulator.jobs import FATES, Fate, Job, Order
from kling_async.simulator.settings import CREDITS_PER_USD, MODEL, SimulatorSettings
from kling_async.simulator.usagelog import Entry, UsageLog

if TYPE_CHECKING:
    from collections.abc import Mapping

Refusal = Literal["limit", "credit"]

_LISTINGS: Final = ("acceptance", "end", "late", "never")


@frozen(kw_only=True)
class Bidder:
    """Who orders."""

    key: str
    """The bearer key."""

    request_id: str | None = None
    """The `X-Client-Request-Id`, if it is a good one."""

    call_id: str = ""
    """`x-request-id` of the answer."""


class World:
    """All jobs of one account.

    Args:
        settings: What the service is like.
        book: Where the money is written down; a new one if none is given.
    """

    def __init__(self, settings: SimulatorSettings, book: AccountBook | None = None) -> None:
        self.settings = settings
        self.book = AccountBook(start=round(settings.balance_usd * CREDITS_PER_USD)) if book is None else book
        self.log = UsageLog(settings.log_delay, settings.log_calls_per_minute)
        self._jobs: dict[str, Job] = {}
        self._line: deque[Job] = deque()
        self._endings: list[tuple[float, int, Job]] = []
        self._running = 0
        self._numbers = count()
        self._ids = make_dice(settings.seed, "ids")
        self._times = make_dice(settings.seed, "durations")
        self._listings = make_dice(settings.seed, "listings")

    # --------------------------------------------------------------- questions

    @property
    def jobs(self) -> Mapping[str, Job]:
        """All jobs by their ids, oldest first."""
        return self._jobs

    @property
    def running(self) -> int:
        """How many jobs hold a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many jobs wait for a slot."""
        return len(self._line)

    @property
    def next_ending(self) -> float | None:
        """When the next job ends, as a Unix time; None if none will."""
        return self._endings[0][0] if self._endings else None

    def status(self, job: Job, now: float) -> str:
        """Return the status that a poll is told."""
        return job.status(now, self.settings.way, self.settings.queued_share)

    # ------------------------------------------------------------------ events

    def advance(self, now: float) -> None:
        """Let everything happen that is due by now, in its order."""
        while self._endings and self._endings[0][0] <= now:
            moment, _, job = heappop(self._endings)
            self._end(job, moment)

    def accept(self, order: Order, bidder: Bidder, now: float, fate: Fate | None = None) -> Job | Refusal:
        """Take a job in, or say why not.

        Args:
            order: What is ordered.
            bidder: Who orders.
            now: The time.
            fate: What becomes of it; None: it is done.
        """
        self.advance(now)
        price = self.settings.price(order.duration)
        if self.book.balance < price:
            return "credit"
        full = self.settings.limit is not None and self._running >= self.settings.limit
        if full and self.settings.limit_policy == "refuse":
            return "limit"
        crowded = full and self.settings.limit_policy == "fail"
        chosen = FATES["error_1303"] if crowded else fate or Fate()
        job = self._make(order, bidder, now, chosen)
        self._enter(job, bidder)
        if full and not crowded:
            self._line.append(job)
        else:
            self._start(job, now, slot=not crowded)
        return job

    def revive(self, order: Order, bidder: Bidder, now: float, *, generation_id: str | None = None) -> Job:
        """Take over a job of an earlier world that is gone, as one that is done at once.

        Args:
            order: What was ordered.
            bidder: Who ordered.
            now: When it was ordered.
            generation_id: The id that the earlier world gave it; None: it gets one.
        """
        job = self._make(order, bidder, now, Fate())
        job.length = 0.0
        if generation_id is not None:
            job.purchase.generation_id = generation_id
        self._enter(job, bidder)
        self._start(job, now, slot=False)
        return job

    def note_refused(self, bidder: Bidder, now: float) -> None:
        """Note a submit that made no job, for the usage log."""
        if self.settings.log_refused:
            self.log.add(self._entry(bidder, now, None))

    def call_back_link(self, job: Job) -> None:
        """Make the link of today worthless; the next poll gives another."""
        job.link_serial += 1
        job.link_issued_at = None

    # ------------------------------------------------------------------ within

    def _make(self, order: Order, bidder: Bidder, now: float, fate: Fate) -> Job:
        purchase = Purchase(
            generation_id=self._fresh_id(),
            request_id=bidder.request_id,
            fingerprint=order.fingerprint,
            image_digest=order.image_digest,
            prompt=order.prompt,
            duration=order.duration,
            price=self.settings.price(order.duration),
            bought_at=now,
        )
        seconds = draw_seconds(self._times, self.settings, order.duration, len(self._jobs))
        length = inf if fate.stretch == inf else seconds * fate.stretch
        drawn = self._listings.choice(_LISTINGS)
        listing = drawn if self.settings.log_listing == "mixed" else self.settings.log_listing
        return Job(purchase=purchase, order=order, key=bidder.key, fate=fate, length=length, listing=listing)

    def _fresh_id(self) -> str:
        while (candidate := draw_id(self._ids, self.settings.id_style)) in self._jobs:
            continue
        return candidate

    def _enter(self, job: Job, bidder: Bidder) -> None:
        self.book.hold(job.purchase)
        self._jobs[job.id] = job
        self.log.add(self._entry(bidder, job.accepted_at, job))

    def _entry(self, bidder: Bidder, now: float, job: Job | None) -> Entry:
        kept = bidder.request_id if self.settings.echo_request_id else None
        return Entry(created=now, key=bidder.key, model=MODEL, call_id=bidder.call_id, request_id=kept, job=job)

    def _start(self, job: Job, now: float, *, slot: bool) -> None:
        job.started_at = now
        job.slotted = slot
        if slot:
            self._running += 1
            self.book.max_running_at_once = max(self.book.max_running_at_once, self._running)
        if job.length != inf:
            heappush(self._endings, (now + job.length, next(self._numbers), job))

    def _end(self, job: Job, now: float) -> None:
        job.ended = True
        self.book.settle(job.purchase, paid=job.done, now=now)
        if job.slotted:
            job.slotted = False
            self._running -= 1
            if self._line:
                self._start(self._line.popleft(), now, slot=True)
