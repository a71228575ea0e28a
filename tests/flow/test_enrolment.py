"""Where the videos of a large job lie, and how it goes on from its journal alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kling_async.cli.run import enrol
from kling_async.errors import RequestChanged
from kling_async.flow import enrolment
from kling_async.flow.enrolment import Enrolment
from kling_async.flow.remaining import Enrolled, Remaining
from kling_async.manifests import Manifest
from kling_async.rules.identity import draft_of
from kling_async.testing import MemoryJournal
from kling_async.types.image import ImageKind
from kling_async.types.record import Draft, Record, Stage
from kling_async.types.request import MODEL, ImageToVideo
from tests.flow.harness import IMAGE_URL, PNG, requests, world

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


async def test_checked_rows_are_taken_in_as_they_were_checked() -> None:
    """New ones are counted by model and duration; known ones are told as the journal knows them."""
    journal = MemoryJournal()
    entry = enrolment_in(journal)
    await entry.expect(5)
    request = ImageToVideo(IMAGE_URL, key="known")
    (known,) = await entry.enter([request])
    rows = [ImageToVideo(IMAGE_URL, key=key, duration=5 if key < "c" else 10) for key in ("a", "b", "c", "known")]
    taken = await entry.take_in([draft_of(row) for row in rows[:3]] + [draft_of(request)])
    assert taken.fresh == {(MODEL, 5): 2, (MODEL, 10): 1}
    assert taken.known == [known]
    stored = [record for _, record in await journal.rows(after=0, limit=9)]
    assert [record.request for record in stored] == [request, *rows[:3]]
    assert [record.name for record in stored[1:]] == ["ca/a.mp4", "3e/b.mp4", "2e/c.mp4"]


async def test_an_edited_row_among_new_ones_is_refused(tmp_path: Path) -> None:
    """Where money stands behind it; the others are in the journal."""
    async with world(tmp_path / "out") as made, made.batch() as batch:
        await batch.run(requests(1))
        edited = ImageToVideo(IMAGE_URL, "edited", key="row0")
        taken = await batch.enrolment.take_in([draft_of(request) for request in (edited, requests(2)[1])])
        assert taken.fresh.total() == 1
        assert isinstance(taken.known[0], RequestChanged)
        assert (await batch.tally()).planned == 1


async def test_bytes_are_kept_beside_the_journal_first(tmp_path: Path) -> None:
    """A row that brings them comes as it is, between others; it is bought from what was kept."""
    async with world(tmp_path / "out") as made, made.batch() as batch:
        rows: list[Draft | ImageToVideo] = [draft_of(requests(1)[0]), ImageToVideo(PNG, "bytes", key="bytes")]
        assert (await batch.enrolment.take_in(rows)).fresh.total() == 2
        assert (await batch.run(Remaining())).tally.done == 2
        assert (await made.records())["bytes"].request.image.kind is ImageKind.STORED


async def some(*keys: str) -> AsyncIterator[list[str]]:
    """Give keys out, as a checked manifest does."""
    for key in keys:
        yield [key]


async def test_rows_under_some_keys_are_run_and_no_others(tmp_path: Path) -> None:
    """Those that are done are told again, those that failed are left, unless they are to be tried again."""
    async with world(tmp_path / "out") as made:
        long = ImageToVideo("https://images.example/cat.png", "x" * 3000, key="long")
        async with made.batch() as batch:
            await batch.run([requests(1)[0], long])
            await batch.enrol(requests(5))
            async with batch.stream(Enrolled(some("row3", "long", "row0", "unknown"))) as stream:
                outcomes = {outcome.key: (outcome.stage, outcome.resumed) async for outcome in stream}
            expected = {"row3": (Stage.DONE, False), "long": (Stage.FAILED, True), "row0": (Stage.DONE, True)}
            assert outcomes == expected
            assert (await batch.tally()).planned == 3
            async with batch.stream(Enrolled(some("long")), retry_failed=True) as stream:
                assert [(outcome.key, outcome.resumed) async for outcome in stream] == [("long", False)]


async def test_a_manifest_that_is_edited_during_its_run_is_bought_as_it_was_checked(tmp_path: Path) -> None:
    """Beside the rows of another, too: what was not checked, nor its price told, waits for the next run."""
    path = tmp_path / "shots.jsonl"
    path.write_text("".join(f'{{"key": "{key}", "image": "{IMAGE_URL}", "prompt": "{key}"}}\n' for key in "abc"))
    source = Manifest(path)
    try:
        async with world(tmp_path / "out") as made, made.batch() as batch:
            await batch.run(requests(1))
            mark, _ = await source.mark(), await source.check()
            enrolled = await enrol(batch, source, mark=mark, resubmit=False)
            assert (enrolled.rows, enrolled.whole) == (3, False)
            path.write_text(path.read_text().replace('"prompt": "b"', '"prompt": "edited"') + "no JSON\n")
            report = await batch.run(Enrolled(source.checked_keys()))
            assert (report.tally.done, report.tally.rows) == (4, 4)
        records = await made.records()
    finally:
        source.close()
    assert [records[key].request.prompt for key in "abc"] == ["a", "b", "c"]
    assert len(made.book.paid()) == 4
