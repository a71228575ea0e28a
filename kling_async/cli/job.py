"""What `run` and `retry` have in common: flags, the way from a plan to its end, and how that end is told."""

from __future__ import annotations

import asyncio
import math
import shlex
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import define, evolve, frozen

from kling_async.cli.ends import (
    OK,
    ROWS_FAILED,
    Stopped,
    code_of,
    complain,
    log_to_stderr,
    run_loop,
    say,
    show,
)
from kling_async.cli.options import read_flags
from kling_async.cli.plan import Plan, may_spend
from kling_async.errors import BudgetExceeded, ConfigurationError, JournalError, KlingError
from kling_async.types.outcome import BatchReport, Tally, usd
from kling_async.types.record import Stage

if TYPE_CHECKING:
    from kling_async.cli.progress import Progress
    from kling_async.flow.batch import Batch
    from kling_async.ports import Observer
    from kling_async.types.settings import Settings

_FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--fail-fast", {"is_flag": True, "help": "Buy no more once a row has ended without a video: --max-failures 1."}),
    ("--dry-run", {"is_flag": True, "help": "Say what would be bought, and stop."}),
    ("--yes", {"is_flag": True, "help": "Do not ask before spending."}),
    ("--simulate", {"is_flag": True, "help": "Use the embedded simulator: no key, no cost."}),
    (
        "--events",
        {"type": click.Path(path_type=Path), "metavar": "FILE", "help": "Append one line of JSON for each change."},
    ),
    ("--json", {"is_flag": True, "help": "One JSON document at the end."}),
    ("--quiet", {"is_flag": True, "help": "Nothing on stderr but errors."}),
    ("--verbose", {"is_flag": True, "help": "Every step on stderr."}),
)


@frozen
class Job:
    """What was asked for beside the settings."""

    dry_run: bool
    """Whether to say what would be bought, and stop."""
    yes: bool
    """Whether the owner is not asked before money is spent."""
    simulate: bool
    """Whether the simulator stands in for the service."""
    as_json: bool
    """Whether one document is wanted at the end."""
    quiet: bool
    """Whether errors alone are told."""
    events: Path | None
    """The file that gets a line for each change of a row; None for none."""
    settings: Settings
    """The settings in force."""


@define
class Stand:
    """How far a job has come: what is told when a signal stops it."""

    report: BatchReport | None = None
    """The rows as they stand, once the journal is open."""
    concluded: bool = False
    """Whether the end was told already."""
    broken: bool = False
    """Whether the journal failed in the midst of the work."""
    instead: tuple[Path, Path] | None = None
    """What stood for the manifest, and what stands for it in the command that goes on; None for the same."""


def job_flags(command: Callable[..., int]) -> Callable[..., int]:
    """Add the flags that are no settings to a command; `begin` takes them."""
    for name, details in reversed(_FLAGS):
        command = click.option(name, **details)(command)
    return command


def begin(work: Callable[..., Any], given: dict[str, Any]) -> int:
    """Read the settings and do a command's work in a loop; return its exit code.

    Args:
        work: Is called with `job`, `stand` and what is left of the flags.
        given: All flags by name.
    """
    from kling_async.configuration import load_settings
    from kling_async.open_files import raise_open_files
    from kling_async.types.settings import SETTING_NAMES

    log_to_stderr(verbose=given.pop("verbose"))
    flags = {name: given.pop(name) for name in SETTING_NAMES if name in given}
    if given.pop("fail_fast"):
        flags["max_failures"] = 1
    as_json = given.pop("json")
    try:
        settings, _ = load_settings(read_flags(flags), folder=Path())
    except KlingError as error:
        return complain(error, as_json=as_json)
    own = {name: given.pop(name) for name in ("dry_run", "yes", "simulate", "events", "quiet")}
    job, stand = Job(as_json=as_json, settings=settings, **own), Stand()
    raise_open_files()
    code = run_loop(
        partial(work, job=job, stand=stand, **given),
        as_json=as_json,
        stopped=partial(_tell_stop, stand, as_json=as_json),
    )
    if stand.broken:
        say(f"once that is mended, go on with:\n  {same_command(stand)}")
    return code


@asynccontextmanager
async def opened(
    out: Path, journal: Path | None, *, job: Job, stand: Stand, verified: bool = False, offline: bool = False
) -> AsyncIterator[tuple[Batch, Progress]]:
    """Open the folder's batch, beside the simulator if asked; whoever leaves the block has told the end.

    Args:
        out: The folder.
        journal: Where the journal lies; in the folder if not given.
        job: What was asked for.
        stand: Is told of the end.
        verified: Whether the simulator must know what is done, too, and not only what is open.
        offline: As `open_batch`, whose errors are raised, too.
    """
    from kling_async.assembly import open_batch
    from kling_async.cli.progress import Progress
    from kling_async.cli.simulated import NAME, simulated
    from kling_async.events import EventFile

    async with AsyncExitStack() as stack:
        beside = await stack.enter_async_context(simulated(on=job.simulate))
        progress = Progress(quiet=job.quiet, budget=job.settings.money.budget)
        observers: list[Observer] = [progress]
        if job.events is not None:
            observers.append(await stack.enter_async_context(EventFile(job.events)))
        batch = await stack.enter_async_context(
            open_batch(
                out,
                settings=job.settings.updated(**beside.settings),
                journal=journal,
                observers=observers,
                service_name=NAME if job.simulate else None,
                offline=offline,
            )
        )
        beside.take_over([record async for record in (batch.done() if verified else batch.unfinished())])
        yield batch, progress
        stand.concluded = True


def _tell_stop(stand: Stand, stop: Stopped, *, as_json: bool) -> None:
    if stand.concluded:
        return
    if as_json:
        show(stop.document() if stand.report is None else stand.report.summary())
    if stand.report is None:
        say("stopped before the first row; go on with:")
    else:
        tally = stand.report.tally
        say(f"stopped: {tally.done} of {tally.rows} rows done, {tally.pending + tally.uncertain} left; go on with:")
    say(f"  {same_command(stand)}")


async def spend(  # what a job knows by then, each by name
    batch: Batch,
    work: Callable[[], Any],
    plan: Plan,
    *,
    idle: Counter[Stage],
    progress: Progress,
    stand: Stand,
    job: Job,
) -> int:
    """Tell the plan, ask, do the work, and tell how it ended; return the exit code.

    Args:
        batch: The open batch.
        work: Runs it and returns its report.
        plan: What will be bought.
        idle: Rows of the journal that are nobody's business here, by stage.
        progress: Shows how it goes.
        stand: Is told how far it came when it is stopped.
        job: What was asked for.
    """
    if job.dry_run or not job.quiet:
        plan.tell()
    if job.dry_run:
        if job.as_json:
            show(plan.document())
        return OK
    if not await may_spend(plan, budget=job.settings.money.budget, yes=job.yes):
        raise ConfigurationError("nothing was bought, as you said; --budget USD or --yes answers beforehand")
    tally = await batch.tally()
    try:
        report = await progress.beside(work, batch, _without(tally, idle))
    except JournalError:
        stand.broken = True
        raise
    except asyncio.CancelledError:
        report = await batch.report()
        stand.report = evolve(report, tally=_without(report.tally, idle))
        raise
    enough = None if plan.price is None else usd(tally.spent + tally.held) + plan.price
    report = evolve(report, tally=_without(report.tally, idle))
    return conclude(report, enough=enough, aside=idle[Stage.UNCERTAIN], stand=stand, job=job)


def _without(tally: Tally, idle: Counter[Stage]) -> Tally:
    """Leave rows out that are nobody's business here; their money stays counted: it is the folder's."""
    left = {str(stage): max(0, getattr(tally, str(stage)) - count) for stage, count in idle.items()}
    return evolve(tally, **left)


def conclude(report: BatchReport, *, enough: float | None, aside: int, stand: Stand, job: Job) -> int:
    """Print the summary and return the exit code.

    Args:
        report: How it ended.
        enough: The budget in USD that would do for all that was planned; None where no price is known.
        aside: Uncertain rows that were not chosen.
        stand: What is given for the manifest in the command that goes on.
        job: What was asked for.
    """
    tally, summary = report.tally, report.summary()
    if job.as_json:
        show(summary)
    elif not job.quiet:
        say(_in_words(report, aside, simulate=job.simulate))
    if report.stopped is not None:
        complain(report.stopped)
        still = tally.submitting + tally.submitted + tally.rendered + tally.uncertain
        say(f"{still} bought rows are still open" if still else "what was open was brought to its end")
        budget = job.settings.money.budget
        if isinstance(report.stopped, BudgetExceeded) and enough is not None and budget is not None and enough > budget:
            say(f"go on with a budget for all rows:\n  {same_command(stand, budget=enough)}")
        else:
            say(f"go on with:\n  {same_command(stand)}")
        return code_of(report.stopped)
    return ROWS_FAILED if tally.failed or tally.uncertain or tally.pending else OK


def _in_words(report: BatchReport, aside: int, *, simulate: bool) -> str:
    tally, out = report.tally, report.out
    again = shlex.join(["kling-async", "retry", str(out), *(["--simulate"] if simulate else [])])
    if not report.submits and not report.fresh and tally.done == tally.rows:
        if aside:
            others = f"`{again} --uncertain` looks for the others"
            return f"nothing to do: {tally.done} of {tally.done + aside} rows are done; {others}"
        return f"nothing to do: all {tally.rows} rows are done, their videos in {out / 'videos'}"
    lines = [f"{tally.done} of {tally.rows} rows have their video ({report.fresh} new) in {out / 'videos'}"]
    if tally.failed or tally.uncertain or tally.pending:
        listed = (failures := out / "failures.jsonl").exists()
        told = f": see {failures}" if listed else ""
        lines.append(f"{tally.failed} failed, {tally.uncertain} uncertain, {tally.pending} pending{told}")
        if listed:
            lines.append(f"`{again}` tries again what failed or was set aside, and says beforehand what it buys")
    money = report.summary()
    lines.append(
        f"{money['spent_usd']:.2f} USD spent, {money['held_usd']:.2f} held; "
        f"{report.submits} submits, {report.polls} polls, {report.seconds:.0f} s"
    )
    if report.overshoot and report.stopped is None:
        lines.append(f"{usd(report.overshoot):.2f} USD more than the budget are spent or held")
    if tally.done:
        lines.append(f"metadata: {out / 'metadata.jsonl'}; as a dataset: datasets.load_dataset({str(out)!r})")
    return "\n".join(lines)


def same_command(stand: Stand, *, budget: float | None = None) -> str:
    """Return the command that goes on: the same again, or with another budget in USD, or with a manifest's copy."""
    words = sys.argv[1:]
    if stand.instead is not None:
        before, now = stand.instead
        words = [str(now) if Path(word) == before else word for word in words]
    if budget is not None:
        given = [at for at, word in enumerate(words) if word == "--budget" or word.startswith("--budget=")]
        for at in reversed(given):
            del words[at : at + (2 if words[at] == "--budget" else 1)]
        words += ["--budget", f"{math.ceil(round(budget * 100, 4)) / 100:.2f}"]
    return shlex.join(["kling-async", *words])
