"""The client that keeps a journal: what it bought is known to the next process, too.

Each request is a row under its key. To submit a known one again buys nothing, but where nothing stands behind it; what
an earlier process left is looked up. This room must never write on cancel: a row stays where it stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from os import PathLike
from typing import Any, Self

from kling_async.errors import GenerationFailed, ProtocolViolation, RateLimited, ServerTrouble, TransportError
from kling_async.flow.client import KlingClient
from kling_async.flow.crew import Start
from kling_async.flow.downloader import Downloader
from kling_async.flow.ledger import Ledger
from kling_async.flow.purchases import Purchases
from kling_async.logs import get_logger
from kling_async.ports import VideoStore
from kling_async.types.generation import Generation, GenerationStatus
from kling_async.types.outcome import VideoFile
from kling_async.types.record import Stage, Verified
from kling_async.types.request import ImageToVideo

logger = get_logger(__name__)


class JournaledClient(KlingClient):
    """A client of the service that writes down what it buys. Make it with `open_client(journal=…)`.

    Args:
        ledger: Its rows.
        prepare: Opens the journal, and says what must be known of it.
        crew: As `KlingClient`.
    """

    def __init__(self, ledger: Ledger, *, prepare: Callable[[], Awaitable[Start]], **crew: Any) -> None:
        super().__init__(**crew)
        self._ledger = ledger
        self._prepare = prepare
        self._purchases = Purchases(
            ledger,
            service=self._service,
            posts=self._posts,
            reconciler=self._reconciler,
            clock=self._clock,
            patience=self._settings.uncertain.uncertain_after,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._ledger.open(await self._prepare())
        except BaseException:
            await super().__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self._ledger.close()
        await super().__aexit__(*error)

    async def submit(self, request: ImageToVideo) -> Generation:
        """Buy one video and return its generation at once; or return the one that was bought for it before.

        A request whose key is known buys nothing again, unless its former try failed, which is free. Where an answer
        was lost, in this process or an earlier one, it is looked up first.

        Raises:
            InvalidRequest: The request is wrong; nothing was bought.
            RequestChanged: Under its key another request was bought, or may have been.
            BudgetExceeded: It would pass the budget; nothing was bought.
            AnswerLost: It may have been bought; to submit it again looks for it once more.
            JournalError: The journal cannot be written; what is bought is told by the error's `generation_id`.
            KlingError: As `KlingClient.submit`.
        """
        generation = await self._purchases.submit(request)
        if generation.status is not GenerationStatus.UNKNOWN:
            return generation
        try:
            return await self.retrieve(generation)
        except (TransportError, RateLimited, ServerTrouble, ProtocolViolation) as error:
            logger.info("generation %s is bought already; how it stands is not known: %s", generation.id, error)
            return generation

    async def find(self, client_request_id: str) -> Generation | None:
        """Look once for a submit in the usage log, as `KlingClient.find`; what is found is written down."""
        try:
            generation = await super().find(client_request_id)
        except GenerationFailed:
            await self._ledger.found(client_request_id, None)
            raise
        if generation is not None:
            await self._ledger.found(client_request_id, generation.id)
            await self._ledger.ended(generation)
        return generation

    async def retrieve(self, generation: Generation | str) -> Generation:
        """Ask once for a generation, as `KlingClient.retrieve`; its end is written down."""
        found = await super().retrieve(generation)
        await self._ledger.ended(found)
        return found

    async def wait(self, generation: Generation | str, *, timeout: float | None = None) -> Generation:
        """Wait until a generation is finished, as `KlingClient.wait`; its end is written down."""
        try:
            found = await super().wait(generation, timeout=timeout)
        except GenerationFailed as error:
            await self._ledger.failed(error)
            raise
        await self._ledger.ended(found)
        return found

    async def generate(
        self, request: ImageToVideo, path: str | PathLike[str], *, timeout: float | None = None
    ) -> VideoFile:
        """Submit, wait and download, as `KlingClient.generate`, each as far as it is not done already.

        Where the whole video stands under the path, the service is not asked; where it does not any more, it is
        fetched again and not bought.
        """
        store, _, name = self._place(path)
        record = await self._ledger.exact(await self._ledger.plan(request))
        size, sha256 = record.size, record.sha256
        if (
            record.stage in {Stage.RENDERED, Stage.DONE}
            and size is not None
            and sha256 is not None
            and await store.holds(name, size=size, sha256=sha256)
        ):
            bought = record.generation_id or record.shares
            file = VideoFile(store.path(name), size, sha256, bought, record.seconds)
            await self._ledger.stored(file)
            return file
        return await super().generate(request, path, timeout=timeout)

    async def _verified(self, generation_id: str, verified: Verified) -> None:
        await self._ledger.moved(generation_id, verified)

    async def _fetch(
        self, generation: Generation | str, store: VideoStore, downloader: Downloader, name: str
    ) -> VideoFile:
        if isinstance(generation, Generation):
            await self._ledger.ended(generation)
        file = await super()._fetch(generation, store, downloader, name)
        await self._ledger.stored(file)
        return file
