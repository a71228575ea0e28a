"""How far a job has come, told beside the process that runs it and afterwards; nothing is written for it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import World, until


def files(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_tells_how_far_a_job_has_come(open_world: OpenWorld) -> None:
    """While it runs, by stage and with the figures of the run; watched to its end; and afterwards."""
    world = open_world(FaultPlan.of(Fault("submit", "400", match="prompt 0")), durations=3.0)
    running = world.start("run", world.manifest(3), "--out", "out")
    world.until_called("poll", 2)
    watching = world.start("status", "out", "--watch", "--json")
    words, document = world.run("status", "out"), world.run("status", "out", "--json")
    assert running.popen.poll() is None, "it was to be looked at while it runs"
    assert (words.code, words.err, document.code, document.err) == (0, "", 0, "")
    assert words.out.splitlines()[0] == "0 of 3 rows done (2 submitted, 1 failed)"
    assert "of 4 slots taken, still searching for the limit" in words.out
    told = document.document
    assert (told["running"], told["rows"], told["stages"]["submitted"], told["failed"]) == (True, 3, 2, 1)
    assert told["held_usd"] > 0
    assert told["statistics"]["admission"]["window"] == 4
    assert running.finish().code == 3
    watched = watching.finish()
    looks = [json.loads(line) for line in watched.out.splitlines()]
    assert (watched.code, watched.err) == (0, "")
    assert [looks[0]["running"], looks[-1]["running"]] == [True, False]
    assert (looks[-1]["done"], looks[-1]["failed"], looks[-1]["pending"]) == (2, 1, 0)
    ended = world.run("status", "out")
    assert ended.out == "2 of 3 rows done (2 done, 1 failed)\n0.52 USD spent, 0.00 held\nno run is under way\n"


def test_a_look_changes_nothing(world: World) -> None:
    """Not a byte of the folder, nor a file more."""
    assert world.run("run", world.manifest(2), "--out", "out").code == 0
    before = files(world.folder)
    for flags in ([], ["--json"], ["--watch"], ["--watch", "--json"]):
        assert world.run("status", "out", *flags).code == 0
    assert files(world.folder) == before


def test_what_is_no_job_is_told(world: World) -> None:
    """A folder that is not there, one without a journal, a file, another journal: 2, and nothing is made."""
    assert world.run("run", world.manifest(1), "--out", "out").code == 0
    before = files(world.folder)
    for arguments in (["nowhere"], ["."], ["cat.png"], ["out", "--journal", "another.db"]):
        told, document = world.run("status", *arguments), world.run("status", *arguments, "--json")
        line = world.run("status", *arguments, "--json", "--watch")
        assert (told.code, told.out, document.code, line.code) == (2, "", 2, 2), arguments
        assert line.out.count("\n") == 1, arguments
        assert told.err.startswith("kling-async: "), arguments
        assert document.document["exit_code"] == 2, arguments
    assert files(world.folder) == before


def test_watching_ends_with_ctrl_c(open_world: OpenWorld) -> None:
    """What was told by then is one document a line, what ends it too, and the run goes on."""
    world = open_world(durations=30.0)
    running = world.start("run", world.manifest(1), "--out", "out")
    world.until_called("poll")
    watching = world.start("status", "out", "--watch", "--json")
    until(lambda: bool(watching.out), "a first look")
    watching.send(signal.SIGINT)
    ended = watching.finish()
    assert ended.code == 130
    *looks, last = map(json.loads, ended.out.splitlines())
    assert all(look["running"] for look in looks)
    assert (last["error"], last["exit_code"]) == ("Stopped", 130)
    assert running.popen.poll() is None
