"""The transition table: nothing is bought twice, nothing bought is lost, and money follows the stage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import get_args

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.rules.lifecycle import HOLDS_SLOT, PAID_FOR, TRANSITIONS, Step, advance, next_step
from kling_async.types.record import (
    Accepted,
    Event,
    Failed,
    Intended,
    Lost,
    Overdue,
    Record,
    Refetched,
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
    Waiting,
)
from kling_async.types.request import ImageToVideo

QUICK = settings(deadline=None, max_examples=200)
TROUBLE = Trouble("GenerationFailed", "no face")
EVENTS: tuple[Event, ...] = (
    Intended("ka1.j.k.1", 1000.0, "c" * 64, 600_000),
    Unsent(),
    Accepted("g-1", 500_000),
    Refused(TROUBLE),
    Lost(),
    Unbought(),
    Resubmitted(Intended("ka1.j.k.3", 2000.0, "f" * 64, 700_000, "digest of the key")),
    Unfound(TROUBLE),
    Rendered(450_000),
    Failed(TROUBLE),
    Overdue(TROUBLE),
    Verified(10, "d" * 64, 5.0),
    Stored(),
    Shared("g-other", "c" * 64, 10, "d" * 64, 5.0),
    Waiting(TROUBLE),
    Unstored(TROUBLE),
    Refetched(11, "f" * 64, 5.5),
    Retried(),
)
WITH_AN_ID = {Stage.SUBMITTED, Stage.RENDERED, Stage.DONE}
AGAIN = Resubmitted(Intended("ka1.j.k.3", 2000.0, "f" * 64, 700_000, "digest of the key"))
GIVEN_UP = [Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED]
BASE = Record("k", "k.mp4", ImageToVideo("a.png"), "w" * 64)


def record(stage: Stage, **values: object) -> Record:
    """Make a record that has everything a record can have."""
    filled: dict[str, object] = {
        "content": "c" * 64,
        "attempt": 2,
        "client_request_id": "ka1.j.k.2",
        "sent_at": 900.0,
        "generation_id": "g-0",
        "credits": 600_000,
        "size": 5,
        "sha256": "e" * 64,
        "seconds": 5.0,
    }
    return Record("k", "k.mp4", ImageToVideo("a.png"), "w" * 64, stage, **(filled | values))  # type: ignore[arg-type]


def moved(stage: Stage, event: Event, **values: object) -> Record:
    return advance(record(stage, **values), event)


def paths(start: Stage, end: Stage) -> Iterator[list[type[Event]]]:
    """Walk every way from one stage to another that visits no stage twice."""

    def on(stage: Stage, seen: tuple[Stage, ...], way: list[type[Event]]) -> Iterator[list[type[Event]]]:
        for (source, event), target in TRANSITIONS.items():
            if source is not stage or target is stage:
                continue
            if target is end:
                yield [*way, event]
            elif target not in seen:
                yield from on(target, (*seen, target), [*way, event])

    return on(start, (start,), [])


every_move = pytest.mark.parametrize(
    ("stage", "event"),
    [pytest.param(stage, event, id=f"{stage}-{type(event).__name__}") for stage in Stage for event in EVENTS],
)


def test_the_events_are_all_there_are() -> None:
    """What is tested below is tested for every event."""
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@every_move
def test_an_event_moves_by_the_table_or_changes_nothing(stage: Stage, event: Event) -> None:
    """What a stage does not know leaves the very same record."""
    before = record(stage, trouble=TROUBLE)
    after = advance(before, event)
    target = TRANSITIONS.get((stage, type(event)))
    if target is None:
        assert after is before
    else:
        assert after.stage is target


@every_move
def test_an_event_never_changes_what_the_row_is(stage: Stage, event: Event) -> None:
    """Key, name, request and digest stay what they were."""
    before = record(stage)
    after = advance(before, event)
    assert [getattr(after, name) for name in ("key", "name", "request", "written")] == [
        getattr(before, name) for name in ("key", "name", "request", "written")
    ]


class TestMoney:
    """The graph itself: nothing is bought twice."""

    @pytest.mark.parametrize("stage", sorted(WITH_AN_ID))
    def test_a_bought_row_is_submitted_again_only_after_it_failed_or_by_its_owners_word(self, stage: Stage) -> None:
        """Every way from a stage with an id to SUBMITTING leads through FAILED, which is free, or is `Resubmitted`."""
        for way in paths(stage, Stage.SUBMITTING):
            assert way[-1] is Resubmitted or way.index(Failed) < way.index(Retried)

    def test_there_is_a_way_at_all(self) -> None:
        """Else the test above would hold for nothing."""
        ways = list(paths(Stage.SUBMITTED, Stage.SUBMITTING))
        assert [way for way in ways if Resubmitted not in way] == [[Failed, Retried, Intended]]
        assert [Resubmitted] in ways
        assert list(paths(Stage.RENDERED, Stage.SUBMITTING)) == [[Resubmitted]]
        assert list(paths(Stage.PLANNED, Stage.SUBMITTING)) == [[Intended]]

    def test_what_was_charged_never_fails(self) -> None:
        """From where money was spent no way leads to FAILED but by its owner's word; from DONE there is none at all."""
        assert all(Resubmitted in way for way in paths(Stage.RENDERED, Stage.FAILED))
        assert not list(paths(Stage.DONE, Stage.SUBMITTING))
        assert not list(paths(Stage.DONE, Stage.FAILED))

    @pytest.mark.parametrize("stage", sorted(PAID_FOR - {Stage.SUBMITTING, Stage.DONE}))
    def test_to_try_again_keeps_what_money_stands_behind(self, stage: Stage) -> None:
        """Stage, id and money stay; the trouble goes."""
        before = record(stage, trouble=TROUBLE, sunk=7, former=("g-old",))
        assert advance(before, Retried()) == evolve(before, trouble=None)

    @pytest.mark.parametrize("stage", GIVEN_UP)
    def test_what_is_given_up_is_not_forgotten(self, stage: Stage) -> None:
        """Its money is sunk, its id one of the former; all else is the intent's, as of any other POST."""
        after = moved(stage, AGAIN, trouble=TROUBLE, sunk=100, former=("g-old",))
        assert (after.stage, after.sunk, after.former) == (Stage.SUBMITTING, 600_100, ("g-old", "g-0"))
        anew = moved(Stage.PLANNED, AGAIN.intent, sunk=600_100, former=("g-old", "g-0"))
        assert evolve(after, fallback=None) == anew

    @pytest.mark.parametrize("stage", GIVEN_UP)
    @pytest.mark.parametrize(
        "way", [[Unsent()], [Refused(TROUBLE)], [Lost(), Unbought()], [Lost(), Accepted("g-1"), Failed(TROUBLE)]]
    )
    def test_what_bought_nothing_in_its_place_gives_all_of_it_back(self, stage: Stage, way: list[Event]) -> None:
        """Stage, id, money and reason are what they were; only the attempt is counted, so that no POST's id returns."""
        before = record(stage, trouble=Trouble("Old", "old"), sunk=100, former=("g-old",), sent_with="a key")
        after = advance(before, AGAIN)
        for event in way:
            after = advance(after, event)
        assert after == evolve(before, attempt=before.attempt + 1)

    @pytest.mark.parametrize("stage", GIVEN_UP)
    def test_what_is_rendered_in_its_place_has_replaced_it(self, stage: Stage) -> None:
        """From then on there is nothing to lead back to: both are paid for."""
        after = advance(advance(moved(stage, AGAIN), Accepted("g-1")), Rendered())
        assert (after.stage, after.fallback, after.former) == (Stage.RENDERED, None, ("g-0",))

    def test_a_lost_post_that_is_given_up_is_known_by_its_own_id(self) -> None:
        """No generation is known; of a price that nobody told nothing is known either."""
        after = moved(Stage.UNCERTAIN, AGAIN, generation_id=None, credits=None)
        assert (after.former, after.sunk) == (("ka1.j.k.2",), 0)
        assert moved(Stage.UNCERTAIN, AGAIN, generation_id=None, client_request_id=None).former == ()

    def test_an_uncertain_row_is_submitted_again_only_when_nothing_was_bought_or_its_owner_says_so(self) -> None:
        """Two events, and no other, lead back from it without an id."""
        back = {
            event
            for (stage, event), target in TRANSITIONS.items()
            if stage is Stage.UNCERTAIN and target is Stage.PLANNED
        }
        assert back == {Unbought}
        firsts = {way[0] for way in paths(Stage.UNCERTAIN, Stage.SUBMITTING)}
        assert firsts == {Unbought, Resubmitted, Accepted}
        ways = [way for way in paths(Stage.UNCERTAIN, Stage.SUBMITTING) if way[0] is Accepted]
        assert all(Failed in way or Resubmitted in way for way in ways)

    def test_a_post_leads_to_submitting_from_planned_or_by_its_owners_word(self) -> None:
        """The intent is always written first: over a row that nobody paid for, or with what it gives up."""
        assert {key for key, target in TRANSITIONS.items() if target is Stage.SUBMITTING} == {
            (Stage.PLANNED, Intended),
            *((stage, Resubmitted) for stage in GIVEN_UP),
        }

    def test_a_lost_answer_is_never_planned_again_by_itself(self) -> None:
        """It is uncertain, and stays it when it is not found."""
        assert moved(Stage.SUBMITTING, Lost()).stage is Stage.UNCERTAIN
        assert moved(Stage.UNCERTAIN, Unfound(TROUBLE)).stage is Stage.UNCERTAIN

    def test_failed_is_reached_only_where_nothing_is_charged(self) -> None:
        """By a refusal, or by the service's own word; not from what is rendered or uncertain."""
        assert {key for key, target in TRANSITIONS.items() if target is Stage.FAILED} == {
            (Stage.PLANNED, Refused),
            (Stage.SUBMITTING, Refused),
            (Stage.SUBMITTED, Failed),
        }

    def test_the_stages_that_money_stands_behind(self) -> None:
        """All from the intent to the end, and neither PLANNED nor FAILED."""
        assert set(Stage) - PAID_FOR == {Stage.PLANNED, Stage.FAILED}

    def test_the_stages_that_hold_a_slot(self) -> None:
        """An uncertain one too; a finished one no longer, before its download."""
        assert {Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED} == HOLDS_SLOT

    @QUICK
    @given(st.lists(st.sampled_from(EVENTS), max_size=30))
    def test_no_history_submits_a_row_that_has_an_id(self, events: list[Event]) -> None:
        """Whatever happens in whatever order: between two intents lies a proof, or the owner's word."""
        row, history = BASE, []
        for event in events:
            after = advance(row, event)
            if after is not row:
                history.append(type(event))
            row = after
        intents = [i for i, event in enumerate(history) if event in {Intended, Resubmitted}]
        assert row.attempt == len(intents)
        for one, other in itertools.pairwise(intents):
            assert {Unsent, Unbought, Refused, Failed} & set(history[one:other]) or history[other] is Resubmitted

    @QUICK
    @given(st.sampled_from(sorted(WITH_AN_ID)), st.lists(st.sampled_from(EVENTS), max_size=30))
    def test_no_other_events_lead_from_an_id_to_submitting(self, stage: Stage, events: list[Event]) -> None:
        """Between a stage with an id and the next intent lies `Resubmitted`, or `Failed` and then `Retried`."""
        row, history = record(stage), list[type[Event]]()
        for event in events:
            after = advance(row, event)
            if after is not row:
                history.append(type(event))
            row = after
            if row.stage is Stage.SUBMITTING:
                break
        if row.stage is Stage.SUBMITTING and Resubmitted not in history:
            assert Retried in history[history.index(Failed) :]

    @QUICK
    @given(st.lists(st.sampled_from(EVENTS), max_size=40))
    def test_no_history_loses_an_id_or_its_money(self, events: list[Event]) -> None:
        """Whatever was accepted is the row's own, among the former ones, or failed, which is free.

        Where any is, the row is neither PLANNED, to be bought unasked, nor FAILED, as if nothing had been paid.
        """
        row, accepted, free = BASE, set[str](), set[str]()
        for number, event in enumerate(events):
            event = Accepted(f"g-{number}", 5) if isinstance(event, Accepted) else event  # noqa: PLW2901  # an id of its own
            after = advance(row, event)
            if after is not row and isinstance(event, Accepted):
                accepted.add(event.generation_id)
            if after is not row and isinstance(event, Failed):
                free.add(row.generation_id or "")
            row = after
            assert accepted - free <= {row.generation_id, *row.former}
            assert not row.former or row.stage not in {Stage.PLANNED, Stage.FAILED}
            assert (row.sunk > 0) <= bool(row.former)


class TestFields:
    """What each event tells a record."""

    def test_an_intent_is_written_whole(self) -> None:
        """Its id, its moment, its content, its price; one attempt more; nothing of an earlier try is left."""
        intent = Intended("ka1.j.k.3", 1000.0, "f" * 64, 700_000, "digest of the key")
        after = moved(Stage.PLANNED, intent, trouble=TROUBLE, sent_with="digest of another", shares="g-x")
        assert (after.client_request_id, after.sent_at, after.content) == ("ka1.j.k.3", 1000.0, "f" * 64)
        assert after.sent_with == "digest of the key"
        assert (after.credits, after.attempt, after.generation_id) == (700_000, 3, None)
        assert (after.size, after.sha256, after.seconds, after.trouble) == (None, None, None, None)
        assert after.shares is None

    def test_an_intent_of_unknown_price_holds_nothing(self) -> None:
        """Not the price of an earlier try either."""
        assert moved(Stage.PLANNED, Intended("x", 1.0, "f", None)).credits is None

    @pytest.mark.parametrize("stage", [Stage.SUBMITTING, Stage.UNCERTAIN])
    def test_an_accepted_row_has_its_id(self, stage: Stage) -> None:
        """And the service's own price, where it told one; else the one that was held."""
        assert (
            moved(stage, Accepted("g-1", 500_000)).generation_id,
            moved(stage, Accepted("g-1", 500_000)).credits,
        ) == (
            "g-1",
            500_000,
        )
        assert moved(stage, Accepted("g-1")).credits == 600_000
        assert moved(stage, Accepted("g-1", 0)).credits == 0

    def test_a_rendered_row_has_its_charge(self) -> None:
        """Where the service told it; else what was held is taken for charged."""
        assert moved(Stage.SUBMITTED, Rendered(450_000)).credits == 450_000
        assert moved(Stage.SUBMITTED, Rendered()).credits == 600_000

    @pytest.mark.parametrize(
        ("stage", "event"),
        [
            (Stage.PLANNED, Refused(TROUBLE)),
            (Stage.SUBMITTING, Refused(TROUBLE)),
            (Stage.SUBMITTING, Unsent()),
            (Stage.SUBMITTED, Failed(TROUBLE)),
            (Stage.UNCERTAIN, Unbought()),
        ],
    )
    def test_what_bought_nothing_holds_nothing(self, stage: Stage, event: Event) -> None:
        """The reservation is given back."""
        assert moved(stage, event).credits is None

    @pytest.mark.parametrize(
        ("stage", "event"),
        [
            (Stage.SUBMITTING, Lost()),
            (Stage.UNCERTAIN, Unfound(TROUBLE)),
            (Stage.SUBMITTED, Overdue(TROUBLE)),
            (Stage.RENDERED, Unstored(TROUBLE)),
            (Stage.RENDERED, Verified(1, "a")),
            (Stage.RENDERED, Stored()),
        ],
    )
    def test_what_may_be_charged_stays_held(self, stage: Stage, event: Event) -> None:
        """And keeps its id and the id of its POST."""
        after = moved(stage, event)
        assert (after.credits, after.generation_id, after.client_request_id) == (600_000, "g-0", "ka1.j.k.2")

    def test_a_verified_file_is_known_before_its_rename(self) -> None:
        """Size, digest and length stand in a record that is not DONE yet."""
        after = moved(Stage.RENDERED, Verified(10, "d" * 64, 5.1))
        assert (after.stage, after.size, after.sha256, after.seconds) == (Stage.RENDERED, 10, "d" * 64, 5.1)
        assert advance(after, Stored()).sha256 == "d" * 64

    def test_a_video_that_is_fetched_again_changes_nothing_but_its_file(self) -> None:
        """Its bytes are known before it has its name; stage, ids and money are what they were, of a twin's row, too."""
        before = record(Stage.DONE, generation_id=None, shares="g-other", sunk=7, former=("g-old",))
        after = advance(before, Refetched(11, "f" * 64, 5.5))
        assert after == evolve(before, size=11, sha256="f" * 64, seconds=5.5)
        assert [stage for stage, event in TRANSITIONS if event is Refetched] == [Stage.DONE]

    def test_from_done_no_arrow_leads_away(self) -> None:
        """Whatever became of its file: the video was made, paid for and stored."""
        assert {target for (stage, _), target in TRANSITIONS.items() if stage is Stage.DONE} == {Stage.DONE}

    def test_a_shared_video_costs_nothing(self) -> None:
        """The row names the generation that it shares, and none of its own: not one that failed before either."""
        after = moved(Stage.PLANNED, Shared("g-other", "f" * 64, 10, "d" * 64, 5.1), trouble=TROUBLE)
        assert (after.stage, after.shares, after.generation_id, after.credits) == (Stage.DONE, "g-other", None, None)
        assert (after.content, after.size, after.sha256, after.seconds) == ("f" * 64, 10, "d" * 64, 5.1)

    def test_only_an_unbought_row_shares(self) -> None:
        """One that money may stand behind is watched to its own end."""
        assert [stage for stage, event in TRANSITIONS if event is Shared] == [Stage.PLANNED]

    @every_move
    def test_a_trouble_is_the_last_event_s(self, stage: Stage, event: Event) -> None:
        """A step that goes well forgets the trouble before it."""
        if (stage, type(event)) in TRANSITIONS:
            assert moved(stage, event, trouble=Trouble("Old", "old")).trouble == getattr(event, "trouble", None)


class TestSetAside:
    """Neither done nor failed, and not on its way."""

    @pytest.mark.parametrize("stage", Stage)
    def test_only_a_row_with_a_trouble_is_set_aside(self, stage: Stage) -> None:
        """And only where money may stand behind it; a failed row has ended."""
        assert not record(stage).set_aside
        waits = {Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED}
        assert record(stage, trouble=TROUBLE).set_aside == (stage in waits)

    @pytest.mark.parametrize(
        ("stage", "event"),
        [(Stage.UNCERTAIN, Unfound(TROUBLE)), (Stage.SUBMITTED, Overdue(TROUBLE)), (Stage.RENDERED, Unstored(TROUBLE))],
    )
    def test_a_row_that_is_set_aside_can_go_on(self, stage: Stage, event: Event) -> None:
        """It keeps its stage, so that a later start asks again; what is found then clears the trouble."""
        aside = moved(stage, event)
        assert aside.set_aside
        assert aside.stage is stage
        assert next_step(aside) is next_step(record(stage))
        onward: dict[Stage, Event] = {
            Stage.UNCERTAIN: Accepted("g-1"),
            Stage.SUBMITTED: Rendered(),
            Stage.RENDERED: Stored(),
        }
        assert not advance(aside, onward[stage]).set_aside


class TestSteps:
    """What to do next."""

    @pytest.mark.parametrize(
        ("stage", "step"),
        [
            (Stage.PLANNED, Step.SUBMIT),
            (Stage.SUBMITTING, Step.FIND),
            (Stage.UNCERTAIN, Step.FIND),
            (Stage.SUBMITTED, Step.WATCH),
            (Stage.RENDERED, Step.FETCH),
            (Stage.DONE, Step.NONE),
            (Stage.FAILED, Step.NONE),
        ],
    )
    def test_a_stage_has_its_step(self, stage: Stage, step: Step) -> None:
        """A row found SUBMITTING is looked up, never posted again in silence."""
        assert next_step(record(stage)) is step

    def test_every_stage_has_a_step(self) -> None:
        """A new stage must say what follows."""
        assert all(isinstance(next_step(record(stage)), Step) for stage in Stage)

    def test_only_an_unbought_row_is_submitted(self) -> None:
        """Of all stages."""
        assert [stage for stage in Stage if next_step(record(stage)) is Step.SUBMIT] == [Stage.PLANNED]

    @pytest.mark.parametrize("stage", Stage)
    def test_every_stage_can_end(self, stage: Stage) -> None:
        """No row is stuck: from everywhere a way leads to the video, or it has ended."""
        assert stage in {Stage.DONE, Stage.FAILED} or list(paths(stage, Stage.DONE))
