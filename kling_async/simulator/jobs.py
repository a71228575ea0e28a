"""One job of the simulated service: what was ordered, what will become of it, and where it stands at a given time.

Values and small questions to them. This room must never ask for the time, nor move money.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, frozen

if TYPE_CHECKING:
    from kling_async.simulator.book import Purchase

DONE: Final = frozenset({"completed", "succeeded"})
"""The last statuses of jobs that are charged."""


@frozen(kw_only=True)
class Order:
    """What a submit asks for, as far as the world needs it."""

    fingerprint: str
    """SHA-256 of the body as canonical JSON."""

    image_digest: str
    """SHA-256 of the image's bytes, or of its URL."""

    prompt: str = ""
    """The prompt; empty if there was none."""

    duration: int = 5
    """Length of the clip, in seconds."""

    flaw: str | None = None
    """What Kling will find wrong with the images; None if nothing."""

    image: bytes | None = None
    """The image's bytes; None for a URL, and once the clip's making has begun."""


@frozen(kw_only=True)
class Fate:
    """What becomes of a job, decided when it is accepted."""

    final: str = "completed"
    """Its last status."""

    error: object = None
    """The `error` of its last answer, as JSON values."""

    linked: bool = True
    """Whether it gets a URL when it is done."""

    stretch: float = 1.0
    """What its time is multiplied by; infinity: it never ends."""

    way: tuple[str, ...] = ()
    """Statuses on the way, in place of the usual ones."""

    other_duration: bool = False
    """Whether its clip is of the other duration."""


_DETAIL: Final = [{"loc": ["body", "image_url"], "msg": "image could not be processed", "type": "value_error"}]
_ALL_AT_ONCE: Final = "parallel task over resource pack limit (code 1303)"

FATES: Final[Mapping[str, Fate]] = MappingProxyType(
    {
        "error_named": Fate(final="error", error={"name": "Error", "message": "internal error while generating"}),
        "error_detail": Fate(final="error", error={"detail": _DETAIL}),
        "error_text": Fate(final="error", error="generation failed"),
        "error_1303": Fate(final="error", error={"name": "Error", "message": _ALL_AT_ONCE}, stretch=0.02),
        "error_moderation": Fate(
            final="error", error={"name": "Error", "message": "Failure to pass the risk control system"}
        ),
        "failed": Fate(final="failed", error={"name": "Error", "message": "generation failed"}),
        "cancelled": Fate(final="cancelled"),
        "canceled": Fate(final="canceled"),
        "expired": Fate(final="expired", error="task expired"),
        "succeeded": Fate(final="succeeded"),
        "no_url": Fate(linked=False),
        "made_up_way": Fate(way=("queued", "pending_review", "rendering", "upscaling", "99%")),
        "never_ends": Fate(stretch=inf),
        "late": Fate(stretch=10.0),
        "instant": Fate(stretch=0.0),
        "wrong_duration": Fate(other_duration=True),
    }
)
"""What the troubles of jobs make of them."""


def fate_of(kind: str | None, order: Order, text: str = "") -> Fate:
    """Return the fate of a job: by the trouble that befell it, or else by the flaw of its images.

    Args:
        kind: A trouble of jobs; None if none befell it.
        order: What was ordered.
        text: The message of a failed job, in place of the usual one.
    """
    if kind is None:
        flaw = {"name": "Error", "message": order.flaw}
        return Fate() if order.flaw is None else Fate(final="error", error=flaw, stretch=0.1)
    fate = FATES[kind]
    if text and fate.error is not None:
        return evolve(fate, error={"name": "Error", "message": text})
    return fate


@define(eq=False, kw_only=True)
class Job:
    """One accepted job."""

    purchase: Purchase
    """What the account book knows of it."""

    order: Order
    """What was ordered."""

    key: str
    """The key that it was ordered with."""

    fate: Fate
    """What becomes of it."""

    length: float
    """Seconds from its start to its end."""

    listing: str
    """When the usage log lists it: acceptance, end, late or never."""

    started_at: float | None = None
    """When it got a slot, as a Unix time; None while it waits for one."""

    slotted: bool = False
    """Whether it holds one of the account's slots."""

    ended: bool = False
    """Whether it has ended."""

    link_issued_at: float | None = None
    """When the link of today was made, as a Unix time."""

    link_serial: int = 0
    """How many links were called back before this one."""

    edition: int = 0
    """How often the file was made anew."""

    @property
    def id(self) -> str:
        """The generation id."""
        return self.purchase.generation_id

    @property
    def accepted_at(self) -> float:
        """When it was accepted, as a Unix time."""
        return self.purchase.bought_at

    @property
    def done(self) -> bool:
        """Whether it has ended well."""
        return self.ended and self.fate.final in DONE

    @property
    def clip_duration(self) -> int:
        """Length of the clip that is served, in seconds."""
        return 15 - self.order.duration if self.fate.other_duration else self.order.duration

    def status(self, now: float, way: tuple[str, ...], queued_share: float) -> str:
        """Return the status told at a time, for the usual way there."""
        if self.ended:
            return self.fate.final
        way = self.fate.way or way
        if self.started_at is None:
            return "queued"
        share = (now - self.started_at) / self.length if self.length else 1.0
        if share < queued_share or len(way) == 1:
            return way[0]
        place = (share - queued_share) / (1.0 - queued_share) if queued_share < 1.0 else 0.0
        return way[min(1 + int(place * (len(way) - 1)), len(way) - 1)]
