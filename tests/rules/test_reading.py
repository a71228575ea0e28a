"""What a file is, and what is wrong with it: each fault by its name, and the first of several."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.rules.reading import Reading, fault_of
from kling_async.types.outcome import FileFacts, FileFault
from kling_async.types.record import Record, Stage
from kling_async.types.request import ImageToVideo


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


WHOLE = box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", bytes(range(200))) + box(b"moov", box(b"mvhd", bytes(100)))
ROW = Record(
    "k",
    "k.mp4",
    ImageToVideo("a.png"),
    "w" * 64,
    Stage.DONE,
    size=len(WHOLE),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
)


def facts_of(*pieces: bytes) -> FileFacts:
    reading = Reading()
    for piece in pieces:
        reading.feed(memoryview(piece))
    return reading.facts()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=5))
def test_pieces_of_any_size_are_one_file(cuts: list[int]) -> None:
    """Size, digest and boxes are those of the whole."""
    edges = [0, *sorted(cuts), len(WHOLE)]
    facts = facts_of(*(WHOLE[start:end] for start, end in pairwise(edges)))
    assert facts == FileFacts(len(WHOLE), ROW.sha256 or "")
    assert fault_of(ROW, facts) is None


@pytest.mark.parametrize("end", range(0, len(WHOLE), 7))
def test_a_cut_file_is_never_whole_and_is_read_to_its_end(end: int) -> None:
    """Wherever it was cut; its size and digest are told all the same, and the size is its fault."""
    facts = facts_of(WHOLE[:end])
    assert (facts.size, facts.sha256) == (end, hashlib.sha256(WHOLE[:end]).hexdigest())
    assert facts.fault
    assert fault_of(ROW, facts) == (
        FileFault.SIZE,
        f"it has {end} bytes, not the {len(WHOLE)} that came; {facts.fault}",
    )


def test_what_is_no_video_is_digested_all_the_same() -> None:
    """Its boxes end at the first piece; its digest does not."""
    page = b"<html>" * 100
    facts = facts_of(page[:300], page[300:])
    assert (facts.size, facts.sha256) == (600, hashlib.sha256(page).hexdigest())
    assert "a web page" in (facts.fault or "")


def test_each_fault_has_its_name() -> None:
    """No file; other bytes of the same number; and the very bytes that came, of a file that is not whole."""
    facts = facts_of(WHOLE)
    other = evolve(facts, sha256="0" * 64)
    broken = evolve(facts, fault="its mdat box is cut")
    assert fault_of(ROW, None) == (FileFault.MISSING, "there is no such file")
    assert fault_of(ROW, other) == (FileFault.DIGEST, "its bytes are not those that came")
    assert fault_of(ROW, broken) == (FileFault.BROKEN, "its mdat box is cut")
    assert (fault_of(ROW, evolve(other, fault="no moov")) or ("",))[0] is FileFault.DIGEST


def test_another_whole_video_is_a_fault() -> None:
    """It is not the one that was paid for; nor is any where the journal knows no digest."""
    another = WHOLE.replace(bytes([7, 8]), bytes([8, 7]))
    assert (fault_of(ROW, facts_of(another)) or ("",))[0] is FileFault.DIGEST
    assert fault_of(evolve(ROW, size=None, sha256=None), facts_of(WHOLE)) is not None
