"""What a video costs, as far as anybody told: the price to hold before a POST.

Computes only. That the ceiling is never passed is one transaction of the journal. Money is whole credits.
"""

from __future__ import annotations

from collections.abc import Mapping

from kling_async.types.outcome import CREDITS_PER_USD


def credits_of(amount: float) -> int:
    """Return USD as whole credits, rounded up: a hold is never too small by a fraction."""
    whole, exact = _whole(amount)
    return int(exact) + 1 if whole is None else whole


def ceiling_of(amount: float) -> int:
    """Return USD as whole credits, rounded down: a ceiling is never too high by a fraction."""
    whole, exact = _whole(amount)
    return int(exact) if whole is None else whole


def _whole(amount: float) -> tuple[int | None, float]:
    """Return USD as whole credits, if they are whole as far as a float can tell, and as they are."""
    exact = amount * CREDITS_PER_USD
    whole = round(exact)
    return (whole if abs(whole - exact) < max(1e-6, exact * 1e-15) else None), exact


def by_duration(price: float) -> dict[int, int]:
    """Return the credits of each duration from the price of 5 s in USD; 10 s cost twice as much."""
    return {5: credits_of(price), 10: credits_of(2 * price)}


class Prices:
    """The price of each duration, in credits.

    Args:
        known: What is known at the start, by duration.
    """

    def __init__(self, known: Mapping[int, int]) -> None:
        self._known = dict(known)

    def hold(self, duration: int) -> int | None:
        """Return what to hold for one video; None where nobody told."""
        return self._known.get(duration)

    def told(self, duration: int, credits_: int | None) -> bool:
        """Take note of what the service held for one; return whether that was dearer than known."""
        if credits_ is None:
            return False
        known = self._known.get(duration)
        self._known[duration] = max(credits_, known or 0)
        return known is not None and credits_ > known
