"""`failures.jsonl` as the manifest of the folder that writes it: each row in it runs, edited or not, and goes on."""

from __future__ import annotations

import json
from pathlib import Path

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import World


def failing(open_world: OpenWorld, count: int = 4) -> World:
    """Open a world in which a run has failed in all of its rows, half of them before anything was submitted."""
    world = open_world(FaultPlan.of(Fault("submit", "400")))
    assert world.run("run", world.manifest(count), "--out", "out").code == 3
    world.go_wrong(FaultPlan())
    return world


def edit(world: World, *edited: int) -> None:
    """Give some rows of the list another prompt."""
    path = world.folder / "out" / "failures.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number in edited:
        rows[number]["prompt"] = f"edited {number}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prompts(world: World) -> list[str]:
    return sorted(str(purchase.prompt) for purchase in world.bought())


def test_every_row_of_an_edited_list_runs(open_world: OpenWorld) -> None:
    """Where one is edited and where all are: all end DONE, and the list is gone."""
    for edited in ((2,), (0, 1, 2, 3)):
        world = failing(open_world)
        edit(world, *edited)
        ended = world.run("run", "out/failures.jsonl", "--out", "out", "--json")
        assert (ended.code, ended.document["done"], ended.document["rows"]) == (0, 4, 4)
        wanted = [f"edited {row}" if row in edited else f"prompt {row}" for row in range(4)]
        assert prompts(world) == sorted(wanted)
        assert not (world.folder / "out/failures.jsonl").exists()
        world.audit()


def test_the_command_that_is_told_goes_on(open_world: OpenWorld) -> None:
    """The service is away: 75. What is told brings all rows to their end, edited ones that were never sent too."""
    world = failing(open_world)
    edit(world, 1, 3)
    world.go_wrong(FaultPlan.of(Fault("submit", "503")))
    stopped = world.run("run", "out/failures.jsonl", "--out", "out", "--unavailable-after", "1", "--max-in-flight", "1")
    assert stopped.code == 75, stopped.err
    listed = (world.folder / "out/failures.jsonl").exists()
    assert ("see out/failures.jsonl" in stopped.err) == listed, "what is told to be seen is there"
    assert world.videos("out") == set()
    world.go_wrong(FaultPlan())
    ended = world.run(*stopped.resume, "--json")
    assert (ended.code, ended.document["done"]) == (0, 4), ended.err
    assert prompts(world) == ["edited 1", "edited 3", "prompt 0", "prompt 2"]
    world.audit()


def test_paths_in_the_copy_are_the_lists(open_world: OpenWorld) -> None:
    """Local images are named relative to the folder, from the list and from its copy alike; nothing is another row."""
    world = open_world(FaultPlan.of(Fault("submit", "400")))
    assert world.run("run", world.manifest(2), "--out", "out").code == 3
    assert world.run("run", "out/failures.jsonl", "--out", "out").code == 3
    world.go_wrong(FaultPlan())
    copy = Path("out", ".kling", "failures.jsonl")
    ended = world.run("run", str(copy), "--out", "out", "--json")
    assert (ended.code, ended.document["done"], ended.document["rows"]) == (0, 2, 2), ended.err
    world.audit()


def test_the_list_of_another_folder_is_read_where_it_is(open_world: OpenWorld) -> None:
    """It is rewritten by nobody here, and no copy is made."""
    world = failing(open_world, 2)
    before = (world.folder / "out/failures.jsonl").read_text()
    assert world.run("run", "out/failures.jsonl", "--out", "new").code == 0
    assert (world.folder / "out/failures.jsonl").read_text() == before
    assert not (world.folder / "new/.kling/failures.jsonl").exists()
