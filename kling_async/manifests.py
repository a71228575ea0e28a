"""A manifest on its way into a batch: checked before the first cent, in a thread of its own, then taken in as checked.

It is a file, a folder of images, or what comes by standard input. It is read once: what was checked lies on a disk of
its own until the journal has it. One that was taken in as it stands is known again by its digest, and need not be read
another time.

Reading is `kling_async.adapters.manifest`; here is what a run needs of it. This room must never give out a row that was
not checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from attrs import define, field

from kling_async.adapters.disk import describe, make_folder, write_whole
from kling_async.adapters.drafts import Drafts, Repeated
from kling_async.adapters.manifest import check_files, look_at_files, read_manifest
from kling_async.adapters.manifest_folder import folder_digest
from kling_async.adapters.manifest_rows import Row
from kling_async.adapters.pipe import STDIN, Pipe, folder_of
from kling_async.errors import InvalidRequest, ManifestError
from kling_async.rules.identity import draft_of, samples_of
from kling_async.rules.limits import check_fields
from kling_async.types.image import ImageSource
from kling_async.types.record import Draft
from kling_async.types.request import ImageToVideo

T = TypeVar("T")

SHOWN_ERRORS: Final = 50
"""Errors of a manifest that are kept to be shown; the others are counted."""

FAILURES: Final = "failures.jsonl"
"""The list of failed rows that a run leaves; run again, its rows are tried again."""

SPOOL: Final = Path(".kling", FAILURES)
"""The copy of a folder's own list of failures that a run of it reads: the list itself is written anew meanwhile."""

_READING: Final = 1
"""Changes when the same manifest is read into other requests."""

_LOOKS: Final = 8
"""Files that are looked at at once: on a disk behind a network each takes its time."""

_LOOKED_AT: Final = 64
"""Rows whose files are looked at together, and those that are given out together where some bring bytes: so many are in
memory with whole images."""

_PIECE: Final = 1024 * 1024
"""Bytes that are copied at once."""


@define
class ManifestCheck:
    """What is known of a manifest before anything is paid."""

    rows: int = 0
    """Rows that can be read, each once; samples each for itself."""
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

    def note_repeated(self, found: Repeated) -> None:
        """Take note of what stands twice; of all errors the first ones stay."""
        self.duplicates = found.same
        self.error_count += found.clashes
        self.errors = sorted([*self.errors, *found.errors], key=lambda error: error.line or 0)[:SHOWN_ERRORS]


class Manifest:
    """A manifest.

    Args:
        path: CSV, TSV or JSONL; a folder of images; or `-`, standard input.
        image_checks: Whether the model's own rules on a row's fields are checked, too.
        samples: How many videos are made of each row; None: one, under the row's own key.
        first: How many of its rows are taken in, from the first on; None: all. They are all checked.
    """

    def __init__(
        self, path: Path, *, image_checks: bool = True, samples: int | None = None, first: int | None = None
    ) -> None:
        self.path = path
        """What is read."""
        self.title = "standard input" if path == STDIN else str(path)
        """What it is called."""
        self._base = Path.cwd() if path == STDIN else path.absolute().parent
        if path.parts[-2:] == SPOOL.parts:
            self._base = self._base.parent
        self._samples = samples
        self._first = first
        self._image_checks = image_checks
        self._drafts: Drafts | None = None
        self._wanted = 0
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="kling-manifest")
        self._pipe: Pipe | None = None

    @property
    def is_failures(self) -> bool:
        """Whether this is a run's own list of failures, whose rows are to be tried again."""
        return self.path.name == FAILURES

    async def open(self) -> None:
        """Read standard input to its end, if it is the manifest; what was kept of one knows its folder.

        Raises:
            ManifestError: There is nothing to read from, or it cannot be spooled.
        """
        if self.path == STDIN:
            self._pipe = Pipe(self._threads)
            self.path = await self._pipe.read()
        else:
            if await self._do(self.path.is_fifo):
                raise ManifestError(f"{self.title} is a pipe, which can be read once: pipe it in, and give - for it")
            folder = await self._do(lambda: folder_of(self.path))
            if folder is not None:
                self._base = folder

    async def mark(self) -> str | None:
        """Return what tells this manifest, as it stands and is to be run, from any other; None for a list of failures.

        Raises:
            ManifestError: It cannot be read.
        """
        return None if self.is_failures else await self._do(self._mark)

    def _mark(self) -> str:
        try:
            if self.path.is_dir():
                content = folder_digest(self.path)
            else:
                with self.path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ManifestError(f"{self.title} cannot be read: {describe(error)}") from error
        ending = "" if self._pipe is not None else self.path.suffix.lower()
        known = [_READING, content, ending, str(self._base), self._samples, self._first, self._image_checks]
        return hashlib.sha256(json.dumps(known).encode(errors="surrogatepass")).hexdigest()

    async def spool(self, out: Path) -> Path | None:
        """Read from a copy in a folder from now on, where what is read now will not last; return the copy.

        That is standard input, and the list that a run into the folder writes anew. Nothing that its owner wrote into
        it is lost before it was read, and the copy, given as a manifest, goes on.

        Args:
            out: The folder of the run, which holds it by now.

        Raises:
            ManifestError: It cannot be copied.
        """
        return await self._do(partial(self._spool, out))

    def _spool(self, out: Path) -> Path | None:
        place = out / SPOOL
        try:
            if self._pipe is not None:
                self.path = self._pipe.keep(place.parent)
                return self.path
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
        return await self._do(self._check)

    def _check(self) -> ManifestCheck:
        self._forget()
        result, read = ManifestCheck(), 0
        self._drafts = drafts = Drafts()
        rows = read_manifest(self.path, base=self._base, title=self.title)
        with ThreadPoolExecutor(_LOOKS, thread_name_prefix="kling-look") as threads:
            while chunk := list(islice(rows, _LOOKED_AT)):
                looked_at = look_at_files(chunk, threads)
                for row in chunk:
                    if errors := row.errors or self._faults(row, looked_at):
                        result.note(errors)
                    for sample in self._expand(row):
                        drafts.note(sample)
                        if sample is not row and sample.errors:
                            result.note(sample.errors)
                    read += 1
                    if read == self._first:
                        self._wanted = drafts.count
        self._wanted = self._wanted or drafts.count
        found = drafts.find(shown=SHOWN_ERRORS)
        result.note_repeated(found)
        result.rows = drafts.count - found.same
        if result.error_count:
            self._forget()  # what is not all right is not taken in at all
        return result

    def _faults(self, row: Row, looked_at: Mapping[ImageSource, str]) -> tuple[ManifestError, ...]:
        faults = check_files(row, looked_at)
        if self._image_checks and row.request is not None and (broken := check_fields(row.request)):
            return (*[row.fault(issue.message, issue.field) for issue in broken], *faults)
        return faults

    def _expand(self, row: Row) -> Iterable[Row]:
        """Return a row, or its samples one by one."""
        if self._samples is None or row.request is None:
            return (row,)
        return _samples(row, row.request, self._samples)

    async def drafts(self) -> AsyncIterator[list[Draft | ImageToVideo]]:
        """Yield the rows that were checked, each once, some at a time, in the order of the file; each sample by itself.

        A row that brings bytes comes as its request: it is read from the manifest once more.

        Raises:
            ManifestError: The manifest was not checked, or holds such a row no more.
        """
        pages = self._pages()
        while page := await self._do(lambda: next(pages, None)):
            yield page

    async def checked_keys(self) -> AsyncIterator[list[str]]:
        """Yield the keys of the rows that were checked, as `drafts` does."""
        pages = self._checked().pages(self._wanted)
        while page := await self._do(lambda: next(pages, None)):
            yield [draft.key for draft in page]

    def _checked(self) -> Drafts:
        if self._drafts is None:
            raise ManifestError(f"{self.title} was not checked, or has errors")
        return self._drafts

    def _pages(self) -> Iterator[list[Draft | ImageToVideo]]:
        again = self._requests()
        for page in self._checked().pages(self._wanted):
            some = len(page) if all(draft.document for draft in page) else _LOOKED_AT
            for begin in range(0, len(page), some):
                few = page[begin : begin + some]
                yield [draft if draft.document else self._find(draft, again) for draft in few]

    def _requests(self) -> Iterator[ImageToVideo]:
        for row in read_manifest(self.path, base=self._base, title=self.title):
            for sample in self._expand(row):
                if sample.request is not None:
                    yield sample.request

    def _find(self, draft: Draft, requests: Iterator[ImageToVideo]) -> ImageToVideo:
        """Return the request of a row that was checked, from where they are read in their order."""
        for request in requests:
            if request.brings_bytes and draft_of(request) == draft:
                return request
        raise ManifestError(f"{self.title} was changed while it was read; nothing was bought: run again")

    def close(self) -> None:
        """Let the thread go, and what was spooled."""
        self._threads.submit(self._forget)
        if self._pipe is not None:
            self._threads.submit(self._pipe.close)
        self._threads.shutdown(wait=False)

    async def forget(self) -> None:
        """Let the rows go that were checked: the journal has them."""
        await self._do(self._forget)

    def _forget(self) -> None:
        if self._drafts is not None:
            self._drafts.close()
            self._drafts, self._wanted = None, 0

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _samples(row: Row, request: ImageToVideo, count: int) -> Iterator[Row]:
    try:
        for sample in samples_of(request, count):
            yield row._replace(request=sample)
    except InvalidRequest as error:
        faults = [row.fault(issue.message, issue.field) for issue in error.issues]
        yield Row(row.line, None, tuple(faults), row.file)
