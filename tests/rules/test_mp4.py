"""A whole MP4 is told from a cut one, and from what is none, wherever it is cut and however it comes."""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import NotAVideo, Truncated
from kling_async.rules.mp4 import MOOV_CAP, BoxWalk, Mp4Facts
from kling_async.simulator.clips import read_template

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = {
    "moov behind": {},
    "moov in front": {"movflags": "faststart"},
    "fragments": {"movflags": "frag_every_frame+empty_moov+default_base_moof"},
    "index and fragments": {"movflags": "dash+global_sidx+frag_keyframe"},
}


def film(path: Path, options: dict[str, str]) -> bytes:
    """Encode a real clip of 64 x 48 pixels, with 1.024 s of sound."""
    noise, silence = np.random.default_rng(7), np.zeros((1, 1024), np.float32)
    with av.open(str(path), "w", format="mp4", options=options) as out:
        audio, video = out.add_stream("aac", rate=8000, layout="mono"), out.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            pixels = noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            sound.rate, sound.pts, sound.time_base = 8000, number * 1024, Fraction(1, 8000)
            out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode(None))
    return path.read_bytes()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One real clip for each way in which the boxes may lie."""
    folder = tmp_path_factory.mktemp("clips")
    return {name: film(folder / "clip.mp4", options) for name, options in LAYOUTS.items()}


def box(kind: bytes, *parts: bytes, size: int | None = None) -> bytes:
    """Build a box by hand."""
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload) if size is None else size, kind) + payload


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")
MVHD_1 = box(b"mvhd", b"\1\0\0\0", struct.pack(">QQIQ", 0, 0, 1000, 5042), bytes(80))
TKHD_1 = box(b"tkhd", b"\1\0\0\7", bytes(84), struct.pack(">II", 640 << 16, 360 << 16))


def moov(*, mvhd: bytes = MVHD_1, tkhd: bytes = TKHD_1, handler: bytes = b"vide", stbl: bytes = b"") -> bytes:
    """Build an index by hand."""
    stsd = box(b"stsd", struct.pack(">II", 0, 1), box(b"hvc1", bytes(78)))
    media = box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(13)), box(b"minf", box(b"stbl", stsd, stbl)))
    return box(b"moov", mvhd, box(b"trak", tkhd, media))


def walk(*pieces: bytes | bytearray | memoryview) -> Mp4Facts:
    """Feed a whole file."""
    walked = BoxWalk()
    for piece in pieces:
        walked.feed(piece)
    return walked.finish()


def verdict(*pieces: bytes | bytearray) -> str:
    """Tell `whole`, or the name of the error; any other exception comes through."""
    try:
        walk(*pieces)
    except (NotAVideo, Truncated) as error:
        return type(error).__name__
    return "whole"


def tops(data: bytes) -> list[tuple[int, bytes]]:
    """List where each top-level box begins."""
    ends = [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + int.from_bytes(data[ends[-1] : ends[-1] + 4]))
    return [(at, data[at + 4 : at + 8]) for at in ends[:-1]]


def open_ended(data: bytes) -> bytes:
    """Give the last `mdat` the size 0, "to the end of the file"."""
    at = next(at for at, kind in reversed(tops(data)) if kind == b"mdat")
    return data[:at] + bytes(4) + data[at + 4 :]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_real_clip_is_whole(clips: dict[str, bytes], layout: str) -> None:
    """Wherever the index lies, the facts are those that PyAV wrote."""
    facts = walk(clips[layout])
    assert (facts.width, facts.height, facts.codec) == (64, 48, "avc1")
    assert facts.duration == (1.024 if layout.startswith("moov") else None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_clip_is_never_whole(clips: dict[str, bytes], layout: str) -> None:
    """Cut at every single byte: only a cut between two complete fragments cannot be told."""
    data, needed = clips[layout], {b"ftyp", b"moov", b"mdat"}
    ends, kinds = zip(*tops(data), strict=True)
    harmless = {at for n, at in enumerate(ends) if {*kinds[:n]} >= needed and kinds[n - 1] != b"moof"}
    assert bool(harmless) == (not layout.startswith("moov"))
    assert {cut for cut in range(len(data)) if verdict(data[:cut]) == "whole"} == harmless


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30)
@given(st.data())
def test_the_pieces_do_not_matter(clips: dict[str, bytes], layout: str, data: st.DataObject) -> None:
    """A file cut into pieces of any size has the verdict of the file as one, and so has a cut file."""
    clip = clips[layout]
    clip = clip[: data.draw(st.one_of(st.just(len(clip)), st.integers(0, len(clip))))]
    cuts = sorted(data.draw(st.lists(st.integers(0, min(len(clip), 2000)), max_size=20)))
    pieces = [clip[start:end] for start, end in zip([0, *cuts], [*cuts, len(clip)], strict=True)]
    assert verdict(*pieces) == verdict(clip) == verdict(*(clip[at : at + 1] for at in range(len(clip))))


def test_any_buffer_can_be_fed(clips: dict[str, bytes]) -> None:
    """HTTP libraries and files give pieces of different types."""
    data = clips["moov behind"]
    assert walk(bytearray(data)) == walk(memoryview(data).cast("b")) == walk(data)


def test_a_last_box_without_a_size_is_told_by_the_index(clips: dict[str, bytes]) -> None:
    """Size 0 is "to the end of the file"; the tables in `moov` know where the last sample ends, to the byte."""
    data = open_ended(clips["moov in front"])
    assert verdict(data) == "whole"
    assert {verdict(data[:cut]) for cut in range(data.index(b"mdat"), len(data))} == {"Truncated"}


def index_of(start: int, *, wide: bool, constant: int) -> bytes:
    """Build an index of three chunks with 2, 1 and 1 samples of 50 bytes, the second one last in the file."""
    offsets = struct.pack(">II3Q" if wide else ">II3I", 0, 3, start, start + 150, start + 100)
    chunks = box(b"stsc", struct.pack(">8I", 0, 2, 1, 2, 1, 2, 1, 1))
    sizes = struct.pack(">III", 0, constant, 4) + (b"" if constant else struct.pack(">4I", *[50] * 4))
    return moov(stbl=box(b"co64" if wide else b"stco", offsets) + chunks + box(b"stsz", sizes))


@pytest.mark.parametrize(("wide", "constant"), [(False, 0), (False, 50), (True, 0), (True, 50)])
def test_samples_behind_the_end_are_missed(wide: bool, constant: int) -> None:  # noqa: FBT001
    """Complete boxes are not enough: what the index speaks of must lie within the file."""
    start = len(FTYP + index_of(0, wide=wide, constant=constant)) + 8
    assert verdict(FTYP, index_of(start, wide=wide, constant=constant), box(b"mdat", bytes(200))) == "whole"
    with pytest.raises(Truncated, match=": 1 bytes are missing"):
        walk(FTYP, index_of(start + 1, wide=wide, constant=constant), box(b"mdat", bytes(200)))


def test_a_large_size_is_read(clips: dict[str, bytes]) -> None:
    """A 64-bit size is what long videos have; every cut of it is told too."""
    data = clips["moov behind"]
    (free, _), (mdat, _), (end, _) = tops(data)[1:]
    wide = data[:free] + struct.pack(">I4sQ", 1, b"mdat", 8 + end - mdat) + data[mdat + 8 : end] + data[end:]
    assert walk(wide) == walk(data)
    assert all(verdict(wide[:cut]) != "whole" for cut in range(free, free + 40))


def test_extra_boxes_are_passed_over() -> None:
    """Unknown boxes, `uuid`, boxes behind `moov`, and some before `ftyp` are legal."""
    extras = box(b"uuid", bytes(16)) + box(b"free") + box(b"beam", b"<html>")
    assert verdict(box(b"free"), FTYP, extras, box(b"mdat", b"x"), extras, moov(), extras) == "whole"


def test_zeros_behind_the_last_box_are_padding() -> None:
    """Eight zeros or more are padding; fewer may be a header that was cut."""
    data = FTYP + moov() + box(b"mdat", b"x")
    assert [verdict(data, bytes(count)) for count in (0, 8, 9, 70_000)] == ["whole"] * 4
    assert {verdict(data, bytes(count)) for count in range(1, 8)} == {"Truncated"}


@pytest.mark.parametrize("tail", [b"\r\n", b"\xff" * 8, b"<html><b", bytes(8) + b"x", FTYP, bytes(3) + b"\7free"])
def test_other_bytes_behind_the_last_box_are_no_padding(tail: bytes) -> None:
    """Neither a line's end, nor a web page, nor a second file."""
    assert verdict(FTYP, moov(), box(b"mdat", b"x"), tail) != "whole"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "WebM"),
        (b"\xef\xbb\xbf\r\n<html>", "a web page"),
        (b'{"error": 1}', "JSON"),
        (b"not found", "it begins with b'not foun'"),
        (box(b"ftyp", size=7), "'ftyp' box at byte 0 says that it has 7 bytes"),
        (FTYP + box(b"moov", size=0), "'moov' box at byte 24"),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 15), "15 bytes, which cannot be"),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 1 << 63), "which cannot be"),
        (FTYP + b"\0\0\1\0\0\1\2\3", "bytes at byte 24 that begin no box"),
        (FTYP + FTYP, "a second 'ftyp' box at byte 24"),
    ],
)
def test_what_is_no_mp4_is_told_at_once(start: bytes, words: str) -> None:
    """The first header is enough, and the message says what came instead."""
    with pytest.raises(NotAVideo) as caught:
        BoxWalk().feed(start)
    assert words in str(caught.value)


def test_a_file_that_hardly_began_is_judged_by_its_first_byte() -> None:
    """Foreign words are no MP4, even without a header; too few bytes, or none, are Truncated."""
    assert {verdict(text) for text in (b"null", b"{}", b"<br>", b"oops")} == {"NotAVideo"}
    assert {verdict(FTYP[:count]) for count in range(8)} == {"Truncated"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FTYP, "no 'moov' and no 'mdat' box"),
        (FTYP + box(b"mdat", b"x"), "no 'moov' box"),
    ],
)
def test_a_part_that_is_missing_is_named(data: bytes, words: str) -> None:
    """Complete boxes alone are no video."""
    with pytest.raises(NotAVideo) as caught:
        walk(data)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("index", "facts"),
    [
        (moov(handler=b"soun"), Mp4Facts(5.042)),
        (box(b"moov"), Mp4Facts()),
        (box(b"moov", b"noise, not boxes"), Mp4Facts()),
        (moov(stbl=box(b"stco", bytes(7) + b"\x09")), Mp4Facts()),
    ],
)
def test_an_index_that_tells_nothing_is_kept(index: bytes, facts: Mp4Facts) -> None:
    """A whole file was paid for, whatever its index holds: it is kept, and what it does not tell stays unknown."""
    assert walk(FTYP + index + box(b"mdat", b"x")) == facts


def test_how_much_is_missing_is_told() -> None:
    """With the figures, and the box that they belong to."""
    words = "after 1,032 bytes, but its 'mdat' box goes on to byte 2,032: 1,000 bytes are missing"
    with pytest.raises(Truncated, match=words) as caught:
        walk(FTYP, box(b"mdat", bytes(2000))[:1008])
    assert (caught.value.expected, caught.value.got) == (None, 1032)


def test_both_versions_of_the_headers_are_read() -> None:
    """Version 1 has wider fields."""
    mvhd = box(b"mvhd", bytes(4), struct.pack(">IIII", 0, 0, 600, 3000), bytes(80))
    tkhd = box(b"tkhd", bytes(76), struct.pack(">II", 1280 << 16, 720 << 16))
    assert walk(FTYP, moov(), box(b"mdat")) == Mp4Facts(5.042, 640, 360, "hvc1")
    assert walk(FTYP, moov(mvhd=mvhd, tkhd=tkhd), box(b"mdat")) == Mp4Facts(5.0, 1280, 720, "hvc1")


@pytest.mark.parametrize(
    "payload", [b"", b"\2" + bytes(99), bytes(100), bytes(15) + b"\1" + b"\xff" * 4, bytes(16) + b"\1" * 4]
)
def test_facts_that_cannot_be_read_are_unknown(payload: bytes) -> None:
    """A short, newer or empty header costs no video: it was paid for."""
    facts = walk(FTYP, moov(mvhd=box(b"mvhd", payload), tkhd=box(b"tkhd", payload[:90])), box(b"mdat"))
    assert facts == Mp4Facts(codec="hvc1")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_never_raises_anything_else(clips: dict[str, bytes], layout: str) -> None:
    """Thousands of clips with a few bytes changed, most of them in the index, and with parts lost or doubled."""
    data, dice = clips[layout], random.Random(layout)
    index = next(at for at, kind in tops(data) if kind == b"moov")
    for _ in range(2000):
        hurt = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            hurt[index + dice.randrange(1200)] = dice.choice([0, 1, 0x7F, 0xFF, dice.randrange(256)])
        at, end = sorted(dice.choices(range(len(hurt)), k=2))
        hurt[at:end] = hurt[at:end] * dice.choice([0, 1, 1, 1, 2])
        assert verdict(hurt) in {"whole", "NotAVideo", "Truncated"}


@given(st.sampled_from([b"", FTYP, FTYP + moov()]), st.binary())
def test_noise_is_never_whole(start: bytes, noise: bytes) -> None:
    """Noise is no MP4, not even behind a true beginning."""
    assert verdict(start, noise) != "whole"


def test_memory_does_not_grow_with_the_video() -> None:
    """A terabyte of `mdat` costs a header and a counter."""
    piece = bytes(1 << 20)
    tracemalloc.start()
    assert verdict(FTYP + moov() + struct.pack(">I4sQ", 1, b"mdat", 1 << 40), *[piece] * 10_000) == "Truncated"
    assert tracemalloc.get_traced_memory()[1] < len(piece)
    tracemalloc.stop()


def test_memory_does_not_grow_with_the_boxes() -> None:
    """A host that sends empty boxes without end, each of another kind, fills no memory."""
    kinds = (struct.pack(">I4B", 8, *kind) for kind in itertools.product(range(65, 90), repeat=4))
    many = b"".join(itertools.islice(kinds, 50_000))
    tracemalloc.start()
    assert verdict(FTYP + moov() + box(b"mdat", b"x"), many) == "whole"
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [b"free", b"trak"])
def test_an_index_of_countless_boxes_is_not_read(kind: bytes) -> None:
    """It is a whole file, and kept; half a million boxes are gone through in no time, and none of them is kept."""
    walked = BoxWalk()
    walked.feed(FTYP + box(b"moov", box(kind) * 500_000) + box(b"mdat", b"x"))
    tracemalloc.start()
    assert walked.finish() == Mp4Facts()
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_box_without_a_size_needs_an_index_that_vouches_for_it(clips: dict[str, bytes]) -> None:
    """Fragments have no such tables, and those of an index beyond the cap are not read."""
    data, (appendix, _) = open_ended(clips["fragments"]), tops(clips["fragments"])[-1]
    assert verdict(data[:appendix]) == "Truncated"
    index = [struct.pack(">I4s", MOOV_CAP + 8, b"moov"), bytes(MOOV_CAP)]
    assert walk(FTYP, *index, box(b"mdat")) == Mp4Facts()
    assert verdict(FTYP, *index, box(b"mdat", size=0), b"data") == "Truncated"


def edges(data: bytes, start: int = 0, end: int | None = None) -> list[int]:
    """List where each box begins, those inside of `moov` too."""
    at, found = start, []
    while at + 8 <= (len(data) if end is None else end):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        found.append(at)
        if kind in {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta"}:
            found += edges(data, at + 8, at + size)
        at += max(8, size)
    return found


@pytest.mark.parametrize("seconds", [5, 10])
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_served_clip_that_was_cut_or_flipped_raises_nothing_else(seconds: int, data: st.DataObject) -> None:
    """Cut at the edge of any box, or one byte beside it, it is not whole; with bits flipped anywhere, it is judged."""
    whole = _served(seconds)
    assert verdict(whole) == "whole"
    cut = data.draw(st.sampled_from(edges(whole))) + data.draw(st.integers(-1, 8))
    assert verdict(whole[: max(0, min(cut, len(whole) - 1))]) in {"Truncated", "NotAVideo"}
    hurt = bytearray(whole)
    for bit in data.draw(st.lists(st.integers(0, 8 * len(hurt) - 1), min_size=1, max_size=20)):
        hurt[bit // 8] ^= 1 << bit % 8
    assert verdict(hurt) in {"whole", "Truncated", "NotAVideo"}


@cache
def _served(seconds: int) -> bytes:
    return read_template(seconds).stamped("gen-1")
