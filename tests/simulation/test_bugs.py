"""The simulation can fail: each planted bug is caught within 200 seeds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

import pytest

from tests.simulation.audit import Broken
from tests.simulation.bugs import BUGS
from tests.simulation.lives import run_seed
from tests.simulation.scenario import scenario

pytestmark = pytest.mark.no_cover

WITHIN: Final = 200

CAUGHT_BY: Final = {
    "POST before the intent is saved": 3,
    "slot freed after the download": 1,
    "digest saved after the rename": 3,
    "adopting by model in place of id": 2,
    "asking the log for one hour only": 8,
    "404 as failed": 8,
    "a window that ignores UNCERTAIN": 2,
    "retry of a paid row": 21,
    "a truncated file given its name": 7,
    "buying on when the price has risen": 26,
    "a plain retry gives up": 42,
    "buy-again never asks first": 131,
    "sunk money is forgotten": 21,
}
"""Seeds that are known to catch a bug: they are tried first."""


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str, record_property: Callable[[str, object], None]) -> None:
    """Some seed breaks a promise under it; which one is printed at the end of the test run."""
    with BUGS[name]():
        for seed in chain([CAUGHT_BY[name]] if name in CAUGHT_BY else [], range(WITHIN)):
            try:
                run_seed(scenario(seed))
            except Broken as broken:
                record_property("figures", f"planted bug, {name}: caught by seed {seed}: {broken}")
                return
    pytest.fail(f"{name}: not caught by {WITHIN} seeds")
