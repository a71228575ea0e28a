"""What the index of an MP4 (its `moov` box) tells: how long, how large, in what format, and where its last sample ends.

Reads bytes that are complete; what cannot be read is unknown, never a reason to refuse a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

NOTHING: Final = memoryview(b"")
"""A box that is not there."""

_MOST_BOXES: Final = 200
"""Boxes inside one that are gone through: no film has more, and some host might send half a million empty ones."""


class UnreadableError(Exception):
    """What stands in `moov` cannot be read; the file's facts stay unknown."""


def boxes_of(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Go through the boxes inside a box; zeros behind the last one are padding."""
    at = 0
    for _ in range(_MOST_BOXES):
        if len(data) - at < 8 or not any(data[at : at + 8]):
            break
        size, header = int.from_bytes(data[at : at + 4]), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16]), 16
        if not header <= size <= len(data) - at:
            break
        yield bytes(data[at + 4 : at + 8]), data[at + header : at + size]
        at += size
    if any(data[at:]):
        raise UnreadableError


class Track:
    """The parts of a `trak` box that tell what it is and where its samples lie."""

    def __init__(self, trak: memoryview) -> None:
        parts = dict(boxes_of(trak))
        media = dict(boxes_of(parts.get(b"mdia", NOTHING)))
        self.header = parts.get(b"tkhd", NOTHING)
        self.handler = bytes(media.get(b"hdlr", NOTHING)[8:12])
        self.tables = dict(boxes_of(dict(boxes_of(media.get(b"minf", NOTHING))).get(b"stbl", NOTHING)))


def duration_of(mvhd: memoryview) -> float | None:
    """Read the seconds of the movie from its header, version 0 or 1."""
    layout, at = {b"\0": (">II", 12), b"\1": (">IQ", 20)}.get(bytes(mvhd[:1]), ("", 0))
    if not layout or len(mvhd) < at + struct.calcsize(layout):
        return None
    scale, ticks = struct.unpack_from(layout, mvhd, at)
    unknown = 0xFFFFFFFF if at == 12 else 0xFFFFFFFFFFFFFFFF
    return ticks / scale if scale and 0 < ticks < unknown else None


def size_of(tkhd: memoryview) -> tuple[int | None, int | None]:
    """Read width and height from a track's header, version 0 or 1: two 16.16 numbers at its end."""
    at = {b"\0": 76, b"\1": 88}.get(bytes(tkhd[:1]), len(tkhd))
    if len(tkhd) < at + 8:
        return None, None
    width, height = struct.unpack_from(">II", tkhd, at)
    return (width >> 16) or None, (height >> 16) or None


def codec_of(tables: dict[bytes, memoryview]) -> str | None:
    """Read the four letters of the first sample description."""
    letters = bytes(tables.get(b"stsd", NOTHING)[12:16])
    return letters.decode("ascii") if len(letters) == 4 and letters.isascii() and letters.strip(b"\0") else None


def end_of_samples(tables: dict[bytes, memoryview]) -> int | None:
    """Tell where in the file the last chunk of a track ends; None where the tables do not say."""
    table, layout = (tables[b"co64"], ">Q") if b"co64" in tables else (tables.get(b"stco", NOTHING), ">I")
    chunk = end = 0
    for number, (offset,) in enumerate(_rows(table, layout), 1):
        if offset >= end:
            chunk, end = number, offset
    length = _length_of(chunk, tables) if chunk else 0
    return None if length is None else end + length


def _length_of(chunk: int, tables: dict[bytes, memoryview]) -> int | None:
    """Add up the sizes of the samples in one chunk; both are numbered from 1."""
    sizes, sample, start, count = tables.get(b"stsz", NOTHING), 1, 1, 0
    for following, next_count, _ in _rows(tables.get(b"stsc", NOTHING), ">III"):
        if following > chunk:
            break
        if following < start:
            return None
        sample += (following - start) * count
        start, count = following, next_count
    if len(sizes) < 12 or not count:
        return None
    sample += (chunk - start) * count
    constant, last = int.from_bytes(sizes[4:8]), min(sample + count - 1, int.from_bytes(sizes[8:12]))
    if constant:
        return max(0, last - sample + 1) * constant
    return int(sum(size for (size,) in struct.iter_unpack(">I", _body(sizes[4:], 4)[4 * sample - 4 : 4 * last])))


def _rows(table: memoryview, layout: str) -> Iterator[tuple[int, ...]]:
    return struct.iter_unpack(layout, _body(table, struct.calcsize(layout)))


def _body(table: memoryview, width: int) -> memoryview:
    """Cut the rows out of a table: version and flags, how many rows, the rows."""
    length = int.from_bytes(table[4:8]) * width
    if len(table) < 8 + length and table:
        raise UnreadableError
    return table[8 : 8 + length]
