"""lumaai: `generations.create`, the loop over `generations.get` of its documentation, and the file by httpx."""

import asyncio

import httpx
from lumaai import AsyncLumaAI

from benchmarks.peers.frame import PICTURE, Task, each, run


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    timeout = {} if task.timeout is None else {"timeout": task.timeout}
    async with (
        AsyncLumaAI(auth_token="standin-key", base_url=f"{task.address}/luma", **timeout) as client,  # noqa: S106  # no secret
        httpx.AsyncClient(timeout=60) as web,
    ):

        async def one(number: int) -> None:
            generation = await client.generations.create(
                model="ray-2",
                prompt=task.prompt(number),
                keyframes={"frame0": {"type": "image", "url": PICTURE}},
                duration="5s",
            )
            while generation.state != "completed":
                if generation.state == "failed":
                    raise RuntimeError(generation.failure_reason)
                await asyncio.sleep(task.interval)
                generation = await client.generations.get(id=generation.id)
            answer = await web.get(generation.assets.video)
            answer.raise_for_status()
            task.file(number).write_bytes(answer.content)

        return await each(task, one)


run(contend)
