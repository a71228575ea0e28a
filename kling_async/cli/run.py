"""`kling-async run`: a manifest into a folder of videos. Run again, it goes on where it stopped."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import define, field

from kling_async.cli.ends import USAGE, error_document, say, show
from kling_async.cli.job import Job, Stand, begin, job_flags, opened, spend
from kling_async.cli.options import setting_flags
from kling_async.cli.plan import make_plan
from kling_async.errors import KlingError, ManifestError
from kling_async.types.record import Record, Stage

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
@setting_flags
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="PATH", help="Keep the journal elsewhere (a local disk)."
)
@job_flags
def command(**given: Any) -> int:
    """Run MANIFEST (CSV, TSV or JSONL) into a folder. What is done already is not bought again."""
    return begin(_run, given)


async def _run(  # the flags, each by name
    *,
    manifest: Path,
    out: Path,
    samples: int | None,
    journal: Path | None,
    job: Job,
    stand: Stand,
) -> int:
    from kling_async.manifests import Manifest

    source = Manifest(manifest, image_checks=job.settings.checks.image_checks, samples=samples)
    try:
        check = await source.check()
        if check.error_count:
            return _show_errors(manifest, check, as_json=job.as_json)
        async with opened(out, journal, job=job, stand=stand) as (batch, progress):
            if (copy := await source.spool(out)) is not None:
                stand.instead = manifest, copy
            return await _spend(batch, source, progress, stand, twice=bool(check.duplicates), job=job)
    finally:
        source.close()


async def _spend(  # what a run knows by then
    batch: Batch, source: Manifest, progress: Progress, stand: Stand, *, twice: bool, job: Job
) -> int:
    resubmit = job.settings.uncertain.on_uncertain == "resubmit"
    enrolled = await _enrol(batch, source, twice=twice, resubmit=resubmit)
    if enrolled.refused:
        return _show_refused(enrolled.refused, as_json=job.as_json)
    # Rows of an earlier manifest that cost nothing and stand in this one no more are nobody's business here.
    tally = await batch.tally()
    idle = Counter({Stage.PLANNED: tally.planned - enrolled.planned, Stage.FAILED: tally.failed - enrolled.failed})
    in_flight = job.settings.admission.max_in_flight
    plan = await make_plan(batch, enrolled.choice, rows=enrolled.rows, in_flight=in_flight)
    plan.warn()
    work = partial(batch.run, source.requests(), retry_failed=source.is_failures)
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


async def _enrol(batch: Batch, source: Manifest, *, twice: bool, resubmit: bool) -> _Enrolled:
    """Take all rows into the journal; where some stand twice, each is one row."""
    from kling_async.flow.crew import Instruction
    from kling_async.flow.retries import Choice

    found, seen = _Enrolled(Choice()), set[int]()
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
            if record.stage is Stage.DONE or (record.stage is Stage.FAILED and not source.is_failures):
                continue
            lost = record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}
            found.choice.note(record, Instruction.BUY_AGAIN if lost and resubmit else Instruction.GO_ON)
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
