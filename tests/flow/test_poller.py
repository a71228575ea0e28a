"""Every open generation watched by a few workers: never twice at once, as one under trouble, and to its end."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from kling_async import (
    AuthenticationFailed,
    Generation,
    GenerationFailed,
    GenerationOverdue,
    GenerationStatus,
    KlingError,
    NotFound,
)
from kling_async.adapters.images import LocalImages
from kling_async.errors import AnswerLost
from kling_async.flow.background import Background
from kling_async.flow.poller import Poller
from kling_async.flow.service import Service
from kling_async.testing import ScriptedTransport
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.settings import AdmissionSettings, PollSettings, ServiceSettings

pytestmark = pytest.mark.looptime

Say: TypeAlias = Callable[[str, int], HttpReply | BaseException]
"""What the service says of an id when it is asked for the n-th time."""


def now() -> float:
    return asyncio.get_running_loop().time()


def reply(status: str, code: int = 200, **fields: Any) -> HttpReply:
    return HttpReply(code, {}, json.dumps({"id": "x", "status": status, **fields}).encode())


DONE = reply("completed", video={"url": "https://cdn.example/a.mp4"})
RUNNING = reply("generating")
BALANCE = HttpReply(200, {}, b'{"current_balance": 1.5, "currency": "USD"}')


def error(status: int, **headers: str) -> HttpReply:
    body = {"statusCode": status, "message": "no", "path": "/", "timestamp": "t", "requestId": "r"}
    return HttpReply(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()
    )


def after(count: int, then: HttpReply = DONE, before: HttpReply = RUNNING) -> Say:
    """Say one thing the first few times, and another from then on."""
    return lambda _id, asked: before if asked <= count else then


class Service_(ScriptedTransport):  # noqa: N801 - the far end, not the package's own `Service`
    """Answers polls as it is told, after some time, and keeps count."""

    def __init__(self, say: Say, latency: float = 0.0) -> None:
        super().__init__()
        self.say, self._latency = say, latency
        self.balance: Callable[[], HttpReply | BaseException] = lambda: BALANCE
        self.checks = 0
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.under_way: Counter[str] = Counter()
        self.most_of_one = self.most = 0

    async def send(self, call: HttpCall) -> HttpReply:
        if call.path == "/v2/billing":
            return await self._tell_balance()
        (generation_id,) = [value for name, value in call.query if name == "generation_id"]
        self.asked[generation_id] += 1
        self.times.append(now())
        self.under_way[generation_id] += 1
        self.most_of_one = max(self.most_of_one, self.under_way[generation_id])
        self.most = max(self.most, self.under_way.total())
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
            said = self.say(generation_id, self.asked[generation_id])
        finally:
            self.under_way[generation_id] -= 1
        if isinstance(said, BaseException):
            raise said
        return said

    async def _tell_balance(self) -> HttpReply:
        self.checks += 1
        await asyncio.sleep(self._latency)
        told = self.balance()
        if isinstance(told, BaseException):
            raise told
        return told


@asynccontextmanager
async def polling(
    far: Service_, heard: Callable[[KlingError | None], None] = lambda _error: None, **settings: Any
) -> AsyncIterator[Poller]:
    """Open a poller that asks a far end."""
    background, images = Background(), LocalImages()
    service = Service(far, images, ServiceSettings())
    try:
        yield Poller(
            service,
            background,
            PollSettings(**settings),
            pauses=AdmissionSettings(),
            dice=random.Random(1),
            heard=heard,
        )
    finally:
        await background.aclose()
        await images.aclose()


async def test_a_finished_generation_comes_with_its_video() -> None:
    """Asked until it is finished, and no more."""
    far = Service_(after(3))
    async with polling(far) as poller:
        found = await poller.watch("a", timeout=100)
        await asyncio.sleep(1000)
    assert found.status is GenerationStatus.COMPLETED
    assert found.video is not None
    assert found.video.url == "https://cdn.example/a.mp4"
    assert far.asked == {"a": 4}


async def test_a_failed_generation_tells_why() -> None:
    """With its id, and whether it was the account's limit after all."""
    far = Service_(lambda name, _: reply("error", error={"message": name}))
    async with polling(far) as poller:
        with pytest.raises(GenerationFailed, match="the cat ran away") as raised:
            await poller.watch("the cat ran away", timeout=100)
        assert raised.value.generation_id == "the cat ran away"
        assert not raised.value.too_many_jobs
        with pytest.raises(GenerationFailed) as raised:
            await poller.watch("parallel task over resource pack limit (1303)", timeout=100)
        assert raised.value.too_many_jobs


async def test_nobody_is_asked_twice_at_once() -> None:
    """Though answers take longer than the intervals, and no more are under way than there are workers."""
    far = Service_(after(5), latency=4.0)
    async with polling(far, poll_workers=7) as poller:
        found = await asyncio.gather(*(poller.watch(f"id{i}", timeout=5000) for i in range(60)))
    assert all(generation.video for generation in found)
    assert far.most_of_one == 1
    assert far.most == 7


async def test_those_who_watch_one_generation_share_its_polls() -> None:
    """Ten watchers cost what one does, and all get the answer."""
    alone, shared = Service_(after(6)), Service_(after(6))
    async with polling(alone) as poller:
        await poller.watch("a", timeout=500)
    async with polling(shared) as poller:
        found = await asyncio.gather(*(poller.watch("a", timeout=500) for _ in range(10)))
    assert len({id(generation) for generation in found}) == 1
    assert shared.asked == alone.asked


async def test_watchers_end_each_by_its_own_time() -> None:
    """One that gives up, and one that is cancelled, take nothing from the third."""
    far = Service_(lambda _id, _: DONE if now() > began + 60 else RUNNING)
    began = now()
    async with polling(far) as poller:
        patient = asyncio.ensure_future(poller.watch("a", timeout=500))
        cancelled = asyncio.ensure_future(poller.watch("a", timeout=500))
        with pytest.raises(GenerationOverdue):
            await poller.watch("a", timeout=20)
        cancelled.cancel()
        assert (await patient).video is not None
        assert cancelled.cancelled()


async def test_a_generation_that_takes_too_long_is_overdue_and_not_failed() -> None:
    """The error names it and its whole age, and is no GenerationFailed; nobody asks for it any more."""
    far = Service_(lambda _id, _: RUNNING)
    async with polling(far) as poller:
        began = now()
        with pytest.raises(GenerationOverdue, match=r"a is not finished after 150 s: resume it") as raised:
            await poller.watch("a", age=100, timeout=50)
        assert now() - began == pytest.approx(50)
        assert raised.value.generation_id == "a"
        assert not isinstance(raised.value, GenerationFailed)
        asked = far.asked["a"]
        await asyncio.sleep(1000)
        assert far.asked["a"] == asked


async def test_a_cancelled_watcher_is_forgotten_and_may_come_again() -> None:
    """Also while its poll is under way: that one's answer is nobody's, and there is never a second at once."""
    far = Service_(lambda _id, _: DONE if now() > began + 100 else RUNNING, latency=3.0)
    began = now()
    async with polling(far) as poller:
        for pause in (0.0, 0.3, 1.0, 3.3, 20.0):
            watcher = asyncio.ensure_future(poller.watch("a", timeout=500))
            await asyncio.sleep(pause)
            watcher.cancel()
            await asyncio.wait({watcher})
            assert len(poller._agenda) == 0
            assert not poller._watches
        assert (await poller.watch("a", timeout=500)).video is not None
    assert far.most_of_one == 1


async def test_an_unknown_status_is_asked_again_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """One for each word and generation; it never ends anything."""
    words = ["rendering", "99%", "rendering", "rendering", "99%", "upscaling"]
    far = Service_(lambda _id, asked: reply(words[asked - 1]) if asked <= len(words) else DONE)
    async with polling(far) as poller:
        await asyncio.gather(poller.watch("a", timeout=500), poller.watch("b", timeout=500))
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(warned) == [
        f"generation {name}: status {word!r} is not known; asking again"
        for name in "ab"
        for word in ("99%", "rendering", "upscaling")
    ]


@pytest.mark.parametrize(
    "said",
    [
        error(500),
        error(502),
        error(408),
        error(429),
        error(400),
        error(401),
        error(403),
        HttpReply(200, {}, b"<html>"),
        HttpReply(200, {}, b""),
        HttpReply(302, {"location": "/x"}),
        reply("", id=""),
        HttpReply(200, {}, b'{"id":"","status":"unknown","error":{"name":"Error"}}'),
        HttpReply(200, {}, b"[]"),
        AnswerLost("the connection was cut"),
    ],
    ids=str,
)
async def test_no_bad_answer_ends_a_generation(said: HttpReply | KlingError) -> None:
    """Whatever it is, it is asked again."""
    far = Service_(lambda _id, asked: said if asked in {1, 3} else RUNNING if asked < 5 else DONE)
    async with polling(far) as poller:
        assert (await poller.watch("a", timeout=2000)).video is not None
    assert far.asked["a"] == 5


async def test_a_404_means_nothing_while_a_generation_is_young() -> None:
    """Within the grace it is asked again; what is unknown after it is told as such, with its id."""
    far = Service_(lambda _id, _: error(404) if now() < began + 250 else RUNNING if now() < began + 320 else DONE)
    began = now()
    async with polling(far, not_found_grace=300) as poller:
        assert (await poller.watch("a", timeout=1000)).video is not None
    far = Service_(lambda _id, _: error(404))
    async with polling(far, not_found_grace=300) as poller:
        began = now()
        with pytest.raises(NotFound) as raised:
            await poller.watch("a", timeout=1000)
        assert 300 <= now() - began <= 316
        assert raised.value.generation_id == "a"
        began = now()
        with pytest.raises(NotFound):
            await poller.watch("old", age=1000, timeout=1000)
        assert now() - began < 1


async def test_a_key_that_is_refused_again_and_again_is_told() -> None:
    """Three polls in a row, and the balance call; two, and a good answer between, are a whim."""
    far = Service_(lambda _id, asked: RUNNING if asked % 3 == 0 else error(401) if asked < 9 else DONE)
    far.balance = lambda: error(401)
    async with polling(far) as poller:
        assert (await poller.watch("a", timeout=2000)).video is not None
        assert far.checks == 0
        far.say = lambda _id, _: error(401)
        with pytest.raises(AuthenticationFailed) as raised:
            await poller.watch("b", timeout=2000)
    assert (far.asked["b"], far.checks) == (3, 1)
    assert raised.value.generation_id == "b"


@pytest.mark.parametrize("latency", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("refusal", [401, 403])
async def test_a_revoked_key_is_told_to_all_who_wait_at_once(latency: float, refusal: int) -> None:
    """However many polls are refused side by side, one balance call settles it for all."""
    far = Service_(lambda _id, _: RUNNING if now() < began + 100 else error(401), latency)
    far.balance = lambda: error(refusal)
    began = now()
    async with polling(far) as poller:
        watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=5000)) for i in range(200)]
        await asyncio.wait(watchers)
        assert now() - began < 100 + 15 + 4 * latency
        assert [type(watcher.exception()) for watcher in watchers] == [AuthenticationFailed] * 200
        told = [watcher.exception() for watcher in watchers]
        assert [one.generation_id for one in told if isinstance(one, KlingError)] == [f"id{i}" for i in range(200)]
    assert far.checks == 1


@pytest.mark.parametrize(
    "balance", [BALANCE, error(500), error(429), HttpReply(200, {}, b"<html>"), AnswerLost("cut")], ids=str
)
@pytest.mark.parametrize("seconds", [5, 300, 3000])
async def test_a_blip_of_refused_keys_ends_nothing(balance: HttpReply | BaseException, seconds: float) -> None:
    """While the balance call does not refuse the key, all go on, slowly and together, until the polls are answered."""
    heard: list[KlingError | None] = []
    far = Service_(
        lambda _id, _: RUNNING if now() < began + 100 else error(401) if now() < began + 100 + seconds else DONE, 0.1
    )
    far.balance = lambda: balance
    began = now()
    async with polling(far, heard.append) as poller:
        watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=5000)) for i in range(100)]
        await asyncio.wait(watchers)
        assert all(watcher.result().video for watcher in watchers)
        assert now() - began < 100 + seconds + 60 + 10
    assert 1 <= far.checks <= 7 + 16 * seconds / 60
    refused = [at for at in far.times if began + 115 < at < began + 100 + seconds]
    assert len(refused) <= 16 * (1 + seconds / 30)
    assert sum(isinstance(one, AuthenticationFailed) for one in heard) >= 3, "it is no usable answer"


async def test_finished_without_a_link_is_asked_again_for_a_while() -> None:
    """Ten times; then it is overdue, for the caller to ask about: it was paid for."""
    far = Service_(lambda _id, _: reply("completed"))
    async with polling(far) as poller:
        with pytest.raises(GenerationOverdue, match="gives no link") as raised:
            await poller.watch("a", timeout=5000)
    assert raised.value.generation_id == "a"
    assert far.asked["a"] == 10
    late = Service_(after(8, DONE, reply("succeeded", video={"url": ""})))
    async with polling(late) as poller:
        assert (await poller.watch("a", timeout=5000)).video is not None


async def test_a_failing_service_is_left_in_peace_by_all_together() -> None:
    """A hundred watchers ask it no oftener than one would, and all notice within the cap that it is back."""
    far = Service_(lambda _id, _: error(500) if began + 100 < now() < began + 1000 else DONE if over() else RUNNING)
    began = now()

    def over() -> bool:
        return now() > began + 1100

    async with polling(far, poll_workers=4) as poller:
        watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=5000)) for i in range(100)]
        await asyncio.wait(watchers)
        assert all(watcher.result().video for watcher in watchers)
        assert now() - began < 1100 + 60
    quiet = [at for at in far.times if began + 110 < at < began + 1000]
    assert len(quiet) < 60
    back = [at for at in far.times if at >= began + 1000]
    assert back[0] - began <= 1061


async def test_bad_answers_of_one_moment_are_one_trouble() -> None:
    """As many polls as there are workers were out when it came: that is one wave, and not sixteen tries in a row."""
    far = Service_(lambda _id, _: error(502) if 100 < now() - began < 101 else RUNNING, latency=0.5)
    began = now()
    async with polling(far, poll_lag=5.0) as poller:
        watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=150)) for i in range(500)]
        ends = await asyncio.gather(*watchers, return_exceptions=True)
    assert {type(end) for end in ends} == {GenerationOverdue}
    asked = sorted(at - began for at in far.times)
    assert any(101.5 < at < 105 for at in asked), "a second of trouble, and nobody is asked for a minute"


async def test_one_bad_answer_slows_nobody() -> None:
    """It says nothing of the service."""
    far = Service_(lambda name, asked: error(500) if (name, asked) == ("id3", 2) else after(20)(name, asked))
    smooth = Service_(after(20))
    ends = []
    for desk in (far, smooth):
        async with polling(desk) as poller:
            began = now()
            await asyncio.gather(*(poller.watch(f"id{i}", timeout=5000) for i in range(5) if i != 3 or desk is far))
            ends.append(now() - began)
    assert ends[0] < ends[1] * 1.5


async def test_the_services_own_pause_is_kept_by_all() -> None:
    """A 429 with Retry-After: nobody asks before it is over."""
    far = Service_(
        lambda name, asked: error(429, retry_after="90") if (name, asked) == ("id0", 1) else after(5)(name, asked)
    )
    async with polling(far) as poller:
        await asyncio.gather(*(poller.watch(f"id{i}", timeout=5000) for i in range(20)))
    limited = far.times[0]
    assert [at for at in far.times if limited + 1 < at < limited + 90] == []


async def test_what_was_heard_is_told() -> None:
    """None for a usable answer, a 404 and a 429 among them; the error for any other."""
    said: list[HttpReply | KlingError] = [error(500), RUNNING, error(404), error(429), AnswerLost("gone"), DONE]
    heard: list[KlingError | None] = []
    async with polling(Service_(lambda _id, asked: said[asked - 1]), heard.append) as poller:
        await poller.watch("a", timeout=1000)
    assert [type(one).__name__ for one in heard] == [
        "ServerTrouble",
        "NoneType",
        "NoneType",
        "NoneType",
        "AnswerLost",
        "NoneType",
    ]


async def test_many_generations_are_not_asked_in_waves() -> None:
    """Begun in one instant, they are asked evenly after a minute."""
    far = Service_(lambda _id, _: DONE if now() > began + 300 else RUNNING)
    began = now()
    async with polling(far) as poller:
        await asyncio.gather(*(poller.watch(f"id{i}", timeout=5000) for i in range(100)))
    seconds = Counter(int(at - began) for at in far.times if 120 <= at - began < 280)
    assert max(seconds.values()) < 5 * sum(seconds.values()) / 160


async def test_a_worker_that_dies_tells_those_who_wait() -> None:
    """Its own error comes to every watcher, not a time-out hours later; and who comes later is served."""
    far = Service_(lambda _id, _: ZeroDivisionError("a fault of our own"))
    async with polling(far, poll_workers=2) as poller:
        for _ in range(5):
            watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=5000)) for i in range(3)]
            began = now()
            await asyncio.wait(watchers)
            assert now() - began < 10
            assert {type(watcher.exception()) for watcher in watchers} == {ZeroDivisionError}
        far.say = after(1)
        assert (await poller.watch("late", timeout=5000)).video is not None


async def test_closing_tells_those_who_wait() -> None:
    """A client that is closed beside its watchers leaves none of them hanging."""
    far = Service_(lambda _id, _: RUNNING)
    async with polling(far) as poller:
        watcher = asyncio.ensure_future(poller.watch("a", timeout=5000))
        await asyncio.sleep(10)
    with pytest.raises((RuntimeError, KlingError)):
        await asyncio.wait_for(watcher, 1)


async def test_a_generation_is_a_value() -> None:
    """What one watcher gets, another may be given too."""
    async with polling(Service_(after(0))) as poller:
        assert isinstance(await poller.watch("a", timeout=10), Generation)


async def test_what_was_learned_is_taken_over_and_spares_polls() -> None:
    """By the next poller, for generations of the same kind; another kind begins anew."""
    dice = random.Random(1)
    ends = {f"{name}{i}": 300 * dice.lognormvariate(0, 0.15) for name in "abc" for i in range(100)}

    def say(name: str, _asked: int) -> HttpReply:
        return DONE if now() > began + ends[name] else RUNNING

    async def watch(poller: Poller, name: str, kind: str) -> None:
        await asyncio.gather(*(poller.watch(f"{name}{i}", kind=kind, timeout=5000) for i in range(100)))

    first, second, other = Service_(say), Service_(say), Service_(say)
    began = now()
    async with polling(first) as poller:
        await watch(poller, "a", "five")
        learned = json.loads(json.dumps(poller.learned()))
    assert list(learned) == ["five"]
    counts = []
    for far, name, kind in ((second, "b", "five"), (other, "c", "ten")):
        began = now()
        async with polling(far) as poller:
            poller.take_over(learned)
            await watch(poller, name, kind)
            counts.append(poller.statistics().polls)
            lag = poller.statistics().mean_lag
            assert lag is not None
            assert lag < 60
    assert counts[0] < 0.7 * counts[1]


async def test_the_figures_of_the_moment() -> None:
    """How many are watched, asked and ended; how late that was noticed; how long all pause."""
    far = Service_(lambda _id, _: DONE if now() > began + 100 else RUNNING)
    began = now()
    async with polling(far) as poller:
        watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=5000)) for i in range(30)]
        await asyncio.sleep(50)
        figures = poller.statistics()
        assert (figures.watched, figures.finished, figures.mean_lag, figures.median) == (30, 0, None, None)
        assert figures.polls == len(far.times) > 30
        assert figures.paused_for == 0
        far.say = lambda _id, _: error(429, retry_after="70")
        await asyncio.sleep(30)
        assert 30 < poller.statistics().paused_for <= 70
        far.say = lambda _id, _: DONE
        await asyncio.wait(watchers)
        figures = poller.statistics()
        assert (figures.watched, figures.finished) == (0, 30)
        assert figures.mean_lag is not None
        assert figures.median is not None
        assert 0 < figures.mean_lag < 60


async def test_what_the_service_keeps_in_its_queue_is_told() -> None:
    """Not while it may be taken up still: after a fifth of the median time, and until it runs, or nobody waits."""
    told: list[tuple[int, int]] = []
    began = now()

    def say(name: str, _asked: int) -> HttpReply:
        age = now() - began
        if name.startswith("quick"):
            return DONE if age > 100 else RUNNING
        return DONE if age > 900 else reply("queued") if age < 600 else RUNNING

    background, images = Background(), LocalImages()
    service = Service(Service_(say), images, ServiceSettings())
    poller = Poller(
        service,
        background,
        PollSettings(),
        pauses=AdmissionSettings(),
        dice=random.Random(1),
        queued=lambda long, unbegun: told.append((long, unbegun)),
    )
    try:
        await asyncio.gather(*(poller.watch(f"quick{i}", timeout=5000) for i in range(30)))
        assert {long for long, _ in told} == {0}
        assert max(unbegun for _, unbegun in told) == 30, "nobody had been asked"
        assert told[-1] == (0, 0)
        told.clear()
        slow = [asyncio.ensure_future(poller.watch(f"slow{i}", timeout=5000)) for i in range(5)]
        await asyncio.sleep(300)
        assert told == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
        slow[0].cancel()
        await asyncio.wait({slow[0]})
        assert told[-1] == (4, 4)
        await asyncio.wait(slow)
        assert told[-1] == (0, 0)
    finally:
        await background.aclose()
        await images.aclose()


async def test_no_more_polls_a_second_than_permitted_and_nobody_is_forgotten() -> None:
    """Three hundred watched at two polls a second: all are asked in turn, and all end."""
    far = Service_(lambda _id, _: DONE if now() > began + 1000 else RUNNING, latency=0.5)
    began = now()
    async with polling(far, polls_per_second=2.0) as poller:
        watchers = [asyncio.ensure_future(poller.watch(f"id{i}", timeout=5000)) for i in range(300)]
        await asyncio.sleep(900)
        assert min(far.asked.values()) >= 3
        assert max(far.asked.values()) - min(far.asked.values()) <= 3
        assert len(far.asked) == 300
        await asyncio.wait(watchers)
        assert all(watcher.result().video for watcher in watchers)
        assert now() - began < 1000 + 300 / 2 + 60 + 10
    for first, third in zip(far.times, far.times[2:], strict=False):
        assert third - first >= 1.0 - 0.01


async def test_many_due_at_once_do_not_wait_for_each_other() -> None:
    """Sixteen workers ask sixteen in the same moment, not one after the other."""
    far = Service_(after(0), latency=1.0)
    async with polling(far) as poller:
        await asyncio.gather(*(poller.watch(f"id{i}", age=100, timeout=500) for i in range(16)))
    assert far.most > 12
    assert max(far.times) - min(far.times) < 0.5


async def test_a_short_interval_asks_no_oftener_than_it_says() -> None:
    """Answers that take no time at all make no loop without a pause."""
    far = Service_(lambda _id, _: DONE if now() > began + 2 else RUNNING)
    began = now()
    async with polling(far, poll_interval_min=0.01, poll_interval_max=0.05, poll_lag=0.01) as poller:
        await poller.watch("a", timeout=100)
    assert 20 <= far.asked["a"] <= 200
