"""The flags that are settings: one table, so that a flag, its help and its setting stay together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

_SETTINGS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("--max-in-flight", {"metavar": "N|auto", "help": "Generations at once; auto finds the account's limit."}),
    ("--budget", {"type": float, "metavar": "USD", "help": "Never spend and hold more, over the folder's whole life."}),
    ("--price", {"type": float, "metavar": "USD", "help": "What a video of 5 s costs, if the service does not tell."}),
    (
        "--on-uncertain",
        {
            "type": click.Choice(["hold", "resubmit"]),
            "help": "What to do with a row whose submit may or may not have been accepted and is not found.",
        },
    ),
    ("--uncertain-after", {"type": float, "metavar": "S", "help": "Seconds to look for such a row."}),
    (
        "--give-up-after",
        {"type": float, "metavar": "S", "help": "Seconds after which an unfinished generation is set aside."},
    ),
    (
        "--unavailable-after",
        {"type": float, "metavar": "S", "help": "Seconds without a usable answer after which the run ends."},
    ),
    ("--starts-per-second", {"type": float, "metavar": "R", "help": "At most so many submits a second."}),
    ("--poll-lag", {"metavar": "S|N%", "help": "Mean time from finished to noticed."}),
    (
        "--max-failures",
        {"type": int, "metavar": "N", "help": "Buy no more once N rows of this run have ended without a video."},
    ),
    (
        "--image-checks/--no-image-checks",
        {"default": None, "help": "Check the model's rules on images before anything is sent."},
    ),
)

Command = Callable[..., int]


def setting_flags(command: Command) -> Command:
    """Add the flags of all settings to a command; they come as `**flags`, None where they are not given."""
    for name, details in reversed(_SETTINGS):
        command = click.option(name, **details)(command)
    return command


def read_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Return flags as settings: a number where a setting takes a number or a word."""
    return {name: _number(value) if name in {"max_in_flight", "poll_lag"} else value for name, value in flags.items()}


def _number(value: str | None) -> int | float | str | None:
    if value is None:
        return None
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
