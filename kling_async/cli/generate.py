"""`kling-async generate`: one video."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import click

from kling_async.cli.ends import OK, log_to_stderr, run_loop, say
from kling_async.cli.options import read_flags
from kling_async.cli.simulated import simulated


@click.command("generate")
@click.argument("image")
@click.option("-p", "--prompt", help="What shall happen.")
@click.option("-o", "--output", "path", required=True, metavar="FILE", help="Where to put the video.")
@click.option("--tail-image", metavar="IMAGE", help="The last frame (5 s only).")
@click.option("--duration", type=int, default=5, show_default=True, help="Seconds: 5 or 10.")
@click.option("--negative-prompt", help="What shall not be seen.")
@click.option("--cfg-scale", type=float, help="How close to stick to the prompt, 0 to 1.")
@click.option("--static-mask", metavar="IMAGE", help="The area that stays still.")
@click.option("--dynamic-masks", metavar="JSON", help='[{"mask": IMAGE, "trajectories": [{"x": 1, "y": 2}, …]}, …]')
@click.option("--timeout", type=float, metavar="S", help="Seconds to wait for the generation.")
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
    log_to_stderr(verbose=given.pop("verbose"))
    return run_loop(partial(_generate, **given))


async def _generate(
    *,
    path: str,
    timeout: float | None,
    simulate: bool,
    as_json: bool,
    quiet: bool,
    image_checks: bool | None,
    **fields: Any,
) -> int:
    from kling_async.assembly import open_client
    from kling_async.types.request import ImageToVideo

    request = ImageToVideo(**{**fields, "dynamic_masks": _read_masks(fields["dynamic_masks"])})
    async with (
        simulated(on=simulate) as overrides,
        open_client(**read_flags({"image_checks": image_checks, **overrides})) as client,
    ):
        if not quiet:
            say("a video takes about five minutes" if not simulate else "a simulated video takes some seconds")
        file = await client.generate(request, path, timeout=timeout)
    if as_json:
        document = {
            "path": str(file.path),
            "bytes": file.size,
            "sha256": file.sha256,
            "generation_id": file.generation_id,
            "seconds": file.seconds,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(str(file.path))
    return OK


def _read_masks(text: str | None) -> Any:
    if text is None:
        return ()
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"is not JSON: {error}", param_hint="--dynamic-masks") from None
