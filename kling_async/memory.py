"""The journal in memory: what users' tests need in place of the one on the disk.

It keeps the contract of `kling_async.ports.Journal`, held to it by the same suite; nothing in it waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import evolve

from kling_async.errors import JournalError, KlingError, RequestChanged
from kling_async.ports import SOURCE
from kling_async.rules.budget import SEEN, check_ceiling, note_of
from kling_async.rules.identity import request_of
from kling_async.rules.lifecycle import HOLDS_SLOT, PAID_FOR
from kling_async.rules.naming import ENDING, distinct_place, place_fold
from kling_async.types.outcome import Tally
from kling_async.types.record import Draft, Record, Stage

_SPENT = (Stage.RENDERED, Stage.DONE)
_UNTOLD = (Stage.SUBMITTING, Stage.UNCERTAIN)
_KEPT = ("name", "attempt", "client_request_id", "sent_at", "sent_with", "sunk", "former")
_UNFINISHED = PAID_FOR - {Stage.DONE}


def _is_original(record: Record) -> bool:
    bought = record.generation_id is not None and record.stage in {Stage.SUBMITTED, Stage.RENDERED, Stage.DONE}
    return bought or record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}


def _is_tried(record: Record) -> bool:
    return record.stage is Stage.FAILED or (record.stage is Stage.PLANNED and (record.attempt > 0 or record.waits))


class MemoryJournal:
    """A journal that is gone with the process. Keeps the contract of `kling_async.ports.Journal` but for durability."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._numbers: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._ended: dict[str, int] = {}
        self._notes: dict[str, str] = {}

    async def open(self) -> None:
        """Nothing is to be opened."""

    async def aclose(self) -> None:
        """Nothing is to be closed."""

    async def enter(self, drafts: Sequence[Draft], names: Sequence[str]) -> list[int]:
        """Take new rows in, and return the positions of the others."""
        pairs = list(zip(drafts, names, strict=True))
        new = [(draft, name) for draft, name in pairs if draft.key not in self._records]
        folds = [place_fold(name) for _, name in new]
        if len({*folds} - self._names.keys()) < len(new):
            return list(range(len(pairs)))
        left = [at for at, draft in enumerate(drafts) if draft.key in self._records]
        for draft, name in new:
            self._enter(Record(draft.key, name, request_of(draft.document), draft.written))
            self._notes.pop(SOURCE, None)
        return left

    async def enrol(self, planned: Sequence[Record]) -> list[Record | KlingError]:
        """Take rows in, and return each as the journal knows it, in order."""
        found = []
        for record in planned:
            known = self._records.get(record.key)
            found.append(self._enrol_one(record))
            if self._records[record.key] != known:
                self._notes.pop(SOURCE, None)
        return found

    def _enrol_one(self, record: Record) -> Record | KlingError:
        known = self._records.get(record.key)
        if known is None:
            return self._enter(record)
        if known.written == record.written:
            self._records[record.key] = evolve(known, request=record.request)
            return self._records[record.key]
        if known.stage in PAID_FOR:
            return RequestChanged(
                f"row {record.key!r} was edited after money stood behind it (it is {known.stage})",
                key=record.key,
                generation_id=known.generation_id,
            )
        kept = {name: getattr(known, name) for name in _KEPT}
        self._records[record.key] = evolve(record, **kept)
        return self._records[record.key]

    def _enter(self, record: Record) -> Record:
        if place_fold(record.name) in self._names:
            record = evolve(record, name=distinct_place(record.name, record.key))
        self._names[place_fold(record.name)] = record.key
        self._numbers[record.key] = len(self._numbers) + 1
        self._records[record.key] = record
        return record

    async def save(self, record: Record, *, patiently: bool = False) -> None:  # noqa: ARG002  # nothing is slow here
        """Write a record's new state."""
        if record.key not in self._records:
            raise JournalError(f"row {record.key!r} is not in the journal")
        if record.generation_id is not None and any(
            other.generation_id == record.generation_id and other.key != record.key for other in self._records.values()
        ):
            raise JournalError(
                f"row {record.key!r}: generation {record.generation_id} belongs to another row already",
                generation_id=record.generation_id,
            )
        known = self._records[record.key]
        record = evolve(record, name=known.name, request=known.request, written=known.written)
        if known.stage is Stage.DONE and record.stage is not Stage.DONE:
            raise JournalError(f"row {record.key!r} is done, and cannot become {record.stage} again")
        if known.stage in _UNTOLD and record.stage in _UNTOLD and (known.credits or 0) > (record.credits or 0):
            record = evolve(record, credits=known.credits)
        if record.credits is None and {known.stage, record.stage} <= PAID_FOR:
            record = evolve(record, credits=known.credits)
        self._records[record.key] = record
        if record.stage is Stage.DONE:
            self._ended.setdefault(record.key, len(self._ended) + 1)

    async def intend(self, record: Record, *, ceiling: int | None) -> str | None:
        """Write a SUBMITTING record, unless its content is bought already or it would pass the ceiling."""
        for other in self._records.values():
            if other.content == record.content and other.key != record.key and _is_original(other):
                return other.key
        record = self._priced(record)
        taken = sum(found.credits or 0 for found in self._records.values() if found.stage is not Stage.FAILED)
        taken += sum(found.sunk for found in self._records.values())
        if ceiling is not None:
            check_ceiling(record.credits, taken=taken, ceiling=ceiling)
        known, given_up = self._records.get(record.key), record.fallback
        before = (Stage.PLANNED, None) if given_up is None else (given_up.stage, given_up.generation_id)
        if known is None or (known.stage, known.attempt, known.written) != (
            before[0],
            record.attempt - 1,
            record.written,
        ):
            raise JournalError(f"row {record.key!r} was submitted by somebody else meanwhile: nothing is bought")
        if given_up is not None and known.generation_id != before[1]:
            raise JournalError(f"row {record.key!r} was submitted by somebody else meanwhile: nothing is bought")
        self._records[record.key] = evolve(record, name=known.name, request=known.request)
        return None

    def _priced(self, record: Record) -> Record:
        seen = int(self._notes.get(note_of(SEEN, record.request.model, record.request.duration), "0"))
        return evolve(record, credits=seen) if seen > (record.credits or 0) else record

    async def raise_price(self, model: str, duration: int, credits_: int) -> None:
        """Note what the service was seen to hold for a video, and hold no less for those that it has not told yet."""
        name = note_of(SEEN, model, duration)
        if int(self._notes.get(name, "-1")) >= credits_:
            return
        self._notes[name] = str(credits_)
        for key, record in self._records.items():
            concerned = (record.request.model, record.request.duration) == (model, duration)
            if concerned and record.stage in _UNTOLD and (record.credits or 0) < credits_:
                self._records[key] = evolve(record, credits=credits_)
        await self.fill_price(model, duration, credits_)

    async def fill_price(self, model: str, duration: int, credits_: int) -> None:
        """Count a price for the rows that money stands behind and that have none, since nobody had told it."""
        for key, record in self._records.items():
            concerned = (record.request.model, record.request.duration) == (model, duration)
            if concerned and record.stage in PAID_FOR and record.credits is None and record.shares is None:
                self._records[key] = evolve(record, credits=credits_)

    async def get(self, key: str) -> Record | None:
        """Return one row."""
        return self._records.get(key)

    async def under(self, keys: Sequence[str]) -> list[Record]:
        """Return the rows under some keys."""
        return [self._records[key] for key in keys if key in self._records]

    async def unfinished(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that money stands behind and that are not DONE."""
        return self._page(after, limit, lambda record: record.stage in _UNFINISHED)

    async def failed(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next FAILED rows."""
        return self._page(after, limit, lambda record: record.stage is Stage.FAILED)

    async def again(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that cost nothing now and were tried before: FAILED, PLANNED anew, or waiting."""
        return self._page(after, limit, _is_tried)

    async def rows(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows of any stage."""
        return self._page(after, limit, lambda _record: True)

    async def planned(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next PLANNED rows."""
        return self._page(after, limit, lambda record: record.stage is Stage.PLANNED)

    async def census(self) -> Counter[tuple[str, int]]:
        """Count the PLANNED rows by model and duration."""
        requests = [record.request for record in self._records.values() if record.stage is Stage.PLANNED]
        return Counter((request.model, request.duration) for request in requests)

    def _page(self, after: int, limit: int, wanted: Callable[[Record], bool]) -> list[tuple[int, Record]]:
        rows = ((self._numbers[key], record) for key, record in self._records.items() if wanted(record))
        return [row for row in rows if row[0] > after][:limit]

    async def done_since(self, order: int, *, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that became DONE, in the order of their ends."""
        rows = [(number, self._records[key]) for key, number in self._ended.items() if number > order]
        return rows[:limit]

    async def tally(self) -> Tally:
        """Return the rows by stage, and their money."""
        records = self._records.values()
        counts = {str(stage): sum(record.stage is stage for record in records) for stage in Stage}
        return Tally(
            **counts,
            spent=sum(record.credits or 0 for record in records if record.stage in _SPENT),
            held=sum((record.credits or 0) * (record.stage in HOLDS_SLOT) + record.sunk for record in records),
            bytes=sum(record.size or 0 for record in records if record.stage is Stage.DONE),
            shared=sum(record.shares is not None for record in records if record.stage is Stage.DONE),
        )

    async def named(self, names: Sequence[str]) -> set[str]:
        """Return those of some names of files that a row's video has, or will have."""
        return {name for name in names if name.endswith(ENDING) and place_fold(name) in self._names}

    async def note(self, name: str, value: str | None = None) -> str | None:
        """Remember a fact about the job, or (without a value) return it."""
        if value is not None:
            self._notes[name] = value
        return self._notes.get(name)
