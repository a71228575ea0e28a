"""The stand-in's books: what was bought, how long it takes, who asked for it, and whom a trouble strikes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from random import Random

from attrs import asdict, define, field

from benchmarks.standin.plan import Plan, Seen


@define
class Generation:
    """One generation."""

    name: str
    """Its id."""
    ends: float
    """When it ends, on the monotonic clock."""
    request: str
    """The id that the client gave its submit."""
    polls: int = 0
    links: int = 0
    """Answers that held a link."""
    downloads: int = 0

    @property
    def title(self) -> str:
        """What its video carries."""
        return hashlib.sha256(self.name.encode()).hexdigest()


@define
class Books:
    """All that one run sees."""

    plan: Plan
    clock: Callable[[], float] = time.monotonic
    generations: dict[str, Generation] = field(factory=dict)
    lengths: list[float] = field(factory=list)
    lags: list[float] = field(factory=list)
    submits: int = 0
    refused: int = 0
    polls: int = 0
    downloads: int = 0
    sent: int = 0
    first: float = math.nan
    open_most: int = 0
    struck: set[str] = field(factory=set)
    expired: dict[str, str] = field(factory=dict)
    """The edition of the link that each video was first asked for by."""
    _dice: Random = field(init=False)
    _running: list[float] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._dice = Random(self.plan.seed)

    def strikes(self, trouble: str, whom: str) -> bool:
        """Tell whether a trouble strikes a row or a generation: once each."""
        if self.plan.trouble != trouble or whom in self.struck:
            return False
        self.struck.add(whom)
        return True

    def submitted(self) -> None:
        """Note a submit."""
        self.submits += 1
        if self.submits == 1:
            self.first = self.clock()

    def accept(self, request: str) -> Generation:
        """Sell one generation."""
        now = self.clock()
        length = self.plan.median * self._dice.lognormvariate(0.0, self.plan.sigma)
        self.lengths.append(length)
        name = f"g-{len(self.lengths):06}-{self._dice.getrandbits(64):016x}"
        sold = self.generations[name] = Generation(name, now + length, request)
        self._running = [end for end in self._running if end > now] if len(self._running) % 50 == 0 else self._running
        self._running.append(now + length)
        if len(self._running) > self.open_most:
            self.open_most = max(self.open_most, sum(end > now for end in self._running))
        return sold

    def ask(self, generation: Generation) -> bool:
        """Note a poll; tell whether the generation has ended."""
        self.polls += 1
        generation.polls += 1
        return self.clock() >= generation.ends

    def told(self, generation: Generation) -> None:
        """Note that an answer said that a generation has ended."""
        if not generation.links:
            self.lags.append(self.clock() - generation.ends)
        generation.links += 1

    def report(self) -> dict[str, object]:
        """Return what was seen, as plain values."""
        sold = self.generations.values()
        return asdict(
            Seen(
                submits=self.submits,
                refused=self.refused,
                lengths=self.lengths,
                titles=[one.title for one in sold],
                first=self.first,
                polls=self.polls,
                asked=[one.polls for one in sold],
                lags=self.lags,
                downloads=self.downloads,
                sent=self.sent,
                open_most=self.open_most,
                cpu=time.process_time(),
                wall=self.clock() - self.first,
            )
        )
