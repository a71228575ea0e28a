"""Seeds of the deterministic simulation: each is several lives of one job, audited after each.

A failing one is run again, with its trace, by `python -m tests.simulation SEED`. `make torture` runs 10,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.lives import run_seed
from tests.simulation.scenario import scenario

pytestmark = pytest.mark.no_cover

SEEDS: Final = 200
REPLAYED: Final = 10

@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_promise_is_kept_whatever_happens(seed: int) -> None:
    run = run_seed(scenario(seed))
    assert run.lives >= 1
    assert run.bought >= 1


def test_seeds_replay_in_another_process_with_another_hash_seed() -> None:
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
