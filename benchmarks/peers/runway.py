"""runwayml: `image_to_video.create`, its `wait_for_task_output`, and the file by httpx, which it brings along."""

import httpx
from runwayml import AsyncRunwayML
from runwayml.lib import polling

from benchmarks.peers.frame import PICTURE, Task, each, run


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    polling.POLL_TIME, polling.POLL_JITTER = task.interval, task.interval / 2  # its own proportion
    timeout = {} if task.timeout is None else {"timeout": task.timeout}
    async with (
        AsyncRunwayML(api_key="standin-key", base_url=f"{task.address}/runway", **timeout) as client,
        httpx.AsyncClient(timeout=60) as web,
    ):

        async def one(number: int) -> None:
            job = await client.image_to_video.create(
                model="gen4_turbo", prompt_image=PICTURE, prompt_text=task.prompt(number), ratio="1280:720", duration=5
            )
            done = await job.wait_for_task_output()
            answer = await web.get(done.output[0])
            answer.raise_for_status()
            task.file(number).write_bytes(answer.content)

        return await each(task, one)


run(contend)
