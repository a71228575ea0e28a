"""Every await of the flow was once the place where a run was left: found by reading the source, not by hope.

A scene is played again and again; each time it hangs at an await at which it was never left before, and its caller is
cancelled there. After each the journal and the folder are held against the account book, and the rows are brought to
their ends. What no scene has reached must stand in `SPARED`, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from attrs import evolve, field, frozen

import kling_async.flow.batch
from kling_async import Batch, ImageToVideo, KlingClient
from kling_async.errors import DiskFull
from kling_async.flow.retries import Retry
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Record, Stage
from tests.flow.harness import IMAGE_URL, PNG, World, found_in, world
from tests.flow.hinges import Hinge, hinged_batch
from tests.flow.strikes import Account, Striker
from tests.flow.test_cancellation import finished_through

pytestmark = pytest.mark.looptime

FLOW = Path(kling_async.flow.batch.__file__).parent
BACKGROUND = "background.py"
"""Where the shield itself is; `test_background.py` strikes it."""
CLIENT = "client.py"
JOURNALED = ("journaled.py", "ledger.py", "places.py", "posts.py", "purchases.py")
"""What keeps a client's journal; `test_client_journal.py` strikes it, and what begins with one."""
START = "start.py"
"""What a batch and a client that keeps a journal begin with."""

SPARED: dict[str, str] = {
    r"start\.py read_start: await journal\.note\(_KEEPER, keeper": "a client's alone: its own test strikes it",
    r"start\.py _kept_by: await journal\.note\('service": "as that: a journal of another keeper comes here",
    r"async with asyncio\.timeout\(": "entering and leaving it never waits",
    r"await self\.(_crew\.)?_?background\.(ready|start)\(": "a batch has begun its background task when it comes here",
    r"poller\.py Poller\.watch: await self\._workers\.start": "as that: the workers are begun in it",
    r"service\.py Service\.(_sized|prepare: await self\._sized)": "what it asks for is known with the digest",
    r"batch\.py Batch\.__aenter__: await self\._close": "only what is left at the line above comes here",
    r"buyer\.py Buyer\._post: await self\._scribe\.move\(intended, Unsent": "only a run that is being left comes here",
    r"buyer\.py Buyer\._adopt: await .* Lost\(\), Unfound": "no service gives one id twice",
    r"buyer\.py Buyer\.rendered: await self\._crew\.purse\.write": "the simulated service charges what it held",
    r"purse\.py Purse\._listed: await .* '0'": "the simulated service never lowers its price",
    r"transfer\.py Transfer\._place: await self\.restart\(\)$": "the simulated host answers what was asked for",
    r"retries\.py take_up: await rows\.room\(\)$": "a thousand rows would have to be set aside",
}
"""Awaits at which no scene is left, as patterns, each with the reason."""

UNPLAYED = (
    r"^((again|asker|experience|latecomers|poll_workers)\.py "
    r"|rows\.py Rows\._follow|walker\.py Walker\.(walk: |_take_up: |_share: .*Waiting)"
    r"|buyer\.py Buyer\._post: .*\(intended, event\))"
)
"""Rooms that no scene goes through in full yet: what is bought again, what is late, what a run leaves for the next."""

Play: TypeAlias = Callable[[World, list[ImageToVideo]], Coroutine[Any, Any, object]]


def _stages(stages: Iterable[Stage]) -> frozenset[Stage]:
    return frozenset(stages)


@frozen
class Scene:
    """A job that is played, and left."""

    play: Play
    """What is done with the rows."""
    rows: int = 2
    """How many rows it has."""
    plan: FaultPlan = field(factory=FaultPlan)
    """What goes wrong, anew in each playing."""
    service: dict[str, Any] = field(factory=dict)
    """What the service is like."""
    ends: frozenset[Stage] = field(default=(Stage.DONE,), converter=_stages)
    """Where its rows may end when they are brought to their ends."""
    alike: bool = False
    """Whether its rows have equal content."""
    bought_again: bool = False
    """Whether its owner says to buy rows again."""
    on_uncertain: str = "resubmit"
    """What becomes, in the end, of a row that the usage log does not list; the log lies where it never lists any."""


# --------------------------------------------------------------------- the scenes


async def usual(w: World, given: list[ImageToVideo]) -> None:
    """One run."""
    async with w.batch(poll_interval_min=9.0) as batch:
        await batch.run(given)


async def one_by_one(w: World, given: list[ImageToVideo]) -> None:
    """A source that waits, one place for each thing, and rows that come edited; then a failed row again."""
    edited = [evolve(given[0], prompt="another prompt")]

    async def source() -> AsyncIterator[ImageToVideo]:
        for row in [*given[:1], *edited, *given[1:]]:
            yield row
            await asyncio.sleep(1)

    async with w.batch(max_in_flight=1) as batch:
        await batch.run(source())
        await batch.run([*edited, *given], retry_failed=True)
        assert [record async for record in batch.unfinished()] == []
        await batch.balance()


async def failed_again(w: World, given: list[ImageToVideo]) -> None:
    """Rows that failed, tried again: one by its key, then all."""
    async with w.batch(max_in_flight=1) as batch:
        await batch.run(given)
        again = Retry(keys=[given[0].key or ""])
        await batch.choose(again)
        await batch.run(again)
        await batch.run(Retry())


async def slowly(w: World, given: list[ImageToVideo]) -> None:
    """Somebody who takes outcomes slowly."""
    async with w.batch(max_in_flight=3, downloads_at_once=1) as batch:
        async for _ in _outcomes(batch, given):
            await asyncio.sleep(60)


async def equal(w: World, given: list[ImageToVideo]) -> None:
    """Rows of equal content, of which one comes when the first one's file is gone."""
    async with w.batch(downloads_at_once=1) as batch:
        await batch.run(given[:-1])
        for path in {outcome.path async for outcome in _outcomes(batch, given[:-1]) if outcome.path is not None}:
            await asyncio.get_running_loop().run_in_executor(None, partial(path.unlink, missing_ok=True))
        await batch.run(given)


async def held_against_the_journal(w: World, given: list[ImageToVideo]) -> None:
    """Files that were deleted, of which the service has other bytes by now, are fetched again."""
    async with w.batch() as batch:
        await batch.run(given)
        for record in [record async for record in batch.done()]:
            w.simulator.world.jobs[record.generation_id or ""].edition += 1
            path = batch.out / "videos" / record.name
            await asyncio.get_running_loop().run_in_executor(None, partial(path.unlink, missing_ok=True))
        await batch.verify(deep=True)
    async with w.batch(offline=True) as batch:
        await batch.verify(deep=True)


async def one_place(w: World, given: list[ImageToVideo]) -> None:
    """One generation at a time."""
    async with w.batch(max_in_flight=1) as batch:
        await batch.run(given)


async def left_and_resumed(w: World, given: list[ImageToVideo]) -> None:
    """A run that is left while a POST is out that is never answered and a video is on its way; then one to the end."""
    with anyio.move_on_after(40):
        await usual(w, given)
    await usual(w, [evolve(given[0], prompt="another prompt"), *given])


async def left_when_renamed(w: World, given: list[ImageToVideo]) -> None:
    """A run that dies when its video has its name; then one to the end."""
    batch = w.batch()
    hinged_batch(batch, Hinge(1, "after", "commit"))
    with anyio.move_on_after(60):
        async with batch:
            await batch.run(given)
    await usual(w, given)


ASIDE = {"give_up_after": 700.0, "uncertain_after": 300.0, "poll_interval_max": 200.0}


async def set_aside(w: World, given: list[ImageToVideo]) -> None:
    """Rows that do not come to their ends, asked for once more, watched again, and bought again."""
    for key in (None, None, Retry(uncertain=True)):
        async with w.batch(**ASIDE) as batch:
            await batch.run(given if key is None else key)
    again = Retry(uncertain=True, buy_again=True)
    async with w.batch(**ASIDE, budget=0.3) as batch:
        await batch.run(again)
    async with w.batch(**ASIDE, budget=1000.0, max_in_flight=1) as batch:
        await batch.choose(again)
        await batch.run(again)


async def many_aside(w: World, given: list[ImageToVideo]) -> None:
    """More set-aside rows than may wait to be delivered, and somebody who takes outcomes slowly."""
    async with w.batch(**ASIDE) as batch:
        await batch.run(given)
    for again in (given, Retry()):
        async with w.batch(**ASIDE, downloads_at_once=1) as batch:
            async for _ in _outcomes(batch, again):
                await asyncio.sleep(100)


async def settled(w: World, given: list[ImageToVideo]) -> None:
    """Rows that were set aside, and whose generations have ended when they are to be bought again."""
    async with w.batch(**ASIDE) as batch:
        await batch.run(given)
    await asyncio.sleep(600)
    w.simulator.faults = FaultPlan.of(
        Fault("poll", "401", at=(1,), match=".1"), Fault("poll", "500", at=(2,), match=".1")
    )
    async with w.batch(**ASIDE) as batch:
        await batch.run(Retry(buy_again=True))


async def gone(w: World, given: list[ImageToVideo]) -> None:
    """A video that the file host does not have, bought again."""
    async with w.batch() as batch:
        await batch.run(given)
        await batch.run(Retry(buy_again=True))


async def another_key(w: World, given: list[ImageToVideo]) -> None:
    """A row whose answer is lost is not looked for with another key."""
    for key in w.simulator.settings.keys:
        async with w.batch(api_key=key, uncertain_after=60.0) as batch:
            await batch.run(given)


async def doubted(w: World, given: list[ImageToVideo]) -> None:
    """A key that polls refuse for a while, also the poll of a row that was set aside."""
    async with w.batch(**ASIDE) as batch:
        await batch.run(given)
    w.simulator.faults = FaultPlan.of(Fault("poll", "401", at=(1,)))
    async with w.batch(**ASIDE) as batch:
        await batch.run(given)


async def refused(w: World, given: list[ImageToVideo]) -> None:
    """Submits that are refused, each for another reason, and a row that cannot be sent."""
    async with w.batch(max_in_flight=2) as batch:
        await batch.run([*given, ImageToVideo("no-such-file.png", key="no-file")])


async def never_sent(w: World, given: list[ImageToVideo]) -> None:
    """A row whose POST did not come through, bought again as asked, while the usage log is in trouble."""
    async with w.batch(on_uncertain="resubmit", uncertain_after=60.0) as batch:
        await batch.run(given)


class Full:
    """A store whose disk is full once."""

    def __init__(self, store: Any) -> None:
        self._store, self._full = store, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[Any]:
        if self._full:
            self._full = False
            raise DiskFull("there is no room")
        async with self._store.stage(name) as staged:
            yield staged


async def full_disk(w: World, given: list[ImageToVideo]) -> None:
    """A disk that is full for a while, and one download at a time."""
    batch = w.batch(downloads_at_once=1)
    batch._crew.downloader._store = Full(batch._crew.store)
    async with batch:
        await batch.run(given)


async def pictures(w: World, given: list[ImageToVideo]) -> None:
    """Images of one's own, for each field that takes one."""
    tail = evolve(given[0], key="tail", image=PNG, tail_image=PNG)
    moving: Any = {"mask": PNG, "trajectories": [{"x": 1, "y": 1}, {"x": 2, "y": 2}]}
    masked = evolve(given[1], key="masked", image=PNG, static_mask=PNG, dynamic_masks=(moving,))
    async with w.batch() as batch:
        await batch.run([tail, masked])


async def dear(w: World, given: list[ImageToVideo]) -> None:
    """A budget; a price that is not told at first, one that is higher than was said, and one that nobody tells."""
    other = [evolve(row, model="another/model", key=f"other {row.key}") for row in given]
    async with w.batch(budget=1000.0) as batch:
        await batch.run(given[:1])
        await batch.price("yet/another", 5)
        await batch.run(other)
    async with w.batch(budget=0.3, price=0.01) as batch:
        await batch.run(given)


async def _outcomes(batch: Batch, given: list[ImageToVideo] | Retry, **how: bool) -> AsyncIterator[Any]:
    async with batch.stream(given, **how) as outcomes:
        async for outcome in outcomes:
            yield outcome


FAILED = (Stage.DONE, Stage.FAILED)
ASIDE_STILL = (Stage.DONE, Stage.SUBMITTED, Stage.UNCERTAIN)

SCENES = {
    "usual": Scene(
        usual,
        plan=FaultPlan.of(Fault("submit", "dropped_after", match=".1"), Fault("download", "cut", each_first=1)),
    ),
    "one by one": Scene(one_by_one, 2, FaultPlan.of(Fault("job", "error_named", match=".1", at_most=1))),
    "failed again": Scene(failed_again, 3, FaultPlan.of(Fault("job", "error_named", at_most=3))),
    "slowly": Scene(slowly, 12),
    "equal": Scene(equal, 3, alike=True),
    "held against the journal": Scene(held_against_the_journal),
    "equal and bad": Scene(equal, 3, FaultPlan.of(Fault("job", "error_named")), alike=True, ends=FAILED),
    "bad, and the same again": Scene(one_place, 2, FaultPlan.of(Fault("job", "error_named")), alike=True, ends=FAILED),
    "left and resumed": Scene(
        left_and_resumed,
        plan=FaultPlan.of(Fault("submit", "stalled_after", at=(2,)), Fault("download", "stalled_midway", at=(1,))),
    ),
    "left when renamed": Scene(left_when_renamed, 1),
    "set aside": Scene(
        set_aside,
        plan=FaultPlan.of(Fault("job", "never_ends", match=".0"), Fault("submit", "dropped_after", match=".1")),
        service={"log_listing": "never"},
        ends=ASIDE_STILL,
        bought_again=True,
        on_uncertain="hold",
    ),
    "many aside": Scene(many_aside, 7, FaultPlan.of(Fault("job", "never_ends")), ends=ASIDE_STILL),
    "settled": Scene(
        settled,
        plan=FaultPlan.of(
            Fault("job", "late", match=".0"), Fault("job", "error_named", match=".1"), Fault("poll", "404", match=".1")
        ),
        service={"durations": 100.0},
        ends=(*FAILED, Stage.SUBMITTED),
    ),
    "gone": Scene(gone, 1, FaultPlan.of(Fault("download", "404")), bought_again=True),
    "another key": Scene(
        another_key,
        1,
        FaultPlan.of(Fault("submit", "dropped_after")),
        service={"log_listing": "never", "keys": ("sim-key", "second")},
        ends=ASIDE_STILL,
        on_uncertain="hold",
    ),
    "doubted": Scene(
        doubted,
        1,
        FaultPlan.of(Fault("job", "never_ends"), Fault("poll", "401", at=(1, 2, 3))),
        ends=ASIDE_STILL,
    ),
    "refused": Scene(
        refused,
        6,
        FaultPlan.of(
            Fault("submit", "401", at=(1,)),
            Fault("submit", "429", at=(2,)),
            Fault("submit", "500", at=(3,)),
            Fault("submit", "400", match=".5"),
            Fault("job", "error_1303", match=".3", at_most=1),
            Fault("job", "error_text", match=".4"),
        ),
        service={"log_refused": True},
        ends=FAILED,
    ),
    "in vain": Scene(usual, 1, FaultPlan.of(Fault("submit", "500")), service={"log_refused": True}, ends=FAILED),
    "never sent": Scene(
        never_sent,
        1,
        FaultPlan.of(
            Fault("submit", "dropped_before", at=(1,)),
            Fault("log", "500", at=(1, 2)),
            Fault("log", "429_seconds", at=(3,), seconds=0.1),
        ),
    ),
    "failed, says the log": Scene(
        usual,
        1,
        FaultPlan.of(
            Fault("submit", "dropped_after", at=(1,)),
            Fault("job", "error_named", at_most=1),
            Fault("poll", "500", at=(1,)),
        ),
        service={"log_listing": "end"},
    ),
    "bad files": Scene(
        usual,
        4,
        FaultPlan.of(
            *(Fault("download", "cut", match=f".{i}", at=(1,)) for i in (0, 1)),
            Fault("download", "etag_changed", match=".0", at=(2,)),
            Fault("download", "expired", match=".1", at=(2,)),
            Fault("download", "garbage", match=".2", at=(1,)),
            Fault("download", "truncated", match=".3", at=(1,)),
        ),
        service={"clip_bytes": 2_500_000},
    ),
    "full disk": Scene(full_disk),
    "pictures": Scene(pictures),
    "dear": Scene(dear, 2, FaultPlan.of(Fault("price", "500", at=(1,))), ends=(*FAILED, Stage.PLANNED)),
}


# -------------------------------------------------------------------- the account


async def test_a_batch_was_left_at_every_await(tmp_path: Path) -> None:
    """At each await of the flow that a batch can come to, a run was left; nothing was lost, or bought twice."""
    others = {BACKGROUND, CLIENT, *JOURNALED}
    account = Account(tuple(path for path in sorted(FLOW.glob("*.py")) if path.name not in others))
    striker = Striker(account)
    for name, scene in SCENES.items():
        async with world(tmp_path / name, **{"durations": 20.0, **scene.service}) as w:
            await _play_everywhere(striker, scene, w)
    assert_nothing_is_spared(account, SPARED)


def assert_nothing_is_spared(account: Account, why: dict[str, str]) -> None:
    """Hold what was never struck against the reasons: each needs one, and each reason is needed."""
    reasons = {name: [pattern for pattern in why if re.search(pattern, name)] for name in account.spared}
    missed = sorted(name for name, found in reasons.items() if not found and not re.search(UNPLAYED, name))
    assert missed == [], f"left nowhere there, for no reason: {missed}"
    assert {pattern for found in reasons.values() for pattern in found} == set(why), "a reason that is not needed"


async def _play_everywhere(striker: Striker, scene: Scene, service: World) -> None:
    """Play a scene, each time in a folder of its own, until there is no await left at which to leave it."""
    hits, number = True, 0
    while hits:
        number += 1
        w = World(service.simulator, service.folder / str(number), service.clock)
        numbers = [0 if scene.alike else i for i in range(scene.rows)]
        given = [ImageToVideo(IMAGE_URL, f"{number}.{n}", key=f"row{i}") for i, n in enumerate(numbers)]
        w.simulator.faults = scene.plan
        hits = await striker.strike(partial(scene.play, w, given))
        await asyncio.sleep(15)  # what hangs on, within its grace, has ended
        w.simulator.faults = FaultPlan()
        await _is_whole(w, scene, number)
        async with w.batch(on_uncertain=scene.on_uncertain, uncertain_after=30.0, give_up_after=700.0) as batch:
            stages = {outcome.stage async for outcome in _outcomes(batch, given, retry_failed=True)}
        assert stages <= scene.ends, striker.aimed
        assert scene.bought_again or w.book.duplicates() == [], striker.aimed


async def _is_whole(w: World, scene: Scene, number: int) -> None:
    """Hold journal and folder against the account: what was bought is known, once, and no half a file is there."""
    bought = [one for one in w.book.bought() if one.prompt.startswith(f"{number}.") and one.state != "refunded"]
    assert scene.bought_again or len({one.fingerprint for one in bought}) == len(bought), "bought twice"
    records = (await w.records()).values()
    ids = {name for record in records for name in (record.generation_id, *record.former)}
    lost = {name for record in records for name in _looked_for(record)}
    for purchase in bought:
        assert purchase.generation_id in ids or purchase.request_id in lost, "bought, and not known"
    named = {record.name for record in records if record.sha256 is not None or scene.alike}
    assert await found_in(w.folder / "videos") <= named


def _looked_for(record: Record) -> set[str | None]:
    """Return the ids of a row's POSTs whose generation is not known."""
    lost = {record.client_request_id} if record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN} else set()
    return lost | set(record.former)


# --------------------------------------------------------------------- the client


Call: TypeAlias = Callable[[KlingClient, ImageToVideo, Path], Coroutine[Any, Any, object]]


async def step_by_step(client: KlingClient, request: ImageToVideo, path: Path) -> None:
    """Each call by itself, what is found by its id too."""
    generation = await client.submit(request)
    await client.retrieve(generation)
    await client.find(generation.client_request_id or "")
    await client.download(await client.wait(generation), path)


async def at_once(client: KlingClient, request: ImageToVideo, path: Path) -> None:
    """All in one call."""
    await client.generate(request, path)


async def by_its_id(client: KlingClient, request: ImageToVideo, path: Path) -> None:
    """A video of which nothing but the id is known."""
    await client.download((await client.submit(request)).id, path)


async def _called(client: KlingClient, call: Call, request: ImageToVideo, folder: Path) -> None:
    async with client:
        await call(client, request, folder / "a.mp4")


LOST_THEN_CUT = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), Fault("download", "cut", at=(1,)))
CALLS = {
    "step by step": (step_by_step, FaultPlan()),
    "at once": (at_once, LOST_THEN_CUT),
    "by its id": (by_its_id, FaultPlan.of(Fault("submit", "429", at=(1,)), Fault("download", "expired", at=(1,)))),
}


async def test_a_client_was_left_at_every_await(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At each await of a client a call was left; by the log alone what it bought is found, and no place is kept."""
    caplog.set_level(logging.INFO, "kling_async")
    account = Account((FLOW / CLIENT,))
    striker = Striker(account)
    for name, (call, plan) in CALLS.items():
        hits = True
        while hits:
            caplog.clear()
            async with world(tmp_path, plan, durations=20.0) as w:
                client = w.client()

                hits = await striker.strike(partial(_called, client, call, ImageToVideo(PNG, name), tmp_path))
                if hits:
                    async with w.client() as other:
                        await finished_through(other, caplog.text, w, tmp_path)
                assert w.book.duplicates() == []
                assert client._gate.admission.open == 0
                assert await found_in(tmp_path) <= {"a.mp4", "found.mp4"}
    assert_nothing_is_spared(account, {})
