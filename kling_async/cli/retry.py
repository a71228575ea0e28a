"""`kling-async retry`: rows of a folder's journal that have no video, tried again. It needs no manifest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kling_async.cli.ends import complain, say
from kling_async.cli.job import Job, Stand, begin, job_flags, opened, spend
from kling_async.cli.options import setting_flags
from kling_async.cli.plan import make_plan
from kling_async.errors import KlingError

if TYPE_CHECKING:
    from kling_async.cli.progress import Progress
    from kling_async.flow.batch import Batch
    from kling_async.flow.retries import Retry


@click.command("retry")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--uncertain", is_flag=True, help="Look for rows, too, of which it is not known whether they were bought."
)
@click.option(
    "--buy-again",
    is_flag=True,
    help="Pay a second time for rows that were set aside, where the service has no video of them.",
)
@click.option("--key", "keys", multiple=True, metavar="K", help="Only the row with this key; more than once for more.")
@click.option(
    "--error", "errors", multiple=True, metavar="KIND", help="Only rows with this error; more than once for more."
)
@setting_flags
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="PATH", help="Where the journal is; the folder knows it."
)
@job_flags
def command(**given: Any) -> int:
    """Try the rows of a folder again that have no video. Nothing that money stands behind is bought again unasked."""
    from kling_async.journals import find_journal

    try:
        given["journal"] = find_journal(given["out"], given["journal"])
    except KlingError as error:
        return complain(error, as_json=given["json"])
    return begin(_retry, given)


async def _retry(  # the flags, each by name
    *,
    out: Path,
    uncertain: bool,
    buy_again: bool,
    keys: tuple[str, ...],
    errors: tuple[str, ...],
    journal: Path,
    job: Job,
    stand: Stand,
) -> int:
    from kling_async.flow.retries import Retry

    retry = Retry(uncertain=uncertain, buy_again=buy_again, keys=keys, errors=errors)
    async with opened(out, journal, job=job, stand=stand) as (batch, progress):
        return await _spend(batch, retry, progress, stand, job=job)


async def _spend(batch: Batch, retry: Retry, progress: Progress, stand: Stand, *, job: Job) -> int:
    choice = await batch.choose(retry)
    if not job.quiet:
        for key, reason in choice.passed_over.items():
            say(f"row {key!r} is not tried again: it {reason}")
    plan = await make_plan(batch, choice, in_flight=job.settings.admission.max_in_flight)
    plan.warn(buy_again=retry.buy_again)
    idle = choice.left(await batch.tally())
    work = partial(batch.run, retry)
    return await spend(batch, work, plan, idle=idle, progress=progress, stand=stand, job=job)
