"""A few videos inside a program: bought once, found again, told about; over sockets, against the simulator."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from kling_async import (
    AnswerLost,
    AuthenticationFailed,
    ConfigurationError,
    DownloadError,
    Generation,
    GenerationFailed,
    GenerationOverdue,
    GenerationStatus,
    ImageToVideo,
    InvalidRequest,
    KlingError,
    NotFound,
    OutOfCredit,
    ProtocolViolation,
    ServiceUnavailable,
    Settings,
    generate_sync,
    open_client,
)
from kling_async.simulator import Fault, FaultPlan, Simulator, SimulatorSettings
from tests.flow.harness import IMAGE_URL, PNG, World, found_in, read, requests, world

pytestmark = pytest.mark.looptime

LOST = [
    "dropped_after",
    "stalled_after",
    "cut_after",
    "500_after",
    "502_after",
    "504_after",
    "html_after",
    "empty_after",
]
"""Ways in which a submit's answer is lost though the job was made."""


def now() -> float:
    return asyncio.get_running_loop().time()


def one(**fields: Any) -> ImageToVideo:
    return ImageToVideo(IMAGE_URL, "a cat", **fields)


async def served(w: World, generation_id: str | None, path: Path) -> bool:
    assert generation_id is not None
    return await read(path) == await w.simulator.served_bytes(generation_id)


# ------------------------------------------------------------------ the good way


async def test_generate_brings_the_video_to_its_place(tmp_path: Path) -> None:
    """Bought, waited for, whole under the name, and told: size, digest, generation, length."""
    async with world(tmp_path) as w, w.client() as client:
        file = await client.generate(one(), tmp_path / "a" / "b.mp4")
        assert file.path == tmp_path / "a" / "b.mp4"
        assert await served(w, file.generation_id, file.path)
        assert await found_in(tmp_path / "a") == {"b.mp4"}
        assert [purchase.generation_id for purchase in w.book.bought()] == [file.generation_id]
        assert not w.book.key_sent_to_cdn


async def test_the_steps_one_by_one(tmp_path: Path) -> None:
    """Submit answers at once, retrieve asks once, wait waits, download brings it; each takes an id as well."""
    async with world(tmp_path, durations=100.0) as w, w.client() as client:
        began = now()
        generation = await client.submit(one())
        assert now() - began < 1
        assert (generation.status, generation.usage.credits) == (GenerationStatus.RUNNING, 520_000)
        assert generation.client_request_id in w.book.request_ids
        polls = w.book.calls["poll"]
        assert (await client.retrieve(generation)).status is GenerationStatus.RUNNING
        assert w.book.calls["poll"] == polls + 1
        finished = await client.wait(generation)
        assert 100 <= now() - began < 120
        ways: tuple[Generation | str, ...] = (finished, generation, generation.id)
        for i, given in enumerate(ways):
            await client.download(given, tmp_path / f"{i}.mp4")
            assert await served(w, generation.id, tmp_path / f"{i}.mp4")
        assert w.book.calls["submit"] == 1


async def test_local_images_are_sent_whole(tmp_path: Path) -> None:
    """A file and bytes arrive at the service as they are."""
    picture = PNG + bytes(range(256)) * 500
    await asyncio.get_running_loop().run_in_executor(None, (tmp_path / "a.png").write_bytes, picture)
    async with world(tmp_path) as w, w.client() as client:
        first = await client.submit(ImageToVideo(tmp_path / "a.png", "a file"))
        second = await client.submit(ImageToVideo(picture, "bytes"))
        assert len({w.book.purchases[generation.id].image_digest for generation in (first, second)}) == 1


async def test_many_at_once_are_bought_once_each(tmp_path: Path) -> None:
    """Forty callers of one client."""
    async with world(tmp_path) as w, w.client() as client:
        await asyncio.gather(*(client.generate(row, tmp_path / f"{row.key}.mp4") for row in requests(40)))
        assert len(w.book.bought()) == 40
        assert w.book.duplicates() == []
        assert len(await found_in(tmp_path)) == 40


async def test_what_stood_there_is_replaced(tmp_path: Path) -> None:
    """By a whole video, and until then it stays as it is."""
    await asyncio.get_running_loop().run_in_executor(None, (tmp_path / "a.mp4").write_bytes, b"old")
    plan = FaultPlan.of(Fault("download", "truncated", at=(1,)))
    async with world(tmp_path, plan) as w, w.client() as client:
        generation = await client.wait(await client.submit(one()))
        loading = asyncio.ensure_future(client.download(generation, tmp_path / "a.mp4"))
        await asyncio.sleep(0.2)
        assert await read(tmp_path / "a.mp4") == b"old"
        await loading
        assert await served(w, generation.id, tmp_path / "a.mp4")


# -------------------------------------------------------------- before it is paid


@pytest.mark.parametrize("place", ["folder", "file/a.mp4"])
async def test_a_place_that_cannot_be_written_is_told_before_anything_is_bought(tmp_path: Path, place: str) -> None:
    """A folder stands there, or a file stands in the way."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    async with world(tmp_path) as w, w.client() as client:
        with pytest.raises(ConfigurationError, match="nothing was bought"):
            await client.generate(one(), tmp_path / place)
        assert w.book.calls["submit"] == 0
        assert await found_in(tmp_path) == {"folder", "file"}


@pytest.mark.parametrize("place", ["", ".", "/", ".."])
async def test_a_path_that_names_no_file_is_told(tmp_path: Path, place: str) -> None:
    """It is a setting that is wrong."""
    async with world(tmp_path) as w, w.client() as client:
        with pytest.raises(ConfigurationError, match="names no file"):
            await client.generate(one(), place)
        assert w.book.calls["submit"] == 0


async def test_a_wrong_request_is_told_with_every_fault_and_not_sent(tmp_path: Path) -> None:
    """A picture that is none, one that is not there, and one too small: each by its field."""
    async with world(tmp_path) as w, w.client() as client:
        with pytest.raises(InvalidRequest) as raised:
            await client.submit(ImageToVideo(b"no picture at all", "a", tail_image=tmp_path / "gone.png"))
        assert {issue.field for issue in raised.value.issues} == {"image", "tail_image"}
        assert raised.value.status is None
        small = PNG[:16] + (100).to_bytes(4, "big") * 2 + PNG[24:]
        with pytest.raises(InvalidRequest, match="300"):
            await client.submit(ImageToVideo(small, "a"))
        assert w.book.calls["submit"] == 0


def test_a_missing_key_is_told_at_once() -> None:
    """With the name of the variable to set."""
    with pytest.raises(AuthenticationFailed, match="AIMLAPI_API_KEY"):
        open_client()


async def test_settings_may_be_given_whole(tmp_path: Path) -> None:
    """Single ones by name change them."""
    async with world(tmp_path) as w:
        settings = Settings.of(base_url="http://127.0.0.1:9", api_key="sim-key")
        async with open_client(settings, base_url=w.simulator.base_url) as client:
            assert (await client.submit(one())).id in w.book.purchases


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("400", InvalidRequest),
        ("400_moderation", InvalidRequest),
        ("401", AuthenticationFailed),
        ("403", AuthenticationFailed),
        ("403_credit", OutOfCredit),
        ("429_arrears", OutOfCredit),
        ("404", NotFound),
        ("307", ProtocolViolation),
        ("301", ProtocolViolation),
    ],
)
async def test_a_refusal_is_told_and_not_tried_again(tmp_path: Path, kind: str, error: type[KlingError]) -> None:
    """One POST; the next submit goes through as if nothing had been."""
    plan = FaultPlan.of(Fault("submit", kind, at=(1,)))
    async with world(tmp_path, plan) as w, w.client() as client:
        with pytest.raises(error) as raised:
            await client.submit(one())
        assert (w.book.calls["submit"], w.book.bought()) == (1, [])
        assert isinstance(raised.value, KlingError)
        assert (await client.submit(one())).id in w.book.purchases


async def test_an_empty_account_is_told(tmp_path: Path) -> None:
    """By the service itself."""
    async with world(tmp_path, balance_usd=0.1) as w, w.client() as client:
        with pytest.raises(OutOfCredit):
            await client.generate(one(), tmp_path / "a.mp4")
        assert await found_in(tmp_path) == set()


@pytest.mark.parametrize("kind", ["429", "429_seconds", "429_date", "429_1302", "429_1303", "503", "403_html"])
async def test_what_surely_made_no_job_is_sent_again(tmp_path: Path, kind: str) -> None:
    """After a pause, under another id, until it is accepted; one video is bought."""
    plan = FaultPlan.of(Fault("submit", kind, at=(1, 2)))
    async with world(tmp_path, plan) as w, w.client() as client:
        began = now()
        generation = await client.submit(one())
        assert [purchase.generation_id for purchase in w.book.bought()] == [generation.id]
        assert w.book.calls["submit"] == 3
        assert set(w.book.request_ids.values()) <= {1}
        assert 1 <= now() - began < 30


async def test_a_rate_limit_pauses_all_submits_once(tmp_path: Path) -> None:
    """A 429 that names 20 s: nobody POSTs before they are over, then one by one until one is accepted."""
    plan = FaultPlan.of(Fault("submit", "429_seconds", at=(1,), seconds=20.0))
    async with world(tmp_path, plan) as w, w.client() as client:
        began, first = now(), asyncio.ensure_future(client.submit(one()))
        await asyncio.sleep(1)
        others = [asyncio.ensure_future(client.submit(row)) for row in requests(20)]
        await asyncio.sleep(18)
        assert w.book.calls["submit"] == 1
        await asyncio.wait([first, *others])
        assert now() - began < 25
        assert w.book.calls["submit"] == 22
        assert len(w.book.bought()) == 21


async def test_a_rate_limit_is_heard_by_those_who_wait_for_a_place(tmp_path: Path) -> None:
    """The place of the refused one is not taken before the pause is known."""
    plan = FaultPlan.of(Fault("submit", "429_seconds", at=(1,), seconds=20.0))
    async with world(tmp_path, plan, latency=1.0) as w, w.client(max_in_flight=1) as client:
        submits = [asyncio.ensure_future(client.submit(row)) for row in requests(5)]
        await asyncio.sleep(20)
        assert w.book.calls["submit"] == 1
        await asyncio.wait(submits)
        assert len(w.book.bought()) == 5


async def test_a_service_that_stays_away_is_told(tmp_path: Path) -> None:
    """After the time that is set for it, nothing bought; a short absence is waited out."""
    async with world(tmp_path) as w, w.client(unavailable_after=600) as client:
        await client.submit(one())
        await w.simulator.stop_listening()
        began = now()
        with pytest.raises(ServiceUnavailable, match="no usable answer for 1"):
            await client.submit(one())
        assert 600 <= now() - began < 700
        waiting = asyncio.ensure_future(client.submit(requests(1)[0]))
        await asyncio.sleep(20)
        await w.simulator.listen_again()
        assert (await waiting).id in w.book.purchases


# -------------------------------------------------------------------- lost answers


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("listing", ["acceptance", "late"])
async def test_a_lost_answer_is_looked_up_and_never_repeated(tmp_path: Path, kind: str, listing: str) -> None:
    """The usage log names the generation: it is the submit's, and goes on to its video."""
    plan = FaultPlan.of(Fault("submit", kind, at=(1,), inference_id=False))
    async with world(tmp_path, plan, log_listing=listing, durations=100.0, log_delay=60.0) as w, w.client() as client:
        file = await client.generate(one(), tmp_path / "a.mp4")
        assert w.book.calls["submit"] == 1
        assert [purchase.generation_id for purchase in w.book.paid()] == [file.generation_id]


async def test_a_lost_submit_that_failed_is_sent_again(tmp_path: Path) -> None:
    """The log says that nothing was bought: it is safe."""
    plan = FaultPlan.of(Fault("submit", "500", at=(1,)))
    async with world(tmp_path, plan, log_refused=True) as w, w.client() as client:
        generation = await client.submit(one())
        assert w.book.calls["submit"] == 2
        assert [purchase.generation_id for purchase in w.book.bought()] == [generation.id]


async def test_an_answer_that_names_the_generation_is_none_that_was_lost(tmp_path: Path) -> None:
    """A 502 with `x-inference-id` needs no look-up."""
    plan = FaultPlan.of(Fault("submit", "502_after", at=(1,), inference_id=True))
    async with world(tmp_path, plan) as w, w.client() as client:
        assert (await client.submit(one())).id in w.book.purchases
        assert w.book.calls["log"] == 0


async def test_what_stays_unknown_is_told_with_its_id_and_found_later(tmp_path: Path) -> None:
    """AnswerLost after a quarter of an hour; `find` gives the generation once it is listed, and None before."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing="late", log_delay=7200.0) as w, w.client() as client:
        began = now()
        with pytest.raises(AnswerLost, match=r"client\.find") as raised:
            await client.submit(one())
        assert 900 <= now() - began < 1000
        name = raised.value.client_request_id or ""
        assert name in w.book.request_ids
        assert name in str(raised.value)
        assert await client.find(name) is None
        await asyncio.sleep(7200)
        found = await client.find(name)
        assert found is not None
        assert found.status is GenerationStatus.COMPLETED
        await client.download(found, tmp_path / "a.mp4")
        assert await served(w, found.id, tmp_path / "a.mp4")
        assert w.book.calls["submit"] == 1


async def test_find_tells_what_failed_and_what_it_could_not_read(tmp_path: Path) -> None:
    """Neither is "not listed"."""
    plan = FaultPlan.of(Fault("job", "error_named", at=(1,)))
    async with world(tmp_path, plan, durations=50.0) as w, w.client() as client:
        generation = await client.submit(one())
        await asyncio.sleep(100)
        assert generation.client_request_id is not None
        with pytest.raises(GenerationFailed, match="nothing was bought"):
            await client.find(generation.client_request_id)
        w.simulator.faults = FaultPlan.of(Fault("log", "500"))
        with pytest.raises(ServiceUnavailable, match="ask again later"):
            await client.find(generation.client_request_id)
        w.simulator.faults = FaultPlan()
        assert await client.find("ka1.never.was.1") is None


async def test_submits_go_on_while_a_lost_one_is_looked_up(tmp_path: Path) -> None:
    """It keeps nobody's place."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing="never") as w, w.client(max_in_flight=1) as client:
        lost = asyncio.ensure_future(client.submit(one()))
        await asyncio.sleep(10)
        began = now()
        await client.submit(requests(1)[0])
        assert now() - began < 60
        with pytest.raises(AnswerLost):
            await lost
        assert len(w.book.bought()) == 2


# ------------------------------------------------------------------------ its end


@pytest.mark.parametrize(
    "kind",
    ["error_named", "error_detail", "error_text", "error_moderation", "failed", "cancelled", "canceled", "expired"],
)
async def test_a_failed_generation_is_told_with_its_id(tmp_path: Path, kind: str) -> None:
    """It cost nothing; nothing stands under the name."""
    plan = FaultPlan.of(Fault("job", kind, at=(1,)))
    async with world(tmp_path, plan) as w, w.client() as client:
        with pytest.raises(GenerationFailed) as raised:
            await client.generate(one(), tmp_path / "a.mp4")
        assert raised.value.generation_id in w.book.purchases
        assert str(raised.value.generation_id) in str(raised.value)
        assert w.book.paid() == []
        assert await found_in(tmp_path) == set()


async def test_a_generation_that_does_not_end_is_overdue_and_resumed_by_its_id(tmp_path: Path) -> None:
    """After two hours, or the time that the caller gives; it may finish later."""
    async with world(tmp_path, durations=10_000.0) as w, w.client() as client:
        began = now()
        with pytest.raises(GenerationOverdue) as raised:
            await client.generate(one(), tmp_path / "a.mp4", timeout=100)
        assert now() - began == pytest.approx(100, abs=1)
        generation_id = raised.value.generation_id
        assert generation_id is not None
        with pytest.raises(GenerationOverdue):
            await client.wait(generation_id)
        assert now() - began == pytest.approx(7300, abs=2)
        await client.download(await client.wait(generation_id), tmp_path / "a.mp4")
        assert await served(w, generation_id, tmp_path / "a.mp4")
        assert len(w.book.bought()) == 1


async def test_a_404_of_a_fresh_generation_means_nothing(tmp_path: Path) -> None:
    """It is seen now and then; of an old or unknown one it is told."""
    plan = FaultPlan.of(Fault("poll", "404_fresh", seconds=200.0))
    async with world(tmp_path, plan) as w, w.client() as client:
        await client.generate(one(), tmp_path / "a.mp4")
        with pytest.raises(NotFound) as raised:
            await client.wait("nobody:knows/this")
        assert raised.value.generation_id == "nobody:knows/this"
        with pytest.raises(NotFound):
            await client.retrieve("nobody:knows/this")


@pytest.mark.parametrize("kind", ["401", "500", "html", "dropped_before", "429", "unknown"])
async def test_retrieve_asks_once(tmp_path: Path, kind: str) -> None:
    """And tells what came of it: an answer or its error, with the generation's id."""
    async with world(tmp_path) as w, w.client() as client:
        generation = await client.submit(one())
        w.simulator.faults = FaultPlan.of(Fault("poll", kind))
        if kind == "unknown":
            assert (await client.retrieve(generation)).status is GenerationStatus.UNKNOWN
        else:
            with pytest.raises(KlingError):
                await client.retrieve(generation)
        assert w.book.calls["poll"] == 1 + (kind == "dropped_before")  # aiohttp sends a GET again by itself


async def test_a_download_that_cannot_be_stored_tells_its_generation(tmp_path: Path) -> None:
    """The video is not lost: another place takes it."""
    async with world(tmp_path) as w, w.client() as client:
        generation = await client.wait(await client.submit(one()))
        (tmp_path / "file").touch()
        with pytest.raises(DownloadError) as raised:
            await client.download(generation, tmp_path / "file" / "a.mp4")
        assert raised.value.generation_id == generation.id
        await client.download(generation, tmp_path / "a.mp4")
        assert await served(w, generation.id, tmp_path / "a.mp4")


async def test_a_finished_generation_without_a_link_is_overdue(tmp_path: Path) -> None:
    """It was paid for, and is told by its id."""
    plan = FaultPlan.of(Fault("job", "no_url", at=(1,)))
    async with world(tmp_path, plan) as w, w.client() as client:
        with pytest.raises(GenerationOverdue, match="no link") as raised:
            await client.generate(one(), tmp_path / "a.mp4")
        assert raised.value.generation_id in w.book.purchases


# ------------------------------------------------------------------------- cancelled


async def test_a_cancelled_submit_is_answered_and_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A POST that is out has ten seconds for its answer; its own id and the generation's stand in the log."""
    caplog.set_level(logging.INFO)
    async with world(tmp_path, latency=4.0) as w, w.client() as client:
        submit = asyncio.ensure_future(client.submit(one()))
        await asyncio.sleep(1)
        submit.cancel()
        await asyncio.wait({submit})
        assert submit.cancelled()
        assert now() == pytest.approx(4.0, abs=0.1)
        (purchase,) = w.book.bought()
        assert purchase.generation_id in caplog.text
        assert f"client.find({purchase.request_id!r})" in caplog.text
        found = await client.find(str(purchase.request_id))
        assert found is not None
        assert found.id == purchase.generation_id


async def test_a_cancelled_submit_without_an_answer_is_told_by_its_own_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After ten seconds it is given up; by the id in the log it is found again."""
    plan = FaultPlan.of(Fault("submit", "stalled_after", at=(1,)))
    async with world(tmp_path, plan) as w, w.client() as client:
        submit = asyncio.ensure_future(client.submit(one()))
        await asyncio.sleep(1)
        submit.cancel()
        await asyncio.wait({submit})
        assert now() == pytest.approx(11.0, abs=0.1)
        (name,) = re.findall(r"client\.find\('([^']+)'\)", caplog.text)
        found = await client.find(name)
        assert found is not None
        assert [found.id] == [purchase.generation_id for purchase in w.book.bought()]


async def test_a_submit_cancelled_while_it_is_looked_up_is_told_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer was lost, and its caller leaves: the id to find it by stands in the log."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing="late") as w, w.client() as client:
        submit = asyncio.ensure_future(client.submit(one()))
        await asyncio.sleep(60)
        submit.cancel()
        await asyncio.wait({submit})
        (purchase,) = w.book.bought()
        assert f"client.find({purchase.request_id!r})" in caplog.text


async def test_a_cancelled_generate_tells_what_it_bought(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A time-out of the caller's: the generation stands in the log, and its video is brought by its id."""
    async with world(tmp_path) as w, w.client() as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await client.generate(one(), tmp_path / "a.mp4")
        (purchase,) = w.book.bought()
        assert f"generation {purchase.generation_id} is bought" in caplog.text
        assert await found_in(tmp_path) == set()
        await client.download(purchase.generation_id, tmp_path / "a.mp4")
        assert await served(w, purchase.generation_id, tmp_path / "a.mp4")


async def test_the_key_and_links_stand_in_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At whatever level, through troubles of every kind."""
    caplog.set_level(logging.DEBUG, "kling_async")
    plan = FaultPlan.of(
        Fault("submit", "429", at=(1,)),
        Fault("submit", "dropped_after", at=(2,)),
        Fault("poll", "html", at=(2,)),
        Fault("download", "expired", at=(1,)),
        Fault("download", "cut", at=(2,)),
    )
    key = "sk-a-very-secret-key"
    async with world(tmp_path, plan, keys=(key,)) as w, w.client(api_key=key) as client:
        await client.generate(one(), tmp_path / "a.mp4")
        assert key not in repr(client)
    assert "accepted" in caplog.text or "trying again" in caplog.text
    assert key not in caplog.text
    assert "ksSecret" not in caplog.text
    assert "cacheKey=" not in caplog.text


# ------------------------------------------------------------------ without a loop


@pytest.fixture
def other_loop() -> Any:
    """A simulator on a loop of its own, in another thread: for callers without one."""
    opened, stop, address = threading.Event(), threading.Event(), []

    async def serve() -> None:
        async with Simulator(SimulatorSettings(clips="template", durations=0.2), FaultPlan()) as simulator:
            address.append(simulator.base_url)
            opened.set()
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    opened.wait()
    yield address[0]
    stop.set()
    thread.join()


@pytest.mark.looptime(False)
def test_generate_sync_needs_no_loop(tmp_path: Path, other_loop: str) -> None:
    """One call, one file; its errors are those of `generate`."""
    file = generate_sync(one(), tmp_path / "a.mp4", base_url=other_loop, api_key="sim-key")
    assert file.path.stat().st_size == file.size
    with pytest.raises(AuthenticationFailed):
        generate_sync(one(), tmp_path / "b.mp4", base_url=other_loop, api_key="wrong")
    with pytest.raises(ConfigurationError, match="nothing was bought"):
        generate_sync(one(), tmp_path, base_url=other_loop, api_key="sim-key")


async def test_a_generation_is_what_the_service_said(tmp_path: Path) -> None:
    """The caller may keep it: it is a frozen value."""
    async with world(tmp_path) as w, w.client() as client:
        generation = await client.submit(one())
        assert isinstance(generation, Generation)
        with pytest.raises(AttributeError):
            generation.id = "another"  # type: ignore[misc]
