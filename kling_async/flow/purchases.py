"""Buying within a client that keeps a journal, each video exactly once.

The intent is durable before the POST leaves, the id before anything else happens. This room must never buy what may be
bought already, under a row's own key or as another row of equal content: that is looked up, and where it stays unknown,
its caller is told.
"""

from __future__ import annotations

import asyncio
from functools import partial

from attrs import evolve

from kling_async.errors import AnswerLost, ImageChanged, InvalidRequest, JournalError, KlingError
from kling_async.flow.flight import Slot
from kling_async.flow.ledger import Ledger
from kling_async.flow.posts import LOOK_UP, MOST_ATTEMPTS, MOST_LOOKS, Posts, refused_too_often, warn_cancelled
from kling_async.flow.reconciler import Finding, Reconciler
from kling_async.flow.service import Prepared, Service
from kling_async.logs import get_logger
from kling_async.ports import Clock
from kling_async.rules.identity import client_request_id
from kling_async.rules.lifecycle import advance
from kling_async.rules.retry import Operation, Verdict, decide
from kling_async.rules.troubles import trouble_of
from kling_async.types.generation import Generation, GenerationStatus
from kling_async.types.record import (
    Intended,
    Lost,
    Record,
    Refused,
    Retried,
    Stage,
    Unbought,
    Unfound,
    Unsent,
)
from kling_async.types.request import ImageToVideo

logger = get_logger(__name__)


class Purchases:
    """What a client buys.

    Args:
        ledger: The rows.
        service: Looks at requests before they are sent.
        posts: Sends them.
        reconciler: Finds lost submits.
        clock: The wall's clock.
        patience: Seconds after its POST for which a lost submit is looked for, `LOOK_UP` at a time.
    """

    def __init__(
        self, ledger: Ledger, *, service: Service, posts: Posts, reconciler: Reconciler, clock: Clock, patience: float
    ) -> None:
        self._ledger = ledger
        self._scribe = ledger.scribe
        self._purse = ledger.purse
        self._service = service
        self._posts = posts
        self._reconciler = reconciler
        self._clock = clock
        self._patience = patience

    async def submit(self, request: ImageToVideo) -> Generation:
        """Buy one video, or return the generation that was bought for it; UNKNOWN where nobody asked how it stands.

        Raises:
            KlingError: As `JournaledClient.submit`.
        """
        planned = await self._ledger.plan(request)
        async with self._ledger.turn(planned.key):
            record, looks = None, 0
            for _ in range(MOST_ATTEMPTS):
                # As it came, and not as the journal keeps it: its bytes need not be read again.
                record = record or evolve(await self._ledger.exact(planned), request=request)
                try:
                    found = await self._step(record)
                except ImageChanged:
                    record, looks = None, looks + 1
                    if looks == MOST_LOOKS:
                        raise
                    continue
                if isinstance(found, Generation):
                    return found
                record = found
        raise refused_too_often()

    async def _step(self, record: Record) -> Generation | Record:
        """Do what is next with a row, until its generation is known."""
        match record.stage:
            case Stage.FAILED:
                return await self._scribe.move(record, Retried())
            case Stage.PLANNED:
                return await self._buy(record)
            case Stage.SUBMITTING | Stage.UNCERTAIN:
                return await self._find(record)
        bought = record.generation_id or record.shares
        if bought is None:
            raise JournalError(f"row {record.key!r} is {record.stage} without a generation id: the journal is damaged")
        return Generation(bought, GenerationStatus.UNKNOWN, client_request_id=record.client_request_id)

    async def _buy(self, record: Record) -> Generation | Record:
        """Buy a PLANNED row; the row again where what was sent came to nothing."""
        try:
            prepared = await self._service.prepare(record.request)
        except InvalidRequest as error:
            await self._scribe.move(record, Refused(trouble_of(error)))
            raise
        await self._purse.learn(record.request.model)
        name = client_request_id(self._ledger.start.journal_id, record.key, record.attempt + 1)
        async with self._posts.place() as place:
            found = await self._posts.shielded(name, partial(self._post, record, prepared, name, place))
        return await self._share(record, found) if isinstance(found, str) else found

    async def _post(self, record: Record, prepared: Prepared, name: str, place: Slot) -> Generation | Record | str:
        """Write the intent, POST, and write what came of it; or tell the key of the row whose generation it shares."""
        price = self._purse.hold(record.request.model, record.request.duration)
        key_digest = self._ledger.start.key_digest
        intended = advance(record, Intended(name, self._clock.wall(), prepared.content, price, key_digest))
        with self._ledger.posting(record.key):
            try:
                original = await self._ledger.journal.intend(intended, ceiling=self._purse.ceiling)
            except InvalidRequest as error:
                await self._scribe.move(record, Refused(trouble_of(error)))
                raise
            if original is not None:
                return original
            try:
                generation = await self._posts.send(prepared, name, place)
            except KlingError as error:
                return await self._judge(intended, error)
            await self._ledger.accepted(intended, generation.id, generation.usage.credits)
            return generation

    async def _judge(self, record: Record, error: KlingError) -> Record:
        """Write what a failed POST is; return the row where that is not the end of it.

        Raises:
            KlingError: The error, where its caller must decide.
        """
        match decide(Operation.SUBMIT, error):
            case Verdict.UNCERTAIN:
                logger.info("%s: %s", record.key, error)
                return await self._scribe.move(self._purse.held(record), Lost())
            case Verdict.AGAIN:
                planned = await self._scribe.move(record, Unsent())
                self._posts.check_silence(error)
                return planned
            case Verdict.REFUSED:
                await self._scribe.move(record, Refused(trouble_of(error)))
            case Verdict.STOP | Verdict.CREDENTIALS | Verdict.ANEW:
                await self._scribe.move(record, Unsent())
        raise error

    async def _share(self, record: Record, key: str) -> Generation | Record:
        """Return the generation of a row of equal content; this row again where that one was not bought after all."""
        async with self._ledger.turn(key):
            other = await self._ledger.journal.get(key)
            other = None if other is None else await self._ledger.exact(other)
            if other is None or other.stage in {Stage.PLANNED, Stage.FAILED}:
                return record
            found = await self._step(other)
        if not isinstance(found, Generation):
            return record
        logger.info("%s: generation %s of row %s is its own, too", record.key, found.id, key)
        self._ledger.share(found.id, record, other.content or "")
        return found

    async def _find(self, record: Record) -> Generation | Record:
        """Look for a row whose POST's answer was lost; the row, PLANNED again, where nothing was bought.

        One that was set aside before is looked for once.

        Raises:
            AnswerLost: It may have been bought.
        """
        patience = min(LOOK_UP, max(0.0, self._patience - self._scribe.age(record)))
        timeout = 0.0 if record.set_aside else patience
        if record.stage is Stage.SUBMITTING:
            record = await self._scribe.move(record, Lost())
        if record.sent_with not in {None, self._ledger.start.key_digest}:
            raise await self._aside(record, "it was sent with another key, whose usage log this key cannot read")
        name = record.client_request_id or ""
        sent_at = record.sent_at if record.sent_at is not None else self._clock.wall()
        try:
            found = await self._reconciler.find(name, sent_at=sent_at, timeout=timeout)
        except asyncio.CancelledError:
            warn_cancelled(name)
            raise
        if found.finding is Finding.BOUGHT and found.generation_id is not None:
            logger.info("submit %s was found again: generation %s", name, found.generation_id)
            await self._ledger.accepted(record, found.generation_id, None)
            return Generation(found.generation_id, GenerationStatus.RUNNING, client_request_id=name)
        if found.finding is Finding.NOT_BOUGHT:
            return await self._scribe.move(record, Unbought())
        listed = "does not list it" if found.finding is Finding.NOT_LISTED else "does not tell about it"
        raise await self._aside(record, f"the usage log {listed}")

    async def _aside(self, record: Record, why: str) -> AnswerLost:
        """Set a row aside, and return what its caller is told."""
        name = record.client_request_id or ""
        error = AnswerLost(
            f"row {record.key!r}: the answer to its submit was lost, and {why}: it may have been bought. To submit it "
            f"again, or client.find({name!r}), looks for it once more and does not buy it",
            client_request_id=name,
        )
        await self._scribe.move(self._purse.held(record), Unfound(trouble_of(error)))
        return error
