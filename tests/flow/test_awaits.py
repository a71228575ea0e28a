"""Every await of the flow was once the place where a run was left: found by reading the source, not by hope.

A scene is played again and again; each time it hangs at an await at which it was never left before, and its caller is
cancelled there. After each the journal and the folder are held against the account book, and the rows are brought to
their ends. What no scene has reached must stand in `SPARED`, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import kling_async.flow.batch
from kling_async import ImageToVideo, KlingClient
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Record, Stage
from tests.flow.harness import IMAGE_URL, PNG, World, found_in, world
from tests.flow.scenes import SCENES, Scene, delivered
from tests.flow.strikes import Account, Striker
from tests.flow.test_cancellation import finished_through

pytestmark = pytest.mark.looptime

FLOW = Path(kling_async.flow.batch.__file__).parent
BACKGROUND = "background.py"
"""Where the shield itself is; `test_background.py` strikes it."""
CLIENT = "client.py"
JOURNALED = ("journaled.py", "ledger.py", "places.py", "posts.py", "purchases.py")
"""What keeps a client's journal; `test_client_journal.py` strikes it, and what begins with one."""
START = "start.py"
"""What a batch and a client that keeps a journal begin with."""

SPARED: dict[str, str] = {
    r"start\.py read_start: await journal\.note\(_KEEPER, keeper": "a client's alone: its own test strikes it",
    r"start\.py _kept_by: await journal\.note\('service": "as that: a journal of another keeper comes here",
    r"enrolment\.py Enrolment\._are_split: await self\._journal\.note\(_PLACES, _FOLDERS": "at ten thousand rows alone",
    r"async with asyncio\.timeout\(": "entering and leaving it never waits",
    r"await self\.(_crew\.)?_?background\.(ready|start)\(": "a batch has begun its background task when it comes here",
    r"poller\.py Poller\.watch: await self\._workers\.start": "as that: the workers are begun in it",
    r"batch\.py Batch\.__aenter__: await self\._close": "only what is left at the line above comes here",
    r"buyer\.py Buyer\._post: await self\._scribe\.move\(intended, Unsent": "only a run that is being left comes here",
    r"buyer\.py Buyer\._post: await self\._refused\(await": "what was set aside stays so: nothing is written",
    r"buyer\.py Buyer\._adopt: await .* Lost\(\), Unfound": "no service gives one id twice",
    r"buyer\.py Buyer\.rendered: await self\._crew\.purse\.write": "the simulated service charges what it held",
    r"purse\.py Purse\._listed: await .* '0'": "the simulated service never lowers its price",
    r"transfer\.py Transfer\._place: await self\.restart\(\)$": "the simulated host answers what was asked for",
    r"retries\.py take_up: await rows\.room\(\)$": "a thousand rows would have to be set aside",
}
"""Awaits at which no scene is left, as patterns, each with the reason."""


# -------------------------------------------------------------------- the account


async def test_a_batch_was_left_at_every_await(tmp_path: Path) -> None:
    """At each await of the flow that a batch can come to, a run was left; nothing was lost, or bought twice."""
    others = {BACKGROUND, CLIENT, *JOURNALED}
    account = Account(tuple(path for path in sorted(FLOW.glob("*.py")) if path.name not in others))
    striker = Striker(account)
    for name, scene in SCENES.items():
        async with world(tmp_path / name, **{"durations": 20.0, **scene.service}) as w:
            await _play_everywhere(striker, scene, w)
    assert_nothing_is_spared(account, SPARED)


def assert_nothing_is_spared(account: Account, why: dict[str, str]) -> None:
    """Hold what was never struck against the reasons: each needs one, and each reason is needed."""
    reasons = {name: [pattern for pattern in why if re.search(pattern, name)] for name in account.spared}
    missed = sorted(name for name, found in reasons.items() if not found)
    assert missed == [], f"left nowhere there, for no reason: {missed}"
    assert {pattern for found in reasons.values() for pattern in found} == set(why), "a reason that is not needed"


async def _play_everywhere(striker: Striker, scene: Scene, service: World) -> None:
    """Play a scene, each time in a folder of its own, until there is no await left at which to leave it."""
    hits, number = True, 0
    while hits:
        number += 1
        w = World(service.simulator, service.folder / str(number), service.clock)
        numbers = [0 if scene.alike else i for i in range(scene.rows)]
        given = [ImageToVideo(IMAGE_URL, f"{number}.{n}", key=f"row{i}") for i, n in enumerate(numbers)]
        w.simulator.faults = scene.plan
        hits = await striker.strike(partial(scene.play, w, given))
        await asyncio.sleep(15)  # what hangs on, within its grace, has ended
        w.simulator.faults = FaultPlan()
        await _is_whole(w, scene, number)
        async with w.batch(on_uncertain=scene.on_uncertain, uncertain_after=30.0, give_up_after=700.0) as batch:
            stages = {outcome.stage async for outcome in delivered(batch, given, retry_failed=True)}
        assert stages <= scene.ends, striker.aimed
        assert scene.bought_again or w.book.duplicates() == [], striker.aimed


async def _is_whole(w: World, scene: Scene, number: int) -> None:
    """Hold journal and folder against the account: what was bought is known, once, and no half a file is there."""
    bought = [one for one in w.book.bought() if one.prompt.startswith(f"{number}.") and one.state != "refunded"]
    assert scene.bought_again or len({one.fingerprint for one in bought}) == len(bought), "bought twice"
    records = (await w.records()).values()
    ids = {name for record in records for name in (record.generation_id, *record.former)}
    lost = {name for record in records for name in _looked_for(record)}
    for purchase in bought:
        assert purchase.generation_id in ids or purchase.request_id in lost, "bought, and not known"
    named = {record.name for record in records if record.sha256 is not None or scene.alike}
    assert await found_in(w.folder / "videos") <= named


def _looked_for(record: Record) -> set[str | None]:
    """Return the ids of a row's POSTs whose generation is not known."""
    lost = {record.client_request_id} if record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN} else set()
    return lost | set(record.former)


# --------------------------------------------------------------------- the client


Call: TypeAlias = Callable[[KlingClient, ImageToVideo, Path], Coroutine[Any, Any, object]]


async def step_by_step(client: KlingClient, request: ImageToVideo, path: Path) -> None:
    """Each call by itself, what is found by its id too."""
    generation = await client.submit(request)
    await client.retrieve(generation)
    await client.find(generation.client_request_id or "")
    await client.download(await client.wait(generation), path)


async def at_once(client: KlingClient, request: ImageToVideo, path: Path) -> None:
    """All in one call."""
    await client.generate(request, path)


async def by_its_id(client: KlingClient, request: ImageToVideo, path: Path) -> None:
    """A video of which nothing but the id is known."""
    await client.download((await client.submit(request)).id, path)


async def _called(client: KlingClient, call: Call, request: ImageToVideo, folder: Path) -> None:
    async with client:
        await call(client, request, folder / "a.mp4")


LOST_THEN_CUT = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), Fault("download", "cut", at=(1,)))
CALLS = {
    "step by step": (step_by_step, FaultPlan()),
    "at once": (at_once, LOST_THEN_CUT),
    "by its id": (by_its_id, FaultPlan.of(Fault("submit", "429", at=(1,)), Fault("download", "expired", at=(1,)))),
}


async def test_a_client_was_left_at_every_await(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At each await of a client a call was left; by the log alone what it bought is found, and no place is kept."""
    caplog.set_level(logging.INFO, "kling_async")
    account = Account((FLOW / CLIENT,))
    striker = Striker(account)
    for name, (call, plan) in CALLS.items():
        hits = True
        while hits:
            caplog.clear()
            async with world(tmp_path, plan, durations=20.0) as w:
                client = w.client()

                hits = await striker.strike(partial(_called, client, call, ImageToVideo(PNG, name), tmp_path))
                if hits:
                    async with w.client() as other:
                        await finished_through(other, caplog.text, w, tmp_path)
                assert w.book.duplicates() == []
                assert client._gate.admission.open == 0
                assert await found_in(tmp_path) <= {"a.mp4", "found.mp4"}
    assert_nothing_is_spared(account, {})
