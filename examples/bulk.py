"""The second program: many pictures, as many at once as the account allows, never more than the budget.

Set AIMLAPI_API_KEY and run it in the repository's root: `python examples/bulk.py`.
Stopped half-way, it goes on where it was when it is run again: `out/` remembers what was bought.
"""

import asyncio
from collections.abc import Iterator

from kling_async import ImageToVideo, open_batch

SCENES = {
    "portrait": "She puts on glasses with her hands.",
    "lighthouse": "The beam of the lighthouse sweeps over the sea, waves roll in.",
    "boat": "The paper boat drifts, rain draws rings on the water.",
    "balloons": "The balloons rise slowly, mist moves through the valleys.",
    "tea": "Steam curls up from the cup.",
    "fireflies": "Fireflies wander between the ferns, the brook glitters.",
}


def requests() -> Iterator[ImageToVideo]:
    """Give one request after the other; the batch asks for the next when it has room for it."""
    for scene, prompt in SCENES.items():
        yield ImageToVideo(image=f"examples/images/{scene}.jpg", prompt=prompt, key=scene, carry={"scene": scene})


async def main() -> None:
    """Make all videos, and tell of each as it is done."""
    async with (
        open_batch("out/", max_in_flight="auto", budget=25.0) as batch,
        batch.stream(requests()) as outcomes,
    ):
        async for outcome in outcomes:
            print(outcome.key, outcome.path or outcome.error)


asyncio.run(main())
