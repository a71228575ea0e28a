"""fal-client: its `subscribe`, and the file by httpx, which it brings along.

Its environment variable takes the host of the queue alone, and https with it; its address is set where it keeps it.
"""

import fal_client
import httpx
from fal_client import client as internals

from benchmarks.peers.frame import PICTURE, Task, each, run


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    internals.QUEUE_URL_FORMAT = f"{task.address}/fal/"
    timeout = {} if task.timeout is None else {"default_timeout": task.timeout}
    client = fal_client.AsyncClient(key="standin-key", **timeout)
    async with httpx.AsyncClient(timeout=60) as web:

        async def one(number: int) -> None:
            result = await client.subscribe(
                "standin/video",
                arguments={"prompt": task.prompt(number), "image_url": PICTURE, "duration": "5"},
                interval=task.interval,
            )
            answer = await web.get(result["video"]["url"])
            answer.raise_for_status()
            task.file(number).write_bytes(answer.content)

        return await each(task, one)


run(contend)
