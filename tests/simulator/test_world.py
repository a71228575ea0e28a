"""The pure world: its money, its limit, its jobs."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from kling_async.simulator import SimulatorSettings, World
from kling_async.simulator.jobs import FATES, Fate, Job, Order
from kling_async.simulator.world import Bidder

NOW = 1_800_000_000.0
BIDDER = Bidder(key="sim-key")


def make_world(**settings: Any) -> World:
    return World(SimulatorSettings(**{"durations": 100.0, **settings}))


def order(prompt: str = "p", duration: int = 5) -> Order:
    return Order(fingerprint=f"{prompt}/{duration}", image_digest="i", prompt=prompt, duration=duration)


def accepted(world: World, now: float = NOW, fate: Fate | None = None) -> Job:
    job = world.accept(order(), BIDDER, now, fate)
    assert isinstance(job, Job)
    return job


Step = tuple[Literal["accept", "wait"], int, str, float]

steps = st.lists(
    st.tuples(
        st.sampled_from(["accept", "accept", "wait"]),
        st.sampled_from([5, 10]),
        st.sampled_from([*sorted(FATES), ""]),
        st.floats(0.0, 400.0),
    ),
    max_size=60,
)


@trials(deadline=None)
@given(
    steps=steps,
    limit=st.integers(1, 4) | st.none(),
    policy=st.sampled_from(["refuse", "queue", "fail"]),
    dollars=st.sampled_from([0.5, 2.0, 1_000.0]),
    seed=st.integers(0, 5),
)
def test_invariants(steps: list[Step], limit: int | None, policy: Any, dollars: float, seed: int) -> None:
    """Money adds up, the limit holds, no balance falls below zero, every job ends at most once, whatever happens."""
    world = World(SimulatorSettings(limit=limit, limit_policy=policy, balance_usd=dollars, seed=seed))
    now = NOW
    ended: set[str] = set()
    for action, duration, fate, seconds in steps:
        now += seconds
        world.advance(now)
        if action == "accept":
            world.accept(order(duration=duration), BIDDER, now, FATES.get(fate, Fate()))
        book = world.book
        assert book.balance == book.start - book.charges - book.holds >= 0
        assert book.holds == sum(one.price for one in book.bought() if one.state == "held")
        assert book.charges == sum(one.charged for one in book.bought())
        assert limit is None or world.running <= limit
        assert world.running == sum(job.slotted for job in world.jobs.values())
        assert book.open_now == sum(not job.ended for job in world.jobs.values())
        over = {job.id for job in world.jobs.values() if job.ended}
        assert ended <= over
        ended = over


@trials(deadline=None)
@given(steps=steps, seed=st.integers(0, 3))
def test_same_seed_same_world(steps: list[Step], seed: int) -> None:
    """The same seed and the same events make the same world."""

    def trace() -> list[object]:
        world = World(SimulatorSettings(limit=2, limit_policy="queue", seed=seed, log_listing="mixed"))
        now = NOW
        for action, duration, fate, seconds in steps:
            now += seconds
            world.advance(now)
            if action == "accept":
                world.accept(order(duration=duration), BIDDER, now, FATES.get(fate, Fate()))
        return [(job.id, job.length, job.listing, job.purchase.ended_at) for job in world.jobs.values()]

    assert trace() == trace()


def test_seeds_differ() -> None:
    """Another seed makes other ids and times."""
    one, other = (accepted(make_world(seed=seed, durations="log-normal")) for seed in (1, 2))
    assert one.id != other.id
    assert one.length != other.length


def test_refuses_over_the_limit() -> None:
    """With the policy `refuse`, a submit over the limit makes no job, and the next end makes room."""
    world = make_world(limit=1)
    accepted(world)
    assert world.accept(order(), BIDDER, NOW + 99.9) == "limit"
    accepted(world, NOW + 100.0)
    assert len(world.jobs) == 2


def test_queues_over_the_limit() -> None:
    """With the policy `queue`, a job over the limit stays queued until the very moment in which another ends."""
    world = make_world(limit=1, limit_policy="queue")
    accepted(world)
    second = accepted(world, NOW + 10.0)
    world.advance(NOW + 99.0)
    assert (world.running, world.waiting, world.status(second, NOW + 99.0)) == (1, 1, "queued")
    world.advance(NOW + 500.0)
    assert second.purchase.ended_at == NOW + 200.0


def test_fails_over_the_limit() -> None:
    """With the policy `fail`, a job over the limit is accepted, holds no slot, fails with 1303 and costs nothing."""
    world = make_world(limit=1, limit_policy="fail")
    accepted(world)
    second = accepted(world)
    assert world.running == 1
    world.advance(NOW + 50.0)
    assert second.ended
    assert second.purchase.state == "refunded"
    assert "1303" in str(second.fate.error)


def test_holds_then_charges() -> None:
    """The price is held from acceptance on, and charged at completion."""
    world = make_world()
    job = accepted(world)
    assert (world.book.holds, world.book.charges) == (520_000, 0)
    world.advance(NOW + 100.0)
    assert (world.book.holds, world.book.charges) == (0, 520_000)
    assert job.purchase.state == "charged"


@pytest.mark.parametrize("kind", sorted(FATES))
def test_failed_jobs_are_free(kind: str) -> None:
    """A job is charged if it is completed, with a URL or without, and given back if it failed."""
    world = make_world()
    job = accepted(world, fate=FATES[kind])
    world.advance(NOW + 2_000.0)
    expected = "held" if FATES[kind].stretch == inf else "charged" if job.done else "refunded"
    assert job.purchase.state == expected


def test_no_credit() -> None:
    """What is held cannot be spent again."""
    world = make_world(balance_usd=0.6, limit=None)
    accepted(world)
    accepted(world)
    assert world.accept(order(), BIDDER, NOW) == "credit"


def test_way() -> None:
    """A running job tells the statuses of the way in their order, and then how it ended."""
    world = make_world(way=("queued", "waiting", "generating"), queued_share=0.1)
    job = accepted(world)
    assert [world.status(job, NOW + at) for at in (0, 9, 11, 54, 56, 99)] == [
        "queued",
        "queued",
        "waiting",
        "waiting",
        "generating",
        "generating",
    ]
    world.advance(NOW + 100.0)
    assert world.status(job, NOW + 100.0) == "completed"


def test_durations_log_normal() -> None:
    """Times are log-normal around the medians of 240 and 420 s, divided by the speed."""
    world = make_world(durations="log-normal", speed=10.0, limit=None, balance_usd=1e6)
    jobs = [world.accept(order(duration=duration), BIDDER, NOW) for duration in (5, 10) for _ in range(1_000)]
    lengths = [job.length for job in jobs if isinstance(job, Job)]
    five, ten = sorted(lengths[:1_000]), sorted(lengths[1_000:])
    assert 22.0 < five[500] < 26.0
    assert 39.0 < ten[500] < 45.0
    assert five[841] / five[500] == pytest.approx(1.42, abs=0.1)


def test_durations_long_tail() -> None:
    """With the long tail, some jobs take more than 20 minutes."""
    world = make_world(durations="long-tail", limit=None, balance_usd=1e6)
    lengths = [accepted(world).length for _ in range(1_000)]
    assert 5 < sum(length > 1_200.0 for length in lengths) < 60


def test_durations_listed() -> None:
    """Listed times are taken in turn."""
    world = make_world(durations=(1.0, 2.0, 3.0), limit=None)
    assert [accepted(world).length for _ in range(4)] == [1.0, 2.0, 3.0, 1.0]


@pytest.mark.parametrize("style", ["nanoid", "uuid", "decimal", "mixed"])
def test_ids(style: Any) -> None:
    """Ids come in the styles seen, and are unique; some nanoids begin with a dash."""
    world = make_world(id_style=style, limit=None, balance_usd=1e6)
    ids = [accepted(world).id for _ in range(200)]
    assert len(set(ids)) == 200
    kinds = {"uuid" if ":" in one else "decimal" if one.isdecimal() else "nanoid" for one in ids}
    assert kinds == ({style} if style != "mixed" else {"uuid", "decimal", "nanoid"})
    assert all(len(one) == 21 for one in ids if ":" not in one and not one.isdecimal())
    assert style != "nanoid" or any(one.startswith("-") for one in ids)


def test_end_is_entered_once() -> None:
    """The book refuses to settle a purchase twice."""
    world = make_world()
    job = accepted(world)
    world.advance(NOW + 100.0)
    with pytest.raises(ValueError, match="ended twice"):
        world.book.settle(job.purchase, paid=True, now=NOW)


def test_duplicates() -> None:
    """The book tells which bodies were bought more than once, failed ones apart."""
    world = make_world(limit=None)
    for prompt, fate in (("a", Fate()), ("b", FATES["error_text"]), ("a", Fate()), ("b", Fate())):
        world.accept(order(prompt), BIDDER, NOW, fate)
    world.advance(NOW + 100.0)
    assert [[one.prompt for one in group] for group in world.book.duplicates()] == [["a", "a"]]
    assert [one.state for one in world.book.bought_for("b/5")] == ["refunded", "charged"]
    assert world.next_ending is None
