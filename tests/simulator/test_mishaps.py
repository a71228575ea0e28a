"""Every trouble of the API and of jobs does what its name says, seen through a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from attrs import frozen

from kling_async.simulator import TROUBLES, Fault, FaultPlan
from kling_async.simulator.stamps import read_http_date

if TYPE_CHECKING:
    from tests.simulator.conftest import Reply, Visit

pytestmark = pytest.mark.looptime


@frozen(kw_only=True)
class Seen:
    """What a visitor sees of a trouble."""

    status: int = 0
    """HTTP status; 0: no answer."""

    kind: str = ""
    """How the content type begins."""

    words: str = ""
    """What the body contains."""

    failed: bool = False
    """Whether the call failed."""

    timed_out: bool = False
    """Whether it failed by waiting too long."""

    headers: tuple[str, ...] = ()
    """Headers that are there."""


PROBLEM, HTML, PLAIN = "application/problem+json", "text/html", "application/json"
GONE = Seen(failed=True)
SILENT = Seen(failed=True, timed_out=True)
SEEN = {
    "refused": GONE,
    "dropped_before": GONE,
    "dropped_after": GONE,
    "stalled_before": SILENT,
    "stalled_after": SILENT,
    "cut_after": Seen(status=200, kind=PLAIN, failed=True),
    "slow_after": Seen(status=200, kind=PLAIN, words="queued"),
    "400": Seen(status=400, kind=PROBLEM),
    "400_moderation": Seen(status=400, kind=PROBLEM, words="risk control"),
    "401": Seen(status=401, kind=PROBLEM),
    "403": Seen(status=403, kind=PROBLEM),
    "403_credit": Seen(status=403, kind=PROBLEM, words="err_insufficent_credits"),
    "403_html": Seen(status=403, kind=HTML),
    "404": Seen(status=404, kind=PROBLEM, words="Inference not found"),
    "408": Seen(status=408, kind=PROBLEM),
    "408_after": Seen(status=408, kind=PROBLEM),
    "429": Seen(status=429, kind=PROBLEM),
    "429_seconds": Seen(status=429, kind=PROBLEM, headers=("Retry-After",)),
    "429_date": Seen(status=429, kind=PROBLEM, headers=("Retry-After",)),
    "429_1302": Seen(status=429, kind=PROBLEM, words="1302"),
    "429_1303": Seen(status=429, kind=PROBLEM, words="1303"),
    "429_arrears": Seen(status=429, kind=PROBLEM, words="code 110"),
    "500": Seen(status=500, kind=PROBLEM),
    "500_after": Seen(status=500, kind=PROBLEM),
    "502": Seen(status=502, kind=HTML),
    "502_after": Seen(status=502, kind=HTML),
    "503": Seen(status=503, kind=PROBLEM),
    "503_after": Seen(status=503, kind=PROBLEM),
    "503_html": Seen(status=503, kind=HTML),
    "503_html_after": Seen(status=503, kind=HTML),
    "504": Seen(status=504, kind=HTML),
    "504_after": Seen(status=504, kind=HTML),
    "524": Seen(status=524, kind=HTML, words="A Timeout Occurred"),
    "524_after": Seen(status=524, kind=HTML),
    **{
        status: Seen(status=int(status), kind=HTML, headers=("Location",))
        for status in ("301", "302", "303", "307", "308")
    },
    "html": Seen(status=200, kind=HTML),
    "html_after": Seen(status=200, kind=HTML),
    "not_json_after": Seen(status=200, kind=PLAIN),
    "empty_after": Seen(status=200, kind=PLAIN),
    "no_id_after": Seen(status=200, kind=PLAIN, words="queued"),
    "generation_id_after": Seen(status=200, kind=PLAIN, words='"generation_id":', headers=("x-inference-id",)),
    "202_after": Seen(status=202, kind=PLAIN, words='"id":'),
    "404_fresh": Seen(status=404, kind=PROBLEM, words="Inference not found"),
    "unknown": Seen(status=200, kind=PLAIN, words='"status":"unknown"'),
    "leaked_status": Seen(status=200, kind=PLAIN),
}
API = ("submit", "poll", "log", "balance", "price")


def check(reply: Reply, seen: Seen) -> None:
    """Assert that a reply looks as foreseen."""
    assert (reply.status, reply.failure is not None) == (seen.status, seen.failed)
    assert reply.headers.get("Content-Type", "").startswith(seen.kind)
    assert seen.words in reply.body.decode()
    assert (reply.failure is TimeoutError or reply.failure is aiohttp.ServerTimeoutError) == seen.timed_out
    assert all(name in reply.headers for name in seen.headers)


@pytest.mark.parametrize("kind", TROUBLES["submit"])
async def test_submit(visit: Visit, kind: str) -> None:
    """A trouble of a submit is seen as foreseen, and a job was made if and only if the kind ends in `_after`."""
    async with visit(FaultPlan.of(Fault("submit", kind, at=(1,)))) as visitor:
        reply = await visitor.submit(rid="row.1")
        check(reply, SEEN[kind])
        assert len(visitor.sim.book.bought()) == kind.endswith("_after")
        assert visitor.sim.book.submits_seen == 1
        assert visitor.sim.book.troubles == {("submit", kind): 1}
        assert (await visitor.submit()).status == 200


@pytest.mark.parametrize("kind", TROUBLES["poll"])
async def test_poll(visit: Visit, kind: str) -> None:
    """A trouble of a poll is seen as foreseen, and the next poll is answered as if nothing had happened."""
    async with visit(FaultPlan.of(Fault("poll", kind, at=(1,)))) as visitor:
        generation_id = await visitor.bought()
        check(await visitor.poll(generation_id), SEEN[kind])
        assert (await visitor.poll(generation_id)).json["id"] == generation_id
        assert visitor.sim.book.polls_by_id == {generation_id: 2}


@pytest.mark.parametrize("operation", ["log", "balance", "price"])
@pytest.mark.parametrize("kind", ["dropped_before", "stalled_after", "429_seconds", "502", "302", "not_json_after"])
async def test_other_calls(visit: Visit, operation: str, kind: str) -> None:
    """Troubles befall the log, the balance and the price as well."""
    paths = {"log": "/v2/logs?period=1d", "balance": "/v2/billing", "price": "/v1/models"}
    async with visit(FaultPlan.of(Fault(operation, kind, at=(1,)))) as visitor:
        check(await visitor.api("GET", paths[operation]), SEEN[kind])
        assert (await visitor.api("GET", paths[operation])).status == 200


def test_all_are_seen() -> None:
    """The table above holds every trouble of the API."""
    assert {kind for operation in API for kind in TROUBLES[operation]} == set(SEEN)


BODIES = {"problem": PROBLEM, "older": PLAIN, "html": HTML, "text": "text/plain", "empty": "text/plain"}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["500", "503_after", "403_credit", "524_after"])
async def test_bodies(visit: Visit, kind: str, body: str) -> None:
    """An error comes with the body that the fault asks for."""
    async with visit(FaultPlan.of(Fault("submit", kind, body=body))) as visitor:
        reply = await visitor.submit()
        assert reply.status == int(kind[:3])
        assert reply.headers["Content-Type"].startswith(BODIES[body])
        assert (reply.body == b"") == (body == "empty")
        assert body != "older" or reply.json["statusCode"] == int(kind[:3])


@pytest.mark.parametrize("kind", ["500_after", "503_html_after", "html_after", "not_json_after", "no_id_after"])
async def test_inference_id(visit: Visit, kind: str) -> None:
    """A bad answer carries the job's id in a header if the fault says so, and else does not."""
    for carried in (True, None):
        async with visit(FaultPlan.of(Fault("submit", kind, inference_id=carried))) as visitor:
            reply = await visitor.submit()
            (purchase,) = visitor.sim.book.bought()
            assert reply.headers.get("x-inference-id") == (purchase.generation_id if carried else None)


async def test_no_id(visit: Visit) -> None:
    """`no_id_after` leaves out the id and nothing else."""
    async with visit(FaultPlan.of(Fault("submit", "no_id_after"))) as visitor:
        assert set((await visitor.submit()).json) == {"status", "meta"}


@pytest.mark.parametrize("kind", ["not_json_after", "cut_after"])
async def test_torn_json(visit: Visit, kind: str) -> None:
    """A torn answer is the beginning of the right one, and no JSON."""
    async with visit(FaultPlan.of(Fault("submit", kind))) as visitor:
        reply = await visitor.submit()
        assert reply.body.startswith(b'{"id":')
        with pytest.raises(json.JSONDecodeError):
            reply.json  # noqa: B018


async def test_slow(visit: Visit) -> None:
    """`slow_after` takes effect at once and answers later, on the loop's clock."""
    async with visit(FaultPlan.of(Fault("submit", "slow_after", seconds=50.0))) as visitor:
        before = visitor.sim.now()
        await visitor.submit()
        assert visitor.sim.now() - before == pytest.approx(50.0, abs=1.0)
        assert visitor.sim.book.bought()[0].bought_at - before < 1.0


@pytest.mark.parametrize("kind", ["slow_after", "stalled_after"])
async def test_client_leaves(visit: Visit, kind: str) -> None:
    """A client that leaves before the answer has bought all the same."""
    async with visit(FaultPlan.of(Fault("submit", kind, seconds=500.0))) as visitor:
        assert (await visitor.submit(timeout=10.0)).failure is not None
        assert len(visitor.sim.book.bought()) == 1


@pytest.mark.parametrize(("kind", "seconds"), [("429_seconds", 7.0), ("429_seconds", 90.0), ("429_date", 40.0)])
async def test_retry_after(visit: Visit, kind: str, seconds: float) -> None:
    """Retry-After tells the fault's seconds, or a date so long after the answer's own."""
    async with visit(FaultPlan.of(Fault("submit", kind, seconds=seconds))) as visitor:
        reply = await visitor.submit()
        told = reply.headers["Retry-After"]
        date, own = read_http_date(told), read_http_date(reply.headers["Date"])
        if kind == "429_seconds":
            assert float(told) == seconds
        else:
            assert date is not None
            assert own is not None
            assert date - own == pytest.approx(seconds, abs=1.1)


async def test_redirect_leads_back(visit: Visit) -> None:
    """A redirect leads to the same path unless told otherwise; a client that follows it arrives."""
    async with visit(FaultPlan.of(Fault("poll", "307", at=(1,)))) as visitor:
        generation_id = await visitor.bought()
        reply = await visitor.poll(generation_id)
        assert reply.headers["Location"].startswith("/v2/video/generations?generation_id=")
        visitor.sim.faults = FaultPlan.of(Fault("poll", "301", text="https://other.example/x"))
        assert (await visitor.poll(generation_id)).headers["Location"] == "https://other.example/x"


@pytest.mark.parametrize("text", ["waiting", "succeeded", "moonwalking", ""])
async def test_leaked_status(visit: Visit, text: str) -> None:
    """A running job tells any status that the fault names; a job that has ended tells the truth."""
    async with visit(FaultPlan.of(Fault("poll", "leaked_status", text=text))) as visitor:
        generation_id = await visitor.bought()
        told = (await visitor.poll(generation_id)).json["status"]
        assert told == text or (not text and told not in visitor.sim.settings.way)
        await visitor.until_ended(generation_id)
        assert (await visitor.poll(generation_id)).json["status"] == "completed"


async def test_fresh_jobs_are_found_later(visit: Visit) -> None:
    """`404_fresh` ends when the job is no longer young."""
    async with visit(FaultPlan.of(Fault("poll", "404_fresh"))) as visitor:
        generation_id = await visitor.bought()
        assert (await visitor.poll(generation_id)).status == 404
        await visitor.until_ended(generation_id)
        assert (await visitor.poll(generation_id)).status == 200


async def test_aimed_at_a_prompt(visit: Visit) -> None:
    """A fault can be aimed at one row by its prompt."""
    async with visit(FaultPlan.of(Fault("submit", "dropped_after", match="cat"))) as visitor:
        assert (await visitor.submit("dog")).status == 200
        assert (await visitor.submit("cat")).failure is not None


async def test_plan_is_replaceable(visit: Visit) -> None:
    """Another plan may be set while the simulator runs."""
    async with visit(FaultPlan.of(Fault("submit", "500"))) as visitor:
        assert (await visitor.submit()).status == 500
        visitor.sim.faults = FaultPlan()
        assert (await visitor.submit()).status == 200


@pytest.mark.looptime(False)  # kernel buffers take real time, which virtual time does not wait for
async def test_refused_with_a_body(visit: Visit) -> None:
    """A refused submit's body is not read, however large."""
    async with visit(FaultPlan.of(Fault("submit", "refused"))) as visitor:
        reply = await visitor.submit(image_url="data:image/png;base64," + "A" * (12 << 20))
        assert reply.failure is not None
        assert not visitor.sim.book.bought()


JOBS: dict[str, Any] = {
    "error_named": {"status": "error", "error": {"name": "Error", "message": "internal error while generating"}},
    "error_detail": {"status": "error"},
    "error_text": {"status": "error", "error": "generation failed"},
    "error_1303": {"status": "error"},
    "error_moderation": {"status": "error"},
    "failed": {"status": "failed"},
    "cancelled": {"status": "cancelled"},
    "canceled": {"status": "canceled"},
    "expired": {"status": "expired", "error": "task expired"},
    "succeeded": {"status": "succeeded"},
    "no_url": {"status": "completed"},
    "made_up_way": {"status": "completed"},
    "late": {"status": "completed"},
    "instant": {"status": "completed"},
    "wrong_duration": {"status": "completed"},
}


@pytest.mark.parametrize("kind", JOBS)
async def test_job(visit: Visit, kind: str) -> None:
    """A trouble of a job shows in its last answer; it has a link only if it was done, and costs only then."""
    async with visit(FaultPlan.of(Fault("job", kind))) as visitor:
        value = await visitor.finished()
        assert {**value, **JOBS[kind]} == value
        done = value["status"] in {"completed", "succeeded"}
        assert ("video" in value) == (done and kind != "no_url")
        assert len(visitor.sim.book.paid()) == done
        assert visitor.sim.book.troubles == {("job", kind): 1}


async def test_shapes_of_error(visit: Visit) -> None:
    """A failed job's error comes as an object, as details, or as a text; and it tells any message asked for."""
    async with visit() as visitor:
        errors = []
        for fault in (
            Fault("job", "error_detail"),
            Fault("job", "error_1303"),
            Fault("job", "error_named", text="no such luck"),
        ):
            visitor.sim.faults = FaultPlan.of(fault)
            errors.append((await visitor.finished())["error"])
        assert set(errors[0]["detail"][0]) == {"loc", "msg", "type"}
        assert "1303" in errors[1]["message"]
        assert errors[2]["message"] == "no such luck"


async def test_never_ends(visit: Visit) -> None:
    """A job may run for ever."""
    async with visit(FaultPlan.of(Fault("job", "never_ends"))) as visitor:
        generation_id = await visitor.bought()
        visitor.sim.world.advance(visitor.sim.now() + 1e9)
        assert (await visitor.poll(generation_id)).json["status"] == "queued"


async def test_made_up_way(visit: Visit) -> None:
    """A job may tell statuses that nobody documented."""
    async with visit(FaultPlan.of(Fault("job", "made_up_way")), queued_share=0.0) as visitor:
        generation_id = await visitor.bought()
        assert (await visitor.poll(generation_id)).json["status"] == "pending_review"


def test_all_jobs_are_seen() -> None:
    """The table above holds every trouble of jobs."""
    assert set(TROUBLES["job"]) == {*JOBS, "never_ends"}
