"""Several seeds after one another, and their figures: what one process of a torture does.

A module of its own: a process that is spawned cannot import another one's `__main__`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence

from tests.simulation.audit import Broken
from tests.simulation.lives import run_seed
from tests.simulation.scenario import scenario


def several(seeds: Sequence[int]) -> Counter[str]:
    """Run seeds; tell each that breaks a promise, and return how many kept theirs, with lives, deaths and purchases."""
    figures: Counter[str] = Counter()
    for seed in seeds:
        try:
            run = run_seed(scenario(seed))
        except Exception as error:  # noqa: BLE001  # whatever ends a seed is told with its number
            print(f"seed {seed}: {what_broke(error)}", flush=True)
            figures["broken"] += 1
        else:
            figures.update(seeds=1, lives=run.lives, crashes=len(run.crashes), bought=run.bought)
    return figures


def what_broke(error: Exception) -> str:
    """Return what ended a seed: the promise that was broken, or all that is known of an error that nobody foresaw."""
    return str(error) if isinstance(error, Broken) else "".join(traceback.format_exception(error)).rstrip()
