"""Files against the journal: each kind of damage is found, and mended by a fetch; nothing is ever bought for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from kling_async import (
    AuthenticationFailed,
    Batch,
    ConfigurationError,
    FileFault,
    Finding,
    ImageToVideo,
    JournalLocked,
    ServiceUnavailable,
    Stage,
    VerifyReport,
    open_batch,
)
from kling_async.adapters.disk import temporary_name
from kling_async.simulator import Fault, FaultPlan
from kling_async.types.record import Record
from tests.flow.harness import IMAGE_URL, World, found_in, read, requests, world
from tests.flow.hinges import Hinge, hinged_batch, left_where_it_hangs

pytestmark = pytest.mark.looptime

T = TypeVar("T")


async def off(work: Callable[[], T]) -> T:
    """Touch the disk off the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def made(w: World, count: int = 3, **fields: Any) -> dict[str, Record]:
    """Make videos, and return their rows."""
    async with w.batch() as batch:
        assert (await batch.run(requests(count, **fields))).tally.done == count
    return await w.records()


async def verified(w: World, *, deep: bool = False, fetch: bool = True, **flags: Any) -> tuple[Any, dict[str, Finding]]:
    """Verify, and return the report and the findings of files that were not as they should be."""
    found: list[Finding] = []
    async with w.batch(**flags) as batch:
        report = await batch.verify(deep=deep, fetch=fetch, told=found.append)
    assert len(found) == report.checked == len({finding.key for finding in found})
    assert report.checked == report.whole + report.fetched + report.bad
    assert report.bad == sum(finding.bad for finding in found)
    return report, {finding.key: finding for finding in found if finding.fault is not None}


async def metadata_of(w: World) -> dict[str, tuple[int, str]]:
    """Return what the metadata say of each video; each has one line, in the order of ends."""
    lines = [json.loads(line) for line in (await read(w.folder / "metadata.jsonl")).splitlines()]
    assert len(lines) == len({line["key"] for line in lines})
    return {line["key"]: (line["size"], line["sha256"]) for line in lines}


async def is_true(w: World) -> None:
    """Hold journal, folder and metadata against each other, and all of them against the account."""
    await w.audit()
    records = await w.records()
    done = {key: (row.size, row.sha256) for key, row in records.items() if row.stage is Stage.DONE}
    assert await metadata_of(w) == done


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DAMAGE: dict[str, tuple[FileFault, Callable[[Path], object]]] = {
    "deleted": (FileFault.MISSING, Path.unlink),
    "emptied": (FileFault.SIZE, lambda path: os.truncate(path, 0)),
    "cut": (FileFault.SIZE, lambda path: os.truncate(path, path.stat().st_size // 2)),
    "grown": (FileFault.SIZE, lambda path: path.write_bytes(path.read_bytes() + b"\0" * 8)),
    "one bit": (FileFault.DIGEST, _flip),
    "a page": (FileFault.SIZE, lambda path: path.write_bytes(b"<html>not here</html>")),
    "noise of the same size": (FileFault.DIGEST, lambda path: path.write_bytes(b"x" * path.stat().st_size)),
    "a dangling link": (FileFault.MISSING, lambda path: _replace(path, lambda place: place.symlink_to("nowhere"))),
    "a pipe": (FileFault.UNREADABLE, lambda path: _replace(path, os.mkfifo)),
}


async def test_a_whole_folder_is_read_once_and_nobody_is_asked(tmp_path: Path) -> None:
    """Every byte is read, no call is made, nothing is written."""
    async with world(tmp_path) as w:
        rows = await made(w, 5)
        calls, metadata = Counter(w.book.calls), await read(tmp_path / "metadata.jsonl")
        report, bad = await verified(w)
        assert bad == {}
        assert (report.checked, report.whole, report.strays) == (5, 5, 0)
        assert report.bytes == sum(row.size or 0 for row in rows.values())
        assert report.stopped is None
        assert Counter(w.book.calls) - calls <= Counter({"price": 1})
        assert await read(tmp_path / "metadata.jsonl") == metadata
        assert await w.records() == rows


async def test_an_empty_job_is_whole(tmp_path: Path) -> None:
    """No row is done, no folder of videos is there but an empty one."""
    async with world(tmp_path) as w:
        report, bad = await verified(w, deep=True)
        assert (report.checked, bad) == (0, {})


@pytest.mark.parametrize("kind", DAMAGE)
async def test_each_damage_is_found_told_and_mended(tmp_path: Path, kind: str) -> None:
    """The row's file is fetched by its id, once; the others are left alone; the same bytes stand there again."""
    fault, damage = DAMAGE[kind]
    async with world(tmp_path) as w:
        rows = await made(w)
        place = tmp_path / "videos" / rows["row1"].name
        await off(partial(damage, place))
        calls = Counter(w.book.calls)
        report, bad = await verified(w, fetch=False)
        assert (report.whole, report.fetched, report.bad) == (2, 0, 1)
        assert (bad["row1"].fault, bad["row1"].path, bad["row1"].fetched) == (fault, place, False)
        assert bad["row1"].reason
        assert bad["row1"].unmended == "it was not to be fetched"
        assert Counter(w.book.calls)["download"] == calls["download"], "nothing is fetched where that was not wanted"

        report, bad = await verified(w)
        assert (report.whole, report.fetched, report.bad) == (2, 1, 0)
        assert (bad["row1"].fault, bad["row1"].fetched, bad["row1"].unmended) == (fault, True, "")
        cost = Counter(w.book.calls) - calls
        assert (cost["submit"], cost["download"], cost["poll"]) == (0, 1, 1)
        assert await w.records() == rows, "the same bytes: the journal says what it said"
        assert await off(lambda: place.is_file() and not place.is_symlink())
        assert (await verified(w))[0].whole == 3
        await is_true(w)


async def test_all_damage_at_once_and_nothing_is_bought(tmp_path: Path) -> None:
    """Many rows, each damage more than once, more than are looked at at once: no new purchase, no new charge."""
    async with world(tmp_path) as w:
        rows = await made(w, 50)
        before = w.book
        bought, spent = len(before.bought()), before.charges
        kinds = list(DAMAGE.values())
        for number, row in enumerate(rows.values()):
            if number < 45:
                await off(partial(kinds[number % len(kinds)][1], tmp_path / "videos" / row.name))
        report, bad = await verified(w)
        assert (report.whole, report.fetched, report.bad, len(bad)) == (5, 45, 0, 45)
        assert (len(w.book.bought()), w.book.charges) == (bought, spent)
        assert w.book.calls["submit"] == bought
        await is_true(w)


async def test_files_of_nobody_are_counted_and_left_alone(tmp_path: Path) -> None:
    """Also in folders below; not those of rows, done or not, nor what an earlier process left on the way."""
    async with world(tmp_path, FaultPlan.of(Fault("download", "404", match="prompt 2"))) as w:
        async with w.batch() as batch:
            report = await batch.run(requests(3))
            assert (report.tally.done, report.tally.rendered) == (2, 1)
        videos = tmp_path / "videos"
        await off((videos / "sub").mkdir)
        strays = {"a.mp4", "notes.txt", "sub/row0.mp4"}
        for name in (*strays, "row2.mp4", temporary_name("row0.mp4")):
            await off(partial((videos / name).write_bytes, b"mine"))
        found, bad = await verified(w)
        assert (found.checked, found.strays, bad) == (2, 3, {}), "a file of a row that is not done is the run's affair"
        assert await read(videos / "row2.mp4") == b"mine"
        assert await found_in(videos) == {"row0.mp4", "row1.mp4", "row2.mp4", "a.mp4", "notes.txt", "sub"}


# ------------------------------------------------------------------ other bytes


async def test_other_bytes_of_the_service_are_kept_and_told_everywhere(tmp_path: Path) -> None:
    """The file was encoded anew: journal and metadata say what stands there, and no money has moved."""
    async with world(tmp_path) as w:
        rows = await made(w)
        tally, order = (await tally_of(w)).spent, list(await metadata_of(w))
        w.simulator.world.jobs[rows["row1"].generation_id or ""].edition += 1
        await off((tmp_path / "videos/row1.mp4").unlink)
        report, bad = await verified(w)
        assert (report.fetched, report.bad) == (1, 0)
        assert bad["row1"].fetched
        after = await w.records()
        assert after["row1"].sha256 != rows["row1"].sha256
        assert {key for key, row in after.items() if row != rows[key]} == {"row1"}
        assert (await tally_of(w)).spent == tally
        await is_true(w)
        assert list(await metadata_of(w)) == order, "the rows ended when they ended"
        assert (await verified(w))[0].whole == 3


async def tally_of(w: World) -> Any:
    async with w.batch() as batch:
        return await batch.tally()


@pytest.mark.parametrize("call", ["save done", "commit", "note metadata_position"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_on_the_way_is_made_good(tmp_path: Path, call: str, moment: Any) -> None:
    """Left anywhere around the digest and the name: the digest comes first, and the next time mends the rest."""
    async with world(tmp_path) as w:
        rows = await made(w, 2)
        w.simulator.world.jobs[rows["row1"].generation_id or ""].edition += 1
        await off(partial(_flip, tmp_path / "videos/row1.mp4"))
        hinge = Hinge(1, moment, call)
        batch = w.batch()
        hinged_batch(batch, hinge)

        async def verify() -> None:
            async with batch:
                await batch.verify()

        assert await left_where_it_hangs(verify, hinge)
        known = (await w.records())["row1"]
        content = await read(tmp_path / "videos/row1.mp4")
        if hashlib.sha256(content).hexdigest() != rows["row1"].sha256 and call == "commit" and moment == "after":
            assert hashlib.sha256(content).hexdigest() == known.sha256, "the digest is saved before the rename"
        report, _ = await verified(w)
        assert report.bad == 0
        await is_true(w)


async def test_a_run_makes_the_metadata_true_where_verify_could_not(tmp_path: Path) -> None:
    """Killed when the digest was written: the run that follows writes the lines anew, before anything else."""
    async with world(tmp_path) as w:
        rows = await made(w, 2)
        w.simulator.world.jobs[rows["row1"].generation_id or ""].edition += 1
        await off((tmp_path / "videos/row1.mp4").unlink)
        async with w.batch() as batch:
            secretary = batch._secretary
            await secretary.open()
            batch._secretary = _Silent(secretary)  # type: ignore[assignment]  # as if the process had died before it
            await batch.verify()
        assert (await metadata_of(w))["row1"][1] == rows["row1"].sha256, "that is what a crash leaves"
        async with w.batch() as batch:
            await batch.run(requests(2))
        await is_true(w)


class _Silent:
    """A secretary who forgets and writes nothing anew."""

    def __init__(self, secretary: Any) -> None:
        self.forget = secretary.forget

    async def open(self) -> None:
        pass

    async def renew(self) -> None:
        pass


# ------------------------------------------------------------------------- twins


async def test_rows_that_share_a_generation_are_fetched_by_it(tmp_path: Path) -> None:
    """Original and twins, each under its own name: one purchase, now as before."""
    async with world(tmp_path) as w:
        twins = [ImageToVideo(IMAGE_URL, "the same", key=key) for key in ("a", "b", "c")]
        async with w.batch() as batch:
            report = await batch.run(twins)
            assert (report.tally.done, report.tally.shared) == (3, 2)
        rows = await w.records()
        for name in ("a.mp4", "b.mp4"):
            await off((tmp_path / "videos" / name).unlink)
        await off(partial(os.truncate, tmp_path / "videos/c.mp4", 100))
        report_, bad = await verified(w)
        assert (report_.fetched, report_.bad) == (3, 0)
        assert {finding.generation_id for finding in bad.values()} == {w.book.bought()[0].generation_id}
        assert len(w.book.bought()) == 1
        assert await w.records() == rows
        assert (await verified(w))[0].whole == 3


async def test_one_of_two_names_of_a_file_is_mended_and_the_other_is_not_touched(tmp_path: Path) -> None:
    """A twin is a hard link: the new file takes its name, and never writes into the old one."""
    async with world(tmp_path) as w:
        async with w.batch() as batch:
            await batch.run([ImageToVideo(IMAGE_URL, "the same", key=key) for key in ("a", "b")])
        one, other = tmp_path / "videos/a.mp4", tmp_path / "videos/b.mp4"
        assert await off(lambda: one.samefile(other))
        whole = await read(other)
        await off(lambda: _replace(one, lambda place: place.write_bytes(b"mine")))
        assert (await verified(w))[0].fetched == 1
        assert (await read(one), await read(other)) == (whole, whole)


# ------------------------------------------------------------------ deep

SOURCE: dict[str, Any] = {"clip_bytes": 26_000}
"""Clips whose middle, which the host damages, holds frames that cannot be decoded then."""


async def test_damage_at_the_source_is_told_and_not_fetched_again_and_again(tmp_path: Path) -> None:
    """The boxes are whole, and so the file was kept: only decoding shows it; these are the very bytes that came."""
    plan = FaultPlan.of(Fault("download", "damaged", match="prompt 1"))
    async with world(tmp_path, plan, **SOURCE) as w:
        rows = await made(w)
        downloads = w.book.calls["download"]
        assert (await verified(w))[0].whole == 3
        for _ in range(2):
            report, bad = await verified(w, deep=True)
            assert (report.whole, report.fetched, report.bad) == (2, 0, 1)
            assert bad["row1"].fault is FileFault.UNDECODABLE
            assert "decoded" in bad["row1"].reason
            assert "as it came" in bad["row1"].unmended
        assert w.book.calls["download"] == downloads
        assert await w.records() == rows

        w.simulator.faults = FaultPlan()  # the host mended it; its owner deletes the file, as told
        await off((tmp_path / "videos/row1.mp4").unlink)
        report, bad = await verified(w, deep=True)
        assert (report.fetched, report.bad) == (1, 0)
        await is_true(w)


async def test_what_is_fetched_again_is_decoded_too(tmp_path: Path) -> None:
    """It has whole boxes and stands there, since it is all there is; it is told as bad."""
    async with world(tmp_path, **SOURCE) as w:
        await made(w)
        await off((tmp_path / "videos/row1.mp4").unlink)
        w.simulator.faults = FaultPlan.of(Fault("download", "damaged"))
        report, bad = await verified(w, deep=True)
        assert (report.whole, report.fetched, report.bad) == (2, 0, 1)
        assert bad["row1"].fetched
        assert bad["row1"].unmended.startswith("it was fetched again, and")
        assert await metadata_of(w) == {key: (row.size, row.sha256) for key, row in (await w.records()).items()}


# --------------------------------------------------------- what is not to be had


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("poll", "404"), "not found"),
        (Fault("download", "404"), "refuses the link"),
        (Fault("download", "html_video"), "is not an MP4"),
        (Fault("download", "truncated"), "bytes"),
    ],
)
async def test_what_cannot_be_had_stays_bad_and_keeps_what_is_there(tmp_path: Path, fault: Fault, told: str) -> None:
    """A forgotten generation, a dead link, a bad file at the host: told, never bought; the name keeps its file."""
    async with world(tmp_path) as w:
        rows = await made(w)
        place = tmp_path / "videos/row1.mp4"
        await off(partial(os.truncate, place, 9000))
        left = await read(place)
        w.simulator.faults = FaultPlan.of(fault)
        bought = w.book.calls["submit"]
        report, bad = await verified(w)
        assert (report.whole, report.fetched, report.bad, report.stopped) == (2, 0, 1, None)
        assert told in bad["row1"].unmended.lower().replace("mp4", "MP4")
        assert await read(place) == left
        assert await w.records() == rows
        assert await found_in(tmp_path / "videos") == {row.name for row in rows.values()}
        assert w.book.calls["submit"] == bought
        w.simulator.faults = FaultPlan()
        assert (await verified(w))[0].fetched == 1
        await is_true(w)


async def test_a_silent_service_ends_the_fetching_and_not_the_reading(tmp_path: Path) -> None:
    """After `unavailable_after` no more is asked for: each file was looked at, and why it is bad is told."""
    async with world(tmp_path) as w:
        rows = await made(w, 50)
        for row in list(rows.values())[:40]:
            await off((tmp_path / "videos" / row.name).unlink)
        await w.simulator.stop_listening()
        began = asyncio.get_running_loop().time()
        report, bad = await verified(w, unavailable_after=1200.0)
        assert isinstance(report.stopped, ServiceUnavailable)
        assert (report.checked, report.whole, report.bad) == (50, 10, 40)
        assert all("no usable answer" in finding.unmended for finding in bad.values())
        assert 1200 <= asyncio.get_running_loop().time() - began < 1400
        await w.simulator.listen_again()
        assert (await verified(w))[0].fetched == 40
        await is_true(w)


async def test_an_outage_is_waited_for(tmp_path: Path) -> None:
    """Longer than any generation is asked for, and shorter than the patience: all is mended."""
    async with world(tmp_path) as w:
        await made(w)
        await off((tmp_path / "videos/row1.mp4").unlink)
        await w.simulator.stop_listening()
        task = asyncio.ensure_future(verified(w))
        await asyncio.sleep(1000)
        await w.simulator.listen_again()
        report, _ = await task
        assert (report.fetched, report.bad) == (1, 0)


async def test_a_refused_key_is_told_once_and_the_files_are_read(tmp_path: Path) -> None:
    """Polls and the balance refuse it: no more is asked for."""
    async with world(tmp_path) as w:
        await made(w, 3)
        await off((tmp_path / "videos/row1.mp4").unlink)
        report, bad = await verified(w, api_key="another")
        assert isinstance(report.stopped, AuthenticationFailed)
        assert (report.whole, report.bad) == (2, 1)
        assert bad["row1"].unmended
        assert len(w.book.bought()) == 3


# ----------------------------------------------------------------------- offline


async def test_without_a_key_it_is_only_told(tmp_path: Path) -> None:
    """A batch that was opened offline takes the journal of any service, asks nobody, and runs nothing."""
    async with world(tmp_path) as w:
        rows = await made(w)
        await off((tmp_path / "videos/row1.mp4").unlink)
        calls = Counter(w.book.calls)
        with pytest.raises(AuthenticationFailed):
            open_batch(tmp_path, base_url="https://other.example")
        async with open_batch(tmp_path, base_url="https://other.example", offline=True) as batch:
            found: list[Finding] = []
            report = await batch.verify(told=found.append)
            assert (report.whole, report.bad) == (2, 1)
            assert [one.unmended for one in found if one.bad] == ["there is no key to ask for it with"]
            with pytest.raises(ConfigurationError, match="offline"):
                await batch.run(requests(4))
        assert Counter(w.book.calls) == calls
        assert await w.records() == rows
        await made(w, 4)


async def test_the_folder_is_taken_and_a_batch_does_one_thing_at_a_time(tmp_path: Path) -> None:
    """Another holder is an error; so is a run beside a verification, or a verification beside a run."""
    async with world(tmp_path) as w:
        await made(w)
        with pytest.raises(ConfigurationError, match="async with"):
            await w.batch().verify()
        async with w.batch() as batch:
            with pytest.raises(JournalLocked):
                await verified(w)
            async with batch.stream(requests(3)):
                with pytest.raises(ConfigurationError, match="does not run"):
                    await batch.verify()
            one = asyncio.ensure_future(batch.verify())
            await asyncio.sleep(0)
            with pytest.raises(ConfigurationError, match="one stream at a time"):
                await batch.run(requests(3))
            assert isinstance(await one, VerifyReport)
            assert (await batch.run(requests(3))).tally.done == 3


async def test_whoever_is_told_may_fail_and_hears_of_it(tmp_path: Path) -> None:
    """The caller's own error comes back as it is; the batch can be used on."""

    class OwnError(Exception):
        pass

    def told(_finding: Finding) -> None:
        raise OwnError

    async with world(tmp_path) as w:
        await made(w)
        async with w.batch() as batch:
            with pytest.raises(OwnError):
                await batch.verify(told=told)
            assert (await batch.verify()).whole == 3


async def test_left_at_any_moment_nothing_is_lost(tmp_path: Path) -> None:
    """Cancelled while files are asked for, come in and get their names: the next one mends the rest."""
    async with world(tmp_path, FaultPlan.of(Fault("download", "slow", seconds=4.0))) as w:
        rows = await made(w, 3)
        for after in (0.0, 0.05, 0.3, 1.0, 2.0, 4.0, 4.3, 8.0):
            for row in rows.values():
                await off((tmp_path / "videos" / row.name).unlink)
            batch: Batch = w.batch()
            with anyio.move_on_after(after):
                async with batch:
                    await batch.verify()
            assert await found_in(tmp_path / "videos") <= {row.name for row in rows.values()}
            assert (await verified(w))[0].bad == 0
            await is_true(w)
        assert len(w.book.bought()) == 3
