"""What videos cost and what may be spent: asks for a model's price once, and keeps what the service really holds.

The journal remembers what was seen to be held, so that the next run of the folder does not begin with a price that is
known to be too low. This room must never lower what is held, nor tell a price that nobody told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from attrs import evolve

from kling_async.errors import (
    ConfigurationError,
    KlingError,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
    TransportError,
)
from kling_async.flow.background import Background, Job
from kling_async.flow.service import Service
from kling_async.logs import get_logger
from kling_async.ports import Journal
from kling_async.rules.budget import LISTED, SEEN, Prices, by_duration, ceiling_of, credits_of, note_of, overshoot
from kling_async.rules.retry import backoff
from kling_async.types.outcome import Tally
from kling_async.types.record import Record, Stage
from kling_async.types.request import DURATIONS, MODEL
from kling_async.types.settings import Settings

logger = get_logger(__name__)

_PATIENCE: Final = 10.0
"""Seconds that the price call may take where nothing depends on it, or where a person waits for it."""
_TROUBLE: Final = TransportError, ServerTrouble, RateLimited, ProtocolViolation
"""What says nothing of the price: it is asked for again."""


class Purse:
    """The prices of a job, and its ceiling.

    Args:
        service: Is asked for prices.
        journal: Remembers them.
        background: Where a price is asked for, once for all who wait for it.
        settings: The budget; the owner's price, which holds for the usual model, and for each that the service does not
            tell; how long to pause under the service's trouble, and when to give up.
        dice: For the jitter.
    """

    def __init__(
        self,
        service: Service,
        journal: Journal,
        background: Background,
        *,
        settings: Settings,
        dice: random.Random,
    ) -> None:
        price, budget = settings.money.price, settings.money.budget
        self.ceiling = None if budget is None else ceiling_of(budget)
        """Credits that may be spent and held at the most; None for no budget."""
        self._service = service
        self._journal = journal
        self._background = background
        self._given = price is not None
        self._pauses = settings.admission
        self._dice = dice
        self._prices = Prices({} if price is None else by_duration(price))
        self._asked: dict[str, Job[None] | None] = {}
        self._unwritten: dict[tuple[str, int], int] = {}

    async def open(self) -> None:
        """Find out the usual model's price, before anything is bought. Without a budget it only makes the holds exact.

        Raises:
            ConfigurationError: There is a budget, and nobody tells the price.
            JournalError: The journal cannot be read or written.
        """
        self._asked[MODEL] = None
        await self._learn(MODEL, _PATIENCE)
        if self.ceiling is not None and any(self.hold(MODEL, duration) is None for duration in DURATIONS):
            raise ConfigurationError("a budget needs a price, and the service does not tell it: give --price USD")

    async def learn(self, model: str) -> None:
        """Find out a model's price, if that was not done yet; all who want it at a time share one call.

        Under a budget nothing can be bought without it: trouble of the service is waited for.

        Raises:
            JournalError: The journal cannot be read or written.
        """
        await self._background.ready()  # where nothing waits between a look and a start, none is started twice
        if model not in self._asked:
            patience = _PATIENCE if self.ceiling is None else self._pauses.unavailable_after
            self._asked[model] = await self._background.start(partial(self._learn, model, patience))
        job = self._asked[model]
        if job is not None:
            await self._background.result(job)

    async def _learn(self, model: str, patience: float) -> None:
        for duration in DURATIONS:
            seen = await self._noted(SEEN, model, duration)
            if seen:
                self._prices.remember(model, duration, seen)
        if not (self._given and model == MODEL):
            for duration, price in (await self._ask(model, patience)).items():
                await self._listed(model, duration, credits_of(price))
        for duration in DURATIONS if self.ceiling is not None else ():
            price_now = self.hold(model, duration)
            if price_now is not None:
                await self._journal.fill_price(model, duration, price_now)

    async def _ask(self, model: str, patience: float) -> Mapping[int, float]:
        """Ask for a model's price in USD, by duration: once, or under a budget until trouble is over."""
        tries = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    try:
                        return await self._service.prices(model)
                    except KlingError as error:
                        logger.info("the price of %s is not told: %s", model, error)
                        if self.ceiling is None or not isinstance(error, _TROUBLE):
                            break
                    tries += 1
                    first, cap = self._pauses.backoff_first, self._pauses.backoff_cap
                    await asyncio.sleep(backoff(tries, self._dice.random(), first=first, cap=cap))
        return {}

    async def _listed(self, model: str, duration: int, credits_: int) -> None:
        """Take over what the price call tells, for this run and the next."""
        before = await self._noted(LISTED, model, duration)
        if self._prices.listed(model, duration, credits_, before=before):
            await self._journal.note(note_of(SEEN, model, duration), "0")
        if credits_ != before:
            await self._journal.note(note_of(LISTED, model, duration), str(credits_))

    async def _noted(self, kind: str, model: str, duration: int) -> int | None:
        value = await self._journal.note(note_of(kind, model, duration))
        return None if value is None else int(value)

    def hold(self, model: str, duration: int) -> int | None:
        """Return the credits to hold for one video; None where nobody told."""
        return self._prices.hold(model, duration)

    def held(self, record: Record) -> Record:
        """Return a record whose POST's price is not told yet with what the journal holds for it by now."""
        price = self.hold(record.request.model, record.request.duration)
        if price is None or price <= (record.credits or 0):
            return record
        return evolve(record, credits=price)

    def valued(self, record: Record) -> Record:
        """Return a row that money stands behind with a price: its own; where nobody told it, what one costs now."""
        return self.held(record) if record.credits is None or record.stage is Stage.UNCERTAIN else record

    def told(self, record: Record, credits_: int | None) -> bool:
        """Take note of what the service holds for a row's video; return whether that is dearer than known.

        The journal is told by `write`.
        """
        model, duration = record.request.model, record.request.duration
        if credits_ is None or credits_ <= (self._prices.seen(model, duration) or 0):
            return False
        self._unwritten[model, duration] = credits_
        return self._prices.told(model, duration, credits_)

    def overshoot(self, tally: Tally) -> int:
        """Return the credits by which what is spent and held passes the budget; 0 where it does not."""
        return overshoot(tally.spent + tally.held, self.ceiling)

    async def write(self) -> None:
        """Raise what the journal holds for POSTs that are not answered yet, and for those to come, to what was told.

        Raises:
            JournalError: It cannot be written.
        """
        while self._unwritten:
            (model, duration), credits_ = self._unwritten.popitem()
            await self._journal.raise_price(model, duration, credits_)
