"""`kling-async config`: the settings in force, and where each comes from."""

from __future__ import annotations

from pathlib import Path

import click

from kling_async.cli.ends import OK, complain, show
from kling_async.cli.options import read_flags, setting_flags


@click.command("config")
@setting_flags
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def command(*, as_json: bool, **flags: object) -> int:
    """Show the settings in force, and where each comes from: flag, environment, kling-async.toml, default."""
    from kling_async.configuration import load_settings
    from kling_async.errors import KlingError

    try:
        settings, origins = load_settings(read_flags(flags), folder=Path())
    except KlingError as error:
        return complain(error, as_json=as_json)
    shown = {
        name: ("set" if value else "missing") if name == "api_key" else value for name, value in settings.flat().items()
    }
    if as_json:
        show({name: {"value": value, "from": origins[name]} for name, value in shown.items()})
        return OK
    width = max(map(len, shown))
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {'-' if value is None else value!s:<28}  {origins[name]}")
    return OK
