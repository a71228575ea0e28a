"""`kling-async simulate`: the simulated service by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kling_async.cli.ends import OK, USAGE, run_loop, say

if TYPE_CHECKING:
    from kling_async.simulator.server import Simulator


@click.command("simulate")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The API's port; the videos' is chosen.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times faster than the real service.",
)
@click.option(
    "--faults", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A plan of troubles: TOML or JSON."
)
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="Generations at once.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all its dice.")
@click.option(
    "--clips",
    type=click.Choice(["rendered", "template"]),
    default="rendered",
    show_default=True,
    help="Videos made from the image, or packaged ones.",
)
@click.option("--admin", is_flag=True, help="Serve the account book at /_sim/book.")
def command(*, host: str, port: int, faults: Path | None, **options: Any) -> int:
    """Serve the simulated service until it is stopped. Its key is sim-key."""
    from kling_async.simulator.faultfile import load_plan
    from kling_async.simulator.server import serve
    from kling_async.simulator.settings import SimulatorSettings

    try:
        plan = load_plan(faults) if faults is not None else None
        settings = SimulatorSettings(**options)
    except (ValueError, TypeError, OSError) as error:
        say(f"kling-async: {error}")
        return USAGE

    def ready(simulator: Simulator) -> None:
        click.echo(f"export AIMLAPI_BASE_URL={simulator.base_url} AIMLAPI_API_KEY=sim-key")
        say(f"serving at {simulator.base_url}, videos at {simulator.cdn_url}; Ctrl-C stops")

    async def work() -> int:
        await serve(settings, plan, host=host, api_port=port, on_ready=ready)
        await asyncio.sleep(0)
        return OK

    try:
        return run_loop(work)
    except OSError as error:
        say(f"kling-async: cannot listen on {host}:{port}: {error.strerror or error}")
        return USAGE
