"""Cancelled at every await: what was bought is known, nothing is bought twice, and no half a file is left.

Two ways, one for each side of the background task. A caller's own awaits are struck one by one (`cancel_everywhere`);
and each call of a door, on whichever task, is made to hang, before it takes effect or after, while its caller leaves.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import re
from functools import partial
from pathlib import Path

import anyio
import pytest

from kling_async import Generation, ImageToVideo, KlingClient
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Stage
from tests.adapters.conftest import CancelEverywhere
from tests.adapters.conftest import cancel_everywhere as _cancel_everywhere
from tests.flow.harness import IMAGE_URL, World, found_in, world
from tests.flow.hinges import Hinge, Moment, hinged_batch, hinged_client, left_where_it_hangs

pytestmark = pytest.mark.looptime

cancel_everywhere = _cancel_everywhere

MANY = 400
"""More calls than any scenario makes."""


# ---------------------------------------------------------------------- a batch


def rows(number: int, count: int = 2) -> list[ImageToVideo]:
    return [ImageToVideo(IMAGE_URL, f"prompt {number}.{i}", key=f"row{number}.{i}") for i in range(count)]


PLAN = FaultPlan.of(
    Fault("submit", "dropped_after", match=".1"),  # every other row's answer is lost and found again
    Fault("download", "cut", each_first=1),
)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_batch_left_at_any_call_of_a_door_is_whole(tmp_path: Path, moment: Moment) -> None:
    """Its journal knows all that was bought, no temporary file stays, and a rerun completes every row; none is twofold.

    One row's answer is lost and looked up, and each download is cut once, so that every door is called in every way.
    """
    async with world(tmp_path, PLAN, durations=20.0) as w:
        places = []
        for number in range(1, MANY):
            hinge = Hinge(number, moment)
            hung = await left_where_it_hangs(partial(_run, w, rows(number), hinge), hinge)
            await _is_whole(w, rows(number))
            outcomes = await _rerun(w, rows(number))
            assert outcomes == {Stage.DONE}, hinge.where
            if hung:
                places.append(hinge.where)
            elif hinge.count < number:
                break
        await w.audit()
        assert len(w.book.bought()) == 2 * number
    wanted = {"enrol", "intend", "save", "send", "fetch", "pieces", "stage", "write", "commit", "add", "write_failures"}
    assert wanted <= set(places)


async def _run(w: World, given: list[ImageToVideo], hinge: Hinge) -> None:
    batch = w.batch(poll_interval_min=9.0)
    hinged_batch(batch, hinge)
    async with batch:
        await batch.run(given)


async def _rerun(w: World, given: list[ImageToVideo]) -> set[Stage]:
    """Bring rows to their end. What the log does not list was not bought: in this world it lists all at once."""
    flags = {"poll_interval_min": 9.0, "on_uncertain": "resubmit", "uncertain_after": 30.0}
    async with w.batch(**flags) as batch, batch.stream(given) as outcomes:
        return {outcome.stage async for outcome in outcomes}


async def _is_whole(w: World, given: list[ImageToVideo]) -> None:
    """Hold the folder against the account, while a run is interrupted."""
    records, book = await w.records(), w.book
    assert book.duplicates() == []
    for request in given:
        record = records.get(request.key or "")
        bought = [one for one in book.bought() if one.prompt == request.prompt]
        assert len(bought) <= 1
        if bought:
            assert record is not None
            known = record.generation_id == bought[0].generation_id
            # The answer may never have come; then the row stands where it is looked up by the POST's own id.
            looked_up = record.stage in {Stage.SUBMITTING, Stage.UNCERTAIN} and record.generation_id is None
            assert known or (looked_up and record.client_request_id == bought[0].request_id)
    assert {name for name in await found_in(w.folder / "videos") if not name.endswith(".mp4")} == set()


async def test_a_batch_struck_at_any_await_of_its_caller_is_whole(
    tmp_path: Path, cancel_everywhere: CancelEverywhere
) -> None:
    """From entering to leaving: the folder is free again at once, and everything is completed by a rerun."""
    async with world(tmp_path, durations=20.0) as w:
        number = 0

        async def scenario() -> None:
            nonlocal number
            number += 1
            async with w.batch(poll_interval_min=9.0) as batch:
                await batch.run(rows(number, 1))

        async def check() -> None:
            await asyncio.sleep(15)  # what a second cancellation left behind has ended
            assert await _rerun(w, rows(number, 1)) == {Stage.DONE}

        try:
            assert await cancel_everywhere(scenario, check) >= 5
            await w.audit()
            assert len(w.book.bought()) == number
        finally:
            gc.collect()  # what was left open is told here, and not in another test


# --------------------------------------------------------------------- a client


async def finished_through(client: KlingClient, log: str, w: World, path: Path) -> None:
    """Bring every video that was bought to its end by nothing but what the log tells."""
    ids = set(re.findall(r"generation (\S+?)(?: is bought|$|\n|:)", log))
    for name in re.findall(r"client\.find\('([^']+)'\)", log):
        found = await client.find(name)
        ids |= {found.id} if found is not None else set()
    for purchase in w.book.bought():
        assert purchase.generation_id in ids, "bought, and told nowhere"
        await client.download(purchase.generation_id, path / "found.mp4")


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_generate_left_at_any_call_of_a_door_tells_what_it_bought(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, moment: Moment
) -> None:
    """By the log alone the video is found and brought; nothing stands under the name, and no temporary file stays."""
    caplog.set_level(logging.INFO, "kling_async")
    for number in range(1, MANY):
        caplog.clear()
        plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)), Fault("download", "cut", at=(1,)))
        async with world(tmp_path, plan, durations=20.0) as w, w.client(poll_interval_min=9.0) as client:
            hinge = Hinge(number, moment)
            hinged_client(client, hinge)
            hung = await left_where_it_hangs(partial(client.generate, rows(1)[0], tmp_path / "a.mp4"), hinge)
            assert len(w.book.bought()) <= 1
            if not hung:
                if hinge.count < number:
                    break
                continue
            assert await found_in(tmp_path) <= {"found.mp4", "a.mp4"}
            if hinge.where != "stage" and w.book.bought():
                await finished_through(client, caplog.text, w, tmp_path)
            assert client._gate.admission.open == 0
            assert not client._poller._watches
        await asyncio.get_running_loop().run_in_executor(None, partial((tmp_path / "a.mp4").unlink, missing_ok=True))
    assert number > 8


async def test_a_submit_struck_at_any_await_gives_its_place_back(
    tmp_path: Path, cancel_everywhere: CancelEverywhere, caplog: pytest.LogCaptureFixture
) -> None:
    """With one place in all: the next submit goes through at once, and every purchase is told in the log."""
    caplog.set_level(logging.INFO, "kling_async")
    async with world(tmp_path, latency=0.5) as w:
        clients: list[KlingClient] = []

        async def scenario() -> None:
            client = w.client(max_in_flight=1)
            clients.append(client)
            await client.submit(rows(len(clients))[0])

        async def check() -> None:
            client = clients[-1]
            async with client:
                await asyncio.wait_for(client.submit(rows(len(clients))[1]), 30)
                assert client._gate.admission.open == client._gate.admission._in_air == 0

        assert await cancel_everywhere(scenario, check) >= 2
        for purchase in w.book.bought():
            assert purchase.generation_id in caplog.text
        assert w.book.duplicates() == []


async def test_waiting_struck_at_any_await_forgets_nothing_and_keeps_nothing(
    tmp_path: Path, cancel_everywhere: CancelEverywhere
) -> None:
    """The poller watches nobody any more, and a later wait is answered."""
    async with world(tmp_path, durations=30.0) as w, w.client() as client:
        generation = await client.submit(rows(0)[0])

        async def scenario() -> None:
            await client.wait(generation)

        async def check() -> None:
            await asyncio.sleep(0.01)
            assert not client._poller._watches
            assert len(client._poller._agenda) == 0
            found = await client.wait(generation)
            assert isinstance(found, Generation)
            assert found.video is not None

        assert await cancel_everywhere(scenario, check) >= 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_waiting_left_at_any_poll_keeps_nothing(tmp_path: Path, moment: Moment) -> None:
    """A poll that never comes back takes one worker; the generation is watched by the others all the same."""
    async with world(tmp_path, durations=30.0) as w, w.client(poll_workers=2) as client:
        hinge = Hinge(3, moment)
        generation = await client.submit(rows(0)[0])
        hinged_client(client, hinge)
        assert await left_where_it_hangs(partial(client.wait, generation, timeout=1000), hinge)
        assert not client._poller._watches
        other = await client.submit(rows(0)[1])
        assert (await client.wait(other, timeout=1000)).video is not None


async def test_a_download_struck_at_any_await_leaves_no_file_and_no_place_taken(
    tmp_path: Path, cancel_everywhere: CancelEverywhere
) -> None:
    """Cut and resumed on the way: nothing beside the final name, and all places are free."""
    async with world(tmp_path, clip_bytes=2_500_000) as w, w.client(downloads_at_once=1) as client:
        generation = await client.wait(await client.submit(rows(0)[0]))

        async def scenario() -> None:
            w.simulator.faults = FaultPlan.of(Fault("download", "cut", at=(1,)), Fault("download", "expired", at=(3,)))
            await client.download(generation, tmp_path / "a.mp4")

        async def check() -> None:
            for _ in range(200):  # a thread that a second cancellation left behind ends by itself
                if await found_in(tmp_path) <= {"a.mp4"}:
                    break
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            assert await found_in(tmp_path) <= {"a.mp4"}
            _store, downloader, _name = client._place(tmp_path / "a.mp4")
            assert not downloader._line.full
            w.simulator.faults = FaultPlan()
            file = await client.download(generation, tmp_path / "a.mp4")
            assert file.sha256 == await w.simulator.served_sha256(generation.id)

        assert await cancel_everywhere(scenario, check) >= 10


@pytest.mark.parametrize("listing", ["acceptance", "never"])
async def test_a_look_up_struck_at_any_await_is_forgotten(
    tmp_path: Path, cancel_everywhere: CancelEverywhere, listing: str
) -> None:
    """Nobody is looked for any more, and the next look is answered."""
    plan = FaultPlan.of(Fault("submit", "dropped_after", at=(1,)))
    async with world(tmp_path, plan, log_listing=listing) as w, w.client(uncertain_after=60) as client:
        lost = asyncio.ensure_future(client.submit(rows(0)[0]))
        await asyncio.wait({lost})
        (purchase,) = w.book.bought()
        name = purchase.request_id or ""

        async def scenario() -> None:
            await client._reconciler.find(name, sent_at=purchase.bought_at, timeout=30)

        async def check() -> None:
            assert client._reconciler._searches == {}
            found = await client.find(name)
            assert (found.id if found else None) == (purchase.generation_id if listing == "acceptance" else None)

        assert await cancel_everywhere(scenario, check) >= 1


async def test_random_moments(tmp_path: Path) -> None:
    """A job left 25 times after a random while, and run once more: every row has its video, bought once."""
    dice = random.Random(5)
    plan = FaultPlan.of(
        seed=5,
        submit={"dropped_after": 0.1, "429": 0.1, "503": 0.05},
        poll={"500": 0.1},
        download={"cut": 0.2, "expired": 0.1},
    )
    given = [ImageToVideo(IMAGE_URL, f"p{i}", key=f"k{i}") for i in range(30)]
    async with world(tmp_path, plan, durations="log-normal", latency=1.0, latency_jitter=2.0) as w:
        for _ in range(25):
            with anyio.move_on_after(dice.expovariate(1 / 60)):
                async with w.batch(max_in_flight=8) as batch:
                    await batch.run(given)
            assert w.book.duplicates() == []
        assert await _rerun(w, given) == {Stage.DONE}
        await w.audit()
        assert len(w.book.paid()) == 30
