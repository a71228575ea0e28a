"""The poll agenda: nobody is lost, nobody is asked twice at once, intervals and the cap are kept, and it learns."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kling_async.rules.agenda import BUCKET, JITTER, LEAST_LAG, LONG, UNKNOWN_GROWTH, WARM, Pace, PollAgenda
from tests.rules.polled import SCENARIOS, lengths, poll_agenda, poll_each, share_of_fixed

QUICK = settings(deadline=None, max_examples=100)
DRAWS = st.floats(0, 1, exclude_max=True)
NAMES = st.sampled_from("abcdefgh")
KINDS = st.sampled_from(["five", "ten"])
EPSILON = 1e-6


def longest(agenda: PollAgenda, pace: Pace) -> float:
    """Return the longest interval there may be now: four times the longest lag, or what was asked for."""
    lags = [kind.lag for kind in agenda._kinds.values()]
    # Where nothing is known of a kind yet, the lag is a share of the prior's median.
    unknown = max(LEAST_LAG, pace.share * 110.0) if pace.lag is None else pace.lag
    return max(pace.interval_max, LONG * max([unknown, *lags]))


class AgendaMachine(RuleBasedStateMachine):
    """Drives an agenda beside a model of it: for each generation that waits, from when to when it may be asked."""

    @initialize(
        low=st.floats(0.01, 1.0),
        more=st.floats(0, 20.0),
        lag=st.one_of(st.none(), st.floats(0.001, 60)),
        rate=st.one_of(st.just(math.inf), st.floats(0.1, 100)),
        now=st.floats(0, 1e6),
    )
    def begin(self, *, low: float, more: float, lag: float | None, rate: float, now: float) -> None:
        self.pace = Pace(low, low + more, lag, polls_per_second=rate)
        self.agenda = PollAgenda(self.pace)
        self.now = now
        self.paused = self.last = -math.inf
        self.waiting: dict[str, tuple[float, float]] = {}
        self.out: set[str] = set()
        self.watched: set[str] = set()
        self.polls = 0

    def window(self) -> tuple[float, float]:
        return (
            self.now + self.pace.interval_min - EPSILON,
            self.now + longest(self.agenda, self.pace) + BUCKET + EPSILON,
        )

    @rule(name=NAMES, kind=KINDS, draw=DRAWS)
    def add_young(self, name: str, kind: str, draw: float) -> None:
        self.agenda.add(name, self.now, kind=kind, draw=draw)
        self._added(name, self.window())

    @rule(name=NAMES, kind=KINDS, draw=DRAWS, age=st.floats(0.001, 1e5))
    def add_old(self, name: str, kind: str, draw: float, age: float) -> None:
        self.agenda.add(name, self.now, kind=kind, age=age, draw=draw)
        self._added(name, (self.now, self.now + self.pace.interval_min + BUCKET + EPSILON))

    def _added(self, name: str, window: tuple[float, float]) -> None:
        if name not in self.watched and name not in self.out:
            self.waiting[name] = window
        self.watched.add(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.agenda.remove(name)
        self._removed(name)

    @rule(name=NAMES)
    def end(self, name: str) -> None:
        """Its end may be heard of at any time, also by somebody else's poll."""
        self.agenda.ended(name, self.now)
        self._removed(name)

    def _removed(self, name: str) -> None:
        self.watched.discard(name)
        self.waiting.pop(name, None)

    @rule(seconds=st.one_of(st.just(0.0), st.floats(0, 30)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def sleep_until_due(self) -> None:
        due = self.agenda.next_due()
        if due is not None:
            self.now = max(self.now, due)
            assert self._take() is not None

    @rule()
    def take(self) -> None:
        self._take()

    def _take(self) -> str | None:
        name = self.agenda.take(self.now)
        gap = 1 / self.pace.polls_per_second
        if name is None:
            late = [name for name, (_, latest) in self.waiting.items() if latest < self.now]
            assert not late or self.now < self.paused or self.now < self.last + gap
            return None
        assert name in self.watched
        assert name not in self.out, "asked twice at once"
        earliest, _ = self.waiting.pop(name)
        assert self.now >= earliest
        assert self.now >= self.paused
        assert self.now >= self.last + gap - EPSILON, "more polls a second than permitted"
        assert all(latest >= earliest - EPSILON for _, latest in self.waiting.values()), "another was due long before"
        self.out.add(name)
        self.last, self.polls = self.now, self.polls + 1
        return name

    @precondition(lambda self: self.out)
    @rule(data=st.data(), draw=DRAWS, running=st.booleans())
    def answer(self, *, data: st.DataObject, draw: float, running: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.out)))
        self.agenda.answered(name, self.now, draw=draw, running=running)
        self.out.discard(name)
        if name in self.watched:
            self.waiting[name] = self.window()

    @precondition(lambda self: self.out)
    @rule(data=st.data(), draw=DRAWS)
    def answer_with_the_end(self, data: st.DataObject, draw: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.out)))
        self.agenda.ended(name, self.now)
        self.agenda.answered(name, self.now, draw=draw)
        self.out.discard(name)
        self.watched.discard(name)

    @rule(name=NAMES, draw=DRAWS)
    def a_stray_answer(self, name: str, draw: float) -> None:
        if name not in self.out:
            self.agenda.answered(name, self.now, draw=draw, running=True)

    @rule(seconds=st.floats(-5, 20))
    def pause(self, seconds: float) -> None:
        self.agenda.pause(self.now + seconds)
        self.paused = max(self.paused, self.now + seconds)

    @invariant()
    def nobody_is_lost(self) -> None:
        if not hasattr(self, "agenda"):
            return
        assert len(self.agenda) == len(self.watched)
        assert (self.agenda.next_due() is None) == (not self.waiting)
        assert set(self.waiting) == self.watched - self.out
        figures = self.agenda.statistics(self.now)
        assert (figures.watched, figures.polls) == (len(self.watched), self.polls)
        assert figures.paused_for == max(0.0, self.paused - self.now)

    def teardown(self) -> None:
        """In the end everybody who waits is asked, once, however few polls a second there may be."""
        if not hasattr(self, "agenda"):
            return
        self.now = max([self.now, self.paused, *(latest for _, latest in self.waiting.values())]) + 1
        expected = set(self.waiting)
        taken = set()
        while (due := self.agenda.next_due()) is not None:
            self.now = max(self.now, due)
            taken.add(self._take())
        assert taken == expected


AgendaMachine.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestAgenda = AgendaMachine.TestCase


def asked(agenda: PollAgenda, *, until: float, draw: float = 0.5) -> list[float]:
    """Ask whenever somebody is due, with answers that come at once; return when that was."""
    moments: list[float] = []
    while (due := agenda.next_due()) is not None and due <= until:
        taken = agenda.take(due)
        assert taken is not None
        moments.append(due)
        agenda.answered(taken, due, draw=draw, running=True)
    return moments


def taught(pace: Pace, median: float = 300.0, *, count: int = 200) -> PollAgenda:
    """Return an agenda that has seen generations end."""
    agenda = PollAgenda(pace)
    poll_agenda(agenda, [random.Random(i).lognormvariate(math.log(median), 0.35) for i in range(count)], seed=1)
    return agenda


def test_what_is_removed_is_never_asked() -> None:
    """Not even where it was due already, or out."""
    agenda = PollAgenda(Pace(1.0, 15.0))
    agenda.add("a", 0.0)
    agenda.add("b", 0.0)
    agenda.remove("a")
    taken = agenda.take(100.0)
    assert taken is not None
    assert taken == "b"
    agenda.remove("b")
    agenda.answered("b", 101.0, draw=0.5)
    assert agenda.take(1e9) is None
    assert agenda.next_due() is None
    assert len(agenda) == 0


def test_what_is_watched_again_while_it_is_asked_is_not_asked_twice_at_once() -> None:
    """One who stopped waiting and began again gets the answer that is on its way."""
    agenda = PollAgenda(Pace(1.0, 15.0))
    agenda.add("a", 0.0)
    assert agenda.take(100.0) is not None
    agenda.remove("a")
    agenda.add("a", 100.0, age=100.0)
    assert agenda.take(1e9) is None
    agenda.answered("a", 101.0, draw=0.5)
    assert agenda.take(1e9) is not None


def test_what_is_watched_again_keeps_its_interval() -> None:
    """Its place from before counts no more."""
    agenda = PollAgenda(Pace(10.0, 10.0, lag=1.0))
    agenda.add("a", 0.0)
    agenda.remove("a")
    agenda.add("a", 9.05)
    assert asked(agenda, until=45.0) == pytest.approx([19.1, 29.15, 39.2], abs=3 * BUCKET)


def test_watching_what_is_watched_changes_nothing() -> None:
    """Two who wait for one generation make one poll."""
    agenda = PollAgenda(Pace(10.0, 10.0, lag=1.0))
    agenda.add("a", 0.05)
    agenda.add("a", 5.0)
    assert len(agenda) == 1
    assert asked(agenda, until=25.0) == pytest.approx([10.1, 20.2], abs=BUCKET)


def test_the_earliest_due_is_asked_first() -> None:
    """Whoever was added first."""
    agenda = PollAgenda(Pace(10.0, 10.0, lag=1.0))
    for name, moment in (("late", 5.0), ("early", 0.0), ("between", 2.0)):
        agenda.add(name, moment)
    taken = [agenda.take(100.0) for _ in range(3)]
    assert taken == ["early", "between", "late"]


@QUICK
@given(st.floats(0.01, 0.5), st.floats(0, 1e5))
def test_nobody_is_asked_early(low: float, began: float) -> None:
    """Not where the interval is shorter than what the agenda tells apart, either: it would be asked without end."""
    agenda = PollAgenda(Pace(low, 15.0))
    agenda.add("a", began)
    due = agenda.next_due()
    assert due is not None
    assert began + low - EPSILON <= due <= began + low + BUCKET + EPSILON
    assert agenda.take(due - 1e-3) is None
    assert agenda.take(due) is not None
    agenda.answered("a", due, draw=0.5, running=True)
    again = agenda.next_due()
    assert again is not None
    assert again >= due + low - EPSILON


def test_a_pause_holds_all() -> None:
    """A failing service is left in peace; a shorter pause later does not cut it."""
    agenda = PollAgenda(Pace(1.0, 1.0))
    agenda.add("a", 0.0)
    agenda.add("b", 0.0)
    agenda.pause(50.0)
    agenda.pause(20.0)
    assert agenda.next_due() == 50.0
    assert agenda.take(49.9) is None
    assert agenda.take(50.0) is not None
    assert agenda.take(50.0) is not None


def test_an_empty_agenda_is_never_due() -> None:
    """Paused or not."""
    agenda = PollAgenda(Pace(1.0, 15.0))
    agenda.pause(50.0)
    assert agenda.next_due() is None
    assert agenda.take(100.0) is None


@QUICK
@given(
    low=st.floats(0.05, 2),
    more=st.floats(0, 30),
    draw=DRAWS,
    lag=st.one_of(st.none(), st.floats(0.001, 100)),
    seen=st.sampled_from([0.0, 3.0, 300.0]),
)
def test_intervals_keep_to_their_bounds(low: float, more: float, draw: float, lag: float | None, seen: float) -> None:
    """At any age, whatever was learned; the longest one is passed where the lag asked for is longer still."""
    pace = Pace(low, low + more, lag)
    agenda = taught(pace, seen, count=30) if seen else PollAgenda(pace)
    agenda.add("a", 1e7, draw=draw)
    moments = asked(agenda, until=1e7 + 300 * low + 20 * more, draw=draw)
    gaps = [later - sooner for sooner, later in itertools.pairwise([1e7, *moments])]
    assert all(gap >= low - EPSILON for gap in gaps)
    assert all(gap <= longest(agenda, pace) + BUCKET + EPSILON for gap in gaps)


def test_where_nothing_is_known_the_old_are_asked_more_rarely_than_the_young() -> None:
    """An interval is a share of the age: a service of any speed is met within a few polls."""
    agenda = PollAgenda(Pace(0.2, 1000.0))
    agenda.add("a", 0.0)
    moments = asked(agenda, until=2000.0)
    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert all(later >= sooner - BUCKET - EPSILON for sooner, later in itertools.pairwise(gaps))
    assert gaps[-1] == pytest.approx(UNKNOWN_GROWTH * moments[-2], abs=BUCKET)
    assert len(moments) < 45


def test_a_lag_in_seconds_is_half_the_interval_where_nothing_is_known() -> None:
    """What ends at any moment between two polls is noticed so much later in the mean."""
    agenda = PollAgenda(Pace(0.1, 60.0, lag=2.5))
    agenda.add("a", 0.0)
    assert asked(agenda, until=21.0) == pytest.approx([5.0, 10.1, 15.1, 20.2], abs=3 * BUCKET)


def test_a_slow_service_is_not_asked_without_end() -> None:
    """The longest interval follows the lag asked for, where that is longer."""
    agenda = PollAgenda(Pace(0.2, 10.0, lag=100.0))
    agenda.add("a", 0.0)
    moments = asked(agenda, until=1900.0)
    assert moments == pytest.approx([200.0 * (i + 1) for i in range(9)], abs=1.0)


def test_what_was_begun_together_does_not_stay_together() -> None:
    """Many are not asked in waves."""
    agenda = PollAgenda(Pace(1.0, 60.0, lag=5.0))
    for i in range(100):
        agenda.add(str(i), 0.0, draw=i / 100)
    moments = [agenda.next_due() for _ in range(100) if agenda.take(100.0)]
    known = sorted({moment for moment in moments if moment is not None})
    assert 10.0 * (1 - JITTER) <= known[0] < known[-1] <= 10.0 * (1 + JITTER) + BUCKET
    assert len(known) >= 20


@QUICK
@given(st.floats(0.01, 1e6), DRAWS)
def test_one_that_is_old_already_is_asked_soon(age: float, draw: float) -> None:
    """What was open when an earlier process stopped may be finished; but not all in one instant."""
    agenda = PollAgenda(Pace(0.5, 15.0))
    agenda.add("a", 1000.0, age=age, draw=draw)
    due = agenda.next_due()
    assert due is not None
    assert 1000.0 + 0.5 * draw - EPSILON <= due <= 1000.0 + 0.5 * draw + BUCKET + EPSILON


def test_what_began_in_another_process_teaches_nothing_before_it_was_seen_to_run() -> None:
    """It may have been finished for hours: its age says nothing of how long it took."""
    agenda = PollAgenda(Pace(0.5, 15.0))
    for i in range(50):
        agenda.add(f"{i}", 0.0, age=1e5)
        agenda.ended(f"{i}", 1.0)
    assert agenda.learned() == {}
    agenda.add("seen", 0.0, age=100.0)
    while agenda.take(10.0):
        agenda.answered("seen", 10.0, draw=0.5, running=True)
    agenda.ended("seen", 20.0)
    assert list(agenda.learned()) == [""]


def test_an_answer_that_failed_teaches_nothing() -> None:
    """It does not say that the generation still runs."""
    deaf, hearing = PollAgenda(Pace(1.0, 15.0)), PollAgenda(Pace(1.0, 15.0))
    for agenda in (deaf, hearing):
        agenda.add("a", 0.0)
        for moment in range(20, 400, 20):
            if agenda.take(moment):
                agenda.answered("a", moment, draw=0.5, running=agenda is hearing)
        agenda.ended("a", 400.0)
    exposures = [sum(exposed for _, _, exposed in agenda.learned()[""]["bins"]) for agenda in (deaf, hearing)]
    assert exposures[0] < 300
    assert exposures[1] > 370


def test_kinds_are_learned_apart() -> None:
    """Ten seconds of video take longer than five."""
    agenda = PollAgenda(Pace(0.2, 60.0))
    for i in range(60):
        for kind, length in (("five", 100.0), ("ten", 400.0)):
            end = length * (0.8 + 0.4 * i / 60)
            agenda.add("one", 0.0, kind=kind)
            while (due := agenda.next_due() or 0.0) < end:
                agenda.take(due)
                agenda.answered("one", due, draw=0.5, running=True)
            agenda.ended("one", due)
    five, ten, other = (agenda.median(kind) for kind in ("five", "ten", "other"))
    assert five == pytest.approx(100, rel=0.15)
    assert ten == pytest.approx(400, rel=0.15)
    assert other is None


def test_what_was_learned_is_taken_up_by_the_next_agenda() -> None:
    """From the first generation on it polls as the one before did, and better than one that knows nothing."""
    durations = lengths(SCENARIOS["log-normal 0.15"], 100, 7)
    pace = Pace(0.2, 60.0, lag=5.0)
    document = json.loads(json.dumps(taught(pace, count=1000).learned()))
    fresh, taken_over = (poll_agenda(PollAgenda(pace, known), durations, seed=1) for known in (None, document))
    assert taken_over.polls < 0.85 * fresh.polls
    assert taken_over.lag < 1.3 * fresh.lag


@pytest.mark.parametrize(("before", "after", "polls"), [(3.0, 300.0, 40), (300.0, 3.0, 12), (300.0, 300.0, 15)])
def test_lessons_of_another_speed_are_soon_unlearned(before: float, after: float, polls: int) -> None:
    """A service that became a hundred times slower or faster since the last run costs neither polls nor hours."""
    dice = random.Random(1)

    def run(agenda: PollAgenda, median: float, number: int) -> Any:
        return poll_agenda(agenda, [median * dice.lognormvariate(0, 0.15) for _ in range(number)], seed=1)

    first = PollAgenda(Pace(0.2, 60.0))
    run(first, before, 600)
    found = run(PollAgenda(Pace(0.2, 60.0), json.loads(json.dumps(first.learned()))), after, 400)
    assert found.polls / 400 <= polls
    late = found.lags[100:]
    assert sum(late) / len(late) <= max(0.02 * after, LEAST_LAG) * 1.5 + 1.0


@pytest.mark.parametrize("garbage", [{"": {}}, {"": {"version": 1, "seen": 1e999, "bins": [[1e999, 1, 1]]}}])
def test_an_unreadable_past_is_as_if_there_were_none(garbage: dict[str, Any]) -> None:
    """It costs some polls, and stops nothing."""
    agenda = PollAgenda(Pace(0.2, 60.0), garbage)
    agenda.add("a", 0.0)
    assert asked(agenda, until=500.0) == asked_fresh(500.0)


def asked_fresh(until: float) -> list[float]:
    agenda = PollAgenda(Pace(0.2, 60.0))
    agenda.add("a", 0.0)
    return asked(agenda, until=until)


def test_the_figures_tell_the_lag_and_the_median() -> None:
    """Half of what lies between the two polls around an end, on average; nothing before the first one."""
    agenda = PollAgenda(Pace(0.2, 60.0, lag=5.0))
    assert agenda.statistics(0.0).mean_lag is None
    assert agenda.statistics(0.0).median is None
    polled = poll_agenda(agenda, lengths(SCENARIOS["log-normal 0.35"], 500, 1), seed=1)
    figures = agenda.statistics(0.0)
    assert (figures.polls, figures.finished, figures.watched) == (polled.polls, 500, 0)
    assert figures.mean_lag == pytest.approx(polled.lag, rel=0.1)
    assert figures.median == pytest.approx(300, rel=0.1)


@pytest.mark.parametrize("scenario", ["log-normal 0.15", "log-normal 0.60", "mixture"])
def test_a_longer_lag_asked_for_is_had_and_costs_fewer_polls(scenario: str) -> None:
    """Both are monotone."""
    durations = lengths(SCENARIOS[scenario], 400, 3)
    found = [poll_agenda(PollAgenda(Pace(0.2, 60.0, lag=lag)), durations, seed=1) for lag in (1, 2, 4, 8, 15)]
    assert all(later.polls < sooner.polls for sooner, later in itertools.pairwise(found))
    assert all(later.lag > sooner.lag for sooner, later in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("scenario", "most"),
    [
        ("log-normal 0.15", 0.45),
        ("log-normal 0.35", 0.74),
        ("log-normal 0.60", 0.93),
        ("mixture", 0.8),
        ("shift", 0.85),
    ],
)
def test_fewer_polls_than_a_fixed_interval_at_the_same_lag(scenario: str, most: float) -> None:
    """By the share that the benchmark measures exactly, and with about the lag that was asked for."""
    durations = lengths(SCENARIOS[scenario], 1000, 1)
    polled = poll_agenda(PollAgenda(Pace(0.2, 60.0, lag=5.0)), durations, seed=1)
    assert share_of_fixed(polled, durations, seed=1) <= most
    assert polled.lag == pytest.approx(5.0, rel=0.15)
    assert max(polled.lags) <= 60 + BUCKET


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_small_job_costs_hardly_more_polls_than_a_fixed_interval(scenario: str) -> None:
    """What is learned early is not trusted too much, even where it holds no longer soon after."""
    jobs = [lengths(SCENARIOS[scenario], 100, seed) for seed in range(8)]
    found = [poll_agenda(PollAgenda(Pace(0.2, 60.0, lag=5.0)), job, seed=seed) for seed, job in enumerate(jobs)]
    lag = sum(polled.lag for polled in found) / len(found)
    fixed = sum(sum(job) / (2 * lag) + len(job) / 2 for job in jobs)
    assert sum(polled.polls for polled in found) <= 1.12 * fixed


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_a_service_of_any_speed_is_met_within_few_polls(factor: float) -> None:
    """A hundred times faster or slower than five minutes: the first ones do not wait long, all are asked rarely."""
    durations = [factor * length for length in lengths(SCENARIOS["log-normal 0.35"], 300, 1)]
    agenda = PollAgenda(Pace(0.2, 60.0))
    polled = poll_agenda(agenda, durations, seed=1)
    lag = max(LEAST_LAG, 0.02 * 300 * factor)
    assert polled.lag <= 1.5 * lag + BUCKET
    assert max(polled.lags[:WARM]) <= UNKNOWN_GROWTH * 2.5 * 300 * factor + 1
    # The first 50, begun together, are asked once a minute at the least until one of them ends.
    assert polled.polls <= 35 * len(durations) + 50 * (2.5 * 300 * factor / 60)
    assert agenda.median("") == pytest.approx(300 * factor, rel=0.15)


def test_the_cap_on_polls_a_second_is_held_and_starves_nobody() -> None:
    """Where more are due than may be asked, the lag of all grows alike."""
    agenda, dice, now = PollAgenda(Pace(0.2, 60.0, lag=0.5, polls_per_second=5.0)), random.Random(1), 0.0
    for i in range(200):
        agenda.add(str(i), 0.0, draw=dice.random())
    counts: Counter[str] = Counter()
    moments: deque[float] = deque(maxlen=6)
    for step in range(4000):
        due = agenda.next_due()
        assert due is not None
        now = max(now, due)
        taken = agenda.take(now)
        assert taken is not None
        moments.append(now)
        assert step < 6 or moments[-1] - moments[0] >= 1.0 - EPSILON
        counts[taken] += 1
        agenda.answered(taken, now, draw=dice.random(), running=True)
        if step == 2000:
            agenda.add("newcomer", now, draw=0.5)
    assert now == pytest.approx(4000 / 5, rel=0.01)
    old = [count for name, count in counts.items() if name != "newcomer"]
    assert max(old) - min(old) <= 2
    assert counts["newcomer"] >= 8


def test_a_cap_that_is_not_reached_costs_nothing() -> None:
    """A rate that suffices leaves every poll where it was."""
    durations = lengths(SCENARIOS["log-normal 0.35"], 200, 1)
    free, capped = (
        poll_agenda(PollAgenda(Pace(0.2, 60.0, lag=5.0, polls_per_second=rate)), durations, seed=1)
        for rate in (math.inf, 50.0)
    )
    assert capped.polls == pytest.approx(free.polls, rel=0.05)
    assert capped.lag == pytest.approx(free.lag, rel=0.25)


def test_each_alone_is_polled_by_a_rule_that_is_told() -> None:
    """The yardstick itself: a fixed interval's mean lag is half of it, and its polls are the length over it."""
    durations = lengths(SCENARIOS["log-normal 0.35"], 2000, 1)
    polled = poll_each(lambda _asked, _age, dice: 10 * dice.uniform(0.9, 1.1), durations, seed=1)
    assert polled.lag == pytest.approx(5.0, rel=0.05)
    assert polled.polls == pytest.approx(sum(durations) / 10 + len(durations) / 2, rel=0.02)


def test_one_that_surely_ran_a_moment_ago_waits_for_its_turn() -> None:
    """Its POST took long, and it was accepted just now: it is asked by its age, and its whole time teaches."""
    agenda = PollAgenda(Pace(0.5, 15.0, lag=5.0))
    agenda.add("a", 1000.0, age=30.0, ran=30.0, draw=0.5)
    due = agenda.next_due()
    assert due is not None
    assert 1010.0 - EPSILON <= due <= 1010.0 + BUCKET + EPSILON
    agenda.ended("a", due)
    assert agenda.learned()[""]["seen"] == pytest.approx(1.0, rel=0.01)
