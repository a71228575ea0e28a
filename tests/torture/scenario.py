"""What one round of the torture is: all drawn from one number.

The processes' own timing is not: a round is played again with the same troubles, rows and blows, not with the same
interleaving.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from attrs import field, frozen

from kling_async.simulator import Fault, FaultPlan, SimulatorSettings
from tests.cli.harness import KEY
from tests.torture.witness import SIGHTS

_SUBMIT: Final = {
    "refused": 2,
    "dropped_before": 3,
    "dropped_after": 6,
    "stalled_before": 1,
    "stalled_after": 3,
    "cut_after": 4,
    "slow_after": 6,
    "403_html": 1,
    "408_after": 2,
    "429": 3,
    "429_seconds": 3,
    "429_date": 1,
    "429_1303": 2,
    "500": 2,
    "500_after": 5,
    "502": 1,
    "502_after": 4,
    "503": 3,
    "503_after": 1,
    "503_html_after": 2,
    "504_after": 2,
    "524_after": 1,
    "307": 1,
    "html_after": 2,
    "not_json_after": 2,
    "empty_after": 2,
    "no_id_after": 2,
    "generation_id_after": 2,
    "202_after": 2,
    "400_moderation": 1,
}
_ANY_CALL: Final = {
    "refused": 1,
    "dropped_before": 2,
    "dropped_after": 2,
    "stalled_after": 1,
    "cut_after": 2,
    "slow_after": 2,
    "403_html": 1,
    "429": 2,
    "429_seconds": 2,
    "500": 3,
    "502": 3,
    "503": 2,
    "504": 1,
    "html_after": 2,
    "not_json_after": 2,
    "empty_after": 1,
}
_POLL: Final = {**_ANY_CALL, "404": 2, "404_fresh": 4, "unknown": 3, "leaked_status": 4}
# Not `damaged`, nor `garbage` for the rest of a file that was cut: a file host that sends other bytes under the same
# name, length and ETag is believed by everybody.
_DOWNLOAD: Final = {
    "refused": 2,
    "stalled": 1,
    "stalled_midway": 2,
    "cut": 4,
    "closed": 3,
    "wrong_length": 2,
    "truncated": 3,
    "no_length": 3,
    "html": 2,
    "html_video": 2,
    "expired": 4,
    "403": 1,
    "404": 1,
    "410": 1,
    "429_seconds": 1,
    "500": 2,
    "503": 2,
    "slow": 6,
    "range_ignored": 3,
    "etag_changed": 2,
    "redirected": 2,
}
_JOB: Final = {
    "error_named": 3,
    "error_text": 1,
    "error_1303": 3,
    "failed": 2,
    "cancelled": 1,
    "succeeded": 4,
    "no_url": 1,
    "made_up_way": 6,
    "late": 3,
    "instant": 8,
    "wrong_duration": 4,
}
_WEIGHTS: Final = {"submit": _SUBMIT, "poll": _POLL, "log": _ANY_CALL, "download": _DOWNLOAD, "job": _JOB}
_SECONDS: Final = {"slow_after": 0.3, "slow": 0.3, "429_seconds": 0.2, "429_date": 1.0, "404_fresh": 0.3}

ENVIRONMENT: Final = {
    "KLING_ASYNC_BACKOFF_FIRST": "0.05",
    "KLING_ASYNC_BACKOFF_CAP": "0.4",
    "KLING_ASYNC_RETRY_AFTER_CAP": "0.5",
    "KLING_ASYNC_POLL_INTERVAL_MIN": "0.02",
    "KLING_ASYNC_POLL_INTERVAL_MAX": "0.15",
    "KLING_ASYNC_SUBMIT_TIMEOUT": "1.0",
    "KLING_ASYNC_POLL_TIMEOUT": "0.6",
    "KLING_ASYNC_CONNECT_TIMEOUT": "2.0",
    "KLING_ASYNC_STALL_AFTER": "0.5",
}
"""The same patience as ever, some hundred times as fast: a video takes half a second here."""


@frozen
class Life:
    """One process, and how it dies."""

    signals: tuple[signal.Signals, ...]
    """The blows, one after the other."""
    after: float
    """Seconds from its start to the first blow; where a sight is waited for, at the latest."""
    sight: str | None = None
    """What the service must see first; None: the time alone counts."""
    times: int = 1
    """How often."""
    delay: float = 0.0
    """Seconds from then to the blow."""
    twin: float | None = None
    """Seconds after which a second process is started on the same folder; None: none is."""


@frozen
class Scenario:
    """One round."""

    seed: int
    """The number that all is drawn from."""
    service: SimulatorSettings
    """What the service is like."""
    plan: FaultPlan
    """What goes wrong."""
    rows: Sequence[Mapping[str, object]]
    """The manifest; some rows are equal in content."""
    flags: tuple[str, ...]
    """Of the program."""
    lives: tuple[Life, ...] = field(repr=False)
    """Those that are ended by blows."""


def draw_scenario(seed: int) -> Scenario:
    """Return the round of a number."""
    dice = Random(seed)
    listing = dice.choice(("acceptance", "acceptance", "end", "late", "mixed", "mixed", "never"))
    # Where the log lists each submit at once, and failed ones as well, buying again what it does not know is safe.
    tells_all = listing == "acceptance" and dice.random() < 0.5
    service: dict[str, Any] = {
        "seed": seed,
        "keys": (KEY,),
        "clips": "template",
        "clip_bytes": dice.choice((0, 0, 200_000, 3_000_000)),
        "durations": tuple(round(dice.uniform(0.2, 1.6), 3) for _ in range(17)),
        "limit": dice.choice((None, 3, 5, 8)),
        "limit_policy": dice.choice(("refuse", "queue", "fail")),
        "log_listing": listing,
        "log_delay": 1.0,
        "log_refused": dice.random() < 0.5,
        "latency": dice.choice((0.0, 0.0, 0.01)),
        "latency_jitter": dice.choice((0.0, 0.02)),
        "envelopes": "mixed",
        "video": dice.choice(("object", "full", "list", "string")),
        "meta": dice.random() < 0.8,
        "price_kind": dice.choice(("fixed", "variants")),
    }
    flags = ["--uncertain-after", "3", "--max-in-flight", dice.choice(("auto", "6", "12"))]
    if tells_all:
        flags += ["--on-uncertain", "resubmit"]
    return Scenario(
        seed,
        SimulatorSettings(**service),
        draw_plan(dice, seed),
        draw_rows(dice),
        tuple(flags),
        tuple(draw_life(dice) for _ in range(dice.randint(3, 6))),
    )


def draw_plan(dice: Random, seed: int) -> FaultPlan:
    """Return troubles of every kind, each operation's as dense as its dice say."""
    faults = []
    for operation, weights in _WEIGHTS.items():
        dense = dice.uniform(0.1, 0.5)
        share = dense / sum(weights.values())
        faults += [
            Fault(
                operation,
                kind,
                rate=weight * share,
                seconds=_SECONDS.get(kind),
                # A 503 in an envelope and without an id means that no job was made: the service does not lie there.
                inference_id=True if kind == "503_after" or dice.random() < 0.2 else None,
            )
            for kind, weight in weights.items()
        ]
    faults += [Fault(operation, "502", rate=0.1) for operation in ("balance", "price")]
    dice.shuffle(faults)
    return FaultPlan(faults=faults, seed=seed)


def draw_rows(dice: Random) -> list[Mapping[str, object]]:
    """Return the rows of a manifest: with two images, names of every kind, and some equal in content."""
    rows: list[Mapping[str, object]] = []
    for number in range(dice.randint(12, 32)):
        key = dice.choice(("row", "a/b", "日本", "Test", "x" * 90)) + str(number)
        image = dice.choice(("cat.png", "dog.png"))
        row: Mapping[str, object] = {"key": key, "image": image, "prompt": f"prompt {number}"}
        if rows and dice.random() < 0.1:
            row = {**dice.choice(rows), "key": key}
        rows.append(row)
    return rows


def draw_life(dice: Random) -> Life:
    """Return how one process dies: most by SIGKILL, most of these at a sight."""
    twin = dice.uniform(0.0, 1.5) if dice.random() < 0.2 else None
    if dice.random() < 0.25:
        return Life((signal.SIGKILL,), dice.uniform(0.05, 3.0), twin=twin)
    hard = (signal.SIGKILL,)
    soft = dice.choice((signal.SIGINT, signal.SIGTERM))
    signals = dice.choice((hard, hard, hard, hard, (soft,), (soft, soft), (soft, signal.SIGKILL)))
    # Most narrow windows open at once and close within some milliseconds.
    delay = dice.choice((0.0, 10 ** dice.uniform(-4, -0.5)))
    return Life(signals, 4.0, dice.choice(SIGHTS), dice.choice((1, 1, 2, 3, 5, 8)), delay, twin)
