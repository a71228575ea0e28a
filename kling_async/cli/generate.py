"""`kling-async generate`: one video."""

from __future__ import annotations

import asyncio
import json
import shlex
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve

from kling_async.cli.ends import OK, complain, log_to_stderr, run_loop, say, show
from kling_async.cli.simulated import simulated
from kling_async.errors import AnswerLost, ConfigurationError, GenerationFailed, KlingError
from kling_async.types.request import ImageToVideo

if TYPE_CHECKING:
    from kling_async.flow.client import KlingClient
    from kling_async.types.outcome import VideoFile
    from kling_async.types.settings import Settings


@click.command("generate")
@click.argument("image", required=False)
@click.option("-p", "--prompt", help="What shall happen.")
@click.option("-o", "--output", "path", required=True, metavar="FILE", help="Where to put the video.")
@click.option("--tail-image", metavar="IMAGE", help="The last frame (5 s only).")
@click.option("--duration", type=int, default=5, show_default=True, help="Seconds: 5 or 10.")
@click.option("--negative-prompt", help="What shall not be seen.")
@click.option("--cfg-scale", type=float, help="How close to stick to the prompt, 0 to 1.")
@click.option("--static-mask", metavar="IMAGE", help="The area that stays still.")
@click.option("--dynamic-masks", metavar="JSON", help='[{"mask": IMAGE, "trajectories": [{"x": 1, "y": 2}, …]}, …]')
@click.option(
    "--resume", metavar="ID", help="Buy nothing: wait for and fetch what was bought, by its generation id or ka1.… id."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds to wait for the generation."
)
@click.option(
    "--no-image-checks",
    "image_checks",
    flag_value=False,
    default=None,
    type=bool,
    help="Leave the model's rules on images to the service.",
)
@click.option("--simulate", is_flag=True, help="Use the embedded simulator: no key, no cost.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("--verbose", is_flag=True, help="Every call on stderr.")
def command(**given: Any) -> int:
    """Make one video from IMAGE: a file, a URL or a data URI."""
    if (given["image"] is None) == (given["resume"] is None):
        raise click.UsageError("give either IMAGE or --resume ID")
    from kling_async.configuration import load_settings

    log_to_stderr(verbose=given.pop("verbose"))
    try:
        settings, _ = load_settings({"image_checks": given.pop("image_checks")}, folder=Path())
        given["dynamic_masks"] = _read_masks(given["dynamic_masks"])
        _check_place(Path(given["path"]), overwrite=given.pop("overwrite"))
    except KlingError as error:
        return complain(error, as_json=given["as_json"])
    return run_loop(partial(_generate, settings=settings, **given), as_json=given["as_json"])


def _check_place(path: Path, *, overwrite: bool) -> None:
    """Check that the video can be put there, before anything is bought."""
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder: name the file, such as {path / 'video.mp4'}")
    if path.exists() and not overwrite:
        raise ConfigurationError(f"{path} is there already, and another video costs money: --overwrite makes one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}); nothing was bought") from None


async def _generate(
    *,
    path: str,
    timeout: float | None,
    simulate: bool,
    as_json: bool,
    quiet: bool,
    resume: str | None,
    settings: Settings,
    **fields: Any,
) -> int:
    from kling_async.assembly import open_client

    request = None if resume else ImageToVideo(**fields)
    if settings.money.budget is not None:
        # It is held by a folder's journal, over all that the folder ever buys; this is one video, and has none.
        say("the budget of the settings is for jobs (`run`, `retry`): this one video is not counted against it")
        settings = evolve(settings, money=evolve(settings.money, budget=None))
    async with (
        simulated(on=simulate) as beside,
        open_client(settings.updated(**beside.settings)) as client,
    ):
        if not quiet:
            say("a simulated video takes some seconds" if simulate else "a video takes about five minutes")
        file = await _make(client, request, path, resume=resume, timeout=timeout)
    _show(file, as_json=as_json)
    return OK


async def _make(
    client: KlingClient, request: ImageToVideo | None, path: str, *, resume: str | None, timeout: float | None
) -> VideoFile:
    """Make a video, or go on with one; tell how to go on with what is bought, however it ends."""
    bought = resume
    try:
        if request is not None:
            bought = (await client.submit(request)).id
        generation = await client.wait(await _bought(client, bought or ""), timeout=timeout)
        return await client.download(generation, path)
    except asyncio.CancelledError:
        _tell_how_to_go_on(bought, path)
        raise
    except KlingError as error:
        if not isinstance(error, GenerationFailed):
            _tell_how_to_go_on(error.generation_id or getattr(error, "client_request_id", None) or bought, path)
        raise


def _tell_how_to_go_on(bought: str | None, path: str) -> None:
    if bought:
        say(f"go on with: {shlex.join(['kling-async', 'generate', '--resume', bought, '-o', path])}")


async def _bought(client: KlingClient, name: str) -> str:
    """Return the generation id, looked up where a submit's own id is given."""
    if not name.startswith("ka1."):
        return name
    generation = await client.find(name)
    if generation is None:
        raise AnswerLost(f"the usage log does not list {name} (yet): try again later", client_request_id=name)
    return generation.id


def _show(file: VideoFile, *, as_json: bool) -> None:
    if not as_json:
        click.echo(str(file.path))
        return
    document = {
        "path": str(file.path),
        "bytes": file.size,
        "sha256": file.sha256,
        "generation_id": file.generation_id,
        "seconds": file.seconds,
    }
    show(document)


def _read_masks(text: str | None) -> Any:
    if text is None:
        return ()
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"--dynamic-masks is not JSON: {error}") from None
