"""What a run will cost, told before the first POST, and the question whether to spend it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from attrs import asdict, frozen

from kling_async.cli.ends import ask, say

if TYPE_CHECKING:
    from kling_async.flow.batch import Batch
    from kling_async.flow.retries import Choice, Retry

ASK_ABOVE: Final = 10.0
"""USD above which a run without a budget asks first."""

_SECONDS: Final = {5: 290.0, 10: 580.0}
"""What one generation takes, as logged of the real service."""
_MEGABYTES: Final = {5: 8, 10: 16}
"""What one video takes on the disk, roughly."""
_AT_ONCE: Final = 5
"""Generations at once where the account's limit is not known."""


@frozen
class Plan:
    """What a run would buy."""

    rows: int
    """Rows in the manifest."""
    new: int
    """Rows not yet bought."""
    price: float | None
    """USD for all new rows; None where no price is known."""
    balance: float | None
    """USD on the account; None where the service does not tell."""
    seconds: float
    """Time at the limit."""
    megabytes: int
    """Disk needed."""

    def tell(self) -> None:
        """Print it to stderr."""
        say(f"{self.rows} rows, {self.new} new: {self._cost()}")

    def _cost(self) -> str:
        money = "price not known" if self.price is None else f"{self.price:.2f} USD"
        purse = "" if self.balance is None else f", {self.balance:.2f} USD on the account"
        hours = self.seconds / 3600
        time = f"{hours:.1f} h" if hours >= 2 else f"{self.seconds / 60:.0f} min"
        return f"{money}{purse}; about {time}, {self.megabytes} MB on the disk"

    def document(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {
            "rows": self.rows,
            "new": self.new,
            "price_usd": self.price,
            "balance_usd": self.balance,
            "seconds": round(self.seconds),
            "disk_mb": self.megabytes,
        }


async def make_plan(batch: Batch, *, rows: int, new: Counter[tuple[str, int]], in_flight: int | str) -> Plan:
    """Work out what a run would buy.

    Args:
        batch: The open batch.
        rows: Rows in the manifest.
        new: Rows not yet bought, by model and duration.
        in_flight: Generations at once, or `auto`.
    """
    prices = {kind: await batch.price(*kind) for kind in new}
    known = [price * new[kind] for kind, price in prices.items() if price is not None]
    at_once = in_flight if isinstance(in_flight, int) else _AT_ONCE
    return Plan(
        rows,
        sum(new.values()),
        round(sum(known), 6) if len(known) == len(prices) else None,
        await batch.balance() if new else None,
        sum(_SECONDS[duration] * count for (_, duration), count in new.items()) / at_once,
        sum(_MEGABYTES[duration] * count for (_, duration), count in new.items()),
    )


@frozen
class RetryPlan(Plan):
    """What trying rows again would buy."""

    again: int
    """Rows among the new ones that money stands behind: they are paid for again."""
    followed: int
    """Rows that are watched and fetched, and not bought."""
    looked_for: int
    """Uncertain rows that are looked for."""
    left: int
    """Rows that stay what they are: never begun, failed or set aside."""
    buy_again: bool
    """Whether the owner said that rows are bought again."""

    def tell(self) -> None:
        """Print it to stderr."""
        others = (
            (self.followed, "watched or fetched, and not bought"),
            (self.looked_for, "looked for in the usage log"),
        )
        parts = [f"{self.new} bought", *(f"{count} {what}" for count, what in others if count)]
        say(f"{self.rows} rows to try again: {', '.join(parts)}; {self._cost()}")
        if self.left:
            say(f"{self.left} rows that have no video stay as they are")

    def warn(self) -> None:
        """Say in words what is paid for again."""
        if self.again:
            rows = "1 row is" if self.again == 1 else f"{self.again} rows are"
            say(f"{rows} PAID FOR AGAIN, if the service has no video of what was bought, or may have been, before")
        elif self.buy_again:
            say("no row is paid for again")

    def document(self) -> dict[str, object]:
        """Return it for `--json`."""
        more = {"again": self.again, "followed": self.followed, "looked_for": self.looked_for, "left": self.left}
        return super().document() | more


async def make_retry_plan(batch: Batch, retry: Retry, choice: Choice, *, in_flight: int | str) -> RetryPlan:
    """Work out what trying rows again would buy.

    Args:
        batch: The open batch.
        retry: What its owner says.
        choice: The rows that are tried again.
        in_flight: Generations at once, or `auto`.
    """
    new = choice.new + choice.bought_again
    plan = await make_plan(batch, rows=choice.rows, new=new, in_flight=in_flight)
    return RetryPlan(
        **asdict(plan, recurse=False),
        again=choice.bought_again.total(),
        followed=choice.followed,
        looked_for=choice.looked_for,
        left=choice.left(await batch.tally()).total(),
        buy_again=retry.buy_again,
    )


async def may_spend(plan: Plan, *, budget: float | None, yes: bool) -> bool:
    """Ask, where much money would be spent without a budget and a person is there to answer."""
    dear = plan.price is None or plan.price > ASK_ABOVE
    if not plan.new or not dear or budget is not None or yes:
        return True
    told = "an unknown sum" if plan.price is None else f"{plan.price:.2f} USD"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        say(f"going on to spend {told} without a budget (--budget USD sets one)")
        return True
    return await ask(f"Spend up to {told} without a budget?")
