"""How the files that the system lets be open are shared among those that open them: downloads, polls and POSTs.

Pure: told the limit. Sharing keeps a run within it; where others in the process open files too, it may be met all the
same, and then whoever met it waits.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from kling_async.types.settings import Settings

RESERVED: Final = 28
"""Files that a process has open beside those that are shared: its streams, its loop, the journal, the results."""

_LEAST: Final = 8
"""Files that are shared at the least: one of each, and nobody starves."""


@frozen
class Shares:
    """How many of each may be under way at once."""

    downloads: int
    """Downloads: a connection and a file each."""
    polls: int
    """Polls: a connection each."""
    posts: int
    """POSTs in the air: a connection and an image each."""


def share_files(limit: int, *, downloads: int, polls: int) -> Shares:
    """Share the files that may be open.

    Args:
        limit: How many may be, of the whole process.
        downloads: Downloads at once that are wanted; never more.
        polls: Polls at once that are wanted; never more.
    """
    spare = max(_LEAST, limit - RESERVED)
    fetching = min(downloads, max(1, spare // 8))
    asking = min(polls, max(1, spare // 4))
    return Shares(fetching, asking, max(1, (spare - 2 * fetching - asking) // 2))


def within_files(settings: Settings, limit: int) -> Settings:
    """Return the settings with no more downloads and polls at once than files may be open."""
    shares = _shares_of(settings, limit)
    if (shares.downloads, shares.polls) == (settings.downloads.downloads_at_once, settings.polling.poll_workers):
        return settings
    return settings.updated(downloads_at_once=shares.downloads, poll_workers=shares.polls)


def posts_within(settings: Settings, limit: int) -> int:
    """Return how many POSTs may be in the air by the files that may be open."""
    return _shares_of(settings, limit).posts


def _shares_of(settings: Settings, limit: int) -> Shares:
    return share_files(limit, downloads=settings.downloads.downloads_at_once, polls=settings.polling.poll_workers)
