"""`kling-async run`: a manifest into a folder of videos. Run again, it goes on where it stopped."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import define, evolve, field

from kling_async.cli.ends import (
    OK,
    ROWS_FAILED,
    USAGE,
    Stopped,
    code_of,
    complain,
    error_document,
    log_to_stderr,
    run_loop,
    say,
    show,
)
from kling_async.cli.options import read_flags, setting_flags
from kling_async.cli.plan import Plan, make_plan, may_spend
from kling_async.cli.progress import Progress
from kling_async.cli.simulated import NAME, simulated
from kling_async.errors import ConfigurationError, KlingError, ManifestError
from kling_async.types.outcome import BatchReport, Tally
from kling_async.types.record import Record, Stage

if TYPE_CHECKING:
    from kling_async.flow.batch import Batch
    from kling_async.manifests import Manifest, ManifestCheck
    from kling_async.types.settings import Settings


@click.command("run")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the videos and the journal.",
)
@setting_flags
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="PATH", help="Keep the journal elsewhere (a local disk)."
)
@click.option("--dry-run", is_flag=True, help="Say what would be bought, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@click.option("--simulate", is_flag=True, help="Use the embedded simulator: no key, no cost.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document at the end.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--verbose", is_flag=True, help="Every step on stderr.")
def command(*, verbose: bool, **given: Any) -> int:
    """Run MANIFEST (CSV, TSV or JSONL) into a folder. What is done already is not bought again."""
    from kling_async.configuration import load_settings
    from kling_async.types.settings import SETTING_NAMES

    log_to_stderr(verbose=verbose)
    flags = {name: given.pop(name) for name in SETTING_NAMES if name in given}
    try:
        settings, _ = load_settings(read_flags(flags), folder=Path())
    except KlingError as error:
        return complain(error, as_json=given["as_json"])
    stand = _Stand()
    return run_loop(
        partial(_run, settings=settings, stand=stand, **given),
        as_json=given["as_json"],
        stopped=partial(_tell_stop, stand, as_json=given["as_json"]),
    )


@define
class _Stand:
    """How far a run has come: what is told when a signal stops it."""

    report: BatchReport | None = None
    """The rows as they stand, once the journal is open."""
    concluded: bool = False
    """Whether the end was told already."""


def _tell_stop(stand: _Stand, stop: Stopped, *, as_json: bool) -> None:
    if stand.concluded:
        return
    if as_json:
        show(stop.document() if stand.report is None else stand.report.summary())
    if stand.report is None:
        say("stopped before the first row; go on with:")
    else:
        tally = stand.report.tally
        say(f"stopped: {tally.done} of {tally.rows} rows done, {tally.pending + tally.uncertain} left; go on with:")
    say(f"  {_same_command()}")


async def _run(  # noqa: PLR0913  # the flags, each by name
    *,
    manifest: Path,
    out: Path,
    journal: Path | None,
    dry_run: bool,
    yes: bool,
    simulate: bool,
    as_json: bool,
    quiet: bool,
    settings: Settings,
    stand: _Stand,
) -> int:
    from kling_async.assembly import open_batch
    from kling_async.manifests import Manifest

    async with simulated(on=simulate) as beside:
        settings = settings.updated(**beside.settings)
        source = Manifest(manifest, image_checks=settings.checks.image_checks)
        try:
            check = await source.check()
            if check.error_count:
                return _show_errors(manifest, check, as_json=as_json)
            progress = Progress(quiet=quiet)
            async with open_batch(
                out,
                settings=settings,
                journal=journal,
                observers=[progress],
                service_name=NAME if simulate else None,
            ) as batch:
                beside.take_over([record async for record in batch.unfinished()])
                code = await _spend(
                    batch,
                    source,
                    progress,
                    stand,
                    twice=bool(check.duplicates),
                    settings=settings,
                    dry_run=dry_run,
                    yes=yes,
                    as_json=as_json,
                )
                stand.concluded = True
                return code
        finally:
            source.close()


async def _spend(  # noqa: PLR0913  # what a run knows by then, each by name
    batch: Batch,
    source: Manifest,
    progress: Progress,
    stand: _Stand,
    *,
    twice: bool,
    settings: Settings,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    enrolled = await _enrol(batch, source, twice=twice)
    if enrolled.refused:
        return _show_refused(enrolled.refused, as_json=as_json)
    # Rows of an earlier manifest that cost nothing and stand in this one no more are nobody's business here.
    tally = await batch.tally()
    idle = tally.planned - enrolled.planned, tally.failed - enrolled.failed
    plan = await make_plan(batch, rows=enrolled.rows, new=enrolled.new, in_flight=settings.admission.max_in_flight)
    if dry_run or not progress.quiet:
        plan.tell()
    if dry_run:
        return _show_plan(plan, as_json=as_json)
    if not await may_spend(plan, budget=settings.money.budget, yes=yes):
        raise ConfigurationError("nothing was bought, as you said; --budget USD or --yes answers beforehand")
    progress.start(_without(tally, *idle))
    began = asyncio.get_running_loop().time()
    try:
        report = await batch.run(source.requests(), retry_failed=source.is_failures)
    except asyncio.CancelledError:
        seconds = asyncio.get_running_loop().time() - began
        stand.report = BatchReport(_without(await batch.tally(), *idle), batch.out, seconds)
        raise
    finally:
        progress.stop()
    report = evolve(report, tally=_without(report.tally, *idle))
    return _conclude(report, as_json=as_json, quiet=progress.quiet)


def _without(tally: Tally, planned: int, failed: int) -> Tally:
    return evolve(tally, planned=max(0, tally.planned - planned), failed=max(0, tally.failed - failed))


@define
class _Enrolled:
    """What the journal says of a manifest's rows."""

    rows: int = 0
    planned: int = 0
    failed: int = 0
    new: Counter[int] = field(factory=Counter)
    refused: list[KlingError] = field(factory=list)


async def _enrol(batch: Batch, source: Manifest, *, twice: bool) -> _Enrolled:
    """Take all rows into the journal; where some stand twice, each is one row."""
    found, seen = _Enrolled(), set[int]()
    async for chunk in source.chunks():
        for record in await batch.enrol(chunk):
            if not isinstance(record, Record):
                found.refused.append(record)
                continue
            if twice:
                if hash(record.key) in seen:
                    continue
                seen.add(hash(record.key))
            found.rows += 1
            found.planned += record.stage is Stage.PLANNED
            found.failed += record.stage is Stage.FAILED
            if record.stage is Stage.PLANNED or (record.stage is Stage.FAILED and source.is_failures):
                found.new[record.request.duration] += 1
    return found


def _show_refused(refused: list[KlingError], *, as_json: bool) -> int:
    for error in refused:
        say(f"kling-async: {error}")
    if as_json:
        show({**error_document(refused[0]), "errors": [error_document(error) for error in refused]})
    return USAGE


def _show_errors(manifest: Path, check: ManifestCheck, *, as_json: bool) -> int:
    told = f"{check.error_count} errors in {manifest}; nothing was bought"
    if as_json:
        rows = [{"line": error.line, "field": error.field, "message": error.message} for error in check.errors]
        show({**error_document(ManifestError(told)), "errors": rows, "error_count": check.error_count})
    for error in check.errors:
        say(f"{manifest}: {error}")
    more = check.error_count - len(check.errors)
    if more:
        say(f"…and {more} more")
    say(told)
    return USAGE


def _show_plan(plan: Plan, *, as_json: bool) -> int:
    if as_json:
        show(plan.document())
    return OK


def _conclude(report: BatchReport, *, as_json: bool, quiet: bool) -> int:
    """Print the summary and return the exit code."""
    tally, summary = report.tally, report.summary()
    if as_json:
        show(summary)
    elif not quiet:
        say(_in_words(report))
    if report.stopped is not None:
        complain(report.stopped)
        still = tally.submitting + tally.submitted + tally.rendered + tally.uncertain
        say(f"{still} bought rows are still open" if still else "what was open was brought to its end")
        say(f"go on with:\n  {_same_command()}")
        return code_of(report.stopped)
    return ROWS_FAILED if tally.failed or tally.uncertain or tally.pending else OK


def _in_words(report: BatchReport) -> str:
    tally, out = report.tally, report.out
    if not report.submits and not report.fresh and tally.done == tally.rows:
        return f"nothing to do: all {tally.rows} rows are done, their videos in {out / 'videos'}"
    lines = [f"{tally.done} of {tally.rows} rows have their video ({report.fresh} new) in {out / 'videos'}"]
    if tally.failed or tally.uncertain or tally.pending:
        lines.append(
            f"{tally.failed} failed, {tally.uncertain} uncertain, {tally.pending} pending: see {out / 'failures.jsonl'}"
        )
    money = report.summary()
    lines.append(
        f"{money['spent_usd']:.2f} USD spent, {money['held_usd']:.2f} held; "
        f"{report.submits} submits, {report.polls} polls, {report.seconds:.0f} s"
    )
    if tally.done:
        lines.append(f"metadata: {out / 'metadata.jsonl'}; as a dataset: datasets.load_dataset({str(out)!r})")
    return "\n".join(lines)


def _same_command() -> str:
    return shlex.join(["kling-async", *sys.argv[1:]])
