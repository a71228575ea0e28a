"""The floor: a bare loop over aiohttp. The same requests and the same files, no check, no journal, no second try."""

import asyncio

import aiohttp

from benchmarks.peers.frame import PICTURE, Task, each, run


async def contend(task: Task) -> dict[str, int]:
    """Submit, wait, download."""
    place = f"{task.address}/v2/video/generations"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Authorization": "Bearer standin-key"},
        timeout=aiohttp.ClientTimeout(total=task.timeout),
        raise_for_status=True,
    ) as session:

        async def one(number: int) -> None:
            body = {
                "model": "kling-video/v1/standard/image-to-video",
                "image_url": PICTURE,
                "prompt": task.prompt(number),
                "duration": 5,
            }
            async with session.post(place, json=body) as answer:
                generation = await answer.json()
            while generation["status"] in {"queued", "generating", "waiting"}:
                await asyncio.sleep(task.interval)
                async with session.get(place, params={"generation_id": generation["id"]}) as answer:
                    generation = await answer.json()
            async with session.get(generation["video"]["url"]) as answer:
                task.file(number).write_bytes(await answer.read())

        return await each(task, one)


run(contend)
