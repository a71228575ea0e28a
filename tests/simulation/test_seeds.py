"""Seeds of the deterministic simulation: each is several lives of one job, audited after each.

A failing one is run again, with its trace, by `python -m tests.simulation SEED`; `make torture` runs 10,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation import __main__ as by_hand
from tests.simulation import many
from tests.simulation.audit import Broken
from tests.simulation.lives import Run, run_seed
from tests.simulation.loop import Deadlock
from tests.simulation.scenario import scenario

pytestmark = pytest.mark.no_cover

SEEDS: Final = 100
"""`make torture` plays 10,000. Those that found a fault are in `FOUND`, wherever they lie."""
SURVEYED: Final = 200
"""Scenarios that are looked at without being played."""
REPLAYED: Final = 10

FOUND: Final = {
    40: "rows failed by the service's trouble",
    139: "a row set aside was not asked for once more when all had ended",
    153: "rows failed by the service's trouble",
    174: "rows failed by the service's trouble",
    293: "rows failed by the service's trouble",
}
"""Seeds that have found a real fault, and what it was: they are kept, however many others are run."""


@pytest.mark.parametrize("seed", sorted({*range(SEEDS), *FOUND}))
def test_every_promise_is_kept_whatever_happens(seed: int) -> None:
    """After each life and at the end: what the audit holds."""
    run = run_seed(scenario(seed))
    assert run.lives >= 1
    assert run.bought >= 1


def test_seeds_replay_in_another_process_with_another_hash_seed() -> None:
    """The traces are the same to the last line, so that a seed that fails can be looked into."""
    digests = []
    for hash_seed in ("1", "4711"):
        program = (
            "import json; from tests.simulation.lives import run_seed; from tests.simulation.scenario import scenario;"
            f"print(json.dumps([run_seed(scenario(seed)).digest for seed in range({REPLAYED})]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(json.loads(done.stdout))
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == REPLAYED


@pytest.mark.parametrize("raised", [Deadlock("everything waits"), KeyError("row1"), Broken("bought twice")])
def test_whatever_ends_a_seed_is_told_with_its_number(
    raised: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken promise, a loop that waits for ever, an error that nobody foresaw: alone, and among many."""

    def fail(_scenario: object, trace: list[str] | None = None) -> Run:
        if trace is not None:
            trace.append("life 1")
        raise raised

    monkeypatch.setattr(by_hand, "run_seed", fail)
    monkeypatch.setattr(many, "run_seed", fail)
    assert by_hand.main(["7"]) == 1
    told = capsys.readouterr().out
    assert told.startswith("life 1\nseed 7: ")
    assert str(raised) in told
    assert many.several([7, 8]) == {"broken": 2}
    told = capsys.readouterr().out
    assert "seed 7: " in told
    assert "seed 8: " in told


def test_by_hand_without_a_seed_it_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    """And begins nothing."""
    for wrong in ([], ["x"], ["1", "2", "3"]):
        assert by_hand.main(wrong) == 2
        assert "usage: python -m tests.simulation" in capsys.readouterr().err


def test_the_price_rises_in_some_seeds() -> None:
    """Under a budget, and while rows are bought."""
    rising = [seed for seed in range(SURVEYED) if scenario(seed).rise is not None and "budget" in scenario(seed).flags]
    assert len(rising) >= SURVEYED // 10
