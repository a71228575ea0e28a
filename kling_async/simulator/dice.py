"""The dice of the simulated world, and what is drawn with them.

Every subject has a stream of its own, so that one more draw in one place changes nothing in another. This room must
never take randomness from anywhere but the seed.
"""

from __future__ import annotations

import random
import string
import uuid
from typing import TYPE_CHECKING, Final

from kling_async.simulator.settings import MODEL

if TYPE_CHECKING:
    from random import Random

    from kling_async.simulator.settings import SimulatorSettings

_NANOID: Final = string.ascii_letters + string.digits + "_-"
_TAIL_CHANCE: Final = 0.02


def make_dice(seed: int, subject: str) -> Random:
    """Return the dice of one subject; the same for the same seed in every process."""
    return random.Random(f"{seed}/{subject}")  # noqa: S311 - a simulation must repeat itself, not keep secrets


def draw_seconds(dice: Random, settings: SimulatorSettings, duration: int, number: int) -> float:
    """Return how long making a clip takes, in seconds of the clock.

    Args:
        dice: The dice of this subject.
        settings: Say how the times are spread.
        duration: Length of the clip, in seconds.
        number: How many jobs came before.
    """
    spread = settings.durations
    if isinstance(spread, tuple):
        return spread[number % len(spread)] / settings.speed
    if isinstance(spread, str):
        seconds = settings.median(duration) * dice.lognormvariate(0.0, settings.sigma)
        if spread == "long-tail" and dice.random() < _TAIL_CHANCE:
            seconds *= dice.uniform(5.0, 20.0)
        return seconds / settings.speed
    return spread / settings.speed


def draw_id(dice: Random, style: str) -> str:
    """Return a generation id of one of the styles seen; of `mixed`, any of them."""
    if style == "mixed":
        style = dice.choice(("nanoid", "nanoid", "uuid", "decimal"))
    if style == "uuid":
        return f"{uuid.UUID(int=dice.getrandbits(128), version=4)}:{MODEL}"
    if style == "decimal":
        return str(dice.randrange(10**17, 10**18))
    first = "-" if dice.random() < 0.125 else dice.choice(_NANOID)
    return first + "".join(dice.choices(_NANOID, k=20))


def draw_token(dice: Random) -> str:
    """Return the id of one call, as in `x-request-id`."""
    return f"{dice.getrandbits(128):032x}"
