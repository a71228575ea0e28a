"""Videos on the disk: whole files or none, whatever happens on the way."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from kling_async.adapters.disk import is_temporary, temporary_name
from kling_async.adapters.files import LocalStagedVideo, LocalVideoStore
from kling_async.adapters.threads import Threads
from kling_async.errors import DiskFull, DownloadError
from kling_async.ports import StagedVideo, VideoStore
from kling_async.simulator.clips import free_box

if TYPE_CHECKING:
    CancelEverywhere = Any

pytestmark = [pytest.mark.looptime]

PIECES = [b"first ", b"", b"second ", b"third"]
WHOLE = b"first second third"
OLD = b"what stood there before"
CLIP = (resources.files("kling_async.simulator") / "templates/5s.mp4").read_bytes() + free_box(3_000_000)


async def put(store: VideoStore, name: str, *pieces: bytes) -> Path:
    async with store.stage(name) as staged:
        await staged.write(pieces)
        return await staged.commit()


async def break_off(store: VideoStore) -> None:
    async with store.stage("a.mp4") as staged:
        await staged.write(PIECES)
        raise ZeroDivisionError


async def holds(store: VideoStore, name: str, content: bytes) -> bool:
    return await store.holds(name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


class VideoStoreContract:
    """What every `VideoStore` promises. An implementation's tests take it as base and give the fixture `store`."""

    async def test_what_is_committed_stands_under_its_name(self, store: VideoStore) -> None:
        """The pieces of all writes are there, in order."""
        async with store.stage("a.mp4") as staged:
            await staged.write(PIECES[:2])
            await staged.write([])
            await staged.write(PIECES[2:])
            await staged.commit()

        assert await holds(store, "a.mp4", WHOLE)

    async def test_commit_tells_where(self, store: VideoStore) -> None:
        """It is the place that the store names for it."""
        assert await put(store, "a.mp4", WHOLE) == store.path("a.mp4")

    async def test_nothing_stands_there_before_the_commit(self, store: VideoStore) -> None:
        """Bytes that were written are not under the final name."""
        async with store.stage("a.mp4") as staged:
            await staged.write(PIECES)
            found = await holds(store, "a.mp4", WHOLE)

        assert not found

    async def test_leaving_without_commit_leaves_nothing(self, store: VideoStore) -> None:
        """What was written is gone."""
        async with store.stage("a.mp4") as staged:
            await staged.write(PIECES)

        assert not await holds(store, "a.mp4", WHOLE)
        assert await store.clean() == 0

    async def test_an_error_keeps_what_stood_there(self, store: VideoStore) -> None:
        """The old file is whole after a download that failed."""
        await put(store, "a.mp4", OLD)

        with pytest.raises(ZeroDivisionError):
            await break_off(store)

        assert await holds(store, "a.mp4", OLD)

    async def test_commit_replaces_what_stood_there(self, store: VideoStore) -> None:
        """The new file stands in the old one's place."""
        await put(store, "a.mp4", OLD)
        await put(store, "a.mp4", WHOLE)

        assert await holds(store, "a.mp4", WHOLE)

    async def test_restart_throws_away(self, store: VideoStore) -> None:
        """Only what came after it is committed, also where that is shorter."""
        async with store.stage("a.mp4") as staged:
            await staged.write([OLD])
            await staged.restart()
            await staged.write(PIECES)
            await staged.commit()

        assert await holds(store, "a.mp4", WHOLE)

    async def test_size_counts_what_is_written(self, store: VideoStore) -> None:
        """It grows with each write, and begins again with a restart."""
        sizes = []
        async with store.stage("a.mp4") as staged:
            sizes.append(staged.size)
            await staged.write(PIECES)
            sizes.append(staged.size)
            await staged.restart()
            sizes.append(staged.size)

        assert sizes == [0, len(WHOLE), 0]

    async def test_the_digest_is_that_of_what_is_written(self, store: VideoStore) -> None:
        """It grows with each write, and begins again with a restart."""
        digests = []
        async with store.stage("a.mp4") as staged:
            digests.append(staged.sha256())
            await staged.write(PIECES[:2])
            await staged.write(PIECES[2:])
            digests.append(staged.sha256())
            await staged.restart()
            digests.append(staged.sha256())
            await staged.write([OLD])
            digests.append(staged.sha256())

        assert digests == [hashlib.sha256(content).hexdigest() for content in (b"", WHOLE, b"", OLD)]

    async def test_an_empty_video_can_be_committed(self, store: VideoStore) -> None:
        """A store does not judge what it keeps."""
        await put(store, "a.mp4")

        assert await holds(store, "a.mp4", b"")

    @pytest.mark.parametrize(("size", "content"), [(0, WHOLE), (len(WHOLE), WHOLE.upper()), (len(WHOLE) + 1, WHOLE)])
    async def test_another_size_or_digest_is_another_file(self, store: VideoStore, size: int, content: bytes) -> None:
        """Both must be right."""
        await put(store, "a.mp4", WHOLE)

        assert not await store.holds("a.mp4", size=size, sha256=hashlib.sha256(content).hexdigest())

    async def test_no_file_is_no_match(self, store: VideoStore) -> None:
        """A name that nothing stands under is answered, not an error."""
        assert not await holds(store, "a.mp4", b"")

    async def test_a_file_is_read_from_its_beginning_to_its_end(self, store: VideoStore) -> None:
        """Size and digest, and what is no MP4 is told as such; where there is no file, there are no facts."""
        await put(store, "a.mp4", WHOLE)
        facts = await store.examine("a.mp4")

        assert facts is not None
        assert (facts.size, facts.sha256) == (len(WHOLE), hashlib.sha256(WHOLE).hexdigest())
        assert "is not an MP4" in (facts.fault or "")
        assert await store.examine("b.mp4") is None

    async def test_a_whole_video_has_no_fault(self, store: VideoStore) -> None:
        """A real one, of more than one block."""
        await put(store, "a.mp4", CLIP)
        facts = await store.examine("a.mp4")

        assert facts is not None
        assert (facts.size, facts.fault) == (len(CLIP), None)

    async def test_all_names_are_told_but_those_under_way(self, store: VideoStore) -> None:
        """More than come at once, each one time; none where there is nothing."""
        nothing = [name async for names in store.names() for name in names]
        for number in range(3):
            await put(store, f"{number}.mp4", WHOLE)
        async with store.stage("a.mp4"):
            found = [name async for names in store.names() for name in names]

        assert nothing == []
        assert sorted(found) == ["0.mp4", "1.mp4", "2.mp4"]

    async def test_two_videos_of_one_name_do_not_mix(self, store: VideoStore) -> None:
        """Each is whole; the last commit stands."""
        async with store.stage("a.mp4") as one, store.stage("a.mp4") as other:
            await one.write([b"one "])
            await other.write([b"other "])
            await one.write([b"one"])
            await one.commit()
            first = await holds(store, "a.mp4", b"one one")
            await other.write([b"other"])
            await other.commit()

        assert first
        assert await holds(store, "a.mp4", b"other other")

    async def test_names_may_have_folders(self, store: VideoStore) -> None:
        """A slash in a name leads into a folder."""
        await put(store, "ab/cd/a.mp4", WHOLE)

        assert await holds(store, "ab/cd/a.mp4", WHOLE)

    async def test_clean_spares_what_is_under_way(self, store: VideoStore) -> None:
        """A video that is being written, and one that is finished, are no leftovers."""
        await put(store, "b.mp4", WHOLE)
        async with store.stage("a.mp4") as staged:
            await staged.write(PIECES)
            removed = await store.clean()
            await staged.commit()

        assert removed == 0
        assert await holds(store, "a.mp4", WHOLE)
        assert await holds(store, "b.mp4", WHOLE)

    async def test_cancelling_leaves_a_whole_file(self, store: VideoStore, cancel_everywhere: CancelEverywhere) -> None:
        """Wherever a download is cancelled, the name holds the old video or the new one."""

        async def scenario() -> None:
            async with store.stage("a.mp4") as staged:
                await staged.write(PIECES[:2])
                await staged.write(PIECES[2:])
                await staged.commit()

        async def check() -> None:
            assert await holds(store, "a.mp4", OLD) or await holds(store, "a.mp4", WHOLE)
            await put(store, "a.mp4", OLD)

        await put(store, "a.mp4", OLD)
        assert await cancel_everywhere(scenario, check) >= 4

    async def test_a_cancelled_write_tells_how_far_it_came(self, store: VideoStore) -> None:
        """A caller that goes on from `size` gets a whole file, whether the write was done or not."""
        async with store.stage("a.mp4") as staged:
            for turns in range(5):
                await staged.restart()
                write = asyncio.ensure_future(staged.write([WHOLE]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                write.cancel()
                await asyncio.wait({write})
                await staged.write([WHOLE[staged.size :]])
                assert staged.size == len(WHOLE)
                assert staged.sha256() == hashlib.sha256(WHOLE).hexdigest()
            await staged.commit()

        assert await holds(store, "a.mp4", WHOLE)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "out" / "videos"


@pytest.fixture
async def local(videos: Path) -> AsyncIterator[LocalVideoStore]:
    store = LocalVideoStore(videos)
    yield store
    await store.aclose()


class TestLocalVideoStore(VideoStoreContract):
    """The disk keeps the contract."""

    @pytest.fixture
    def store(self, local: LocalVideoStore) -> VideoStore:
        """Return the store under test."""
        return local


def files(folder: Path) -> list[str]:
    """Return every file below a folder, and every empty folder with a slash behind it."""
    found = [path for path in folder.rglob("*") if not path.is_dir() or not any(path.iterdir())]
    return sorted(path.relative_to(folder).as_posix() + "/" * path.is_dir() for path in found)


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def settle(store: LocalVideoStore) -> None:
    """Wait for the threads that a caller who was cancelled twice left behind."""
    store._threads._executor.shutdown(wait=True)


async def test_the_folder_is_made_by_the_first_video(local: LocalVideoStore, videos: Path) -> None:
    """Asking makes nothing."""
    await local.clean()
    await holds(local, "a.mp4", WHOLE)
    before = files(videos.parent)
    async with local.stage("a.mp4"):
        pass

    assert not before
    assert files(videos.parent) == ["videos/"]


async def test_the_temporary_name_lies_hidden_beside_the_final_one(local: LocalVideoStore, videos: Path) -> None:
    """It is in the same folder, so that the rename is one step, and globs for videos pass it over."""
    async with local.stage("ab/a.mp4"):
        (name,) = files(videos)

    assert name.startswith(f"ab/.a.mp4.{os.getpid()}.")
    assert name.endswith(".part")


async def test_long_names_have_short_temporary_ones(local: LocalVideoStore, videos: Path) -> None:
    """A final name may have all of the 255 bytes that a file system gives."""
    name = "日" * 83 + "ab.mp4"
    assert len(name.encode()) == 255

    await put(local, name, WHOLE)

    assert files(videos) == [name]


async def test_no_temporary_file_stays(local: LocalVideoStore, videos: Path) -> None:
    """The block is left without a commit, or by an error."""
    async with local.stage("a.mp4") as staged:
        await staged.write(PIECES)
    with pytest.raises(ZeroDivisionError):
        await break_off(local)

    assert files(videos) == []


async def test_no_temporary_file_stays_after_cancelling(
    local: LocalVideoStore, videos: Path, cancel_everywhere: CancelEverywhere, open_handles: Callable[[], int]
) -> None:
    """At whatever await, once or twice, and no file stays open."""

    async def scenario() -> None:
        store = LocalVideoStore(videos)
        stores.append(store)
        async with store.stage("a.mp4") as staged:
            await staged.write(PIECES)
            await staged.restart()
            await staged.write(PIECES)
            await staged.commit()

    async def check() -> None:
        settle(stores.pop())
        assert files(videos) in ([], ["a.mp4"])
        assert open_handles() == before
        (videos / "a.mp4").unlink(missing_ok=True)

    stores: list[LocalVideoStore] = []
    before = open_handles()
    assert await cancel_everywhere(scenario, check) >= 5


async def test_a_write_may_have_any_number_of_pieces(local: LocalVideoStore, videos: Path) -> None:
    """More than one system call takes."""
    pieces = [b"%d " % number for number in range(5000)]
    await put(local, "a.mp4", *pieces)

    assert (videos / "a.mp4").read_bytes() == b"".join(pieces)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse what goes beyond a size, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_failed_half_way_can_be_made_again(local: LocalVideoStore, videos: Path) -> None:
    """What it left on the disk is not counted, and is written over."""
    pieces = [bytes([number]) * 700_000 for number in range(5)]
    async with local.stage("a.mp4") as staged:
        await staged.write(pieces[:1])
        with largest_file(2_000_000), pytest.raises(DownloadError, match="cannot be written"):
            await staged.write(pieces[1:])
        size, digest = staged.size, staged.sha256()
        await staged.write(pieces[1:])
        whole = staged.sha256()
        await staged.commit()

    assert (size, digest) == (700_000, hashlib.sha256(pieces[0]).hexdigest())
    assert whole == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert (videos / "a.mp4").read_bytes() == b"".join(pieces)


async def test_what_a_failed_write_left_is_not_committed(local: LocalVideoStore, videos: Path) -> None:
    """The file has the size that was told."""
    async with local.stage("a.mp4") as staged:
        await staged.write([WHOLE])
        with largest_file(1_000_000), pytest.raises(DownloadError):
            await staged.write([bytes(1_500_000)])
        await staged.commit()

    assert (videos / "a.mp4").read_bytes() == WHOLE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
async def test_a_full_disk_is_told_as_such(local: LocalVideoStore) -> None:
    """With the file's name, and what to do: nothing is bought again."""
    async with local.stage("a.mp4") as staged:
        fill_up(staged)
        with pytest.raises(DiskFull, match=r"no room for .*a\.mp4 .*: make room"):
            await staged.write([WHOLE])


async def test_a_copy_that_failed_leaves_nothing(
    local: LocalVideoStore, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file can have no second name and there is no room for a copy, what was copied gives its room back."""
    await put(local, "a.mp4", bytes(1_500_000))
    monkeypatch.setattr(os, "link", refuse)
    with largest_file(1_000_000), pytest.raises(DownloadError, match=r"b\.mp4 cannot be written"):
        await local.link("a.mp4", "b.mp4")
    monkeypatch.undo()
    (videos / "c.mp4").mkdir()
    with pytest.raises(DownloadError, match=r"c\.mp4 cannot be written"):
        await local.link("a.mp4", "c.mp4")

    assert files(videos) == ["a.mp4", "c.mp4/"]


def refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, "this file system has no links")


def fill_up(staged: StagedVideo) -> None:
    """Put the disk that is always full behind an open file."""
    assert isinstance(staged, LocalStagedVideo)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, staged._part._opened().handle)
    os.close(full)


async def test_a_folder_that_cannot_be_made_is_a_download_error(tmp_path: Path) -> None:
    """A file stands in its place; it is told before a byte is fetched."""
    (tmp_path / "out").write_bytes(b"")
    store = LocalVideoStore(tmp_path / "out" / "videos")

    with pytest.raises(DownloadError, match=r"a\.mp4 cannot be written"):
        async with store.stage("a.mp4"):
            pass


async def test_a_folder_under_the_final_name_is_a_download_error(local: LocalVideoStore, videos: Path) -> None:
    """It is not replaced, and nothing is left beside it."""
    (videos / "a.mp4").mkdir(parents=True)

    with pytest.raises(DownloadError):
        await put(local, "a.mp4", WHOLE)

    assert files(videos) == ["a.mp4/"]


async def test_a_temporary_file_that_vanished_is_a_download_error(local: LocalVideoStore, videos: Path) -> None:
    """Nothing stands under the final name then."""
    async with local.stage("a.mp4") as staged:
        await staged.write(PIECES)
        clear(videos)
        with pytest.raises(DownloadError):
            await staged.commit()

    assert files(videos) == []


async def test_a_video_can_be_staged_again_after_its_folder_vanished(local: LocalVideoStore, videos: Path) -> None:
    """The folder is made anew."""
    await put(local, "a.mp4", OLD)
    shutil.rmtree(videos)
    await put(local, "a.mp4", WHOLE)

    assert files(videos) == ["a.mp4"]


async def test_a_staging_ends_with_its_block(local: LocalVideoStore) -> None:
    """Writing to it later is a fault of the program, and is told."""
    async with local.stage("a.mp4") as staged:
        await staged.write(PIECES)

    with pytest.raises(RuntimeError, match="over"):
        await staged.write(PIECES)


async def test_clean_removes_leftovers_alone(local: LocalVideoStore, videos: Path) -> None:
    """Of this process id too, which in a container is often the same; what others named stays."""
    mine = ["a.mp4", ".hidden", ".a.mp4.part", "a.mp4.1.0123456789abcdef.part", ".b.mp4.1.0123456789ABCDEF.part"]
    left = [temporary_name("a.mp4"), ".b.mp4.1.0123456789abcdef.part", f"ab/{temporary_name('日本' * 60)}"]
    (videos / "ab").mkdir(parents=True)
    for name in mine + left:
        (videos / name).write_bytes(b"x")

    assert await local.clean() == len(left)
    assert files(videos) == sorted([*mine, "ab/"])


async def test_names_come_some_at_a_time_from_all_folders(
    local: LocalVideoStore, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, below its folder; what an earlier process left under a temporary name is no file of anybody's."""
    monkeypatch.setattr("kling_async.adapters.files._PAGE", 2)
    for name in ("a.mp4", "b.mp4", "c.txt", "sub/d.mp4", f"sub/{temporary_name('e.mp4')}"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).write_bytes(WHOLE)
    pages = [page async for page in local.names()]

    assert [len(page) for page in pages] == [2, 2]
    assert sorted(name for page in pages for name in page) == ["a.mp4", "b.mp4", "c.txt", "sub/d.mp4"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
async def test_what_cannot_be_read_is_an_error_and_not_missing(local: LocalVideoStore, videos: Path, kind: str) -> None:
    """No regular file stands there; a pipe does not make anybody wait."""
    await put(local, "b.mp4", WHOLE)
    place = videos / "a.mp4"
    make: dict[str, Callable[[], None]] = {
        "folder": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
        "loop": lambda: place.symlink_to(place),
    }
    make[kind]()

    with pytest.raises(DownloadError, match="cannot be read"):
        await local.examine("a.mp4")


def test_temporary_names_are_unique() -> None:
    """Also for one video twice in one process."""
    names = {temporary_name("a.mp4") for _ in range(1000)}

    assert len(names) == 1000
    assert all(is_temporary(name) and len(name.encode()) <= 255 for name in names)


def make(kind: str, path: Path) -> None:
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
async def test_only_a_file_can_be_the_one(local: LocalVideoStore, videos: Path, kind: str) -> None:
    """A folder, a pipe (which never answers) or a link to nothing is none."""
    make(kind, videos / "a.mp4")

    assert not await holds(local, "a.mp4", b"")


@pytest.mark.parametrize("name", ["", ".", "/a.mp4", "../a.mp4", "a/../../b.mp4"])
def test_no_name_leads_out_of_the_folder(local: LocalVideoStore, name: str) -> None:
    """A name that would is refused."""
    with pytest.raises(ValueError, match="is no name below"):
        local.path(name)


async def test_videos_have_the_usual_permissions(local: LocalVideoStore) -> None:
    """They are for others to read as far as the user's umask lets them."""
    mask = os.umask(0o022)
    try:
        path = await put(local, "a.mp4", WHOLE)
    finally:
        os.umask(mask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def test_many_videos_at_once(local: LocalVideoStore, videos: Path) -> None:
    """More than there are threads."""
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(put, local, f"{number}.mp4", b"%d" % number)

    assert {name: (videos / name).read_bytes() for name in files(videos)} == {
        f"{number}.mp4": b"%d" % number for number in range(40)
    }


@pytest.mark.parametrize("cancels", [1, 2])
async def test_work_is_done_to_its_end_for_a_caller_that_is_cancelled(cancels: int) -> None:
    """Cancelled once, the caller waits for it; twice, it leaves, and the work is done all the same."""
    threads, go, ended = Threads("kling-test", 1), Event(), []

    def work() -> None:
        go.wait()
        ended.append(True)

    task = asyncio.ensure_future(threads.finish(work))
    for _ in range(cancels):
        await asyncio.sleep(0)
        task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    left = task.done()
    go.set()
    await asyncio.wait({task})
    threads._executor.shutdown(wait=True)

    assert left == (cancels == 2)
    assert task.cancelled()
    assert ended == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed by Linux alone")
async def test_the_work_is_done_on_threads_of_the_store(local: LocalVideoStore) -> None:
    """Never on the loop's own: those are for the resolver."""
    await put(local, "a.mp4", WHOLE)

    assert {thread.name.partition("_")[0] for thread in local._threads._executor._threads} == {"kling-files"}
