"""A folder has one journal and a journal one folder, for their whole lives: whatever is moved, missing or damaged."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from kling_async.adapters.pointer import POINTER
from kling_async.adapters.sqlite import SqliteJournal
from kling_async.errors import ConfigurationError, JournalError, JournalLocked
from kling_async.journals import find_journal


async def opened(folder: Path, journal: Path) -> str | None:
    """Open a folder's journal and close it; return the folder that it has noted."""
    book = SqliteJournal(journal, folder=folder)
    await book.open()
    try:
        return await book.note("folder")
    finally:
        await book.aclose()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "j.db"


async def test_a_journal_that_is_not_there_for_once_is_waited_for(tmp_path: Path, place: Path) -> None:
    """The disk is not mounted: refused, with what to do, and nothing is made; it goes on when it is back."""
    await opened(tmp_path / "out", place)
    place.parent.rename(tmp_path / "unmounted")
    for given in (place, tmp_path / "out/.kling/journal.db", tmp_path / "new.db"):
        with pytest.raises(ConfigurationError, match=r"disk/j\.db, and is not there: mount the disk"):
            await opened(tmp_path / "out", given)
        assert not given.exists()
    assert not place.parent.exists()
    (tmp_path / "unmounted").rename(place.parent)
    await opened(tmp_path / "out", place)


async def test_a_journal_that_was_moved_is_known_by_the_folder_that_it_noted(tmp_path: Path, place: Path) -> None:
    """Given at its new place it is taken, and the folder points there; another journal in its place is not."""
    await opened(tmp_path / "out", place)
    await opened(tmp_path / "another", tmp_path / "another.db")
    await asyncio.to_thread(place.rename, tmp_path / "moved.db")
    with pytest.raises(ConfigurationError, match="is not there"):
        await opened(tmp_path / "out", tmp_path / "another.db")
    assert await opened(tmp_path / "out", tmp_path / "moved.db") == str(tmp_path / "out")
    assert await asyncio.to_thread(find_journal, tmp_path / "out") == tmp_path / "moved.db"


async def test_a_journal_is_no_other_folders(tmp_path: Path, place: Path) -> None:
    """Given for a second folder it is refused: the videos lie in the first. Nothing is made there."""
    await opened(tmp_path / "a", place)
    for given in (place, tmp_path / "link.db"):
        if given != place:
            given.symlink_to(place)
        with pytest.raises(ConfigurationError, match=r"--out .*a, or give .*b another --journal"):
            await opened(tmp_path / "b", given)
    assert not (tmp_path / "b").exists()
    own = tmp_path / "c" / ".kling" / "journal.db"
    await opened(tmp_path / "c", own)
    with pytest.raises(ConfigurationError, match=r"--out .*c, or give .*d another"):
        await opened(tmp_path / "d", own)
    await opened(tmp_path / "a", place)


async def test_a_folder_that_was_moved_keeps_its_journal(
    tmp_path: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One elsewhere is taken over, and that is told; its own goes along without a word, and so does a copy's."""
    await opened(tmp_path / "a", place)
    (tmp_path / "a").rename(tmp_path / "b")
    assert await opened(tmp_path / "b", place) == str(tmp_path / "b")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"the journal {place} was that of {tmp_path / 'a'}; from now on it is that of {tmp_path / 'b'}"
    ]
    (tmp_path / "a").mkdir()  # another folder by that name says nothing
    await opened(tmp_path / "b", place)
    caplog.clear()
    await opened(tmp_path / "own", tmp_path / "own/.kling/journal.db")
    shutil.copytree(tmp_path / "own", tmp_path / "copy")
    assert await opened(tmp_path / "copy", tmp_path / "copy/.kling/journal.db") == str(tmp_path / "copy")
    assert await opened(tmp_path / "own", tmp_path / "own/.kling/journal.db") == str(tmp_path / "own")
    assert not caplog.records


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe/disk/j.db\n", b"disk/j.db\n", b"/disk/\0j.db\n", b"/a\n/b\n"]
)
async def test_a_damaged_pointer_is_told_and_left(tmp_path: Path, place: Path, content: bytes) -> None:
    """Cut, empty, not UTF-8, relative, of two lines: no journal is begun and none is taken."""
    await opened(tmp_path / "out", place)
    pointer = tmp_path / "out" / POINTER
    pointer.write_bytes(content)
    for given in (place, tmp_path / "out/.kling/journal.db"):
        with pytest.raises(ConfigurationError, match="journal-at is damaged: it names no journal"):
            await opened(tmp_path / "out", given)
    with pytest.raises(ConfigurationError, match="journal-at is damaged"):
        await asyncio.to_thread(find_journal, tmp_path / "out")
    assert pointer.read_bytes() == content
    assert not (tmp_path / "out/.kling/journal.db").exists()


async def test_a_journal_has_one_lock_by_whatever_name(tmp_path: Path, place: Path) -> None:
    """A link to the file, or to its folder: who comes second is told that the folder is in use."""
    book = SqliteJournal(place, folder=tmp_path / "out")
    await book.open()
    try:
        (tmp_path / "link.db").symlink_to(place)
        (tmp_path / "linked").symlink_to(place.parent)
        for other in (tmp_path / "link.db", tmp_path / "linked/j.db"):
            with pytest.raises(JournalLocked, match="in use"):
                await SqliteJournal(other, folder=tmp_path / "out").open()
    finally:
        await book.aclose()


async def test_paths_of_any_letters_are_noted(tmp_path: Path) -> None:
    """Spaces at the end, wide spaces, letters of all lands; what no text can hold is refused."""
    place = tmp_path / "東京\u3000 disk " / "j ü\u00a0.db "
    await opened(tmp_path / "out", place)
    await opened(tmp_path / "out", place)
    assert await asyncio.to_thread(find_journal, tmp_path / "out") == place
    for name in ("two\nlines", "half \udc80"):
        with pytest.raises((ConfigurationError, JournalError)):
            await opened(tmp_path / "other", tmp_path / name / "j.db")
