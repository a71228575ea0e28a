"""Runs the lives of one job, one after the other, and audits what each leaves.

A life that crashes leaves its folder as it is; the next one gets a copy of it, so that nothing of the dead one can be
shared. One that is stopped or ends goes on in the same folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

from attrs import define, field

from kling_async import ImageToVideo, open_batch
from kling_async.errors import KlingError
from kling_async.types.outcome import BatchReport
from kling_async.types.record import Record
from tests.folders import scratch
from tests.simulation.audit import Broken, Left, audit_budget, audit_end, audit_life, audit_word
from tests.simulation.loop import SimulatedLoop
from tests.simulation.remote import BASE_URL, KEY, LifeClock, Remote, RemoteTransport
from tests.simulation.scenario import START, Life, Scenario

_MOST_LIVES: Final = 40
"""Lives after which a job must have come to its end."""
_ALL_ENDED: Final = 300_000.0
"""Seconds after which every generation that ever ends has ended."""
_LONGEST: Final = 20 * 86_400.0
"""Seconds that one life may take."""


@define
class Run:
    """What came of one seed."""

    scenario: Scenario
    """What the seed decided."""
    trace: list[str] = field(factory=list)
    """Every call and every saved change, with its time."""
    crashes: list[str] = field(factory=list)
    """Where it was killed."""
    lives: int = 0
    """How many lives it took."""
    bought: int = 0
    """How many generations were bought."""

    @property
    def digest(self) -> str:
        """The digest of the trace."""
        return sha256("\n".join(self.trace).encode()).hexdigest()


def run_seed(scenario: Scenario, *, trace: list[str] | None = None) -> Run:
    """Run the lives of a seed to the job's end, and audit each.

    Raises:
        Broken: A promise was broken.
    """
    run = Run(scenario, [] if trace is None else trace)
    remote = Remote(
        scenario.service,
        scenario.plan,
        outages=scenario.outages,
        start=START,
        skew=scenario.skew,
        rise=scenario.rise,
    )
    loops: list[SimulatedLoop] = []
    with _silence(), scratch("kling-simulation-") as place:
        try:
            _live_on(run, remote, place, loops)
        finally:
            for loop in loops:
                loop.bury()
            _close_files(str(place))
    run.bought = len(remote.desk.book.bought())
    return run


@contextmanager
def _silence() -> Iterator[None]:
    """Log nothing: what is said of thousands of troubles is read by nobody."""
    package = logging.getLogger("kling_async")
    before = package.level
    package.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        package.setLevel(before)


def _live_on(run: Run, remote: Remote, place: Path, loops: list[SimulatedLoop]) -> None:
    folder, scenario = place / "life0", run.scenario
    planned, late = iter(scenario.lives), False
    for number in range(1, _MOST_LIVES + 1):
        life = next(planned, Life("end", 0, 60.0, retry_failed=False, retry=None))
        dies_at = int(life.at) if life.end == "crash" else 0
        loop = SimulatedLoop(Random(f"loop/{scenario.seed}/{number}"), dies_at, life.near)
        loops.append(loop)
        run.lives = number
        run.trace.append(f"life {number}: {life}")
        before, reads = Left.read(folder, remote), remote.desk.book.calls["log"]
        remote.said.clear()
        finished = _one_life(run, remote, loop, folder, life, number)
        remote.settle()
        if loop.dead:
            run.crashes.append(loop.place)
            folder = _copied(folder, place / f"life{number}")
        else:
            loop.close()
        left = Left.read(folder, remote)
        audit_life(left, scenario)
        audit_word(before, left, life.retry, log_was_read=remote.desk.book.calls["log"] > reads)
        audit_budget(left, _flags(scenario, number).get("budget"))
        left.forget_unwritten_prices()
        if finished and life.end == "end" and life.retry is None and left.at_its_end(scenario):
            if late or not left.set_aside:
                audit_end(left, scenario)
                return
            late = True  # what was set aside is asked for once more, when all that ever ends has ended
            remote.wall += _ALL_ENDED
        remote.wall += life.downtime
        remote.settle()
    raise Broken(f"after {_MOST_LIVES} lives the job has not come to its end")


def _one_life(run: Run, remote: Remote, loop: SimulatedLoop, folder: Path, life: Life, number: int) -> bool:
    """Run one life; tell whether it came to its end by itself."""
    dice, clock = Random(f"ways/{run.scenario.seed}/{number}"), LifeClock(remote, loop)
    transport = RemoteTransport(remote, loop, clock, dice, folder / ".kling" / "inputs", run.trace)
    with _current(loop):
        main = loop.main = loop.create_task(_work(run, transport, folder, life, number))
        if life.end == "stop":
            loop.call_later(life.at, main.cancel)
        main.add_done_callback(lambda _task: loop.stop())
        loop.call_later(_LONGEST, loop.stop)
        loop.run_forever()
    clock.wall()
    if loop.dead:
        return False
    if not main.done():
        raise Broken(f"a life did not end within {_LONGEST:.0f} s")
    if main.cancelled():
        return False
    try:
        report = main.result()
    except KlingError as error:
        run.trace.append(f"{loop.time():.6f} ended by {type(error).__name__}: {error}")
        return False
    run.trace.append(f"{loop.time():.6f} ended, {report.stopped!r}")
    return report.stopped is None


async def _work(run: Run, transport: RemoteTransport, folder: Path, life: Life, number: int) -> BatchReport:
    scenario = run.scenario
    async with open_batch(
        folder,
        transport=transport,
        clock=transport.clock,
        seed=scenario.seed * 1000 + number,
        observers=[_Notes(run.trace, transport)],
        base_url=BASE_URL,
        api_key=KEY,
        **_flags(scenario, number),
    ) as batch:
        if life.retry is not None:
            return await batch.run(life.retry)
        return await batch.run(_source(scenario.requests, Random(number)), retry_failed=life.retry_failed)


def _flags(scenario: Scenario, number: int) -> dict[str, Any]:
    """Return the settings of one life; the budget grows, so that the job can come to its end."""
    flags = dict(scenario.flags)
    if "budget" in flags:
        flags["budget"] = round(flags["budget"] * 1.5 ** (number - 1), 2)
    return flags


async def _source(requests: Iterable[ImageToVideo], dice: Random) -> AsyncIterator[ImageToVideo]:
    """Give the rows one by one, not always at once."""
    for request in requests:
        if dice.random() < 0.05:
            await asyncio.sleep(dice.random())
        yield request


@define
class _Notes:
    """Writes every saved change into the trace, and says whose slot was given up."""

    trace: list[str]
    """Where they are written."""
    transport: RemoteTransport
    """Knows the time, and the remote side."""

    def changed(self, before: Record, after: Record) -> None:
        now = self.transport.loop.time()
        told = after.trouble and after.trouble.kind
        self.trace.append(f"{now:.6f} {after.key} {before.stage} -> {after.stage} {after.generation_id} {told}")
        if after.set_aside:
            self.transport.remote.excused.add(after.generation_id or after.client_request_id)


@contextmanager
def _current(loop: SimulatedLoop) -> Any:
    """Make a loop the current one; whatever is not retrieved on it is nobody's concern here."""
    loop.set_exception_handler(lambda _loop, _context: None)
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)


def _copied(folder: Path, to: Path) -> Path:
    """Copy what a killed process left; whole videos are never written in place, so they are linked."""

    def copy(source: str, target: str) -> None:
        if source.endswith(".mp4"):
            os.link(source, target)
        else:
            shutil.copyfile(source, target)

    if folder.exists():
        shutil.copytree(folder, to, copy_function=copy)
    return to


def _close_files(place: str) -> None:
    """Close the locks and the unfinished videos that the dead held open (Linux tells; elsewhere they stay open).

    Nothing else: what has an owner is closed with it, and a number that is closed twice may be another's by then.
    """
    fds = Path("/proc/self/fd")
    for entry in fds.iterdir() if fds.is_dir() else ():
        with suppress(OSError):
            target = str(entry.readlink()).removesuffix(" (deleted)")
            if target.startswith(place) and target.endswith((".lock", ".part")):
                os.close(int(entry.name))
