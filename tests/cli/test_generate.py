"""`generate`: one video, bought once, to the file that was named."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from functools import partial
from typing import Any

from kling_async.simulator import Fault, FaultPlan, Simulator
from kling_async.simulator.jobs import Order
from kling_async.simulator.world import Bidder
from tests.cli.conftest import OpenWorld
from tests.cli.harness import DATA_URI, KEY, World, at_once


def holds(world: World, name: str) -> bool:
    """Tell whether a file is the video of the only purchase."""
    (purchase,) = world.bought()
    served = world.loop.do(world.service.served_bytes(purchase.generation_id))
    return (world.folder / name).read_bytes() == served


def test_it_writes_the_file_and_prints_its_path(world: World) -> None:
    """The file is whole, in a folder that is made for it; stdout is its path and nothing else."""
    ended = world.run("generate", "cat.png", "-p", "The cat yawns.", "-o", "new/folder/cat.mp4")
    assert (ended.code, ended.out) == (0, "new/folder/cat.mp4\n")
    assert holds(world, "new/folder/cat.mp4")
    assert [path.name for path in (world.folder / "new/folder").iterdir()] == ["cat.mp4"]
    (purchase,) = world.bought()
    assert (purchase.prompt, purchase.duration, purchase.state) == ("The cat yawns.", 5, "charged")


def test_a_budget_of_the_settings_is_a_jobs_and_is_said_to_be(world: World) -> None:
    """One that stands in the environment for `run` neither stops this one video nor is silently passed over."""
    ended = world.run("generate", "cat.png", "-o", "cat.mp4", env={"KLING_ASYNC_BUDGET": "0.01"})
    assert ended.code == 0, ended.err
    assert "not counted against it" in ended.err
    assert holds(world, "cat.mp4")


def test_it_tells_the_file_as_a_document(world: World) -> None:
    """`--json`: path, size, digest and generation of the file."""
    document = world.run("generate", DATA_URI, "-o", "cat.mp4", "--duration", "10", "--json").document
    content = (world.folder / "cat.mp4").read_bytes()
    (purchase,) = world.bought()
    assert purchase.duration == 10
    assert document["path"] == "cat.mp4"
    assert document["bytes"] == len(content)
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    assert document["generation_id"] == purchase.generation_id


def test_a_file_that_is_there_is_not_replaced_unless_told(world: World) -> None:
    """An existing FILE is refused before anything is bought; `--overwrite` makes another video in its place."""
    world.write("cat.mp4", "mine")
    ended = world.run("generate", "cat.png", "-o", "cat.mp4")
    assert (ended.code, ended.out) == (2, "")
    assert "--overwrite" in ended.err
    assert (world.folder / "cat.mp4").read_text() == "mine"
    assert not world.bought()
    assert world.run("generate", "cat.png", "-o", "cat.mp4", "--overwrite").code == 0
    assert holds(world, "cat.mp4")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_bought(world: World) -> None:
    """A folder as FILE, with `--overwrite` too, a file on the way to it, or no such place: 2, and no purchase."""
    (world.folder / "folder").mkdir()
    refused = [
        world.start("generate", "cat.png", "-o", "folder"),
        world.start("generate", "cat.png", "-o", "folder/", "--overwrite"),
        world.start("generate", "cat.png", "-o", "."),
        world.start("generate", "cat.png", "-o", "cat.png/cat.mp4"),
        world.start("generate", "cat.png", "-o", "/proc/cat.mp4"),
    ]
    for process in refused:
        ended = process.finish()
        assert (ended.code, ended.out) == (2, ""), ended
        assert "Traceback" not in ended.err
    assert "is a folder: name the file" in refused[0].err
    assert "is a folder: name the file" in refused[1].err
    assert not world.bought()
    assert (world.folder / "folder").is_dir()


def test_a_wrong_request_is_refused_before_anything_is_bought(world: World) -> None:
    """Each wrong value ends with 2 and is named; nothing is bought."""
    pairs = {"--duration": "7", "--cfg-scale": "1.5", "--tail-image": "", "--dynamic-masks": '[{"mask": "cat.png"}]'}
    values = [word for pair in pairs.items() for word in pair]
    wrong = {
        ("duration: must be 5 or 10", "cfg_scale: must be", "tail_image: ", "dynamic_masks[0]: "): values,
        ("tail_image: cannot go together with static_mask",): ["--tail-image", "cat.png", "--static-mask", "cat.png"],
        ("--dynamic-masks is not JSON",): ["--dynamic-masks", "[{"],
        ("tail_image: there is no file", "prompt: has 2501 characters"): ["--tail-image", "no", "-p", "x" * 2501],
    }
    running = {told: world.start("generate", "cat.png", "-o", "cat.mp4", *flags) for told, flags in wrong.items()}
    for words, process in running.items():
        ended = process.finish()
        assert (ended.code, ended.out) == (2, "")
        assert all(word in ended.err for word in words), ended.err
        assert "Traceback" not in ended.err
    assert not world.bought()


def test_masks_and_their_paths_are_sent(world: World) -> None:
    """`--dynamic-masks` and `--static-mask` reach the service."""
    masks = json.dumps([{"mask": "cat.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}])
    ended = world.run("generate", "cat.png", "-o", "cat.mp4", "--dynamic-masks", masks, "--static-mask", "cat.png")
    assert ended.code == 0, ended.err
    assert holds(world, "cat.mp4")


def test_what_takes_too_long_is_told_with_the_command_that_fetches_it(open_world: OpenWorld) -> None:
    """`--timeout`: 3, and a command with the generation's id; that command fetches the video and buys nothing."""
    world = open_world(durations=1.5)
    ended = world.run("generate", "cat.png", "-o", "cat.mp4", "--timeout", "0.5", "--json")
    (purchase,) = world.bought()
    assert (ended.code, ended.document["generation_id"]) == (3, purchase.generation_id)
    assert not (world.folder / "cat.mp4").exists()
    again = world.run(*ended.resume)
    assert (again.code, again.out) == (0, "cat.mp4\n")
    assert holds(world, "cat.mp4")


def test_a_stop_tells_the_command_that_fetches_what_is_bought(open_world: OpenWorld) -> None:
    """Ctrl-C while it waits: the command to go on with is told, and fetches the video without buying another."""

    def stopped(world: World, number: signal.Signals) -> None:
        running = world.start("generate", "cat.png", "-o", "cat.mp4", "--json")
        world.until_called("poll")
        running.send(number)
        ended = running.finish()
        assert ended.code == 128 + number
        assert ended.document["error"] == "Stopped"
        assert world.run(*ended.resume).code == 0
        assert holds(world, "cat.mp4")

    numbers = signal.SIGINT, signal.SIGTERM
    at_once(*(partial(stopped, open_world(durations=1.5), number) for number in numbers))


def test_a_stop_while_the_submit_is_out_tells_the_id_that_finds_it(open_world: OpenWorld) -> None:
    """Ctrl-C before the submit was answered: the answer is awaited for a while, and the submit's own id is told."""
    world = open_world(FaultPlan.of(Fault("submit", "slow_after", seconds=1.0)))
    running = world.start("generate", "cat.png", "-o", "cat.mp4")
    world.until_called("submit")
    running.send(signal.SIGINT)
    ended = running.finish()
    assert ended.code == 130
    (name,) = set(re.findall(r"ka1\.[\w.]+\w", ended.err))
    assert world.run("generate", "--resume", name, "-o", "cat.mp4").code == 0
    assert world.calls("submit") == 1
    assert holds(world, "cat.mp4")


def test_a_generation_is_fetched_by_its_id(open_world: OpenWorld) -> None:
    """`--resume ID` buys nothing, also for ids that begin with a dash or hold a slash; an unknown one ends with 3."""
    world = open_world()
    for number, name in enumerate(("-tnr4N5Vd_x8LbQ2wYz3K", "a1b2:kling-video/v1/standard/image-to-video", "123456")):
        order = Order(fingerprint=name, image_digest="", prompt="", duration=5)
        began = world.service.now() - 60

        def revive(service: Any, order: Order = order, began: float = began, name: str = name) -> None:
            service.world.revive(order, Bidder(key=KEY), began, generation_id=name)

        world.ask(revive)
        ended = world.run("generate", "--resume", name, "-o", f"{number}.mp4")
        assert (ended.code, ended.out) == (0, f"{number}.mp4\n"), ended
        assert (world.folder / f"{number}.mp4").read_bytes() == world.loop.do(world.service.served_bytes(name))
    assert world.calls("submit") == 0


def test_a_lost_submit_is_looked_up(open_world: OpenWorld) -> None:
    """The answer to the submit is lost: it is found in the usage log, and not bought again."""
    world = open_world(FaultPlan.of(Fault("submit", "dropped_after", at=(1,))))
    ended = world.run("generate", "cat.png", "-o", "cat.mp4")
    assert (ended.code, ended.out) == (0, "cat.mp4\n")
    assert world.calls("submit") == 1
    assert holds(world, "cat.mp4")


def list_all(service: Simulator) -> None:
    """Let the usage log list every job from now on."""
    for job in service.world.jobs.values():
        job.listing = "acceptance"


def test_a_lost_submit_that_is_not_listed_is_told_by_its_own_id(open_world: OpenWorld) -> None:
    """What may have been bought is told with a command that looks it up; it finds it when it is listed, not before."""
    world = open_world(FaultPlan.of(Fault("submit", "dropped_after", at=(1,))), log_listing="never")
    ended = world.run("generate", "cat.png", "-o", "cat.mp4", env={"KLING_ASYNC_UNCERTAIN_AFTER": "0.2"})
    assert ended.code == 3
    assert ended.resume[2].startswith("ka1.")
    early = world.run(*ended.resume)
    assert early.code == 3
    assert early.resume == ended.resume
    world.ask(list_all)
    assert world.run(*ended.resume).code == 0
    assert world.calls("submit") == 1
    assert holds(world, "cat.mp4")


def test_a_generation_that_failed_is_not_offered_again(open_world: OpenWorld) -> None:
    """3, the service's reason, and no command: a failed generation is free and gone."""
    world = open_world(FaultPlan.of(Fault("job", "error_moderation")))
    ended = world.run("generate", "cat.png", "-o", "cat.mp4")
    assert (ended.code, ended.out) == (3, "")
    assert "--resume" not in ended.err
    assert not (world.folder / "cat.mp4").exists()


def test_it_can_be_simulated(world: World) -> None:
    """`--simulate` needs no key and no address, and asks nobody else."""
    ended = world.run(
        "generate", "cat.png", "-o", "cat.mp4", "--simulate", env={"AIMLAPI_API_KEY": None, "AIMLAPI_BASE_URL": None}
    )
    assert (ended.code, ended.out) == (0, "cat.mp4\n")
    assert (world.folder / "cat.mp4").stat().st_size > 1000
    assert world.ask(lambda service: not service.book.calls)
