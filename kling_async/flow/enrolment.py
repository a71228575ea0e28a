"""How rows come into the journal: their bytes kept, their keys and places given. No file of theirs is read for it.

This room must never change the place of a row that has one: its record's name says where its video lies, for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from attrs import evolve, frozen

from kling_async.errors import KlingError
from kling_async.ports import SOURCE, Images, Journal
from kling_async.rules.identity import default_key, draft_of, request_of, written_digest
from kling_async.rules.naming import SPLIT_ABOVE, place_of
from kling_async.types.record import Draft, Record
from kling_async.types.request import ImageToVideo

_PLACES: Final = "places"
"""The journal's note of whether videos are split into folders; without it, that is still open."""
_FOLDERS: Final = "folders"
_FLAT: Final = "flat"


async def planned_record(request: ImageToVideo, images: Images, *, folders: bool = False) -> Record:
    """Return the PLANNED record of a request.

    Args:
        request: What is asked for.
        images: Keeps bytes beside the journal.
        folders: Whether videos are split into folders.

    Raises:
        JournalError: The bytes cannot be kept.
    """
    request = await _kept(request, images)
    written = written_digest(request)
    key = request.key if request.key is not None else default_key(written)
    return Record(key, place_of(key, folders=folders), request, written)


async def _kept(request: ImageToVideo, images: Images) -> ImageToVideo:
    """Return a request whose bytes lie beside the journal."""
    if not request.brings_bytes:
        return request
    return evolve(
        request,
        image=await images.keep(request.image),
        tail_image=None if request.tail_image is None else await images.keep(request.tail_image),
        static_mask=None if request.static_mask is None else await images.keep(request.static_mask),
        dynamic_masks=tuple([evolve(mask, mask=await images.keep(mask.mask)) for mask in request.dynamic_masks]),
    )


@frozen
class Taken:
    """What became of some checked rows."""

    fresh: Counter[tuple[str, int]]
    """Rows that are new to the journal and were taken in together, by model and duration."""
    known: list[Record | KlingError]
    """The others, looked at one by one, as the journal knows them by now; or why they are refused."""


class Enrolment:
    """Takes rows into a job's journal, and decides once whether its videos are split into folders.

    They are where more than `SPLIT_ABOVE` rows are expected. Where nobody says how many come, rows that are taken in
    once the journal holds so many go into folders, and those before them stay where they are.

    Args:
        journal: It is open before the first row.
        images: Keeps bytes beside the journal.
    """

    def __init__(self, journal: Journal, images: Images) -> None:
        self._journal = journal
        self._images = images
        self._folders: bool | None = None
        self._room = 0

    async def expect(self, rows: int) -> None:
        """Say how many rows come, before the first one does. What was decided before stays."""
        noted = await self._journal.note(_PLACES)
        if noted is None:
            held = (await self._journal.tally()).rows
            noted = await self._journal.note(_PLACES, _FOLDERS if max(rows, held) > SPLIT_ABOVE else _FLAT)
        self._folders = noted == _FOLDERS

    async def enter(self, requests: Sequence[ImageToVideo]) -> list[Record | KlingError]:
        """Take rows in, and return each as the journal knows it, with the caller's request; see `Journal.enrol`."""
        folders = await self._are_split(len(requests))
        planned = [await planned_record(request, self._images, folders=folders) for request in requests]
        known = await self._journal.enrol(planned)
        return [
            evolve(record, request=request) if isinstance(record, Record) and record.request is not request else record
            for record, request in zip(known, requests, strict=True)
        ]

    async def take_in(self, rows: Sequence[Draft | ImageToVideo]) -> Taken:
        """Take in rows that were checked, each under a key of its own, at the least cost.

        Args:
            rows: Drafts; or requests, where they bring bytes, which are kept first.
        """
        folders = await self._are_split(len(rows))
        drafts = [row if isinstance(row, Draft) else draft_of(await _kept(row, self._images)) for row in rows]
        names = [place_of(draft.key, folders=folders) for draft in drafts]
        left = await self._journal.enter(drafts, names)
        fresh = Counter([(draft.model, draft.duration) for draft in drafts])
        fresh.subtract([(drafts[at].model, drafts[at].duration) for at in left])
        again = [Record(drafts[at].key, names[at], request_of(drafts[at].document), drafts[at].written) for at in left]
        return Taken(+fresh, await self._journal.enrol(again) if again else [])

    async def _are_split(self, rows: int) -> bool:
        if self._folders is None and self._room <= 0:
            noted = await self._journal.note(_PLACES)
            self._room = SPLIT_ABOVE - (await self._journal.tally()).rows
            if noted is None and self._room <= 0:
                noted = await self._journal.note(_PLACES, _FOLDERS)
            if noted is not None:
                self._folders = noted == _FOLDERS
        self._room -= rows
        return bool(self._folders)

    async def source(self) -> str | None:
        """Return the one source whose rows the journal holds, all of them and no others; None where that is open."""
        return await self._journal.note(SOURCE)

    async def complete(self, source: str) -> None:
        """Note that the journal's rows are all those of a source, and nothing else, until others are taken in."""
        await self._journal.note(SOURCE, source)
