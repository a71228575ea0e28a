"""An outage in the midst of a thousand rows (10,000 in `make torture`): the service's trouble is never a row's."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from kling_async import ImageToVideo
from kling_async.simulator import FaultPlan, SimulatorSettings
from tests.simulation.lives import Run, run_seed
from tests.simulation.scenario import PRICE, START, Scenario
from tests.torture.scale import THOROUGH

pytestmark = pytest.mark.no_cover

ROWS: Final = 10_000 if THOROUGH else 1_000
TEN_MINUTES: Final = 600.0
ONE_HOUR: Final = 3_600.0


def _job(rows: int, outage: float) -> Scenario:
    """Return a job of so many rows, a tenth of them at once; after ten minutes the service is gone for a while."""
    return Scenario(
        seed=1,
        requests=tuple(
            ImageToVideo("https://images.example/cat.png", f"prompt {number}", key=f"row{number}")
            for number in range(rows)
        ),
        service=SimulatorSettings(
            keys=("simulated-key",), limit=None, price_5_usd=PRICE, clips="template", balance_usd=rows
        ),
        plan=FaultPlan(),
        outages=((START + 600, START + 600 + outage),),
        skew=0.0,
        cap=rows // 10,
        flags={"max_in_flight": rows // 10, "poll_lag": 60.0, "poll_interval_max": 240.0, "price": PRICE},
        lives=(),
        calm=False,
    )


def _ends(run: Run) -> Counter[str]:
    """Count the changes of stage."""
    return Counter(line.split(" ", 2)[2].rsplit(" ", 2)[0] for line in run.trace if " -> " in line)


def test_ten_minutes_without_the_service_fail_no_row() -> None:
    """All rows end DONE in one life, each bought once."""
    run = run_seed(_job(ROWS, TEN_MINUTES))
    ends = _ends(run)
    assert run.lives == 1
    assert run.bought == ends["rendered -> done"] == ROWS
    assert not [end for end in ends if end.endswith("failed")]


def test_an_hour_without_it_ends_the_run_and_the_next_one_resumes() -> None:
    """The run gives up where it stands; the next one brings every row to its end, and buys none twice."""
    run = run_seed(_job(rows := ROWS // 2, ONE_HOUR))
    ends, stops = _ends(run), [line for line in run.trace if "ended" in line]
    assert "ServiceUnavailable" in stops[0]
    assert run.bought == ends["rendered -> done"] == rows
    assert not [end for end in ends if end.endswith("failed")]
