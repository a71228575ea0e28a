"""Which journal a folder belongs to, and which folder a journal: its own, or one elsewhere that a pointer names.

A folder has one journal for its whole life, and a journal one folder. With another journal, or with none where there is
one, everything that the folder holds would be bought again; with another folder, its videos would be missed. Everything
here blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kling_async.adapters.disk import make_folder, write_whole
from kling_async.errors import ConfigurationError
from kling_async.logs import get_logger

logger = get_logger(__name__)

OWN: Final = Path(".kling", "journal.db")
"""Where a folder's own journal lies."""

POINTER: Final = Path(".kling", "journal-at")
"""What names a journal elsewhere."""

_AGAIN: Final = "all of its rows would be bought again"


def known_place(folder: Path) -> Path:
    """Return where a folder's journal lies as far as the folder itself knows; there may be none.

    Raises:
        ConfigurationError: The folder's pointer is damaged.
        OSError: The folder cannot be read.
    """
    pointer = folder / POINTER
    if not pointer.exists():
        return folder / OWN
    try:
        text = pointer.read_bytes().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        text = ""
    if not _is_line(text) or not Path(text).is_absolute():
        raise ConfigurationError(
            f"{pointer} is damaged: it names no journal. Write the path of the folder's journal into it; without that "
            f"journal, {_AGAIN}"
        )
    return Path(text)


def check_place(folder: Path, journal: Path) -> None:
    """Hold a journal's place against what the folder says, before anything is made.

    Raises:
        ConfigurationError: The folder belongs to another journal, or to one that is not there.
        OSError: The folder cannot be read.
    """
    own, place, known = folder / OWN, journal.resolve(), known_place(folder)
    elsewhere = known != own
    if elsewhere and not known.is_file() and (known.resolve() == place or not place.is_file()):
        raise ConfigurationError(_missing(folder, known))
    if elsewhere and known.is_file() and known.resolve() != place:
        raise ConfigurationError(
            f"the journal of {folder} is {known}: give --journal {known}. With another one, {_AGAIN}"
        )
    if place != own.resolve() and own.exists():
        raise ConfigurationError(
            f"{folder} has a journal of its own, {own}: leave --journal out. With another one, {_AGAIN}"
        )


def claim(folder: Path, journal: Path, noted: str | None) -> str:
    """Hold a folder against the one that a journal noted, and return what it shall note.

    A journal that lies in the folder goes with it wherever it is moved to. One elsewhere is taken over only from a
    folder that is no more, or has another journal by now. Where a folder's journal is not there and another is given,
    it must be the same, moved: one that noted this very folder.

    Raises:
        ConfigurationError: The journal belongs to another folder, or is not this one's, or a path cannot be noted.
        OSError: A folder cannot be read.
    """
    here, place, known = folder.resolve(), journal.resolve(), known_place(folder)
    if not _is_line(str(here)) or not _is_line(str(place)):
        raise ConfigurationError(f"the paths {here!s:.200} and {place!s:.200} cannot be noted: they are no plain text")
    if known != folder / OWN and known.resolve() != place and noted != str(here):
        raise ConfigurationError(_missing(folder, known))
    if noted in {None, str(here)} or place.is_relative_to(here):
        return str(here)
    before = Path(noted or "")
    if before.is_dir() and known_place(before).resolve() == place:
        raise ConfigurationError(
            f"the journal {journal} is that of {before}, where its videos lie: go on there with --out {before}, or "
            f"give {folder} another --journal"
        )
    logger.warning("the journal %s was that of %s; from now on it is that of %s", journal, before, folder)
    return str(here)


def point(folder: Path, journal: Path) -> None:
    """Let a folder name its journal where that lies elsewhere: durable, and whole or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    place = journal.resolve()
    if known_place(folder).resolve() == place:
        return
    make_folder((folder / POINTER).parent, mode=0o700)
    write_whole(folder / POINTER, [f"{place}\n".encode()])


def _missing(folder: Path, known: Path) -> str:
    return (
        f"the journal of {folder} is {known}, and is not there: mount the disk that it lies on, or bring it back; was "
        f"it moved, give its new place as --journal. Without it, {_AGAIN}; another --out begins anew"
    )


def _is_line(text: str) -> bool:
    """Tell whether a path can be written into a line of UTF-8."""
    return not any(letter in text for letter in "\0\r\n") and text == text.encode(errors="ignore").decode()
