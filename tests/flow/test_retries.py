"""Rows tried again: what cost nothing is bought, what money stands behind is followed, and nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from kling_async import (
    Batch,
    BatchReport,
    BudgetExceeded,
    ConfigurationError,
    ImageToVideo,
    Outcome,
    RequestChanged,
    Retry,
    Stage,
)
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import IMAGE_URL, World, outcomes_of, requests, world

pytestmark = pytest.mark.looptime

PRICE = 520_000
"""Credits of a video of 5 s."""
PATIENT = 1_000_000.0
"""Seconds of silence after which a run would end."""
NEVER_ENDS = Fault("job", "never_ends", match="prompt 0")
"""The first row's generation runs for ever."""


async def first_run(w: World, rows: int | Iterable[ImageToVideo] = 3, **flags: Any) -> BatchReport:
    """Run rows once, with a plan of troubles that is over then."""
    async with w.batch(**flags) as batch:
        report = await batch.run(requests(rows) if isinstance(rows, int) else rows)
    w.simulator.faults = FaultPlan()
    return report


async def tried(batch: Batch, retry: Retry) -> dict[str, Outcome]:
    """Try rows again, and return the outcomes by key; none comes twice."""
    found: dict[str, Outcome] = {}
    async with batch.stream(retry) as outcomes:
        async for outcome in outcomes:
            assert outcome.key not in found
            found[outcome.key] = outcome
    return found


async def retried(w: World, **words: Any) -> dict[str, Outcome]:
    """Open the folder and try its rows again; the service may be silent for days."""
    async with w.batch(unavailable_after=PATIENT) as batch:
        return await tried(batch, Retry(**words))


def bought(w: World) -> list[str]:
    """Return the prompts of all that was bought, in order."""
    return [purchase.prompt for purchase in w.book.bought()]


# --------------------------------------------------------------- what failed


async def test_failed_rows_are_bought_and_no_others(tmp_path: Path) -> None:
    """`Retry()` needs no requests: the journal knows them. DONE rows are not even asked for."""
    plan = FaultPlan.of(Fault("job", "error_named", match="prompt 1"))
    async with world(tmp_path, plan) as w:
        assert (await first_run(w)).tally.failed == 1
        polls = w.book.polls_by_id.total()
        found = await retried(w)
        assert {key: outcome.stage for key, outcome in found.items()} == {"row1": Stage.DONE}
        assert bought(w) == ["prompt 0", "prompt 1", "prompt 2", "prompt 1"]
        assert w.book.polls_by_id.total() - polls == w.book.polls_by_id[w.book.bought()[-1].generation_id]
        await w.audit()


async def test_a_row_that_fails_again_is_not_tried_a_second_time(tmp_path: Path) -> None:
    """Once in a run: neither a row that was chosen, nor one that was open at its start and fails during it."""
    plan = FaultPlan.of(Fault("job", "error_named"))
    async with world(tmp_path, plan) as w:
        async with w.batch(max_in_flight=2) as batch, batch.stream(requests(4)) as outcomes:
            await anext(outcomes)
            await asyncio.sleep(20)
        before = await w.records()
        open_now = {key for key, record in before.items() if record.stage is Stage.SUBMITTED}
        failed = {key for key, record in before.items() if record.stage is Stage.FAILED}
        assert open_now
        assert failed
        submits = w.book.calls["submit"]
        async with w.batch(max_in_flight=1) as batch:  # those that were open have failed before the others' turn comes
            found = await tried(batch, Retry())
        assert {key for key, outcome in found.items() if outcome.stage is Stage.FAILED} == open_now | failed
        assert w.book.calls["submit"] == submits + len(failed)


async def test_rows_that_were_never_begun_stay_so_unless_they_are_named(tmp_path: Path) -> None:
    """PLANNED rows are no business of a retry; a key names one all the same."""
    async with world(tmp_path) as w, w.batch() as batch:
        await batch.enrol(requests(3))
        assert await tried(batch, Retry()) == {}
        assert set(await tried(batch, Retry(keys=["row1"]))) == {"row1"}
        assert bought(w) == ["prompt 1"]
        assert (await batch.tally()).planned == 2


async def test_what_a_stop_left_between_two_tries_is_tried_again(tmp_path: Path) -> None:
    """A row that was sent once, refused for the moment and then left by a stop is not forgotten: nothing was bought."""
    async with world(tmp_path, FaultPlan.of(Fault("submit", "429_seconds", seconds=600))) as w:
        async with w.batch() as batch, batch.stream(requests(1)):
            await asyncio.sleep(30)
        assert [(record.stage, record.attempt > 0) for record in (await w.records()).values()] == [
            (Stage.PLANNED, True)
        ]
        w.simulator.faults = FaultPlan()
        assert (await retried(w))["row0"].ok
        await w.audit()


async def test_a_failed_row_stays_failed_until_its_turn_comes(tmp_path: Path) -> None:
    """Where no more may be bought, rows whose turn did not come are still FAILED, with their reasons."""
    plan = FaultPlan.of(Fault("job", "error_named"))
    async with world(tmp_path, plan, balance_usd=0.3) as w:
        await first_run(w, 6, max_in_flight=1)
        async with w.batch(max_in_flight=1) as batch:
            report = await batch.run(Retry())
        assert type(report.stopped).__name__ == "OutOfCredit"
        assert (report.tally.done, report.tally.failed, report.tally.planned) == (1, 4, 1)
        assert all(r.trouble for r in (await w.records()).values() if r.stage is Stage.FAILED)


# ------------------------------------------------- what money stands behind


async def test_an_overdue_row_is_watched_again_and_not_bought(tmp_path: Path) -> None:
    """A generation that takes longer than was waited is fetched by the next try, in full, not asked once."""
    plan = FaultPlan.of(Fault("job", "late", match="prompt 0"))
    async with world(tmp_path, plan, durations=300.0) as w:
        report = await first_run(w, give_up_after=2000)
        assert (report.tally.done, report.tally.submitted) == (2, 1)
        async with w.batch(give_up_after=4000) as batch:
            found = await tried(batch, Retry())
        assert found["row0"].ok
        assert len(bought(w)) == 3
        await w.audit()


@pytest.mark.parametrize("kind", ["404", "unknown"])
async def test_a_row_that_the_service_did_not_know_for_a_time_is_followed(tmp_path: Path, kind: str) -> None:
    """A 404 is never "failed": when the service knows the generation again, it is fetched."""
    async with world(tmp_path, FaultPlan.of(Fault("poll", kind, match="prompt 0"))) as w:
        assert (await first_run(w)).tally.submitted == 1
        found = await retried(w)
        assert found["row0"].ok
        assert len(bought(w)) == 3
        await w.audit()


async def test_a_video_that_could_not_be_fetched_is_fetched(tmp_path: Path) -> None:
    """RENDERED and set aside: a download that works now is all that it takes."""
    async with world(tmp_path, FaultPlan.of(Fault("download", "404", match="prompt 0"))) as w:
        assert (await first_run(w)).tally.rendered == 1
        assert (await retried(w))["row0"].ok
        assert len(bought(w)) == 3
        await w.audit()


@pytest.mark.parametrize(
    ("operation", "kind"), [("job", "never_ends"), ("job", "no_url"), ("poll", "404"), ("download", "404")]
)
async def test_what_money_stands_behind_is_not_bought_by_a_retry(tmp_path: Path, operation: str, kind: str) -> None:
    """However often it is tried, with and without `uncertain`: it stays aside, with its id, and nothing is paid."""
    plan = FaultPlan.of(Fault(operation, kind, match="prompt 0"), Fault("submit", "dropped_after", match="prompt 1"))
    async with world(tmp_path, plan, log_listing="never") as w:
        async with w.batch() as batch:
            await batch.run(requests(3))
        before = {key: record.generation_id for key, record in (await w.records()).items()}
        for retry in (Retry(), Retry(uncertain=True), Retry(keys=["row0", "row1"], uncertain=True)):
            async with w.batch() as batch:
                found = await tried(batch, retry)
            assert found["row0"].error is not None
        assert w.book.calls["submit"] == 3
        assert {key: record.generation_id for key, record in (await w.records()).items()} == before
        assert w.book.duplicates() == []


async def test_what_is_not_chosen_is_not_asked(tmp_path: Path) -> None:
    """A row set aside that was not named stays as it is: no poll, no look-up, no outcome; an open one goes on."""
    plan = FaultPlan.of(NEVER_ENDS, Fault("submit", "dropped_after", match="prompt 1"))
    async with world(tmp_path, plan, log_listing="never") as w:
        await first_run(w)
        async with w.batch() as batch, batch.stream([ImageToVideo(IMAGE_URL, "open", key="open")]):
            await asyncio.sleep(30)
        before, polls, reads = await w.records(), w.book.polls_by_id.copy(), w.book.calls["log"]
        found = await retried(w, keys=["row2"])
        assert {key: outcome.stage for key, outcome in found.items()} == {"open": Stage.DONE}
        after = await w.records()
        assert (after["row0"], after["row1"]) == (before["row0"], before["row1"])
        lost = before["row0"].generation_id or ""
        assert (w.book.polls_by_id[lost], w.book.calls["log"]) == (polls[lost], reads)


# ------------------------------------------------------------ uncertain rows


async def test_uncertain_rows_are_looked_for_when_asked(tmp_path: Path) -> None:
    """A lost submit that the usage log could not be asked about is found, adopted, and not bought again."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", match="prompt 0"), Fault("log", "500"))
    async with world(tmp_path, plan) as w:
        assert (await first_run(w, unavailable_after=PATIENT)).tally.uncertain == 1
        reads = w.book.calls["log"]
        assert await retried(w) == {}
        assert w.book.calls["log"] == reads
        assert (await retried(w, uncertain=True))["row0"].ok
        assert w.book.calls["submit"] == 3
        await w.audit()


async def test_an_uncertain_row_is_looked_for_as_long_as_at_first(tmp_path: Path) -> None:
    """The log lists it an hour late: one look would miss it."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", match="prompt 0"), Fault("log", "500"))
    async with world(tmp_path, plan) as w:
        await first_run(w, unavailable_after=PATIENT)
        w.simulator.faults = FaultPlan.of(Fault("log", "500", until=3000))
        assert (await retried(w, uncertain=True))["row0"].ok
        assert w.book.calls["submit"] == 3
        await w.audit()


async def test_an_uncertain_row_that_is_not_listed_is_set_aside_again(tmp_path: Path) -> None:
    """After the whole time it is still not bought; its message names the command that would."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", match="prompt 0"))
    async with world(tmp_path, plan, log_listing="never") as w:
        await first_run(w)
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        outcome = (await retried(w, uncertain=True))["row0"]
        assert 4500 <= loop.time() - began < 6000
        assert outcome.stage is Stage.UNCERTAIN
        assert "--uncertain" in str(outcome.error)
        assert "--buy-again" in str(outcome.error)
        assert w.book.calls["submit"] == 3


async def test_an_uncertain_row_is_bought_again_only_when_it_is_not_listed(tmp_path: Path) -> None:
    """`uncertain` and `buy_again` together: what the log lists is adopted, what it does not list is bought."""
    plan = FaultPlan.of(
        Fault("submit", "dropped_after", match="prompt 0"),
        Fault("submit", "dropped_before", match="prompt 1"),
        Fault("log", "500"),
    )
    async with world(tmp_path, plan) as w:
        assert (await first_run(w, unavailable_after=PATIENT)).tally.uncertain == 2
        assert await retried(w, buy_again=True) == {}, "uncertain rows need their own word"
        before = await w.records()
        found = await retried(w, uncertain=True, buy_again=True)
        assert found["row0"].ok
        assert found["row1"].ok
        assert sorted(bought(w)) == ["prompt 0", "prompt 1", "prompt 2"]
        after = await w.records()
        assert (after["row0"].sunk, after["row0"].former) == (0, ())
        assert (after["row1"].sunk, after["row1"].former) == (PRICE, (before["row1"].client_request_id,))
        await w.audit()


async def test_an_uncertain_row_is_not_bought_again_while_the_log_cannot_be_read(tmp_path: Path) -> None:
    """No look, no purchase."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", match="prompt 0"), Fault("log", "500"))
    async with world(tmp_path, plan) as w:
        async with w.batch(unavailable_after=PATIENT) as batch:
            await batch.run(requests(1))
        assert (await retried(w, uncertain=True, buy_again=True))["row0"].stage is Stage.UNCERTAIN
        assert w.book.calls["submit"] == 1


# --------------------------------------------------------------- buying again


async def test_what_is_given_up_keeps_its_id_and_its_money(tmp_path: Path) -> None:
    """`buy_again`: a generation that does not end is given up; the journal knows it and holds its price."""
    async with world(tmp_path, FaultPlan.of(NEVER_ENDS)) as w:
        await first_run(w)
        lost = (await w.records())["row0"].generation_id
        async with w.batch() as batch:
            assert (await tried(batch, Retry(buy_again=True)))["row0"].ok
            tally = await batch.tally()
        record = (await w.records())["row0"]
        assert (record.sunk, record.former) == (PRICE, (lost,))
        assert record.generation_id not in {None, lost}
        assert (tally.done, tally.spent, tally.held) == (3, 3 * PRICE, PRICE)
        assert bought(w).count("prompt 0") == 2


@pytest.mark.parametrize(("operation", "kind"), [("job", "no_url"), ("poll", "404"), ("download", "404")])
async def test_a_video_that_is_not_to_be_had_is_bought_again_when_its_owner_says_so(
    tmp_path: Path, operation: str, kind: str
) -> None:
    """Finished without a link, forgotten by the service, or refused by the file host: asked once more, then bought."""
    async with world(tmp_path) as w:
        w.simulator.faults = FaultPlan.of(Fault(operation, kind, match="prompt 0"))
        async with w.batch() as batch:
            assert (await batch.run(requests(2))).tally.pending == 1
        lost = (await w.records())["row0"].generation_id or ""
        w.simulator.faults = FaultPlan.of() if operation == "job" else FaultPlan.of(Fault(operation, kind, match=lost))
        polls = w.book.polls_by_id[lost]
        found = await retried(w, buy_again=True)
        assert found["row0"].ok
        assert w.book.polls_by_id[lost] > polls, "it was bought without a question"
        assert (await w.records())["row0"].former == (lost,)


async def test_what_is_finished_meanwhile_is_fetched_and_not_bought(tmp_path: Path) -> None:
    """A row that is to be bought again is asked for first."""
    plan = FaultPlan.of(
        Fault("job", "late", match="prompt 0"),
        Fault("download", "404", match="prompt 1"),
        Fault("poll", "404", match="prompt 2"),
    )
    async with world(tmp_path, plan, durations=300.0) as w:
        assert (await first_run(w, give_up_after=1000)).tally.pending == 3
        await asyncio.sleep(3000)
        found = await retried(w, buy_again=True)
        assert all(outcome.ok for outcome in found.values())
        assert len(bought(w)) == 3
        await w.audit()


async def test_what_failed_meanwhile_was_free(tmp_path: Path) -> None:
    """A generation that the service has given up is no sunk money: the row is bought as a failed one is."""
    plan = FaultPlan.of(Fault("job", "error_named", match="prompt 0"), Fault("poll", "404", match="prompt 0"))
    async with world(tmp_path, plan) as w:
        await first_run(w, 1)
        assert (await retried(w, buy_again=True))["row0"].ok
        record = (await w.records())["row0"]
        assert (record.sunk, record.former) == (0, ())
        assert len(w.book.paid()) == 1


@pytest.mark.parametrize("kind", ["500", "html", "unknown", "dropped_before", "401"])
async def test_without_an_answer_nothing_is_bought_again(tmp_path: Path, kind: str) -> None:
    """Where the service does not say whether the video is there, the row stays aside as it was."""
    async with world(tmp_path, FaultPlan.of(NEVER_ENDS)) as w:
        await first_run(w)
        before = await w.records()
        w.simulator.faults = FaultPlan.of(Fault("poll", kind))
        async with w.batch() as batch:
            await batch.run(Retry(buy_again=True))
        assert await w.records() == before
        assert w.book.calls["submit"] == 3


async def test_a_full_disk_is_no_reason_to_buy_again(tmp_path: Path) -> None:
    """A download that fails on the way or at the disk leaves the row aside, whatever its owner said."""
    async with world(tmp_path, FaultPlan.of(Fault("download", "404", match="prompt 0"))) as w:
        await first_run(w)
        w.simulator.faults = FaultPlan.of(Fault("download", "500"))
        async with w.batch(unavailable_after=60) as batch:
            await batch.run(Retry(buy_again=True))
        record = (await w.records())["row0"]
        assert (record.stage, record.sunk) == (Stage.RENDERED, 0)
        assert w.book.calls["submit"] == 3


async def test_a_row_is_not_given_up_where_the_budget_has_no_room(tmp_path: Path) -> None:
    """Sunk money counts against the budget, and what cannot be bought again keeps its id."""
    async with world(tmp_path, FaultPlan.of(Fault("job", "never_ends"))) as w:
        await first_run(w, 2)
        async with w.batch(max_in_flight=1, budget=3 * 0.26) as batch:
            report = await batch.run(Retry(buy_again=True))
        assert isinstance(report.stopped, BudgetExceeded)
        assert (report.tally.done, report.tally.submitted) == (1, 1)
        assert report.tally.spent + report.tally.held == 3 * PRICE
        (aside,) = [record for record in (await w.records()).values() if record.stage is Stage.SUBMITTED]
        assert aside.set_aside
        assert aside.sunk == 0
        assert aside.generation_id is not None


async def test_an_uncertain_row_is_not_given_up_where_the_budget_has_no_room(tmp_path: Path) -> None:
    """It is set aside as it was, to be looked for again."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", match="prompt 0"))
    async with world(tmp_path, plan, log_listing="never") as w:
        await first_run(w, 2)
        async with w.batch(budget=2.5 * 0.26) as batch:
            report = await batch.run(Retry(uncertain=True, buy_again=True))
        assert isinstance(report.stopped, BudgetExceeded)
        record = (await w.records())["row0"]
        assert (record.stage, record.set_aside, record.sunk) == (Stage.UNCERTAIN, True, 0)
        assert w.book.calls["submit"] == 2


async def test_what_was_bought_again_may_be_given_up_again(tmp_path: Path) -> None:
    """Each time its owner says so: every generation stays known, and all their money."""
    async with world(tmp_path, FaultPlan.of(NEVER_ENDS)) as w:
        async with w.batch() as batch:
            await batch.run(requests(1))
        for _ in range(2):
            await retried(w, buy_again=True)
        record = (await w.records())["row0"]
        known = [*record.former, record.generation_id]
        assert known == [purchase.generation_id for purchase in w.book.bought()]
        assert (record.sunk, record.credits) == (2 * PRICE, PRICE)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05, 0.5, 3.0, 60.0, 400.0])
async def test_a_purchase_that_is_stopped_midway_loses_nothing(tmp_path: Path, moment: float) -> None:
    """Wherever it is stopped: each generation is a row's own or one of its former, and the next try goes on from there.

    No row is bought a third time.
    """
    plan = FaultPlan.of(Fault("job", "never_ends"), Fault("submit", "dropped_after", match="prompt 1"))
    async with world(tmp_path, plan, log_listing="never", durations=300.0, latency=0.02) as w:
        await first_run(w, 4)
        async with w.batch() as batch, batch.stream(Retry(uncertain=True, buy_again=True)):
            await asyncio.sleep(moment)
        await asyncio.sleep(600)
        found = await retried(w)
        assert all(outcome.ok for outcome in found.values() if outcome.stage not in {Stage.SUBMITTED, Stage.UNCERTAIN})
        records = await w.records()
        known = {i for r in records.values() for i in (r.generation_id, r.client_request_id, *r.former)}
        for purchase in w.book.bought():
            assert {purchase.generation_id, purchase.request_id} & known
        assert max(bought(w).count(f"prompt {i}") for i in range(4)) <= 2
        assert all(r.set_aside or r.stage is Stage.DONE for r in records.values())


# ------------------------------------------------------------------- choosing


async def test_keys_and_errors_choose(tmp_path: Path) -> None:
    """Only the rows named, only those with the error: together, both must hold; case does not count in an error."""
    plan = FaultPlan.of(
        Fault("submit", "400", match="prompt 0"),
        Fault("job", "error_named", match="prompt 1"),
        Fault("job", "error_named", match="prompt 2"),
    )
    async with world(tmp_path, plan) as w:
        assert (await first_run(w, 4)).tally.failed == 3
        async with w.batch() as batch:
            assert set(await tried(batch, Retry(errors=["invalidREQUEST"]))) == {"row0"}
            assert await tried(batch, Retry(keys=["row1", "row3"], errors=["InvalidRequest"])) == {}
            assert set(await tried(batch, Retry(keys=["row1", "row3"]))) == {"row1"}
            assert set(await tried(batch, Retry(errors=["generationfailed", "DiskFull"]))) == {"row2"}
        await w.audit()


async def test_an_unknown_key_is_named_and_nothing_is_bought(tmp_path: Path) -> None:
    """Each one that the journal does not know."""
    async with world(tmp_path, FaultPlan.of(Fault("job", "error_named"))) as w:
        await first_run(w, 2)
        async with w.batch() as batch:
            for attempt in (batch.choose, batch.run):
                with pytest.raises(ConfigurationError, match="'nobody', 'none'") as refused:
                    await attempt(Retry(keys=["row0", "none", "nobody"]))
                assert "row0" not in str(refused.value)
            assert w.book.calls["submit"] == 2
            assert (await batch.run(Retry())).tally.done == 2


def test_an_unknown_error_is_named_and_the_known_ones_are_listed() -> None:
    """By the names of the errors as they are documented."""
    with pytest.raises(ConfigurationError, match=r"'Timeout'.*GenerationOverdue.*Truncated"):
        Retry(errors=["Timeout", "DiskFull"])


def test_one_text_is_no_list() -> None:
    """Its letters would be taken for names."""
    with pytest.raises(ConfigurationError, match="list"):
        Retry(keys="DiskFull")
    with pytest.raises(ConfigurationError, match="list"):
        Retry(errors="DiskFull")


async def test_a_choice_tells_beforehand_what_is_done(tmp_path: Path) -> None:
    """How many are bought, bought again, followed and looked for; what is passed over, and what is left."""
    plan = FaultPlan.of(
        NEVER_ENDS,
        Fault("submit", "dropped_after", match="prompt 1"),
        Fault("job", "error_named", match="prompt 2"),
    )
    async with world(tmp_path, plan, log_listing="never") as w:
        await first_run(w, 4)
        async with w.batch() as batch:
            await batch.enrol([ImageToVideo(IMAGE_URL, "new", key="new")])
            tally, kind = await batch.tally(), (ImageToVideo(IMAGE_URL).model, 5)
            plain = await batch.choose(Retry())
            assert (plain.rows, dict(plain.new), plain.followed, plain.looked_for) == (2, {kind: 1}, 1, 0)
            assert plain.left(tally) == {Stage.PLANNED: 1, Stage.UNCERTAIN: 1}
            whole = await batch.choose(Retry(uncertain=True, buy_again=True))
            assert (whole.rows, dict(whole.bought_again), whole.followed, whole.looked_for) == (3, {kind: 2}, 0, 1)
            assert whole.left(tally) == {Stage.PLANNED: 1}
            named = await batch.choose(Retry(keys=["row1", "row2", "row3"], errors=["InvalidRequest"]))
            assert named.rows == 0
            assert set(named.passed_over) == {"row1", "row2", "row3"}
            assert named.left(tally) == {Stage.PLANNED: 1, Stage.FAILED: 1, Stage.SUBMITTED: 1, Stage.UNCERTAIN: 1}


async def test_many_rows_are_tried_again_a_page_at_a_time(tmp_path: Path) -> None:
    """More than a page of failed rows, and more set aside than may be delivered at once."""
    plan = FaultPlan.of(Fault("poll", "404", match="aside"), Fault("job", "error_named", match="failed"))
    rows = [ImageToVideo(IMAGE_URL, f"{kind} {i}", key=f"{kind}{i}") for i in range(70) for kind in ("aside", "failed")]
    async with world(tmp_path, plan) as w:
        async with w.batch(max_in_flight=300) as batch:
            report = await batch.run(rows)
        assert (report.tally.submitted, report.tally.failed) == (70, 70)
        w.simulator.faults = FaultPlan()
        found = await retried(w)
        assert len(found) == 140
        assert all(outcome.ok for outcome in found.values())
        assert len(w.book.bought()) == 210
        await w.audit()


async def test_rows_of_equal_content_share_what_is_tried_again(tmp_path: Path) -> None:
    """Twins that failed together: one is bought, the others share it."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}") for i in range(3)]
    async with world(tmp_path, FaultPlan.of(Fault("job", "error_named"))) as w:
        assert (await first_run(w, rows)).tally.failed == 3
        found = await retried(w)
        assert all(outcome.ok for outcome in found.values())
        assert len(w.book.paid()) == 1


# ------------------------------------------------------------- what else is told


async def test_a_report_can_be_asked_for_at_any_time(tmp_path: Path) -> None:
    """Also of a run that was cancelled: its own submits and polls, not those of the one before."""
    async with world(tmp_path) as w, w.batch() as batch:
        await batch.run(requests(2))
        async with batch.stream(requests(5)[2:]):
            await asyncio.sleep(20)
            report = await batch.report()
        assert (report.submits, report.tally.submitted) == (3, 3)
        assert 20 <= report.seconds < 21
        later = await batch.report()
        assert later.submits == 3
        assert later.polls >= report.polls


async def test_a_row_that_is_open_and_was_edited_is_told_as_edited(tmp_path: Path) -> None:
    """Not as one that stands in the source twice: it stands there once, with other words than were bought."""
    async with world(tmp_path, FaultPlan.of(Fault("job", "late"))) as w:
        async with w.batch() as batch, batch.stream(requests(1)):
            await asyncio.sleep(30)
        async with w.batch() as batch:
            edited = [ImageToVideo(IMAGE_URL, "another prompt", key="row0")]
            async with batch.stream(edited) as outcomes:
                errors = [outcome.error async for outcome in outcomes if outcome.error is not None]
        (error,) = errors
        assert isinstance(error, RequestChanged)
        assert "was edited after money stood behind it" in str(error)
        assert error.generation_id == w.book.bought()[0].generation_id
        assert len(w.book.bought()) == 1


async def test_samples_are_bought_each_for_itself(tmp_path: Path) -> None:
    """The first shares with the plain row, the others with nobody."""
    plain = ImageToVideo(IMAGE_URL, "a cat", key="cat")
    samples = [ImageToVideo(IMAGE_URL, "a cat", key=f"cat.{n}", sample=n) for n in (1, 2, 3)]
    async with world(tmp_path) as w, w.batch() as batch:
        found = await outcomes_of(batch, [plain, *samples])
        assert all(outcome.ok for outcome in found.values())
        assert len(w.book.bought()) == 3
        assert found["cat"].generation_id == found["cat.1"].generation_id
        assert len({outcome.generation_id for outcome in found.values()}) == 3
