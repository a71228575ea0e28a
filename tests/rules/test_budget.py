"""What is held for a video is never less than its price."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kling_async.rules.budget import Prices, by_duration, credits_of
from kling_async.types.outcome import CREDITS_PER_USD, usd

QUICK = settings(deadline=None, max_examples=300)


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


class TestPrices:
    """What is known of the price."""

    def test_what_nobody_told_is_not_known(self) -> None:
        """Never a figure of our own."""
        prices = Prices({})
        assert prices.hold(5) is None
        assert prices.hold(10) is None

    def test_what_is_known_is_held(self) -> None:
        """For each duration its own."""
        prices = Prices({5: 420_000})
        assert prices.hold(5) == 420_000
        assert prices.hold(10) is None

    def test_a_dearer_answer_raises_the_price(self) -> None:
        """And is told, since it stops what was reckoned with less."""
        prices = Prices({5: 420_000, 10: 840_000})
        assert prices.told(5, 500_000)
        assert (prices.hold(5), prices.hold(10)) == (500_000, 840_000)

    @pytest.mark.parametrize("credits_", [420_000, 100, 0, None])
    def test_no_other_answer_changes_it(self, credits_: int | None) -> None:
        """A cheaper one may be a discount that ends."""
        prices = Prices({5: 420_000})
        assert not prices.told(5, credits_)
        assert prices.hold(5) == 420_000

    def test_the_first_answer_tells_a_price_that_nobody_knew(self) -> None:
        """It is news, and no rise."""
        prices = Prices({})
        assert not prices.told(5, 500_000)
        assert prices.hold(5) == 500_000

    def test_what_was_given_is_copied(self) -> None:
        """Two jobs do not share their prices."""
        known = {5: 420_000}
        Prices(known).told(5, 500_000)
        assert known == {5: 420_000}

    @QUICK
    @given(st.lists(st.one_of(st.none(), st.integers(0, 10**7)), max_size=20))
    def test_a_price_never_falls(self, answers: list[int | None]) -> None:
        """It is the dearest that was told, and each rise is told once."""
        prices = Prices({5: 420_000})
        before = 420_000
        for credits_ in answers:
            rose = prices.told(5, credits_)
            held = prices.hold(5)
            assert held == max(before, credits_ or 0)
            assert rose == (held > before)
            before = held
