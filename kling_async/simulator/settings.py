"""What a simulated service is like: one frozen value, with a default for everything.

This room holds values and their checks only. It must never look at a clock, a file or the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from attrs import field, frozen, validators

if TYPE_CHECKING:
    from attrs import Attribute

MODEL: Final = "kling-video/v1/standard/image-to-video"
"""The one model that the simulator sells."""

CREDITS_PER_USD: Final = 2_000_000
"""How many credits a dollar buys."""

MINUTE: Final = 60.0
DAY: Final = 86_400.0

Durations = Literal["log-normal", "long-tail"] | float | tuple[float, ...]
Statuses = tuple[str, ...]

_ON_THE_WAY: Final[Statuses] = ("queued", "waiting", "active", "generating", "processing")


@frozen(kw_only=True)
class SimulatorSettings:
    """How the simulated service behaves when nothing is wrong.

    What goes wrong stands in a `FaultPlan`. Seconds are those of the simulator's clock.
    """

    seed: int = 0
    """Seed of all dice. The same seed and the same order of requests make the same world."""

    speed: float = field(default=1.0, validator=validators.gt(0))
    """What the time of making a video is divided by. Nothing else is scaled."""

    durations: Durations = "log-normal"
    """How long making a video takes: drawn from a log-normal distribution; the same with one job in fifty five to
    twenty times as long; always so many seconds; or the seconds listed, one for each job, over and over. Divided by
    `speed`."""

    median_5: float = field(default=240.0, validator=validators.gt(0))
    """Median time of making a clip of 5 s, in seconds."""

    median_10: float = field(default=420.0, validator=validators.gt(0))
    """Median time of making a clip of 10 s, in seconds."""

    sigma: float = field(default=0.35, validator=validators.ge(0))
    """Spread of the log-normal distribution."""

    limit: int | None = field(default=5)
    """How many jobs may run at once on the account, all keys together. None: any number."""

    limit_policy: Literal["refuse", "queue", "fail"] = "refuse"
    """What a submit over the limit gets: 429; a place in the queue (status `queued`); or a job that fails with 1303."""

    keys: tuple[str, ...] = ("sim-key",)
    """The bearer keys of the one account."""

    balance_usd: float = field(default=1_000.0, validator=validators.ge(0))
    """What is on the account at the start, in USD."""

    price_5_usd: float = field(default=0.26, validator=validators.ge(0))
    """Price of a clip of 5 s, in USD."""

    price_10_usd: float = field(default=0.52, validator=validators.ge(0))
    """Price of a clip of 10 s, in USD."""

    price_kind: Literal["fixed", "variants", "variable"] = "fixed"
    """Which shape of `pricing` the price call answers: by the second, by the duration, or without a figure."""

    submit_status: Literal[200, 201] = 200
    """HTTP status of an accepted submit."""

    meta: bool = True
    """Whether the answer of a submit tells the credits held."""

    id_style: Literal["nanoid", "uuid", "decimal", "mixed"] = "mixed"
    """What generation ids look like."""

    way: Statuses = field(default=_ON_THE_WAY, validator=validators.min_len(1))
    """Statuses of a running job, in their order. The first one is told for `queued_share` of the time."""

    queued_share: float = field(default=0.05, validator=[validators.ge(0), validators.le(1)])
    """Share of a job's time for which it tells the first status of `way`."""

    log_listing: Literal["acceptance", "end", "late", "never", "mixed"] = "acceptance"
    """When the usage log lists a job: at once, at its end, `log_delay` after its end, never, or one of these by the
    seed, for each job anew."""

    log_delay: float = field(default=10 * MINUTE, validator=validators.ge(0))
    """How many seconds after its end a late job is listed."""

    log_refused: bool = False
    """Whether the usage log also lists submits that made no job, as failed and without a generation id."""

    log_calls_per_minute: int | None = 200
    """How many requests for the usage log are answered within 60 s; the next ones get 429. None: any number."""

    echo_request_id: bool = True
    """Whether `x-client-request-id` is echoed on answers and kept for the usage log."""

    link_life: float = field(default=30 * DAY, validator=validators.gt(0))
    """How long a video's link is good, in seconds."""

    video: Literal["object", "full", "list", "string"] = "object"
    """Shape of a finished generation's `video`: an object with a URL; with the file's name, type and size beside it; a
    list of URLs; a bare URL."""

    envelopes: Literal["problem", "older", "mixed"] = "problem"
    """Which envelope errors come in; `mixed` draws for each."""

    unknown_fields: Literal["ignore", "refuse"] = "ignore"
    """What happens to fields of a submit that the schema does not know."""

    check_images: bool = False
    """Whether jobs whose images break Kling's own rules fail after their acceptance."""

    latency: float = field(default=0.0, validator=validators.ge(0))
    """Seconds between a request's effect and its answer."""

    latency_jitter: float = field(default=0.0, validator=validators.ge(0))
    """At most so many seconds are added to `latency`, evenly drawn."""

    clips: Literal["rendered", "template"] = "rendered"
    """Videos made from the submitted image, or packaged ones. Packaged ones also stand in where rendering cannot be
    done: without the extra `video`, or for an image given by its URL."""

    clip_side: int = field(default=256, validator=[validators.ge(64), validators.le(1920)])
    """Length of a rendered clip's longer side, in pixels."""

    clip_rate: int = field(default=6, validator=[validators.ge(1), validators.le(60)])
    """Frames per second of a rendered clip."""

    clip_bytes: int = field(default=0, validator=validators.ge(0))
    """Clips are filled up to at least so many bytes, with a `free` box that players skip."""

    cache_bytes: int = field(default=64 << 20, validator=validators.ge(0))
    """How much memory rendered clips may take; the rest lies in a temporary folder."""

    admin: bool = False
    """Whether `GET /_sim/book` serves the account book to other processes."""

    keepalive: float = 3_600.0
    """How long an idle connection is kept, in seconds."""

    max_body: int = 64 << 20
    """The largest request body that is read, in bytes."""

    @limit.validator
    def _at_least_one(self, _attribute: Attribute[int | None], limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError("limit must be at least 1, or None for any number")

    def price(self, duration: int) -> int:
        """Return what a clip of `duration` seconds costs, in credits."""
        usd = self.price_10_usd if duration == 10 else self.price_5_usd
        return round(usd * CREDITS_PER_USD)

    def median(self, duration: int) -> float:
        """Return the median time of making a clip of `duration` seconds, before `speed`."""
        return self.median_10 if duration == 10 else self.median_5
