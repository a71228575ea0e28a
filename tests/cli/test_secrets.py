"""The key and the signed links stay where they belong: in no output, and in no file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import KEY, World

SIGNED = re.compile(rb"ksSecret|ksTime|cacheKey")


def texts(world: World) -> Iterator[tuple[str, bytes]]:
    """Yield all that the program said and wrote."""
    for process in world.processes:
        yield "stdout", process.out.encode()
        yield "stderr", process.err.encode()
    for path in world.folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
        yield "a name", path.name.encode()


def test_neither_the_key_nor_a_signed_query_leaves_a_trace(open_world: OpenWorld) -> None:
    """`--verbose`, with all sorts of trouble: the key and the links' queries are on no stream and in no file."""
    plan = FaultPlan.of(
        Fault("submit", "503", at=(2,)),
        Fault("submit", "400", at=(4,), text=f"the key {KEY} is not for this"),
        Fault("submit", "dropped_after", at=(5,)),
        Fault("job", "error_text", match="prompt 0", text=f"the key {KEY} failed"),
        Fault("poll", "500", at=(2, 5)),
        Fault("download", "html", at=(1,)),
        Fault("download", "cut", at=(2,)),
        Fault("download", "403", at=(3,)),
        Fault("download", "404", match="prompt 3"),
    )
    world = open_world(plan, durations=0.3)
    command = ("--out", "out", "--verbose", "--json")
    env = {"KLING_ASYNC_DOWNLOAD_ATTEMPTS": "4", "KLING_ASYNC_BACKOFF_CAP": "0.5"}
    ended = world.run("run", world.manifest(6), *command, env=env)
    assert ended.code == 3
    bought = world.calls("submit")
    killed = world.start("run", "shots.jsonl", "--out", "killed", "--verbose")
    world.until_called("submit", bought + 3)
    killed.popen.kill()
    killed.finish()
    others = [
        world.start("generate", "cat.png", "-o", "cat.mp4", "--verbose", "--json"),
        world.start("run", "shots.jsonl", "--out", "other", "--verbose", env={"AIMLAPI_API_KEY": f"{KEY}-wrong"}),
        world.start("config"),
    ]
    assert [process.finish().code for process in others] == [0, 4, 0]
    assert len(world.videos()) >= 3
    found = [(where, text) for where, text in texts(world) if KEY.encode() in text or SIGNED.search(text)]
    assert not found
    assert not world.ask(lambda service: service.book.key_leaks)
