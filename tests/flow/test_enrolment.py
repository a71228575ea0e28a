"""Where the videos of a large job lie, and how it goes on from its journal alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kling_async.flow import enrolment
from kling_async.flow.enrolment import Enrolment
from kling_async.flow.remaining import Remaining
from kling_async.testing import MemoryJournal
from kling_async.types.record import Record, Stage
from kling_async.types.request import ImageToVideo
from tests.flow.harness import IMAGE_URL, requests, world

pytestmark = pytest.mark.looptime


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job of more than 4 rows be a large one."""
    monkeypatch.setattr(enrolment, "SPLIT_ABOVE", 4)


class NoImages:
    """No row here brings bytes."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"nobody asks for {name}")


def enrolment_in(journal: MemoryJournal) -> Enrolment:
    return Enrolment(journal, NoImages())  # type: ignore[arg-type]  # never asked


async def names(entry: Enrolment, *keys: str) -> list[str]:
    """Take rows in, and return where their videos will lie."""
    found = await entry.enter([ImageToVideo(IMAGE_URL, key=key) for key in keys])
    return [record.name for record in found if isinstance(record, Record)]


@pytest.mark.parametrize("rows", [4, 5])
async def test_the_number_of_rows_decides_before_the_first(rows: int) -> None:
    """Above the limit all go into folders, by a digest of the key; up to it, none."""
    entry = enrolment_in(MemoryJournal())
    await entry.expect(rows)
    assert await names(entry, "a", "x/y") == (
        ["ca/a.mp4", "bd/x_y~bd3c9047d6816c31.mp4"] if rows > 4 else ["a.mp4", "x_y~bd3c9047d6816c31.mp4"]
    )


async def test_the_choice_is_made_once() -> None:
    """Another run with another number of rows keeps it, and rows keep their places."""
    journal = MemoryJournal()
    await enrolment_in(journal).expect(100)
    later = enrolment_in(journal)
    await later.expect(1)
    assert await names(later, "a") == ["ca/a.mp4"]
    assert await names(enrolment_in(journal), "a", "b") == ["ca/a.mp4", "3e/b.mp4"]


async def test_without_a_number_the_journal_decides() -> None:
    """Rows that come once it holds so many go into folders; those before them stay, also in the next run."""
    journal = MemoryJournal()
    entry = enrolment_in(journal)
    assert await names(entry, "a", "b", "c") == ["a.mp4", "b.mp4", "c.mp4"]
    assert await names(entry, "c", "d") == ["c.mp4", "d.mp4"]
    assert await names(entry, "e", "a") == ["3f/e.mp4", "a.mp4"]
    assert await names(enrolment_in(journal), "f") == ["25/f.mp4"]


async def test_names_that_differ_in_case_stay_in_their_folders() -> None:
    """What tells them apart is in the name, not in the way to it."""
    entry = enrolment_in(MemoryJournal())
    await entry.expect(5)
    found = await names(entry, *(f"{letter}{number}" for number in range(200) for letter in "aA"))
    assert len({name.lower() for name in found}) == 400
    assert all(name[2] == "/" for name in found)


async def test_videos_in_folders_are_made_shared_and_known_again(tmp_path: Path) -> None:
    """A whole job in folders: rows of equal content too; run again, nothing is bought."""
    async with world(tmp_path / "out") as made:
        async with made.batch() as batch:
            await batch.enrolment.expect(5)
            rows = [*requests(3), ImageToVideo(IMAGE_URL, "prompt 0", key="same")]
            report = await batch.run(rows)
        assert (report.tally.done, report.tally.shared) == (4, 1)
        async with made.batch() as batch:
            assert (await batch.run(rows)).submits == 0
        records = await made.records()
    assert all("/" in record.name for record in records.values())
    assert await asyncio.to_thread(
        lambda: all((tmp_path / "out/videos" / record.name).is_file() for record in records.values())
    )


async def test_a_job_goes_on_from_its_journal(tmp_path: Path) -> None:
    """`Remaining` runs all rows that were taken in, beside those that were open, and reads no source."""
    async with world(tmp_path / "out") as made:
        async with made.batch() as batch:
            await batch.enrol(requests(5))
            async with batch.stream(requests(2)) as outcomes:
                await anext(outcomes)
        async with made.batch() as batch:
            choice, tally = await batch.foresee(), await batch.tally()
            assert choice.rows == tally.rows - tally.done - tally.failed
            assert sum(choice.new.values()) == tally.planned
            report = await batch.run(Remaining())
        assert (report.tally.done, report.tally.rows) == (5, 5)
        assert len(made.book.paid()) == 5


async def test_rows_that_failed_are_left(tmp_path: Path) -> None:
    """They are the owner's to try again."""
    async with world(tmp_path / "out") as made:
        async with made.batch() as batch:
            await batch.run([ImageToVideo("https://images.example/cat.png", "x" * 3000, key="long"), *requests(1)])
            await batch.enrol(requests(2))
            report = await batch.run(Remaining())
        assert (report.tally.done, report.tally.failed) == (2, 1)
        assert (await made.records())["long"].stage is Stage.FAILED


async def test_a_source_is_noted_until_other_rows_come(tmp_path: Path) -> None:
    """What is known already takes nothing away."""
    async with world(tmp_path / "out") as made, made.batch() as batch:
        await batch.enrol(requests(3))
        await batch.enrolment.complete("a manifest")
        await batch.enrol(requests(2))
        assert await batch.enrolment.source() == "a manifest"
        await batch.enrol([ImageToVideo(IMAGE_URL, "edited", key="row0")])
        assert await batch.enrolment.source() is None
        await batch.enrolment.complete("a manifest")
        await batch.enrol(requests(4))
        assert await batch.enrolment.source() is None
