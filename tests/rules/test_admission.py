"""Admission: never more than the cap, one pause for all, one probe at a time, and the limit is found and followed."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kling_async.rules.admission import (
    DECREASE,
    PROBE_AFTER,
    QUEUED_SHARE,
    RAMP_LEAST,
    SLOWER,
    START,
    UNCERTAIN_FREE,
    UNCERTAIN_SHARE,
    Admission,
    Limits,
)
from tests.rules.accounts import MEDIAN, ROUND_TRIP, Account, auto

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
        self.admission = Admission(self.limits, window=adopted)
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
        assert self.in_air + self.open < self.limits.cap
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
        least = max(self.limits.backoff_first / 2 - EPSILON, pause or 0.0)
        self.paused = max(self.paused, self.now + least)
        most = max(self.paused, self.now + max(self.limits.backoff_cap, pause or 0.0))
        wait = self.admission.wait(self.now)
        spaced = max(SLOWER[1], 1 / (self.limits.starts_per_second or math.inf)) + EPSILON
        assert wait == math.inf or self.now + wait <= most + spaced

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
        self.paused = max(self.paused, self.now + self.limits.backoff_first / 2 - EPSILON)

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

    @precondition(lambda self: self.open > len(self.lost))
    @rule(draw=DRAWS)
    def fail_for_the_limit(self, draw: float) -> None:
        before = self.admission.window
        self.admission.crowded(self.now, draw=draw)
        self.admission.release()
        assert self.admission.window <= before
        self.open -= 1
        self.trouble = True
        self.paused = max(self.paused, self.now + self.limits.backoff_first / 2 - EPSILON)

    @rule(share=st.floats(0, 1))
    def queue(self, share: float) -> None:
        self.admission.queued = int(share * self.open)

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "admission"):
            return
        assert self.admission.open == self.open + self.in_air
        assert 1 <= self.admission.window <= self.limits.cap
        figures = self.admission.statistics(self.now)
        assert (figures.open, figures.in_air, figures.window) == (
            self.open + self.in_air,
            self.in_air,
            self.admission.window,
        )
        assert figures.uncertain == len(self.uncertain)
        assert figures.paused_for >= self.paused - self.now - EPSILON

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Where a slot is free, nobody is in the air, and little is uncertain, a POST may start within a while."""
        if not hasattr(self, "admission"):
            return
        wait = self.admission.wait(self.now)
        calm = len(self.uncertain) <= max(UNCERTAIN_FREE, UNCERTAIN_SHARE * (self.open + self.in_air))
        if self.open + self.in_air >= self.limits.cap or not calm or (self.trouble and self.in_air):
            assert wait == math.inf
        elif self.open < self.admission.window and not self.in_air:
            assert math.isfinite(wait)


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
    """Public clients use 4 or 5 at once; a few more are tried at once, since most accounts have more."""
    admission = auto()
    assert START == 4
    assert admission.window == 4
    assert fill(admission) == 4
    assert admission.wait(0.0) == math.inf


@pytest.mark.parametrize(("known", "window"), [(0, 4), (3, 4), (50, 50), (2000, 1000)])
def test_auto_starts_at_what_is_known(known: int, window: int) -> None:
    """What was found or open when an earlier process stopped; never above the ceiling."""
    assert Admission(Limits(1000, adaptive=True), window=known).window == window


def test_a_given_number_is_used_and_never_passed() -> None:
    """Whatever is accepted; at the start some go first, so that few are refused where the number is too high."""
    admission = Admission(Limits(20, adaptive=False), window=2)
    assert fill(admission) == RAMP_LEAST
    accept(admission, RAMP_LEAST)
    assert fill(admission) == RAMP_LEAST
    accept(admission, RAMP_LEAST)
    assert fill(admission) == 4
    accept(admission, 4)
    for _ in range(2 * PROBE_AFTER):
        admission.release()
        assert fill(admission) == 1
        accept(admission)
    assert (admission.window, admission.open) == (20, 20)
    assert admission.wait(0.0) == math.inf


def test_a_small_cap_holds_for_auto_too() -> None:
    """It starts below its own beginning."""
    assert fill(auto(2)) == 2


def test_the_window_grows_with_each_acceptance_until_the_first_refusal() -> None:
    """Not with each end: the limit is found in round trips, not in generation times."""
    admission = auto()
    sizes = []
    for _ in range(12):
        accept(admission, fill(admission))
        sizes.append(admission.window)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] > 20
    assert not admission.known


def test_an_idle_window_does_not_grow() -> None:
    """What is not used says nothing of the limit."""
    admission = Admission(Limits(1000, adaptive=True), window=50)
    for _ in range(20):
        admission.take(0.0)
        accept(admission)
        admission.release()
    assert admission.window == 50


@pytest.mark.parametrize("jobs", [True, None])
def test_a_refusal_ends_the_search_at_what_was_open(*, jobs: bool | None) -> None:
    """The account holds so many, and not one more; also where the answer does not tell what there is too much of."""
    admission = Admission(Limits(1000, adaptive=True), window=10)
    accept(admission, fill(admission))
    accept(admission, fill(admission))
    admission.take(0.0)
    open_then = admission.open - 1
    refuse(admission, jobs=jobs)
    assert admission.window == open_then == admission.open
    assert admission.known


def test_a_refusal_of_requests_slows_the_starts_and_leaves_the_window() -> None:
    """After the pause they come a little apart; as submits are accepted, closer and closer again."""
    admission = Admission(Limits(100, adaptive=False))
    admission.take(0.0)
    refuse(admission, jobs=False, pause=9.0)
    assert admission.window == 100
    assert admission.wait(0.0) == 9.0
    now, gaps = 9.0, []
    for _ in range(80):
        admission.take(now)
        accept(admission)
        gaps.append(admission.wait(now))
        now += gaps[-1]
    assert gaps[0] == pytest.approx(SLOWER[0])
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == 0


def test_a_refusal_of_requests_again_and_again_slows_them_more() -> None:
    """It doubles, up to a bound."""
    admission, now = Admission(Limits(100, adaptive=False)), 0.0
    for _ in range(12):
        now = later(admission, now)
        admission.take(now)
        refuse(admission, now, jobs=False, pause=0.0)
    now = later(admission, now)
    admission.take(now)
    accept(admission)
    assert admission.wait(now) == pytest.approx(SLOWER[1])


def test_an_untold_refusal_far_below_what_fitted_is_one_of_requests() -> None:
    """So many more were open before that it cannot be their number; where none were, it may be."""
    for fitted, jobs in ((100, False), (40, True)):
        admission = Admission(Limits(100, adaptive=False))
        for _ in range(fitted):
            admission.take(0.0)
            accept(admission)
        while admission.open > 40:
            admission.release()
        admission.take(0.0)
        refuse(admission, jobs=None)
        assert admission.window == (40 if jobs else 100)


def test_what_is_accepted_counts_before_it_is_written_down() -> None:
    """A refusal in the same burst does not find an empty account: three fit, and not one."""
    admission = auto()
    assert fill(admission) == 4
    for _ in range(3):
        admission.accepted()
    admission.refused(0.0, pause=0.0, jobs=None, draw=0.5)
    for _ in range(4):
        admission.landed()
    admission.release()
    assert (admission.open, admission.window) == (3, 3)
    assert admission.statistics(0.0).in_air == 0


def test_a_trouble_within_a_pause_that_an_acceptance_has_settled_is_a_first_one() -> None:
    """It pauses for the first step of the back-off, not for half of it."""
    admission = Admission(Limits(8, adaptive=False, backoff_first=3.0, backoff_cap=3.0))
    for _ in range(3):
        admission.take(0.0)
    admission.troubled(0.0, pause=None, draw=0.0)
    admission.accepted()
    admission.troubled(1.0, pause=None, draw=0.0)
    assert admission.statistics(1.0).paused_for == pytest.approx(1.5)


def test_a_window_that_was_met_stays_known() -> None:
    """Also while another search is under way: one more than it was accepted."""
    admission = auto()
    now = saturate(admission, 20, 0.0)
    assert admission.known
    for _ in range(PROBE_AFTER):
        admission.release()
        now = later(admission, now)
        admission.take(now)
        accept(admission)
    now = later(admission, now)
    admission.take(now)
    accept(admission)
    assert admission.statistics(now).searching
    assert admission.known


def test_one_burst_of_refusals_shrinks_it_once() -> None:
    """Many answers of one moment say one thing, even where jobs end between them."""
    admission = Admission(Limits(20, adaptive=False))
    for _ in range(20):
        admission.take(0.0)
    accept(admission, 8)
    for i in range(12):
        refuse(admission)
        if i < 3:
            admission.release()
    assert (admission.window, admission.open) == (8, 5)


def test_refusals_again_and_again_within_the_window_shrink_it_by_a_tenth_each() -> None:
    """The limit has sunk, and part of what we think is open may have ended."""
    admission, now = Admission(Limits(100, adaptive=False)), 0.0
    now = saturate(admission, 50, now)
    assert admission.window == 50
    admission.release()
    sizes = []
    for _ in range(4):
        now = later(admission, now)
        admission.take(now)
        refuse(admission, now)
        while admission.open >= admission.window:
            admission.release()
        sizes.append(admission.window)
    assert sizes[0] <= 49
    assert all(later <= math.ceil(DECREASE * sooner) for sooner, later in itertools.pairwise(sizes))


def test_one_more_is_tried_now_and_then() -> None:
    """Is it refused, the window stays, and as many are accepted before the next try."""
    admission = auto()
    now = saturate(admission, 20, 0.0)
    window = admission.window
    tries = []
    for number in range(5 * PROBE_AFTER):
        admission.release()
        now = later(admission, now)
        admission.take(now)
        accept(admission)
        if math.isfinite(admission.wait(now)):
            now = later(admission, now)
            admission.take(now)
            refuse(admission, now, pause=0.0)
            tries.append(number)
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert gaps == [PROBE_AFTER] * 4
    assert admission.window == window


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


@pytest.mark.parametrize("queued", [0.0, 0.19, 0.21, 1.0])
def test_the_window_does_not_grow_while_many_are_queued(queued: float) -> None:
    """A service that queues without refusing is full before it says so."""
    admission = Admission(Limits(1000, adaptive=True), window=100)
    while math.isfinite(admission.wait(0.0)) and admission.open < 100:
        admission.take(0.0)
        accept(admission)
    admission.queued = int(100 * queued)
    assert math.isfinite(admission.wait(0.0)) is (queued <= QUEUED_SHARE)


@pytest.mark.parametrize("told", [None, True])
@pytest.mark.parametrize(("limit", "trips"), [(1, 3), (5, 4), (50, 30), (500, 100)])
def test_the_limit_is_found_within_round_trips(limit: int, trips: int, *, told: bool | None) -> None:
    """Whatever it is, and with few refused; then it is used to the full and not passed for long."""
    for seed in range(3):
        account = Account(limit, auto(), seed=seed, told=told)
        account.run(max(300, 6 * limit))
        assert account.first_full() <= trips * ROUND_TRIP
        assert account.refused <= 0.03 * account.submits + 4
        assert limit <= account.admission.window <= limit * 1.02
        assert account.busy(2 * trips * ROUND_TRIP, 2 * MEDIAN) >= 0.9 * limit


@pytest.mark.parametrize("told", [None, True])
@pytest.mark.parametrize("limit", [40, 400])
def test_a_limit_that_halves_and_doubles_is_followed(limit: int, *, told: bool | None) -> None:
    """Within about two generation times each, and with few refused."""
    account = Account(limit, auto(), told=told)
    halved, doubled = 2000.0, 5000.0
    account.at(halved, account.change, limit // 2)
    account.at(doubled, account.change, limit)
    account.run(30 * limit, until=doubled + 5 * MEDIAN)
    assert account.busy(halved - MEDIAN, halved) >= 0.95 * limit
    assert 0.85 * limit / 2 <= account.busy(halved + 2 * MEDIAN, halved + 3 * MEDIAN) <= limit / 2
    # A try comes once in so many accepted: at worst, a small window has to wait more than two generation times for it.
    late = 2 if limit > 100 else 3
    assert account.busy(doubled + late * MEDIAN, doubled + (late + 1) * MEDIAN) >= 0.9 * limit
    assert account.refused <= 0.045 * account.submits


@pytest.mark.parametrize("told", [None, True])
def test_tries_in_vain_grow_rare_where_the_limit_stays_low(*, told: bool | None) -> None:
    """A small window that has sunk by half: the limit is used to the full, and few are refused, whatever the dice."""
    refused = []
    for seed in range(60):
        account = Account(20, auto(), seed=seed, told=told)
        account.at(600.0, account.change, 10)
        account.run(600, until=12_000.0)
        assert account.busy(3000.0, 12_000.0) >= 0.92 * 10
        refused.append(sum(at > 4000.0 for at in account.refusals) / sum(at > 4000.0 for at in account.starts))
    assert max(refused) <= 0.055
    assert sum(refused) <= 0.03 * len(refused)


def test_a_window_that_is_remembered_saves_the_search() -> None:
    """And one that is too large now is left with one burst of refusals."""
    near = Account(100, Admission(Limits(1000, adaptive=True), window=75))
    near.run(600)
    far = Account(100, auto())
    far.run(600)
    assert near.first_full() < 0.75 * far.first_full()
    shrunk = Account(20, Admission(Limits(1000, adaptive=True), window=75))
    shrunk.run(600)
    assert shrunk.refused <= 0.03 * shrunk.submits + 8
    assert shrunk.admission.window == 20


@pytest.mark.parametrize("cap", [1, 7, 60])
def test_a_hard_cap_is_never_passed(cap: int) -> None:
    """Though the account would take more; `auto` is held by its ceiling in the same way."""
    for adaptive in (False, True):
        account = Account(500, Admission(Limits(cap, adaptive=adaptive)))
        account.run(10 * cap + 100)
        assert account.most_open == cap
        assert account.refused == 0


def test_a_given_number_above_the_limit_is_not_insisted_on() -> None:
    """The account's own limit is found below it."""
    account = Account(20, Admission(Limits(60, adaptive=False)))
    account.run(600)
    assert account.refused <= 0.03 * account.submits + 20
    assert account.busy(60, 4 * MEDIAN) >= 0.9 * 20


def test_a_limit_on_requests_is_not_taken_for_one_on_generations() -> None:
    """Told apart by the answer's code: the starts come more slowly, and all of the account is used."""
    account = Account(100, auto())
    account.most_requests = 5
    account.run(800)
    assert account.busy(60, 3 * MEDIAN) >= 0.85 * 100
    assert account.refused <= 0.05 * account.submits


def test_a_service_that_queues_is_not_flooded() -> None:
    """What waits there is bounded: growth ends when it is told of."""
    account = Account(50, auto(starts_per_second=1.0))
    account.policy = "queue"
    account.run(1000)
    assert account.refused == 0
    assert account.busy(100, 4 * MEDIAN) >= 0.95 * 50
    assert account.most_open <= 50 * 1.25 + 0.2 * MEDIAN * 1.0 + 20


@pytest.mark.parametrize("limit", [5, 50])
def test_generations_that_fail_for_the_limit_teach_it(limit: int) -> None:
    """Those cost nothing but a round; what was accepted proves nothing then, and no search follows from it."""
    account = Account(limit, auto())
    account.policy = "fail"
    account.run(30 * limit)
    assert account.refused <= 0.06 * account.submits + 4
    assert account.admission.window in {limit, limit + 1}
    assert account.busy(MEDIAN, 5 * MEDIAN) >= 0.95 * limit


def test_other_programs_on_the_account_are_made_room_for() -> None:
    """A part of the limit is taken by somebody else, and given back later."""
    account = Account(60, auto())
    account.at(1500, account.change, 20)
    account.at(4000, account.change, 60)
    account.run(2000, until=6000)
    assert account.busy(2200, 3800) >= 0.85 * 20
    assert account.busy(4600, 5800) >= 0.9 * 60


def test_adopted_ones_count_whatever_the_window_says() -> None:
    """What is open is open; nothing new starts before there is room."""
    admission = Admission(Limits(3, adaptive=False), window=5)
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
    assert fill(admission, 10.0) == 1
    assert admission.wait(10.0) == math.inf
    accept(admission)
    assert fill(admission, 10.0) == RAMP_LEAST


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
    assert (admission.open, admission.window) == (0, 5)
    assert 0 < admission.wait(now) < math.inf
    now = later(admission, now)
    assert fill(admission, now) == 1


@pytest.mark.parametrize("told", [None, True])
@pytest.mark.parametrize("seconds", [1.0, 600.0])
def test_an_account_that_others_left_is_soon_used(seconds: float, *, told: bool | None) -> None:
    """Refused with nothing open, for a moment or for minutes: the search goes on within some generation times."""
    account = Account(0, auto(), told=told)
    account.at(seconds, account.change, 100)
    account.run(400)
    assert account.first_full(0.9) <= seconds + MEDIAN
    assert account.refused <= 0.03 * account.submits + 40


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_limit_that_sank_to_one_and_rose_again_is_followed(*, adaptive: bool) -> None:
    """Others took nearly all of the account for 25 minutes: not one generation after the other for hours after it."""
    account = Account(50, auto() if adaptive else Admission(Limits(50, adaptive=False)))
    account.at(1000, account.change, 1)
    account.at(2500, account.change, 50)
    account.run(1000)
    assert next(at for at, running in account.trace if at > 2500 and running >= 45) <= 2500 + 4 * MEDIAN
    assert account.refused <= 0.03 * account.submits + 20
