"""The doors to the outside, as protocols. What stands behind them is `kling_async.adapters`.

A door moves data and decides nothing. Each has a contract suite in the tests that runs against every implementation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from kling_async.errors import KlingError
    from kling_async.rules.images import ImageFacts
    from kling_async.types.exchange import HttpCall, HttpReply
    from kling_async.types.image import ImageSource, ImageState
    from kling_async.types.outcome import FileFacts, Tally
    from kling_async.types.record import Draft, Record

SOURCE: Final = "source"
"""The journal's note of the one source whose rows, all of them, it holds and nothing else; rows that are taken in take
it away."""


class Clock(Protocol):
    """The wall's clock. Durations inside a process are the loop's."""

    def wall(self) -> float:
        """Return Unix seconds."""
        ...


class Download(Protocol):
    """An answer of a file host that is still coming in."""

    status: int
    """The HTTP status."""
    headers: Mapping[str, str]
    """Headers, their names in lower case."""

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            AnswerLost: The connection broke, or no byte came for too long.
        """
        ...


class Transport(Protocol):
    """HTTP. Follows no redirect, tries nothing twice, and gives the key to the service's own address only."""

    async def send(self, call: HttpCall) -> HttpReply:
        """Send one call to the service, with the key, and read the whole answer.

        Raises:
            NotSent: The service surely did not get the whole request.
            AnswerLost: It may have.
            ProtocolViolation: The answer is larger than 1 MiB.
        """
        ...

    def fetch(
        self, url: str, *, headers: Mapping[str, str], stall_after: float
    ) -> AbstractAsyncContextManager[Download]:
        """Open a file host's answer, without the key.

        Raises:
            DownloadError: The host's name leads into a private network, where a public service's file cannot lie.
            NotSent: No connection came about.
            AnswerLost: The connection broke before the answer's head.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class Journal(Protocol):
    """The truth: every row and its stage, durable. A call returns when what it wrote survives a crash."""

    async def open(self) -> None:
        """Open it, and take the folder.

        Raises:
            JournalLocked: Another run holds it.
            JournalTooNew: A newer version wrote it.
            JournalError: It cannot be read or written.
        """
        ...

    async def aclose(self) -> None:
        """Write what is waiting, and let go."""
        ...

    async def enter(self, drafts: Sequence[Draft], names: Sequence[str]) -> list[int]:
        """Take new rows in at once, as PLANNED, without looking at what they ask for.

        What the journal knows already is left as it stands; where the name of a new one is another row's, on some file
        system, all are left. `enrol` looks at each of these by itself. Where anything is written, the note `SOURCE` is
        taken away.

        Args:
            drafts: The rows, each under a key of its own.
            names: Where the video of each will lie.

        Returns:
            The positions of the rows that were not taken in, from 0, in order.
        """
        ...

    async def enrol(self, planned: Sequence[Record]) -> list[Record | KlingError]:
        """Take rows in, and return each as the journal knows it, in order.

        A new key is written as it comes. A known one keeps its stage; was it edited, it is replaced where no money
        stands behind it (PLANNED, FAILED), and is a `RequestChanged` in the answer where some does.

        Where anything is written, the note `SOURCE` is taken away: the rows are no more those that it stands for.
        """
        ...

    async def save(self, record: Record, *, patiently: bool = False) -> None:
        """Write a record's new state. What is saved of a row later is never written earlier.

        Args:
            record: The row as it is now.
            patiently: Whether it may wait for what others write, some tenths of a second, so that one flush serves
                both; to heed it is the journal's own affair.

        Raises:
            JournalError: It could not be written, its generation id belongs to another row, or the row is DONE already
                and would be so no more.
        """
        ...

    async def intend(self, record: Record, *, ceiling: int | None) -> str | None:
        """Write a SUBMITTING record, unless spent + held + its price would pass the ceiling; one transaction.

        Where another row of the same content is bought, or may be, nothing is written: this row shares its generation.

        It is written over the PLANNED record of the attempt before, and over nothing else: no row is bought twice at
        once. One with a `fallback` is written over the record that its owner gives up, in the same transaction: what
        that held stays counted, as sunk.

        Where `raise_price` knows a dearer price than the record holds, that one counts and is held.

        Returns:
            The key of the row whose generation this one shares; None where the intent was written.

        Raises:
            JournalError: The row does not stand as it must.
            BudgetExceeded: It would; nothing was written.
            InvalidRequest: There is a ceiling, and no price of it is known; nothing was written.
        """
        ...

    async def raise_price(self, model: str, duration: int, credits_: int) -> None:
        """Note what the service was seen to hold for a video, and hold no less for those that it has not told yet.

        That is each row of the model and the duration that is SUBMITTING or UNCERTAIN, or of which nobody told a price
        (see `fill_price`); what is held for it is raised, and no `save` lowers it again while it is one of them. Later
        intents hold no less, either. A lower price than is noted changes nothing.

        Args:
            model: The model.
            duration: Seconds of video.
            credits_: Whole credits.
        """
        ...

    async def fill_price(self, model: str, duration: int, credits_: int) -> None:
        """Count a price for the rows that money stands behind and that have none, since nobody had told it.

        That is each row of the model and the duration, those that are DONE too, but for those that share another row's
        video. No `save` takes it away again while money stands behind the row.

        Args:
            model: The model.
            duration: Seconds of video.
            credits_: Whole credits.
        """
        ...

    async def get(self, key: str) -> Record | None:
        """Return one row."""
        ...

    async def under(self, keys: Sequence[str]) -> list[Record]:
        """Return the rows under some keys, in the order of the keys; unknown ones are passed over."""
        ...

    async def unfinished(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that money stands behind and that are not DONE, with their numbers, in order.

        Args:
            after: The number of the last row already read; 0 to begin.
            limit: How many at the most.
        """
        ...

    async def failed(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next FAILED rows, with their numbers, in order."""
        ...

    async def again(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that cost nothing now and were tried before, with their numbers, in order.

        They are FAILED; PLANNED after at least one POST, which a stop left between two tries; or PLANNED and waiting
        for the video of a row of equal content.
        """
        ...

    async def rows(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows of any stage, with their numbers, in order."""
        ...

    async def planned(self, *, after: int, limit: int) -> list[tuple[int, Record]]:
        """Return the next PLANNED rows, with their numbers, in order."""
        ...

    async def census(self) -> Counter[tuple[str, int]]:
        """Count the PLANNED rows by model and duration."""
        ...

    async def done_since(self, order: int, *, limit: int) -> list[tuple[int, Record]]:
        """Return the next rows that became DONE, with their number in the order of their ends.

        Args:
            order: The number of the last one already read; 0 to begin.
            limit: How many at the most.
        """
        ...

    async def tally(self) -> Tally:
        """Return the rows by stage, and their money."""
        ...

    async def named(self, names: Sequence[str]) -> set[str]:
        """Return those of some names of files that a row's video has, or will have.

        Names that one file system or another takes for one count as one.
        """
        ...

    async def note(self, name: str, value: str | None = None) -> str | None:
        """Remember a fact about the job, or (without a value) return it."""
        ...


class StagedVideo(Protocol):
    """A video on its way to the disk, under a temporary name. Leaving its block without a commit removes it."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append.

        Raises:
            DiskFull: There is no room.
            DownloadError: The disk refused otherwise.
        """
        ...

    def sha256(self) -> str:
        """Return the digest of the bytes written so far, in hex."""
        ...

    async def restart(self) -> None:
        """Throw away what was written, and begin again."""
        ...

    async def commit(self) -> Path:
        """Make the bytes durable, give them their final name, and return it. Replaces what stood there."""
        ...


class VideoStore(Protocol):
    """Where videos lie. Nothing but whole files ever stands under a final name."""

    def stage(self, name: str) -> AbstractAsyncContextManager[StagedVideo]:
        """Begin a video under a temporary name beside its final one."""
        ...

    async def holds(self, name: str, *, size: int, sha256: str) -> bool:
        """Tell whether a file with that digest stands under the name; that none can be opened for now is no answer."""
        ...

    async def examine(self, name: str) -> FileFacts | None:
        """Read a file from its beginning to its end, once; None where there is none.

        Raises:
            DownloadError: It cannot be read.
        """
        ...

    def names(self) -> AsyncIterator[Sequence[str]]:
        """Yield the names of all files, some at a time; not those under temporary names."""
        ...

    async def link(self, name: str, other: str) -> bool:
        """Give a whole video another name, too: by a hard link, or a copy; tell whether it was there.

        Raises:
            DiskFull: There is no room.
            DownloadError: The disk refused otherwise.
        """
        ...

    def path(self, name: str) -> Path:
        """Return where the name lies."""
        ...

    async def clean(self) -> int:
        """Remove what earlier processes left under temporary names; return how many."""
        ...


class Decoder(Protocol):
    """Looks at what boxes and digests do not tell: whether the frames of a video can be decoded."""

    async def check(self) -> None:
        """Make sure that there is something to decode with.

        Raises:
            ConfigurationError: A package is not installed; the message says which.
        """
        ...

    async def fault(self, path: Path) -> str | None:
        """Decode every frame of a video; return what is wrong, None where nothing is."""
        ...

    async def aclose(self) -> None:
        """Let the threads go."""
        ...


class Images(Protocol):
    """Facts and bytes of local images."""

    async def facts(self, source: ImageSource) -> ImageFacts:
        """Read format and size from the first bytes.

        Raises:
            InvalidRequest: There is no such file, or it is no image.
        """
        ...

    async def state(self, source: ImageSource) -> ImageState:
        """Return what the image is now: taken before all else that is asked of it, and given to `encoded`."""
        ...

    async def mime(self, source: ImageSource) -> str:
        """Return the image's media type, by its first bytes."""
        ...

    async def digest(self, source: ImageSource) -> str:
        """Return the digest of an image's bytes, or of a URL's text."""
        ...

    async def keep(self, source: ImageSource) -> ImageSource:
        """Store bytes beside the journal, once each, and return the source that names them.

        URLs and paths come back as they are.
        """
        ...

    def encoded(self, source: ImageSource, state: ImageState) -> AsyncIterator[bytes]:
        """Yield the image as base64, in pieces.

        Raises:
            ImageChanged: The image is not in that state any more, or cannot be read: the body was not finished.
        """
        ...


class Results(Protocol):
    """The metadata and the failures beside the videos: a view of the journal, made good from it after a crash."""

    async def resume(self, position: str | None) -> int:
        """Cut the metadata back to a noted position, and return the number of the last row that it then holds.

        Args:
            position: What `add` returned last and the journal noted; None where nothing was noted. Where the file does
                not reach that far (it was deleted, or edited), it is begun again: the answer is 0.
        """
        ...

    async def add(self, done: Sequence[tuple[int, Record, Path]]) -> str:
        """Append one line for each row that is DONE: its number in the order of ends, the record, where its video lies.

        Returns:
            The position to note in the journal.
        """
        ...

    async def write_failures(self, failures: AsyncIterable[Sequence[Record]]) -> int:
        """Replace the list of failed and set-aside rows, by a temporary name and a rename; return how many.

        They come some at a time, since they may be many. No file stands where the list is empty.
        """
        ...

    async def aclose(self) -> None:
        """Close the files."""
        ...


class Observer(Protocol):
    """Is told of every change of a record, right after it was saved. Must not wait and must not raise."""

    def changed(self, before: Record, after: Record) -> None:
        """Take note of one saved change."""
        ...
