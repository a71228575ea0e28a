"""Finds the journal that a folder has, before anything is opened: what begins no job must not make one.

Nothing here writes, and nothing is read but the folder's pointer.
"""

from __future__ import annotations

from pathlib import Path

from kling_async.adapters.pointer import known_place
from kling_async.errors import ConfigurationError


def find_journal(folder: Path, journal: Path | None = None) -> Path:
    """Return where the journal of a folder lies: in it, or where its pointer says. Blocking.

    Args:
        folder: The job's folder.
        journal: Where its owner says that the journal lies; None where nobody says.

    Raises:
        ConfigurationError: There is no journal, or it is another one.
    """
    try:
        place = known_place(folder)
        found = place.is_file()
    except OSError as error:
        raise ConfigurationError(f"the journal of {folder} cannot be looked for: {error}") from error
    if not found:
        raise ConfigurationError(_nowhere(folder, place))
    if journal is not None and journal.resolve() != place.resolve():
        raise ConfigurationError(f"the journal of {folder} is {place}, not {journal}: leave --journal out")
    return place


def _nowhere(folder: Path, place: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}: give the one that a run had as --out"
    if folder not in place.parents:
        return f"the journal of {folder} was {place}, and is not there: bring it back, since it knows what was bought"
    return f"{folder} has no journal ({place}): nothing was run there. Give the folder that a run had as --out"
