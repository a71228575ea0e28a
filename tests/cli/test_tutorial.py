"""The tutorial of the bulk job, played from its first line to its last: the program says what stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import World

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial/a-bulk-job.md"

Step = tuple[str, list[str]]
"""A command, and the lines that stand below it."""


def blocks(language: str) -> list[str]:
    """Return the blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def steps() -> Iterator[Step]:
    """Yield the commands of the page in their order, but for the one that would pay."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *said = part.splitlines()
            if "--budget" not in command:
                yield command, [line for line in said if not line.startswith("[…")]


def general(line: str) -> str:
    """Return a line without what differs from one session to the next."""
    line = re.sub(r", [\d.]+ USD on the account|\(.* failed\)|[\d,]+ s\b", "", line)
    return re.sub(r"[\d.]+", "N", line)


def test_the_session_is_as_it_is_told(world: World) -> None:
    """Each command of the page, in its order: run, stopped by Ctrl-C, resumed, a row repaired, verified."""
    for extra in ("rich", "av", "PIL"):
        pytest.importorskip(extra, reason="the tutorial needs the extras `progress` and `video`")
    shutil.copytree(ROOT / "examples/images", world.folder / "images")
    world.write("shots.csv", blocks("csv")[0])
    stops = iter([True])
    for command, said in steps():
        name, *arguments = shlex.split(command)
        if name != "kling-async":
            program = sys.executable if name == "python" else name
            subprocess.run([program, *arguments], cwd=world.folder, check=True)
            continue
        stopped = not said and next(stops)
        keys = {"question": "last in trouble", "keys": "\x03"} if stopped else {}
        ended = world.on_terminal(*arguments, COLUMNS="200", **keys)
        given = [general(line) for line in (*ended.plain.splitlines(), *ended.out.splitlines())]
        expected = stopping() if stopped else said
        assert expected
        for line in expected:
            assert general(line) in given, (command, line, given)
        assert ended.code == (130 if stopped else 3 if "(4 new)" in "".join(said) else 0), command
    assert not world.bought(), "the simulator beside the command was meant"
    assert len(world.videos("videos")) == 8


def stopping() -> list[str]:
    """Return what is told of the stop."""
    (block,) = [block for block in blocks("text") if "stopping:" in block]
    return [line for line in block.splitlines() if not line.startswith("[…")]
