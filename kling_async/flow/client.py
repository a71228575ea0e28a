"""A few videos inside an asyncio program: submit, retrieve, wait, download, generate, find.

This client keeps no journal: what it bought is known to its caller alone. A lost answer is looked up in the usage log;
a cancelled submit gets its grace, and its id is logged. `kling_async.flow.journaled` is the client that writes down
what it buys; money that matters goes through that one, or through `open_batch`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from os import PathLike
from typing import Final, Self

from attrs import evolve

from kling_async.errors import (
    AnswerLost,
    ConfigurationError,
    DownloadError,
    GenerationFailed,
    ImageChanged,
    KlingError,
    ServiceUnavailable,
)
from kling_async.flow.background import Background
from kling_async.flow.downloader import Downloader, Parcel
from kling_async.flow.gate import Gate
from kling_async.flow.places import Place
from kling_async.flow.poller import Poller
from kling_async.flow.posts import LOOK_UP, MOST_ATTEMPTS, MOST_LOOKS, Posts, refused_too_often, warn_cancelled
from kling_async.flow.reconciler import Finding, Reconciler
from kling_async.flow.service import Prepared, Service
from kling_async.logs import get_logger
from kling_async.ports import Clock, VideoStore
from kling_async.rules.identity import client_request_id
from kling_async.rules.retry import Operation, Verdict, decide
from kling_async.types.generation import Generation, GenerationStatus, RemoteVideo
from kling_async.types.outcome import VideoFile
from kling_async.types.record import Verified
from kling_async.types.request import ImageToVideo
from kling_async.types.settings import Settings

logger = get_logger(__name__)

_SOME_AGE: Final = 0.001
"""Seconds of age of a generation whose age is not known."""

_HISTORY: Final = 7 * 86_400.0
"""Seconds that `find` looks back."""


class KlingClient:
    """A client of the service. Make it with `open_client`.

    Args:
        service: The service.
        gate: Paces submits and pauses them as one.
        poller: Watches generations.
        reconciler: Finds lost submits.
        background: Where they live.
        clock: The wall's clock.
        settings: Settings.
        place: Where videos go.
        close: Closes the doors.
    """

    def __init__(  # noqa: PLR0913  # its crew, each by name
        self,
        *,
        service: Service,
        gate: Gate,
        poller: Poller,
        reconciler: Reconciler,
        background: Background,
        clock: Clock,
        settings: Settings,
        place: Callable[[str | PathLike[str]], Place],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._service = service
        self._gate = gate
        self._posts = Posts(service, gate, background, unavailable_after=settings.admission.unavailable_after)
        self._poller = poller
        self._reconciler = reconciler
        self._background = background
        self._clock = clock
        self._settings = settings
        self._place = place
        self._close = close
        self._session = secrets.token_hex(5)
        self._count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._background.aclose()
        finally:
            await self._close()

    async def submit(self, request: ImageToVideo) -> Generation:
        """Buy one video, and return its generation at once.

        What surely made no job is tried again; what may have made one is looked up, never repeated.

        Raises:
            InvalidRequest: The request is wrong; nothing was bought.
            ImageChanged: An image of it changes again and again; nothing was bought.
            AuthenticationFailed: The key is missing or refused.
            OutOfCredit: The account has no money left.
            AnswerLost: It may have been bought; `find(error.client_request_id)` tells later.
            ServiceUnavailable: No usable answer for too long; nothing was bought.
        """
        looks = 0
        for _ in range(MOST_ATTEMPTS):  # each looks at the images anew: they may be others by now
            try:
                generation = await self._attempt(await self._service.prepare(request))
            except ImageChanged:
                looks += 1
                if looks == MOST_LOOKS:
                    raise
                continue
            if generation is not None:
                return generation
        raise refused_too_often()

    async def _attempt(self, prepared: Prepared) -> Generation | None:
        """Send one POST; None where it surely made no job and may be sent again."""
        async with self._posts.place() as place:
            self._count += 1
            name, sent_at = client_request_id(self._session, str(self._count), 1), self._clock.wall()
            try:
                return await self._posts.shielded(name, partial(self._posts.send, prepared, name, place))
            except KlingError as error:
                verdict = decide(Operation.SUBMIT, error)
                if verdict is Verdict.AGAIN:
                    self._posts.check_silence(error)
                    return None
                if verdict is not Verdict.UNCERTAIN:
                    raise
                return await self._look_up(name, sent_at, error)

    async def _look_up(self, name: str, sent_at: float, error: KlingError) -> Generation | None:
        timeout = min(LOOK_UP, self._settings.uncertain.uncertain_after)
        try:
            found = await self._reconciler.find(name, sent_at=sent_at, timeout=timeout)
        except asyncio.CancelledError:
            warn_cancelled(name)
            raise
        if found.finding is Finding.BOUGHT and found.generation_id is not None:
            return Generation(found.generation_id, GenerationStatus.RUNNING, client_request_id=name)
        if found.finding is Finding.NOT_BOUGHT:
            return None
        raise AnswerLost(
            f"{error}. It may have been bought: client.find({name!r}) tells when the usage log lists it",
            client_request_id=name,
        ) from error

    async def find(self, client_request_id: str) -> Generation | None:
        """Look once for a submit in the usage log, by the id that it carried; the last seven days are read.

        When it was sent is not known here, so the log is read from its newest request back until it is found. The
        service permits 200 calls a minute, of 100 requests each: where 25,000 were made with the key in these days, the
        whole takes a minute and a half, and longer where others read the log, too. Of more than 100,000 the newest are
        read.

        Returns:
            The generation as it stands now; None where the log was read and does not list it (yet).

        Raises:
            GenerationFailed: The log lists it as failed: nothing was bought.
            ServiceUnavailable: The log could not be read to the end, has more requests than are read, none of which is
                this one, or lists it without an id. It may have been bought.
        """
        now = self._clock.wall()
        found = await self._reconciler.find(client_request_id, sent_at=now, timeout=0, look_back=_HISTORY)
        if found.finding is Finding.NOT_BOUGHT:
            raise GenerationFailed(f"the usage log lists {client_request_id} as failed: nothing was bought")
        if found.finding is Finding.NOT_ASKED:
            raise ServiceUnavailable(f"the usage log does not tell about {client_request_id}: ask again later")
        return None if found.generation_id is None else await self.retrieve(found.generation_id)

    async def retrieve(self, generation: Generation | str) -> Generation:
        """Ask once for a generation, by itself or by its id.

        Raises:
            KlingError: One leaf of the tree.
        """
        return await self._service.retrieve(_id(generation))

    async def wait(self, generation: Generation | str, *, timeout: float | None = None) -> Generation:
        """Wait until a generation is finished, and return it with its video.

        Args:
            generation: The generation, or its id.
            timeout: Seconds to wait at the most; two hours if nothing is said.

        Raises:
            GenerationFailed: The service could not make it; it costs nothing.
            GenerationOverdue: It is not finished yet, and resumable by its id.
        """
        # A submit's own answer is young; of another one nobody knows the age: it may be finished, and is asked at once.
        age = 0.0 if isinstance(generation, Generation) and generation.echoed is not None else _SOME_AGE
        limit = self._settings.polling.give_up_after if timeout is None else timeout
        return await self._poller.watch(_id(generation), age=age, timeout=limit)

    async def download(self, generation: Generation | str, path: str | PathLike[str]) -> VideoFile:
        """Bring a finished generation's video to a file: whole, or not at all. Replaces what stands there.

        Raises:
            DownloadError: It could not be fetched; the generation is not lost, try again by its id.
        """
        store, downloader, name = self._place(path)
        return await self._fetch(generation, store, downloader, name)

    async def generate(
        self, request: ImageToVideo, path: str | PathLike[str], *, timeout: float | None = None
    ) -> VideoFile:
        """Submit, wait and download.

        Args:
            request: What is asked for.
            path: The file to write; that it can be written is checked before anything is bought.
            timeout: Seconds to wait for the generation at the most.

        Raises:
            KlingError: One leaf; what is bought already is told by its `generation_id`.
        """
        store, downloader, name = self._place(path)
        try:
            async with store.stage(name):
                pass
        except DownloadError as error:
            raise ConfigurationError(f"{error}; nothing was bought") from None
        generation = await self.submit(request)
        try:
            return await self._fetch(await self.wait(generation, timeout=timeout), store, downloader, name)
        except asyncio.CancelledError:
            logger.warning("cancelled; generation %s is bought: wait and download go on with it", generation.id)
            raise

    async def _fetch(
        self, generation: Generation | str, store: VideoStore, downloader: Downloader, name: str
    ) -> VideoFile:
        video = generation.video if isinstance(generation, Generation) else None
        parcel = Parcel(
            name,
            video or await self._link(generation),
            _id(generation),
            fresh_link=partial(self._link, generation),
            verified=partial(self._verified, _id(generation)),
        )
        file = await downloader.fetch(parcel)
        return evolve(file, path=store.path(name))

    async def _verified(self, generation_id: str, verified: Verified) -> None:
        """Save what is known of a whole file before it gets its name; nothing, where no journal is kept."""

    async def _link(self, generation: Generation | str) -> RemoteVideo:
        found = await self.wait(generation)
        if found.video is None:
            raise DownloadError("the service gives no link", generation_id=found.id)
        return found.video


def _id(generation: Generation | str) -> str:
    return generation if isinstance(generation, str) else generation.id
