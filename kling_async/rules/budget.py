"""What a video costs, as far as anybody told: the price to hold before a POST.

Computes only. That the ceiling is never passed is one transaction of the journal. Money is whole credits. A price never
falls while a run goes on: a cheaper answer may be a discount that ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kling_async.errors import BudgetExceeded, InvalidRequest
from kling_async.types.outcome import CREDITS_PER_USD, usd


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


SEEN: Final = "price seen"
"""Notes of the journal that begin so tell what the service was seen to hold, in credits."""
LISTED: Final = "price listed"
"""Notes of the journal that begin so tell what the price call told last, in credits."""


def note_of(kind: str, model: str, duration: int) -> str:
    """Return the name of the journal's note about the price of a model's video of so many seconds.

    Args:
        kind: `SEEN` or `LISTED`.
        model: The model.
        duration: Seconds.
    """
    return f"{kind} {duration} {model}"


def check_ceiling(price: int | None, *, taken: int, ceiling: int) -> None:
    """Hold the next video against the ceiling.

    Args:
        price: Credits that it costs; None where nobody told.
        taken: Credits that are spent and held.
        ceiling: Credits that may be.

    Raises:
        BudgetExceeded: It would pass the ceiling.
        InvalidRequest: Nobody told its price.
    """
    if price is None:
        raise InvalidRequest("a budget needs a price, and the service tells none for its model: give --price USD")
    if taken + price > ceiling:
        raise BudgetExceeded(
            f"the next video would pass the budget: {usd(taken):.2f} USD are spent or held, it costs {usd(price):.2f}, "
            f"the budget is {usd(ceiling):.2f}"
        )


def overshoot(taken: int, ceiling: int | None) -> int:
    """Return the credits by which what is spent and held passes the ceiling; 0 where it does not, or where none is."""
    return 0 if ceiling is None else max(0, taken - ceiling)


class Prices:
    """The price of each model's video of each duration, in credits.

    Three may tell it: the owner, for any model that the service does not tell; the price call; and the service's
    answers to submits, which tell what it really holds. What was seen to be held counts until the price call tells
    another price than it told then.

    Args:
        given: The owner's price, by duration.
    """

    def __init__(self, given: Mapping[int, int]) -> None:
        self._given = dict(given)
        self._listed: dict[tuple[str, int], int] = {}
        self._seen: dict[tuple[str, int], int] = {}

    def hold(self, model: str, duration: int) -> int | None:
        """Return what to hold for one video; None where nobody told."""
        told = self._listed.get((model, duration), self._given.get(duration))
        seen = self._seen.get((model, duration))
        return max((price for price in (told, seen) if price is not None), default=None)

    def seen(self, model: str, duration: int) -> int | None:
        """Return the most that the service was seen to hold; None where it was not seen yet."""
        return self._seen.get((model, duration))

    def remember(self, model: str, duration: int, credits_: int) -> None:
        """Take note of what an earlier run saw the service hold."""
        self._seen[model, duration] = max(credits_, self._seen.get((model, duration), 0))

    def listed(self, model: str, duration: int, credits_: int, *, before: int | None) -> bool:
        """Take note of what the price call tells; return whether what was seen before counts no more.

        A list that was not changed since the service was seen to hold more is known to be wrong, and does not count
        against what was seen. One that was changed is the newer word.

        Args:
            model: The model.
            duration: Seconds.
            credits_: What the price call tells.
            before: What it told when it was asked last; None where it was not, or told nothing.
        """
        self._listed[model, duration] = credits_
        return credits_ != before and self._seen.pop((model, duration), None) is not None

    def told(self, model: str, duration: int, credits_: int) -> bool:
        """Take note of what the service holds for a video; return whether that is dearer than known."""
        known = self.hold(model, duration)
        self.remember(model, duration, credits_)
        return known is not None and credits_ > known
