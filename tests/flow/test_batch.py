"""The bulk job, whole: virtual time, real sockets, real SQLite, real files."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kling_async import (
    AnswerLost,
    AuthenticationFailed,
    ConfigurationError,
    ImageToVideo,
    JournalLocked,
    OutOfCredit,
    RequestChanged,
    ServiceUnavailable,
    Stage,
)
from kling_async.simulator import Fault, FaultPlan
from tests.flow.harness import IMAGE_URL, outcomes_of, read, requests, world
from tests.torture.scale import THOROUGH

pytestmark = pytest.mark.looptime

ROWS = 1_000 if THOROUGH else 300
"""Each trouble of a plan meets some of 300, too."""


async def test_many_rows_with_troubles_all_end(tmp_path: Path) -> None:
    """100 at once, errors mixed in: each ends DONE or FAILED with its reason, and none is bought twice."""
    plan = FaultPlan.of(
        seed=3,
        submit={"429_seconds": 0.02, "502_after": 0.01, "dropped_after": 0.01, "503": 0.01, "refused": 0.01},
        poll={"500": 0.02, "html": 0.01, "404_fresh": 0.02, "unknown": 0.01, "dropped_before": 0.01},
        job={"error_named": 0.02, "error_text": 0.01, "succeeded": 0.05},
        download={"cut": 0.03, "500": 0.02, "html": 0.01, "expired": 0.01, "truncated": 0.01},
    )
    async with world(tmp_path, plan, log_listing="mixed") as w, w.batch(poll_interval_min=20.0) as batch:
        outcomes = await outcomes_of(batch, requests(ROWS))
        stages = Counter(outcome.stage for outcome in outcomes.values())
        assert len(outcomes) == ROWS
        # What the log never lists is set aside: it may have been bought, and is not bought again.
        aside = [outcome for outcome in outcomes.values() if outcome.stage is Stage.UNCERTAIN]
        assert all(isinstance(outcome.error, AnswerLost) for outcome in aside)
        assert stages[Stage.DONE] + stages[Stage.FAILED] + len(aside) == ROWS
        assert stages[Stage.DONE] > 0.9 * ROWS
        assert all(outcome.error for outcome in outcomes.values() if outcome.stage is Stage.FAILED)
        lost = {purchase.request_id for purchase in w.book.paid()} - {
            record.client_request_id for record in (await w.records()).values()
        }
        assert not lost
        assert w.book.max_open_at_once <= 100
        assert not w.book.key_sent_to_cdn
        assert w.book.duplicates() == []


async def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    """A finished job run again submits nothing, polls nothing, fetches nothing, and says that each row is done."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.run(requests(20))
        calls = dict(w.book.calls)
        async with w.batch() as batch:
            outcomes = await outcomes_of(batch, requests(20))
            report = await batch.run(requests(20))
        assert all(outcome.ok and outcome.resumed for outcome in outcomes.values())
        assert (report.submits, report.polls, report.fresh) == (0, 0, 0)
        assert {name: count for name, count in w.book.calls.items() if name != "price"} == {
            name: count for name, count in calls.items() if name != "price"
        }
        await w.audit()


@pytest.mark.parametrize("kind", ["dropped_after", "500_after", "504_after", "html_after", "no_id_after", "cut_after"])
@pytest.mark.parametrize("listing", ["acceptance", "end", "late"])
async def test_a_lost_answer_is_found_again_and_not_bought_twice(tmp_path: Path, kind: str, listing: str) -> None:
    """A submit whose answer was lost is looked up in the usage log, whenever that lists it, and adopted."""
    plan = FaultPlan.of(Fault("submit", kind, at=(1, 3), inference_id=False))
    async with world(tmp_path, plan, log_listing=listing) as w, w.batch() as batch:
        outcomes = await outcomes_of(batch, requests(5))
        assert all(outcome.ok for outcome in outcomes.values())
        assert len(w.book.bought()) == 5
        await w.audit()


async def test_an_answer_that_names_the_generation_is_watched_at_once(tmp_path: Path) -> None:
    """A 5xx with `x-inference-id` is an accepted submit: no look-up is needed."""
    plan = FaultPlan.of(Fault("submit", "502_after", at=(1,), inference_id=True))
    async with world(tmp_path, plan) as w, w.batch() as batch:
        outcomes = await outcomes_of(batch, requests(1))
        assert outcomes["row0"].ok
        assert w.book.calls["log"] == 0
        await w.audit()


async def test_what_is_never_listed_is_set_aside_and_keeps_its_money(tmp_path: Path) -> None:
    """An unfound submit is set aside as uncertain, held, never bought again; a later run asks once more."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing="never") as w:
        async with w.batch() as batch:
            report = await batch.run(requests(3))
        assert (report.tally.done, report.tally.uncertain) == (2, 1)
        assert report.tally.held > 0
        reads = w.book.calls["log"]
        async with w.batch() as batch:
            outcomes = await outcomes_of(batch, requests(3))
        (aside,) = [outcome for outcome in outcomes.values() if outcome.stage is Stage.UNCERTAIN]
        assert isinstance(aside.error, AnswerLost)
        assert aside.error.client_request_id is not None
        assert w.book.calls["log"] == reads + 1
        assert w.book.calls["submit"] == 3


async def test_resubmit_buys_an_unfound_row_again_only_when_told(tmp_path: Path) -> None:
    """`on_uncertain="resubmit"` submits an unfound row again, after it was looked for."""
    plan = FaultPlan.of(Fault("submit", "dropped_before", at=(1,)))
    async with world(tmp_path, plan) as w, w.batch(on_uncertain="resubmit", uncertain_after=600) as batch:
        outcomes = await outcomes_of(batch, requests(1))
        assert outcomes["row0"].ok
        assert w.book.calls["submit"] == 2
        await w.audit()


async def test_an_outage_of_ten_minutes_fails_no_row(tmp_path: Path) -> None:
    """Ten minutes without the service in the midst of a job: nothing fails, everything ends DONE."""
    async with world(tmp_path) as w, w.batch(max_in_flight=20) as batch, asyncio.TaskGroup() as group:

        async def outage() -> None:
            await asyncio.sleep(200)
            await w.simulator.stop_listening()
            await asyncio.sleep(600)
            await w.simulator.listen_again()

        group.create_task(outage())
        outcomes = await outcomes_of(batch, requests(100))
        assert all(outcome.ok for outcome in outcomes.values())
        await w.audit()


async def test_a_service_that_stays_away_ends_the_run_and_every_row_stands(tmp_path: Path) -> None:
    """Half an hour without one usable answer ends the run with ServiceUnavailable; a later run goes on."""
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight=10) as batch:
            async with batch.stream(requests(30)) as outcomes:
                first = await anext(outcomes)
                await w.simulator.stop_listening()
                with pytest.raises(ServiceUnavailable):
                    async for _ in outcomes:
                        pass
            assert (await batch.tally()).failed == 0
        await w.simulator.listen_again()
        async with w.batch(max_in_flight=10) as batch:
            outcomes_again = await outcomes_of(batch, requests(30))
        assert first.key in outcomes_again
        assert all(outcome.ok for outcome in outcomes_again.values())
        await w.audit()


async def test_without_credit_submitting_stops_and_what_is_open_is_finished(tmp_path: Path) -> None:
    """403 without credit closes the tap: no more submits, the open ones end DONE, the rest waits."""
    async with world(tmp_path, balance_usd=0.26 * 4) as w:
        async with w.batch(max_in_flight=3) as batch:
            report = await batch.run(requests(10))
        assert isinstance(report.stopped, OutOfCredit)
        assert (report.tally.done, report.tally.failed) == (4, 0)
        assert len(w.book.bought()) == 4
        await w.audit()


async def test_a_wrong_key_stops_submitting(tmp_path: Path) -> None:
    """401 stops the run, and nothing is bought."""
    async with world(tmp_path) as w, w.batch(api_key="wrong") as batch:
        report = await batch.run(requests(10))
        assert isinstance(report.stopped, AuthenticationFailed)
        assert report.tally.pending == report.tally.rows
        assert w.book.bought() == []


async def test_a_passing_401_closes_nothing(tmp_path: Path) -> None:
    """One refused key, while the balance call takes the same key, only pauses."""
    plan = FaultPlan.of(Fault("submit", "401", at=(2,)))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=2) as batch:
        report = await batch.run(requests(5))
        assert report.stopped is None
        assert report.tally.done == 5
        await w.audit()


async def test_the_budget_is_never_passed(tmp_path: Path) -> None:
    """The budget holds over 500 rows at once: what is spent and held never passes it, and the run says why it ended."""
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight=500, budget=2.7) as batch:
            report = await batch.run(requests(500))
        assert type(report.stopped).__name__ == "BudgetExceeded"
        assert len(w.book.bought()) == 10
        assert report.tally.done == 10
        await w.audit()


async def test_leaving_the_stream_early_stops_cleanly_and_a_later_run_goes_on(tmp_path: Path) -> None:
    """Leaving the block after a few outcomes loses nothing and buys nothing twice."""
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight=10) as batch:
            async with batch.stream(requests(50)) as outcomes:
                async for _ in outcomes:
                    break
            submits = w.book.calls["submit"]
            await asyncio.sleep(1000)
            assert w.book.calls["submit"] == submits
        async with w.batch(max_in_flight=10) as batch:
            assert all(outcome.ok for outcome in (await outcomes_of(batch, requests(50))).values())
        await w.audit()


async def test_cancelling_the_caller_lets_posts_be_answered_and_saved(tmp_path: Path) -> None:
    """A POST that is out when its caller is cancelled gets its answer saved: nothing bought is lost."""
    async with world(tmp_path, latency=4.0) as w:

        async def run() -> None:
            async with w.batch(max_in_flight=10) as batch:
                await batch.run(requests(10))

        task = asyncio.create_task(run())
        # The price is told after 4 s; then every POST is out, to be answered at 8 s.
        await asyncio.sleep(6)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        records = await w.records()
        bought = {purchase.generation_id for purchase in w.book.bought()}
        assert bought
        assert bought == {record.generation_id for record in records.values()} - {None}
        assert {record.stage for record in records.values()} <= {Stage.SUBMITTED, Stage.PLANNED}


async def test_an_exception_of_the_caller_is_not_wrapped(tmp_path: Path) -> None:
    """What the caller raises inside the blocks comes out as it is."""
    async with world(tmp_path) as w:
        with pytest.raises(LookupError, match="the caller's own"):
            async with w.batch() as batch, batch.stream(requests(5)) as outcomes:
                await anext(outcomes)
                raise LookupError("the caller's own")


async def test_a_source_is_read_no_further_than_slots_and_a_small_buffer(tmp_path: Path) -> None:
    """Back-pressure: an endless async source is read as slots free up, and a slow consumer holds everything back."""
    read = 0

    async def endless() -> AsyncIterator[ImageToVideo]:
        nonlocal read
        while True:
            read += 1
            yield ImageToVideo(IMAGE_URL, f"prompt {read}", carry={"number": read})

    async with world(tmp_path) as w, w.batch(max_in_flight=5, downloads_at_once=2) as batch:
        async with batch.stream(endless()) as outcomes:
            await anext(outcomes)
            await asyncio.sleep(20_000)
            assert read <= 5 + 4 * 2 + 3
            seen = [(await anext(outcomes)).carry["number"] for _ in range(20)]
        assert len(set(seen)) == 20


async def test_two_batches_in_one_folder(tmp_path: Path) -> None:
    """The second run at once is told who holds the folder."""
    async with world(tmp_path) as w, w.batch():
        with pytest.raises(JournalLocked, match=r"in use by process \d+"):
            async with w.batch():
                pass


async def test_a_folder_belongs_to_one_journal(tmp_path: Path) -> None:
    """A journal elsewhere that is forgotten at the next start is refused: nothing is bought again."""
    elsewhere = tmp_path / "elsewhere" / "j.db"
    async with world(tmp_path / "out") as w:
        async with w.batch(journal=elsewhere) as batch:
            assert (await batch.run(requests(2))).tally.done == 2
        with pytest.raises(ConfigurationError, match=r"--journal .*elsewhere"):
            async with w.batch():
                pass
        with pytest.raises(ConfigurationError, match=r"--journal .*elsewhere"):
            async with w.batch(journal=tmp_path / "another.db"):
                pass
        async with w.batch(journal=elsewhere) as batch:
            assert (await batch.run(requests(2))).submits == 0
        assert len(w.book.bought()) == 2


async def test_a_folder_with_its_own_journal_takes_no_other(tmp_path: Path) -> None:
    """`--journal` given for a folder that began without it is refused: nothing is bought again."""
    async with world(tmp_path / "out") as w:
        async with w.batch() as batch:
            await batch.run(requests(1))
        with pytest.raises(ConfigurationError, match="leave --journal out"):
            async with w.batch(journal=tmp_path / "another.db"):
                pass
        assert len(w.book.bought()) == 1


async def test_a_folder_belongs_to_one_service(tmp_path: Path) -> None:
    """A journal of another service's address is refused once something was bought there: its ids mean nothing here."""
    async with world(tmp_path) as w:
        async with w.batch(base_url="http://127.0.0.1:9"):
            pass
        async with w.batch() as batch:
            await batch.run(requests(1))
        with pytest.raises(ConfigurationError, match="belongs to the service"):
            async with w.batch(base_url="http://127.0.0.1:9"):
                pass


async def test_an_edited_row_is_refused_once_money_stands_behind_it(tmp_path: Path) -> None:
    """A row edited after it was bought is refused by key; nothing is bought for it."""
    async with world(tmp_path) as w, w.batch() as batch:
        await batch.run(requests(2))
        edited = [ImageToVideo(IMAGE_URL, "another prompt", key="row0")]
        outcomes = await outcomes_of(batch, edited)
        assert isinstance(outcomes["row0"].error, RequestChanged)
        assert len(w.book.bought()) == 2


async def test_a_row_that_stands_twice_is_one_row(tmp_path: Path) -> None:
    """The same key twice in a source is bought once, however close together they stand."""
    async with world(tmp_path) as w, w.batch(max_in_flight=3) as batch:
        rows = [request for request in requests(8) for _ in range(3)]
        report = await batch.run(rows)
        assert (report.tally.done, report.submits) == (8, 8)
        await w.audit()


async def test_rows_of_equal_content_share_one_generation(tmp_path: Path) -> None:
    """Ten keys, one image and prompt: one is bought, all get their name, their line and their outcome."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}", carry={"n": i}) for i in range(10)]
    async with world(tmp_path) as w:
        async with w.batch(max_in_flight=4) as batch:
            outcomes = await outcomes_of(batch, rows[:7])
        async with w.batch(max_in_flight=4) as batch:
            later = await outcomes_of(batch, rows)
            tally = await batch.tally()
        assert all(outcome.ok for outcome in (*outcomes.values(), *later.values()))
        assert len(w.book.bought()) == 1
        assert (tally.done, tally.shared, tally.spent) == (10, 9, 520_000)
        assert len({outcome.sha256 for outcome in later.values()}) == 1
        assert len((tmp_path / "metadata.jsonl").read_text().splitlines()) == 10
        assert {outcome.carry["n"] for outcome in later.values()} == set(range(10))


async def test_a_twin_of_a_video_that_is_gone_is_fetched_not_bought(tmp_path: Path) -> None:
    """Where the shared file was deleted or changed, the video is fetched again by its generation."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}") for i in range(2)]
    async with world(tmp_path) as w, w.batch() as batch:
        await batch.run(rows[:1])
        (tmp_path / "videos" / "twin0.mp4").write_bytes(b"somebody wrote over it")
        outcomes = await outcomes_of(batch, rows)
        assert outcomes["twin1"].ok
        assert outcomes["twin1"].path is not None
        assert await read(outcomes["twin1"].path) == await w.simulator.served_bytes(w.book.paid()[0].generation_id)
        assert len(w.book.bought()) == 1


@pytest.mark.parametrize(("operation", "kind"), [("job", "error_named"), ("submit", "400_moderation")])
async def test_twins_of_a_row_that_failed_fail_with_it(tmp_path: Path, operation: str, kind: str) -> None:
    """The same content is not sent again in this run, to fail again; a later one tries one of them for all."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}") for i in range(4)]
    plan = FaultPlan.of(Fault(operation, kind, at=(1,)))
    async with world(tmp_path, plan, latency=1.0) as w, w.batch() as batch:
        outcomes = await outcomes_of(batch, rows)
        assert {outcome.stage for outcome in outcomes.values()} == {Stage.FAILED}
        assert len({str(outcome.error) for outcome in outcomes.values()}) == 1
        assert w.book.calls["submit"] == 1
        report = await batch.run(rows, retry_failed=True)
        assert (report.tally.done, report.tally.shared, report.submits) == (4, 3, 1)
        assert len(w.book.paid()) == 1


async def test_a_late_twin_of_a_row_that_failed_fails_with_it(tmp_path: Path) -> None:
    """Also where the other has ended before this one's turn came."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}") for i in range(2)]
    plan = FaultPlan.of(Fault("job", "error_named", match="the same"))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=1) as batch:
        outcomes = await outcomes_of(batch, [rows[0], *requests(3), rows[1]])
        assert sorted(key for key, outcome in outcomes.items() if not outcome.ok) == ["twin0", "twin1"]
        assert w.book.calls["submit"] == 4
        assert (await batch.run(rows, retry_failed=True)).submits == 1


async def test_a_twin_of_a_row_that_failed_for_the_accounts_limit_is_submitted_itself(tmp_path: Path) -> None:
    """What was no fault of the content says nothing of the next row that has it."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}") for i in range(3)]
    plan = FaultPlan.of(Fault("job", "error_1303", at_most=20))
    async with world(tmp_path, plan) as w, w.batch() as batch:
        report = await batch.run(rows)
        assert (report.tally.failed, report.tally.done, report.tally.shared) == (1, 2, 1)
        assert len(w.book.paid()) == 1


async def test_a_twin_of_a_video_that_is_gone_for_good_says_so(tmp_path: Path) -> None:
    """Its file was deleted and the service has forgotten it: nothing is bought, and the outcome tells what is true."""
    rows = [ImageToVideo(IMAGE_URL, "the same", key=f"twin{i}") for i in range(2)]
    async with world(tmp_path) as w, w.batch() as batch:
        await batch.run(rows[:1])
        (tmp_path / "videos" / "twin0.mp4").rename(tmp_path / "kept.mp4")
        w.simulator.faults = FaultPlan.of(Fault("poll", "404"))
        outcomes = await outcomes_of(batch, rows)
        twin = outcomes["twin1"]
        assert (twin.stage, type(twin.error).__name__) == (Stage.PLANNED, "DownloadError")
        assert "whose video is gone from the folder" in str(twin.error)
        assert "put twin0.mp4 back" in str(twin.error)
        (tmp_path / "kept.mp4").rename(tmp_path / "videos" / "twin0.mp4")
        assert (await outcomes_of(batch, rows))["twin1"].ok
        assert len(w.book.bought()) == 1


async def test_many_lost_answers_stop_submits_only_until_the_log_was_read(tmp_path: Path) -> None:
    """While more than three rows are uncertain, submits stop; once the log was read, they go on."""
    plan = FaultPlan.of(Fault("submit", "dropped_before", at=(1, 2, 3, 4, 5, 6)))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=20) as batch:
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        async with batch.stream(requests(12)) as outcomes:
            found = [await anext(outcomes) for _ in range(6)]
        assert all(outcome.ok for outcome in found)
        assert loop.time() - began < 1500
        assert w.book.duplicates() == []


async def test_a_row_is_resubmitted_only_after_a_last_whole_look(tmp_path: Path) -> None:
    """A log that answered once, and fails when the time is over, is not asked: nothing is bought again."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), Fault("log", "500", since=300))
    async with world(tmp_path, plan, log_listing="never") as w:
        async with w.batch(on_uncertain="resubmit", uncertain_after=600) as batch:
            outcomes = await outcomes_of(batch, requests(1))
        assert outcomes["row0"].stage is Stage.UNCERTAIN
        assert w.book.calls["submit"] == 1


async def test_another_keys_uncertain_row_is_not_asked(tmp_path: Path) -> None:
    """A row whose answer was lost under one key is not looked for, nor bought again, under another."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing="never", keys=("sim-key", "second")) as w:
        async with w.batch() as batch:
            await batch.run(requests(1))
        async with w.batch(api_key="second", on_uncertain="resubmit") as batch:
            outcomes = await outcomes_of(batch, requests(1))
        assert "another key" in str(outcomes["row0"].error)
        assert w.book.calls["submit"] == 1


async def test_one_key_with_two_contents_is_refused_within_a_source(tmp_path: Path) -> None:
    """The second content of a key that is in flight is told as an error, and the first is what is bought and named."""
    rows = [ImageToVideo(IMAGE_URL, "the first", key="a"), ImageToVideo(IMAGE_URL, "the second", key="a")]
    async with world(tmp_path) as w, w.batch() as batch, batch.stream(rows) as outcomes:
        found = [outcome async for outcome in outcomes]
        assert sorted(type(outcome.error).__name__ for outcome in found) == ["NoneType", "RequestChanged"]
        assert [purchase.prompt for purchase in w.book.bought()] == ["the first"]
        assert (await w.records())["a"].request.prompt == "the first"


async def test_a_source_that_waits_for_an_outcome_does_not_keep_a_stopped_run(tmp_path: Path) -> None:
    """A source that gives its next row only after an outcome is left when no more may be submitted."""
    got = asyncio.Event()

    async def one_by_one() -> AsyncIterator[ImageToVideo]:
        for request in requests(5):
            yield request
            await got.wait()
            got.clear()

    async with world(tmp_path, balance_usd=0.3) as w, w.batch() as batch:
        with pytest.raises(OutOfCredit):
            async with batch.stream(one_by_one()) as outcomes:
                async for _ in outcomes:
                    got.set()


async def test_what_is_carried_may_change_between_runs(tmp_path: Path) -> None:
    """A carried column edited before the video is there comes out as it is now; nothing is bought for it."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.enrol([ImageToVideo(IMAGE_URL, "a cat", key="a", carry={"label": "dog"})])
        async with w.batch() as batch:
            await batch.run([ImageToVideo(IMAGE_URL, "a cat", key="a", carry={"label": "cat"})])
        assert '"label": "cat"' in (tmp_path / "metadata.jsonl").read_text()


async def test_a_cancelled_run_leaves_its_failures(tmp_path: Path) -> None:
    """However a run ends, `failures.jsonl` says what the journal says."""
    plan = FaultPlan.of(Fault("job", "error_named", at=(1,)))
    async with world(tmp_path, plan, durations=(10.0, 1000.0)) as w, w.batch() as batch:
        async with batch.stream(requests(2)) as outcomes:
            assert (await anext(outcomes)).stage is Stage.FAILED
        assert "row0" in (tmp_path / "failures.jsonl").read_text()


async def test_failed_rows_wait_until_they_are_retried(tmp_path: Path) -> None:
    """A failed row stays failed in a plain run, and is submitted again when that is asked for."""
    plan = FaultPlan.of(Fault("job", "error_named", at=(1,)))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=1) as batch:
        assert (await batch.run(requests(2))).tally.failed == 1
        assert (await batch.run(requests(2))).submits == 0
        report = await batch.run(requests(2), retry_failed=True)
        assert (report.tally.done, report.tally.failed, report.submits) == (2, 0, 1)
        await w.audit()


async def test_too_many_at_once_as_a_failed_job_counts_as_capacity(tmp_path: Path) -> None:
    """A generation that failed with Kling's 1303 is submitted again: it was free, and no fault of the row."""
    plan = FaultPlan.of(Fault("job", "error_1303", at=(1, 2)))
    async with world(tmp_path, plan) as w, w.batch(max_in_flight=4) as batch:
        report = await batch.run(requests(4))
        assert (report.tally.done, report.tally.failed) == (4, 0)
        await w.audit()


async def test_a_generation_that_never_ends_is_set_aside_with_its_id(tmp_path: Path) -> None:
    """An overdue row is set aside, keeps its id and its money, and does not keep the run from ending."""
    plan = FaultPlan.of(Fault("job", "never_ends", at=(1,)))
    async with world(tmp_path, plan) as w, w.batch() as batch:
        outcomes = await outcomes_of(batch, requests(3))
        (overdue,) = [outcome for outcome in outcomes.values() if not outcome.ok]
        assert type(overdue.error).__name__ == "GenerationOverdue"
        assert overdue.generation_id is not None
        assert overdue.stage is Stage.SUBMITTED


async def test_auto_finds_the_limit_of_the_account(tmp_path: Path) -> None:
    """`auto` ends near a limit that nobody told it, and loses no row to the refusals on the way."""
    async with world(tmp_path, limit=12) as w, w.batch(max_in_flight="auto") as batch:
        report = await batch.run(requests(120))
        assert report.tally.done == 120
        assert w.book.max_running_at_once == 12
        await w.audit()


async def test_metadata_has_a_line_for_each_video(tmp_path: Path) -> None:
    """The metadata file has exactly one line per DONE row, also over several runs."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.run(requests(5))
        async with w.batch() as batch:
            await batch.run(requests(9))
        lines = (tmp_path / "metadata.jsonl").read_text().splitlines()
        assert len(lines) == 9
        assert all(line.startswith('{"file_name": "videos/row') for line in lines)


async def test_what_was_bought_just_now_is_not_asked_at_once(tmp_path: Path) -> None:
    """However long its POST took to be sent: it was accepted a moment ago, and a poll would only tell so."""
    async with world(tmp_path, latency=2.0, durations=300.0) as w, w.batch(poll_lag=20.0) as batch:
        job = asyncio.ensure_future(batch.run(requests(20)))
        await asyncio.sleep(30)
        assert len(w.book.bought()) == 20
        assert w.book.calls["poll"] == 0
        assert (await job).tally.done == 20
        assert w.book.calls["poll"] >= 20
        learned = batch._crew.poller.learned()
        assert sum(kind["seen"] for kind in learned.values()) == pytest.approx(20, rel=0.05)
