"""Puts doors and movement together: `open_client`, `open_batch`. The only place that knows both."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from attrs import frozen

from kling_async.adapters.allocator import keep_freed
from kling_async.adapters.clock import SystemClock
from kling_async.adapters.decoder import AvDecoder
from kling_async.adapters.files import LocalVideoStore
from kling_async.adapters.http import HttpTransport
from kling_async.adapters.images import LocalImages
from kling_async.adapters.pointer import OWN
from kling_async.adapters.results import FolderResults
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.configuration import KEY_NAMES, load_settings
from kling_async.errors import AuthenticationFailed, ConfigurationError, KlingError
from kling_async.flow.background import Background
from kling_async.flow.batch import Batch
from kling_async.flow.client import KlingClient
from kling_async.flow.crew import Crew, Start
from kling_async.flow.downloader import Downloader
from kling_async.flow.experience import Experience
from kling_async.flow.gate import Gate, admission_of
from kling_async.flow.journaled import JournaledClient
from kling_async.flow.ledger import Ledger
from kling_async.flow.places import Places
from kling_async.flow.poller import Poller
from kling_async.flow.purse import Purse
from kling_async.flow.reconciler import Reconciler
from kling_async.flow.secretary import Secretary
from kling_async.flow.service import Service
from kling_async.flow.start import Keeper, look_only, prove_writable, read_start
from kling_async.open_files import most_open_files
from kling_async.ports import Clock, Journal, Observer, Transport, VideoStore
from kling_async.rules.handles import within_files
from kling_async.rules.links import is_local
from kling_async.types.outcome import VideoFile
from kling_async.types.request import ImageToVideo
from kling_async.types.settings import Settings


@frozen
class _Core:
    """What a client and a batch have in common."""

    settings: Settings
    background: Background
    clock: Clock
    dice: random.Random
    gate: Gate
    service: Service
    poller: Poller
    reconciler: Reconciler
    doors: list[Callable[[], Awaitable[None]]]

    async def close(self) -> None:
        """Close every door, the last one opened first."""
        async with AsyncExitStack() as stack:
            for door in self.doors:
                stack.push_async_callback(door)

    def downloader(self, store: VideoStore, *, wait_for_room: bool) -> Downloader:
        """Make a downloader into a store."""
        return Downloader(
            self.service.transport,
            store,
            self.settings.downloads,
            pauses=self.settings.admission,
            dice=self.dice,
            local_service=is_local(self.settings.service.base_url),
            wait_for_room=wait_for_room,
        )


def _core(
    settings: Settings,
    *,
    inputs: Path | None,
    transport: Transport | None,
    clock: Clock | None,
    seed: int | None,
    offline: bool = False,
) -> _Core:
    if not settings.service.api_key and not offline:
        raise AuthenticationFailed(f"there is no API key: set {KEY_NAMES[0]} in the environment")
    keep_freed()
    background, dice = Background(), random.Random(seed)  # noqa: S311  # jitter is no secret
    clock = SystemClock() if clock is None else clock
    images = LocalImages(inputs)
    remote = settings.service
    if transport is None:
        transport = HttpTransport(remote.base_url, remote.api_key, images, connect_timeout=remote.connect_timeout)
    service = Service(transport, images, remote, image_checks=settings.checks.image_checks)
    gate = Gate(admission_of(settings, most_open_files()), dice, retry_after_cap=settings.admission.retry_after_cap)

    def heard(error: KlingError | None) -> None:
        if error is None:
            gate.heard()
        else:
            gate.missed(error)

    poller = Poller(
        service, background, settings.polling, pauses=settings.admission, dice=dice, heard=heard, queued=gate.queued
    )
    reconciler = Reconciler(
        service, background, heard=heard, read=gate.log_read, retry_after_cap=settings.admission.retry_after_cap
    )
    doors: list[Callable[[], Awaitable[None]]] = [images.aclose, transport.aclose]
    return _Core(settings, background, clock, dice, gate, service, poller, reconciler, doors)


def open_client(
    settings: Settings | None = None,
    *,
    journal: str | PathLike[str] | Journal | None = None,
    transport: Transport | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
    **flags: object,
) -> KlingClient:
    """Make a client; enter it with `async with`.

    Args:
        settings: All settings. Without them, key, address and the rest come from the environment; the settings file
            is the command line's (`kling_async.configuration.load_settings` reads it).
        journal: Where it writes down what it buys, so that nothing is bought twice: a file, which is made, held by this
            client alone and closed with it; or a journal that the caller has opened, and closes. None to keep none.
        transport: The way to the service, HTTP if not given; for tests (`kling_async.testing.ScriptedTransport`).
        clock: The wall's clock; for tests.
        seed: Seed of the jitter; for tests.
        flags: Single settings by name, over the environment: `base_url="…"`.

    Raises:
        AuthenticationFailed: There is no key.
        ConfigurationError: A setting is wrong, or there is a budget and no journal to hold it against; on entering: the
            journal belongs to another service, or to a bulk job.
        JournalError: On entering: another client holds the journal, or it cannot be used.
    """
    inputs = Path(f"{os.fspath(journal)}.inputs") if isinstance(journal, str | PathLike) else None
    core = _core(_settings(settings, flags), inputs=inputs, transport=transport, clock=clock, seed=seed)
    if journal is None and core.settings.money.budget is not None:
        raise ConfigurationError("a budget needs a journal to hold it against: open_client(journal=PATH), or no budget")

    def stored(folder: Path) -> VideoStore:
        store = LocalVideoStore(folder)
        core.doors.append(store.aclose)
        return store

    crew: dict[str, Any] = {
        "service": core.service,
        "gate": core.gate,
        "poller": core.poller,
        "reconciler": core.reconciler,
        "background": core.background,
        "clock": core.clock,
        "settings": core.settings,
        "place": Places(stored, partial(core.downloader, wait_for_room=False)).find,
        "close": core.close,
    }
    if journal is None:
        return KlingClient(**crew)
    if isinstance(journal, str | PathLike):
        return _journaled(core, SqliteJournal(Path(journal)), crew, own=True)
    return _journaled(core, journal, crew, own=False)


def _journaled(core: _Core, book: Journal, crew: dict[str, Any], *, own: bool) -> JournaledClient:
    """Make a client that keeps a journal; its own is opened and closed with it."""
    purse = Purse(core.service, book, core.background, settings=core.settings, dice=core.dice)

    async def prepare() -> Start:
        if own:
            await book.open()
            core.doors.append(book.aclose)
        return await read_start(book, core.settings, core.dice, keeper=Keeper.CLIENT)

    return JournaledClient(Ledger(book, purse, core.service.images, core.clock), prepare=prepare, **crew)


def open_batch(  # noqa: PLR0913  # each by name; the last three are for tests
    out: str | PathLike[str],
    *,
    settings: Settings | None = None,
    journal: str | PathLike[str] | None = None,
    observers: Sequence[Observer] = (),
    service_name: str | None = None,
    offline: bool = False,
    transport: Transport | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
    **flags: object,
) -> Batch:
    """Make a durable, resumable job in a folder; enter it with `async with`.

    Args:
        out: The folder; it is made. Its journal knows what was bought.
        settings: All settings; without them, as `open_client`.
        journal: Where the journal lies; in the folder if not given.
        observers: Are told of every saved change.
        service_name: What the journal remembers as the service; its address if not given.
        offline: Whether the service is not asked for anything: no key is needed, the journal of any service will do,
            and `verify` looks, while nothing can be run.
        transport: The way to the service, HTTP if not given; for tests (`kling_async.testing.ScriptedTransport`).
        clock: The wall's clock; for tests.
        seed: Seed of the jitter; for tests.
        flags: Single settings by name: `max_in_flight=5`, `budget=25.0`.

    Raises:
        AuthenticationFailed: There is no key.
        ConfigurationError: A setting is wrong; on entering: the folder belongs to another service.
        JournalError: On entering: another run holds the folder, or the journal cannot be used.
    """
    folder = Path(out)
    place = folder / OWN if journal is None else Path(journal)
    inputs = folder / OWN.with_name("inputs")
    chosen = _settings(settings, flags)
    core = _core(chosen, inputs=inputs, transport=transport, clock=clock, seed=seed, offline=offline)
    book, store, results, decoder = (
        SqliteJournal(place, folder=folder),
        LocalVideoStore(folder / "videos"),
        FolderResults(folder, inputs=inputs),
        AvDecoder(),
    )
    secretary = Secretary(book, results, store)
    purse = Purse(core.service, book, core.background, settings=core.settings, dice=core.dice)
    downloader = core.downloader(store, wait_for_room=True)
    crew = Crew(
        service=core.service,
        journal=book,
        store=store,
        decoder=decoder,
        gate=core.gate,
        poller=core.poller,
        downloader=downloader,
        experience=Experience(book, core.clock, core.poller, core.gate, downloader),
        reconciler=core.reconciler,
        background=core.background,
        clock=core.clock,
        purse=purse,
        settings=core.settings,
    )

    async def prepare() -> Start:
        await book.open()
        core.doors.extend([decoder.aclose, store.aclose, results.aclose, book.aclose])
        await store.clean()
        await prove_writable(store)
        if offline:
            return await look_only(book, keeper=Keeper.BATCH)
        start = await read_start(book, core.settings, core.dice, keeper=Keeper.BATCH, service_name=service_name)
        service = service_name or core.settings.service.base_url
        window = await crew.experience.read(f"{service} {start.key_digest}")
        tally = await book.tally()
        found_open = tally.submitting + tally.uncertain + tally.submitted
        core.gate.admission = admission_of(core.settings, most_open_files(), window=max(window, found_open))
        await purse.open()
        return start

    told = (*observers, secretary)
    return Batch(folder, crew, secretary, prepare=prepare, close=core.close, observers=told, offline=offline)


def _settings(settings: Settings | None, flags: dict[str, object]) -> Settings:
    found = load_settings(flags)[0] if settings is None else settings.updated(**flags)
    return within_files(found, most_open_files())


def generate_sync(
    request: ImageToVideo, path: str | PathLike[str], *, timeout: float | None = None, **flags: object
) -> VideoFile:
    """Make one video without a loop of one's own: `KlingClient.generate`, run to its end.

    Args:
        request: What is asked for.
        path: The file to write.
        timeout: Seconds to wait for the generation at the most.
        flags: Single settings by name.

    Raises:
        KlingError: As `KlingClient.generate`.
    """

    async def run() -> VideoFile:
        async with open_client(None, **flags) as client:  # type: ignore[arg-type]  # settings by name, checked there
            return await client.generate(request, path, timeout=timeout)

    return asyncio.run(run())
