"""The program explains itself at once, without loading what it does not need."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from functools import partial

from kling_async._version import __version__
from kling_async.cli.app import COMMANDS
from tests.cli.harness import World, at_once, until

HEAVY = {"aiohttp", "aiofiles", "anyio", "cattrs", "rich", "sqlite3", "kling_async.assembly"}


def test_each_command_explains_itself(world: World) -> None:
    """`--help` and `-h` of the program and of each command: 0, on stdout, with every command and its use."""
    helped = {name: world.start(*name.split(), "--help") for name in ("", *COMMANDS)}
    short = world.start("run", "-h")
    for name, process in helped.items():
        ended = process.finish()
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith("Usage: ")
        assert name in ended.out.splitlines()[0]
    assert all(f"  {name} " in helped[""].out for name in COMMANDS)
    assert short.finish().out == helped["run"].out


def test_the_version_is_told(world: World) -> None:
    """`--version` is the package's."""
    assert world.run("--version").out == f"kling-async, version {__version__}\n"


def test_help_loads_nothing_heavy(world: World) -> None:
    """Help comes at once: no HTTP library, event loop, database or display is imported for it."""

    def loaded(*arguments: str) -> set[str]:
        program = (
            f"import sys; sys.argv = ['kling-async', *{arguments!r}]\n"
            "from kling_async.cli.app import main\n"
            "try:\n    main()\n"
            "except SystemExit:\n    print('\\n' + ' '.join(sys.modules))\n"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=world.environment())
        return set(done.stdout.splitlines()[-1].split())

    modules = at_once(*(partial(loaded, *name.split(), "--help") for name in ("", *COMMANDS)))
    assert all("click" in found for found in modules)
    assert not modules[0] & (HEAVY | {"asyncio", "ssl"})
    assert not set.union(*modules) & HEAVY


def test_the_simulator_serves_until_it_is_stopped(world: World) -> None:
    """`simulate`: tells its address and key as a line for the shell; a run against it goes through; 143 at its end."""
    serving = world.start("simulate", "--port", "0", "--speed", "1000", "--clips", "template", "--admin")
    serving.says("Ctrl-C stops")
    until(lambda: serving.out.endswith("\n"), "the address")
    words = serving.out.split()
    assert words[0] == "export"
    env = dict(word.split("=", 1) for word in words[1:])
    assert set(env) == {"AIMLAPI_BASE_URL", "AIMLAPI_API_KEY"}
    assert world.run("run", world.manifest(2), "--out", "out", env=env).code == 0
    with urllib.request.urlopen(f"{env['AIMLAPI_BASE_URL']}/_sim/book", timeout=10) as answer:  # noqa: S310  # ours
        assert b'"duplicates"' in answer.read()
    port = env["AIMLAPI_BASE_URL"].rpartition(":")[2]
    second = world.run("simulate", "--port", port)
    assert (second.code, second.out) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in second.err
    serving.send(signal.SIGTERM)
    assert serving.finish().code == 143
