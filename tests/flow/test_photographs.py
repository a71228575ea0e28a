"""A real photograph in the forms that cameras and programs give it, the whole way: sent as it is, or refused unpaid.

It is a public-domain portrait of Grace Hopper, 512 x 600, which matplotlib brings along.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kling_async import ImageToVideo, Stage
from kling_async.rules.mp4 import BoxWalk
from tests.flow.harness import outcomes_of, read, world

pytestmark = pytest.mark.looptime

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""The passes of an interlaced PNG: where each begins, across and down, and its steps."""


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """The photograph."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Image.open(Path(spec.submodule_search_locations[0], "mpl-data", "sample_data", "grace_hopper.jpg"))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode a picture."""
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def turned(orientation: int, padding: int = 0) -> Image.Exif:
    """Make an EXIF block that says how the camera was held."""
    block = Image.Exif()
    block[0x0112], block[0x010E] = orientation, "x" * padding
    return block


def interlaced(image: Image.Image) -> bytes:
    """Encode a PNG in seven passes, which Pillow does not write."""
    pixels = np.asarray(image.convert("RGB"))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = [b"\0" + row.tobytes() for x, y, dx, dy in PASSES for row in pixels[y::dy, x::dx]]
    head = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"".join(rows))), chunk(b"IEND", b"")]
    )


def forms(portrait: Image.Image) -> dict[str, bytes]:
    """Return the photograph in every form that the service takes."""
    deep = Image.fromarray(np.asarray(portrait.convert("L")).astype(np.uint16) * 257)
    found = {
        "small": saved(portrait.resize((300, 352)), "jpeg"),
        "large": saved(portrait.resize((3000, 3516)), "jpeg", quality=90),
        "wide": saved(portrait.resize((1500, 600)), "jpeg"),
        "tall": saved(portrait.resize((300, 750)), "png"),
        "progressive": saved(portrait, "jpeg", progressive=True),
        "cmyk": saved(portrait.convert("CMYK"), "jpeg"),
        "grey": saved(portrait.convert("L"), "jpeg"),
        "deep grey png": saved(deep, "png"),
        "palette png": saved(portrait.convert("P"), "png"),
        "clear png": saved(portrait.convert("RGBA"), "png"),
        "interlaced png": interlaced(portrait),
        "long exif": saved(portrait, "jpeg", exif=turned(1, 64_000)),
        "long profile": saved(portrait, "jpeg", icc_profile=bytes(300_000)),
        "two in one": saved(portrait, "mpo", save_all=True, append_images=[portrait.resize((320, 375))]),
    }
    return found | {f"turned {at}": saved(portrait, "jpeg", exif=turned(at)) for at in range(1, 9)}


REFUSED: dict[str, tuple[Callable[[Image.Image], bytes], str]] = {
    "webp": (lambda image: saved(image, "webp"), "WEBP"),
    "gif": (lambda image: saved(image, "gif"), "GIF"),
    "tiff": (lambda image: saved(image, "tiff"), "TIFF"),
    "bmp": (lambda image: saved(image, "bmp"), "BMP"),
    "avif": (lambda image: saved(image, "avif"), "AVIF"),
    "tiny": (lambda image: saved(image.resize((299, 350)), "jpeg"), "299 x 350"),
    "narrow": (lambda image: saved(image.resize((300, 751)), "jpeg"), "2.50 times"),
    "heavy": (lambda image: saved(image.resize((2048, 2400)), "png", compress_level=0), "bytes"),
    "cut off": (lambda image: saved(image, "jpeg", exif=turned(1, 64_000))[:3000], "cut off"),
    "a page": (lambda _: b"<!DOCTYPE html><html><body>Sign in</body></html>", "no image"),
}
"""Forms that the service would fail minutes later, and a word of what is said of each."""


def heic(portrait: Image.Image) -> bytes:
    """Return the beginning of a telephone's photograph of that size."""
    size = b"\0\0\0\x14ispe" + bytes(4) + struct.pack(">II", *portrait.size)
    return b"\0\0\0\x10ftypheic\0\0\0\0" + (8 + len(size)).to_bytes(4) + b"meta" + size + bytes(1000)


async def written(folder: Path, images: dict[str, bytes]) -> list[ImageToVideo]:
    """Write the files, and return a request for each."""

    def write() -> None:
        folder.mkdir()
        for name, content in images.items():
            (folder / name).write_bytes(content)

    await asyncio.get_running_loop().run_in_executor(None, write)
    return [ImageToVideo(folder / name, name, key=name) for name in images]


async def test_every_form_is_sent_as_it_is_and_becomes_a_video_of_its_shape(
    tmp_path: Path, portrait: Image.Image
) -> None:
    """Not a byte is changed on the way: the service has what the file has, and the video is as wide and high."""
    images = forms(portrait)
    async with world(tmp_path / "out", clips="rendered", clip_side=128, durations=5.0) as w:
        rows = await written(tmp_path / "in", images)
        async with w.batch() as batch:
            outcomes = await outcomes_of(batch, rows)
        assert {outcome.stage for outcome in outcomes.values()} == {Stage.DONE}, outcomes
        bought = {purchase.generation_id: purchase for purchase in w.book.purchases.values()}
        for name, outcome in outcomes.items():
            sent = bought[outcome.generation_id]
            assert sent.image_digest == hashlib.sha256(images[name]).hexdigest(), name
            walk = BoxWalk()
            assert outcome.path is not None
            walk.feed(await read(outcome.path))
            facts = walk.finish()
            with Image.open(io.BytesIO(images[name])) as image:
                shape = image.width / image.height
            assert facts.width is not None
            assert facts.height is not None
            assert facts.width / facts.height == pytest.approx(shape, rel=0.06), name
        await w.audit()


async def test_what_the_service_would_fail_is_refused_before_anything_is_paid(
    tmp_path: Path, portrait: Image.Image
) -> None:
    """Each with the words that tell what to do; the rows beside it are none the worse."""
    images = {name: make(portrait) for name, (make, _) in REFUSED.items()} | {"heic": heic(portrait)}
    words = {name: word for name, (_, word) in REFUSED.items()} | {"heic": "HEIC"}
    async with world(tmp_path / "out", durations=5.0) as w:
        rows = await written(tmp_path / "in", {**images, "good": saved(portrait, "jpeg")})
        async with w.batch() as batch:
            outcomes = await outcomes_of(batch, rows)
        assert outcomes.pop("good").stage is Stage.DONE
        assert {name: outcome.stage for name, outcome in outcomes.items()} == dict.fromkeys(images, Stage.FAILED)
        told = {name: str(outcome.error) for name, outcome in outcomes.items()}
        assert {name for name, text in told.items() if words[name] not in text} == set(), told
        assert all(text.startswith("image: ") for text in told.values())
        assert len(w.book.purchases) == 1
        assert w.book.calls["submit"] == 1
