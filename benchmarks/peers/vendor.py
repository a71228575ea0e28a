"""The vendor's own SDK, `aimlapi-sdk-python`: its `generate_with_polling`, under a semaphore."""

from aimlapi import AsyncAIMLAPI

from benchmarks.peers.frame import PICTURE, Task, each, run


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    timeout = {} if task.timeout is None else {"timeout": task.timeout}
    async with AsyncAIMLAPI(api_key="standin-key", base_url=f"{task.address}/v1", **timeout) as client:

        async def one(number: int) -> None:
            video = await client.videos.generate_with_polling(
                model="kling-video/v1/standard/image-to-video",
                prompt=task.prompt(number),
                duration=5,
                extra_body={"image_url": PICTURE},
                poll_interval=task.interval,
                return_bytes=True,
            )
            task.file(number).write_bytes(video)

        return await each(task, one)


run(contend)
