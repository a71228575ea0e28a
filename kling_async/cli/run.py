"""`kling-async run`: a manifest into a folder of videos. Run again, it goes on where it stopped."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kling_async.cli.ends import OK, ROWS_FAILED, USAGE, code_of, complain, log_to_stderr, run_loop, say
from kling_async.cli.options import read_flags, setting_flags
from kling_async.cli.plan import Plan, make_plan, may_spend
from kling_async.cli.progress import Progress
from kling_async.cli.simulated import NAME, simulated

if TYPE_CHECKING:
    from kling_async.flow.batch import Batch
    from kling_async.manifests import Manifest, ManifestCheck
    from kling_async.types.outcome import BatchReport


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
    log_to_stderr(verbose=verbose)
    return run_loop(partial(_run, **given))


async def _run(
    *,
    manifest: Path,
    out: Path,
    journal: Path | None,
    dry_run: bool,
    yes: bool,
    simulate: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    from kling_async.assembly import open_batch
    from kling_async.configuration import load_settings
    from kling_async.manifests import Manifest

    async with simulated(on=simulate) as overrides:
        settings, _ = load_settings({**read_flags(flags), **overrides})
        source = Manifest(manifest, image_checks=settings.checks.image_checks)
        try:
            check = await source.check()
            if check.error_count:
                return _show_errors(manifest, check)
            progress = Progress(quiet=quiet)
            async with open_batch(
                out,
                settings=settings,
                journal=journal,
                observers=[progress],
                service_name=NAME if simulate else None,
            ) as batch:
                return await _spend(
                    batch, source, check, progress, settings=settings, dry_run=dry_run, yes=yes, as_json=as_json
                )
        finally:
            source.close()


async def _spend(
    batch: Batch,
    source: Manifest,
    check: ManifestCheck,
    progress: Progress,
    *,
    settings: Any,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    new, refused = await _enrol(batch, source)
    if refused:
        for error in refused:
            say(f"kling-async: {error}")
        return USAGE
    plan = await make_plan(batch, rows=check.rows, new=new, in_flight=settings.admission.max_in_flight)
    if dry_run or not progress.quiet:
        plan.tell()
    if dry_run:
        return _show_plan(plan, as_json=as_json)
    if not may_spend(plan, budget=settings.money.budget, yes=yes):
        return USAGE
    progress.start(await batch.tally())
    try:
        report = await batch.run(source.requests(), retry_failed=source.is_failures)
    except asyncio.CancelledError:
        progress.stop()
        tally = await batch.tally()
        say(f"stopped: {tally.done} of {tally.rows} rows done, {tally.pending + tally.uncertain} left; go on with:")
        say(f"  {_same_command()}")
        raise
    finally:
        progress.stop()
    return _conclude(report, as_json=as_json, quiet=progress.quiet)


async def _enrol(batch: Batch, source: Manifest) -> tuple[Counter[int], list[Exception]]:
    """Take all rows into the journal; return those that are not bought yet, by duration, and those that are refused."""
    new: Counter[int] = Counter()
    refused: list[Exception] = []
    async for chunk in source.chunks():
        for record in await batch.enrol(chunk):
            if isinstance(record, Exception):
                refused.append(record)
            elif record.stage == "planned" or (record.stage == "failed" and source.is_failures):
                new[record.request.duration] += 1
    return new, refused


def _show_errors(manifest: Path, check: ManifestCheck) -> int:
    for error in check.errors:
        say(f"{manifest}: {error}")
    more = check.error_count - len(check.errors)
    if more:
        say(f"…and {more} more")
    say(f"{check.error_count} errors in {manifest}; nothing was bought")
    return USAGE


def _show_plan(plan: Plan, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(plan.document(), indent=2))
    return OK


def _conclude(report: BatchReport, *, as_json: bool, quiet: bool) -> int:
    """Print the summary and return the exit code."""
    tally, summary = report.tally, report.summary()
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    elif not quiet:
        say(_in_words(report))
    if report.stopped is not None:
        complain(report.stopped)
        say(f"what is open was brought to its end; go on with:\n  {_same_command()}")
        return code_of(report.stopped)
    return ROWS_FAILED if tally.failed or tally.uncertain or tally.pending else OK


def _in_words(report: BatchReport) -> str:
    tally, out = report.tally, report.out
    if not report.submits and not report.fresh and tally.done == tally.rows:
        return f"nothing to do: all {tally.rows} rows have their video in {out / 'videos'}"
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
