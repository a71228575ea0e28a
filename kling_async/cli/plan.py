"""What a run will cost, told before the first POST, and the question whether to spend it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kling_async.cli.ends import ask, say

if TYPE_CHECKING:
    from kling_async.flow.batch import Batch
    from kling_async.flow.retries import Choice

ASK_ABOVE: Final = 10.0
"""USD above which a run without a budget asks first."""

_SECONDS: Final = {5: 290.0, 10: 580.0}
"""What one generation takes, as logged of the real service."""
_MEGABYTES: Final = {5: 8, 10: 16}
"""What one video takes on the disk, roughly."""
_AT_ONCE: Final = 5
"""Generations at once where the account's limit is not known."""


@frozen(kw_only=True)
class Plan:
    """What a command will do, and what it will cost."""

    is_retry: bool
    """Whether rows of the journal are tried again, and no manifest is run."""
    rows: int
    """Rows of the manifest; or those that are tried again."""
    new: int
    """Rows that are bought, those that are paid for again among them."""
    again: int
    """Rows that are paid for again, if the service has no video of them."""
    followed: int
    """Rows that are watched and fetched, and not bought."""
    looked_for: int
    """Rows that are looked for, since it is not known whether they were bought."""
    perhaps: int = 0
    """Those of them that are bought if the usage log lists that they were not."""
    left: int = 0
    """Rows of the journal that stay what they are: never begun, failed or set aside."""
    price: float | None
    """USD for all rows that are bought, or may be; None where no price is known."""
    balance: float | None
    """USD on the account; None where the service does not tell, or nothing is bought."""
    seconds: float
    """Time at the limit, also of what is open already."""
    megabytes: int
    """Disk needed, also by what is only fetched."""

    def tell(self) -> None:
        """Print it to stderr."""
        others = [
            f"{count} {what}"
            for count, what in (
                (self.followed, "watched or fetched, and not bought"),
                (self.looked_for - self.perhaps, "looked for in the usage log"),
                (self.perhaps, "looked for in the usage log, and bought where it lists that nothing was"),
            )
            if count
        ]
        if not self.is_retry:
            say(f"{', '.join([count_rows(self.rows), f'{self.new} new', *others])}: {self._cost()}")
        elif self.rows:
            told = ", ".join([f"{self.new} bought", *others])
            say(f"{count_rows(self.rows)} to try again: {told}; {self._cost()}")
        else:
            say("nothing to try again")
        if self.left:
            say(f"{count_rows(self.left)} without a video {'stays as it is' if self.left == 1 else 'stay as they are'}")

    def warn(self, *, buy_again: bool = False) -> None:
        """Say in words what is paid for again; where the owner said that rows are, also that none is."""
        if self.again:
            rows = f"{count_rows(self.again)} {'is' if self.again == 1 else 'are'}"
            say(f"{rows} PAID FOR AGAIN, if the service has no video of what was bought, or may have been, before")
        elif buy_again:
            say("no row is paid for again")

    def _cost(self) -> str:
        most = "up to " if self.perhaps else ""
        money = "price not known" if self.price is None else f"{most}{self.price:.2f} USD"
        purse = "" if self.balance is None else f", {self.balance:.2f} USD on the account"
        hours = self.seconds / 3600
        time = f"{hours:.1f} h" if hours >= 2 else f"{self.seconds / 60:.0f} min"
        return f"{money}{purse}; about {time}, {self.megabytes} MB on the disk"

    def document(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {
            "rows": self.rows,
            "new": self.new,
            "again": self.again,
            "followed": self.followed,
            "looked_for": self.looked_for,
            "perhaps": self.perhaps,
            "left": self.left,
            "price_usd": self.price,
            "balance_usd": self.balance,
            "seconds": round(self.seconds),
            "disk_mb": self.megabytes,
        }


def count_rows(count: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if count == 1 else f"{count} rows"


async def make_plan(batch: Batch, choice: Choice, *, rows: int | None = None, in_flight: int | str) -> Plan:
    """Work out what a command would do and cost.

    Args:
        batch: The open batch.
        choice: The rows that something is done for.
        rows: Rows of the manifest; None where rows are tried again.
        in_flight: Generations at once, or `auto`.
    """
    bought, perhaps = choice.new + choice.bought_again, choice.perhaps.total()
    priced = bought + choice.perhaps
    prices = {kind: await batch.price(*kind) for kind in priced}
    known = [price * priced[kind] for kind, price in prices.items() if price is not None]
    made = ((duration, count) for (stage, duration), count in choice.lengths.items() if stage != "rendered")
    return Plan(
        is_retry=rows is None,
        rows=choice.rows if rows is None else rows,
        new=bought.total(),
        again=choice.bought_again.total(),
        followed=choice.followed,
        looked_for=choice.looked_for,
        perhaps=perhaps,
        left=choice.left(await batch.tally()).total() if rows is None else 0,
        price=round(sum(known), 6) if len(known) == len(prices) else None,
        balance=await batch.balance() if priced else None,
        seconds=sum(_SECONDS[duration] * count for duration, count in made)
        / (in_flight if isinstance(in_flight, int) else _AT_ONCE),
        megabytes=sum(_MEGABYTES[duration] * count for (_, duration), count in choice.lengths.items()),
    )


async def may_spend(plan: Plan, *, budget: float | None, yes: bool) -> bool:
    """Ask, where much money would be spent without a budget and a person is there to answer."""
    dear = plan.price is None or plan.price > ASK_ABOVE
    if not (plan.new or plan.perhaps) or not dear or budget is not None or yes:
        return True
    told = "an unknown sum" if plan.price is None else f"{plan.price:.2f} USD"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        say(f"going on to spend {told} without a budget (--budget USD sets one)")
        return True
    return await ask(f"Spend up to {told} without a budget?")
