"""`kling-async verify`: the videos of a folder against its journal. What is missing or damaged is fetched again.

Nothing is ever bought here, and no budget is asked about: to poll and to fetch costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from kling_async.cli.ends import (
    OK,
    ROWS_FAILED,
    Stopped,
    code_of,
    complain,
    log_to_stderr,
    printable,
    run_loop,
    say,
    show,
)
from kling_async.cli.job import Job, Stand, opened, same_command
from kling_async.errors import KlingError

if TYPE_CHECKING:
    from kling_async.types.outcome import Finding, VerifyReport

_EVERY: Final = 10.0
"""Seconds between two lines that tell how far it is."""
_IN_MEMORY: Final = 1024 * 1024
"""Bytes of findings that are kept in memory until the document is written; more of them go to a temporary file."""


@click.command("verify")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--deep", is_flag=True, help="Decode every frame, too; needs the extra `video`.")
@click.option("--no-fetch", is_flag=True, help="Only tell what is bad. Without a key, nothing is fetched either.")
@click.option(
    "--unavailable-after",
    type=float,
    metavar="S",
    help="Seconds without a usable answer after which no more is fetched.",
)
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="PATH", help="Where the journal is; the folder knows it."
)
@click.option("--simulate", is_flag=True, help="Use the embedded simulator: no key, no cost.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document at the end.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--verbose", is_flag=True, help="Every step on stderr.")
def command(  # noqa: PLR0913  # the flags, each by name
    *,
    out: Path,
    deep: bool,
    no_fetch: bool,
    unavailable_after: float | None,
    journal: Path | None,
    simulate: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Hold each video of DIR against the journal; fetch again what is missing or damaged. Nothing is bought."""
    from kling_async.configuration import load_settings
    from kling_async.journals import find_journal

    log_to_stderr(verbose=verbose)
    try:
        place = find_journal(out, journal)
        settings, _ = load_settings({"unavailable_after": unavailable_after}, folder=Path())
    except KlingError as error:
        return complain(error, as_json=as_json)
    settings = settings.updated(budget=None)  # nothing is bought: nobody waits for a price
    job = Job(dry_run=False, yes=False, simulate=simulate, as_json=as_json, events=None, quiet=quiet, settings=settings)
    stand = Stand()
    return run_loop(
        partial(_verify, out, place, deep=deep, fetch=not no_fetch, stand=stand, job=job),
        as_json=as_json,
        stopped=partial(_tell_stop, stand, as_json=as_json),
    )


async def _verify(out: Path, journal: Path, *, deep: bool, fetch: bool, stand: Stand, job: Job) -> int:
    offline = not fetch or not (job.settings.service.api_key or job.simulate)
    async with opened(out, journal, job=job, stand=stand, verified=True, offline=offline) as (batch, _):
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8") as found:
            tell = _Teller((await batch.tally()).done, found, job)
            try:
                report = await batch.verify(deep=deep, fetch=fetch, told=tell.told)
            finally:
                tell.stop()
            if job.as_json:
                _show(report, found)
    return _conclude(report, job)


class _Teller:
    """Tells each bad file at once, and now and then how far it is.

    Args:
        rows: How many there are to look at.
        found: Where findings wait for the document.
        job: What was asked for.
    """

    def __init__(self, rows: int, found: IO[str], job: Job) -> None:
        self._rows = rows
        self._found = found
        self._job = job
        self._done = 0
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._tick)

    def told(self, finding: Finding) -> None:
        """Take note of a finding."""
        self._done += 1
        if finding.fault is None:
            return
        if self._job.as_json:
            self._found.write(json.dumps(_document(finding)) + "\n")
        if not self._job.as_json:
            click.echo(_in_words(finding))
        elif not self._job.quiet:
            say(_in_words(finding))

    def stop(self) -> None:
        """Tell no more."""
        self._timer.cancel()

    def _tick(self) -> None:
        if not self._job.quiet:
            say(f"{self._done} of {self._rows} videos checked")
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._tick)


def _in_words(finding: Finding) -> str:
    end = f"bad: {finding.unmended}" if finding.bad else "fetched again"
    return printable(f"{finding.key}: {finding.path}: {finding.reason}: {end}").replace("\n", " ")


def _document(finding: Finding) -> dict[str, object]:
    return {
        "key": finding.key,
        "path": str(finding.path),
        "fault": str(finding.fault),
        "reason": finding.reason,
        "fetched": finding.fetched,
        "bad": finding.bad,
        "unmended": finding.unmended or None,
        "generation_id": finding.generation_id,
    }


def _show(report: VerifyReport, found: IO[str]) -> None:
    """Write the one document; of the findings, one is in memory at a time."""
    fields = json.dumps(report.summary(), indent=2).removesuffix("\n}")
    click.echo(f'{fields},\n  "findings": [', nl=False)
    found.seek(0)
    between = "\n    "
    for line in found:
        click.echo(between + line.rstrip(), nl=False)
        between = ",\n    "
    click.echo("\n  ]\n}")


def _conclude(report: VerifyReport, job: Job) -> int:
    """Tell how it ended, and return the exit code."""
    if not job.quiet and not job.as_json:
        ends = f"{report.whole} whole, {report.fetched} fetched again, {report.bad} bad"
        say(f"videos checked: {report.checked} ({ends})")
    if not job.quiet and report.strays:
        say(f"files in {report.out / 'videos'} that belong to no row, and were left alone: {report.strays}")
    if report.stopped is not None:
        complain(report.stopped)
        return code_of(report.stopped)
    return ROWS_FAILED if report.bad else OK


def _tell_stop(stand: Stand, stop: Stopped, *, as_json: bool) -> None:
    if stand.concluded:
        return
    if as_json:
        show(stop.document())
    say(f"stopped: what was fetched is kept; begin again with:\n  {same_command(stand)}")
