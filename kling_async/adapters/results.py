"""The result files beside the videos: `metadata.jsonl`, `failures.jsonl`, and the README that `datasets` needs.

A view of the journal: what a crash or an editor did to the files is made good from it at the next start. This room
must never be asked what was bought, nor write over a README that stands there.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from attrs import frozen

from kling_async.adapters.disk import (
    NEW_FILE,
    append_all,
    describe,
    is_full,
    make_folder,
    remove_temporary,
    sync_folder,
    temporary_name,
    write_all,
    write_whole,
)
from kling_async.adapters.result_rows import FailureLines, video_line
from kling_async.adapters.threads import Threads
from kling_async.errors import ConfigurationError, DiskFull
from kling_async.types.record import Record

README: Final = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - metadata.jsonl
    - "videos/**"
---

# Videos and their metadata

Each line of `metadata.jsonl` is one video: its `file_name`, what was asked for, and the columns that came with it.
kling-async adds the lines; what is changed in them by hand may be written anew.

```python
import datasets

videos = datasets.load_dataset("path/to/this/folder", split="train")
```
"""
"""What makes `datasets.load_dataset` read the folder. (`videofolder` takes keys such as `test` for splits.)"""


class FolderResults:
    """The result files of one job.

    Args:
        folder: Where they lie, the videos below them.
        inputs: Where the journal keeps images that came as bytes; beside it in the folder if not given.
    """

    def __init__(self, folder: Path, *, inputs: Path | None = None) -> None:
        self._folder = folder
        self._inputs = folder / ".kling" / "inputs" if inputs is None else inputs
        self._threads = Threads("kling-results", 1)
        self._metadata = folder / "metadata.jsonl"
        self._reached: _Position | None = None

    async def resume(self, position: str | None) -> int:
        """Cut the metadata back to a noted position, and return the number of the last row that it then holds.

        Args:
            position: What `add` returned last and the journal noted; None where nothing was noted. Where the file does
                not reach that far, or its last line is another, it is begun again: the answer is 0.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        return await self._threads.finish(partial(self._resume, position))

    async def add(self, done: Sequence[tuple[int, Record, Path]]) -> str:
        """Append one line for each row that is DONE: its number in the order of ends, the record, where its video lies.

        Numbers rise from call to call; a row that was added already is passed over, so that a call whose end nobody
        saw can be made again.

        Returns:
            The position to note in the journal.

        Raises:
            DiskFull: There is no room.
            ConfigurationError: The file cannot be written.
        """
        return await self._threads.finish(partial(self._add, done))

    async def write_failures(self, failures: AsyncIterable[Sequence[Record]]) -> int:
        """Replace the list of failed and set-aside rows, by a temporary name and a rename; return how many.

        They come some at a time, and are written as they come. No file stands where the list is empty. The list is a
        manifest: each row is there as it was written, its paths relative to the folder, with its reasons in columns
        that begin with `_`.

        Raises:
            DiskFull: There is no room.
            ConfigurationError: The file cannot be written.
        """
        draft = await self._threads.ask(partial(_FailuresDraft, self._folder, self._inputs))
        try:
            async for records in failures:
                if records:
                    await self._threads.finish(partial(draft.add, records))
            return await self._threads.finish(draft.commit)
        finally:
            if not draft.over:
                await self._threads.finish(draft.discard)

    async def aclose(self) -> None:
        """Let the thread go; no file stays open between calls."""
        self._threads.close()

    def _resume(self, position: str | None) -> int:
        noted = _Position.read(position)
        with _told(self._metadata):
            if noted.size and noted.fits(self._metadata):
                os.truncate(self._metadata, noted.size)
            else:
                self._metadata.unlink(missing_ok=True)
                noted = _Position()
            remove_temporary(self._folder)
        self._reached = noted
        return noted.row

    def _add(self, done: Sequence[tuple[int, Record, Path]]) -> str:
        reached = self._reached
        if reached is None:
            raise RuntimeError("resume() comes before add(): it says where the metadata go on")
        fresh = [entry for entry in done if entry[0] > reached.row]
        if fresh:
            lines = b"".join(video_line(record, self._name(path)) for _, record, path in fresh)
            with _told(self._metadata):
                if not reached.size:
                    self._begin()
                _append(self._metadata, lines)
            self._reached = reached = reached.after(lines, fresh[-1][0])
        return reached.text()

    def _begin(self) -> None:
        make_folder(self._folder)
        readme = self._folder / "README.md"
        if not readme.exists():
            write_whole(readme, [README.encode()])

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._folder).replace(os.sep, "/")


class _FailuresDraft:
    """The list of failures under a temporary name, used on a thread, until it is whole."""

    def __init__(self, folder: Path, inputs: Path) -> None:
        self._path = folder / "failures.jsonl"
        self._lines = FailureLines(folder, inputs)
        self._part = self._path.with_name(temporary_name(self._path.name))
        self._handle: int | None = None
        self._count = 0
        self.over = False

    def add(self, records: Sequence[Record]) -> None:
        lines = [self._lines.line(record) for record in records]
        with _told(self._path):
            if self._handle is None:
                make_folder(self._path.parent)
                self._handle = os.open(self._part, NEW_FILE, 0o666)
            write_all(self._handle, lines)
        self._count += len(lines)

    def commit(self) -> int:
        with _told(self._path):
            if self._handle is None:
                self._path.unlink(missing_ok=True)
            else:
                os.fsync(self._handle)
                self._close(self._handle)
                self._part.replace(self._path)
                sync_folder(self._path.parent)
        self.over = True
        return self._count

    def discard(self) -> None:
        self.over = True
        with suppress(OSError):
            if self._handle is not None:
                self._close(self._handle)
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _close(self, handle: int) -> None:
        self._handle = None
        os.close(handle)


@frozen
class _Position:
    """How far the metadata reach. The last line tells the file from one that was edited."""

    size: int = 0
    row: int = 0
    last: int = 0
    check: int = 0

    @classmethod
    def read(cls, text: str | None) -> _Position:
        """Read what `text` wrote; of anything else, the beginning."""
        try:
            values = json.loads(text or "{}")
            numbers = [int(values[name]) for name in ("bytes", "row", "last", "check")]
        except (ValueError, TypeError, KeyError):
            return cls()
        return cls(*numbers) if 0 < numbers[2] <= numbers[0] else cls()

    def text(self) -> str:
        return json.dumps({"bytes": self.size, "row": self.row, "last": self.last, "check": self.check})

    def after(self, lines: bytes, row: int) -> _Position:
        last = lines[lines.rfind(b"\n", 0, -1) + 1 :]
        return _Position(self.size + len(lines), row, len(last), zlib.crc32(last))

    def fits(self, path: Path) -> bool:
        """Tell whether the file reaches so far, and has the same last line there."""
        try:
            with path.open("rb") as file:
                file.seek(self.size - self.last)
                last = file.read(self.last)
        except FileNotFoundError:
            return False
        return len(last) == self.last and zlib.crc32(last) == self.check


def _append(path: Path, lines: bytes) -> None:
    """Append whole lines, or none. Not synced: what a crash of the machine takes is added anew."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        append_all(handle, [lines])
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say what the disk's refusal means."""
    try:
        yield
    except OSError as error:
        advice = "run again: what is missing is added from the journal"
        if is_full(error):
            raise DiskFull(f"there is no room for {path} ({describe(error)}): make room and {advice}") from error
        raise ConfigurationError(f"{path} cannot be written ({describe(error)}): mend that and {advice}") from error
