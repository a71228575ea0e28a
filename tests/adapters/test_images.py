"""Local images: facts by a few bytes, digests, and base64 that is exact or not finished."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import stat
import struct
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from attrs import evolve

from kling_async.adapters.image_reader import PIECE, ImageReader
from kling_async.adapters.images import LocalImages
from kling_async.adapters.threads import WORKERS
from kling_async.errors import InvalidRequest, JournalError, NotSent
from kling_async.types.exchange import EncodedImage
from kling_async.types.image import ImageKind, ImageSource, ImageState

if TYPE_CHECKING:
    CancelEverywhere = Any

pytestmark = [pytest.mark.looptime]

URL = ImageSource.of("https://example.com/a.png?secret=1")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int = 640, height: int = 480) -> bytes:
    """Return a whole, grey PNG."""
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_head(preview: int) -> bytes:
    """Return the beginning of a JPEG whose size stands behind so many segments of 64 KB."""
    segment = b"\xff\xe2" + struct.pack(">H", 0xFFFF) + bytes(0xFFFD)
    return b"\xff\xd8" + segment * preview + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 480, 640) + bytes(10)


PNG = png()


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return tmp_path / ".kling" / "inputs"


@pytest.fixture
async def images(inputs: Path) -> AsyncIterator[LocalImages]:
    door = LocalImages(inputs)
    yield door
    await door.aclose()


def write(path: Path, content: bytes, *, size: int | None = None) -> ImageSource:
    """Write a file, sparse up to a size, and return it as a source."""
    path.write_bytes(content)
    if size is not None:
        os.truncate(path, size)
    return ImageSource.of(path.name, base=str(path.parent))


async def sent(images: LocalImages, source: ImageSource) -> bytes:
    return b"".join([piece async for piece in images.encoded(source, await images.state(source))])


async def drain(pieces: AsyncIterator[bytes], got: list[bytes]) -> None:
    async for piece in pieces:
        got += [piece]


async def refusal(images: LocalImages, source: ImageSource) -> str:
    """Return what is said of an image that has no facts."""
    with pytest.raises(InvalidRequest) as caught:
        await images.facts(source)
    (issue,) = caught.value.issues
    assert issue.field == ""
    return issue.message


@pytest.mark.parametrize("kind", ["path", "bytes", "stored"])
async def test_facts_are_read_from_every_place(images: LocalImages, tmp_path: Path, kind: str) -> None:
    """A file, bytes, and bytes that were kept say the same."""
    source = {
        "path": write(tmp_path / "a.png", PNG),
        "bytes": ImageSource.of(PNG),
        "stored": await images.keep(ImageSource.of(PNG)),
    }[kind]

    facts = await images.facts(source)

    assert (facts.format, facts.width, facts.height) == ("png", 640, 480)
    assert (await images.state(source)).size == len(PNG)
    assert await images.digest(source) == hashlib.sha256(PNG).hexdigest()
    assert await images.mime(source) == "image/png"
    assert base64.b64decode(await sent(images, source)) == PNG


async def test_facts_need_the_first_bytes_alone(images: LocalImages, tmp_path: Path) -> None:
    """A file of 64 GiB is not read."""
    source = write(tmp_path / "a.png", PNG, size=64 * 1024**3)

    assert (await images.facts(source)).width == 640
    assert (await images.state(source)).size == 64 * 1024**3


@pytest.mark.parametrize("preview", [0, 1, 7, 40])
async def test_facts_may_stand_far_behind(images: LocalImages, tmp_path: Path, preview: int) -> None:
    """Photographs carry previews and profiles before their size."""
    head = jpeg_head(preview)

    assert (await images.facts(write(tmp_path / "a.jpg", head + bytes(100)))).height == 480
    assert (await images.facts(ImageSource.of(head))).height == 480


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty or cut off"),
        (PNG[:20], "empty or cut off"),
        (jpeg_head(3)[:100_000], "empty or cut off"),
        (b"<!DOCTYPE html><html><head><title>not found", "begins like no image"),
        (png(0, 5), "0 x 5"),
        (jpeg_head(300), "header of more than"),
    ],
)
async def test_what_is_no_image_is_told(images: LocalImages, tmp_path: Path, content: bytes, words: str) -> None:
    """With the file's name."""
    message = await refusal(images, write(tmp_path / "a.png", content))

    assert words in message
    assert "a.png" in message


async def test_what_is_no_file_is_told(images: LocalImages, tmp_path: Path) -> None:
    """Missing, a folder, a pipe (which never answers), a name that no system has, and a URL."""
    os.mkfifo(tmp_path / "pipe")
    said = [
        await refusal(images, source)
        for source in (
            ImageSource.of("missing.png", base=str(tmp_path)),
            ImageSource.of(tmp_path),
            ImageSource.of("pipe", base=str(tmp_path)),
            ImageSource.of(Path("nul\0byte")),
            ImageSource.of(f"{'long' * 100}.png"),
            ImageSource(ImageKind.STORED, "0" * 64),
            URL,
        )
    ]

    assert "there is no file" in said[0]
    assert "missing.png" in said[0]
    assert "is a folder" in said[1]
    assert "not a regular file" in said[2]
    assert all("cannot be read" in words for words in said[3:5])
    assert "there is no file" in said[5]
    assert "is not a file" in said[6]
    assert "secret" not in said[6]


async def test_a_relative_path_starts_at_its_base(images: LocalImages, tmp_path: Path) -> None:
    """Not at the folder of the process."""
    write(tmp_path / "a.png", PNG)

    assert (await images.state(ImageSource.of("./a.png", base=str(tmp_path)))).size == len(PNG)
    assert (await images.state(ImageSource.of(str(tmp_path / "a.png"), base="/nowhere"))).size == len(PNG)


async def test_a_url_has_the_digest_of_its_text(images: LocalImages) -> None:
    """Its bytes are the service's affair."""
    assert await images.digest(URL) == hashlib.sha256(URL.text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "told", "mime"),
    [
        (PNG, "image/webp", "image/png"),
        (b"no known image", "image/jxl", "image/jxl"),
        (b"no known image", "", "application/octet-stream"),
    ],
)
async def test_the_first_bytes_say_the_type(images: LocalImages, content: bytes, told: str, mime: str) -> None:
    """What a data URI said is taken where they say nothing."""
    assert await images.mime(ImageSource(ImageKind.BYTES, content=content, mime=told)) == mime


async def test_a_changed_file_is_read_anew(images: LocalImages, tmp_path: Path) -> None:
    """Another time is enough; the size may be the same."""
    source = write(tmp_path / "a.png", png(300, 400))
    before = await images.digest(source), (await images.facts(source)).width
    write(tmp_path / "a.png", png(400, 300)[: len(png(300, 400))])
    os.utime(tmp_path / "a.png", ns=(1, 1))
    after = await images.digest(source), (await images.facts(source)).width

    assert before[0] != after[0]
    assert (before[1], after[1]) == (300, 400)


async def test_an_unchanged_file_is_read_once(images: LocalImages, tmp_path: Path) -> None:
    """Many rows may share one image."""
    source = write(tmp_path / "a.png", b"one content")
    digests = {await images.digest(source) for _ in range(3)}

    assert digests == {hashlib.sha256(b"one content").hexdigest()}
    assert images._file_digest.cache_info().misses == 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5])
async def test_base64_is_exact(images: LocalImages, tmp_path: Path, size: int) -> None:
    """For every length, of files and of bytes, with padding at the very end alone."""
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    expected = base64.b64encode(content)

    for source in (write(tmp_path / "a.png", content), ImageSource.of(content)):
        assert await sent(images, source) == expected
        assert len(expected) == EncodedImage(source, await images.state(source)).encoded_size


async def test_an_image_never_stands_whole_in_memory(images: LocalImages, tmp_path: Path) -> None:
    """100 MB go through less than 4."""
    size = 100 * 1024 * 1024
    source = write(tmp_path / "a.png", PNG, size=size)
    state = await images.state(source)
    tracemalloc.start()
    try:
        count = 0
        async for piece in images.encoded(source, state):
            count += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == (size + 2) // 3 * 4
    assert peak < 4 * 1024 * 1024


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _rewrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(1, 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "grown": _grow,
    "cut": lambda path: os.truncate(path, PIECE + 7),
    "emptied": lambda path: os.truncate(path, 0),
    "rewritten": _rewrite,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changes_is_not_sent_to_its_end(images: LocalImages, tmp_path: Path, change: str) -> None:
    """The last piece is not given, so that the service never has the whole body; a retry may follow."""
    size = 2 * PIECE + 100
    source = write(tmp_path / "a.png", bytes(range(256)) * (size // 256 + 1), size=size)
    state = await images.state(source)
    pieces = images.encoded(source, state)
    got = [await anext(pieces)]
    CHANGES[change](tmp_path / "a.png")

    with pytest.raises(NotSent, match=r"a\.png changed while it was sent"):
        await drain(pieces, got)

    assert len(b"".join(got)) < EncodedImage(source, state).encoded_size


def _rename_over(path: Path) -> None:
    """Put another picture of the same size, and the same time, in the place of one."""
    times = path.stat()
    other = path.with_name("other.png")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def _set_back(path: Path) -> None:
    """Write another picture of the same size into a file, and set its time back."""
    times = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _made_anew(path: Path) -> None:
    """Remove a picture, and make another one of the same size and time; its file may get the same number."""
    times, content = path.stat(), path.read_bytes()
    path.unlink()
    path.write_bytes(content[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


SWAPS: dict[str, Callable[[Path], object]] = {
    **CHANGES,
    "replaced": _rename_over,
    "set back": _set_back,
    "made anew": _made_anew,
}


@pytest.mark.parametrize("size", [1, 100, PIECE, 2 * PIECE + 100])
@pytest.mark.parametrize("swap", SWAPS)
async def test_a_file_that_changed_since_it_was_looked_at_is_not_begun(
    images: LocalImages, tmp_path: Path, swap: str, size: int
) -> None:
    """Not one byte is given of a picture that is not the one whose digest was taken, were it of equal size and time."""
    source = write(tmp_path / "a.png", bytes(range(256)) * (size // 256 + 1), size=size)
    state, digest = await images.state(source), await images.digest(source)
    SWAPS[swap](tmp_path / "a.png")
    got: list[bytes] = []

    with pytest.raises(NotSent, match=r"a\.png changed before it was sent"):
        await drain(images.encoded(source, state), got)

    assert got == []
    assert await images.state(source) != state
    assert size == 1 or await images.digest(source) != digest
    await sent(images, source)


@pytest.mark.parametrize("size", [0, 1, len(PNG) - 1, len(PNG) + 1])
async def test_another_size_than_told_is_not_sent(images: LocalImages, tmp_path: Path, size: int) -> None:
    """`Content-Length` was computed from it."""
    for source in (write(tmp_path / "a.png", PNG), ImageSource.of(PNG)):
        told = evolve(await images.state(source), size=size)
        with pytest.raises(NotSent):
            await drain(images.encoded(source, told), [])


async def test_what_cannot_be_read_is_not_sent(images: LocalImages, tmp_path: Path) -> None:
    """A file that vanished since it was looked at, or became a folder."""
    with pytest.raises(NotSent, match=r"missing\.png cannot be read"):
        await drain(images.encoded(ImageSource.of(tmp_path / "missing.png"), ImageState(5)), [])
    with pytest.raises(NotSent, match="cannot be read"):
        await drain(images.encoded(ImageSource.of(tmp_path), ImageState(5)), [])


async def test_a_file_replaced_while_it_is_sent_is_sent_as_it_was(images: LocalImages, tmp_path: Path) -> None:
    """Its digest was taken of the old content, and that is what arrives."""
    content = os.urandom(2 * PIECE)
    source = write(tmp_path / "a.png", content)
    pieces = images.encoded(source, await images.state(source))
    got = await anext(pieces)
    write(tmp_path / "b.png", os.urandom(2 * PIECE))
    shutil.move(tmp_path / "b.png", tmp_path / "a.png")
    async for piece in pieces:
        got += piece

    assert base64.b64decode(got) == content


async def test_cancelling_leaves_no_file_open(
    images: LocalImages, tmp_path: Path, cancel_everywhere: CancelEverywhere, open_handles: Callable[[], int]
) -> None:
    """At whatever await, once or twice."""
    source = write(tmp_path / "a.png", PNG, size=3 * PIECE)
    state = await images.state(source)
    doors = []

    async def scenario() -> None:
        doors.append(LocalImages())
        pieces = doors[-1].encoded(source, state)
        assert isinstance(pieces, AsyncGenerator)
        async with aclosing(pieces):
            async for _ in pieces:
                await asyncio.sleep(0)

    async def check() -> None:
        doors.pop()._threads._executor.shutdown(wait=True)
        assert open_handles() == before

    before = open_handles()
    assert await cancel_everywhere(scenario, check) >= 6


async def test_a_body_that_is_broken_off_closes_its_file(
    images: LocalImages, tmp_path: Path, open_handles: Callable[[], int]
) -> None:
    """The transport stops reading where the connection breaks."""
    source = write(tmp_path / "a.png", PNG, size=3 * PIECE)
    before, state = open_handles(), await images.state(source)
    pieces = images.encoded(source, state)
    await anext(pieces)
    opened = open_handles()
    assert isinstance(pieces, AsyncGenerator)
    await pieces.aclose()

    assert opened == before + 1
    assert open_handles() == before


def test_a_reader_that_was_closed_opens_nothing() -> None:
    """Its caller may be gone before the first piece was read."""
    reader = ImageReader("a.png", lambda: pytest.fail("opened"), ImageState(5))
    reader.close()

    assert reader.next_piece() == b""


async def test_a_few_images_are_encoded_at_once(images: LocalImages) -> None:
    """However many are asked for: two to four threads, which have the door's name."""
    source = ImageSource.of(bytes(PIECE))
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(sent, images, source)

    names = {thread.name for thread in images._threads._executor._threads}
    assert names == {f"kling-encode_{number}" for number in range(WORKERS)}
    assert 2 <= WORKERS <= 4


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def list_folder(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_kept_bytes_are_stored_under_their_digest(images: LocalImages, inputs: Path) -> None:
    """For this user alone; the type that a data URI told goes with the source."""
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    kept = await images.keep(ImageSource.of(data))

    digest = hashlib.sha256(PNG).hexdigest()
    assert kept == ImageSource(ImageKind.STORED, digest, mime="image/png")
    assert (inputs / digest).read_bytes() == PNG
    assert (mode(inputs), mode(inputs / digest)) == (0o700, 0o600)


async def test_bytes_are_kept_once(images: LocalImages, inputs: Path) -> None:
    """A thousand rows may have the same image; one that a crash left short is written anew."""
    await images.keep(ImageSource.of(PNG))
    (path,) = list_folder(inputs)
    before = path.stat().st_ino
    await images.keep(ImageSource.of(PNG))
    again = path.stat().st_ino
    os.truncate(path, 10)
    await images.keep(ImageSource.of(PNG))

    assert before == again
    assert path.read_bytes() == PNG


async def test_equal_bytes_may_be_kept_at_once(images: LocalImages, inputs: Path) -> None:
    """One file stands there afterwards, and nothing beside it."""
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(images.keep, ImageSource.of(PNG))

    (path,) = list_folder(inputs)
    assert path.read_bytes() == PNG


async def test_only_bytes_are_kept(images: LocalImages, tmp_path: Path) -> None:
    """A URL, a path, and what is kept already come back as they are."""
    kept = await images.keep(ImageSource.of(PNG))

    for source in (URL, ImageSource.of("a.png", base=str(tmp_path)), kept):
        assert await images.keep(source) is source


async def test_without_a_folder_nothing_is_kept() -> None:
    """A client without a journal sends bytes from memory."""
    images, source = LocalImages(), ImageSource.of(PNG)

    assert await images.keep(source) is source
    await images.aclose()


async def test_bytes_that_cannot_be_kept_are_the_journals_trouble(tmp_path: Path) -> None:
    """What it cannot keep, it must not plan."""
    (tmp_path / "inputs").write_bytes(b"")
    images = LocalImages(tmp_path / "inputs")

    with pytest.raises(JournalError, match="cannot be kept"):
        await images.keep(ImageSource.of(PNG))
    await images.aclose()


async def test_another_journals_images_are_found_where_the_source_says(images: LocalImages, tmp_path: Path) -> None:
    """A list of failures may be given to a run in another folder."""
    other = LocalImages(tmp_path / "other" / "inputs")
    kept = await other.keep(ImageSource.of(PNG))
    source = ImageSource(ImageKind.STORED, kept.text, str(tmp_path / "other" / "inputs"))

    assert (await images.state(source)).size == len(PNG)
    assert base64.b64decode(await sent(images, source)) == PNG
    await other.aclose()
