"""What is held for a video is never less than its price."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kling_async.errors import BudgetExceeded, InvalidRequest
from kling_async.rules.budget import LISTED, SEEN, Prices, by_duration, check_ceiling, credits_of, note_of, overshoot
from kling_async.types.outcome import CREDITS_PER_USD, usd

QUICK = settings(deadline=None, max_examples=300)

A, B = "kling-video/v1/standard/image-to-video", "another/model"


@pytest.mark.parametrize(
    ("amount", "credits_"),
    [
        (0, 0),
        (1, 2_000_000),
        (0.52, 1_040_000),
        (0.21, 420_000),
        (0.1 + 0.2, 600_000),
        (0.0000005, 1),
        (0.0000006, 2),
        (25.0, 50_000_000),
    ],
)
def test_usd_are_whole_credits(amount: float, credits_: int) -> None:
    """Two millions are one USD; what a float has too much is no credit."""
    assert credits_of(amount) == credits_


@QUICK
@given(st.floats(0, 1e6))
def test_a_hold_is_never_too_small(amount: float) -> None:
    """It is rounded up, and by less than one credit."""
    held = credits_of(amount)
    assert isinstance(held, int)
    exact = amount * CREDITS_PER_USD
    assert exact - max(1e-6, exact * 1e-15) <= held < exact + 1


@QUICK
@given(st.integers(0, 10**12))
@example(16_876_258_547)
def test_whole_credits_come_back(credits_: int) -> None:
    """From USD and back nothing is lost."""
    assert credits_of(usd(credits_)) == credits_


def test_10_seconds_cost_twice_as_much() -> None:
    """The price is that of 5."""
    assert by_duration(0.21) == {5: 420_000, 10: 840_000}


def test_a_budget_needs_a_price() -> None:
    """What nobody told cannot be held against a ceiling: it is refused, and the way out is named."""
    with pytest.raises(InvalidRequest, match="--price"):
        check_ceiling(None, taken=0, ceiling=10**9)


@QUICK
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_ceiling_may_be_reached_and_not_passed(price: int, taken: int, ceiling: int) -> None:
    """What would pass it is refused; and it is passed by exactly what lies above it."""
    if taken + price > ceiling:
        with pytest.raises(BudgetExceeded):
            check_ceiling(price, taken=taken, ceiling=ceiling)
    else:
        check_ceiling(price, taken=taken, ceiling=ceiling)
    assert overshoot(taken, ceiling) == max(0, taken - ceiling)
    assert overshoot(taken, None) == 0


def test_each_price_has_a_note_of_its_own() -> None:
    """By kind, model and duration."""
    names = [note_of(kind, model, duration) for kind in (SEEN, LISTED) for model in (A, B) for duration in (5, 10)]
    assert len(set(names)) == 8


class TestPrices:
    """What is known of the price."""

    def test_what_nobody_told_is_not_known(self) -> None:
        """Never a figure of our own."""
        prices = Prices({})
        assert prices.hold(A, 5) is None
        assert prices.seen(A, 5) is None

    def test_what_the_owner_says_holds_for_each_model_that_is_not_listed(self) -> None:
        """For each duration its own; the price call knows better."""
        prices = Prices({5: 420_000})
        assert (prices.hold(A, 5), prices.hold(B, 5)) == (420_000, 420_000)
        assert prices.hold(A, 10) is None
        assert not prices.listed(B, 5, 300_000, before=None)
        assert (prices.hold(A, 5), prices.hold(B, 5)) == (420_000, 300_000)

    def test_a_dearer_answer_raises_the_price(self) -> None:
        """Of this model and this duration, and is told, since it stops what was reckoned with less."""
        prices = Prices({5: 420_000, 10: 840_000})
        assert prices.told(A, 5, 500_000)
        assert (prices.hold(A, 5), prices.hold(A, 10), prices.hold(B, 5)) == (500_000, 840_000, 420_000)

    @pytest.mark.parametrize("credits_", [420_000, 100, 0])
    def test_no_other_answer_changes_it(self, credits_: int) -> None:
        """A cheaper one may be a discount that ends."""
        prices = Prices({5: 420_000})
        assert not prices.told(A, 5, credits_)
        assert prices.hold(A, 5) == 420_000
        assert prices.seen(A, 5) == credits_

    def test_the_first_answer_tells_a_price_that_nobody_knew(self) -> None:
        """It is news, and no rise."""
        prices = Prices({})
        assert not prices.told(A, 5, 500_000)
        assert prices.hold(A, 5) == 500_000

    def test_what_was_given_is_copied(self) -> None:
        """Two jobs do not share their prices."""
        known = {5: 420_000}
        Prices(known).told(A, 5, 500_000)
        assert known == {5: 420_000}

    def test_the_owner_does_not_lower_what_was_seen_to_be_held(self) -> None:
        """Neither with a lower price, nor does what was seen lower a higher one."""
        prices = Prices({5: 420_000})
        prices.remember(A, 5, 500_000)
        prices.remember(B, 5, 400_000)
        assert (prices.hold(A, 5), prices.hold(B, 5)) == (500_000, 420_000)

    @pytest.mark.parametrize(
        ("before", "hold"), [(None, 420_000), (600_000, 420_000), (300_000, 420_000), (420_000, 500_000)]
    )
    def test_a_changed_list_wins_over_what_was_seen(self, before: int | None, hold: int) -> None:
        """One that still says what it said when more was held is known to be wrong."""
        prices = Prices({})
        prices.remember(A, 5, 500_000)
        assert prices.listed(A, 5, 420_000, before=before) == (hold == 420_000)
        assert prices.hold(A, 5) == hold

    @QUICK
    @given(st.lists(st.integers(0, 10**7), max_size=20))
    def test_a_price_never_falls(self, answers: list[int]) -> None:
        """It is the dearest that was told, and each rise is told once."""
        prices = Prices({5: 420_000})
        before = 420_000
        for credits_ in answers:
            rose = prices.told(A, 5, credits_)
            held = prices.hold(A, 5)
            assert held == max(before, credits_)
            assert rose == (held > before)
            before = held
