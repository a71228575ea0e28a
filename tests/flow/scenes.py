"""Jobs that are played, and left at each of their awaits: `tests/flow/test_awaits.py` plays them.

Each brings a run to where no other comes: what it is, what the service is like, what goes wrong, and where its rows may
end. A scene must come to its end by itself when nobody leaves it, and play the same each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import anyio
from attrs import evolve, field, frozen

from kling_async import Batch, ImageToVideo
from kling_async.errors import DiskFull
from kling_async.flow.remaining import Enrolled, Remaining
from kling_async.flow.retries import Retry
from kling_async.rules.identity import draft_of
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Stage
from tests.flow.harness import PNG, World
from tests.flow.hinges import Hinge, hinged_batch
from tests.flow.test_full_disk import Disk

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
        async for _ in delivered(batch, given):
            await asyncio.sleep(60)


async def equal(w: World, given: list[ImageToVideo]) -> None:
    """Rows of equal content, of which one comes when the first one's file is gone."""
    async with w.batch(downloads_at_once=1) as batch:
        await batch.run(given[:-1])
        for path in {outcome.path async for outcome in delivered(batch, given[:-1]) if outcome.path is not None}:
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


async def from_the_journal_alone(w: World, given: list[ImageToVideo]) -> None:
    """A source is taken in whole, and its rows are run by another process that does not read it."""
    async with w.batch(max_in_flight=1) as batch:
        await batch.enrolment.expect(len(given))
        await batch.enrol(given)
        await batch.enrolment.complete("a source")
    async with w.batch(max_in_flight=1) as batch:
        await batch.enrolment.source()
        await batch.foresee()
        await batch.run(Remaining())


async def beside_another_source(w: World, given: list[ImageToVideo]) -> None:
    """Checked rows are taken in, one that is known and one that brings bytes among them, and run by their keys."""
    pictured = evolve(given[1], key="pictured", image=PNG)

    async def keys() -> AsyncIterator[list[str]]:
        for key in ("row0", "row1", "pictured"):
            yield [key]
            await asyncio.sleep(1)

    async with w.batch(max_in_flight=1) as batch:
        await batch.enrolment.take_in([draft_of(given[0])])
        await batch.enrolment.take_in([*map(draft_of, given), pictured])
        await batch.run(Enrolled(keys()))


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
            async for _ in delivered(batch, again):
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


async def no_room(w: World, given: list[ImageToVideo]) -> None:
    """A disk on which no file can grow for a while, and two downloads that wait for that."""
    batch = w.batch(downloads_at_once=2)
    disk = Disk(batch._crew.store, "write")
    batch._crew.downloader._store, disk.full = disk, True
    asyncio.get_running_loop().call_later(1000, setattr, disk, "full", False)
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


async def put_off(w: World, given: list[ImageToVideo]) -> None:
    """Rows bought again, one at a time: one POST is turned down, one put off until its turn comes again."""
    async with w.batch(**ASIDE) as batch:
        await batch.run(given)
    w.simulator.faults = FaultPlan.of(
        Fault("submit", "429_1303", at=(1,), match=".0"), Fault("submit", "400_moderation", match=".1")
    )
    async with w.batch(**ASIDE, max_in_flight=1) as batch:
        await batch.run(Retry(buy_again=True))


async def back_to_the_first(w: World, given: list[ImageToVideo]) -> None:
    """A row bought again that is late once more, and has failed when it is to be bought a third time."""
    for fault, again in (
        ("never_ends", None),
        ("error_named", Retry(buy_again=True)),
        ("instant", Retry(buy_again=True)),
    ):
        w.simulator.faults = FaultPlan.of(Fault("job", fault))
        async with w.batch(**ASIDE) as batch:
            await batch.run(given if again is None else again)
        await asyncio.sleep(600)


async def nowhere(w: World, given: list[ImageToVideo]) -> None:
    """A video that dies nameless, that the file host does not have then, and of which the service knows no more."""
    batch = w.batch()
    hinged_batch(batch, Hinge(1, "before", "commit"))
    with anyio.move_on_after(60):
        async with batch:
            await batch.run(given)
    w.simulator.faults = FaultPlan.of(Fault("download", "404"))
    async with w.batch() as batch:
        await batch.run(given)
    lost = next(iter((await w.records()).values())).generation_id or ""
    w.simulator.faults = FaultPlan.of(Fault("download", "410", match=lost), Fault("poll", "404", since=1.0, match=lost))
    async with w.batch() as batch:
        await batch.run(Retry(buy_again=True))


async def followed(w: World, given: list[ImageToVideo]) -> None:
    """A row that is late, and ends while the source brings others."""

    async def source() -> AsyncIterator[ImageToVideo]:
        yield given[0]
        await asyncio.sleep(1500)
        yield given[1]

    async with w.batch(**ASIDE) as batch:
        await batch.run(source())


async def learned(w: World, given: list[ImageToVideo]) -> None:
    """An account that takes fewer at once than are tried."""
    async with w.batch(max_in_flight="auto") as batch:
        await batch.run(given)


async def behind(w: World, given: list[ImageToVideo]) -> None:
    """Rows of equal content, of which the one that is bought does not come to its end."""
    async with w.batch(**ASIDE) as batch:
        await batch.run(given)


async def without_a_file(w: World, given: list[ImageToVideo]) -> None:
    """A row of equal content that comes when the first one's file is gone, from the file host as well."""
    async with w.batch() as batch:
        await batch.run(given[:1])
        for record in (await w.records()).values():
            path = w.folder / "videos" / record.name
            await asyncio.get_running_loop().run_in_executor(None, partial(path.unlink, missing_ok=True))
        w.simulator.faults = FaultPlan.of(Fault("download", "404"))
        await batch.run(given)


async def delivered(batch: Batch, given: list[ImageToVideo] | Retry, **how: bool) -> AsyncIterator[Any]:
    """Yield what a batch delivers."""
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
    "from the journal alone": Scene(from_the_journal_alone),
    "beside another source": Scene(beside_another_source),
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
    "no room": Scene(no_room),
    "pictures": Scene(pictures),
    "dear": Scene(dear, 2, FaultPlan.of(Fault("price", "500", at=(1,))), ends=(*FAILED, Stage.PLANNED)),
    "put off": Scene(
        put_off,
        3,
        FaultPlan.of(Fault("job", "never_ends")),
        service={"durations": 100.0},
        ends=ASIDE_STILL,
        bought_again=True,
    ),
    "back to the first": Scene(
        back_to_the_first, 1, service={"durations": 1000.0}, ends=ASIDE_STILL, bought_again=True
    ),
    "nowhere": Scene(nowhere, 1, bought_again=True),
    "followed": Scene(followed, 2, FaultPlan.of(Fault("job", "late", match=".0")), service={"durations": 100.0}),
    "learned": Scene(learned, 4, service={"limit": 2}),
    "behind": Scene(
        behind, 2, FaultPlan.of(Fault("job", "never_ends")), alike=True, ends=(*ASIDE_STILL, Stage.PLANNED)
    ),
    "without a file": Scene(without_a_file, 2, alike=True),
}
