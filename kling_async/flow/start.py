"""What must be known of a journal before the first row: whose it is, and that it is today's service's.

A journal of another service, or of another kind of job, must never be gone on with: what was bought there could not be
asked for, or would be told where it does not lie.
"""

from __future__ import annotations

import hashlib
import random
from enum import StrEnum
from typing import Final

from kling_async.errors import ConfigurationError, DownloadError
from kling_async.flow.crew import Start
from kling_async.ports import Journal, VideoStore
from kling_async.types.settings import Settings

_KEEPER: Final = "keeper"
"""The journal's note of who keeps it; where there is none, a batch does."""


class Keeper(StrEnum):
    """Who keeps a journal."""

    BATCH = "a bulk job"
    """Its videos lie in the job's folder."""
    CLIENT = "a client"
    """Its videos lie wherever its callers wanted them."""


async def read_start(
    journal: Journal, settings: Settings, dice: random.Random, *, keeper: Keeper, service_name: str | None = None
) -> Start:
    """Hold a journal against today's service and its keeper, and give a new one its id.

    Args:
        journal: It is open.
        settings: Today's address and key.
        dice: Draw the id.
        keeper: Who goes on with it.
        service_name: What the journal remembers as the service; its address if not given.

    Raises:
        ConfigurationError: It belongs to another service, where anything was bought, or to another keeper.
        JournalError: It cannot be read or written.
    """
    service_name = service_name or settings.service.base_url
    known, tally = await journal.note("service"), await journal.tally()
    kept_by = await _kept_by(journal, keeper)
    if known is not None and known != service_name and tally.rows > tally.planned + tally.failed:
        raise ConfigurationError(
            f"the journal belongs to the service at {known}, not {service_name}: what was bought there cannot be asked "
            "for here; use that address, or another folder or journal"
        )
    if keeper is not Keeper.BATCH and kept_by != keeper:
        await journal.note(_KEEPER, keeper.value)
    if known != service_name:
        await journal.note("service", service_name)
    journal_id = await journal.note("journal_id") or await journal.note("journal_id", f"{dice.getrandbits(40):010x}")
    return Start(journal_id or "", hashlib.sha256(settings.service.api_key.encode()).hexdigest()[:16])


async def look_only(journal: Journal, *, keeper: Keeper) -> Start:
    """Hold a journal against its keeper alone, where nothing is asked of any service, and nothing bought.

    Raises:
        ConfigurationError: It belongs to another keeper.
        JournalError: It cannot be read.
    """
    await _kept_by(journal, keeper)
    return Start("", "")


async def _kept_by(journal: Journal, keeper: Keeper) -> str:
    """Return who keeps a journal; of one that has a service already, that must be who goes on with it."""
    kept_by = await journal.note(_KEEPER) or Keeper.BATCH
    if kept_by != keeper and await journal.note("service") is not None:
        raise ConfigurationError(
            f"the journal belongs to {kept_by}, and videos of {keeper} lie elsewhere: give another"
        )
    return kept_by


async def prove_writable(store: VideoStore) -> None:
    """Write an empty file where the videos shall lie, before anything is bought."""
    try:
        async with store.stage("probe"):
            pass
    except DownloadError as error:
        raise ConfigurationError(f"the videos' folder cannot be written: {error}") from None
