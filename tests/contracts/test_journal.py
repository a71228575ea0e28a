"""What every journal promises: in memory and on SQLite, the same suite, and both side by side through any history."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from attrs import define, evolve, field, frozen
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kling_async.adapters.sqlite import SqliteJournal
from kling_async.errors import BudgetExceeded, InvalidRequest, JournalError, KlingError, RequestChanged
from kling_async.ports import SOURCE, Journal
from kling_async.rules.identity import draft_of, written_digest
from kling_async.rules.lifecycle import PAID_FOR, TRANSITIONS, advance
from kling_async.rules.naming import collision_key, distinct_stem, file_stem
from kling_async.testing import MemoryJournal
from kling_async.types.outcome import Tally
from kling_async.types.record import (
    Accepted,
    Draft,
    Event,
    Failed,
    Intended,
    Lost,
    Overdue,
    Record,
    Refused,
    Rendered,
    Resubmitted,
    Retried,
    Shared,
    Stage,
    Stored,
    Trouble,
    Unbought,
    Unfound,
    Unsent,
    Unstored,
    Verified,
)
from kling_async.types.request import MODEL, ImageToVideo

IMAGE = "https://images.example/cat.png"
TROUBLE = Trouble("GenerationFailed", "the cat ran away — 猫")
PRICE = 520_000


def planned(key: str, prompt: str = "a cat", **fields: Any) -> Record:
    """Return a row's first record, as a batch makes it."""
    request = ImageToVideo(IMAGE, prompt, key=key, **fields)
    return Record(key, f"{file_stem(key)}.mp4", request, written_digest(request))


def intent(record: Record, *, credits_: int | None = PRICE, content: str | None = None, again: bool = False) -> Record:
    """Return the record of a row's next POST; `again`, of the one by which its owner gives up what stands behind it."""
    attempt = record.attempt + 1
    name = f"ka1.test.{record.key}.{attempt}"
    content = f"content of {record.key}" if content is None else content
    intended = Intended(name, 1_800_000_000.25 + attempt, content, credits_, "key")
    return advance(record, Resubmitted(intended) if again else intended)


def ways(key: str) -> dict[Stage, Sequence[Event]]:
    """Return for each stage the events that lead there from an intent."""
    accepted, rendered = Accepted(f"id of {key}", PRICE), Rendered(PRICE)
    return {
        Stage.SUBMITTING: (),
        Stage.UNCERTAIN: (Lost(),),
        Stage.SUBMITTED: (accepted,),
        Stage.RENDERED: (accepted, rendered),
        Stage.DONE: (accepted, rendered, Verified(1000, "ab" * 32, 5.04), Stored()),
        Stage.FAILED: (accepted, Failed(TROUBLE)),
    }


async def entered(journal: Journal, record: Record) -> Record:
    """Take one row in."""
    (known,) = await journal.enrol([record])
    assert isinstance(known, Record)
    return known


async def brought(journal: Journal, key: str, stage: Stage, prompt: str = "a cat") -> Record:
    """Bring a new row to a stage, saving each step."""
    record = await entered(journal, planned(key, prompt))
    if stage is not Stage.PLANNED:
        record = intent(record)
        assert await journal.intend(record, ceiling=None) is None
        for event in ways(key)[stage]:
            record = advance(record, event)
            await journal.save(record)
    assert record.stage is stage
    return record


async def all_rows(journal: Journal) -> list[Record]:
    return [record for _, record in await journal.rows(after=0, limit=1000)]


def counted(records: Sequence[Record]) -> Tally:
    """Return what a tally must say of rows."""
    money = {stage: sum(record.credits or 0 for record in records if record.stage is stage) for stage in Stage}
    done = [record for record in records if record.stage is Stage.DONE]
    return Tally(
        **{str(stage): sum(record.stage is stage for record in records) for stage in Stage},
        spent=money[Stage.RENDERED] + money[Stage.DONE],
        held=money[Stage.SUBMITTING]
        + money[Stage.UNCERTAIN]
        + money[Stage.SUBMITTED]
        + sum(record.sunk for record in records),
        bytes=sum(record.size or 0 for record in done),
        shared=sum(record.shares is not None for record in done),
    )


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    """An open, empty journal of each kind."""
    made: Journal = MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / ".kling" / "journal.db")
    await made.open()
    yield made
    await made.aclose()


# ------------------------------------------------------------------- taking in


async def test_a_new_row_is_kept_as_it_comes(journal: Journal) -> None:
    """Every field of the request is given back, what it carries too."""
    record = planned(
        "row", "日本 \U0001f408", duration=10, cfg_scale=0.25, carry={"n": 1, "ü": [None]}, extra={"a": "b"}
    )
    assert await journal.enrol([record]) == [record]
    assert await journal.get("row") == record


async def test_rows_come_back_in_the_order_of_the_question(journal: Journal) -> None:
    """New, known and twice in one call: each answer stands where its question stood."""
    known = await brought(journal, "known", Stage.SUBMITTED)
    asked = [planned("b"), planned("known"), planned("a"), planned("b")]
    assert await journal.enrol(asked) == [asked[0], known, asked[2], asked[0]]
    assert [record.key for record in await all_rows(journal)] == ["known", "b", "a"]


@pytest.mark.parametrize("stage", Stage)
async def test_a_known_row_keeps_its_stage(journal: Journal, stage: Stage) -> None:
    """Resume is not a mode: a row that comes again as it was written is what it has become."""
    record = await brought(journal, "row", stage)
    assert await journal.enrol([planned("row")]) == [record]
    assert await journal.get("row") == record


@pytest.mark.parametrize("stage", sorted(PAID_FOR))
async def test_an_edited_row_is_refused_where_money_stands_behind_it(journal: Journal, stage: Stage) -> None:
    """The answer names the row and its generation; the journal keeps what it had, and the rows beside it go in."""
    record = await brought(journal, "row", stage)
    refused, other = await journal.enrol([planned("row", "a dog"), planned("other")])
    assert isinstance(refused, RequestChanged)
    assert (refused.key, refused.generation_id) == ("row", record.generation_id)
    assert other == planned("other")
    assert await journal.get("row") == record


@pytest.mark.parametrize("stage", [Stage.PLANNED, Stage.FAILED])
async def test_an_edited_row_replaces_one_that_cost_nothing(journal: Journal, stage: Stage) -> None:
    """It is PLANNED again, with the new words; what was sent before stays counted, so that no POST's id comes twice."""
    before = await brought(journal, "row", stage)
    (known,) = await journal.enrol([planned("row", "a dog")])
    kept = ("name", "attempt", "client_request_id", "sent_at", "sent_with")
    assert known == evolve(planned("row", "a dog"), **{name: getattr(before, name) for name in kept})
    assert await journal.get("row") == known
    assert await journal.intend(intent(known), ceiling=None) is None
    assert (await journal.tally()).rows == 1


async def test_a_row_edited_in_one_call_is_the_last_one_written(journal: Journal) -> None:
    """The same key twice, with other words: the later one stands, as if it had come later."""
    first, second = await journal.enrol([planned("row", "a cat"), planned("row", "a dog")])
    assert first == planned("row", "a cat")
    assert second == planned("row", "a dog")
    assert await all_rows(journal) == [second]


async def test_names_that_differ_in_case_alone_are_told_apart(journal: Journal) -> None:
    """On a file system that ignores case two rows never share a file; each keeps its name when it comes again."""
    keys = ["Cat", "cat", "CAT", "straße", "STRASSE", "Å", "A\u030a"]
    first = await journal.enrol([planned(key) for key in keys])
    names = [record.name for record in first if isinstance(record, Record)]
    assert len({collision_key(name.removesuffix(".mp4")) for name in names}) == len(keys)
    assert names[:3] == ["Cat.mp4", f"{distinct_stem('cat')}.mp4", f"{distinct_stem('CAT')}.mp4"]
    assert await journal.enrol([planned(key) for key in keys]) == first


async def test_an_edited_row_keeps_its_name(journal: Journal) -> None:
    """A name that was changed for another's sake is not given up with an edit."""
    await journal.enrol([planned("Cat"), planned("cat")])
    edited = await entered(journal, planned("cat", "a dog"))
    assert edited.name == f"{distinct_stem('cat')}.mp4"


async def test_an_empty_call_is_none(journal: Journal) -> None:
    """Nothing in, nothing out."""
    assert await journal.enrol([]) == []
    assert await journal.tally() == Tally()


async def enter(journal: Journal, *rows: Record) -> list[int]:
    """Take new rows in at once, as a checked manifest's come."""
    return await journal.enter([draft_of(row.request) for row in rows], [row.name for row in rows])


async def test_new_rows_at_once_are_what_they_would_be_one_by_one(journal: Journal) -> None:
    """In their order, counted, with all that they ask for and carry."""
    rows = [planned("b", carry={"n": 1}), planned("a", duration=10), planned("日本", "猫")]
    assert await enter(journal, *rows) == []
    assert await all_rows(journal) == rows
    assert await journal.tally() == counted(rows)
    assert await journal.enrol(rows) == rows


async def test_what_is_known_is_left_and_told_by_its_place(journal: Journal) -> None:
    """Whatever it asks for now, and whatever money stands behind it; the new ones beside it go in."""
    known, edited = await brought(journal, "known", Stage.SUBMITTED), await brought(journal, "edited", Stage.FAILED)
    assert await enter(journal, planned("a"), planned("known"), planned("b"), planned("edited", "a dog")) == [1, 3]
    assert await all_rows(journal) == [known, edited, planned("a"), planned("b")]


async def test_hundreds_at_once_are_all_told_apart(journal: Journal) -> None:
    """More than one statement writes: the known ones among them are left, each by its own place."""
    await enter(journal, planned("150"))
    rows = [planned(str(number)) for number in range(250)]
    assert await enter(journal, *rows) == [150]
    assert (await journal.tally()).rows == 250
    assert {record.key for record in await all_rows(journal)} == {row.key for row in rows}


@pytest.mark.parametrize("at", [0, 99, 100, 150, 249])
async def test_of_hundreds_with_one_name_that_is_anothers_none_goes_in(journal: Journal, at: int) -> None:
    """Nor those that were written before it was met; the tally knows of none."""
    await enter(journal, planned(f"CAT {at}"))
    rows = [planned(f"cat {number}") for number in range(250)]
    assert await enter(journal, *rows) == list(range(250))
    assert (await journal.tally()).rows == 1
    found = await journal.enrol(rows)
    assert [place for place, pair in enumerate(zip(found, rows, strict=True)) if pair[0] != pair[1]] == [at]
    assert found[at] == evolve(rows[at], name=f"{distinct_stem(rows[at].key)}.mp4")
    assert (await journal.tally()).rows == 251


async def test_where_a_new_name_is_another_rows_all_are_left(journal: Journal) -> None:
    """On some file system they would be one: who is who is found out row by row, with the same outcome as ever."""
    rows = [planned("new"), planned("Cat"), planned("cat")]
    assert await enter(journal, *rows) == [0, 1, 2]
    assert await all_rows(journal) == []
    await journal.enrol(rows)
    assert await enter(journal, planned("other"), planned("CAT")) == [0, 1]
    assert [record.name for record in await all_rows(journal)] == ["new.mp4", "Cat.mp4", f"{distinct_stem('cat')}.mp4"]


async def test_new_rows_at_once_take_the_note_of_the_source_away(journal: Journal) -> None:
    """What is known, or nothing, does not."""
    await enter(journal, planned("a"))
    await journal.note(SOURCE, "a manifest")
    assert (await enter(journal), await enter(journal, planned("a"))) == ([], [0])
    assert await journal.note(SOURCE) == "a manifest"
    await enter(journal, planned("a"), planned("b"))
    assert await journal.note(SOURCE) is None


async def test_rows_are_found_by_many_keys_at_once(journal: Journal) -> None:
    """In the order of the question; what is unknown is passed over."""
    rows = [await brought(journal, key, stage) for key, stage in (("a", Stage.DONE), ("b", Stage.PLANNED))]
    assert await journal.under(["b", "none", "a"]) == [rows[1], rows[0]]
    assert await journal.under([]) == []


# ---------------------------------------------------------------------- saving


@pytest.mark.parametrize("stage", Stage)
async def test_what_is_saved_is_what_is_read(journal: Journal, stage: Stage) -> None:
    """Every field, by key and in a page."""
    record = await brought(journal, "row", stage)
    assert await journal.get("row") == record
    assert await all_rows(journal) == [record]


@pytest.mark.parametrize(
    "events",
    [
        (Lost(), Unfound(TROUBLE)),
        (Accepted("id", None), Overdue(TROUBLE)),
        (Accepted("id", 1), Rendered(2), Verified(7, "cd" * 32, None), Unstored(TROUBLE)),
    ],
)
async def test_a_row_that_is_set_aside_keeps_its_trouble_and_its_money(
    journal: Journal, events: Sequence[Event]
) -> None:
    """And loses the trouble when it goes on."""
    record = intent(await entered(journal, planned("row")))
    await journal.intend(record, ceiling=None)
    for event in events:
        record = advance(record, event)
        await journal.save(record)
    assert record.set_aside
    assert await journal.get("row") == record
    await journal.save(evolve(record, trouble=None))
    assert await journal.get("row") == evolve(record, trouble=None)


async def test_a_row_that_was_never_taken_in_is_not_saved(journal: Journal) -> None:
    """It is an error, and the journal stays as it was."""
    with pytest.raises(JournalError, match="'stranger' is not in the journal"):
        await journal.save(planned("stranger"))
    assert await journal.get("stranger") is None


async def test_a_save_that_waits_for_company_is_kept_on_return(journal: Journal) -> None:
    """Behind others and before them: each is there when it returns, and the last word of a row is the last one said."""
    row, other = await brought(journal, "row", Stage.SUBMITTED), await brought(journal, "other", Stage.SUBMITTING)
    rendered = advance(row, Rendered(PRICE))
    verified = advance(rendered, Verified(9, "ab" * 32, 5.0))
    done, submitted = advance(verified, Stored()), advance(other, Accepted("id of other", PRICE))
    said: list[Record] = []

    async def save(record: Record, *, patiently: bool) -> None:
        said.append(record)
        await journal.save(record, patiently=patiently)
        assert await journal.get(record.key) in said[said.index(record) :]

    await save(rendered, patiently=True)
    await asyncio.gather(save(verified, patiently=True), save(submitted, patiently=False), save(done, patiently=False))
    assert await all_rows(journal) == [done, submitted]
    tally = await journal.tally()
    assert (tally.submitted, tally.rendered, tally.done) == (1, 0, 1)


async def test_a_generation_belongs_to_one_row(journal: Journal) -> None:
    """A second row with the same id is refused, with the id; both rows stay as they were."""
    one = await brought(journal, "one", Stage.SUBMITTED)
    two = await brought(journal, "two", Stage.SUBMITTING)
    with pytest.raises(JournalError, match="belongs to another row") as refused:
        await journal.save(advance(two, Accepted("id of one", PRICE)))
    assert refused.value.generation_id == "id of one"
    assert await all_rows(journal) == [one, two]


async def test_an_id_is_free_again_when_its_row_gave_it_up(journal: Journal) -> None:
    """A failed generation's row that is bought anew holds its new id alone."""
    record = await brought(journal, "row", Stage.FAILED)
    record = advance(record, Retried())
    await journal.save(record)
    record = intent(record)
    await journal.intend(record, ceiling=None)
    await journal.save(advance(record, Accepted("another id")))
    other = await brought(journal, "other", Stage.SUBMITTING)
    await journal.save(advance(other, Accepted("id of row")))
    found = [record.generation_id for record in await all_rows(journal)]
    assert found == ["another id", "id of row"]


async def test_many_saves_at_once_all_stand(journal: Journal) -> None:
    """Whatever their number, and though one of them is refused."""
    records = [await brought(journal, f"row{i}", Stage.SUBMITTING) for i in range(50)]
    moved = [advance(record, Accepted(f"id{i}", PRICE)) for i, record in enumerate(records)]
    moved[20] = advance(records[20], Accepted("id7", PRICE))
    moved[30] = planned("stranger")
    results = await asyncio.gather(*map(journal.save, moved), return_exceptions=True)
    assert [i for i, result in enumerate(results) if result is not None] == [20, 30]
    assert all(isinstance(results[i], JournalError) for i in (20, 30))
    expected = [records[i] if i in {20, 30} else record for i, record in enumerate(moved)]
    assert await all_rows(journal) == expected
    assert await journal.tally() == counted(expected)


# ------------------------------------------------------------------- intending


@pytest.mark.parametrize("stage", sorted(set(Stage) - {Stage.PLANNED}))
async def test_nothing_is_intended_over_a_row_that_is_not_planned(journal: Journal, stage: Stage) -> None:
    """No row is bought twice at once: the second buyer is told, and writes nothing."""
    record = await brought(journal, "row", stage)
    with pytest.raises(JournalError, match="somebody else"):
        await journal.intend(intent(planned("row")), ceiling=None)
    with pytest.raises(JournalError, match="somebody else"):
        await journal.intend(evolve(intent(planned("row")), attempt=record.attempt + 1), ceiling=None)
    assert await journal.get("row") == record


@pytest.mark.parametrize("attempt", [0, 1, 3, 9])
async def test_an_intent_is_written_over_the_attempt_before_alone(journal: Journal, attempt: int) -> None:
    """A planned row of another attempt was in somebody else's hands meanwhile."""
    record = await brought(journal, "row", Stage.SUBMITTING)
    record = advance(record, Unsent())
    await journal.save(record)
    with pytest.raises(JournalError, match="somebody else"):
        await journal.intend(evolve(intent(record), attempt=attempt), ceiling=None)
    assert await journal.get("row") == record
    assert await journal.intend(intent(record), ceiling=None) is None


async def test_two_buyers_of_one_row_are_one(journal: Journal) -> None:
    """Of any number at once, one writes its intent."""
    record = await entered(journal, planned("row"))
    tries = [journal.intend(intent(record), ceiling=None) for _ in range(20)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(result, JournalError) for result in results) == 19


async def test_an_unknown_row_is_not_intended(journal: Journal) -> None:
    """It is an error, and nothing is written."""
    with pytest.raises(JournalError):
        await journal.intend(intent(planned("stranger")), ceiling=None)
    assert await all_rows(journal) == []


async def test_the_ceiling_is_never_passed_by_500_at_once(journal: Journal) -> None:
    """As many are written as have room, to the last credit; the rest hear of the budget and stay PLANNED."""
    rows = [await entered(journal, planned(f"row{i}")) for i in range(500)]
    tries = [journal.intend(intent(row, credits_=7), ceiling=7 * 100 + 6) for row in rows]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(None) == 100
    assert sum(isinstance(result, BudgetExceeded) for result in results) == 400
    tally = await journal.tally()
    assert (tally.submitting, tally.planned, tally.held) == (100, 400, 700)


async def test_a_ceiling_may_be_reached_and_not_passed(journal: Journal) -> None:
    """The last credit may be spent; one more may not."""
    rows = [await entered(journal, planned(f"row{i}")) for i in range(3)]
    await journal.intend(intent(rows[0], credits_=60), ceiling=100)
    with pytest.raises(BudgetExceeded):
        await journal.intend(intent(rows[1], credits_=41), ceiling=100)
    await journal.intend(intent(rows[1], credits_=40), ceiling=100)
    await journal.intend(intent(rows[2], credits_=0), ceiling=100)
    assert (await journal.tally()).held == 100


async def test_the_ceiling_counts_the_journals_whole_life(journal: Journal) -> None:
    """What is spent and what is held stand against it, what failed does not."""
    for stage in (Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED, Stage.DONE, Stage.FAILED):
        await brought(journal, stage, stage)
    row = intent(await entered(journal, planned("row")))
    with pytest.raises(BudgetExceeded):
        await journal.intend(row, ceiling=6 * PRICE - 1)
    assert await journal.intend(row, ceiling=6 * PRICE) is None


async def test_a_failed_generations_money_is_free_again(journal: Journal) -> None:
    """It is given back once, however often its end is saved."""
    record = await brought(journal, "row", Stage.FAILED)
    await journal.save(record)
    await journal.save(record)
    assert (await journal.tally()).held == 0
    row = intent(await entered(journal, planned("other")))
    assert await journal.intend(row, ceiling=PRICE) is None


GIVEN_UP = sorted(stage for stage, event in TRANSITIONS if event is Resubmitted)


ASIDE: dict[Stage, Event] = {
    Stage.UNCERTAIN: Unfound(TROUBLE),
    Stage.SUBMITTED: Overdue(TROUBLE),
    Stage.RENDERED: Unstored(TROUBLE),
}


async def given_up(journal: Journal, stage: Stage, key: str = "row") -> tuple[Record, Record]:
    """Bring a new row to a stage, set it aside, and buy it again; return it as it was, and with its new intent."""
    aside = advance(await brought(journal, key, stage), ASIDE[stage])
    await journal.save(aside)
    record = intent(aside, again=True)
    assert await journal.intend(record, ceiling=None) is None
    return aside, record


@pytest.mark.parametrize("stage", GIVEN_UP)
async def test_what_is_given_up_keeps_its_id_and_its_money(journal: Journal, stage: Stage) -> None:
    """It is given up with the intent of the new POST, at once; its money is held for ever."""
    aside, record = await given_up(journal, stage)
    assert (record.stage, record.sunk, len(record.former)) == (Stage.SUBMITTING, PRICE, 1)
    assert await journal.get("row") == record
    assert (await journal.tally()).held == 2 * PRICE
    for event in (Accepted("another id", PRICE), Rendered(PRICE), Verified(1000, "ab" * 32, 5.04), Stored()):
        record = advance(record, event)
        await journal.save(record)
        assert await journal.get("row") == record
    assert ((await journal.tally()).spent, (await journal.tally()).held) == (PRICE, PRICE)
    assert record.former == (aside.generation_id or aside.client_request_id,)


@pytest.mark.parametrize("stage", GIVEN_UP)
@pytest.mark.parametrize(
    "again", [(Unsent(),), (Refused(TROUBLE),), (Lost(), Unbought()), (Accepted("x"), Failed(TROUBLE))]
)
async def test_a_post_that_bought_nothing_leads_back_to_what_was_given_up(
    journal: Journal, stage: Stage, again: tuple[Event, ...]
) -> None:
    """Stage, id, money and reason are what they were; twice, too, and what follows can be given up anew."""
    aside, record = await given_up(journal, stage)
    for event in again:
        record = advance(record, event)
        await journal.save(record)
    assert await journal.get("row") == record == evolve(aside, attempt=2)
    tally = await journal.tally()
    assert tally.spent + tally.held == PRICE
    assert await journal.intend(intent(record, again=True), ceiling=2 * PRICE) is None
    found = await journal.get("row")
    assert found is not None
    assert (found.sunk, found.former) == (PRICE, (aside.generation_id or aside.client_request_id,))


@pytest.mark.parametrize("stage", GIVEN_UP)
async def test_nothing_is_given_up_where_the_new_post_may_not_leave(journal: Journal, stage: Stage) -> None:
    """Over the ceiling, without a price, with equal content bought, over one that moved on: nothing is written."""
    aside = advance(await brought(journal, "row", stage), ASIDE[stage])
    await journal.save(aside)
    with pytest.raises(BudgetExceeded):
        await journal.intend(intent(aside, again=True), ceiling=2 * PRICE - 1)
    with pytest.raises(InvalidRequest):
        await journal.intend(intent(aside, again=True, credits_=None), ceiling=2 * PRICE)
    other = intent(await entered(journal, planned("other")), content="the same")
    assert await journal.intend(other, ceiling=None) is None
    assert await journal.intend(intent(aside, again=True, content="the same"), ceiling=None) == "other"
    assert await journal.get("row") == aside
    for stale in (evolve(aside, attempt=0), evolve(aside, stage=Stage.RENDERED, generation_id="of another")):
        with pytest.raises(JournalError):
            await journal.intend(intent(stale, again=True), ceiling=None)
    assert await journal.get("row") == aside


@pytest.mark.parametrize("stage", GIVEN_UP)
async def test_sunk_money_stands_against_the_ceiling(journal: Journal, stage: Stage) -> None:
    """What may have been paid once more is in the sum, for any other row."""
    await given_up(journal, stage)
    other = intent(await entered(journal, planned("other")))
    with pytest.raises(BudgetExceeded):
        await journal.intend(other, ceiling=3 * PRICE - 1)
    assert await journal.intend(other, ceiling=3 * PRICE) is None


@pytest.mark.parametrize("stage", GIVEN_UP)
async def test_a_generation_that_was_given_up_is_nobodys_to_share(journal: Journal, stage: Stage) -> None:
    """A row of equal content shares what is bought in its place."""
    _, record = await given_up(journal, stage)
    twin = intent(await entered(journal, planned("twin")), content=record.content)
    assert await journal.intend(twin, ceiling=None) == "row"


async def test_what_was_given_up_twice_leads_back_twice(journal: Journal) -> None:
    """A lost POST in place of an overdue generation, itself given up: each that bought nothing leads back one step."""
    aside, record = await given_up(journal, Stage.SUBMITTED)
    uncertain = advance(advance(record, Lost()), Unfound(TROUBLE))
    await journal.save(uncertain)
    record = intent(uncertain, again=True)
    assert await journal.intend(record, ceiling=None) is None
    assert (record.sunk, len(record.former)) == (2 * PRICE, 2)
    found = await journal.get("row")
    assert found == record
    back = advance(record, Refused(TROUBLE))
    await journal.save(back)
    assert await journal.get("row") == back == evolve(uncertain, attempt=3)
    back = advance(back, Unbought())
    await journal.save(back)
    assert await journal.get("row") == back == evolve(aside, attempt=3)


async def test_rows_to_try_again_are_those_that_cost_nothing_and_were_tried(journal: Journal) -> None:
    """FAILED ones, and PLANNED ones with a POST behind them; in the order of entry."""
    for stage in Stage:
        await brought(journal, stage, stage)
    unsent = await brought(journal, "unsent", Stage.SUBMITTING)
    await journal.save(advance(unsent, Unsent()))
    found = [record.key for _, record in await journal.again(after=0, limit=10)]
    assert found == ["failed", "unsent"]
    (first,) = await journal.again(after=0, limit=1)
    assert [record.key for _, record in await journal.again(after=first[0], limit=10)] == found[1:]


@pytest.mark.parametrize("stage", sorted(PAID_FOR))
async def test_a_price_is_counted_for_what_was_bought_before_anybody_told_it(journal: Journal, stage: Stage) -> None:
    """By what the service is seen to hold, or by any price; no save takes it away, and no other price is changed."""
    told = await brought(journal, "told", stage)
    rows = {}
    for key, duration in (("row", 5), ("long", 10)):
        record = intent(await entered(journal, planned(key, duration=duration)), credits_=None)
        assert await journal.intend(record, ceiling=None) is None
        for event in ways(key)[stage]:
            if isinstance(event, Accepted):
                event = Accepted(event.generation_id)  # noqa: PLW2901  # nobody tells what it costs
            record = advance(record, Rendered() if isinstance(event, Rendered) else event)
            await journal.save(record)
        rows[key] = record
    await journal.fill_price(MODEL, 5, 7)
    assert [record.credits for record in await all_rows(journal)] == [told.credits, 7, None]
    await journal.save(rows["row"])
    await journal.raise_price(MODEL, 10, 9)
    assert [record.credits for record in await all_rows(journal)] == [told.credits, 7, 9]
    tally = await journal.tally()
    assert tally.spent + tally.held == PRICE + 7 + 9


async def test_no_price_is_counted_for_what_cost_nothing(journal: Journal) -> None:
    """A row that is PLANNED or FAILED, and one that shares another's video."""
    for stage in (Stage.PLANNED, Stage.FAILED):
        await brought(journal, str(stage), stage)
    copy = advance(await entered(journal, planned("copy")), Shared("g", "f", 1, "a", 5.0))
    await journal.save(copy)
    await journal.fill_price(MODEL, 5, 7)
    await journal.raise_price(MODEL, 5, 9)
    assert [record.credits for record in await all_rows(journal)] == [None, None, None]


async def test_under_a_ceiling_nothing_is_intended_without_a_price(journal: Journal) -> None:
    """What nobody told cannot be held; without a ceiling it need not be."""
    row = intent(await entered(journal, planned("row")), credits_=None)
    with pytest.raises(InvalidRequest, match="--price"):
        await journal.intend(row, ceiling=10**9)
    assert await journal.intend(row, ceiling=None) is None


async def test_a_dearer_price_raises_what_is_held_for_those_that_have_no_answer(journal: Journal) -> None:
    """Of the same model and duration alone; a lower one changes nothing."""
    before = {stage: await brought(journal, stage, stage) for stage in Stage}
    longer = intent(await entered(journal, planned("longer", duration=10)))
    other = intent(await entered(journal, planned("other", model="another/model")))
    unpriced = intent(await entered(journal, planned("unpriced")), credits_=None)
    for record in (longer, other, unpriced):
        await journal.intend(record, ceiling=None)
    raised = {Stage.SUBMITTING, Stage.UNCERTAIN}
    for price in (PRICE + 7, PRICE + 1):
        await journal.raise_price(MODEL, 5, price)
        after = {record.key: record for record in await all_rows(journal)}
        assert after == {
            **{str(s): evolve(row, credits=PRICE + 7) if s in raised else row for s, row in before.items()},
            "longer": longer,
            "other": other,
            "unpriced": evolve(unpriced, credits=PRICE + 7),
        }
        assert await journal.tally() == counted(list(after.values()))


async def test_an_intent_of_before_a_raise_holds_the_new_price(journal: Journal) -> None:
    """Also where it was reckoned before and is written after; and the ceiling is held against that."""
    rows = [intent(await entered(journal, planned(f"row{i}")), credits_=10) for i in range(3)]
    await journal.raise_price(MODEL, 5, 15)
    await journal.intend(rows[0], ceiling=30)
    await journal.intend(evolve(rows[1], credits=None), ceiling=30)
    with pytest.raises(BudgetExceeded):
        await journal.intend(rows[2], ceiling=44)
    await journal.intend(evolve(rows[2], credits=20), ceiling=50)
    assert [record.credits for record in await all_rows(journal)] == [15, 15, 20]


async def test_no_save_lowers_what_is_held_before_the_answer_is_known(journal: Journal) -> None:
    """Whoever holds the record of before the raise; the answer itself tells what it costs."""
    record = await brought(journal, "row", Stage.SUBMITTING)
    await journal.raise_price(MODEL, 5, PRICE + 7)
    lost = advance(record, Lost())
    await journal.save(lost)
    assert await journal.get("row") == evolve(lost, credits=PRICE + 7)
    await journal.save(advance(lost, Unfound(TROUBLE)))
    assert (await journal.tally()).held == PRICE + 7
    await journal.save(advance(lost, Accepted("id", PRICE - 7)))
    assert (await journal.tally()).held == PRICE - 7


async def test_the_ceiling_holds_for_500_at_once_while_the_price_rises(journal: Journal) -> None:
    """Each is held against the dearest price of its moment; what passes the ceiling was added by a raise."""
    rows = [intent(await entered(journal, planned(f"row{i}")), credits_=7) for i in range(500)]
    ceiling, works = 7 * 100 + 6, list[Coroutine[Any, Any, Any]]()
    for i, row in enumerate(rows):
        works.append(journal.intend(row, ceiling=ceiling))
        if i in {20, 40, 60}:
            works.append(journal.raise_price(MODEL, 5, {20: 9, 40: 8, 60: 12}[i]))
    results = await asyncio.gather(*works, return_exceptions=True)
    tally = await journal.tally()
    # 61 are out when the last raise comes, and are worth 732 then: not one more is written.
    assert (tally.submitting, tally.planned, tally.held) == (61, 439, 61 * 12)
    assert sum(isinstance(result, BudgetExceeded) for result in results) == 439


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.DONE])
async def test_a_done_row_stays_done(journal: Journal, stage: Stage) -> None:
    """A save of another stage, by whoever still holds the row, is refused; one that adds to it is not."""
    done = await brought(journal, "row", Stage.DONE)
    before = await journal.tally()
    with pytest.raises(JournalError, match="row 'row' is done"):
        await journal.save(evolve(done, stage=stage))
    assert await journal.get("row") == done
    assert await journal.tally() == before
    await journal.save(evolve(done, seconds=5.5))
    assert await journal.get("row") == evolve(done, seconds=5.5)


@pytest.mark.parametrize("stage", [Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED, Stage.DONE])
async def test_equal_content_is_not_intended_again(journal: Journal, stage: Stage) -> None:
    """Where another row of the same content is bought, or may be, its key is the answer and nothing is written."""
    await brought(journal, "original", stage)
    row = await entered(journal, planned("twin"))
    answer = await journal.intend(intent(row, content="content of original"), ceiling=0)
    assert answer == "original"
    assert await journal.get("twin") == row


async def test_equal_content_that_failed_is_bought(journal: Journal) -> None:
    """A failed generation is nobody's to share."""
    await brought(journal, "original", Stage.FAILED)
    row = intent(await entered(journal, planned("twin")), content="content of original")
    assert await journal.intend(row, ceiling=None) is None


async def test_of_many_equal_rows_at_once_one_is_bought(journal: Journal) -> None:
    """All others are told its key."""
    rows = [await entered(journal, planned(f"row{i}")) for i in range(30)]
    results = await asyncio.gather(*(journal.intend(intent(row, content="one"), ceiling=None) for row in rows))
    (original,) = [row.key for row, result in zip(rows, results, strict=True) if result is None]
    assert {result for result in results if result is not None} == {original}
    assert (await journal.tally()).submitting == 1


async def test_a_shared_video_costs_nothing_and_is_counted(journal: Journal) -> None:
    """The row that shares is DONE without an id or a price of its own, and is no original for a third."""
    original = await brought(journal, "original", Stage.DONE)
    row = await entered(journal, planned("twin"))
    shared = advance(row, Shared(original.generation_id or "", original.content or "", 1000, "ab" * 32, 5.0))
    await journal.save(shared)
    assert shared.stage is Stage.DONE
    assert await journal.get("twin") == shared
    tally = await journal.tally()
    assert (tally.done, tally.shared, tally.spent) == (2, 1, PRICE)


# --------------------------------------------------------------------- reading


async def test_pages_hold_what_they_name_in_the_order_of_entry(journal: Journal) -> None:
    """Each kind of page: its stages alone, no row twice or left out, whatever the size of the page."""
    stages = list(Stage) * 3
    rows = {f"row{i}": await brought(journal, f"row{i}", stage) for i, stage in enumerate(stages)}
    kinds = {
        journal.rows: set(Stage),
        journal.failed: {Stage.FAILED},
        journal.unfinished: {Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED},
    }
    for read, wanted in kinds.items():
        expected = [record for record in rows.values() if record.stage in wanted]
        for limit in (1, 2, len(expected), 100):
            found, after = [], 0
            while page := await read(after=after, limit=limit):
                assert len(page) <= limit
                found += page
                after = page[-1][0]
            assert [record for _, record in found] == expected
            numbers = [number for number, _ in found]
            assert numbers == sorted(set(numbers))


async def test_a_rows_number_stays(journal: Journal) -> None:
    """Reading goes on where it was, though rows moved on or were edited meanwhile."""
    await journal.enrol([planned(f"row{i}") for i in range(4)])
    before = {record.key: number for number, record in await journal.rows(after=0, limit=10)}
    await journal.save(advance(planned("row1"), Refused(TROUBLE)))
    await journal.enrol([planned("row0", "a dog"), planned("row9")])
    after = {record.key: number for number, record in await journal.rows(after=0, limit=10)}
    assert after == {**before, "row9": max(before.values()) + 1}


async def test_done_rows_come_in_the_order_of_their_ends(journal: Journal) -> None:
    """Once each, and a second save of an end changes no place."""
    rows = [await brought(journal, f"row{i}", Stage.RENDERED) for i in range(5)]
    done = [advance(advance(rows[i], Verified(10, "ab" * 32)), Stored()) for i in (3, 1, 4, 0)]
    for record in done:
        await journal.save(record)
    await journal.save(done[0])
    first = await journal.done_since(0, limit=3)
    rest = await journal.done_since(first[-1][0], limit=3)
    assert [record for _, record in first + rest] == done
    orders = [order for order, _ in first + rest]
    assert orders == sorted(set(orders))
    assert await journal.done_since(orders[-1], limit=3) == []


async def test_names_of_files_are_told_from_strangers(journal: Journal) -> None:
    """Those of rows of any stage; in another case, too, which some disks take for the same; a temporary one is none."""
    for key, stage in (("one", Stage.PLANNED), ("Two", Stage.DONE), ("日本", Stage.FAILED), ("a/b", Stage.RENDERED)):
        await brought(journal, key, stage)
    names = {record.name for record in await all_rows(journal)}
    others = ["three.mp4", "one", "one.txt", "sub/one.mp4", "", "\udcff.mp4"]
    assert await journal.named([*names, *others]) == names
    assert await journal.named(["ONE.mp4", "two.mp4"]) == {"ONE.mp4", "two.mp4"}
    assert await journal.named([]) == set()


async def test_nothing_known_is_nothing_found(journal: Journal) -> None:
    """An empty journal answers every question."""
    assert await journal.get("row") is None
    assert await journal.note("position") is None
    assert await journal.tally() == Tally()
    for read in (journal.rows, journal.failed, journal.unfinished):
        assert await read(after=0, limit=10) == []
    assert await journal.done_since(0, limit=10) == []


async def test_a_note_is_what_was_written_last(journal: Journal) -> None:
    """Each by its name; an empty one is one."""
    assert await journal.note("a", "1") == "1"
    assert await journal.note("b", "zwei 日本") == "zwei 日本"
    assert await journal.note("a", "") == ""
    assert (await journal.note("a"), await journal.note("b")) == ("", "zwei 日本")


@pytest.mark.parametrize("carry", [{"note": "half \ud83d"}, {"\udce4": 1}])
async def test_half_a_letter_in_one_row_harms_no_other(journal: Journal, carry: dict[str, object]) -> None:
    """What no database can write down is a KlingError of its own call at the most; what was asked beside it stands."""
    odd, plain = await asyncio.gather(
        journal.enrol([planned("odd", carry=carry)]), journal.enrol([planned("plain")]), return_exceptions=True
    )
    assert isinstance(odd, list | KlingError)
    assert plain == [planned("plain")]
    assert await journal.get("plain") == planned("plain")


# --------------------------------------------- both side by side, through any history

KEYS = st.sampled_from(["a", "A", "b", "c/d", "e", "f"])
PROMPTS = st.sampled_from(["a cat", "a cat", "a cat", "a dog"])
CONTENTS = st.sampled_from(["one", "two", "three", "four", "five", "six"])
IDS = st.integers(1, 9).map(lambda number: f"id{number}")
AMOUNTS = st.sampled_from([None, 0, 1, 5, 20])
EVENTS = st.one_of(
    st.builds(Accepted, IDS, AMOUNTS),
    st.builds(Rendered, AMOUNTS),
    st.builds(Verified, st.integers(0, 99), st.just("ab" * 32), st.none() | st.just(5.0)),
    st.builds(Shared, IDS, CONTENTS, st.integers(0, 99), st.just("cd" * 32)),
    st.sampled_from([Unsent(), Lost(), Unbought(), Stored(), Retried()]),
    st.sampled_from([Refused(TROUBLE), Unfound(TROUBLE), Failed(TROUBLE), Overdue(TROUBLE), Unstored(TROUBLE)]),
)


def drafts(rows: Sequence[tuple[str, str]]) -> tuple[list[Draft], list[str]]:
    """Return rows as a checked manifest's come, and where their videos will lie."""
    new = [planned(key, prompt) for key, prompt in rows]
    return [draft_of(row.request) for row in new], [row.name for row in new]


NOTES = ("n", SOURCE)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
WISHES = st.one_of(
    st.tuples(st.just("enrol"), st.lists(st.tuples(KEYS, PROMPTS), max_size=3)),
    st.tuples(st.just("enter"), st.lists(st.tuples(KEYS, PROMPTS), max_size=3, unique_by=lambda row: row[0])),
    st.tuples(st.just("save"), KEYS, EVENTS),
    st.tuples(st.just("save"), KEYS, EVENTS),
    st.tuples(st.just("intend"), KEYS, CONTENTS, AMOUNTS, st.none() | st.integers(0, 60)),
    st.tuples(st.just("note"), st.sampled_from(NOTES), TEXTS),
)
"""What is asked of a journal while others ask, too."""
Wish: TypeAlias = tuple[Any, ...]


@frozen
class Call:
    """A call of a journal."""

    name: str
    values: tuple[Any, ...]
    named: Mapping[str, Any] = {}


class Histories(RuleBasedStateMachine):
    """Does the same to a journal in memory and to one on the disk, which dies now and then."""

    seen: ClassVar[Counter[str]] = Counter()
    """What the crashes were like."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = Path(tempfile.mkdtemp(prefix="kling-journal-"))
        self._lives = itertools.count()
        self.memory = MemoryJournal()
        self.sqlite = self._open(self._folder / "0" / "journal.db")

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def _open(self, path: Path) -> SqliteJournal:
        journal = SqliteJournal(path)
        self._run(journal.open())
        return journal

    def _both(self, name: str, *values: Any, **named: Any) -> Any:
        """Do one thing to both; they answer alike."""
        answers = []
        for journal in (self.memory, self.sqlite):
            try:
                answers.append(self._run(getattr(journal, name)(*values, **named)))
            except KlingError as error:
                answers.append(error)
        assert _shape(answers[0]) == _shape(answers[1])
        return answers[0]

    def _known(self, key: str) -> Record | None:
        found = self._run(self.memory.get(key))
        assert found is None or isinstance(found, Record)
        return found

    @initialize()
    def begin(self) -> None:
        self._both("enrol", [planned("a"), planned("b")])

    @rule(rows=st.lists(st.tuples(KEYS, PROMPTS), max_size=4))
    def enrol(self, rows: list[tuple[str, str]]) -> None:
        self._both("enrol", [planned(key, prompt) for key, prompt in rows])

    @rule(rows=st.lists(st.tuples(KEYS, PROMPTS), max_size=4, unique_by=lambda row: row[0]))
    def enter(self, rows: list[tuple[str, str]]) -> None:
        self._both("enter", *drafts(rows))

    @rule(key=KEYS, content=CONTENTS, price=AMOUNTS, ceiling=st.none() | st.integers(0, 60), again=st.booleans())
    def intend(self, key: str, content: str, price: int | None, ceiling: int | None, *, again: bool) -> None:
        known = self._known(key) or planned(key)
        before = self._known(key)
        again = again and (known.stage, Resubmitted) in TRANSITIONS
        known = known if again else evolve(known, stage=Stage.PLANNED, fallback=None)
        record = intent(known, content=content, credits_=price, again=again)
        answer = self._both("intend", record, ceiling=ceiling)
        if answer is not None:
            assert self._known(key) == before

    @rule(key=KEYS, event=EVENTS)
    def move(self, key: str, event: Event) -> None:
        known = self._known(key) or planned(key)
        if (known.stage, type(event)) in TRANSITIONS:
            self._both("save", advance(known, event))

    @rule(price=st.integers(0, 40), duration=st.sampled_from([5, 10]), seen=st.booleans())
    def raise_price(self, price: int, duration: int, *, seen: bool) -> None:
        self._both("raise_price" if seen else "fill_price", MODEL, duration, price)

    @rule(name=st.sampled_from(NOTES), value=st.none() | TEXTS)
    def note(self, name: str, value: str | None) -> None:
        self._both("note", name, value)

    @rule(wishes=st.lists(WISHES, min_size=1, max_size=7), moment=st.integers(1, 40), torn=st.none() | st.floats(0, 1))
    def die(self, wishes: list[Wish], moment: int, torn: float | None) -> None:
        """Copy the database at some moment of several calls at once, and go on from the copy."""
        calls = [self._call(*wish) for wish in wishes]
        states, answers = self._expected(calls)
        folder = self._folder / str(next(self._lives) + 1)
        crash = self._run(_copied_amid(self.sqlite, calls, folder, moment=moment, torn=torn))
        assert [_shape(answer) for answer in crash.answers] == answers, "calls at once answer as one after the other"
        self.sqlite = self._open(folder / "journal.db")
        found = self._run(_whole(self.sqlite))
        kept = max((number for number in crash.possible if self._run(_whole(states[number])) == found), default=-1)
        assert kept >= 0, "neither the whole of a commit nor nothing of it survived"
        assert kept >= crash.told, "what was acknowledged is gone"
        self.memory = states[kept]
        self.seen["crashes"] += 1
        self.seen["kept what was acknowledged"] += crash.told > 0
        self.seen["lost what nobody was told"] += kept < len(calls)
        self.seen["kept what nobody was told"] += kept > crash.told
        self.seen["torn"] += len(crash.possible) > 1

    def _call(self, name: str, *values: Any) -> Call:
        """Return a call of a journal, made of what is known before any of those that are made with it."""
        match name, values:
            case "enrol", [rows]:
                values = ([planned(key, prompt) for key, prompt in rows],)
            case "enter", [rows]:
                values = drafts(rows)
            case "save", [key, event]:
                values = (advance(self._known(key) or planned(key), event),)
            case "intend", [key, content, price, ceiling]:
                record = evolve(self._known(key) or planned(key), stage=Stage.PLANNED)
                return Call(name, (intent(record, content=content, credits_=price),), {"ceiling": ceiling})
        return Call(name, values)

    def _expected(self, calls: Sequence[Call]) -> tuple[list[MemoryJournal], list[Any]]:
        """Return the model after none of the calls, after the first, and so on; and what each is answered."""
        states, answers = [self.memory], []
        for call in calls:
            after = deepcopy(states[-1])
            answers.append(_shape(self._run(_asked(after, call))))
            states.append(after)
        return states, answers

    @invariant()
    def they_say_the_same(self) -> None:
        for name in ("rows", "failed", "unfinished", "again", "planned"):
            assert self._both(name, after=1, limit=3) is not None
        rows = [record for _, record in self._both("rows", after=0, limit=100)]
        done = self._both("done_since", 0, limit=100)
        assert sorted(record.key for _, record in done) == sorted(row.key for row in rows if row.stage is Stage.DONE)
        assert self._both("tally") == counted(rows)
        planned_rows = [row.request for row in rows if row.stage is Stage.PLANNED]
        assert self._both("census") == Counter((one.model, one.duration) for one in planned_rows)
        self._both("note", SOURCE)
        ids = [row.generation_id for row in rows if row.generation_id is not None]
        assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        self._run(self.sqlite.aclose())
        self._runner.close()
        shutil.rmtree(self._folder)


def _shape(answer: Any) -> Any:
    """Return an answer so that two journals' errors compare."""
    if isinstance(answer, list):
        return [_shape(one) for one in answer]
    return (type(answer), answer.generation_id) if isinstance(answer, KlingError) else answer


async def _asked(journal: Journal, call: Call) -> Any:
    """Call a journal; its error is an answer, too."""
    try:
        return await getattr(journal, call.name)(*call.values, **call.named)
    except KlingError as error:
        return error


async def _whole(journal: Journal) -> list[Any]:
    """Return all that a journal says."""
    pages = [await read(after=0, limit=100) for read in (journal.rows, journal.failed, journal.unfinished)]
    notes = [await journal.note(name) for name in NOTES]
    done = await journal.done_since(0, limit=100)
    return [[record for _, record in page] for page in (*pages, done)] + [await journal.tally(), notes]


@define
class Crash:
    """A copy of a journal that was taken amid calls."""

    told: int = 0
    """Calls, from the first on, of which somebody was told that they had taken effect, before the copy was taken."""
    possible: frozenset[int] = frozenset()
    """How many calls the copy may hold, from the first on: one number, or two where a commit was under way."""
    answers: list[Any] = field(factory=list)
    """What each call was answered in the end."""


class _Witness:
    """Sees every statement of a journal's writer, on its thread, and copies the database as one begins.

    A torn copy is taken right after the next commit, and its log cut anywhere within what that wrote: so a disk may
    have it that lost its power before the log was flushed.
    """

    def __init__(self, path: Path, folder: Path, *, moment: int, torn: float | None) -> None:
        self._path, self._folder, self._moment, self._torn = path, folder, moment, torn
        self._statements = self._done = self._committed = self._in_commit = 0
        self._cut: int | None = None
        self._copied = False
        self.told = 0
        """Calls that were answered so far; the loop counts."""
        self.crash = Crash()

    def hear(self, statement: str) -> None:
        """Hear of a statement that is about to be carried out."""
        self._statements += 1
        before = self._committed
        if self._cut is not None:
            self._copy(self._cut, {before - self._in_commit, before})
        elif self._statements >= self._moment and self._torn is None:
            self._copy(None, {before})
        self._done += statement == "RELEASE work"
        if statement == "COMMIT":
            self._in_commit, self._committed = self._done - before, self._done
            if self._statements >= self._moment and not self._copied:
                self._cut, self.crash.told = self._log().stat().st_size, self.told

    def end(self) -> None:
        """Copy what is there, where no statement was the one."""
        self.hear("")
        self._copy(None, {self._committed})

    def _log(self) -> Path:
        return self._path.with_name("journal.db-wal")

    def _copy(self, cut: int | None, possible: set[int]) -> None:
        if self._copied:
            return
        self._copied = True
        self.crash.possible = frozenset(possible)
        if cut is None:
            self.crash.told = self.told
        self._folder.mkdir()
        for path in (self._path, self._log()):
            shutil.copy(path, self._folder)
        if cut is not None:
            log = self._folder / self._log().name
            written = log.stat().st_size - cut
            os.truncate(log, cut + int(written * (self._torn or 0)))


async def _copied_amid(
    journal: SqliteJournal, calls: Sequence[Call], folder: Path, *, moment: int, torn: float | None
) -> Crash:
    """Make calls at once, and take a copy as some statement of them begins, or after the last.

    The first call is a commit of its own, the others go into the next one together, but for what comes even later.
    """
    witness = _Witness(journal._path, folder, moment=moment, torn=torn)

    async def ask(call: Call) -> Any:
        answer = await _asked(journal, call)
        witness.told += 1
        return answer

    await journal._writer.run(lambda connection: connection.set_trace_callback(witness.hear))
    answers = await asyncio.gather(*map(ask, calls))
    await journal._writer.run(lambda connection: connection.set_trace_callback(None))
    witness.end()
    witness.crash.answers = answers
    await journal.aclose()
    return witness.crash


_LEAST_BOOKS, _BOOKS = 3, 12
"""Times twenty histories: how a crash falls between a thread's work and its answer is the machine's affair, so that it
takes more of them now and then."""
_ENDS = ("kept what was acknowledged", "lost what nobody was told", "kept what nobody was told", "torn")


def test_any_history_leaves_both_alike_and_loses_nothing_acknowledged() -> None:
    """A journal in memory and one on the disk answer alike for ever, though the disk's dies amid calls made at once.

    Wherever it dies, also between the handing over and the answer, or with its log half written: what was acknowledged
    is there, and of the rest whole commits or nothing; the tally agrees with the rows.
    """
    Histories.seen.clear()
    for number in range(_BOOKS):
        run_state_machine_as_test(
            seed(number)(Histories),
            settings=settings(
                max_examples=20,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
        if number >= _LEAST_BOOKS - 1 and min(Histories.seen[kind] for kind in _ENDS) > 5:
            break
    assert Histories.seen["crashes"] > 50
    for kind in _ENDS:
        assert Histories.seen[kind] > 5, f"{kind}: no history has led there: this test has seen too little"
