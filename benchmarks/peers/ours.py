"""kling_async as a library: `open_batch`, to the end. Its settings stand in the environment that `contest` makes."""

from pathlib import Path

from benchmarks.peers.frame import PICTURE, Task, run
from kling_async import ImageToVideo, open_batch


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    requests = (ImageToVideo(PICTURE, task.prompt(number), key=task.key(number)) for number in range(task.rows))
    async with open_batch(Path(task.folder)) as batch:
        report = await batch.run(requests)
    return {"not done": report.tally.rows - report.tally.done} if report.tally.rows > report.tally.done else {}


run(contend)
