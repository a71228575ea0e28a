"""`kling-async status`: how far a job has come, also while another process runs it. Nothing is written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kling_async.cli.ends import OK, complain, error_document, log_to_stderr, run_loop, show

if TYPE_CHECKING:
    from kling_async.journals import JobStatus

_EVERY: Final = 2.0
"""Seconds between two looks of `--watch`."""


@click.command("status")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--journal", type=click.Path(path_type=Path), metavar="PATH", help="Where the journal lies, if elsewhere."
)
@click.option("--watch", is_flag=True, help="Look again and again, until all rows have ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; with --watch, one a line.")
def command(*, folder: Path, journal: Path | None, watch: bool, as_json: bool) -> int:
    """Show how far the job in DIR has come: rows by stage, money, and the figures of a run under way."""
    from kling_async.errors import KlingError

    log_to_stderr(verbose=False)

    async def work() -> int:
        from kling_async.journals import read_status

        while True:
            status = await read_status(folder, journal)
            _tell(status, as_json=as_json, lines=watch)
            if not watch or status.ended:
                return OK
            await asyncio.sleep(_EVERY)

    async def looked() -> int:
        try:
            return await work()
        except KlingError as error:
            if as_json:
                _show(error_document(error), lines=watch)
            return complain(error)

    return run_loop(looked, stopped=lambda stop: _show(stop.document(), lines=watch) if as_json else None)


def _tell(status: JobStatus, *, as_json: bool, lines: bool) -> None:
    document = status.document()
    if as_json:
        _show(document, lines=lines)
    else:
        click.echo("\n".join(_in_words(document)))


def _show(document: dict[str, Any], *, lines: bool) -> None:
    """Write a document to stdout; where several may come, each is one line, also what ends them."""
    if not lines:
        show(document)
        return
    import json

    click.echo(json.dumps(document))


def _in_words(document: dict[str, Any]) -> list[str]:
    stages = ", ".join(f"{count} {stage}" for stage, count in document["stages"].items() if count)
    lines = [
        f"{document['done']} of {document['rows']} rows done ({stages})",
        f"{document['spent_usd']:.2f} USD spent, {document['held_usd']:.2f} held",
    ]
    figures = document["statistics"]
    if figures is None:
        return [*lines, "no run is under way"]
    admission, polling, downloads = figures["admission"], figures["polling"], figures["downloads"]
    searching = ", still searching for the limit" if admission["searching"] else ""
    lines.append(
        f"{admission['open']} of {admission['window']} slots taken{searching}; "
        f"{admission['refused']} of {admission['accepted'] + admission['refused']} submits refused as too many"
    )
    if polling["finished"]:
        lines.append(
            f"{polling['polls'] / polling['finished']:.1f} polls a video, noticed {polling['mean_lag']:.1f} s after "
            f"its end on average; the median takes {polling['median']:.0f} s"
        )
    lines.append(f"{downloads['running']} downloads under way, {downloads['waiting']} waiting")
    if figures["seconds"] > 0:
        videos, rate = 3600 * downloads["done"] / figures["seconds"], downloads["bytes"] / figures["seconds"]
        lines.append(f"{videos:.0f} videos an hour, {rate / 1e6:.2f} MB/s since the run began")
    if document["seconds_left"] is not None:
        lines.append(f"about {document['seconds_left'] / 60:.0f} min left")
    return lines
