"""A run may be stopped at any moment: it says how to go on, and the same command goes on. Nothing is bought twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import PATIENCE, World, at_once, until

SOON = ("--uncertain-after", "1", "--on-uncertain", "resubmit")
"""What a kill leaves between the intent and the service is in nobody's log. Here the log lists each job at once, so
that after a second it is known that there was none; a real run would look for 75 minutes, and then ask its owner."""


def test_a_stopped_run_says_how_to_go_on_and_goes_on(open_world: OpenWorld) -> None:
    """The first signal lets no new row start, tells what is done and the command to resume; that command finishes."""

    def stopped(world: World, number: signal.Signals) -> None:
        running = world.start("run", world.manifest(6), "--out", "out", "--max-in-flight", "2")
        world.until_called("submit", 4)
        running.send(number)
        ended = running.finish()
        assert (ended.code, ended.out) == (128 + number, "")
        assert "stopping: what is out is written down (once more to stop at once)" in ended.err
        assert "of 6 rows done" in ended.err
        assert "Traceback" not in ended.err
        assert len(world.bought()) == 4, "no row was begun after the signal"
        assert ended.resume == ["run", "shots.jsonl", "--out", "out", "--max-in-flight", "2"]
        assert world.run(*ended.resume).code == 0
        assert len(world.bought()) == 6
        world.audit()

    at_once(*(partial(stopped, open_world(durations=0.8), number) for number in (signal.SIGINT, signal.SIGTERM)))


def test_a_signal_while_a_submit_is_out_waits_for_its_answer(open_world: OpenWorld) -> None:
    """A POST that is in the air when the signal comes is awaited and its id written down: nothing is looked up."""
    world = open_world(FaultPlan.of(Fault("submit", "slow_after", seconds=1.0)))
    running = world.start("run", world.manifest(1), "--out", "out")
    world.until_called("submit")
    running.send(signal.SIGINT)
    ended = running.finish()
    assert ended.code == 130
    assert world.run(*ended.resume).code == 0
    assert (world.calls("submit"), world.calls("log")) == (1, 0)
    world.audit()


def test_the_second_signal_ends_at_once_and_the_journal_stays_true(open_world: OpenWorld) -> None:
    """A signal during the stop ends the process; the submit whose answer nobody heard is looked up, not repeated."""
    world = open_world(FaultPlan.of(Fault("submit", "stalled_after", at=(1,))))
    running = world.start("run", world.manifest(2), "--out", "out")
    world.until_called("submit", 1)
    running.send(signal.SIGINT)
    running.says("stopping")
    began = time.monotonic()
    running.send(signal.SIGINT)
    assert running.finish().code == 130
    assert time.monotonic() - began < 3
    assert world.run("run", "shots.jsonl", "--out", "out").code == 0
    assert len(world.bought()) == 2
    assert world.calls("log") >= 1
    world.audit()


def test_a_signal_before_the_first_submit_ends_the_run_as_well(open_world: OpenWorld) -> None:
    """Stopped while it still asks for the price or the balance: 130, one document, the command, and no purchase."""

    def stopped(world: World, operation: str) -> None:
        running = world.start("run", world.manifest(2), "--out", "out", "--json")
        world.until_called(operation)
        running.send(signal.SIGINT)
        ended = running.finish()
        assert ended.code == 130
        assert ended.seconds < 5
        assert isinstance(ended.document, dict)
        assert not world.bought()
        assert world.run(*ended.resume).code == 0
        world.audit()

    plans = {name: FaultPlan.of(Fault(name, "stalled_before", at_most=1)) for name in ("price", "balance")}
    at_once(*(partial(stopped, open_world(plan), name) for name, plan in plans.items()))


def test_a_signal_while_a_long_manifest_is_read_ends_the_run(world: World) -> None:
    """Stopped while a long list of rows is being checked: the process does not read on to the end."""
    world.manifest(1)
    pipe = world.folder / "pipe.png"
    os.mkfifo(pipe)
    rows = ({"image": pipe.name if i == 1000 else "cat.png", "prompt": "p", "key": f"k{i}"} for i in range(300_000))
    running = world.start("run", world.manifest(rows), "--out", "out", "--verbose")
    until_opened(pipe)
    began = time.monotonic()
    running.send(signal.SIGINT)
    ended = running.finish()
    assert (ended.code, ended.out) == (130, "")
    assert time.monotonic() - began < 3
    assert not world.bought()


def until_opened(pipe: Path) -> None:
    """Wait until somebody opens a pipe to read from it: so an image tells that it was looked at."""
    with ThreadPoolExecutor(1) as thread:
        opened = thread.submit(os.open, pipe, os.O_WRONLY)
        try:
            os.close(opened.result(PATIENCE))
        except TimeoutError:
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # lets the thread go
            raise


SIZE = 300_000
"""Bytes of a video."""

MOMENTS: dict[str, Callable[[World], bool]] = {
    "before the first answer": lambda world: world.calls("submit") >= 1,
    "while they are made": lambda world: world.calls("poll") >= 3,
    "while they are fetched": lambda world: world.calls("download") >= 2,
    "near the end": lambda world: world.calls("download") >= 9,
}


def test_a_killed_run_buys_nothing_twice_and_each_file_is_whole(open_world: OpenWorld) -> None:
    """SIGKILL at any moment: the next run buys what is missing, once, and no part of a file has a final name."""

    def killed(world: World, moment: str) -> None:
        command = ("run", world.manifest(12), "--out", "out", "--max-in-flight", "4")
        running = world.start(*command)
        until(lambda: MOMENTS[moment](world), moment)
        running.send(signal.SIGKILL)
        assert running.finish().code == -signal.SIGKILL
        named = [path for path in (world.folder / "out/videos").iterdir() if path.suffix == ".mp4"]
        assert all(path.stat().st_size == SIZE for path in named), "a part of a file has a final name"
        world.go_wrong(FaultPlan())
        ended = world.run(*command, *SOON)
        assert ended.code == 0, ended.err
        assert len(world.bought()) == 12
        world.audit()

    plan = FaultPlan.of(Fault("submit", "slow_after", seconds=0.2), Fault("download", "slow", seconds=0.4))
    at_once(*(partial(killed, open_world(plan, durations=0.3, clip_bytes=SIZE), moment) for moment in MOMENTS))


def test_killed_again_and_again_it_still_comes_to_its_end(open_world: OpenWorld) -> None:
    """Five kills at different moments, then one run to the end: each row was bought once and has its whole video."""
    world = open_world(durations=0.5)
    command = ("run", world.manifest(12), "--out", "out", "--max-in-flight", "3", *SOON)
    for purchases in (1, 3, 6, 8, 11):
        running = world.start(*command)
        world.until_called("submit", purchases)
        running.send(signal.SIGKILL)
        running.finish()
    assert world.run(*command).code == 0
    assert len(world.bought()) == 12
    world.audit()


def test_a_simulated_run_can_be_stopped_and_resumed(world: World) -> None:
    """`run --simulate`: what was open in the world that ended with the command is finished in the next one."""
    command = ("run", world.manifest(3), "--out", "out", "--simulate")
    nothing = {"AIMLAPI_API_KEY": None, "AIMLAPI_BASE_URL": None}
    running = world.start(*command, "--verbose", env=nothing)
    running.says("submitting -> submitted", times=3)
    running.send(signal.SIGINT)
    ended = running.finish()
    assert ended.code == 130
    assert ended.resume == [*command, "--verbose"]
    again = world.run(*command, "--json", env=nothing)
    assert again.code == 0
    assert (again.document["done"], again.document["submits"]) == (3, 0), "what was bought is not bought again"
    assert len(world.videos()) == len(world.metadata()) == 3
    assert world.ask(lambda service: not service.book.calls), "the real service was not asked"


def test_a_signal_after_the_work_is_in_the_exit_code_too() -> None:
    """The loop is closed and the process not yet gone: 130 or 143, and no death by the signal itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        program = (
            "import os; from kling_async.cli.ends import run_loop\n"
            "async def work(): return 0\n"
            f"run_loop(work); os.kill(os.getpid(), {int(number)})\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stderr) == (128 + number, b"")
