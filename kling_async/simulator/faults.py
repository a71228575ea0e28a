"""What goes wrong, when, and how often: a seeded plan, and the dice that follow it.

A plan is a frozen value, written in Python, JSON or TOML. The dice give the same troubles for the same seed and the
same order of requests. This room only says which trouble strikes; it must never carry one out.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen, validators

from kling_async.simulator.dice import make_dice
from kling_async.simulator.troubles import TROUBLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

    import attrs

BODIES: Final = ("", "problem", "older", "html", "text", "empty")
"""What the body of an error can be made to be; an empty string leaves it to the kind."""


def _numbers(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(numbers)


def _faults(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(faults)


@frozen(kw_only=True)
class Subject:
    """What a fault may be aimed at: the call that is about to be served."""

    prompt: str = ""
    """Prompt of the job concerned."""

    generation_id: str = ""
    """Id of the job concerned; empty for a submit."""

    age: float = 0.0
    """Seconds since the job's acceptance."""


@frozen
class Fault:
    """One trouble, and when it strikes.

    Without `at`, `each_first` and `rate` it strikes every time, `at_most` so often. Calls that do not match (`match`,
    `since`, `until`) are not counted. A submit that is `refused` is not read, so nothing of it can match.
    """

    operation: str = field(validator=validators.in_(TROUBLES))
    """What it befalls: submit, poll, log, balance, price, download, or the job itself."""

    kind: str = field()
    """Which trouble, by its name in `TROUBLES[operation]`."""

    rate: float = field(default=1.0, kw_only=True, validator=[validators.ge(0), validators.le(1)])
    """Probability that it strikes a call."""

    at: tuple[int, ...] = field(default=(), kw_only=True, converter=_numbers)
    """Strikes exactly these matching calls, counted from 1; `rate` does not matter then."""

    each_first: int = field(default=0, kw_only=True, validator=validators.ge(0))
    """Strikes the first so many calls for each generation; `rate` does not matter then."""

    at_most: int | None = field(default=None, kw_only=True)
    """Strikes at most so many times."""

    since: float = field(default=0.0, kw_only=True)
    """Strikes only later than this, in seconds since the plan was set."""

    until: float = field(default=inf, kw_only=True)
    """Strikes only before this, in seconds since the plan was set."""

    match: str = field(default="", kw_only=True)
    """Strikes only calls for jobs whose prompt or id contains this."""

    seconds: float | None = field(default=None, kw_only=True)
    """A time that the kind speaks of; None leaves it to the kind."""

    body: str = field(default="", kw_only=True, validator=validators.in_(BODIES))
    """Body of an error: either envelope, HTML, text, or none."""

    text: str = field(default="", kw_only=True)
    """A text that the kind speaks of; else the message of an error."""

    inference_id: bool | None = field(default=None, kw_only=True)
    """Whether the answer carries `x-inference-id` when the job was made; None: only good answers do."""

    @kind.validator
    def _known(self, _attribute: attrs.Attribute[str], kind: str) -> None:
        if kind not in TROUBLES[self.operation]:
            known = ", ".join(sorted(TROUBLES[self.operation]))
            raise ValueError(f"{self.operation} knows no trouble {kind!r}; it knows {known}")

    @property
    def after(self) -> bool:
        """Whether the call takes effect all the same."""
        return self.kind.endswith("_after") or self.kind == "leaked_status"


@frozen(kw_only=True)
class FaultPlan:
    """All that goes wrong. The first fault that strikes wins, in the order given; rates add up."""

    faults: tuple[Fault, ...] = field(default=(), converter=_faults)
    """The faults, the more important ones first."""

    seed: int = 0
    """Seed of the rates' dice."""

    @classmethod
    def of(cls, *faults: Fault, seed: int = 0, **rates: Mapping[str, float]) -> FaultPlan:
        """Make a plan from scripted faults and a table of rates for each operation.

        `FaultPlan.of(Fault("submit", "dropped_after", at=(3,)), poll={"502": 0.05}, seed=7)`
        """
        by_rate = (
            Fault(operation, kind, rate=rate) for operation, kinds in rates.items() for kind, rate in kinds.items()
        )
        return cls(faults=(*faults, *by_rate), seed=seed)

    def plus(self, *faults: Fault) -> FaultPlan:
        """Return a plan in which these faults come first."""
        return evolve(self, faults=(*faults, *self.faults))


class FaultDice:
    """Says which trouble befalls a call, if any.

    Args:
        plan: What may go wrong.
        now: The time from which `since` and `until` count.
    """

    def __init__(self, plan: FaultPlan, now: float) -> None:
        self.plan = plan
        self._start = now
        self._seen: Counter[int] = Counter()
        self._struck: Counter[int] = Counter()
        self._first: Counter[tuple[int, str]] = Counter()
        self._by_call = {
            (operation, door): _numbered(plan.faults, operation, door=door)
            for operation in TROUBLES
            for door in (False, True)
        }
        self._dice: dict[str, Random] = {name: make_dice(plan.seed, f"faults/{name}") for name in TROUBLES}

    def draw(self, operation: str, subject: Subject, now: float, *, door: bool = False) -> Fault | None:
        """Return the trouble that befalls this call.

        Args:
            operation: What is called.
            subject: Whom the call concerns.
            now: The time.
            door: Whether only the kind `refused` is asked for (True), or only all others (False): the former strikes
                before anything of the call is known.
        """
        mine = self._by_call[operation, door]
        if not mine:
            return None
        chance = self._dice[operation].random()
        concerned = [pair for pair in mine if self._concerns(pair[1], subject, now)]
        for number, fault in concerned:
            self._seen[number] += 1
            if fault.each_first:
                self._first[number, subject.generation_id] += 1
        for number, fault in concerned:
            if fault.at_most is not None and self._struck[number] >= fault.at_most:
                continue
            if self._strikes(number, fault, subject, chance):
                self._struck[number] += 1
                return fault
            if not fault.at and not fault.each_first:
                chance -= fault.rate
        return None

    def _concerns(self, fault: Fault, subject: Subject, now: float) -> bool:
        if not fault.since <= now - self._start < fault.until:
            return False
        if fault.kind == "404_fresh" and subject.age >= (30.0 if fault.seconds is None else fault.seconds):
            return False
        return not fault.match or fault.match in subject.prompt or fault.match in subject.generation_id

    def _strikes(self, number: int, fault: Fault, subject: Subject, chance: float) -> bool:
        if fault.at:
            return self._seen[number] in fault.at
        if fault.each_first:
            return self._first[number, subject.generation_id] <= fault.each_first
        return chance < fault.rate


def _numbered(faults: Iterable[Fault], operation: str, *, door: bool) -> list[tuple[int, Fault]]:
    """Return the faults of one operation with their places in the plan."""
    mine = ((number, fault) for number, fault in enumerate(faults) if fault.operation == operation)
    return [(number, fault) for number, fault in mine if (fault.kind == "refused") is door]
