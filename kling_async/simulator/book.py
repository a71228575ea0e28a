"""The account book: who bought what, what it cost, and what was asked of the service.

It is the tests' witness: it is written by the simulator alone, and never by what a client says of itself. It must never
decide anything, nor forget a purchase.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Literal

import attrs
from attrs import Factory, define

from kling_async.simulator.settings import CREDITS_PER_USD


@define(kw_only=True)
class Purchase:
    """One accepted job, from the account's side."""

    generation_id: str
    """The generation that was bought."""

    request_id: str | None
    """The `X-Client-Request-Id` of the submit; None if there was none, or a bad one."""

    fingerprint: str
    """SHA-256 of the submit's body as canonical JSON."""

    image_digest: str
    """SHA-256 of the submitted image's bytes, or of its URL."""

    prompt: str
    """The prompt; empty if there was none."""

    duration: int
    """Length of the clip, in seconds."""

    price: int
    """What is held until the end, in credits."""

    bought_at: float
    """When the job was accepted, as a Unix time."""

    state: Literal["held", "charged", "refunded"] = "held"
    """Held until the job ends; then charged, or refunded if it failed."""

    charged: int = 0
    """What was paid in the end, in credits."""

    ended_at: float | None = None
    """When the job ended, as a Unix time."""

    noticed_at: float | None = None
    """When a poll was first answered with the job's end, as a Unix time."""

    links: int = 0
    """How many polls were answered with a link to the video."""


@define(kw_only=True)
class AccountBook:
    """The one account: its money, its purchases, and every call made for it."""

    start: int
    """What was on the account at the start, in credits."""

    charges: int = 0
    """The sum of all that was charged, in credits."""

    holds: int = 0
    """The sum of all that is held for open jobs, in credits."""

    purchases: dict[str, Purchase] = Factory(dict)
    """Every purchase by its generation id, oldest first."""

    calls: Counter[str] = Factory(Counter)
    """How many calls of each operation arrived (submit, poll, log, balance, price, download), answered or not."""

    refused: Counter[int] = Factory(Counter)
    """How many submits were answered with each HTTP status of 300 and above."""

    polls_by_id: Counter[str] = Factory(Counter)
    """How many polls asked for each id."""

    downloads_by_id: Counter[str] = Factory(Counter)
    """How many GETs and HEADs came for each generation's video."""

    request_ids: Counter[str] = Factory(Counter)
    """How many submits carried each `X-Client-Request-Id`, good or bad, accepted or not."""

    troubles: Counter[tuple[str, str]] = Factory(Counter)
    """How often each trouble befell: (operation, kind)."""

    key_leaks: list[str] = Factory(list)
    """Each request to the CDN that carried an Authorization header or a key: method and path."""

    unclean_polls: list[str] = Factory(list)
    """Ids asked for that no job ever had."""

    open_now: int = 0
    """How many accepted jobs have not ended."""

    max_open_at_once: int = 0
    """The most jobs that were accepted and not ended, at any time."""

    max_running_at_once: int = 0
    """The most jobs that held a slot, at any time."""

    _by_fingerprint: defaultdict[str, list[Purchase]] = Factory(lambda: defaultdict(list))
    _by_request_id: defaultdict[str, list[Purchase]] = Factory(lambda: defaultdict(list))

    # ------------------------------------------------------------------ money

    @property
    def balance(self) -> int:
        """What can still be spent, in credits: start - charges - holds."""
        return self.start - self.charges - self.holds

    @property
    def spent_usd(self) -> float:
        """What was charged, in USD."""
        return self.charges / CREDITS_PER_USD

    def hold(self, purchase: Purchase) -> None:
        """Enter an accepted job and hold its price."""
        self.holds += purchase.price
        self.purchases[purchase.generation_id] = purchase
        self._by_fingerprint[purchase.fingerprint].append(purchase)
        if purchase.request_id is not None:
            self._by_request_id[purchase.request_id].append(purchase)
        self.open_now += 1
        self.max_open_at_once = max(self.max_open_at_once, self.open_now)

    def settle(self, purchase: Purchase, *, paid: bool, now: float) -> None:
        """Enter a job's end: charge what was held, or give it back.

        Raises:
            ValueError: The job has ended before.
        """
        if purchase.state != "held":
            raise ValueError(f"{purchase.generation_id} ended twice")
        self.holds -= purchase.price
        self.open_now -= 1
        purchase.ended_at = now
        purchase.state = "charged" if paid else "refunded"
        if paid:
            purchase.charged = purchase.price
            self.charges += purchase.price

    # ---------------------------------------------------------------- queries

    def bought(self) -> list[Purchase]:
        """Return all purchases, oldest first; failed ones too."""
        return list(self.purchases.values())

    def paid(self) -> list[Purchase]:
        """Return the purchases that were charged."""
        return [purchase for purchase in self.purchases.values() if purchase.state == "charged"]

    def bought_for(self, fingerprint: str) -> list[Purchase]:
        """Return the purchases of one request body."""
        return list(self._by_fingerprint.get(fingerprint, ()))

    def by_request_id(self, request_id: str) -> list[Purchase]:
        """Return the purchases made under one `X-Client-Request-Id`."""
        return list(self._by_request_id.get(request_id, ()))

    def duplicates(self) -> list[list[Purchase]]:
        """Return each group of purchases of the same body of which more than one was not refunded."""
        groups = ([one for one in group if one.state != "refunded"] for group in self._by_fingerprint.values())
        return [group for group in groups if len(group) > 1]

    @property
    def submits_seen(self) -> int:
        """How many submits arrived."""
        return self.calls["submit"]

    @property
    def polls_seen(self) -> int:
        """How many polls arrived."""
        return self.calls["poll"]

    @property
    def downloads_seen(self) -> int:
        """How many requests arrived at the CDN."""
        return self.calls["download"]

    @property
    def key_sent_to_cdn(self) -> bool:
        """Whether any request to the CDN carried the key."""
        return bool(self.key_leaks)

    def to_json(self) -> dict[str, object]:
        """Return the book as plain JSON values, for tests in another process."""
        return {
            "start": self.start,
            "charges": self.charges,
            "holds": self.holds,
            "balance": self.balance,
            "purchases": [attrs.asdict(purchase) for purchase in self.purchases.values()],
            "duplicates": [[one.generation_id for one in group] for group in self.duplicates()],
            "calls": dict(self.calls),
            "refused": {str(status): count for status, count in self.refused.items()},
            "polls_by_id": dict(self.polls_by_id),
            "downloads_by_id": dict(self.downloads_by_id),
            "request_ids": dict(self.request_ids),
            "troubles": [[operation, kind, count] for (operation, kind), count in self.troubles.items()],
            "key_leaks": list(self.key_leaks),
            "unclean_polls": list(self.unclean_polls),
            "open_now": self.open_now,
            "max_open_at_once": self.max_open_at_once,
            "max_running_at_once": self.max_running_at_once,
        }
