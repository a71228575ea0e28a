"""The program, killed again and again while everything goes wrong: nothing is bought twice, nothing bought is lost.

`make torture` plays a hundred rounds, `make test` a few. `TORTURE_ROUNDS` says how many, `TORTURE_SEED` which is the
first; a round that fails says how to play it again.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

import pytest

from tests.cli.harness import LoopThread
from tests.torture.play import Figures, Round
from tests.torture.scale import FIRST, ROUNDS
from tests.torture.scenario import draw_scenario

AT_ONCE: Final = 4
"""Rounds at the same time: they wait far more than they work."""


def test_nothing_is_bought_twice_or_lost_however_often_it_is_killed(
    loop: LoopThread,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """After each death and at the end, journal, folder and account book agree."""
    total, failures = Figures(), list[str]()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        rounds = {threads.submit(_play, seed, tmp_path, loop): seed for seed in range(FIRST, FIRST + ROUNDS)}
        for future in as_completed(rounds):
            if (told := _told(future, rounds[future])) is not None:
                failures.append(told)
            else:
                total += future.result()
            with capsys.disabled():
                sys.stdout.write(f"\rtorture: {total.rounds} of {ROUNDS} rounds held, {len(failures)} failed ")
                sys.stdout.flush()
    record_property("figures", f"torture, from round {FIRST} on: {total}; {len(failures)} rounds failed")
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)
    assert (total.rounds, total.twice, total.lost) == (ROUNDS, 0, 0)
    assert total.killed + total.stopped > 0
    assert total.files >= total.done > 0


def _play(seed: int, folder: Path, loop: LoopThread) -> Figures:
    place = folder / str(seed)
    place.mkdir()
    return Round(draw_scenario(seed), place, loop).play()


def _told(future: Future[Figures], seed: int) -> str | None:
    """Return what went wrong in a round, and how to play it again; None where nothing did."""
    if (error := future.exception()) is None:
        return None
    again = f"TORTURE_SEED={seed} TORTURE_ROUNDS=1 python -m pytest tests/torture/test_killed.py"
    return f"round {seed} failed; again: {again}\n{''.join(traceback.format_exception(error))}"
