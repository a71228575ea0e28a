"""Each way in which a run ends has its exit code, and says what happened and what to do."""

from __future__ import annotations

import signal
from functools import partial

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import World, at_once

NOWHERE = "http://127.0.0.1:9"
"""An address at which nobody listens."""


def test_a_run_whose_rows_all_have_their_video_ends_with_0(world: World) -> None:
    """0: each row has its whole video, its line in the metadata, and nothing is said on stdout."""
    ended = world.run("run", world.manifest(3), "--out", "out")
    assert (ended.code, ended.out) == (0, "")
    assert world.videos() == {"row0.mp4", "row1.mp4", "row2.mp4"}
    assert "3 of 3 rows have their video" in ended.err
    world.audit()


def test_a_second_run_does_nothing_and_says_so(world: World) -> None:
    """The same command again: nothing is bought, asked or fetched, the files stay as they are, and it is told."""
    command = ("run", world.manifest(2), "--out", "out")
    assert world.run(*command).code == 0
    calls = {name: world.calls(name) for name in ("submit", "poll", "download")}
    files = {name: (world.folder / "out/videos" / name).stat().st_mtime_ns for name in world.videos()}
    again = world.run(*command)
    assert (again.code, again.out) == (0, "")
    assert "nothing to do: all 2 rows are done" in again.err
    assert {name: world.calls(name) for name in calls} == calls
    assert {name: (world.folder / "out/videos" / name).stat().st_mtime_ns for name in world.videos()} == files
    world.audit()


def test_rows_that_failed_end_with_3_and_are_listed(open_world: OpenWorld) -> None:
    """3: the other rows have their videos; the failed one is told, listed, and tried again from the list."""
    world = open_world(FaultPlan.of(Fault("job", "error_named", match="prompt 1")))
    ended = world.run("run", world.manifest(3), "--out", "out")
    assert (ended.code, ended.out) == (3, "")
    assert "row1: failed" in ended.err
    assert "1 failed, 0 uncertain, 0 pending: see out/failures.jsonl" in ended.err
    assert world.videos() == {"row0.mp4", "row2.mp4"}
    again = world.run("run", "shots.jsonl", "--out", "out")
    assert again.code == 3, "a failed row is not forgotten"
    assert len(world.bought()) == 3, "nor tried again unasked"
    world.go_wrong(FaultPlan())
    assert world.run("run", "out/failures.jsonl", "--out", "out").code == 0
    assert not (world.folder / "out/failures.jsonl").exists()
    world.audit()


def test_a_row_that_is_set_aside_ends_with_3_and_keeps_its_money(open_world: OpenWorld) -> None:
    """3: a row whose answer was lost and is not found may have been bought: told, listed, never bought again."""
    world = open_world(FaultPlan.of(Fault("submit", "dropped_after", at=(1,))), log_listing="never")
    ended = world.run("run", world.manifest(2), "--out", "out", "--uncertain-after", "0.5", "--json")
    assert ended.code == 3
    assert (ended.document["done"], ended.document["uncertain"]) == (1, 1)
    assert ended.document["held_usd"] > 0
    assert (world.folder / "out/failures.jsonl").exists()
    assert world.run("run", "shots.jsonl", "--out", "out").code == 3
    assert world.run("run", "out/failures.jsonl", "--out", "out").code == 3
    assert world.calls("submit") == 2


def test_without_a_key_it_ends_with_4(world: World) -> None:
    """4: no key; it names the variable, and nothing is asked of the service."""
    command = ("run", world.manifest(2), "--out", "out")
    unset = world.start(*command, env={"AIMLAPI_API_KEY": None})
    empty = world.start(*command, env={"AIMLAPI_API_KEY": " "})
    for ended in (unset.finish(), empty.finish()):
        assert (ended.code, ended.out) == (4, "")
        assert "AIMLAPI_API_KEY" in ended.err
    assert world.ask(lambda service: not service.book.calls)
    assert not (world.folder / "out").exists()


def test_a_key_that_is_refused_ends_with_4_and_every_row_stands(world: World) -> None:
    """4: a wrong key buys nothing and fails no row; with the right one the same command goes through."""
    command = ("run", world.manifest(2), "--out", "out")
    ended = world.run(*command, env={"AIMLAPI_API_KEY": "sk-another-key"})
    assert (ended.code, ended.out) == (4, "")
    assert "check the key in AIMLAPI_API_KEY" in ended.err
    assert not world.bought()
    assert world.run(*ended.resume).code == 0
    world.audit()


def test_an_account_without_credit_ends_with_5_and_open_videos_come_home(open_world: OpenWorld) -> None:
    """5: out of credit: what is open is finished and fetched; after a top-up the same command buys the rest."""
    world = open_world(FaultPlan.of(Fault("submit", "403_credit", at=(3, 4, 5))), durations=0.6)
    ended = world.run("run", world.manifest(5), "--out", "out")
    assert (ended.code, ended.out) == (5, "")
    assert "top up" in ended.err.lower()
    assert "what was open was brought to its end" in ended.err
    assert len(world.videos()) == len(world.bought()) == 2
    assert not (world.folder / "out/failures.jsonl").exists(), "no row is to blame"
    world.go_wrong(FaultPlan())
    assert world.run(*ended.resume).code == 0
    assert len(world.bought()) == 5
    world.audit()


def test_a_budget_that_is_reached_ends_with_5_and_holds_over_all_runs(world: World) -> None:
    """5: the next row would pass the budget; a second run buys no more under it, and the rest under a larger one."""
    command = ("run", world.manifest(4), "--out", "out", "--budget")
    ended = world.run(*command, "0.60")
    assert (ended.code, len(world.bought())) == (5, 2)
    assert "raise --budget" in ended.err
    assert world.run(*command, "0.60").code == 5
    assert len(world.bought()) == 2
    assert world.run(*command, "1.04").code == 0
    world.audit()


def test_a_folder_in_use_ends_with_6(open_world: OpenWorld) -> None:
    """6: another run holds the folder; it is named, nothing is bought, and the other one is not disturbed."""
    world = open_world(durations=2.0)
    command = ("run", world.manifest(1), "--out", "out")
    first = world.start(*command)
    world.until_called("submit")
    second = world.run(*command, "--json")
    assert second.code == 6
    assert (second.document["error"], second.document["exit_code"]) == ("JournalLocked", 6)
    assert f"in use by process {first.popen.pid}" in second.err
    assert first.finish().code == 0
    assert len(world.bought()) == 1
    world.audit()


def test_a_service_that_is_away_ends_with_75_and_every_row_stands(open_world: OpenWorld) -> None:
    """75: no usable answer for as long as was said, from the start or in the midst: no row failed, nothing is lost."""

    def stays_away(world: World) -> None:
        env = {"AIMLAPI_BASE_URL": NOWHERE, "KLING_ASYNC_UNAVAILABLE_AFTER": "1"}
        ended = world.run("run", world.manifest(2), "--out", "out", env=env)
        assert (ended.code, ended.out) == (75, "")
        assert ended.seconds < 10
        assert "no usable answer from the service" in ended.err
        assert not (world.folder / "out/failures.jsonl").exists()
        assert world.run(*ended.resume).code == 0

    def goes_away(world: World) -> None:
        running = world.start("run", world.manifest(2), "--out", "out", "--unavailable-after", "1")
        world.until_called("submit", 2)
        world.loop.do(world.service.stop_listening())
        ended = running.finish()
        assert ended.code == 75
        world.loop.do(world.service.listen_again())
        assert world.run(*ended.resume).code == 0

    worlds = open_world(), open_world(durations=1.0)
    at_once(partial(stays_away, worlds[0]), partial(goes_away, worlds[1]))
    for world in worlds:
        assert len(world.bought()) == 2
        world.audit()


def test_signals_have_codes_of_their_own(open_world: OpenWorld) -> None:
    """130 after Ctrl-C, 143 after a request to terminate, in each command that lasts."""
    world = open_world(durations=60.0)
    world.manifest(1)
    running = [
        world.start("run", "shots.jsonl", "--out", "a"),
        world.start("run", "shots.jsonl", "--out", "b"),
        world.start("generate", "cat.png", "-o", "c.mp4"),
        world.start("generate", "cat.png", "-o", "d.mp4"),
    ]
    world.until_called("submit", 4)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    for process, number in zip(running, numbers, strict=True):
        process.send(number)
    assert [process.finish().code for process in running] == [130, 143, 130, 143]
