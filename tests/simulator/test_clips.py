"""Clips are real videos, made from the image, and no two are the same."""

from __future__ import annotations

import base64
import io
import sys
from typing import TYPE_CHECKING, NamedTuple

import av
import pytest
from PIL import Image

from kling_async.simulator import Fault, FaultPlan
from kling_async.simulator.clips import Master, free_box, read_template, render

if TYPE_CHECKING:
    from tests.simulator.conftest import Visit

RED, BLUE = (200, 40, 40), (40, 40, 200)


def picture(size: tuple[int, int] = (600, 400), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Return the file of an image whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    file = io.BytesIO()
    image.convert(mode).save(file, kind)
    return file.getvalue()


def uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


class Film(NamedTuple):
    """What a player finds in a clip."""

    duration: float
    codec: str
    pixels: str
    size: tuple[int, int]
    title: str
    frames: list[Image.Image]


def play(clip: bytes) -> Film:
    """Decode every frame, refusing any damage."""
    with av.open(io.BytesIO(clip), "r", options={"err_detect": "explode"}) as container:
        stream = container.streams.video[0]
        frames = [frame.to_image() for frame in container.decode(stream)]  # type: ignore[no-untyped-call]
        assert container.duration is not None
        return Film(
            container.duration / av.time_base,
            stream.codec_context.name,
            str(stream.codec_context.pix_fmt),
            (stream.codec_context.width, stream.codec_context.height),
            container.metadata["title"],
            frames,
        )


def rendered(image: bytes, prompt: str = "a caption", duration: int = 5, side: int = 256) -> bytes:
    clip = render(image, prompt, duration, side=side, rate=6)
    assert clip is not None
    return clip


@pytest.mark.parametrize("duration", [5, 10])
def test_rendering_plays(duration: int) -> None:
    """A rendered clip is H.264 in yuv420p, as long as asked for, in the image's shape, its index in front."""
    clip = rendered(picture(), duration=duration)
    film = play(clip)
    assert film.duration == pytest.approx(duration, abs=0.05)
    assert (film.codec, film.pixels, film.size) == ("h264", "yuv420p", (256, 170))
    assert clip.index(b"moov") < clip.index(b"mdat")
    assert len(film.frames) == duration * 6


def test_rendering_shows_the_image() -> None:
    """The picture is the image's, in its colours; the view moves; the caption stands below."""
    film = play(rendered(picture()))
    first, last = film.frames[0], film.frames[-1]
    for place, colour in (((20, 50), RED), ((240, 50), BLUE)):
        assert first.getpixel(place) == pytest.approx(colour, abs=16)
    assert first.tobytes() != last.tobytes()
    band = first.convert("L").crop((0, 142, 256, 168))
    assert {value < 40 for value in band.tobytes()} == {True, False}
    assert max(band.tobytes()) > 180


@pytest.mark.parametrize(
    "prompt", ["", "   ", "日本語のキャプション", "emoji 🎬 \x00 \ud800", "x" * 2_500, "two\nlines"]
)
def test_any_caption(prompt: str) -> None:
    """Any prompt can be drawn, as well as the fonts at hand allow."""
    assert len(play(rendered(picture(), prompt)).frames) == 30


@pytest.mark.parametrize(
    ("size", "kind", "mode"),
    [
        ((300, 750), "PNG", "RGB"),
        ((2_000, 800), "JPEG", "RGB"),
        ((301, 303), "PNG", "RGBA"),
        ((500, 400), "PNG", "L"),
        ((500, 400), "PNG", "P"),
        ((400, 400), "JPEG", "CMYK"),
        ((2_000, 10), "PNG", "RGB"),
        ((1, 1), "PNG", "RGB"),
    ],
)
def test_any_image(size: tuple[int, int], kind: str, mode: str) -> None:
    """Images of any shape and mode make a clip."""
    assert len(play(rendered(picture(size, kind, mode))).frames) == 30


@pytest.mark.parametrize("image", [b"", b"not an image", picture()[:200], b"\x89PNG\r\n\x1a\n"])
def test_no_image(image: bytes) -> None:
    """What is no image makes no clip."""
    assert render(image, "p", 5, side=256, rate=6) is None


@pytest.mark.parametrize("module", ["av", "PIL"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Without the extra there are no renderings."""
    image = picture()
    monkeypatch.setitem(sys.modules, module, None)
    assert render(image, "p", 5, side=256, rate=6) is None


def test_rendering_repeats_itself() -> None:
    """The same image, prompt and duration make the same clip."""
    assert rendered(picture()) == rendered(picture())


@pytest.mark.parametrize("duration", [5, 10])
def test_templates_play(duration: int) -> None:
    """The packaged clips are small, real videos of the durations sold."""
    master = read_template(duration)
    film = play(master.stamped("id"))
    assert master.size < 30_000
    assert film.duration == pytest.approx(duration, abs=0.05)
    assert (film.codec, film.pixels) == ("h264", "yuv420p")


def test_stamps_differ() -> None:
    """Each generation and each edition has its own bytes and title, at the same length."""
    master = read_template(5)
    clips = [master.stamped("a"), master.stamped("b"), master.stamped("a", 1)]
    assert len(set(clips)) == 3
    assert {len(clip) for clip in clips} == {master.size}
    assert len({play(clip).title for clip in clips}) == 3


def test_master_needs_a_blank_title() -> None:
    """A clip without a blank title cannot be stamped."""
    with pytest.raises(ValueError, match="blank title"):
        Master.cut(read_template(5).stamped("id"))


@pytest.mark.parametrize("size", [0, -5, 1, 8, 5_000])
def test_free_box(size: int) -> None:
    """The filling is a box of its own, at least 8 bytes long."""
    box = free_box(size)
    assert len(box) == (max(8, size) if size > 0 else 0)
    assert not box or int.from_bytes(box[:4]) == len(box)


def test_filled_clip_plays() -> None:
    """A clip that was filled up plays as before."""
    clip = read_template(5).stamped("id", at_least=200_000)
    assert len(clip) == 200_000
    assert len(play(clip).frames) == 40


# ------------------------------------------------------------ from the service


@pytest.fixture
def ten_seconds() -> Master:
    """The packaged clip of 10 s, read before the loop runs."""
    return read_template(10)


@pytest.fixture
def red_and_blue() -> Master:
    """What the service makes of the picture and the prompt `a`, made before the loop runs."""
    return Master.cut(rendered(picture(), "a"))


@pytest.mark.looptime
async def test_served_rendering(visit: Visit) -> None:
    """The service renders the submitted image; two generations of one request differ in their bytes alone."""
    async with visit(clips="rendered") as visitor:
        values = [await visitor.finished(image_url=uri(picture())) for _ in range(2)]
        bodies = [(await visitor.fetch(value["video"]["url"])).body for value in values]
        films = [play(body) for body in bodies]
        assert bodies[0] != bodies[1]
        assert [film.size for film in films] == [(256, 170)] * 2
        assert films[0].frames[0].tobytes() == films[1].frames[0].tobytes()


@pytest.mark.looptime
@pytest.mark.parametrize("image_url", ["https://images.example/a.png", uri(b"no image")])
async def test_served_template_instead(visit: Visit, ten_seconds: Master, image_url: str) -> None:
    """An image that is given by its URL, or cannot be read, gets a packaged clip of the right duration."""
    async with visit(clips="rendered") as visitor:
        value = await visitor.finished(image_url=image_url, duration=10)
        body = (await visitor.fetch(value["video"]["url"])).body
        assert body == ten_seconds.stamped(value["id"])


@pytest.mark.looptime
async def test_little_memory(visit: Visit, red_and_blue: Master) -> None:
    """With little memory, renderings lie on the disk and come back the same."""
    async with visit(clips="rendered", cache_bytes=0, limit=None) as visitor:
        values = [await visitor.finished(prompt, image_url=uri(picture())) for prompt in "abc"]
        first = [(await visitor.fetch(value["video"]["url"])).body for value in values]
        again = [(await visitor.fetch(value["video"]["url"])).body for value in values]
        assert first == again
        assert first[0] == red_and_blue.stamped(values[0]["id"])


@pytest.mark.looptime
async def test_wrong_duration(visit: Visit) -> None:
    """A job can get a clip of the other duration."""
    async with visit(FaultPlan.of(Fault("job", "wrong_duration"))) as visitor:
        value = await visitor.finished(duration=5)
        film = play((await visitor.fetch(value["video"]["url"])).body)
        assert film.duration == pytest.approx(10.0, abs=0.05)
