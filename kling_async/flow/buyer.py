"""Buying one video, exactly once: the intent, the POST, and the search for one whose answer was lost.

The intent is durable before the POST leaves, the id before anything else happens. A POST is sent again only where it is
proven that no job was made; what is uncertain is looked up.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from attrs import frozen

from kling_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    BudgetExceeded,
    InvalidRequest,
    JournalError,
    KlingError,
    OutOfCredit,
    ServerTrouble,
)
from kling_async.flow.crew import Crew, Scribe
from kling_async.flow.reconciler import Finding, Found
from kling_async.flow.service import Prepared
from kling_async.rules.identity import client_request_id
from kling_async.rules.lifecycle import advance
from kling_async.rules.retry import Operation, Verdict, decide
from kling_async.rules.troubles import trouble_of
from kling_async.types.generation import Generation
from kling_async.types.record import (
    Accepted,
    Event,
    Intended,
    Lost,
    Record,
    Refused,
    Resubmitted,
    Stage,
    Trouble,
    Unbought,
    Unfound,
    Unsent,
)

logger = logging.getLogger(__name__)

POST_GRACE: Final = 10.0
"""Seconds that a POST which is out may take to be answered after its row was cancelled."""

_LOOKED_AT_LEAST: Final = 600.0
"""Seconds that this process looks for a lost POST before it may be submitted again."""

MOST_ATTEMPTS: Final = 20
"""POSTs of one row after which a failure that looks like the service's trouble is taken for its own."""

_KEY_CHECKS: Final = 3
"""Refusals of the key in a row after which submitting stops, whatever the balance call says."""


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
        ceiling: Credits that may be spent and held at the most; None for no budget.
        key_digest: The digest of today's key; the usage log lists no other key's requests.
    """

    def __init__(self, crew: Crew, scribe: Scribe, *, journal_id: str, ceiling: int | None, key_digest: str) -> None:
        self._crew = crew
        self._scribe = scribe
        self._journal_id = journal_id
        self._ceiling = ceiling
        self._key_digest = key_digest
        self._key_refusals = 0
        self._warned_of_echo = False
        self.longest = 0.0
        """Seconds of the longest generation seen: a lost one is looked for at least three times as long."""
        self.stopping = False
        """Whether no POST may leave any more."""

    async def buy(self, record: Record) -> Record | Original:
        """Buy a PLANNED row whose slot was granted, unless its content is bought already.

        Raises:
            BudgetExceeded: It would pass the budget; nothing was bought.
        """
        gate = self._crew.gate
        try:
            try:
                prepared = await self._crew.service.prepare(record.request)
            except InvalidRequest as error:
                return await self._scribe.move(record, Refused(trouble_of(error)))
            return await self._crew.background.shielded(partial(self._post, record, prepared), grace=POST_GRACE)
        finally:
            gate.landed()

    async def _post(self, record: Record, prepared: Prepared) -> Record | Original:
        """Write the intent, POST, and write what came of it."""
        crew = self._crew
        intent = Intended(
            client_request_id(self._journal_id, record.key, record.attempt + 1),
            crew.clock.wall(),
            prepared.content,
            crew.prices.hold(record.request.duration),
            self._key_digest,
        )
        intended = advance(record, intent)
        try:
            original = await crew.journal.intend(intended, ceiling=self._ceiling)
        except BudgetExceeded as error:
            raise crew.gate.close(error) from None
        if original is not None:
            return Original(original, prepared.content)
        self._scribe.tell(record, intended)
        if self.stopping or crew.gate.closed is not None:
            return await self._scribe.move(intended, Unsent())
        try:
            generation = await crew.service.submit(prepared, client_request_id=intent.client_request_id)
        except KlingError as error:
            return await self._scribe.move(intended, await self._judge(error))
        return await self._accepted(intended, generation)

    async def _accepted(self, record: Record, generation: Generation) -> Record:
        self._key_refusals = 0
        self._crew.gate.accepted()
        credits_ = generation.usage.credits
        if self._crew.prices.told(record.request.duration, credits_):
            logger.warning("a video costs %s credits now, more than was known", credits_)
            if self._ceiling is not None:
                message = (
                    "a video costs more than was known when the budget was set: see what it costs now, and run again"
                )
                self._crew.gate.close(BudgetExceeded(message))
        if generation.echoed is False and not self._warned_of_echo:
            self._warned_of_echo = True
            logger.warning("the service does not echo X-Client-Request-Id: lost answers will not be found again")
        return await self._adopt(record, generation.id, credits_)

    async def _adopt(self, record: Record, generation_id: str, credits_: int | None) -> Record:
        """Take a generation's id over; one that belongs to another row sets this one aside."""
        try:
            return await self._scribe.move(record, Accepted(generation_id, credits_))
        except JournalError as error:
            logger.error("%s: generation %s is bought and could not be written down", record.key, generation_id)  # noqa: TRY400  # the error goes on
            if error.generation_id is None:
                raise
            return await self._scribe.move(record, Lost(), Unfound(trouble_of(error)))

    async def _judge(self, error: KlingError) -> Event:
        """Return the event that a failed POST is, and let all submits know."""
        gate = self._crew.gate
        verdict = decide(Operation.SUBMIT, error)
        if verdict is Verdict.RAISE:
            raise error
        if verdict is Verdict.REFUSED:
            gate.heard()
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
        self._key_refusals += 1
        gate = self._crew.gate
        if self._key_refusals >= _KEY_CHECKS:
            gate.close(error)
            return
        try:
            await self._crew.service.balance()
        except (AuthenticationFailed, OutOfCredit):
            gate.close(error)
        except KlingError:
            gate.troubled(error)
        else:
            gate.troubled(error)

    async def find(self, record: Record, *, once: bool) -> Record:
        """Look for a row whose POST's answer was lost: for as long as it could be listed, or once."""
        if record.stage is Stage.SUBMITTING:
            record = await self._scribe.move(record, Lost())
        if record.sent_with not in {None, self._key_digest}:
            return await self._scribe.move(record, Unfound(_of_another_key(record)))
        name = record.client_request_id or ""
        self._crew.gate.uncertain(name)
        try:
            return await self._found(record, await self._look(record, once=once))
        finally:
            self._crew.gate.certain(name)

    async def _look(self, record: Record, *, once: bool) -> Found:
        sent_at = record.sent_at if record.sent_at is not None else self._crew.clock.wall()
        patience = max(self._crew.settings.uncertain.uncertain_after, 3 * self.longest)
        timeout = 0.0 if once else patience - self._scribe.age(record)
        if self._crew.settings.uncertain.on_uncertain == "resubmit":
            # Before it may be bought again, this process itself has looked for a while, whatever the wall's clock says.
            least = min(_LOOKED_AT_LEAST, self._crew.settings.uncertain.uncertain_after)
            timeout = max(patience - self._scribe.age(record), least)
        return await self._crew.reconciler.find(record.client_request_id or "", sent_at=sent_at, timeout=timeout)

    async def _found(self, record: Record, found: Found) -> Record:
        if found.finding is Finding.BOUGHT and found.generation_id is not None:
            logger.info("%s: its lost submit was found again, generation %s", record.key, found.generation_id)
            return await self._adopt(record, found.generation_id, None)
        if found.finding is Finding.NOT_BOUGHT:
            message = f"{record.attempt} submits of it had no answer, and the usage log lists each as failed"
            error = ServerTrouble(message)
            self._crew.gate.troubled(error)
            if record.attempt >= MOST_ATTEMPTS:
                return await self._scribe.move(record, Unbought(), Refused(trouble_of(error)))
            return await self._scribe.move(record, Unbought())
        if found.finding is Finding.NOT_LISTED and self._crew.settings.uncertain.on_uncertain == "resubmit":
            logger.warning("%s: its lost submit is not in the usage log; it is submitted again, as asked", record.key)
            return await self._scribe.move(record, Resubmitted())
        told = _not_readable(record) if found.finding is Finding.NOT_ASKED else _not_found(record)
        return await self._scribe.move(record, Unfound(told))


def _not_found(record: Record) -> Trouble:
    return Trouble(
        AnswerLost.__name__,
        f"the answer to its submit was lost, and the usage log does not list {record.client_request_id}: it may have "
        "been bought. It is looked for at each start; --on-uncertain resubmit buys it again",
    )


def _not_readable(record: Record) -> Trouble:
    return Trouble(
        AnswerLost.__name__,
        f"the answer to its submit was lost, and the usage log could not be read to find {record.client_request_id}: "
        "it may have been bought. It is looked for at each start",
    )


def _of_another_key(record: Record) -> Trouble:
    return Trouble(
        AnswerLost.__name__,
        "the answer to its submit was lost, and it was sent with another key, whose usage log this key cannot read: "
        f"run again with that key to find {record.client_request_id}",
    )
