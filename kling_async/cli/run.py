"""`kling-async run`: a manifest into a folder of videos. Run again, it goes on where it stopped."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import define, field

from kling_async.cli.ends import USAGE, error_document, say, show
from kling_async.cli.job import Job, Stand, begin, job_flags, opened, spend
from kling_async.cli.options import setting_flags
from kling_async.cli.plan import make_plan
from kling_async.errors import ConfigurationError, KlingError, ManifestError
from kling_async.types.record import Record, Stage

STDIN: Final = Path("-")
"""What stands for standard input in the place of a manifest."""

if TYPE_CHECKING:
    from kling_async.cli.progress import Progress
    from kling_async.flow.batch import Batch
    from kling_async.flow.retries import Choice
    from kling_async.manifests import Manifest, ManifestCheck


@click.command("run")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the videos and the journal.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Make N videos of each row, under the keys KEY.1 to KEY.N.",
)
@click.option(
    "--first",
    type=click.IntRange(min=1),
    metavar="N",
    help="Take the first N rows alone, to see how they turn out; all are checked.",
)
@setting_flags
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="PATH", help="Keep the journal elsewhere (a local disk)."
)
@job_flags
def command(**given: Any) -> int:
    """Run MANIFEST into a folder. What is done already is not bought again.

    MANIFEST is CSV, TSV or JSONL, a folder of images with prompts in NAME.txt, or - for standard input.
    """
    return begin(_run, given)


async def _run(  # the flags, each by name
    *,
    manifest: Path,
    out: Path,
    samples: int | None,
    first: int | None,
    journal: Path | None,
    job: Job,
    stand: Stand,
) -> int:
    from kling_async.journals import read_source
    from kling_async.manifests import Manifest

    checks = job.settings.checks.image_checks
    source = Manifest(manifest, image_checks=checks, samples=samples, first=first)
    try:
        if manifest == STDIN and sys.stdin is not None and sys.stdin.isatty():
            say("the manifest is read from standard input: write it here, and end it with Ctrl-D")
        await source.open()
        mark = await source.mark()
        # What was checked and taken in as it stands is not read again: the journal holds it.
        check = None if mark is not None and await read_source(out, journal) == mark else await source.check()
        if check is not None and check.error_count:
            return _show_errors(source.title, check, as_json=job.as_json)
        async with opened(out, journal, job=job, stand=stand) as (batch, progress):
            if (copy := await source.spool(out)) is not None:
                stand.instead = manifest, copy
            if check is None and await batch.enrolment.source() != mark:
                raise ConfigurationError(f"the journal of {out} was changed by another run meanwhile: run again")
            if check is not None:
                await batch.enrolment.expect(check.rows)
            return await _spend(batch, source, progress, stand, mark=mark, known=check is None, job=job)
    finally:
        source.close()


async def _spend(  # what a run knows by then
    batch: Batch, source: Manifest, progress: Progress, stand: Stand, *, mark: str | None, known: bool, job: Job
) -> int:
    from kling_async.flow.remaining import Enrolled, Remaining

    resubmit = job.settings.uncertain.on_uncertain == "resubmit"
    enrolled = await (_known(batch) if known else enrol(batch, source, mark=mark, resubmit=resubmit))
    if enrolled.refused:
        return _show_refused(enrolled.refused, as_json=job.as_json)
    # Rows of an earlier manifest that cost nothing and stand in this one no more are nobody's business here.
    tally = await batch.tally()
    idle = Counter({Stage.PLANNED: tally.planned - enrolled.planned, Stage.FAILED: tally.failed - enrolled.failed})
    in_flight = job.settings.admission.max_in_flight
    plan = await make_plan(batch, enrolled.choice, rows=enrolled.rows, in_flight=in_flight)
    plan.warn()
    rows = Remaining() if enrolled.whole else Enrolled(source.checked_keys())
    work = partial(batch.run, rows, retry_failed=source.is_failures)
    return await spend(batch, work, plan, idle=idle, progress=progress, stand=stand, job=job)


@define
class _Enrolled:
    """What the journal says of a manifest's rows."""

    choice: Choice
    """What is done for which rows."""
    rows: int = 0
    """All rows."""
    planned: int = 0
    """Rows that are PLANNED."""
    failed: int = 0
    """Rows that failed before."""
    refused: list[KlingError] = field(factory=list)
    """Rows that are not taken in, each with the reason."""
    whole: bool = False
    """Whether the journal holds no rows but these, and none that failed is tried again: it is all that is read on."""

    def note_fresh(self, rows: Counter[tuple[str, int]]) -> None:
        """Count rows that are new to the journal, by model and duration."""
        self.rows += rows.total()
        self.planned += rows.total()
        self.choice.plan(rows)


async def _known(batch: Batch) -> _Enrolled:
    """Return what the journal says of its rows, where they are those of the manifest."""
    tally = await batch.tally()
    return _Enrolled(await batch.foresee(), tally.rows, tally.planned, tally.failed, whole=True)


async def enrol(batch: Batch, source: Manifest, *, mark: str | None, resubmit: bool) -> _Enrolled:
    """Take all rows into the journal; where it holds no others then, that is noted under the manifest's mark."""
    from kling_async.flow.crew import Instruction
    from kling_async.flow.retries import Choice

    found = _Enrolled(Choice())
    async for rows in source.drafts():
        taken = await batch.enrolment.take_in(rows)
        found.note_fresh(taken.fresh)
        for record in taken.known:
            if not isinstance(record, Record):
                found.refused.append(record)
                continue
            found.rows += 1
            found.planned += record.stage is Stage.PLANNED
            found.failed += record.stage is Stage.FAILED
            if record.stage is Stage.DONE or (record.stage is Stage.FAILED and not source.is_failures):
                continue
            lost = record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}
            found.choice.note(record, Instruction.BUY_AGAIN if lost and resubmit else Instruction.GO_ON)
    if mark is not None and await source.mark() != mark:
        raise ManifestError(f"{source.title} was changed while it was read; nothing was bought: run again")
    if mark is not None and not found.refused and found.rows == (await batch.tally()).rows:
        await batch.enrolment.complete(mark)
        found.whole = True
        await source.forget()
    return found


def _show_refused(refused: list[KlingError], *, as_json: bool) -> int:
    for error in refused:
        say(f"kling-async: {error}")
    if as_json:
        show({**error_document(refused[0]), "errors": [error_document(error) for error in refused]})
    return USAGE


def _show_errors(title: str, check: ManifestCheck, *, as_json: bool) -> int:
    told = f"{check.error_count} errors in {title}; nothing was bought"
    if as_json:
        rows = [
            {"line": error.line, "field": error.field, "message": error.message}
            | ({"file": error.file} if error.file else {})
            for error in check.errors
        ]
        show({**error_document(ManifestError(told)), "errors": rows, "error_count": check.error_count})
    for error in check.errors:
        say(f"{title}: {error}")
    more = check.error_count - len(check.errors)
    if more:
        say(f"…and {more} more")
    say(told)
    return USAGE
