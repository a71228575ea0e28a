"""How much is played: a few rounds in `make test`, a hundred in `make torture`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

ROUNDS: Final = int(os.environ.get("TORTURE_ROUNDS", "3"))
"""Rounds of killing."""
FIRST: Final = int(os.environ.get("TORTURE_SEED", "1"))
"""The first round's number; the others follow it."""
THOROUGH: Final = ROUNDS >= 20
"""Whether time matters less than what is found."""


def some(values: Sequence[T]) -> Sequence[T]:
    """Return all values where time does not matter, else every third one."""
    return values if THOROUGH else values[1::3]
