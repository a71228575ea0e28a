"""A manifest on its way into a batch: its rows, or the samples of each, checked and read without a list of them."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from pathlib import Path

import pytest

from kling_async import open_batch
from kling_async.adapters.results import FolderResults
from kling_async.cli.run import enrol
from kling_async.errors import ManifestError
from kling_async.manifests import Manifest, ManifestCheck
from kling_async.rules.identity import content_digest, default_key, request_of, written_digest
from kling_async.types.record import Draft, Record, Stage, Trouble
from kling_async.types.request import ImageToVideo

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40)
URL = "https://images.example/cat.png"


def written(folder: Path, *rows: dict[str, object], name: str = "shots.jsonl") -> Path:
    """Write a manifest."""
    path = folder / name
    path.write_text("".join(json.dumps({"image": URL, **row}) + "\n" for row in rows))
    return path


async def few(records: Iterable[Record]) -> AsyncIterator[list[Record]]:
    """Hand records over a few at a time, as the journal's pages come."""
    rest = iter(records)
    while some := list(islice(rest, 40)):
        yield some


async def check(path: Path, samples: int | None = None) -> ManifestCheck:
    source = Manifest(path, samples=samples)
    try:
        return await source.check()
    finally:
        source.close()


async def drafts(path: Path, samples: int | None = None) -> AsyncIterator[Draft | ImageToVideo]:
    source = Manifest(path, samples=samples)
    try:
        await source.check()
        async for page in source.drafts():
            for draft in page:
                yield draft
    finally:
        source.close()


async def requests(path: Path, samples: int | None = None) -> AsyncIterator[ImageToVideo]:
    async for draft in drafts(path, samples):
        yield request_of(draft.document) if isinstance(draft, Draft) else draft


async def keys(path: Path, samples: int | None = None) -> list[str | None]:
    return [request.key async for request in requests(path, samples)]


async def test_samples_stand_behind_each_other(tmp_path: Path) -> None:
    """`KEY.1` to `KEY.N` of each row, in the order of the file; without samples each row is itself."""
    path = written(tmp_path, {"key": "a"}, {"prompt": "no key"})
    base = default_key(written_digest(ImageToVideo(URL, "no key")))
    assert await keys(path, 2) == ["a.1", "a.2", f"{base}.1", f"{base}.2"]
    assert await keys(path, 1) == ["a.1", f"{base}.1"]
    assert await keys(path) == ["a", None]


async def test_samples_are_counted_before_anything_is_paid(tmp_path: Path) -> None:
    """A row that stands twice is a duplicate in each of its samples."""
    path = written(tmp_path, {"key": "a"}, {"key": "b", "duration": 10}, {"key": "a"})
    found = await check(path, 3)
    assert (found.duplicates, found.error_count) == (3, 0)
    assert await keys(path, 3) == ["a.1", "a.2", "a.3", "b.1", "b.2", "b.3"]


async def test_a_key_that_a_sample_has_already_is_told(tmp_path: Path) -> None:
    """A sample that was named by hand, with other content, stands in the way of one that is counted."""
    path = written(tmp_path, {"key": "a"}, {"key": "a.2", "sample": 2, "prompt": "other"})
    found = await check(path, 2)
    assert [(error.line, error.field) for error in found.errors] == [(2, "key")]
    assert "line 1" in str(found.errors[0])


async def test_a_faulty_row_is_told_once(tmp_path: Path) -> None:
    """Not once for each sample; a key without room for a number by its line."""
    path = written(tmp_path, {"key": "a", "duration": 7}, {"image": "none.png"}, {"key": "k" * 499}, {"key": "ok"})
    found = await check(path, 3)
    assert [(error.line, error.field) for error in found.errors] == [(1, "duration"), (2, "image"), (3, "key")]


@pytest.mark.parametrize("name", ["shots.csv", "shots.jsonl"])
async def test_a_column_names_a_sample(tmp_path: Path, name: str) -> None:
    """Rows of equal content that are to be different videos: a number in the column `sample`, under any key."""
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text(f"key,image,sample\nx,{URL},2\ny,{URL},\nz,{URL},3.0\n")
    else:
        written(tmp_path, {"key": "x", "sample": 2}, {"key": "y", "sample": None}, {"key": "z", "sample": 3})
    found = [(request.key, request.sample) async for request in requests(path)]
    assert found == [("x", 2), ("y", None), ("z", 3)]
    assert [key async for key in _keys_of_samples(path)] == ["x", "y.1", "y.2", "z"]


async def _keys_of_samples(path: Path) -> AsyncIterator[str | None]:
    async for request in requests(path, 2):
        yield request.key


@pytest.mark.parametrize("value", [0, "two", 1.5, True])
async def test_a_sample_that_is_no_number_is_told(tmp_path: Path, value: object) -> None:
    """By line and column."""
    found = await check(written(tmp_path, {"key": "x", "sample": value}))
    assert [(error.line, error.field) for error in found.errors] == [(1, "sample")]


@pytest.mark.parametrize("samples", [None, 1, 5])
async def test_a_list_of_failures_leads_to_the_same_rows(tmp_path: Path, samples: int | None) -> None:
    """Samples that failed keep their keys and both digests when the list is run, with `--samples` or without."""
    path = written(tmp_path, {"key": "a", "prompt": "p"}, {"prompt": "no key"})
    before = [request async for request in requests(path, 3)]
    results = FolderResults(tmp_path / "out")
    (tmp_path / "out").mkdir()
    await results.write_failures(
        few(
            Record(request.key or "", "x.mp4", request, "w", Stage.FAILED, trouble=Trouble("GenerationFailed", "no"))
            for request in before
        )
    )
    await results.aclose()
    after = [request async for request in requests(tmp_path / "out/failures.jsonl", samples)]
    assert [request.key for request in after] == [request.key for request in before]
    assert [written_digest(request) for request in after] == [written_digest(request) for request in before]
    digests = {"image": "ab"}
    assert [content_digest(one, digests) for one in after] == [content_digest(one, digests) for one in before]


async def test_samples_take_no_memory(tmp_path: Path) -> None:
    """Each is made as it is read: 20,000 of one row are never there together."""
    path, count = written(tmp_path, {"key": "a"}), 0
    tracemalloc.start()
    try:
        async for _ in drafts(path, 20_000):
            count += 1
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert count == 20_000


async def test_rows_that_carry_much_are_not_gathered(tmp_path: Path) -> None:
    """Rows of a megabyte each are kept and given out a few at a time."""
    note, path, sizes = "n" * 1_000_000, tmp_path / "shots.jsonl", list[int]()
    path.write_text(
        "".join(f'{{"key": "k{i}", "image": "https://images.example/{i}.png", "note": "{note}"}}\n' for i in range(150))
    )
    source = Manifest(path)
    tracemalloc.start()
    try:
        assert (await source.check()).rows == 150
        peak = tracemalloc.get_traced_memory()[1]
        async for page in source.drafts():
            sizes.append(len(page))
    finally:
        tracemalloc.stop()
        source.close()
    assert (sum(sizes), max(sizes)) == (150, 2)
    assert peak < 150_000_000, "64 rows are read at once, and no more than two wait to be written"


async def test_all_images_are_looked_at_before_any_row_is_given_out(tmp_path: Path) -> None:
    """A thousand rows of as many files: each that is no image is told with its line, in the order of the lines."""
    for number in range(1000):
        (tmp_path / f"{number}.png").write_bytes(b"<html>" * 9 if number % 250 == 249 else PNG)
    table: list[dict[str, object]] = [{"image": f"{number}.png", "prompt": str(number)} for number in range(1000)]
    path = written(tmp_path, *table)
    found = await check(path)
    assert [(error.line, error.field) for error in found.errors] == [(at, "image") for at in (250, 500, 750, 1000)]
    assert all("begins like no image" in str(error) for error in found.errors)


@pytest.mark.parametrize("when", ["before it is checked", "before it is taken in", "not at all"])
async def test_what_is_changed_while_it_is_read_is_not_run(tmp_path: Path, when: str) -> None:
    """Rows that nobody checked are not bought; nor are they noted under the mark of what stood there before."""
    path = written(tmp_path, {"key": "a"}, {"key": "b"})
    source = Manifest(path)
    try:
        mark = await source.mark()
        if when == "before it is checked":
            written(tmp_path, {"key": "a"}, {"key": "c"})
        await source.check()
        if when == "before it is taken in":
            written(tmp_path, {"key": "a"}, {"key": "c"})
        async with open_batch(tmp_path / "out", api_key="a-key") as batch:
            if when == "not at all":
                assert (await enrol(batch, source, mark=mark, resubmit=False)).whole
            else:
                with pytest.raises(ManifestError, match="changed while it was read"):
                    await enrol(batch, source, mark=mark, resubmit=False)
            assert await batch.enrolment.source() == (mark if when == "not at all" else None)
    finally:
        source.close()


async def test_what_is_appended_to_a_checked_manifest_waits_for_the_next_run(tmp_path: Path) -> None:
    """Nobody checked it, nor was its price told: it is not read on, however slowly the rows are taken."""
    path = written(tmp_path, {"key": "a"}, {"key": "b"}, {"key": "a"})
    source = Manifest(path, samples=2)
    try:
        await source.check()
        with path.open("a") as file:
            file.write(json.dumps({"image": URL, "key": "new"}) + "\n")
        assert [[draft.key for draft in page] async for page in source.drafts()] == [["a.1", "a.2", "b.1", "b.2"]]
        assert [page async for page in source.checked_keys()] == [["a.1", "a.2", "b.1", "b.2"]]
    finally:
        source.close()


async def test_rows_that_bring_bytes_are_given_out_with_them(tmp_path: Path) -> None:
    """In their place between the others, once each, samples too; no copy of them lies anywhere meanwhile."""
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    path = written(tmp_path, {"key": "a"}, {"key": "b", "image": data}, {"key": "c"}, {"key": "b", "image": data})
    found = [draft async for draft in drafts(path, 2)]
    assert [draft.key for draft in found] == ["a.1", "a.2", "b.1", "b.2", "c.1", "c.2"]
    assert [draft.image.content for draft in found if not isinstance(draft, Draft)] == [PNG, PNG]


async def test_bytes_that_are_no_more_what_was_checked_are_not_taken_in(tmp_path: Path) -> None:
    """They are read once more, and held against the digest that they had."""

    def image(end: bytes) -> dict[str, object]:
        return {"image": f"data:image/png;base64,{base64.b64encode(PNG + end).decode()}"}

    source = Manifest(written(tmp_path, {"key": "a", **image(b"1")}, {"key": "b", **image(b"2")}))
    try:
        await source.check()
        written(tmp_path, {"key": "a", **image(b"1")}, {"key": "b", **image(b"3")})
        with pytest.raises(ManifestError, match="changed while it was read"):
            assert [page async for page in source.drafts()] == []
    finally:
        source.close()


async def test_few_rows_with_their_bytes_are_in_memory_at_once(tmp_path: Path) -> None:
    """They come in smaller pages, of which each may be ten megabytes a row."""
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    table: list[dict[str, object]] = [{"key": str(number), "image": data} for number in range(150)]
    source = Manifest(written(tmp_path, *table))
    try:
        await source.check()
        pages = [[draft.key for draft in page] async for page in source.drafts()]
    finally:
        source.close()
    assert [len(page) for page in pages] == [64, 64, 22]
    assert [key for page in pages for key in page] == [str(number) for number in range(150)]


async def test_nothing_is_given_out_of_a_manifest_with_errors(tmp_path: Path) -> None:
    """Not even the rows that are all right; nor anything once a check broke off."""
    path = written(tmp_path, {"key": "a"}, {"key": "b", "duration": 7})
    source = Manifest(path)
    try:
        assert (await source.check()).error_count == 1
        with pytest.raises(ManifestError, match="has errors"):
            await anext(source.drafts())
        written(tmp_path, {"key": "a"})
        assert (await source.check()).error_count == 0
        path.unlink()
        with pytest.raises(ManifestError, match="cannot be read"):
            await source.check()
        assert [page async for page in source.drafts()] == []
    finally:
        source.close()


async def test_nothing_is_given_out_that_was_not_checked(tmp_path: Path) -> None:
    """Nor what was let go again."""
    source = Manifest(written(tmp_path, {"key": "a"}))
    try:
        with pytest.raises(ManifestError, match="not checked"):
            await anext(source.drafts())
        await source.check()
        await source.forget()
        with pytest.raises(ManifestError, match="not checked"):
            await anext(source.checked_keys())
    finally:
        source.close()


@pytest.mark.parametrize("first", [1, 2, 9])
async def test_the_first_rows_alone_are_given_out(tmp_path: Path, first: int) -> None:
    """Of the file's rows, with all their samples; a row that stands twice counts twice, and comes once."""
    source = Manifest(written(tmp_path, {"key": "a"}, {"key": "a"}, {"key": "b"}), samples=2, first=first)
    try:
        assert (await source.check()).rows == 4
        found = [draft.key async for page in source.drafts() for draft in page]
    finally:
        source.close()
    assert found == (["a.1", "a.2"] if first < 3 else ["a.1", "a.2", "b.1", "b.2"])
