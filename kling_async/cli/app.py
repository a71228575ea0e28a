"""The program `kling-async`: finds the command, and turns its end into an exit code.

Nothing heavy is imported here: `--help` must come at once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from kling_async._version import __version__

COMMANDS: Final = {
    "generate": "Make one video from one image.",
    "run": "Run a manifest into a folder; run it again to resume.",
    "simulate": "Serve the simulated service by itself.",
    "config": "Show the settings in force, and where each comes from.",
}
"""Every command and its line in the help; the modules are loaded when they are called."""


class _Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"kling_async.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kling-async")
def app() -> None:
    """Turn images into videos in bulk: nothing bought twice, nothing bought lost.

    The key is read from AIMLAPI_API_KEY. Data goes to stdout, all else to stderr.
    """


def main() -> None:
    """Run the program and exit with its code."""
    try:
        code = app.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        _leave(141)
    except OSError as error:
        click.echo(f"kling-async: {error}", err=True)
        _leave(1)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _leave(141)
    except OSError as error:
        click.echo(f"kling-async: the output cannot be written: {error.strerror}", err=True)
        _leave(1)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(code: int) -> NoReturn:
    """End without another word: whoever read our output is gone, and what was bought is in the journal."""
    os._exit(code)
