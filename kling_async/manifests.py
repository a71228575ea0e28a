"""A manifest on its way into a batch: checked before the first cent, then read lazily, in a thread of its own.

Reading is `kling_async.adapters.manifest`; here is what a run needs of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from attrs import define, evolve, field

from kling_async.adapters.disk import describe, make_folder, write_whole
from kling_async.adapters.manifest import DuplicateKeys, Row, check_files, read_manifest
from kling_async.errors import InvalidRequest, ManifestError
from kling_async.rules.identity import samples_of
from kling_async.rules.limits import check_fields
from kling_async.types.request import ImageToVideo

SHOWN_ERRORS: Final = 50
"""Errors of a manifest that are kept to be shown; the others are counted."""

FAILURES: Final = "failures.jsonl"
"""The list of failed rows that a run leaves; run again, its rows are tried again."""

SPOOL: Final = Path(".kling", FAILURES)
"""The copy of a folder's own list of failures that a run of it reads: the list itself is written anew meanwhile."""

_CHUNK: Final = 500
"""Rows that are read in one thread hop."""

_PIECE: Final = 1024 * 1024
"""Bytes that are copied at once."""


@define
class ManifestCheck:
    """What is known of a manifest before anything is paid."""

    duplicates: int = 0
    """Rows that stand there more than once."""
    errors: list[ManifestError] = field(factory=list)
    """The first errors."""
    error_count: int = 0
    """All errors."""

    def note(self, errors: tuple[ManifestError, ...]) -> None:
        """Take note of errors."""
        self.error_count += len(errors)
        self.errors.extend(errors[: SHOWN_ERRORS - len(self.errors)])


class Manifest:
    """A manifest file.

    Args:
        path: CSV, TSV or JSONL.
        image_checks: Whether the model's own rules on a row's fields are checked, too.
        samples: How many videos are made of each row; None: one, under the row's own key.
    """

    def __init__(self, path: Path, *, image_checks: bool = True, samples: int | None = None) -> None:
        self.path = path
        """The file that is read."""
        self._base = path.absolute().parent
        if path.parts[-2:] == SPOOL.parts:
            self._base = self._base.parent
        self._samples = samples
        self._image_checks = image_checks
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="kling-manifest")

    @property
    def is_failures(self) -> bool:
        """Whether this is a run's own list of failures, whose rows are to be tried again."""
        return self.path.name == FAILURES

    async def spool(self, out: Path) -> Path | None:
        """Read from a copy from now on, if this is the list that a run into the folder writes anew; return the copy.

        Nothing that its owner wrote into it is lost before it was read, and the copy, given as a manifest, goes on.

        Args:
            out: The folder of the run, which holds it by now.

        Raises:
            ManifestError: It cannot be copied.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._spool, out)

    def _spool(self, out: Path) -> Path | None:
        place = out / SPOOL
        try:
            if self.path.resolve() != (out / FAILURES).resolve():
                return None
            make_folder(place.parent, mode=0o700)
            with self.path.open("rb") as file:
                write_whole(place, iter(partial(file.read, _PIECE), b""))
        except OSError as error:
            raise ManifestError(f"{self.path} cannot be copied to {place}: {describe(error)}") from error
        self.path = place
        return place

    async def check(self) -> ManifestCheck:
        """Read every row, and look at the beginning of every image."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._check)

    def _check(self) -> ManifestCheck:
        result, keys = ManifestCheck(), DuplicateKeys()
        for row in read_manifest(self.path, base=self._base):
            errors = row.errors or self._faults(row)
            result.note(errors)
            for sample in self._expand(row):
                clash = keys.seen(sample)
                result.note((clash,) if clash is not None else sample.errors if sample is not row else ())
        result.duplicates = keys.duplicates
        return result

    def _faults(self, row: Row) -> tuple[ManifestError, ...]:
        broken = check_fields(row.request) if self._image_checks and row.request is not None else []
        faults = [ManifestError(issue.message, line=row.line, field=issue.field) for issue in broken]
        return (*faults, *check_files(row))

    def _expand(self, row: Row) -> Iterator[Row]:
        """Yield a row, or its samples one by one."""
        if self._samples is None or row.request is None:
            yield row
            return
        try:
            for request in samples_of(row.request, self._samples):
                yield evolve(row, request=request)
        except InvalidRequest as error:
            faults = [ManifestError(issue.message, line=row.line, field=issue.field) for issue in error.issues]
            yield Row(row.line, None, tuple(faults))

    async def chunks(self) -> AsyncIterator[list[ImageToVideo]]:
        """Yield the requests, some at a time, in the order of the file; the samples of a row behind each other.

        Raises:
            ManifestError: A row is wrong; `check` tells all of them at once.
        """
        loop = asyncio.get_running_loop()
        rows = (sample for row in read_manifest(self.path, base=self._base) for sample in self._expand(row))
        while chunk := await loop.run_in_executor(self._threads, lambda: list(islice(rows, _CHUNK))):
            for row in chunk:
                if row.errors:
                    raise row.errors[0]
            yield [row.request for row in chunk if row.request is not None]

    async def requests(self) -> AsyncIterator[ImageToVideo]:
        """Yield the requests one by one."""
        async for chunk in self.chunks():
            for request in chunk:
                yield request

    def close(self) -> None:
        """Let the thread go."""
        self._threads.shutdown(wait=False)
