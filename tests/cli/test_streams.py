"""Data on stdout, all else on stderr; one JSON document in every end; colours and movement for terminals alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kling_async.simulator import Fault, FaultPlan
from kling_async.types.outcome import BatchReport, Tally
from tests.cli.conftest import OpenWorld
from tests.cli.harness import PATIENCE, World, at_once

ESCAPE = "\x1b"
SUMMARY = set(BatchReport(Tally(), Path(), 0.0).summary())


def consistent(summary: dict[str, Any]) -> bool:
    """Tell whether a summary has its documented fields, and its rows add up."""
    parts = ("done", "failed", "uncertain", "pending")
    return set(summary) == SUMMARY and summary["rows"] == sum(summary[name] for name in parts)


def test_a_run_ends_with_one_document(open_world: OpenWorld) -> None:
    """`--json` after success, failed rows, no credit, a refused key, no service: the summary, and its rows add up."""
    worlds = {
        0: open_world(),
        3: open_world(FaultPlan.of(Fault("job", "error_text", match="prompt 1"))),
        4: open_world(FaultPlan.of(Fault("submit", "401"), Fault("balance", "401"))),
        5: open_world(FaultPlan.of(Fault("submit", "403_credit", at=(2, 3)))),
        75: open_world(),
    }
    worlds[75].loop.do(worlds[75].service.stop_listening())
    command = ("--out", "out", "--json", "--unavailable-after", "1")
    running = {code: world.start("run", world.manifest(2), *command) for code, world in worlds.items()}
    for code, process in running.items():
        ended = process.finish()
        assert (ended.code, consistent(ended.document)) == (code, True), ended


def test_a_run_that_does_not_begin_ends_with_one_document_too(world: World) -> None:
    """`--json` without a key, with a wrong manifest, setting, folder or flag: one document that says what is wrong."""
    command = ("run", world.manifest(1), "--out", "out", "--json")
    world.write("file", "")
    world.write("wrong.csv", "image,prompt,duration\ncat.png,p,7\n")
    without = {"AIMLAPI_API_KEY": None}
    cases = {
        "AuthenticationFailed": world.start(*command, env=without),
        "ConfigurationError": world.start(*command, "--budget", "-1"),
        "JournalError": world.start("run", "shots.jsonl", "--out", "file", "--json"),
        "ManifestError": world.start("run", "wrong.csv", "--out", "out", "--json"),
        "UsageError": world.start("run", "--json"),
    }
    for name, process in cases.items():
        ended = process.finish()
        assert ended.document["error"] == name
        assert ended.document["exit_code"] == ended.code
        assert ended.code == (4 if name == "AuthenticationFailed" else 2)
        assert ended.err, "and a person is told as well"
    (fault,) = json.loads(cases["ManifestError"].out)["errors"]
    assert fault == {"line": 2, "field": "duration", "message": "must be 5 or 10 (seconds), not 7"}


def test_a_stopped_run_ends_with_one_document(open_world: OpenWorld) -> None:
    """`--json` after a signal: the summary as it stands, with what is pending and held."""
    world = open_world(durations=60.0)
    command = ("run", world.manifest(2), "--json", "--out")
    running = {signal.SIGINT: world.start(*command, "a"), signal.SIGTERM: world.start(*command, "b")}
    world.until_called("submit", 4)
    for number, process in running.items():
        process.send(number)
        summary = process.finish().document
        assert consistent(summary)
        assert (summary["rows"], summary["pending"], summary["held_usd"]) == (2, 2, 0.52)


def test_other_commands_end_with_one_document_as_well(world: World) -> None:
    """`--json` of generate, config and a dry run: one document, whether they succeed or not."""
    world.manifest(2)
    world.write("there.mp4", "")
    generate = ("generate", "cat.png", "--json", "-o")
    cases = {
        0: [
            world.start(*generate, "new.mp4"),
            world.start("config", "--json"),
            world.start("run", "shots.jsonl", "--out", "out", "--dry-run", "--json"),
        ],
        2: [
            world.start(*generate, "there.mp4"),
            world.start(*generate, "a.mp4", "--duration", "7"),
            world.start(*generate, "b.mp4", "--dynamic-masks", "{"),
            world.start(*generate, "c.mp4", env={"KLING_ASYNC_PRICE": "dear"}),
            world.start("generate", "no.png", "-o", "d.mp4", "--json"),
            world.start("generate", "--json"),
            world.start("config", "--json", "--price", "-1"),
        ],
        4: [world.start(*generate, "e.mp4", env={"AIMLAPI_API_KEY": None})],
    }
    for code, processes in cases.items():
        for process in processes:
            ended = process.finish()
            assert ended.code == code, ended
            assert ended.document.get("exit_code", 0) == code
    assert len(world.bought()) == 1


def test_quiet_says_nothing_where_nothing_is_wrong(world: World) -> None:
    """`--quiet`: not a word on either stream, at the first run and at the second; an error is told all the same."""
    command = ("run", world.manifest(2), "--out", "out", "--quiet")
    for _ in range(2):
        ended = world.run(*command)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    ended = world.run("generate", "cat.png", "-o", "cat.mp4", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "cat.mp4\n", "")
    ended = world.run(*command, env={"AIMLAPI_API_KEY": None})
    assert (ended.code, ended.out) == (4, "")
    assert len(ended.err.splitlines()) == 1


def test_what_is_no_terminal_gets_plain_lines(world: World) -> None:
    """Into a pipe or a file there are no escape codes and no returns to the line's start, whatever TERM says."""
    command = ("run", world.manifest(2), "--out")
    with (world.folder / "log").open("wb") as log:
        written = world.start(*command, "b", stderr=log, env={"FORCE_COLOR": None})
        ended = world.run(*command, "a", "--verbose")
        assert written.finish().code == 0
    for text in (ended.err, (world.folder / "log").read_text("utf-8")):
        assert ESCAPE not in text
        assert "\r" not in text


def test_a_terminal_sees_the_run_move(open_world: OpenWorld) -> None:
    """With stderr on a terminal there is a live display; stdout stays data alone."""
    pytest.importorskip("rich", reason="the live display needs the extra `progress`")
    world = open_world(durations=0.6)
    ended = world.on_terminal("run", world.manifest(2), "--out", "out", "--json")
    assert ended.code == 0
    assert ESCAPE in ended.err
    assert "2 of 2 done" in ended.plain
    assert ended.document["done"] == 2


def test_a_terminal_that_wants_no_colours_gets_none(open_world: OpenWorld) -> None:
    """NO_COLOR, or a terminal that can do nothing: no live display and no escape codes."""

    def shown(world: World, **variable: str) -> None:
        ended = world.on_terminal("run", world.manifest(2), "--out", "out", **variable)
        assert ended.code == 0
        assert ESCAPE not in ended.err
        assert "2 of 2 rows have their video" in ended.err

    at_once(partial(shown, open_world(), NO_COLOR="1"), partial(shown, open_world(), TERM="dumb"))


def test_quiet_is_quiet_on_a_terminal_too(world: World) -> None:
    """`--quiet` shows no live display."""
    ended = world.on_terminal("run", world.manifest(1), "--out", "out", "--quiet")
    assert (ended.code, ended.err) == (0, "")


def closed_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def test_a_reader_that_went_away_does_not_lose_the_job(open_world: OpenWorld) -> None:
    """`run … | head -1`: with stdout or stderr closed by its reader, the job comes to its end all the same."""

    def unread(world: World, stream: str, flag: str) -> None:
        pipe = closed_pipe()
        given: dict[str, Any] = {stream: pipe}
        process = world.start("run", world.manifest(3), "--out", "out", flag, **given)
        os.close(pipe)
        ended = process.finish()
        assert ended.code == (141 if (stream, flag) == ("stdout", "--json") else 0)
        assert "Traceback" not in ended.err
        assert len(world.videos()) == 3
        world.audit()

    cases = [(stream, flag) for stream in ("stdout", "stderr") for flag in ("--json", "--verbose")]
    at_once(*(partial(unread, open_world(), stream, flag) for stream, flag in cases))


def test_streams_that_were_never_open_do_not_lose_the_job(open_world: OpenWorld) -> None:
    """Started by something that gives it no stdout, stderr or stdin at all: the job is done, and ends with 0."""

    def closed(world: World, closing: str) -> None:
        program = [sys.executable, "-m", "kling_async", "run", world.manifest(2), "--out", "out"]
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *program],
            cwd=world.folder,
            env=world.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done
        assert len(world.videos()) == 2
        world.audit()

    at_once(*(partial(closed, open_world(), closing) for closing in (">&-", "2>&-", "<&-", "<&- >&- 2>&-")))


def test_a_full_disk_behind_stdout_is_told(world: World) -> None:
    """What cannot be written to stdout is an error, not silence; the job was done before."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        ended = world.start("run", world.manifest(1), "--out", "out", "--json", stdout=full).finish()
    assert ended.code == 1
    assert "No space left" in ended.err
    assert "Traceback" not in ended.err
    world.audit()
