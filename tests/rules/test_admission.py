"""Admission: never more open than allowed, one pause for all, one probe at a time, and the limit is found."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kling_async.rules.admission import START, UNCERTAIN_FREE, UNCERTAIN_SHARE, Admission, Limits

QUICK = settings(deadline=None, max_examples=150)
DRAWS = st.floats(0, 1, exclude_max=True)
EPSILON = 1e-6


class AdmissionMachine(RuleBasedStateMachine):
    """Drives admission as the buyer does, beside a model of what is in the air, open, uncertain and paused."""

    @initialize(
        cap=st.integers(1, 40),
        adaptive=st.booleans(),
        rate=st.one_of(st.none(), st.floats(0.1, 50)),
        first=st.floats(0.01, 5),
        more=st.floats(0, 60),
        adopted=st.integers(0, 12),
    )
    def begin(self, *, cap: int, adaptive: bool, rate: float | None, first: float, more: float, adopted: int) -> None:
        self.limits = Limits(cap, adaptive, rate, first, first + more)
        self.admission = Admission(self.limits, open_now=adopted)
        for _ in range(adopted):
            self.admission.adopt()
        self.now = 1000.0
        self.in_air = 0
        self.open = adopted
        self.uncertain: set[str] = set()
        self.lost: set[str] = set()
        self.names = 0
        self.paused = -math.inf
        self.starts: list[float] = []
        self.trouble = False

    def _start(self) -> None:
        """Check everything that must hold when a POST starts, and start it."""
        assert self.in_air + self.open < self.admission.window
        assert self.now >= self.paused - EPSILON
        assert len(self.uncertain) <= max(UNCERTAIN_FREE, UNCERTAIN_SHARE * (self.in_air + self.open))
        if self.trouble:
            assert self.in_air == 0, "two probes at once"
        if self.limits.starts_per_second is not None and self.starts:
            assert self.now - self.starts[-1] >= 1 / self.limits.starts_per_second - EPSILON
        self.admission.take(self.now)
        self.starts.append(self.now)
        self.in_air += 1

    @rule()
    def start(self) -> None:
        if self.admission.wait(self.now) == 0:
            self._start()

    @rule()
    def wait_and_start(self) -> None:
        wait = self.admission.wait(self.now)
        assert wait >= 0
        if math.isfinite(wait):
            self.now += wait + EPSILON
            assert self.admission.wait(self.now) == 0, "a wait that ended is over"
            self._start()

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.in_air)
    @rule()
    def accept(self) -> None:
        self.admission.accepted()
        self.admission.landed()
        self.in_air -= 1
        self.open += 1
        self.trouble = False

    @precondition(lambda self: self.in_air)
    @rule(jobs=st.sampled_from([None, False, True]), pause=st.one_of(st.none(), st.floats(0, 300)), draw=DRAWS)
    def refuse(self, *, jobs: bool | None, pause: float | None, draw: float) -> None:
        before = self.admission.window
        self.admission.refused(self.now, pause=pause, jobs=jobs, draw=draw)
        assert self.admission.window <= before
        if jobs is False:
            assert self.admission.window == before, "a limit on requests says nothing of jobs"
        self._ended(pause)

    @precondition(lambda self: self.in_air)
    @rule(pause=st.one_of(st.none(), st.floats(0, 300)), draw=DRAWS)
    def fail(self, pause: float | None, draw: float) -> None:
        before = self.admission.window
        self.admission.troubled(self.now, pause=pause, draw=draw)
        assert self.admission.window == before
        self._ended(pause)

    def _ended(self, pause: float | None) -> None:
        self.admission.landed()
        self.admission.release()
        self.in_air -= 1
        self.trouble = True
        least = self.limits.backoff_first / 4 if pause is None else pause
        self.paused = max(self.paused, self.now + least)
        most = max(self.paused, self.now + max(self.limits.backoff_cap, pause or 0.0))
        wait = self.admission.wait(self.now)
        assert wait == math.inf or self.now + wait <= most + 1 / (self.limits.starts_per_second or math.inf) + EPSILON

    @precondition(lambda self: self.in_air)
    @rule()
    def refuse_the_row(self) -> None:
        """The service says that this row is wrong: the slot is free again, and nobody pauses."""
        self.admission.landed()
        self.admission.release()
        self.in_air -= 1

    @precondition(lambda self: self.in_air)
    @rule(draw=DRAWS)
    def lose_the_answer(self, draw: float) -> None:
        self.admission.troubled(self.now, pause=None, draw=draw)
        self.admission.landed()
        self.names += 1
        name = f"ka1.{self.names}"
        for _ in range(2):
            self.admission.uncertain(name)
        self.uncertain.add(name)
        self.lost.add(name)
        self.in_air -= 1
        self.open += 1
        self.trouble = True
        self.paused = max(self.paused, self.now + self.limits.backoff_first / 4)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def find_it_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.lost)))
        self.admission.certain(name)
        self.uncertain.discard(name)
        self.lost.discard(name)

    @rule()
    def read_the_log(self) -> None:
        self.admission.log_read()
        self.uncertain.clear()

    @precondition(lambda self: self.open > len(self.lost))
    @rule()
    def finish_one(self) -> None:
        self.admission.release()
        self.open -= 1

    @rule()
    def adopt(self) -> None:
        self.admission.adopt()
        self.open += 1

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "admission"):
            return
        assert self.admission.open == self.open + self.in_air
        assert 1 <= self.admission.window <= self.limits.cap
        assert self.admission.probing == self.trouble

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Where a slot is free, nobody is in the air, and little is uncertain, a POST may start within a while."""
        if not hasattr(self, "admission"):
            return
        free = self.open + self.in_air < self.admission.window
        calm = len(self.uncertain) <= max(UNCERTAIN_FREE, UNCERTAIN_SHARE * (self.open + self.in_air))
        if free and calm and not (self.trouble and self.in_air):
            assert math.isfinite(self.admission.wait(self.now))
        else:
            assert self.admission.wait(self.now) == math.inf


AdmissionMachine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=50)
TestAdmission = AdmissionMachine.TestCase


def fill(admission: Admission, now: float = 0.0) -> int:
    """Take every slot there is; return how many."""
    taken = 0
    while admission.wait(now) == 0:
        admission.take(now)
        taken += 1
    return taken


def accept(admission: Admission, count: int = 1) -> None:
    for _ in range(count):
        admission.accepted()
        admission.landed()


def refuse(admission: Admission, now: float = 0.0, *, jobs: bool | None = True, pause: float | None = 0.0) -> None:
    admission.refused(now, pause=pause, jobs=jobs, draw=0.5)
    admission.landed()
    admission.release()


def saturate(admission: Admission, limit: int, now: float) -> float:
    """Fill up against an account that takes `limit` jobs, until it refuses one; return the time."""
    while True:
        now = later(admission, now)
        admission.take(now)
        if admission.open > limit:
            refuse(admission, now, pause=None)
            return now
        accept(admission)


def later(admission: Admission, now: float) -> float:
    """Return when the next POST may start."""
    wait = admission.wait(now)
    assert math.isfinite(wait)
    return now + wait + EPSILON


def test_auto_starts_at_four() -> None:
    """Public clients use 4 or 5 at once."""
    admission = Admission(Limits(1000, adaptive=True))
    assert START == 4
    assert admission.window == 4
    assert fill(admission) == 4
    assert admission.wait(0.0) == math.inf


@pytest.mark.parametrize(("open_now", "window"), [(0, 4), (3, 4), (50, 50), (2000, 1000)])
def test_auto_starts_at_what_is_open_already(open_now: int, window: int) -> None:
    """What the account held when an earlier process stopped; never above the ceiling."""
    assert Admission(Limits(1000, adaptive=True), open_now=open_now).window == window


def test_a_fixed_number_is_used_at_once_and_never_passed() -> None:
    """Whatever is accepted."""
    admission = Admission(Limits(7, adaptive=False), open_now=2)
    assert fill(admission) == 7
    accept(admission, 7)
    assert admission.window == 7
    assert admission.wait(0.0) == math.inf


def test_a_small_cap_holds_for_auto_too() -> None:
    """It starts below its own beginning."""
    assert fill(Admission(Limits(2, adaptive=True))) == 2


def test_the_window_grows_with_each_acceptance_until_the_first_refusal() -> None:
    """Nobody published the limit: it is searched for, a slot for each job that was taken."""
    admission = Admission(Limits(1000, adaptive=True))
    sizes = []
    for _ in range(4):
        accept(admission, fill(admission))
        sizes.append(admission.window)
    assert sizes[0] > 4
    assert sizes == sorted(set(sizes))
    assert sizes[-1] <= 1000


def test_an_idle_window_does_not_grow() -> None:
    """What is not used says nothing of the limit."""
    admission = Admission(Limits(1000, adaptive=True), open_now=50)
    for _ in range(20):
        admission.take(0.0)
        accept(admission)
        admission.release()
    assert admission.window == 50


def test_a_refusal_of_jobs_shrinks_the_window_to_what_was_open() -> None:
    """The account holds so many, and not one more."""
    admission = Admission(Limits(1000, adaptive=True), open_now=10)
    accept(admission, fill(admission))
    while admission.wait(0.0) == math.inf:
        admission.release()
    admission.take(0.0)
    open_then = admission.open - 1
    refuse(admission)
    assert admission.window == open_then == admission.open


@pytest.mark.parametrize("jobs", [True, None])
def test_a_refusal_that_may_mean_jobs_shrinks_it_too(*, jobs: bool | None) -> None:
    """It is better to be polite where nobody told."""
    admission = Admission(Limits(20, adaptive=False))
    for _ in range(6):
        admission.take(0.0)
    accept(admission, 5)
    refuse(admission, jobs=jobs)
    assert admission.window == 5


def test_a_refusal_of_requests_leaves_it() -> None:
    """Only the pause follows."""
    admission = Admission(Limits(20, adaptive=False))
    admission.take(0.0)
    refuse(admission, jobs=False, pause=9.0)
    assert admission.window == 20
    assert admission.wait(0.0) == 9.0


def test_one_burst_of_refusals_shrinks_it_once() -> None:
    """Many answers of one moment say one thing, even where jobs end between them."""
    admission = Admission(Limits(20, adaptive=False))
    assert fill(admission) == 20
    accept(admission, 8)
    for i in range(12):
        refuse(admission)
        if i < 3:
            admission.release()
    assert (admission.window, admission.open) == (8, 5)


def test_the_window_grows_again_slowly() -> None:
    """About one slot for a whole window of accepted jobs, once the trouble is over; the limit may have been raised."""
    admission = Admission(Limits(20, adaptive=False))
    now = saturate(admission, 5, 0.0)
    assert admission.window == 5
    accepted = 0
    while admission.window == 5:
        admission.release()
        now = later(admission, now)
        admission.take(now)
        accept(admission)
        accepted += 1
    assert 5 <= accepted <= 7
    assert admission.window == 6


@pytest.mark.parametrize(("limit", "window"), [(1, 2), (1, 8), (4, 8), (7, 8), (30, 40)])
def test_generations_that_fail_for_the_limit_leave_a_window_of_those_that_run(limit: int, window: int) -> None:
    """Each of them has its slot still when it is noticed, and is not among those that fit."""
    admission = Admission(Limits(window, adaptive=False))
    for _ in range(window):
        admission.take(0.0)
        accept(admission)
    for _ in range(window - limit):
        admission.crowded(1.0, draw=0.5)
        admission.release()
    assert (admission.window, admission.open) == (limit, limit)


def test_a_limit_of_one_is_not_passed_by_each_second_post() -> None:
    """What ends a trouble shows that one fits again, and nothing of two."""
    admission, now, posts, refused = Admission(Limits(8, adaptive=True)), 0.0, 0, 0
    for _ in range(100):
        if admission.wait(now) == math.inf:
            admission.release()
        now = later(admission, now)
        admission.take(now)
        posts += 1
        if admission.open > 1:
            refuse(admission, now, pause=None)
            refused += 1
        else:
            accept(admission)
    assert refused <= 0.4 * posts


@QUICK
@given(st.integers(1, 60), st.booleans())
def test_the_limit_of_an_account_is_found_and_held(limit: int, adaptive: bool) -> None:  # noqa: FBT001  # drawn
    """Whatever it is: the window comes to lie at it, and one in about so many POSTs is refused."""
    admission = Admission(Limits(100, adaptive=adaptive))
    now = saturate(admission, limit, 0.0)
    assert admission.window == limit
    refused = taken = 0
    for _ in range(20 * limit):
        if admission.wait(now) == math.inf:
            admission.release()
        now = later(admission, now)
        admission.take(now)
        if admission.open > limit:
            refuse(admission, now, pause=None)
            refused += 1
        else:
            accept(admission)
            taken += 1
        assert admission.window <= limit + 1
    assert admission.window >= limit
    assert refused <= 1.5 * taken / limit + 2


def test_adopted_ones_count_whatever_the_window_says() -> None:
    """What is open is open; nothing new starts before there is room."""
    admission = Admission(Limits(3, adaptive=False), open_now=5)
    for _ in range(5):
        admission.adopt()
    assert (admission.open, admission.window) == (5, 3)
    for free in (4, 3):
        admission.release()
        assert admission.open == free
        assert admission.wait(0.0) == math.inf
    admission.release()
    assert admission.wait(0.0) == 0.0


def test_all_pause_as_one() -> None:
    """One trouble holds everybody; the longest pause that was named counts."""
    admission = Admission(Limits(20, adaptive=False))
    for _ in range(3):
        admission.take(0.0)
    admission.troubled(0.0, pause=30.0, draw=0.5)
    admission.landed()
    refuse(admission, 1.0, jobs=False, pause=5.0)
    admission.landed()
    assert admission.wait(1.0) == 29.0
    assert admission.wait(30.0) == 0.0


def test_one_probe_at_a_time_until_one_is_accepted() -> None:
    """Then all go on."""
    admission = Admission(Limits(20, adaptive=False))
    admission.take(0.0)
    admission.troubled(0.0, pause=5.0, draw=0.5)
    admission.landed()
    admission.release()
    assert admission.probing
    assert fill(admission, 10.0) == 1
    assert admission.wait(10.0) == math.inf
    accept(admission)
    assert not admission.probing
    assert fill(admission, 10.0) == 19


def test_a_probe_that_fails_is_followed_by_a_longer_pause() -> None:
    """It doubles up to the cap, and an acceptance begins anew."""
    admission = Admission(Limits(20, adaptive=False, backoff_first=1.0, backoff_cap=10.0))
    now, waits = 0.0, []
    for _ in range(6):
        now = later(admission, now)
        admission.take(now)
        admission.troubled(now, pause=None, draw=0.0)
        admission.landed()
        admission.release()
        waits.append(admission.wait(now))
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0, 5.0, 5.0])
    now = later(admission, now)
    admission.take(now)
    accept(admission)
    admission.take(now)
    admission.troubled(now, pause=None, draw=0.0)
    assert admission.wait(now) == math.inf
    admission.landed()
    assert admission.wait(now) == pytest.approx(0.5)


def test_one_burst_of_trouble_counts_once() -> None:
    """Ten POSTs that fail together do not make a pause of a thousand seconds."""
    admission = Admission(Limits(20, adaptive=False, backoff_first=1.0, backoff_cap=600.0))
    for _ in range(10):
        admission.take(0.0)
    for _ in range(10):
        admission.troubled(0.0, pause=None, draw=0.9)
        admission.landed()
        admission.release()
    assert admission.wait(0.0) <= 1.0


def test_the_pace_is_held() -> None:
    """So many a second, and no burst after a rest."""
    admission = Admission(Limits(1000, adaptive=False, starts_per_second=4.0))
    now, starts = 100.0, []
    for i in range(40):
        now += 30.0 * (i == 20)
        now += admission.wait(now)
        admission.take(now)
        starts.append(now)
    gaps = [late - soon for soon, late in itertools.pairwise(starts)]
    assert min(gaps) >= 0.25 - EPSILON
    assert sum(gap > 1 for gap in gaps) == 1


@pytest.mark.parametrize(("open_", "free"), [(10, 3), (60, 3), (80, 4), (200, 10)])
def test_too_many_uncertain_ones_stop_submits(open_: int, free: int) -> None:
    """More than three, and more than 5 % of what is open; until some are found."""
    admission = Admission(Limits(1000, adaptive=False))
    for _ in range(open_):
        admission.adopt()
    for i in range(free):
        admission.uncertain(f"ka1.{i}")
    assert admission.wait(0.0) == 0.0
    admission.uncertain("ka1.last")
    assert admission.wait(0.0) == math.inf
    admission.certain("ka1.0")
    assert admission.wait(0.0) == 0.0


def test_a_read_log_lets_submits_go_on() -> None:
    """What it does not list is waited for, and holds nobody up any longer; what is lost later counts anew."""
    admission = Admission(Limits(1000, adaptive=False))
    for i in range(9):
        admission.adopt()
        admission.uncertain(f"ka1.{i}")
    assert admission.wait(0.0) == math.inf
    admission.log_read()
    assert admission.wait(0.0) == 0.0
    assert admission.open == 9
    for i in range(10, 14):
        admission.uncertain(f"ka1.{i}")
    assert admission.wait(0.0) == math.inf


def test_one_uncertain_row_counts_once() -> None:
    """However often it is noted; and one that nobody noted is forgotten without harm."""
    admission = Admission(Limits(1000, adaptive=False))
    for _ in range(10):
        admission.uncertain("ka1.same")
    admission.certain("ka1.other")
    assert admission.wait(0.0) == 0.0


def test_what_is_given_back_twice_is_counted_once() -> None:
    """No book goes below nothing."""
    admission = Admission(Limits(2, adaptive=False))
    admission.release()
    admission.landed()
    assert admission.open == 0
    assert fill(admission) == 2


def test_a_program_with_nothing_open_keeps_a_window_of_one() -> None:
    """Another one has all the slots of the account: this one still tries."""
    admission = Admission(Limits(20, adaptive=True))
    admission.take(0.0)
    refuse(admission)
    assert admission.window == 1
    assert fill(admission, 1.0) == 1


def test_a_new_run_forgets_what_was_open_and_keeps_what_was_learned() -> None:
    """The limit that was found stays, and a pause that all share; slots and uncertain rows are counted anew."""
    admission = Admission(Limits(20, adaptive=False))
    now = saturate(admission, 5, 0.0)
    for i in range(9):
        admission.uncertain(f"ka1.{i}")
    admission.begin()
    assert (admission.open, admission.window, admission.probing) == (0, 5, True)
    assert 0 < admission.wait(now) < math.inf
    now = later(admission, now)
    assert fill(admission, now) == 1
