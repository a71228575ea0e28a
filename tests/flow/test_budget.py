"""The budget under prices that move: what is bought, what is held, what is told, and what the next run begins with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import pytest
from attrs import evolve

from kling_async import BudgetExceeded, ConfigurationError, ImageToVideo, InvalidRequest, Stage
from kling_async.simulator import Fault, FaultPlan
from kling_async.simulator.settings import MODEL
from kling_async.types.outcome import CREDITS_PER_USD
from tests.flow.harness import IMAGE_URL, World, outcomes_of, requests, world

pytestmark = pytest.mark.looptime

ALIAS = f"klingai/{MODEL}"
"""A model that has a price, and whose submits the simulator refuses."""
STRANGER = "another/model"
"""A model that the price call does not know."""


def in_credits(usd: float) -> int:
    return round(usd * CREDITS_PER_USD)


def hold(w: World, usd: float) -> None:
    """Let the service hold another price from now on; its price call tells what it told before."""
    w.simulator.world.settings = evolve(w.simulator.world.settings, price_5_usd=usd)


def list_(w: World, usd: float) -> None:
    """Let the price call tell another price from now on."""
    w.simulator.desk.service._settings = evolve(w.simulator.desk.service._settings, price_5_usd=usd)


@asynccontextmanager
async def moving(w: World, *prices: float, every: float) -> AsyncIterator[None]:
    """Change the price again and again."""

    async def move() -> None:
        for price in cycle(prices):
            hold(w, price)
            await asyncio.sleep(every)

    task = asyncio.create_task(move())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("prices", "latency", "pace"),
    [
        ((0.26, 0.40, 0.20, 0.60), 2.0, 100.0),  # it changes while POSTs go out and come in
        ((0.26, 0.26, 0.26, 0.31), 5.0, 60.0),
        ((0.26, 0.20, 0.10, 0.26), 2.0, 100.0),  # it only falls
        ((0.40, 0.60), 9.0, None),  # all are out before the first answer
    ],
)
async def test_500_at_once_under_a_price_that_changes(
    tmp_path: Path, prices: tuple[float, ...], latency: float, pace: float | None
) -> None:
    """No POST leaves once a dearer price was told; what passes the budget was in the air then, and is reported."""
    budget, listed = 60.0, 0.26
    async with world(tmp_path, latency=latency) as w, moving(w, *prices, every=0.7):
        async with w.batch(max_in_flight=500, budget=budget, starts_per_second=pace) as batch:
            report = await batch.run(requests(500))
        bought = w.book.bought()
        cost = w.book.charges + w.book.holds
        assert (report.tally.spent, report.tally.held) == (w.book.charges, w.book.holds)
        assert isinstance(report.stopped, BudgetExceeded)
        assert report.overshoot == max(0, cost - in_credits(budget))
        dearer = [one for one in bought if one.price > in_credits(listed)]
        assert bool(dearer) == (max(prices) > listed)
        if dearer:
            told = dearer[0].bought_at + latency
            assert all(one.bought_at <= told + 0.1 for one in bought), "a POST left when the price was known"
            in_air = [one for one in bought if one.bought_at > dearer[0].bought_at - 0.1]
            assert report.overshoot <= len(in_air) * (in_credits(max(prices)) - in_credits(listed))
        else:
            assert report.overshoot == 0
            assert "would pass the budget" in str(report.stopped)
        assert ("USD more than the budget" in str(report.stopped)) == (report.overshoot > 0)
        assert report.tally.failed == 0
        await w.audit()


async def test_reservations_of_lost_answers_rise_with_the_price(tmp_path: Path) -> None:
    """A row whose answer is lost is held at the dearer price that the others were told, while it is looked for."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing="never") as w:
        hold(w, 0.40)
        async with w.batch(max_in_flight=3, budget=5.0) as batch:
            report = await batch.run(requests(3))
        (lost,) = [record for record in (await w.records()).values() if record.stage is Stage.UNCERTAIN]
        assert lost.credits == in_credits(0.40)
        assert report.tally.held == in_credits(0.40)


async def test_the_next_run_begins_with_what_was_seen_to_be_held(tmp_path: Path) -> None:
    """A list that still tells less is known to be wrong: the budget holds from the first POST on."""
    async with world(tmp_path, latency=1.0) as w:
        hold(w, 0.40)
        async with w.batch(max_in_flight=4, budget=2.0) as batch:
            assert await batch.price(MODEL, 5) == 0.26
            first = await batch.run(requests(20))
        assert (first.tally.done, first.overshoot) == (4, 0)
        async with w.batch(max_in_flight=20, budget=2.0) as batch:
            assert await batch.price(MODEL, 5) == 0.40
            second = await batch.run(requests(20))
        assert "would pass the budget" in str(second.stopped)
        assert (second.tally.done, second.overshoot) == (5, 0)
        assert w.book.charges == in_credits(2.0)
        await w.audit()


async def test_a_list_that_changed_is_believed(tmp_path: Path) -> None:
    """The price call's newer word wins over what an earlier run saw, also downwards."""
    async with world(tmp_path) as w:
        hold(w, 0.40)
        async with w.batch(budget=2.0) as batch:
            await batch.run(requests(1))
        list_(w, 0.30)
        hold(w, 0.30)
        for _ in range(2):
            async with w.batch(budget=0.40 + 3 * 0.30) as batch:
                assert await batch.price(MODEL, 5) == 0.30
                report = await batch.run(requests(9))
                assert (report.tally.done, report.overshoot) == (4, 0)


async def test_the_owner_does_not_lower_what_was_seen_to_be_held(tmp_path: Path) -> None:
    """`--price` may be more than that, and is not less."""
    async with world(tmp_path) as w:
        hold(w, 0.40)
        async with w.batch(budget=2.0, price=0.1) as batch:
            await batch.run(requests(1))
        for given, known in ((0.1, 0.40), (0.5, 0.5)):
            async with w.batch(budget=2.0, price=given) as batch:
                assert await batch.price(MODEL, 5) == known
        assert w.book.calls["price"] == 0


async def test_what_was_seen_is_a_price_where_nobody_tells_another(tmp_path: Path) -> None:
    """A budget needs no other once the folder has seen one."""
    async with world(tmp_path, price_kind="variable") as w:
        with pytest.raises(ConfigurationError, match="--price"):
            async with w.batch(budget=2.0):
                pass
        async with w.batch() as batch:
            await batch.run([*requests(1), ImageToVideo(IMAGE_URL, "longer", key="longer", duration=10)])
        async with w.batch(budget=2.0) as batch:
            assert (await batch.price(MODEL, 5), await batch.price(MODEL, 10)) == (0.26, 0.52)


async def test_a_price_that_rose_with_the_last_row_stopped_nothing(tmp_path: Path) -> None:
    """All rows have their video: the run is whole, and tells what it passed the budget by."""
    async with world(tmp_path) as w:
        hold(w, 0.40)
        async with w.batch(budget=0.30) as batch:
            report = await batch.run(requests(1))
        assert (report.stopped, report.tally.done) == (None, 1)
        assert report.overshoot == in_credits(0.10)


async def test_a_model_without_a_price_is_refused_under_a_budget_and_the_others_go_on(tmp_path: Path) -> None:
    """Its rows end FAILED, for free, and say what to do; it is asked for once for all of them."""
    strange = [ImageToVideo(IMAGE_URL, f"{i}", key=f"s{i}", model=STRANGER) for i in range(5)]
    async with world(tmp_path, latency=1.0) as w, w.batch(budget=5.0) as batch:
        outcomes = await outcomes_of(batch, [*strange, *requests(5)])
        for i in range(5):
            assert outcomes[f"row{i}"].ok
            assert outcomes[f"s{i}"].stage is Stage.FAILED
            assert isinstance(outcomes[f"s{i}"].error, InvalidRequest)
            assert "--price" in str(outcomes[f"s{i}"].error)
        assert (w.book.calls["price"], w.book.calls["submit"]) == (2, 5)


@pytest.mark.parametrize(
    ("model", "flags"), [(STRANGER, {"price": 0.3, "budget": 5.0}), (STRANGER, {}), (ALIAS, {"budget": 5.0})]
)
async def test_other_models_are_bought_where_their_price_is_known_or_not_needed(
    tmp_path: Path, model: str, flags: dict[str, float]
) -> None:
    """By `--price`, by the price call, or without a budget: the POST leaves (and is refused by this service)."""
    async with world(tmp_path) as w, w.batch(**flags) as batch:
        outcomes = await outcomes_of(batch, [ImageToVideo(IMAGE_URL, "x", key="x", model=model)])
        assert w.book.calls["submit"] == 1
        assert "--price" not in str(outcomes["x"].error)


async def test_a_price_call_in_trouble_refuses_no_row(tmp_path: Path) -> None:
    """Under a budget it is asked again until it answers; a run without the service keeps its rows PLANNED."""
    plan = FaultPlan.of(Fault("price", "500", at=(2, 3, 4, 5, 6, 7, 8)))
    async with world(tmp_path, plan) as w, w.batch(budget=5.0) as batch:
        outcomes = await outcomes_of(batch, [ImageToVideo(IMAGE_URL, "x", key="x", model=ALIAS), *requests(3)])
        assert "--price" not in str(outcomes["x"].error)
        assert (w.book.calls["price"], w.book.calls["submit"]) == (9, 4)


async def test_a_row_of_equal_content_needs_neither_price_nor_budget(tmp_path: Path) -> None:
    """It costs nothing: what is parked behind a row in flight ends with it, though the budget has closed the way."""
    rows = [ImageToVideo(IMAGE_URL, "same", key=f"twin{i}") for i in range(3)]
    async with world(tmp_path) as w, w.batch(max_in_flight=10, budget=0.27) as batch:
        report = await batch.run([*rows, *requests(1)])
        assert isinstance(report.stopped, BudgetExceeded)
        assert (report.tally.done, report.tally.shared, report.tally.planned) == (3, 2, 1)
        assert len(w.book.bought()) == 1


async def test_what_was_never_taken_does_not_count_against_a_row(tmp_path: Path) -> None:
    """429 and 503 by the dozen, all for one row's POSTs: it ends DONE."""
    plan = FaultPlan.of(*(Fault("submit", kind, at_most=20) for kind in ("429_seconds", "503")))
    async with world(tmp_path, plan) as w, w.batch() as batch:
        outcomes = await outcomes_of(batch, requests(1))
        assert outcomes["row0"].ok
        assert w.book.calls["submit"] == 41
        await w.audit()


@pytest.mark.parametrize(
    ("fault", "settings", "told"),
    [
        (Fault("submit", "dropped_before", match="prompt 0"), {"log_refused": True}, "ServerTrouble"),
        (Fault("job", "error_1303", match="prompt 0"), {}, "GenerationFailed"),
    ],
)
async def test_a_row_whose_posts_all_come_to_nothing_ends(
    tmp_path: Path, fault: Fault, settings: dict[str, bool], told: str
) -> None:
    """After twenty of them in one process; the next run tries it anew, and the others end DONE."""
    async with world(tmp_path, FaultPlan.of(fault), **settings) as w:
        async with w.batch(max_in_flight=1) as batch:
            outcomes = await outcomes_of(batch, requests(2))
        assert outcomes["row1"].ok
        assert (outcomes["row0"].stage, type(outcomes["row0"].error).__name__) == (Stage.FAILED, told)
        assert w.book.calls["submit"] == 21
        w.simulator.faults = FaultPlan()
        async with w.batch(max_in_flight=1) as batch:
            assert (await batch.run(requests(2), retry_failed=True)).tally.done == 2
        await w.audit()
