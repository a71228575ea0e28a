"""replicate: a prediction, its `async_wait`, and its own reader of files."""

import httpx
import replicate
from replicate.helpers import FileOutput

from benchmarks.peers.frame import PICTURE, Task, each, run


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    timeout = None if task.timeout is None else httpx.Timeout(task.timeout)
    client = replicate.Client(api_token="standin-key", base_url=f"{task.address}/replicate", timeout=timeout)  # noqa: S106  # no secret
    client.poll_interval = task.interval

    async def one(number: int) -> None:
        prediction = await client.models.predictions.async_create(
            model=("standin", "video"), input={"prompt": task.prompt(number), "start_image": PICTURE, "duration": 5}
        )
        await prediction.async_wait()
        if prediction.status != "succeeded":
            raise RuntimeError(prediction.error)
        # `run` gives this reader for links that begin with https: alone.
        task.file(number).write_bytes(await FileOutput(prediction.output, client).aread())

    return await each(task, one)


run(contend)
