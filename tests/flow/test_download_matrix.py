"""Every trouble of a file host, and every two of them in a row: what they cost, to the request, and what they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import define

from kling_async import ImageToVideo
from kling_async.simulator import Fault, FaultPlan
from kling_async.simulator.troubles import TROUBLES
from tests.flow.harness import IMAGE_URL, found_in, read, world

pytestmark = pytest.mark.looptime

KINDS = sorted(TROUBLES["download"])

NOTHING = {"refused", "stalled", "429_seconds", "500", "502", "503"}
"""Troubles that bring nothing and take nothing: the same is asked for again."""
REFUSED = {"403", "404", "410", "expired"}
"""Troubles after which a fresh link is asked for."""
HALF = {"cut", "closed", "stalled_midway"}
"""Troubles that bring a half of what was asked for."""
GOOD = {"no_length", "slow", "late", "damaged", "range_ignored", "etag_changed"}
"""Troubles that bring the whole file, or all that was asked for of it."""
WHOLE_ANEW = {"range_ignored", "etag_changed"}
"""Those of them that bring the whole file, whatever was asked for."""
PAGES = {"html", "html_video"}
"""Troubles that bring a page of HTML in place of the file."""
UNLIKE = {"damaged", "garbage"}
"""Troubles after which the file may not be the served one, and nothing in its boxes tells."""


@define
class Foreseen:
    """What a download costs, reckoned from the troubles alone: a model of the host and of what must follow."""

    requests: int = 0
    """Requests to the file host."""
    polls: int = 0
    """Polls for a fresh link."""
    have: str = "none"
    """What is kept of the file: none, half, or (without knowing it) all."""

    def strike(self, kind: str) -> bool:
        """Suffer one trouble; tell whether the file is whole after it."""
        self.requests += 1
        if kind in NOTHING:
            return False
        if kind in REFUSED:
            self.polls += 1
            return False
        if kind == "redirected":
            return False  # the next answer comes from the other host
        if kind in PAGES:
            self.have, self.polls = "none", self.polls + 1
            return False
        if kind in WHOLE_ANEW:
            return True
        if self.have == "all":
            self.have = "none"  # what was asked for lies behind the end: it is begun again
            return False
        return self._partial(kind)

    def _partial(self, kind: str) -> bool:
        if kind in HALF:
            self.have = "half"
            return False
        if kind == "wrong_length":
            self.have = "all"
            return False
        if kind == "truncated":
            self.have = "none"
            return False
        if kind == "garbage":
            if self.have == "half":
                return True  # the second half is all pictures: no box tells that they are none
            self.have, self.polls = "none", self.polls + 1
            return False
        assert kind in GOOD, kind
        return True

    def serve(self) -> None:
        """Get what is left, without a trouble."""
        self.requests += 1
        if self.have == "all":
            self.have = "none"
            self.requests += 1


def foreseen(*kinds: str) -> tuple[int, int]:
    """Return how many requests and polls some troubles cost, one after another, each at the next request."""
    model = Foreseen()
    if not any(model.strike(kind) for kind in kinds):
        model.serve()
    return model.requests, model.polls


def plan_of(rows: Mapping[str, tuple[str, ...]]) -> FaultPlan:
    """Let each row suffer its own troubles, one at each request.

    What refuses at the door counts all requests; all others, those that it let in.
    """
    faults = []
    for prompt, kinds in rows.items():
        inside = 0
        for at, kind in enumerate(kinds, 1):
            inside += kind != "refused"
            faults.append(Fault("download", kind, match=prompt, at=(at if kind == "refused" else inside,)))
    return FaultPlan.of(*faults)


@pytest.mark.parametrize("first", ["", *KINDS])
async def test_each_trouble_alone_and_after_each_other(tmp_path: Path, first: str) -> None:
    """So many requests, so many polls; under the names stands what was served, and beside them nothing; none is lost.

    All pairs of one kind go at once: one row each.
    """
    pairs = {f"pair {number:03}.": ((first, kind) if first else (kind,)) for number, kind in enumerate(KINDS)}
    async with (
        world(tmp_path, plan_of(pairs), clip_bytes=60_000, durations=5.0) as w,
        w.client(downloads_at_once=64) as client,
    ):

        async def fetch(prompt: str) -> tuple[str, tuple[int, int]]:
            generation = await client.wait(await client.submit(ImageToVideo(IMAGE_URL, prompt)))
            polls = w.book.polls_by_id[generation.id]
            await client.download(generation, tmp_path / f"{prompt}mp4")
            return generation.id, (w.book.downloads_by_id[generation.id], w.book.polls_by_id[generation.id] - polls)

        found = dict(zip(pairs, await asyncio.gather(*map(fetch, pairs)), strict=True))
        assert {pairs[name]: cost for name, (_, cost) in found.items()} == {
            kinds: foreseen(*kinds) for kinds in pairs.values()
        }
        assert await found_in(tmp_path) == {f"{prompt}mp4" for prompt in pairs}
        for prompt, (generation_id, _) in found.items():
            if UNLIKE.isdisjoint(pairs[prompt]):
                assert await read(tmp_path / f"{prompt}mp4") == await w.simulator.served_bytes(generation_id)
        assert len(w.book.bought()) == len(pairs)
        assert not w.book.key_sent_to_cdn
