"""Which of the journal's rows are tried again: their owner's words, held against each row, page by page.

No row is bought here. This room must never choose one that money stands behind to be bought anew, unless its owner said
just that, nor hold more rows in memory than a page of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import Final, Protocol

from anyio.abc import TaskGroup
from attrs import define, field, frozen

from kling_async import errors
from kling_async.errors import ConfigurationError, KlingError
from kling_async.flow.crew import Crew, Instruction
from kling_async.flow.flight import Bench, Slot
from kling_async.flow.rows import Rows
from kling_async.ports import Journal
from kling_async.rules.lifecycle import HOLDS_SLOT
from kling_async.types.outcome import Tally
from kling_async.types.record import Record, Stage

PAGE: Final = 64
"""Rows that are read from the journal at once."""

KINDS: Final[Mapping[str, str]] = {
    name.lower(): name
    for name, kind in sorted(vars(errors).items())
    if isinstance(kind, type) and issubclass(kind, KlingError)
}
"""Each kind of error, by its name without case."""


def _names(values: Iterable[str]) -> frozenset[str]:
    if isinstance(values, str):
        raise ConfigurationError(f"{values!r} is one text: give a list of them")
    return frozenset(values)


def _kinds(values: Iterable[str]) -> frozenset[str]:
    unknown = sorted(name for name in _names(values) if name.lower() not in KINDS)
    if unknown:
        raise ConfigurationError(
            f"there is no error {', '.join(map(repr, unknown))}; there are {', '.join(KINDS.values())}"
        )
    return frozenset(KINDS[name.lower()] for name in values)


def _is_any_of(kind: str, wanted: Iterable[str]) -> bool:
    """Tell whether a trouble is of a wanted kind, or of a kind below one."""
    known = getattr(errors, kind, None)
    return isinstance(known, type) and issubclass(known, tuple(getattr(errors, name) for name in wanted))


@frozen(kw_only=True)
class Retry:
    """Rows of the journal that are tried again: given to a batch in place of requests.

    Without anything else: each failed row, and each that was set aside with an id. The first are bought, since they
    cost nothing; the others are watched and fetched from where they stand, and never bought. A row that a stop left
    between two tries counts as a failed one.

    Raises:
        ConfigurationError: There is no such kind of error.
    """

    uncertain: bool = False
    """Whether rows whose submit's answer was lost are looked for again, too, for as long as at first."""
    buy_again: bool = False
    """Whether rows that were set aside are bought again, at the risk of paying twice: those of which the service still
    has no video when it is asked, and uncertain ones that its usage log does not list."""
    keys: frozenset[str] = field(default=frozenset(), converter=_names)
    """Only these rows; each must be in the journal. One that was never begun may be named, too."""
    errors: frozenset[str] = field(default=frozenset(), converter=_kinds)
    """Only rows with these kinds of trouble, by the names of the errors, without case; a kind stands for its family, as
    in `except`."""

    def word(self, record: Record) -> Instruction | None:
        """Return what is said of a row; None where it is not tried again."""
        if self.keys and record.key not in self.keys:
            return None
        if self.errors and (record.trouble is None or not _is_any_of(record.trouble.kind, self.errors)):
            return None
        if record.set_aside:
            if record.stage is Stage.UNCERTAIN and not self.uncertain:
                return None
            return Instruction.BUY_AGAIN if self.buy_again else Instruction.RETRY
        begun = record.attempt > 0 or record.waits or record.key in self.keys
        return Instruction.RETRY if record.stage is Stage.FAILED or (record.stage is Stage.PLANNED and begun) else None


@define
class Choice:
    """What trying again would do, before it is done."""

    new: Counter[tuple[str, int]] = field(factory=Counter)
    """Rows that are bought and that no money stands behind, by model and duration."""
    bought_again: Counter[tuple[str, int]] = field(factory=Counter)
    """Rows that are bought again, if the service has no video of them, by model and duration."""
    followed: int = 0
    """Rows with an id that are watched and fetched, and not bought."""
    looked_for: int = 0
    """Uncertain rows that are looked for; those that may be bought again are among `bought_again`, too."""
    perhaps: Counter[tuple[str, int]] = field(factory=Counter)
    """Those of them that are bought only if the usage log lists that their submit bought nothing, by model and
    duration."""
    passed_over: dict[str, str] = field(factory=dict)
    """Rows that were named by their keys and are not tried again, each with the reason."""
    lengths: Counter[tuple[Stage, int]] = field(factory=Counter)
    """All rows that something is done for, by stage and duration."""
    chosen: Counter[Stage] = field(factory=Counter)
    """All rows that are tried again, by stage."""
    aside: Counter[Stage] = field(factory=Counter)
    """Rows that were set aside and stay so, by stage."""

    @property
    def rows(self) -> int:
        """All rows that are tried again."""
        return self.chosen.total()

    def left(self, tally: Tally) -> Counter[Stage]:
        """Return the rows that stay what they are: never begun, failed or set aside, and not tried again; by stage.

        Args:
            tally: The journal's, before anything is tried.
        """
        planned, failed = self.chosen[Stage.PLANNED], self.chosen[Stage.FAILED]
        return self.aside + Counter({Stage.PLANNED: tally.planned - planned, Stage.FAILED: tally.failed - failed})

    def plan(self, rows: Mapping[tuple[str, int], int]) -> None:
        """Take note of PLANNED rows, by model and duration."""
        for (model, duration), count in rows.items():
            self.chosen[Stage.PLANNED] += count
            self.lengths[Stage.PLANNED, duration] += count
            self.new[model, duration] += count

    def note(self, record: Record, word: Instruction) -> None:
        """Take note of a row that is tried again."""
        self.chosen[record.stage] += 1
        self.lengths[record.stage, record.request.duration] += 1
        price = record.request.model, record.request.duration
        if record.stage in {Stage.PLANNED, Stage.FAILED}:
            self.new[price] += 1
            return
        if word is Instruction.BUY_AGAIN:
            self.bought_again[price] += 1
        if record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN}:
            self.looked_for += 1
            if word is not Instruction.BUY_AGAIN and record.fallback is None:
                self.perhaps[price] += 1
        elif word is not Instruction.BUY_AGAIN:
            self.followed += 1


class _Page(Protocol):
    """One kind of the journal's pages."""

    def __call__(self, *, after: int, limit: int) -> Awaitable[list[tuple[int, Record]]]: ...


async def pages(read: _Page) -> AsyncIterator[Record]:
    """Yield the rows of a kind of the journal's pages, a page in memory at a time."""
    after = 0
    while page := await read(after=after, limit=PAGE):
        for after, record in page:  # noqa: B007  # the last number is where the next page begins
            yield record


async def choose(journal: Journal, retry: Retry, *, resubmit: bool = False) -> Choice:
    """Tell which rows would be tried again, and how.

    Args:
        journal: Its rows.
        retry: What their owner says.
        resubmit: Whether uncertain rows that are not found are bought again in any case (`on_uncertain`).

    Raises:
        ConfigurationError: A key is not in the journal.
    """
    found = Choice()
    named = await _named(journal, retry)
    for record in named:
        if retry.word(record) is None:
            found.passed_over[record.key] = _why_not(record)
    async for record in pages(journal.unfinished):
        word = retry.word(record)
        if word is not None:
            again = resubmit and record.stage is Stage.UNCERTAIN
            found.note(record, Instruction.BUY_AGAIN if again else word)
        elif record.set_aside:
            found.aside[record.stage] += 1
    async for record in _free(journal, retry, named):
        found.note(record, Instruction.RETRY)
    return found


async def _named(journal: Journal, retry: Retry) -> list[Record]:
    """Return the rows that are named by their keys.

    Raises:
        ConfigurationError: A key is not in the journal.
    """
    found = {key: await journal.get(key) for key in sorted(retry.keys)}
    unknown = [repr(key) for key, record in found.items() if record is None]
    if unknown:
        raise ConfigurationError(f"there is no row {', '.join(unknown)} in the journal")
    return [record for record in found.values() if record is not None]


def _why_not(record: Record) -> str:
    match record.stage:
        case Stage.DONE:
            return "is done"
        case Stage.UNCERTAIN if record.set_aside:
            return "is uncertain: --uncertain looks for it again"
        case Stage.FAILED | Stage.PLANNED:
            return f"is {record.stage}, and not with an error that was asked for"
    return "was set aside with another error" if record.set_aside else "is open, and brought to its end in any case"


async def _free(journal: Journal, retry: Retry, named: Iterable[Record]) -> AsyncIterator[Record]:
    """Yield the rows without money behind them that are tried again, each once: of the named ones, or of all."""
    if retry.keys:
        for record in named:
            if record.stage in {Stage.FAILED, Stage.PLANNED} and retry.word(record) is not None:
                yield record
        return
    async for record in pages(journal.again):
        if retry.word(record) is not None:
            yield record


async def take_up(crew: Crew, rows: Rows, group: TaskGroup, retry: Retry | None = None) -> None:
    """Take up what money stands behind, as a run begins: all of it; under a `Retry`, what is open or chosen.

    Raises:
        ConfigurationError: A key of the `Retry` is not in the journal; nothing was taken up.
    """
    if retry is not None:
        await _named(crew.journal, retry)
    async for record in pages(crew.journal.unfinished):
        word = Instruction.GO_ON if retry is None or not record.set_aside else retry.word(record)
        if word is None:
            continue
        rows.resumed.add(record.key)
        if word is not Instruction.GO_ON:
            await rows.room()
            rows.begin(group, record, Bench(crew.gate, crew.flight), word)
            continue
        slot = Slot(crew.gate)
        if record.stage in HOLDS_SLOT and not record.set_aside:
            slot.adopt()
        else:
            await rows.room()
        rows.begin(group, record, slot)


async def feed(crew: Crew, rows: Rows, group: TaskGroup, retry: Retry) -> None:
    """Start the chosen rows that no money stands behind, as slots free up. What failed in this run is left alone."""
    async for record in _free(crew.journal, retry, await _named(crew.journal, retry)):
        if record.key not in rows.resumed:
            await rows.admit(group, record, Instruction.RETRY)
