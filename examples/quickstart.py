"""The first program: one picture in, one video out.

Set AIMLAPI_API_KEY and run it in the repository's root: `python examples/quickstart.py`.
"""

import asyncio

from kling_async import ImageToVideo, open_client


async def main() -> None:
    """Let the lady of the portrait put on her glasses."""
    async with open_client() as client:
        request = ImageToVideo(
            image="examples/images/portrait.jpg",
            prompt="She puts on glasses with her hands.",
        )
        file = await client.generate(request, "portrait.mp4")
        print(file.path)


asyncio.run(main())
