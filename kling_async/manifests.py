"""A manifest on its way into a batch: checked before the first cent, then read lazily, in a thread of its own.

Reading is `kling_async.adapters.manifest`; here is what a run needs of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

from attrs import define, evolve, field

from kling_async.adapters.manifest import KeyCheck, Row, check_files, read_manifest
from kling_async.errors import InvalidRequest, ManifestError
from kling_async.rules.identity import samples_of
from kling_async.rules.limits import check_fields
from kling_async.types.request import ImageToVideo

SHOWN_ERRORS: Final = 50
"""Errors of a manifest that are kept to be shown; the others are counted."""

FAILURES: Final = "failures.jsonl"
"""The list of failed rows that a run leaves; run again, its rows are tried again."""

_CHUNK: Final = 500
"""Rows that are read in one thread hop."""


@define
class ManifestCheck:
    """What is known of a manifest before anything is paid."""

    rows: int = 0
    """Rows that are right."""
    seconds: Counter[int] = field(factory=Counter)
    """How many of them ask for each duration."""
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
        self._samples = samples
        self._image_checks = image_checks
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="kling-manifest")

    @property
    def is_failures(self) -> bool:
        """Whether this is a run's own list of failures, whose rows are to be tried again."""
        return self.path.name == FAILURES

    async def check(self) -> ManifestCheck:
        """Read every row, and look at the beginning of every image."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._check)

    def _check(self) -> ManifestCheck:
        result, keys = ManifestCheck(), KeyCheck()
        for row in read_manifest(self.path):
            errors = row.errors or self._faults(row)
            result.note(errors)
            for sample in self._expand(row):
                clash = keys.seen(sample)
                told = (clash,) if clash is not None else sample.errors if sample is not row else ()
                result.note(told)
                if sample.request is not None and not errors and not told:
                    result.rows += 1
                    result.seconds[sample.request.duration] += 1
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
        rows = (sample for row in read_manifest(self.path) for sample in self._expand(row))
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
