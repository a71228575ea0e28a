"""Local images: their facts by the first bytes, their digests, and their bytes as base64 in pieces.

Whether an image would be taken is `kling_async.rules.images`. This room must never hold a whole image in memory that
did not come as bytes, nor touch the disk on the loop's thread.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from io import BytesIO, FileIO
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from attrs import evolve

from kling_async.adapters.disk import describe, is_out_of_files, make_folder, open_regular, write_whole
from kling_async.adapters.image_reader import PIECE, ImageReader, read_exactly, state_of
from kling_async.adapters.threads import WORKERS, Threads
from kling_async.errors import ImageChanged, InvalidRequest, Issue, JournalError
from kling_async.rules.images import SNIFF_BYTES, ImageFacts, NeedMore, Unreadable, read_facts, sniff
from kling_async.types.image import ImageKind, ImageSource, ImageState

T = TypeVar("T")

_FIRST_BYTES: Final = 4096
_LONGEST_HEAD: Final = 16 * 1024 * 1024
_REMEMBERED: Final = 4096
_READINGS: Final = 3
_UNKNOWN: Final = "application/octet-stream"


class LocalImages:
    """Images that are files or bytes. What was read of a file is remembered until its state changes.

    Args:
        inputs: The folder beside the journal where bytes are kept; None to keep none.
    """

    def __init__(self, inputs: Path | None = None) -> None:
        self._inputs = inputs
        self._threads = Threads("kling-encode", WORKERS)
        self._file_digest = lru_cache(_REMEMBERED)(_digest_of)
        self._file_facts = lru_cache(_REMEMBERED)(_facts_of)
        self._file_mime = lru_cache(_REMEMBERED)(_mime_of)

    async def facts(self, source: ImageSource) -> ImageFacts:
        """Read format and size from the first bytes, as few as are needed.

        Raises:
            InvalidRequest: There is no such file, it is no image, or it is a URL.
        """
        if source.kind is ImageKind.BYTES:
            return await self._threads.ask(partial(_read_facts, BytesIO(source.content)))
        return await self._ask(source, self._file_facts)

    async def state(self, source: ImageSource) -> ImageState:
        """Return what the image is now.

        Raises:
            InvalidRequest: There is no such file, or it is a URL.
        """
        if source.kind is ImageKind.BYTES:
            return ImageState(len(source.content))
        return await self._ask(source, lambda stamp: stamp.state)

    async def digest(self, source: ImageSource) -> str:
        """Return the sha256 of an image's bytes, or of a URL's text.

        Raises:
            InvalidRequest: There is no such file.
        """
        match source.kind:
            case ImageKind.URL:
                return hashlib.sha256(source.text.encode("utf-8", "surrogatepass")).hexdigest()
            case ImageKind.STORED:
                return source.text
            case ImageKind.BYTES:
                return await self._threads.ask(lambda: hashlib.sha256(source.content).hexdigest())
        return await self._ask(source, self._file_digest)

    async def mime(self, source: ImageSource) -> str:
        """Return the media type: what the first bytes say, else what a data URI said.

        Raises:
            InvalidRequest: There is no such file, or it is a URL.
        """
        if source.kind is ImageKind.BYTES:
            found = sniff(source.content[:SNIFF_BYTES])
        else:
            found = await self._ask(source, self._file_mime)
        return found or source.mime or _UNKNOWN

    async def keep(self, source: ImageSource) -> ImageSource:
        """Store bytes once each, and return the source that names them.

        A relative path is given the working folder as its base, so that it is found from any other; a URL comes back
        as it is.

        Raises:
            JournalError: They cannot be stored.
        """
        if source.kind is ImageKind.PATH and not source.base and not Path(source.text).is_absolute():
            return evolve(source, base=await self._threads.ask(os.getcwd))
        if source.kind is not ImageKind.BYTES or self._inputs is None:
            return source
        digest = await self._threads.finish(partial(_store, self._inputs, source.content))
        return ImageSource(ImageKind.STORED, digest, mime=source.mime)

    async def encoded(self, source: ImageSource, state: ImageState) -> AsyncIterator[bytes]:
        """Yield the image as base64, in pieces; the first and the last one only when the file is found in its state.

        Raises:
            ImageChanged: The image changed meanwhile, or cannot be read: the body was not finished.
            InvalidRequest: It is a URL.
        """
        if source.kind is ImageKind.BYTES:
            content = memoryview(source.content)
            if len(content) != state.size:
                raise ImageChanged(f"the image has {len(content):,} bytes, not {state.size:,}: nothing was sent")
            for at in range(0, len(content), PIECE):
                yield await self._threads.ask(partial(base64.b64encode, content[at : at + PIECE]))
            return
        places = self._places(source)
        reader = ImageReader(places[0], lambda: open_regular(_existing(places)), state)
        try:
            while not reader.closed:
                yield await self._threads.read(reader.next_piece)
        finally:
            if not reader.closed:
                await self._threads.finish(reader.close)

    async def aclose(self) -> None:
        """Let the threads go."""
        self._threads.close()

    async def _ask(self, source: ImageSource, read: Callable[[_Stamp], T]) -> T:
        return await self._threads.read(partial(_read_settled, self._places(source), read))

    def _places(self, source: ImageSource) -> tuple[str, ...]:
        """Return where a file may lie: kept bytes by this journal, or by the one that their list of failures names."""
        match source.kind:
            case ImageKind.PATH:
                return (os.path.join(source.base, source.text),)  # noqa: PTH118 - a path of bytes stays as it is
            case ImageKind.STORED:
                folders = [folder for folder in (self._inputs, source.base) if folder]
                if folders:
                    return tuple(str(Path(folder, source.text)) for folder in folders)
                raise _invalid("was kept by a journal, and none is open")
        raise _invalid(f"is not a file: {source!r}")


class _Stamp(NamedTuple):
    """One state of a file."""

    path: str
    state: ImageState


class _UnsettledError(Exception):
    """The file changed while it was read."""


def _read_settled(places: tuple[str, ...], read: Callable[[_Stamp], T]) -> T:
    """Read a file that nobody is writing, or say what is wrong with it."""
    try:
        path = _existing(places)
        for _ in range(_READINGS):
            try:
                return read(_stamp(path, Path(path).stat()))
            except _UnsettledError:
                continue
    except FileNotFoundError:
        raise _invalid(f"there is no file {places[0]}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_out_of_files(error):
            raise
        raise _invalid(f"{places[0]} cannot be read: {describe(error)}") from None
    raise _invalid(f"{places[0]} is being written: wait until that has ended")


def _existing(places: tuple[str, ...]) -> str:
    return next((place for place in places[:-1] if os.path.exists(place)), places[-1])  # noqa: PTH110 - text


def _stamp(path: str, status: os.stat_result) -> _Stamp:
    if not stat.S_ISREG(status.st_mode):
        raise _invalid(f"{path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
    return _Stamp(path, state_of(status))


@contextmanager
def _unchanged(stamp: _Stamp) -> Iterator[FileIO]:
    """Open a file that must stay in the given state while it is read."""
    with open_regular(stamp.path) as file:
        yield file
        if _stamp(stamp.path, os.fstat(file.fileno())) != stamp:
            raise _UnsettledError


def _digest_of(stamp: _Stamp) -> str:
    with _unchanged(stamp) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mime_of(stamp: _Stamp) -> str | None:
    with _unchanged(stamp) as file:
        return sniff(read_exactly(file, SNIFF_BYTES))


def _facts_of(stamp: _Stamp) -> ImageFacts:
    with _unchanged(stamp) as file:
        return _read_facts(file, stamp.path)


def _read_facts(file: FileIO | BytesIO, name: str = "") -> ImageFacts:
    named = f"{name} " if name else ""
    head = read_exactly(file, _FIRST_BYTES)
    while True:
        match read_facts(head):
            case ImageFacts() as facts:
                return facts
            case Unreadable(reason):
                raise _invalid(f"{named}is no image that can be read: {reason}")
            case NeedMore(at_least):
                if at_least > _LONGEST_HEAD:
                    raise _invalid(f"{named}has a header of more than {_LONGEST_HEAD:,} bytes: save it anew")
                more = read_exactly(file, max(at_least, 2 * len(head)) - len(head))
                if not more:
                    raise _invalid(f"{named}is empty or cut off: its header goes on behind its end")
                head += more


def _store(inputs: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    path = inputs / digest
    try:
        if not path.is_file() or path.stat().st_size != len(content):
            make_folder(inputs, mode=0o700)
            write_whole(path, [content], mode=0o600)
    except OSError as error:
        raise JournalError(
            f"an image of {len(content):,} bytes cannot be kept in {inputs}: {describe(error)}; mend that and run again"
        ) from error
    return digest


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(issues=(Issue("", message),))
