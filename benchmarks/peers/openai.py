"""openai: `videos.create_and_poll`, and `videos.download_content`.

It takes an image as an open file alone, where the others are given a link: its requests go without.
"""

import warnings

from openai import AsyncOpenAI

from benchmarks.peers.frame import Task, each, run

warnings.simplefilter("ignore", DeprecationWarning)


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    timeout = {} if task.timeout is None else {"timeout": task.timeout}
    async with AsyncOpenAI(api_key="standin-key", base_url=f"{task.address}/openai", **timeout) as client:

        async def one(number: int) -> None:
            video = await client.videos.create_and_poll(
                model="standin",
                prompt=task.prompt(number),
                seconds="4",
                poll_interval_ms=round(1000 * task.interval),
            )
            if video.status == "failed":
                raise RuntimeError(video.error)
            content = await client.videos.download_content(video.id, variant="video")
            content.write_to_file(task.file(number))

        return await each(task, one)


run(contend)
