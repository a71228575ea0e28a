"""Is this a whole MP4? A walk over its boxes, fed with the pieces of a download as they come.

The walk says yes only to complete top-level boxes up to the very end of the file, with `ftyp`, `moov` and `mdat`
among them, and no sample that the tables in `moov` place behind the end. What it lets pass, since it is legal or
harmless: `mdat` before or behind `moov`, fragments (`moof` + `mdat`), 64-bit sizes, unknown and `uuid` boxes, a last
box of size 0 ("to the end of the file"), and eight or more zero bytes as padding at the end. What stands *inside* a
complete `moov` never makes a file unwanted: it was paid for, so it is kept, and what cannot be read stays unknown.

What only the announced length can tell: a file that lost nothing but whole boxes behind the ones that it needs, as
when a fragmented file is cut exactly between two fragments.

This room must never hold the bytes of a video: all that is kept is `moov`, up to a cap. Nor does it decode anything:
damage inside `mdat` is not seen here. The layout of the boxes is that of ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from typing import Final

from attrs import frozen

from kling_async.errors import NotAVideo, Truncated
from kling_async.rules.mp4_index import (
    NOTHING,
    Track,
    UnreadableError,
    boxes_of,
    codec_of,
    duration_of,
    end_of_samples,
    size_of,
)

MOOV_CAP: Final = 4 * 1024 * 1024
"""Bytes of `moov` that are kept; a larger one (an hour of video) is walked over, and the facts stay unknown."""

_ENDLESS: Final = 1 << 64
_PADDING: Final = b"\0\0\0\0"
_BEFORE_FTYP: Final = frozenset({b"ftyp", b"styp", b"free", b"skip", b"wide", b"uuid", b"pdin"})
_NEEDED: Final = (b"ftyp", b"moov", b"mdat")
_OTHER: Final = b""
"""Stands for all kinds of boxes that nothing follows from: a file may have millions of them."""
_ONLY_ONCE: Final = frozenset({b"ftyp", b"moov"})
_MUST_TELL_ITS_SIZE: Final = frozenset({b"ftyp", b"moov", b"moof"})

_FOREIGN: Final = (
    (b"<", "a web page or XML"),
    (b"{", "JSON"),
    (b"RIFF", "a RIFF file (AVI, WebP or WAV)"),
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
    (b"GIF8", "a GIF image"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)


@frozen
class Mp4Facts:
    """What the index of a whole MP4 says about it. None stands for what it does not say."""

    duration: float | None = None
    """Seconds that the movie lasts, by its header; None for most fragmented files."""

    width: int | None = None
    """Pixels of the video track, before any rotation."""

    height: int | None = None
    """Pixels of the video track, before any rotation."""

    codec: str | None = None
    """The four letters of the video track's format, such as `avc1`."""


class BoxWalk:
    """Walk over the boxes of an MP4 while it comes in.

    Feed every piece in order, then call `finish`. After an error the walk is over: throw it away. A piece costs the
    same whatever its size, as long as it lies within `mdat`.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._header = bytearray()
        self._kind = b""
        self._left = 0
        self._end = 0
        self._found: set[bytes] = set()
        self._moov: bytearray | None = None
        self._lacks_mdat = False

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the file.

        Args:
            piece: Any number of bytes; they are not kept.

        Raises:
            NotAVideo: The bytes so far cannot begin an MP4.
        """
        view = memoryview(piece).cast("B")
        while view:
            taken = self._pass_over(view) if self._left else self._read_header(view)
            view = view[taken:]

    def finish(self) -> Mp4Facts:
        """Judge the file, now that all of it has been fed.

        Raises:
            Truncated: Bytes are missing at the end.
            NotAVideo: All boxes are complete, and yet this is no MP4.
        """
        self._check_end()
        self._check_parts()
        if self._moov is None:
            self._check_last_sample([None])
            return Mp4Facts()
        try:
            return self._read_index(self._moov)
        except UnreadableError:
            self._check_last_sample([None])
            return Mp4Facts()

    def _read_index(self, moov: bytes | bytearray) -> Mp4Facts:
        boxes = list(boxes_of(memoryview(moov)))
        tracks = [Track(payload) for kind, payload in boxes if kind == b"trak"]
        self._check_last_sample([end_of_samples(track.tables) for track in tracks] or [None])
        duration = duration_of(dict(boxes).get(b"mvhd", NOTHING))
        video = next((track for track in tracks if track.handler == b"vide"), None)
        if video is None:
            return Mp4Facts(duration)
        width, height = size_of(video.header)
        return Mp4Facts(duration, width, height, codec_of(video.tables))

    def _pass_over(self, view: memoryview) -> int:
        taken = min(self._left, len(view))
        if self._kind == b"moov" and self._moov is not None:
            self._moov += view[:taken]
        elif self._kind == _PADDING and view.tobytes().strip(b"\0"):
            raise NotAVideo(f"the file holds stray bytes after byte {self._seen:,}, behind its last box")
        if self._end != _ENDLESS:
            self._left -= taken
        self._seen += taken
        return taken

    def _read_header(self, view: memoryview) -> int:
        wanted = 16 if len(self._header) >= 8 else 8
        taken = min(wanted - len(self._header), len(view))
        self._header += view[:taken]
        self._seen += taken
        if len(self._header) == wanted and (wanted == 16 or self._header[:4] != b"\0\0\0\1"):
            self._enter(bytes(self._header))
            self._header.clear()
        return taken

    def _enter(self, header: bytes) -> None:
        kind, start = header[4:8], self._seen - len(header)
        if b"ftyp" not in self._found and kind not in _BEFORE_FTYP:
            raise NotAVideo(f"the file is not an MP4: {_describe(header)}")
        if kind in _ONLY_ONCE & self._found:
            raise NotAVideo(f"the file holds a second {_name(kind)} box at byte {start:,}: two files in one")
        size = _size_of(header, start)
        self._kind, self._end = kind, start + size if size else _ENDLESS
        self._left = size - len(header) if size else _ENDLESS
        self._found.add(kind if kind in _NEEDED or kind == b"moof" else _OTHER)
        self._lacks_mdat = kind == b"moof" or (self._lacks_mdat and kind != b"mdat")
        if kind == b"moov" and size <= MOOV_CAP:
            self._moov = bytearray()

    def _check_end(self) -> None:
        if self._header and not self._found and self._header[0]:
            raise NotAVideo(f"the file is not an MP4: {_describe(bytes(self._header))}")
        if self._header or not self._seen:
            raise self._truncated("within the header of a box")
        if self._left and self._end != _ENDLESS:
            kind, missing = _name(self._kind), f"{self._left:,} bytes are missing"
            raise self._truncated(f"but its {kind} box goes on to byte {self._end:,}: {missing}")

    def _check_parts(self) -> None:
        missing = " and no ".join(_name(kind) for kind in _NEEDED if kind not in self._found)
        if missing:
            raise NotAVideo(f"the file is no whole MP4: in its {self._seen:,} bytes there is no {missing} box")
        if self._lacks_mdat:
            raise self._truncated("before its last fragment's data")

    def _check_last_sample(self, ends: list[int | None]) -> None:
        last = max((end for end in ends if end is not None), default=0)
        if last > self._seen:
            missing = f"{last - self._seen:,} bytes are missing"
            raise self._truncated(f"but its video goes on to byte {last:,}: {missing}")
        is_open = self._kind == b"mdat" and self._end == _ENDLESS
        if is_open and (None in ends or b"moof" in self._found):
            raise self._truncated("in a box without a size, and nothing in it tells whether that is all")

    def _truncated(self, why: str) -> Truncated:
        return Truncated(f"the file ends after {self._seen:,} bytes, {why}", got=self._seen)


def _size_of(header: bytes, start: int) -> int:
    """Read the size of a box, its header included; 0 stands for "to the end of the file"."""
    size, kind = struct.unpack(">I4s", header[:8])
    if header == _PADDING * 2:
        return 0
    if not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
        raise NotAVideo(f"the file holds bytes at byte {start:,} that begin no box of an MP4")
    if len(header) == 16:
        size = int.from_bytes(header[8:])
    is_open = size == 0 and len(header) == 8 and kind not in _MUST_TELL_ITS_SIZE
    if not (is_open or len(header) <= size < 1 << 63):
        raise NotAVideo(f"the {_name(kind)} box at byte {start:,} says that it has {size:,} bytes, which cannot be")
    return int(size)


def _describe(header: bytes) -> str:
    """Say in words what the first bytes of a foreign file look like."""
    text = header.removeprefix(b"\xef\xbb\xbf").lstrip()
    looks = next((words for magic, words in _FOREIGN if text.startswith(magic)), None)
    return f"it looks like {looks}" if looks else f"it begins with {header[:8]!r}"


def _name(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))
