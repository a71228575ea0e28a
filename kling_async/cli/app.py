"""The program `kling-async`: finds the command, and turns its end into an exit code.

Nothing heavy is imported here: `--help` must come at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from kling_async._version import __version__

COMMANDS: Final = {
    "generate": "Make one video from one image.",
    "run": "Run a manifest into a folder; run it again to resume.",
    "retry": "Try rows of a folder again that have no video.",
    "verify": "Hold the videos of a folder against its journal; fetch what is bad.",
    "status": "Show how far a job has come, also while it runs.",
    "simulate": "Serve the simulated service by itself.",
    "config": "Show the settings in force, and where each comes from.",
}
"""Every command and its line in the help; the modules are loaded when they are called."""

READER_GONE: Final = 141
"""As if SIGPIPE had ended the program: whoever read stdout went away."""

_SIGNALS: Final = frozenset({130, 143})


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

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click itself would take a reader who went away for something unforeseen."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _leave(READER_GONE)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kling-async")
def app() -> None:
    """Turn images into videos in bulk: nothing bought twice, nothing bought lost.

    The key is read from AIMLAPI_API_KEY. Data goes to stdout, all else to stderr.
    """


def main() -> None:
    """Run the program and exit with its code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started us closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # open to the end
    code = _run()
    try:
        sys.stderr.flush()
    except OSError:
        _leave(code)
    if code in _SIGNALS:
        _leave(code)
    sys.exit(code)


def _run() -> int:
    try:
        code = app.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _misused(error)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        _leave(READER_GONE)
    except OSError as error:
        with suppress(OSError):
            click.echo(f"kling-async: {error}", err=True)
        _leave(1)
    return code if isinstance(code, int) else 0


def _misused(error: click.ClickException) -> int:
    """Tell what is wrong with the call itself, as a document too where one was asked for."""
    with suppress(OSError):
        error.show()
    if "--json" in sys.argv:
        import json

        document = {"error": "UsageError", "message": error.format_message(), "generation_id": None, "exit_code": 2}
        click.echo(json.dumps(document, indent=2))
    return 2


def _leave(code: int) -> NoReturn:
    """End at once: what was bought is in the journal, and nothing that is still being read is waited for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
