"""What a run shows while it goes, and the files and flags by which a program follows it, or keeps it short."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import World, at_once

ESCAPE = "\x1b["


def test_the_display_tells_all_that_matters(open_world: OpenWorld) -> None:
    """Rows by stage, slots, polls, downloads, money and the last failures: on the terminal, in place."""
    pytest.importorskip("rich", reason="the live display needs the extra `progress`")
    world = open_world(FaultPlan.of(Fault("job", "error_text", match="prompt 1", text="no \x1b[31mred\x1b[0m please")))
    ended = world.on_terminal("run", world.manifest(3), "--out", "out", "--budget", "5")
    assert ended.code == 3
    last = ended.plain[ended.plain.rindex("of 3 done after") - 20 :]
    for told in ("2 done", "1 failed", "slots taken", "0 waiting", "USD spent", "of 5.00", "last in trouble", "row1: "):
        assert told in last, told
    assert "\x1b[31mred" not in ended.err


def on_screen(sent: str) -> list[str]:
    """Return the lines of a terminal that was sent this: those that were drawn over are gone."""
    lines, at = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", sent):
        if piece == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif piece == f"{ESCAPE}1A":
            at -= 1
        elif piece == f"{ESCAPE}2K":
            lines[at] = ""
        elif piece[0] not in "\r\x1b":
            lines[at] += piece
    return lines


def test_what_is_said_meanwhile_stays_above_the_display(open_world: OpenWorld) -> None:
    """Neither drawn over, nor does it leave lines of an older drawing behind."""
    pytest.importorskip("rich", reason="the live display needs the extra `progress`")
    world = open_world(FaultPlan.of(Fault("poll", "leaked_status", text="pondering")), durations=30.0)
    rows = [{"key": key, "prompt": key} for key in "ab"]
    ended = world.on_terminal("run", world.manifest(rows), "--out", "out", question="2 generating", keys="\x03")
    assert ended.code == 130
    seen = on_screen(ended.err)
    for told in ("a: generation", "b: generation", "stopping: what is out is written down", "of 2 done after"):
        assert [told in line for line in seen].count(True) == 1, (told, seen)


def test_a_narrow_terminal_gets_whole_lines(open_world: OpenWorld) -> None:
    """However narrow the terminal is, the display keeps within it, and the job comes to its end."""
    pytest.importorskip("rich", reason="the live display needs the extra `progress`")

    def shown(world: World, columns: int) -> None:
        rows = [{"key": "日本 ключ", "prompt": "ein Öl-Gemälde, 日本"}, {"key": "a/b", "prompt": "x" * 300}]
        ended = world.on_terminal("run", world.manifest(rows), "--out", "out", COLUMNS=str(columns))
        assert (ended.code, len(world.videos()), "Traceback" in ended.err) == (0, 2, False)
        drawn = [line for line in ended.plain.splitlines() if line.startswith(("rows", "service", "polls", "money"))]
        assert drawn
        assert all(len(line.rstrip()) <= columns for line in drawn), drawn

    at_once(*(partial(shown, open_world(durations=0.7), columns) for columns in (24, 41, 200)))


def test_plain_text_reaches_no_terminal_as_a_command(world: World) -> None:
    """A key with escape codes is shown with its control characters replaced."""
    world.go_wrong(FaultPlan.of(Fault("job", "error_text")))
    rows = [{"key": "evil\x1b[2Jkey", "prompt": "p"}]
    ended = world.run("run", world.manifest(rows), "--out", "out")
    assert ended.code == 3
    assert "evil" in ended.err
    assert ESCAPE not in ended.err


def test_the_first_failure_stops_the_run(world: World) -> None:
    """`--fail-fast`: exit 3, rows left that were not bought, and the command that goes on."""
    world.go_wrong(FaultPlan.of(Fault("job", "error_text", match="prompt 0")))
    manifest = world.manifest(30)
    ended = world.run("run", manifest, "--out", "out", "--fail-fast", "--max-in-flight", "1", "--json")
    assert ended.code == 3
    assert ended.document["failed"] == 1
    assert ended.document["pending"] > 0
    assert "a row ended without a video, the last one 'row0'" in ended.err
    world.go_wrong(FaultPlan())
    assert ended.resume == ["run", manifest, "--out", "out", "--fail-fast", "--max-in-flight", "1", "--json"]
    again = world.run("retry", "out", "--max-failures", "1")
    assert again.code in {0, 3}
    done = world.run(*ended.resume)
    assert (done.code, done.document["done"]) == (0, 30)
    world.audit()


def test_each_change_is_told_to_a_file(world: World) -> None:
    """`--events FILE`: one line of JSON a change, beside an ordinary run; a second run adds nothing where none is."""
    command = ("run", world.manifest(2), "--out", "out", "--events", "events.jsonl", "--quiet")
    ended = world.run(*command)
    assert (ended.code, ended.err) == (0, "")
    lines = [json.loads(line) for line in (world.folder / "events.jsonl").read_text("utf-8").splitlines()]
    assert {line["key"] for line in lines if line["stage"] == "done"} == {"row0", "row1"}
    before = (world.folder / "events.jsonl").read_bytes()
    assert world.run(*command).code == 0
    assert (world.folder / "events.jsonl").read_bytes() == before


def test_a_place_where_events_cannot_be_written_is_a_usage_error(world: World) -> None:
    """Nothing is bought for a run that cannot be followed as asked."""
    ended = world.run("run", world.manifest(1), "--out", "out", "--events", "nowhere/events.jsonl")
    assert ended.code == 2
    assert "events cannot be written to nowhere/events.jsonl" in ended.err
    assert world.bought() == []


def test_lines_of_the_log_name_row_and_generation(world: World) -> None:
    """`--verbose`: each change of a row is told with its key, and from its submit on with its generation."""
    ended = world.run("run", world.manifest(2), "--out", "out", "--verbose")
    assert ended.code == 0
    ids = {purchase.generation_id for purchase in world.bought()}
    done = [line for line in ended.err.splitlines() if line.endswith(tuple(f"(generation {one})" for one in ids))]
    assert {key for line in done for key in ("row0", "row1") if key in line} == {"row0", "row1"}
