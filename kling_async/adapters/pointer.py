"""Which journal a folder belongs to: its own, or one elsewhere that a pointer in the folder names.

A folder has one journal for its whole life. With another, or with none where there is one, everything that it holds
would be bought again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kling_async.errors import ConfigurationError

OWN: Final = Path(".kling", "journal.db")
"""Where a folder's own journal lies."""

POINTER: Final = Path(".kling", "journal-at")
"""What names a journal elsewhere."""


def known_place(folder: Path) -> Path:
    """Return where a folder's journal lies as far as the folder itself knows; there may be none. Blocking.

    Raises:
        OSError: The folder cannot be read.
    """
    pointer = folder / POINTER
    text = pointer.read_text("utf-8").strip() if pointer.exists() else ""
    return Path(text) if text else folder / OWN


def agree(folder: Path, journal: Path) -> None:
    """Hold a journal's place against what the folder says, and note it where it is new. Blocking.

    Raises:
        ConfigurationError: The folder belongs to another journal.
        OSError: The folder cannot be read or written.
    """
    own, pointer, place = folder / OWN, folder / POINTER, journal.resolve()
    named = known_place(folder)
    known = None if named == own else named
    if known is not None and known != place:
        raise ConfigurationError(
            f"the journal of {folder} is {known}: give --journal {known}. With another one, all of its rows would be "
            "bought again"
        )
    if place == own.resolve():
        return
    if own.exists():
        raise ConfigurationError(
            f"{folder} has a journal of its own, {own}: leave --journal out. With another one, all of its rows would "
            "be bought again"
        )
    if known is None:
        pointer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pointer.write_text(f"{place}\n", "utf-8")
