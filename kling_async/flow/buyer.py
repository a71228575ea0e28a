"""Buying one video, exactly once: the intent, the POST, and the search for one whose answer was lost.

The intent is durable before the POST leaves, the id before anything else happens. A POST is sent again only where it is
proven that no job was made; what is uncertain is looked up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from attrs import evolve, frozen

from kling_async.errors import (
    BudgetExceeded,
    InvalidRequest,
    JournalError,
    KlingError,
    ServerTrouble,
)
from kling_async.flow.crew import Crew, Scribe
from kling_async.flow.posts import POST_GRACE
from kling_async.flow.reconciler import Finding, Found
from kling_async.flow.service import Prepared
from kling_async.flow.tries import Tries
from kling_async.logs import get_logger
from kling_async.rules.identity import client_request_id
from kling_async.rules.lifecycle import advance
from kling_async.rules.lost import not_listed, not_readable, of_another_key
from kling_async.rules.retry import Operation, Verdict, decide
from kling_async.rules.troubles import is_of_the_row, trouble_of
from kling_async.types.generation import Generation
from kling_async.types.outcome import usd
from kling_async.types.record import (
    Accepted,
    Event,
    Intended,
    Lost,
    Record,
    Refused,
    Rendered,
    Resubmitted,
    Stage,
    Trouble,
    Unbought,
    Unfound,
    Unsent,
)

logger = get_logger(__name__)

_LOOKED_AT_LEAST: Final = 600.0
"""Seconds that this process looks for a lost POST before it may be submitted again."""


@frozen
class Original:
    """The row of equal content whose generation another one shares."""

    key: str
    """Its key."""
    content: str
    """The digest that both have."""


class Buyer:
    """Buys, and finds again.

    Args:
        crew: Those who do the steps.
        scribe: Saves each change.
        journal_id: The journal's own id, part of every POST's id.
        key_digest: The digest of today's key; the usage log lists no other key's requests.
    """

    def __init__(self, crew: Crew, scribe: Scribe, *, journal_id: str, key_digest: str) -> None:
        self._crew = crew
        self._scribe = scribe
        self._journal_id = journal_id
        self._key_digest = key_digest
        self.tries = Tries()
        """What came of the POSTs of this run that bought nothing."""
        self._warned_of_echo = False
        self.longest = 0.0
        """Seconds of the longest generation seen: a lost one is looked for at least three times as long."""
        self.stopping = False
        """Whether no POST may leave any more."""

    async def buy(self, record: Record) -> Record | Original:
        """Buy a row whose slot was granted, unless its content is bought already.

        A PLANNED one; or by its owner's word one that was set aside: what stands behind it is given up with the intent
        of the new POST, and where that buys nothing, the row is what it was.

        Raises:
            BudgetExceeded: It would pass the budget; nothing was bought.
        """
        gate = self._crew.gate
        try:
            try:
                prepared = await self._crew.service.prepare(record.request)
            except InvalidRequest as error:
                return await self._refused(record, trouble_of(error))
            await self._crew.purse.learn(record.request.model)
            return await self._crew.background.shielded(partial(self._post, record, prepared), grace=POST_GRACE)
        finally:
            gate.landed()

    async def _post(self, record: Record, prepared: Prepared) -> Record | Original:
        """Write the intent, POST, and write what came of it."""
        crew, gate, purse = self._crew, self._crew.gate, self._crew.purse
        if (alike := crew.flight.failed_alike(prepared.content)) is not None:
            return await self._refused(record, alike, content=prepared.content)
        record = record if record.stage is Stage.PLANNED else purse.valued(record)
        intent = Intended(
            client_request_id(self._journal_id, record.key, record.attempt + 1),
            crew.clock.wall(),
            prepared.content,
            purse.hold(record.request.model, record.request.duration),
            self._key_digest,
        )
        intended = advance(record, intent if record.stage is Stage.PLANNED else Resubmitted(intent))
        try:
            original = await crew.journal.intend(intended, ceiling=purse.ceiling)
        except BudgetExceeded as error:
            gate.turned_away = True
            closed = gate.close(error)
            if record.set_aside:
                return record
            raise closed from None
        except InvalidRequest as error:
            return await self._refused(record, trouble_of(error))
        if original is not None:
            return Original(original, prepared.content)
        self._scribe.tell(record, intended)
        if self.stopping or gate.closed is not None:
            gate.turned_away = gate.turned_away or gate.closed is not None
            return await self._scribe.move(intended, Unsent())
        try:
            generation = await crew.service.submit(prepared, client_request_id=intent.client_request_id)
        except KlingError as error:
            event = await self._judge(record, error)
            if isinstance(event, Unsent) and record.set_aside:
                self.tries.came_to_nothing(record.key)
            elif isinstance(event, Refused) and record.set_aside:
                return await self._refused(await self._scribe.move(intended, event), event.trouble)
            return await self._scribe.move(purse.held(intended), event)
        return await self._accepted(intended, generation)

    async def _refused(self, record: Record, trouble: Trouble, *, content: str | None = None) -> Record:
        """Fail a row that cannot be bought as it is, with the content that failed; what was set aside stays so."""
        if record.set_aside:
            logger.warning("%s: it is not bought again: %s", record.key, trouble.message)
            return record
        return await self._scribe.move(evolve(record, content=content), Refused(trouble))

    async def _accepted(self, record: Record, generation: Generation) -> Record:
        self._crew.gate.accepted()
        self._hear_price(record, generation.usage.credits)
        if generation.echoed is False and not self._warned_of_echo:
            self._warned_of_echo = True
            logger.warning("the service does not echo X-Client-Request-Id: lost answers will not be found again")
        adopted = await self._adopt(record, generation.id, generation.usage.credits)
        await self._crew.purse.write()  # the id before anything else
        return adopted

    def _hear_price(self, record: Record, credits_: int | None) -> None:
        """Take note of what a video really costs; under a budget that was reckoned with less, no more is bought."""
        purse, request = self._crew.purse, record.request
        if credits_ is None or not purse.told(record, credits_):
            return
        price = f"{usd(credits_):.2f} USD"
        logger.warning("a video of %d s by %s costs %s, more than was known", request.duration, request.model, price)
        if purse.ceiling is not None:
            message = (
                f"a video costs {price} now, more than was reckoned with: run again to go on at that price, if need be "
                "with another --budget"
            )
            self._crew.gate.close(BudgetExceeded(message))

    async def rendered(self, record: Record, credits_: int | None) -> Record:
        """Save that a row's video is finished at the service, and take note where more was charged than was held."""
        if (credits_ or 0) > (record.credits or 0):
            self._hear_price(record, credits_)
        await self._crew.purse.write()  # what is held for others first: the row itself can wait for company
        return await self._scribe.move(record, Rendered(credits_))

    async def _adopt(self, record: Record, generation_id: str, credits_: int | None) -> Record:
        """Take a generation's id over; one that belongs to another row sets this one aside."""
        record = self._crew.purse.held(record)
        try:
            return await self._scribe.move(record, Accepted(generation_id, credits_))
        except JournalError as error:
            logger.error("%s: generation %s is bought and could not be written down", record.key, generation_id)  # noqa: TRY400  # the error goes on
            if error.generation_id is None:
                raise
            return await self._scribe.move(record, Lost(), Unfound(trouble_of(error)))

    async def _judge(self, record: Record, error: KlingError) -> Event:
        """Return the event that a failed POST is, and let all submits know, unless it is its image's own trouble."""
        gate = self._crew.gate
        verdict = decide(Operation.SUBMIT, error)
        if verdict is Verdict.ANEW:
            logger.info("%s: %s", record.key, error)
            return Refused(trouble_of(error)) if self.tries.is_restless(record.key) else Unsent()
        if verdict is Verdict.RAISE:
            raise error
        if verdict is Verdict.REFUSED:
            gate.refused()
            return Refused(trouble_of(error))
        if verdict is Verdict.STOP:
            gate.close(error)
        elif verdict is Verdict.CREDENTIALS:
            await self._check_key(error)
        else:
            logger.info("a submit failed: %s", error)
            gate.troubled(error)
        return Lost() if verdict is Verdict.UNCERTAIN else Unsent()

    async def _check_key(self, error: KlingError) -> None:
        """Ask for the balance, to tell a refused key from a passing whim."""
        often = self._crew.gate.key_refused(error)  # first of all: what waits behind it does not leave meanwhile
        if often or await self._crew.poller.key_check.is_refused():
            self._crew.gate.close(error)

    async def find(
        self,
        record: Record,
        *,
        once: bool,
        anew: bool = False,
        again: Callable[[Record], Awaitable[Record]] | None = None,
    ) -> Record:
        """Look for a row whose POST's answer was lost: for as long as it could be listed, or once.

        Args:
            record: SUBMITTING or UNCERTAIN.
            once: Whether one look is enough.
            anew: Whether it is looked for from now on as long as one that was just sent.
            again: Given where its owner wants it bought again if it is not listed: does so.
        """
        if record.stage is Stage.SUBMITTING:
            record = await self._scribe.move(record, Lost())
        if self.is_of_another_key(record):
            return await self._scribe.move(record, Unfound(of_another_key(record)))
        name = record.client_request_id or ""
        self._crew.gate.uncertain(name)
        try:
            found = await self._look(record, once=once, anew=anew)
            record = await self._found(record, found)
        finally:
            self._crew.gate.certain(name)
        if found.finding is Finding.NOT_LISTED and again is not None:
            return await again(record)
        return record

    async def _look(self, record: Record, *, once: bool, anew: bool) -> Found:
        sent_at = record.sent_at if record.sent_at is not None else self._crew.clock.wall()
        patience = max(self._crew.settings.uncertain.uncertain_after, 3 * self.longest)
        timeout = 0.0 if once else patience - self._scribe.age(record)
        if self._crew.settings.uncertain.on_uncertain == "resubmit":
            # Before it may be bought again, this process itself has looked for a while, whatever the wall's clock says.
            least = min(_LOOKED_AT_LEAST, self._crew.settings.uncertain.uncertain_after)
            timeout = max(patience - self._scribe.age(record), least)
        if anew:
            timeout = patience
        return await self._crew.reconciler.find(record.client_request_id or "", sent_at=sent_at, timeout=timeout)

    async def _found(self, record: Record, found: Found) -> Record:
        if found.finding is Finding.BOUGHT and found.generation_id is not None:
            logger.info("%s: its lost submit was found again, generation %s", record.key, found.generation_id)
            return await self._adopt(record, found.generation_id, None)
        if found.finding is Finding.NOT_BOUGHT:
            in_vain = self.tries.is_in_vain(record.key)
            count = self.tries.in_vain(record.key)
            error = ServerTrouble(f"{count} submits of it came to nothing: the usage log lists the last as failed")
            self._crew.gate.troubled(error)
            if in_vain:
                return await self._scribe.move(record, Unbought(), Refused(trouble_of(error)))
            if record.fallback is not None:
                self.tries.came_to_nothing(record.key)
            return await self._scribe.move(record, Unbought())
        told = not_readable(record) if found.finding is Finding.NOT_ASKED else not_listed(record)
        return await self._scribe.move(self._crew.purse.held(record), Unfound(told))

    def is_of_another_key(self, record: Record) -> bool:
        """Tell whether a row's POST carried another key than today's: what this one is told of it proves nothing."""
        return record.sent_with not in {None, self._key_digest}

    def ended(self, record: Record) -> None:
        """Forget what was counted of a row, and keep in mind what it failed for: the same would fail alike."""
        self.tries.forget(record.key)
        if record.stage is Stage.FAILED and is_of_the_row(record):
            self._crew.flight.failed(record)
