"""Where a client's videos go: anywhere. Each folder has one store and one downloader, made when it is first named."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from kling_async.errors import ConfigurationError
from kling_async.flow.downloader import Downloader
from kling_async.ports import VideoStore

Place = tuple[VideoStore, Downloader, str]
"""The store and the downloader of a path's folder, and the path's name in it."""


class Places:
    """The folders that a client's callers named.

    Args:
        store: Makes the store of a folder.
        downloader: Makes the downloader into a store.
    """

    def __init__(self, store: Callable[[Path], VideoStore], downloader: Callable[[VideoStore], Downloader]) -> None:
        self._store = store
        self._downloader = downloader
        self._known: dict[Path, tuple[VideoStore, Downloader]] = {}

    def find(self, path: str | PathLike[str]) -> Place:
        """Return where a video goes.

        Raises:
            ConfigurationError: The path names no file.
        """
        video = Path(path)
        if video.name in {"", ".."}:
            raise ConfigurationError(f"{video} names no file")
        if video.parent not in self._known:
            store = self._store(video.parent)
            self._known[video.parent] = store, self._downloader(store)
        return *self._known[video.parent], video.name
