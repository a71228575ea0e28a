"""What an image is, and whether the service would take it."""

from __future__ import annotations

import io
import math
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from kling_async.errors import Issue
from kling_async.rules import images
from kling_async.rules.images import ImageFacts, NeedMore, Reading, Unreadable, check_image, check_masks, read_facts

FORMATS = ["jpeg", "png", "gif", "webp", "bmp", "tiff", "avif"]
SIDES = st.integers(1, 400)


def draw(name: str, width: int = 321, height: int = 456, *, mode: str = "RGB", **options: Any) -> bytes:
    """Encode a real picture."""
    target = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(target, name, **options)
    return target.getvalue()


def facts(width: int, height: int, name: str = "png", orientation: int = 1) -> ImageFacts:
    """Describe a picture that was never drawn."""
    return ImageFacts(name, f"image/{name}", width, height, orientation)


def read_in_steps(data: bytes) -> tuple[Reading, int]:
    """Read as an adapter does: from a few bytes on, exactly as many as are asked for."""
    given_bytes = 16
    reading = read_facts(data[:given_bytes])
    while isinstance(reading, NeedMore):
        assert reading.at_least > given_bytes
        if reading.at_least > len(data):
            break
        given_bytes = reading.at_least
        reading = read_facts(data[:given_bytes])
    return reading, given_bytes


def exif(orientation: int, padding: int = 0) -> Image.Exif:
    """Make an EXIF block as large as a camera's, with its preview."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = "x" * padding
    return block


@pytest.mark.parametrize("name", FORMATS)
def test_real_images_are_read(name: str) -> None:
    """Format, media type and size of what Pillow writes are told."""
    data = draw(name)
    assert read_facts(data) == ImageFacts(name, f"image/{name}", 321, 456)
    assert images.sniff(data[: images.SNIFF_BYTES]) == f"image/{name}"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jpeg", {"progressive": True}),
        ("jpeg", {"mode": "L"}),
        ("jpeg", {"mode": "CMYK"}),
        ("jpeg", {"icc_profile": bytes(200_000)}),
        ("jpeg", {"comment": b"\xff\xc0" * 1000}),
        ("png", {"mode": "P"}),
        ("png", {"mode": "RGBA"}),
        ("png", {"mode": "1"}),
        ("webp", {"lossless": True}),
        ("webp", {"mode": "RGBA"}),
        ("webp", {"icc_profile": bytes(100)}),
        ("bmp", {"mode": "L"}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"big_tiff": False, "mode": "L"}),
    ],
)
def test_variants_of_a_format_are_read(name: str, options: dict[str, Any]) -> None:
    """Progressive, grey, indexed, lossless, and with large profiles."""
    assert read_facts(draw(name, **options)) == ImageFacts(name, f"image/{name}", 321, 456)


def test_an_interlaced_png_is_read() -> None:
    """Interlacing is a flag behind the size."""
    data = bytearray(draw("png"))
    data[28] = 1
    assert read_facts(bytes(data)) == facts(321, 456)


def test_a_bmp_may_be_stored_from_the_top() -> None:
    """Its height is negative then."""
    data = draw("bmp")
    assert read_facts(data[:22] + (-456).to_bytes(4, "little", signed=True) + data[26:]) == facts(321, 456, "bmp")


def test_tables_before_the_frame_of_a_jpeg_are_passed_over() -> None:
    """Huffman and arithmetic tables have numbers among those of the frames."""
    data = draw("jpeg")
    tables = b"\xff\xc4\0\x08abcdef\xff\xcc\0\x08abcdef\xff\xff"
    assert read_facts(data[:2] + tables + data[3:]) == read_facts(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_tells_how_it_is_turned(orientation: int) -> None:
    """The stored size stands; the orientation is told beside it."""
    assert read_facts(draw("jpeg", exif=exif(orientation))) == facts(321, 456, "jpeg", orientation)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    """Cameras write 0; that is upright."""
    assert read_facts(draw("jpeg", exif=exif(orientation))) == facts(321, 456, "jpeg")


@pytest.mark.parametrize("options", [{}, {"exif": exif(6, 60_000)}, {"icc_profile": bytes(300_000)}])
def test_no_more_is_asked_for_than_the_header(options: dict[str, Any]) -> None:
    """Reading in exact steps ends at the facts, and before the picture's data."""
    data = draw("jpeg", 2000, 1000, **options)
    reading, read = read_in_steps(data)
    assert reading == read_facts(data)
    assert isinstance(reading, ImageFacts)
    assert read < data.index(b"\xff\xda")


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_image_is_never_misread(name: str) -> None:
    """Any beginning gives the true facts or asks for more; more bytes never change facts that were told."""
    data = draw(name, exif=exif(6)) if name == "jpeg" else draw(name)
    whole = read_facts(data)
    readings = [read_facts(data[:length]) for length in range(min(len(data), 3000))]
    assert all(reading == whole or isinstance(reading, NeedMore) for reading in readings)
    assert all(later == whole for earlier, later in pairwise(readings) if earlier == whole)


@pytest.mark.parametrize("name", FORMATS)
def test_to_need_more_is_to_need_more_than_was_given(name: str) -> None:
    """Whoever reads what is asked for gets on, and gets there."""
    reading, _ = read_in_steps(draw(name))
    assert isinstance(reading, ImageFacts)


@pytest.mark.parametrize(
    "data",
    [b"<!DOCTYPE html><html><body>" * 9, b'{"error": "none"}' * 9, b"%PDF-1.7" * 9, bytes(99), b"BM" + b"x" * 99],
)
def test_what_is_no_image_is_told(data: bytes) -> None:
    """A web page under an image's name is found before it is sent."""
    assert images.sniff(data) is None
    assert read_facts(data) == Unreadable("it begins like no image that is known")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xd9" + bytes(40),
        b"\xff\xd8\xff\xda\0\x02" + bytes(40),
        b"\xff\xd8\xff\xe0\0\x00" + bytes(40),
        b"\xff\xd8\xff\xe0\0\x02\x12" + bytes(40),
        b"\xff\xd8\xff\xc0\0\x11\x08" + bytes(40),
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + bytes(40),
        b"II+\0" + bytes(40),
        b"RIFF\0\0\0\0WEBPVP9 " + bytes(40),
        b"\0\0\0\x10ftypheic\0\0\0\0" + bytes(40),
        b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\x10meta" + bytes(40),
    ],
)
def test_a_damaged_header_is_told(data: bytes) -> None:
    """An image without a size is refused in words."""
    reading = read_facts(data)
    assert isinstance(reading, Unreadable)
    assert "header" in reading.reason


def test_the_largest_size_in_a_heic_is_the_picture() -> None:
    """A photograph of a telephone is a grid of tiles with a preview."""
    sizes = b"".join(
        b"\0\0\0\x14ispe" + bytes(4) + w.to_bytes(4) + h.to_bytes(4) for w, h in [(512, 512), (4032, 3024)]
    )
    data = b"\0\0\0\x10ftypheic\0\0\0\0" + (8 + len(sizes)).to_bytes(4) + b"meta" + sizes
    assert read_facts(data) == facts(4032, 3024, "heic")


@settings(max_examples=300)
@given(st.sampled_from(FORMATS), st.data())
def test_damage_never_raises(name: str, data: st.DataObject) -> None:
    """Any bytes at all give one of the three answers, and facts are never empty."""
    image = bytearray(draw(name, 40, 30)[:600])
    for at in data.draw(st.lists(st.integers(0, len(image) - 1), max_size=8)):
        image[at] = data.draw(st.integers(0, 255))
    reading = read_facts(bytes(image))
    assert not isinstance(reading, ImageFacts) or (reading.width > 0 and reading.height > 0)
    assert not isinstance(reading, NeedMore) or reading.at_least > len(image)


@given(st.sampled_from([b"", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"RIFF1234WEBP", b"\0\0\0\x10ftypavif"]), st.binary())
def test_noise_never_raises(magic: bytes, noise: bytes) -> None:
    """Noise behind a true beginning gives one of the three answers."""
    assert isinstance(read_facts(magic + noise), Reading)


@given(st.integers(300, 3000), st.floats(0.4, 2.5), st.sampled_from(["jpeg", "png"]), st.integers(0, 10 * 2**20))
@example(300, 2.5, "jpeg", 10 * 2**20)
def test_an_image_within_the_limits_passes(short: int, ratio: float, name: str, size: int) -> None:
    """What the service takes is not refused by us."""
    long = math.floor(short * max(ratio, 1 / ratio))
    sides = (long, short) if ratio > 1 else (short, long)
    assert check_image("image", facts(*sides, name), size) == []


@pytest.mark.parametrize(
    ("image", "size", "word"),
    [
        (facts(299, 400), 1, "299 x 400"),
        (facts(400, 299), 1, "at least"),
        (facts(751, 300), 1, "2.50 times"),
        (facts(300, 800), 1, "2.67 times"),
        (facts(500, 500), 10 * 2**20 + 1, "10,485,761 bytes"),
        (facts(500, 500, "webp"), 1, "WEBP"),
        (facts(500, 500, "heic"), 1, "convert"),
    ],
)
def test_each_limit_is_told(image: ImageFacts, size: int, word: str) -> None:
    """An issue names the field, the figure, and what to do."""
    (issue,) = check_image("image", image, size)
    assert issue.field == "image"
    assert word in issue.message


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Format, size, sides and aspect ratio in one go."""
    assert len(check_image("image", facts(100, 900, "gif"), 11 * 2**20)) == 4


def test_a_tail_may_have_any_aspect_ratio() -> None:
    """The service limits a tail's size and sides alone."""
    assert images.check_tail("tail_image", facts(300, 3000), 1) == []
    assert [issue.field for issue in images.check_tail("tail_image", facts(299, 3000, "bmp"), 1)] == ["tail_image"] * 2


@given(SIDES, SIDES, st.fractions(1, 20), st.sampled_from([math.floor, math.ceil, round]))
def test_a_scaled_mask_fits(width: int, height: int, scale: Any, rounded: Any) -> None:
    """However a scaled side was rounded."""
    image = facts(rounded(width * scale), rounded(height * scale))
    mask = facts(width, height)
    assert check_masks(image, [("static_mask", mask)]) == []
    assert check_masks(mask, [("static_mask", image)]) == []


@pytest.mark.parametrize(("width", "height"), [(1000, 990), (900, 1000), (1600, 900), (100, 110)])
def test_a_mask_of_another_shape_is_told(width: int, height: int) -> None:
    """A visible difference of shape is found."""
    (issue,) = check_masks(facts(1000, 1000), [("static_mask", facts(width, height))])
    assert issue.field == "static_mask"
    assert f"{width} x {height}" in issue.message


def test_a_mask_may_fit_the_photograph_as_it_is_seen() -> None:
    """The mask of a photograph that is stored on its side may be upright."""
    mask = [("static_mask", facts(300, 400))]
    assert check_masks(facts(4000, 3000, "jpeg", 6), mask) == []
    assert len(check_masks(facts(4000, 3000, "jpeg", 1), mask)) == 1


def test_masks_of_different_sizes_are_told() -> None:
    """Each mask that differs from the first is named."""
    masks = [("static_mask", facts(500, 500)), ("a", facts(500, 500)), ("b", facts(400, 400))]
    assert check_masks(facts(1000, 1000), masks) == [
        Issue("b", "is 400 x 400 pixels and static_mask is 500 x 500: give all masks the same size")
    ]


def test_no_masks_no_issues() -> None:
    """Most requests have none."""
    assert check_masks(facts(1000, 1000), []) == []


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_a_large_head_with_flipped_bits_never_raises(name: str, data: st.DataObject) -> None:
    """With a camera's blocks before the picture, flipped anywhere and cut anywhere, read as an adapter reads."""
    image = bytearray(_with_large_head(name))
    for bit in data.draw(st.lists(st.integers(0, 8 * min(len(image), 5000) - 1), max_size=20)):
        image[bit // 8] ^= 1 << bit % 8
    reading, given_bytes = read_in_steps(bytes(image[: data.draw(st.integers(16, len(image)))]))
    assert isinstance(reading, Reading)
    assert given_bytes <= len(image)
    assert not isinstance(reading, ImageFacts) or (reading.width > 0 and reading.height > 0)


@cache
def _with_large_head(name: str) -> bytes:
    profile = {"icc_profile": bytes(2000)}
    options: dict[str, dict[str, Any]] = {"jpeg": {"exif": exif(6, 3000), **profile}, "webp": profile}
    return draw(name, 60, 80, **options.get(name, {}))
