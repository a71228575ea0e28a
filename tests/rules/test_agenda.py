"""The poll agenda: nobody is lost, nobody is asked twice at once, and intervals keep to their bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kling_async.rules.agenda import GROWTH, JITTER, Pace, PollAgenda

QUICK = settings(deadline=None, max_examples=150)
DRAWS = st.floats(0, 1, exclude_max=True)
NAMES = st.sampled_from("abcdefgh")
EPSILON = 1e-6


class AgendaMachine(RuleBasedStateMachine):
    """Drives an agenda beside a model of it: for each generation that waits, from when to when it may be asked."""

    @initialize(
        low=st.floats(0.01, 1.0),
        more=st.floats(0, 20.0),
        lag=st.one_of(st.none(), st.floats(0.001, 60)),
        now=st.floats(0, 1e6),
    )
    def begin(self, low: float, more: float, lag: float | None, now: float) -> None:
        self.pace = Pace(low, low + more, lag)
        self.agenda = PollAgenda(self.pace)
        self.now = now
        self.paused = float("-inf")
        self.waiting: dict[str, tuple[float, float]] = {}
        self.out: set[str] = set()
        self.watched: set[str] = set()

    def window(self) -> tuple[float, float]:
        return (
            self.now + self.pace.interval_min * (1 - JITTER) - EPSILON,
            self.now + self.pace.interval_max * (1 + JITTER) + EPSILON,
        )

    @rule(name=NAMES, draw=DRAWS)
    def add_young(self, name: str, draw: float) -> None:
        self.agenda.add(name, self.now, draw=draw)
        self._added(name, self.window())

    @rule(name=NAMES, draw=DRAWS, more=st.floats(0, 1e5))
    def add_old(self, name: str, draw: float, more: float) -> None:
        self.agenda.add(name, self.now, age=self.pace.interval_max + more, draw=draw)
        self._added(name, (self.now, self.now + self.pace.interval_min + EPSILON))

    def _added(self, name: str, window: tuple[float, float]) -> None:
        if name not in self.watched and name not in self.out:
            self.waiting[name] = window
        self.watched.add(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.agenda.remove(name)
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
        taken = self.agenda.take(self.now)
        if taken is None:
            late = [name for name, (_, latest) in self.waiting.items() if latest < self.now]
            assert not late or self.now < self.paused
            return None
        name = taken.generation_id
        assert name in self.watched
        assert name not in self.out, "asked twice at once"
        earliest, _ = self.waiting.pop(name)
        assert self.now >= earliest
        assert self.now >= self.paused
        assert all(latest >= earliest for _, latest in self.waiting.values()), "somebody else was due long before"
        self.out.add(name)
        return name

    @precondition(lambda self: self.out)
    @rule(data=st.data(), draw=DRAWS)
    def answer(self, data: st.DataObject, draw: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.out)))
        self.agenda.answered(name, self.now, draw=draw)
        self.out.discard(name)
        if name in self.watched:
            self.waiting[name] = self.window()

    @rule(name=NAMES, draw=DRAWS)
    def a_stray_answer(self, name: str, draw: float) -> None:
        if name not in self.out:
            self.agenda.answered(name, self.now, draw=draw)

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

    def teardown(self) -> None:
        """In the end everybody who waits is asked, once."""
        if not hasattr(self, "agenda"):
            return
        self.now = max([self.now, self.paused, *(latest for _, latest in self.waiting.values())]) + 1
        expected = set(self.waiting)
        taken = set()
        while (name := self._take()) is not None:
            taken.add(name)
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
        agenda.answered(taken.generation_id, due, draw=draw)
    return moments


def test_what_is_removed_is_never_asked() -> None:
    """Not even where it was due already, or out."""
    agenda = PollAgenda(Pace(1.0, 15.0))
    agenda.add("a", 0.0)
    agenda.add("b", 0.0)
    agenda.remove("a")
    taken = agenda.take(100.0)
    assert taken is not None
    assert taken.generation_id == "b"
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
    agenda = PollAgenda(Pace(10.0, 10.0))
    agenda.add("a", 0.0, draw=0.5)
    agenda.remove("a")
    agenda.add("a", 9.0, draw=0.5)
    assert asked(agenda, until=60.0) == [19.0, 29.0, 39.0, 49.0, 59.0]


def test_watching_what_is_watched_changes_nothing() -> None:
    """Two who wait for one generation make one poll."""
    agenda = PollAgenda(Pace(10.0, 10.0))
    agenda.add("a", 0.0, draw=0.5)
    agenda.add("a", 5.0, draw=0.5)
    assert len(agenda) == 1
    assert asked(agenda, until=25.0) == [10.0, 20.0]


def test_the_earliest_due_is_asked_first() -> None:
    """And among equals the one that came first."""
    agenda = PollAgenda(Pace(10.0, 10.0))
    for name, moment in (("late", 5.0), ("early", 0.0), ("early too", 0.0)):
        agenda.add(name, moment, draw=0.5)
    taken = [agenda.take(100.0) for _ in range(3)]
    assert [watched.generation_id for watched in taken if watched] == ["early", "early too", "late"]


def test_nobody_is_asked_early() -> None:
    """Not by the smallest part of a second."""
    agenda = PollAgenda(Pace(1.0, 15.0))
    agenda.add("a", 0.0)
    due = agenda.next_due()
    assert due is not None
    assert agenda.take(due - 1e-9) is None
    assert agenda.take(due) is not None


def test_answers_are_counted() -> None:
    """For each generation its own."""
    agenda = PollAgenda(Pace(1.0, 1.0))
    agenda.add("a", 0.0, draw=0.5)
    assert len(asked(agenda, until=9.5)) == 9
    agenda.add("b", 9.5, draw=0.9)
    counted = {}
    while taken := agenda.take(100.0):
        assert taken.out
        counted[taken.generation_id] = taken.asked
    assert counted == {"a": 9, "b": 0}


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
@given(st.floats(0.05, 2), st.floats(0, 30), DRAWS, st.one_of(st.none(), st.floats(0.001, 100)))
def test_intervals_keep_to_their_bounds(low: float, more: float, draw: float, lag: float | None) -> None:
    """Give or take the jitter, at any age."""
    agenda = PollAgenda(Pace(low, low + more, lag))
    agenda.add("a", 0.0, draw=draw)
    moments = asked(agenda, until=300 * low + 20 * more, draw=draw)
    gaps = [later - sooner for sooner, later in itertools.pairwise([0.0, *moments])]
    assert min(gaps) >= low * (1 - JITTER) - EPSILON
    assert max(gaps) <= (low + more) * (1 + JITTER) + EPSILON


def test_the_old_are_asked_more_rarely_than_the_young() -> None:
    """Where a share of the age is the lag: polls do not grow with the length of a generation."""
    agenda = PollAgenda(Pace(0.2, 1000.0))
    agenda.add("a", 0.0, draw=0.5)
    moments = asked(agenda, until=2000.0)
    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert all(later >= sooner - EPSILON for sooner, later in itertools.pairwise(gaps))
    assert gaps[-1] > 100 * gaps[0]
    assert gaps[-1] == pytest.approx(moments[-2] * GROWTH * 0.02)


def test_a_lag_in_seconds_is_half_the_interval() -> None:
    """What ends at any moment between two polls is noticed so much later in the mean."""
    agenda = PollAgenda(Pace(0.1, 60.0, lag=2.5))
    agenda.add("a", 0.0, draw=0.5)
    assert asked(agenda, until=21.0) == pytest.approx([5.0, 10.0, 15.0, 20.0])


def test_what_was_begun_together_does_not_stay_together() -> None:
    """Many tasks do not ask in waves."""
    agenda = PollAgenda(Pace(10.0, 10.0))
    for i in range(100):
        agenda.add(str(i), 0.0, draw=i / 100)
    moments = [agenda.next_due() for _ in range(100) if agenda.take(100.0)]
    first, last = 10.0 * (1 - JITTER), 10.0 * (1 + JITTER)
    known = [moment for moment in moments if moment is not None]
    assert len(set(known)) == 99
    assert first < min(known) < max(known) < last


@QUICK
@given(st.floats(15.0, 1e6), DRAWS)
def test_one_that_is_old_already_is_asked_soon(age: float, draw: float) -> None:
    """What was open when an earlier process stopped may be finished; but not all in one instant."""
    agenda = PollAgenda(Pace(0.5, 15.0))
    agenda.add("a", 1000.0, age=age, draw=draw)
    due = agenda.next_due()
    assert due is not None
    assert due == pytest.approx(1000.0 + 0.5 * draw)
