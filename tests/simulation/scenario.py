"""What one seed decides: the rows, the service, its troubles, and how each life of the client ends."""

from __future__ import annotations

from random import Random
from typing import Any, Final, Literal, TypeAlias

from attrs import evolve, frozen

from kling_async import ImageToVideo, Retry
from kling_async.simulator import FaultPlan, SimulatorSettings
from kling_async.simulator.troubles import TROUBLES

START: Final = 1_800_000_000.0
"""The wall's time at the beginning, as Unix seconds."""

PRICE: Final = 0.26
"""USD of one video of 5 s."""

End: TypeAlias = Literal["crash", "stop", "end"]
"""How a life ends: killed at some effect, cancelled at some time, or by itself."""

_PNG: Final = bytes.fromhex("89504e470d0a1a0a0000000d494844520000014000000140080000000094b4a1d7")
_NOT_SIMULATED: Final = frozenset({("download", "damaged"), ("submit", "503_after")})
"""What no client can know: pictures that only a full decode finds damaged, and a job that the service denies in its own
words."""
_LEAD_TO_RANGES: Final = frozenset({"cut", "closed", "stalled_midway", "wrong_length"})
"""After these the rest of a video is asked for; were that garbage, only a full decode would see it, too."""
_STOPS_THE_TAP: Final = frozenset({"401", "403", "403_credit", "429_arrears"})
"""Troubles that end a life early; they come seldom."""
_TRIED_AGAIN: Final = 0.35
"""Share of the scenarios in which what was set aside is tried again, some of it bought again."""
_RISING: Final = 0.25
"""Share of the scenarios in which the price rises."""
_DOWNTIMES: Final = (0.0, 5.0, 120.0, 2_000.0, 7_500.0, 100_000.0, 270_000.0)
"""Seconds between two lives."""


_NEAR: Final = ("Part.commit", "Part.", "file host", "a piece of a video", "out", "back")
"""Kinds of effects, by what their names hold."""
_NEAR_SHARE: Final = 1 / 3
"""Share of the lives that are killed among those of one kind."""


@frozen
class Life:
    """One life of the client."""

    end: End
    """How it ends."""
    at: float
    """The effect at which it is killed, or the time at which it is stopped."""
    downtime: float
    """Seconds until the next one."""
    retry_failed: bool
    """Whether rows that failed before are tried again."""
    retry: Retry | None
    """What it tries again, where it is a `retry` in place of a `run`."""
    near: str = ""
    """Where it is killed: only effects whose names hold this are counted; empty for all."""


@frozen
class Rise:
    """The service holds more for a video from some moment on; nobody tells it beforehand."""

    at: float
    """When, in wall-clock seconds."""
    times: float
    """How many times the price before it."""


@frozen
class Scenario:
    """Everything that a seed decides."""

    seed: int
    """The seed."""
    requests: tuple[ImageToVideo, ...]
    """The rows of the job."""
    service: SimulatorSettings
    """What the service is like."""
    plan: FaultPlan
    """What goes wrong, and how often."""
    outages: tuple[tuple[float, float], ...]
    """When nothing can be reached: from, to, in wall-clock seconds."""
    skew: float
    """Seconds by which the service's clock is ahead."""
    cap: int
    """Generations that may be open at once."""
    flags: dict[str, Any]
    """The settings of the first life, by name; a budget grows from life to life."""
    lives: tuple[Life, ...]
    """The lives that are planned; after them, there are as many that run to their end as the job needs."""
    calm: bool
    """Whether nothing goes wrong but that downloads are slow: then the account must be used fully."""
    rise: Rise | None = None
    """When the price rises; None where it never does."""


def scenario(seed: int) -> Scenario:
    """Return what a seed decides; the same in every process."""
    dice = Random(f"scenario/{seed}")
    calm = dice.random() < 0.1
    cap = dice.randint(2, 4) if calm else dice.choice((1, 2, 3, 5, 8, 20, 100))
    requests = _requests(dice, calm=calm)
    flags: dict[str, Any] = {
        "max_in_flight": cap if calm or dice.random() < 0.7 else "auto",
        "max_window": cap,
        "poll_lag": "2%" if calm else dice.choice(("5%", "20%", 5.0, 60.0)),
        "poll_interval_max": 15.0 if calm else dice.choice((15.0, 60.0, 240.0)),
        "price": PRICE,
        "downloads_at_once": dice.choice((1, 2, 8)),
    }
    if calm:
        flags["downloads_at_once"] = 16
    elif dice.random() < 0.3:
        flags["budget"] = round(PRICE * dice.randint(1, len(requests)), 2)
    decided = Scenario(
        seed,
        requests,
        _service(dice, cap, calm=calm),
        _calm_plan(seed) if calm else _plan(dice, seed),
        () if calm else _outages(dice),
        0.0 if calm else dice.uniform(-600, 600),
        cap,
        flags,
        () if calm else _lives(dice),
        calm,
    )
    return decided if calm else _without_dead_ends(_with_near_deaths(_with_second_tries(_with_rise(decided))))


def _requests(dice: Random, *, calm: bool) -> tuple[ImageToVideo, ...]:
    """Return 20 to 60 rows; some ask for the same as another."""
    count = 24 if calm else dice.randint(20, 60)
    twins = 0.0 if calm else dice.choice((0.0, 0.0, 0.2))
    made: list[ImageToVideo] = []
    for number in range(count):
        if made and dice.random() < twins:
            other = dice.choice(made)
            made.append(ImageToVideo(other.image, other.prompt, duration=other.duration, key=f"row{number}"))
            continue
        image: str | bytes = "https://images.example/cat.png"
        if dice.random() < 0.1:
            image = _PNG + bytes([dice.randrange(256)])
        duration = 5 if calm else dice.choice((5, 5, 10))
        made.append(ImageToVideo(image, f"prompt {number}", duration=duration, key=f"row{number}"))
    return tuple(made)


def _service(dice: Random, cap: int, *, calm: bool) -> SimulatorSettings:
    limit = None if calm or dice.random() < 0.5 else dice.randint(1, max(2, cap))
    return SimulatorSettings(
        seed=dice.randrange(1 << 30),
        durations=100.0 if calm else dice.choice(("log-normal", "long-tail", 30.0)),
        limit=limit,
        limit_policy=dice.choice(("refuse", "queue", "fail")),
        keys=("simulated-key",),
        price_5_usd=PRICE,
        price_10_usd=2 * PRICE,
        meta=dice.random() < 0.8,
        log_listing=dice.choice(("acceptance", "end", "late", "never", "mixed", "mixed")),
        log_refused=dice.random() < 0.5,
        echo_request_id=dice.random() < 0.9,
        link_life=dice.choice((30 * 86_400.0, 600.0)),
        video=dice.choice(("object", "full", "list", "string")),
        envelopes="mixed",
        clips="template",
    )


def _calm_plan(seed: int) -> FaultPlan:
    """Only downloads take their time: longer than a generation does."""
    return FaultPlan.of(seed=seed, download={"late": 1.0})


def _plan(dice: Random, seed: int) -> FaultPlan:
    """Return some kinds of trouble for each operation, at rates from seldom to often."""
    rates = {}
    for operation in ("submit", "poll", "log", "job", "download"):
        kinds = sorted(kind for kind in TROUBLES[operation] if (operation, kind) not in _NOT_SIMULATED)
        if operation == "submit" and dice.random() < 0.5:
            kinds = [kind for kind in kinds if kind.endswith("_after")]
        total = dice.choice((0.0, 0.05, 0.15, 0.35))
        chosen = dice.sample(kinds, dice.randint(1, 6))
        if "garbage" in chosen and _LEAD_TO_RANGES & set(chosen):
            chosen.remove("garbage")
        rates[operation] = {
            kind: min(0.01, total) if kind in _STOPS_THE_TAP else total / len(chosen) for kind in chosen
        }
    return FaultPlan.of(seed=seed, **rates)


def _outages(dice: Random) -> tuple[tuple[float, float], ...]:
    """Return up to two times in which nothing can be reached; some last too long to be waited for."""
    begins = [START + dice.uniform(0, 6_000) for _ in range(dice.choice((0, 0, 1, 2)))]
    return tuple((begin, begin + dice.choice((60.0, 600.0, 2_400.0))) for begin in begins)


def _with_rise(scenario: Scenario) -> Scenario:
    """Let the price rise in every fourth scenario, nearly always under a budget; the answers to submits tell it."""
    dice = Random(f"rises/{scenario.seed}")
    if dice.random() >= _RISING:
        return scenario
    flags = dict(scenario.flags)
    if dice.random() < 0.9:
        flags["budget"] = round(PRICE * dice.randint(1, len(scenario.requests)), 2)
    rise = Rise(START + 10 ** dice.uniform(0, 4), dice.choice((1.1, 1.5, 3.0)))
    return evolve(scenario, service=evolve(scenario.service, meta=True), flags=flags, rise=rise)


def _with_second_tries(scenario: Scenario) -> Scenario:
    """Give up early in every third scenario, and try again what was set aside; half of the tries may buy it again."""
    dice = Random(f"again/{scenario.seed}")
    if dice.random() >= _TRIED_AGAIN:
        return scenario
    flags, lives = dict(scenario.flags), list(scenario.lives)
    if dice.random() < 0.7:
        flags["give_up_after"] = 700.0
    for _ in range(dice.randint(1, 3)):
        end: End = dice.choice(("crash", "stop", "end", "end"))
        at = 10 ** dice.uniform(0, 3.0) if end == "crash" else 10 ** dice.uniform(0, 3.7)
        retry = Retry(uncertain=dice.random() < 0.5, buy_again=dice.random() < 0.5)
        lives.append(Life(end, at, dice.choice(_DOWNTIMES), retry_failed=False, retry=retry))
    return evolve(scenario, flags=flags, lives=tuple(lives))


def _with_near_deaths(decided: Scenario) -> Scenario:
    """Let some lives be killed among the effects of one kind: those of the files are few beside the journal's."""
    dice = Random(f"near/{decided.seed}")
    return evolve(decided, lives=tuple(_near(life, dice) for life in decided.lives))


def _without_dead_ends(decided: Scenario) -> Scenario:
    """Let no job run for ever at a service that refuses what is too much: its places would be taken for good.

    A client waits for a full account, however long that takes: such a run has no end.
    """
    if decided.service.limit is None or decided.service.limit_policy != "refuse":
        return decided
    faults = tuple(fault for fault in decided.plan.faults if (fault.operation, fault.kind) != ("job", "never_ends"))
    return evolve(decided, plan=evolve(decided.plan, faults=faults))


def _near(life: Life, dice: Random) -> Life:
    near, at = dice.choice(_NEAR), 10 ** dice.uniform(0, 2)
    return evolve(life, near=near, at=at) if life.end == "crash" and dice.random() < _NEAR_SHARE else life


def _lives(dice: Random) -> tuple[Life, ...]:
    """Return the lives that end before their time; what is left after them is for further ones."""
    lives: list[Life] = []
    for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 5))):
        end: End = dice.choice(("crash", "crash", "crash", "stop", "end"))
        # As many early moments as late ones: half of all faults live in the first calls of a life.
        at = 10 ** dice.uniform(0, 3.4) if end == "crash" else 10 ** dice.uniform(0, 3.7)
        retry = None
        if lives and dice.random() < 0.4:
            retry = Retry(uncertain=dice.random() < 0.5, buy_again=dice.random() < 0.2)
        lives.append(Life(end, at, dice.choice(_DOWNTIMES), dice.random() < 0.3, retry))
    return tuple(lives)
