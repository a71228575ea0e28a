"""What is learned of how long generations take: the hazard is found, who still runs counts, old news is forgotten."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kling_async.rules.agenda import Pace, PollAgenda
from kling_async.rules.durations import EDGES, MEMORY, PRIOR_MEDIAN, TAKEN_OVER, Durations, Schedule, bin_of
from tests.rules.polled import hazards, lognormal, poll_agenda

QUICK = settings(deadline=None, max_examples=150)
AGES = st.floats(0, 1e6)


def watch(durations: Durations, lengths: list[float], *, interval: float, until: float = math.inf) -> None:
    """Ask each generation at fixed intervals until it is noticed, or until an age at which nobody asks any more."""
    for length in lengths:
        age = 0.0
        while age < min(length, until):
            since, age = age, age + interval
            if age >= length:
                durations.finished(since, age)
            else:
                durations.waited(since, age)


def mean_hazard(durations: Durations, young: float, old: float) -> float:
    """Return the hazard between two ages, on average."""
    first, last = bin_of(young), bin_of(old)
    total = sum(durations.hazard[place] * (EDGES[place + 1] - EDGES[place]) for place in range(first, last))
    return total / (EDGES[last] - EDGES[first])


def exponential(mean: float, count: int, seed: int = 1) -> list[float]:
    dice = Random(seed)
    return [dice.expovariate(1 / mean) for _ in range(count)]


def lognormals(median: float, sigma: float, count: int, seed: int = 1) -> list[float]:
    dice = Random(seed)
    return [median * dice.lognormvariate(0, sigma) for _ in range(count)]


def exposure(durations: Durations) -> float:
    return float(sum(exposed for _, _, exposed in durations.to_document()["bins"]))


def finishes(durations: Durations) -> float:
    return float(sum(done for _, done, _ in durations.to_document()["bins"]))


def test_every_age_has_its_bin() -> None:
    """From nothing to weeks; what is older still belongs to the last one."""
    assert [bin_of(age) for age in (-1.0, 0.0, 0.009, 0.0101, 1e300, math.inf)] == [
        0,
        0,
        0,
        1,
        len(EDGES) - 2,
        len(EDGES) - 2,
    ]
    assert EDGES[-1] > 14 * 86_400
    assert all(after > before for before, after in pairwise(EDGES))
    assert all(bin_of(edge) == place for place, edge in enumerate(EDGES[:-1]))


def test_before_anything_is_known_the_prior_holds() -> None:
    """Broad, about its median."""
    durations = Durations()
    assert durations.seen == 0
    assert PRIOR_MEDIAN / 3 < durations.quantile(0.5) < PRIOR_MEDIAN * 3
    assert durations.quantile(0.9) > 3 * durations.quantile(0.5)


@pytest.mark.parametrize("mean", [2.0, 200.0, 20_000.0])
def test_a_constant_hazard_is_found(mean: float) -> None:
    """Exponential: as likely to end at any age."""
    durations = Durations()
    watch(durations, exponential(mean, 2000), interval=mean / 20)
    for young, old in ((0.1, 0.5), (0.5, 1.0), (1.0, 2.0)):
        assert mean_hazard(durations, young * mean, old * mean) == pytest.approx(1 / mean, rel=0.2)


@pytest.mark.parametrize("sigma", [0.15, 0.35, 0.60])
def test_the_quantiles_of_a_log_normal_are_found(sigma: float) -> None:
    """And its hazard, which rises and falls."""
    durations = Durations()
    watch(durations, lognormals(300, sigma, 2500), interval=12.0)
    for share, deviation in ((0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)):
        assert durations.quantile(share) == pytest.approx(300 * math.exp(sigma * deviation), rel=0.1)
    early, late = 300 * math.exp(-2 * sigma), 300 * math.exp(sigma)
    assert mean_hazard(durations, late, 1.1 * late) > 3 * mean_hazard(durations, early / 1.2, early)


def test_what_still_runs_counts() -> None:
    """Were only the finished ones looked at, the hazard would seem three times as high, and the median half as long."""
    durations = Durations()
    watch(durations, exponential(200.0, 3000), interval=10.0, until=100.0)
    assert mean_hazard(durations, 20.0, 100.0) == pytest.approx(1 / 200, rel=0.15)
    assert durations.quantile(0.3) == pytest.approx(200 * -math.log(0.7), rel=0.1)


def test_nothing_finished_yet_is_news_too() -> None:
    """A hundred that have run for ten minutes say that few end before."""
    durations = Durations()
    for _ in range(100):
        for age in range(10, 600, 10):
            durations.waited(age - 10, age)
    durations.to_document()
    durations.finished(590, 600)
    assert durations.quantile(0.5) > 550


@QUICK
@given(st.lists(st.tuples(AGES, AGES), max_size=20))
def test_exposure_is_the_time_waited(answers: list[tuple[float, float]]) -> None:
    """No second of it is lost or counted twice, however long the stretch."""
    durations = Durations()
    for since, age in answers:
        durations.waited(min(since, age), max(since, age))
        durations.waited(max(since, age), min(since, age))  # a clock that steps back teaches nothing
    total = sum(abs(age - since) for since, age in answers)
    assert exposure(durations) == pytest.approx(total, rel=1e-6, abs=0.01 * len(EDGES))


@QUICK
@example(since=0.0, age=6.1e-5, learned=False)
@given(since=AGES, age=AGES, learned=st.booleans())
def test_a_finish_is_spread_over_where_it_may_have_been(since: float, age: float, learned: bool) -> None:  # noqa: FBT001  # drawn
    """One finish in all, no time outside the two polls around it."""
    durations = Durations()
    if learned:
        watch(durations, lognormals(100, 0.3, 50), interval=10.0)
    before = finishes(durations), exposure(durations)
    durations.finished(since, age)
    document = durations.to_document()
    assert durations.seen <= 51
    assert sum(done for _, done, _ in document["bins"]) - before[0] == pytest.approx(1, abs=0.06)
    waited = sum(exposed for _, _, exposed in document["bins"]) - before[1]
    assert -0.002 * before[1] - 0.2 <= waited <= max(0.0, age - since) + 0.2
    if not learned:
        touched = [place for place, done, _ in document["bins"] if done]
        assert bin_of(min(since, age)) <= min(touched)
        assert max(touched) <= bin_of(age)


def test_what_a_finish_between_two_polls_means_follows_what_is_known() -> None:
    """Between one poll at 1 s and the next at 400 s, it ended where most do."""
    durations = Durations()
    watch(durations, lognormals(300, 0.1, 500), interval=5.0)
    before = list(durations._finished)
    durations.finished(1.0, 400.0)
    added = {place: done - before[place] for place, done in enumerate(durations._finished)}
    assert sum(share for place, share in added.items() if EDGES[place] >= 220) > 0.9


def test_what_was_learned_outlives_a_document() -> None:
    """In JSON, with the same ages at which generations end, at less weight; and a second reading changes nothing."""
    durations = Durations()
    watch(durations, lognormals(300, 0.35, 700), interval=12.0)
    document = json.loads(json.dumps(durations.to_document()))
    again = Durations(document)
    assert again.seen == TAKEN_OVER < durations.seen
    durations._learn()
    for share, near in ((0.1, 0.3), (0.5, 0.1), (0.9, 0.1)):  # the prior has its say where few have ended
        assert again.quantile(share) == pytest.approx(durations.quantile(share), rel=near)
    told = again.to_document()
    assert Durations(json.loads(json.dumps(told))).to_document() == told
    assert len(json.dumps(document)) < 10_000


GARBAGE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@settings(deadline=None, max_examples=400)
@given(
    version=st.one_of(st.just(1), GARBAGE),
    seen=st.one_of(st.floats(), GARBAGE),
    bins=st.one_of(
        st.lists(st.tuples(st.one_of(st.integers(-2, 400), st.floats()), st.floats(), st.floats()), max_size=5), GARBAGE
    ),
)
def test_no_document_stops_anything(version: Any, seen: Any, bins: Any) -> None:
    """Whatever it holds: there is a schedule, and its intervals are positive."""
    for document in ({}, {"version": version}, {"version": version, "seen": seen, "bins": bins}):
        durations = Durations(document)
        assert all(hazard > 0 and math.isfinite(hazard) for hazard in durations.hazard)
        assert durations.seen >= 0
        assert durations.quantile(0.5) > 0
        assert Schedule(durations.hazard, 5.0).interval(10.0) > 0


@pytest.mark.parametrize(
    "document",
    [
        {"version": 2, "seen": 100, "bins": [[150, 50, 1]]},
        {"version": 1, "seen": 100},
        {"version": 1, "seen": 100, "bins": [[150, -1, 1]]},
        {"version": 1, "seen": 100, "bins": [[9999, 1, 1]]},
        {"version": 1, "seen": math.inf, "bins": [[150, 50, 1]]},
        {"version": 1, "seen": 100, "bins": [[150, math.nan, 1]]},
        {"version": 1, "seen": "many", "bins": []},
        {"version": 1, "seen": 30, "bins": [[5, 1.7e308, 0]]},
    ],
)
def test_what_cannot_be_read_is_as_if_it_were_not_there(document: dict[str, Any]) -> None:
    """Not half of it is taken."""
    assert list(Durations(document).hazard) == list(Durations().hazard)
    assert Durations(document).seen == 0


def test_a_number_that_nobody_can_have_seen_does_not_end_the_learning() -> None:
    """As many finishes as are remembered, at the most: the schedule is still made anew."""
    durations = Durations({"version": 1, "seen": 1e9, "bins": [[100, 5, 5]]})
    assert any(durations.finished(100.0, 110.0) for _ in range(100))


def test_old_news_is_forgotten() -> None:
    """Two memories after the service became twice as slow, its median is the new one; the one of long ago is gone."""
    durations = Durations()
    watch(durations, lognormals(300, 0.2, 2 * MEMORY), interval=15.0)
    assert durations.seen <= MEMORY
    watch(durations, lognormals(600, 0.2, 2 * MEMORY), interval=15.0)
    assert durations.quantile(0.5) == pytest.approx(600, rel=0.1)
    watch(durations, lognormals(200, 0.2, 2 * MEMORY), interval=15.0)
    assert durations.quantile(0.5) == pytest.approx(200, rel=0.1)


def test_forgetting_takes_from_all_alike() -> None:
    """What is stable stays as it is."""
    durations = Durations()
    watch(durations, lognormals(300, 0.3, 1500), interval=15.0)
    first = [durations.quantile(share) for share in (0.1, 0.5, 0.9)]
    watch(durations, lognormals(300, 0.3, 3000, seed=2), interval=15.0)
    assert [durations.quantile(share) for share in (0.1, 0.5, 0.9)] == pytest.approx(first, rel=0.08)


@pytest.mark.parametrize("lag", [0.5, 5.0, 50.0])
def test_where_all_ages_are_alike_the_interval_is_twice_the_lag(lag: float) -> None:
    """Of a constant hazard: nothing is better than a fixed interval."""
    schedule = Schedule([1 / 200] * (len(EDGES) - 1), lag)
    for age in (0.0, 3.0, 100.0, 1000.0):
        assert schedule.interval(age) == pytest.approx(2 * lag, rel=0.01)


def test_polls_are_spent_where_ends_are_likely() -> None:
    """At the square root of the hazard: a poll more there is worth more than it costs elsewhere."""
    survival = lognormal(300, 0.15)
    schedule, hazard = Schedule(hazards(survival), 5.0), hazards(survival)
    rates = {age: 1 / schedule.interval(age) for age in (230.0, 300.0, 400.0)}
    for age, rate in rates.items():
        ratio = math.sqrt(hazard[bin_of(age)] / hazard[bin_of(300.0)])
        assert rate / rates[300.0] == pytest.approx(ratio, rel=0.15)
    assert schedule.interval(0.0) > 150


@QUICK
@given(AGES, st.floats(0.5, 2), st.floats(0.1, 600), st.floats(1.01, 10))
def test_the_interval_grows_with_the_lag_and_with_the_polls_waited_for(
    age: float, polls: float, lag: float, more: float
) -> None:
    """And is never nothing."""
    hazard = Durations().hazard
    schedule = Schedule(hazard, lag)
    least = schedule.interval(age, polls=polls)
    assert least > 0
    assert schedule.interval(age, polls=polls * more) >= least
    assert Schedule(hazard, lag * more).interval(age, polls=polls) >= least * (1 - 1e-9)


def test_one_stuck_generation_spoils_nothing() -> None:
    """It is exposure at an age that others do not reach."""
    agenda, plain = PollAgenda(Pace(0.2, 60.0)), PollAgenda(Pace(0.2, 60.0))
    lengths = lognormals(300, 0.35, 400)
    for found, jobs in ((agenda, [1e5, *lengths]), (plain, lengths)):
        poll_agenda(found, jobs, seed=1)
    assert agenda.median("") == pytest.approx(plain.median(""), rel=0.1)
