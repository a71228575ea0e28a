"""Real MP4s: made from a submitted image, or packaged, and stamped so that no two generations have the same bytes.

H.264, yuv420p, the index in front: browsers play them. PyAV and Pillow are loaded on use and may be missing. Rendering
is slow: only the studio calls it, in a thread. This room must never fetch an image.
"""

from __future__ import annotations

import io
from fractions import Fraction
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    import av
    from PIL import Image, ImageFont

_MARGIN: Final = 1.15
_BAND: Final = 30
_BLANK: Final = "#" * 64
_FONTS: Final = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "Arial.ttf")


@frozen
class Master:
    """A clip whose title waits to be filled in."""

    head: bytes
    """What comes before the title."""

    tail: bytes
    """What comes after it."""

    @classmethod
    def cut(cls, clip: bytes) -> Master:
        """Return the master of a clip that was rendered with a blank title.

        Raises:
            ValueError: The clip has no blank title.
        """
        head, blank, tail = clip.partition(_BLANK.encode())
        if not blank:
            raise ValueError("the clip has no blank title")
        return cls(head, tail)

    @property
    def size(self) -> int:
        """The length of every clip of it, in bytes."""
        return len(self.head) + len(_BLANK) + len(self.tail)

    def stamped(self, generation_id: str, edition: int = 0, at_least: int = 0) -> bytes:
        """Return the one clip of a generation.

        Args:
            generation_id: Whose clip it is.
            edition: How often it was made anew.
            at_least: Fill it up to so many bytes.
        """
        title = sha256(f"{generation_id}/{edition}".encode()).hexdigest().encode()
        return b"".join((self.head, title, self.tail, free_box(at_least - self.size)))


def free_box(size: int) -> bytes:
    """Return a box that players skip; nothing if it would be empty."""
    if size <= 0:
        return b""
    size = max(8, size)
    return size.to_bytes(4) + b"free" + bytes(size - 8)


def read_template(duration: int) -> Master:
    """Return the packaged clip of a duration, from the disk."""
    folder = resources.files("kling_async.simulator") / "templates"
    return Master.cut((folder / f"{duration}s.mp4").read_bytes())


def render(image: bytes, prompt: str, duration: int, *, side: int, rate: int) -> bytes | None:
    """Return a clip in which the view moves over an image, with the prompt as a caption.

    Args:
        image: The image's file.
        prompt: The caption; an empty one is left out.
        duration: Length of the clip, in seconds.
        side: Length of its longer side, in pixels.
        rate: Frames per second.

    Returns:
        An MP4 with a blank title; None if the extra `video` is missing or the image cannot be read.
    """
    try:
        import av  # noqa: PLC0415 - an extra
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(image)) as source:
            source.draft("RGB", (int(side * _MARGIN), int(side * _MARGIN)))
            scene = _Scene(source.convert("RGB"), prompt, side)
        return _encode(scene, duration, rate)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, av.FFmpegError):
        return None


class _Scene:
    """An image in the planes of a video, and the caption under it."""

    def __init__(self, image: Image.Image, prompt: str, side: int) -> None:
        from PIL.Image import Resampling  # noqa: PLC0415 - an extra

        scale = side / max(image.size)
        self.width, self.height = (max(16, int(length * scale) // 2 * 2) for length in image.size)
        self.room = (int(self.width * _MARGIN) // 2 * 2, int(self.height * _MARGIN) // 2 * 2)
        small = image.resize(self.room, Resampling.BILINEAR, reducing_gap=1.0)
        luma, blue, red = small.convert("YCbCr").split()
        half = (self.room[0] // 2, self.room[1] // 2)
        self._planes = (
            luma.point([16 + value * 219 // 255 for value in range(256)]),
            blue.resize(half).point([128 + (value - 128) * 224 // 255 for value in range(256)]),
            red.resize(half).point([128 + (value - 128) * 224 // 255 for value in range(256)]),
        )
        self._caption = _draw_caption(prompt, self.width) if prompt.strip() and self.height > 3 * _BAND else None

    def plane(self, index: int, share: float, line_size: int) -> bytes:
        """Return one plane of the picture after a share of the clip."""
        part = 1 if index == 0 else 2
        left = int((self.room[0] - self.width) * share) // 2 * 2 // part
        top = int((self.room[1] - self.height) * share) // 2 * 2 // part
        height = self.height // part
        picture = self._planes[index].crop((left, top, left + line_size, top + height))
        if self._caption is not None:
            place = (0, height - _BAND // part)
            picture.paste(self._caption if index == 0 else 128, (*place, self.width // part, height))
        return picture.tobytes()


def _encode(scene: _Scene, duration: int, rate: int) -> bytes:
    import av  # noqa: PLC0415 - an extra

    file = io.BytesIO()
    # `movflags=faststart` cannot write into memory; room kept for the index in front can.
    with av.open(file, "w", format="mp4", options={"moov_size": "8192", "fflags": "+bitexact"}) as container:
        container.metadata["title"] = _BLANK
        stream = container.add_stream(
            "libx264", rate=rate, options={"preset": "ultrafast", "crf": "30", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        frames = duration * rate
        for number in range(frames):
            frame = _frame(scene, number / frames)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _frame(scene: _Scene, share: float) -> av.VideoFrame:
    import av  # noqa: PLC0415 - an extra

    frame = av.VideoFrame(scene.width, scene.height, "yuv420p")
    for index, plane in enumerate(frame.planes):
        plane.update(scene.plane(index, share, plane.line_size))
    return frame


def _draw_caption(prompt: str, width: int) -> Image.Image:
    """Return the band under the picture, as luma."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - an extra

    band = Image.new("L", (width, _BAND), 16)
    draw = ImageDraw.Draw(band)
    text = " ".join(prompt.split())[:200]
    try:
        draw.text((6, 7), text, fill=235, font=_font())
    except (UnicodeError, ValueError):
        draw.text((6, 7), text.encode("ascii", "replace").decode(), fill=235)
    return band


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return the first font at hand that knows many scripts, else Pillow's own."""
    from PIL import ImageFont  # noqa: PLC0415 - an extra

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, 13)
        except OSError:
            continue
    return ImageFont.load_default()
