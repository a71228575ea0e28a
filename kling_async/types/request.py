"""What a caller asks for: one video from one image.

Values only: nothing here reads a file or looks at a picture. A value that exists obeys the vendor's schema; the
rules that the model itself adds, and that the service enforces, are `kling_async.rules.limits`.
"""

from __future__ import annotations

import base64
import binascii
import enum
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

from kling_async.errors import InvalidRequest, Issue

MODEL: Final = "kling-video/v1/standard/image-to-video"
"""The model this package is made for."""

DURATIONS: Final = (5, 10)
"""The lengths the service makes, in seconds."""

MAX_DYNAMIC_MASKS: Final = 6
MIN_POINTS: Final = 2
MAX_POINTS: Final = 77
MAX_KEY: Final = 500
"""Characters in a caller's own key."""

WIRE_FIELDS: Final = frozenset(
    {
        "model",
        "image_url",
        "prompt",
        "tail_image_url",
        "duration",
        "negative_prompt",
        "cfg_scale",
        "static_mask",
        "dynamic_masks",
    }
)
"""The typed fields of the submit's body; `extra` may not name one."""

_DATA_URI = re.compile(r"data:(?P<mime>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
_RAW_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{256,}={0,2}\s*\Z")


@runtime_checkable
class _PathLike(Protocol):
    def __fspath__(self) -> str | bytes: ...


class ImageKind(enum.StrEnum):
    """Where an image comes from."""

    URL = "url"
    """A public address, passed on as it is."""
    PATH = "path"
    """A file on this machine."""
    BYTES = "bytes"
    """The image itself, in memory; a data URI becomes this."""
    STORED = "stored"
    """The image itself, kept by a journal under its digest."""


def _brief(text: str) -> str:
    return repr(text.partition("?")[0][:120])


@frozen
class ImageSource:
    """One image: a URL, a file, or its bytes. Make it with `ImageSource.of`."""

    kind: ImageKind
    """Which of the four it is."""
    text: str = field(default="", repr=_brief)
    """The URL; the path as it was written; the sha256 of stored bytes."""
    base: str = ""
    """The folder that a relative path starts from; not part of what was written."""
    content: bytes = field(default=b"", repr=False)
    """The bytes, of kind BYTES only."""
    mime: str = ""
    """The media type that a data URI told; empty where nobody told."""
    fault: str = ""
    """Why this cannot be an image; empty where nothing is wrong."""

    @classmethod
    def of(cls, value: ImageLike, *, base: str = "") -> ImageSource:
        """Read a URL, a data URI, a path or bytes. Never raises: what is wrong stands in `fault`.

        Args:
            value: What the caller gave.
            base: The folder that a relative path starts from.
        """
        if isinstance(value, ImageSource):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return cls(ImageKind.BYTES, content=bytes(value), fault="" if value else "is empty")
        if isinstance(value, _PathLike):
            path = value.__fspath__()
            text = path.decode(errors="surrogateescape") if isinstance(path, bytes) else path
            return cls(ImageKind.PATH, text, base)
        if isinstance(value, str):
            return cls._of_text(value, base)
        return cls(ImageKind.PATH, fault=f"must be a URL, a data URI, a path or bytes, not {type(value).__name__}")

    @classmethod
    def _of_text(cls, text: str, base: str) -> ImageSource:
        if not text.strip():
            return cls(ImageKind.PATH, fault="is empty")
        if text[:8].lower().startswith(("http://", "https://")):
            bad = any(character.isspace() or character < " " for character in text) or not text.partition("://")[2]
            return cls(ImageKind.URL, text, fault="is not a URL: it holds a space or no host" if bad else "")
        if text[:5].lower() == "data:":
            return cls._of_data_uri(text)
        if _SCHEME.match(text):
            return cls(ImageKind.PATH, fault=f"has a scheme that is not http(s): {_brief(text)}")
        if "\0" in text:
            return cls(ImageKind.PATH, fault="holds a NUL character")
        if _RAW_BASE64.match(text):
            return cls(ImageKind.PATH, fault="looks like bare base64; pass bytes, or a data URI")
        return cls(ImageKind.PATH, text, base)

    @classmethod
    def _of_data_uri(cls, text: str) -> ImageSource:
        head = _DATA_URI.match(text[:1000])
        if head is None or ";base64" not in head["parameters"].lower():
            return cls(ImageKind.BYTES, fault="is a data URI without base64")
        mime = head["mime"].lower()
        if not mime.startswith("image/"):
            return cls(ImageKind.BYTES, fault=f"is a data URI of {mime or 'no type'}, not of an image")
        try:
            content = base64.b64decode(text[head.end() :], validate=True)
        except (binascii.Error, ValueError):
            return cls(ImageKind.BYTES, fault="is a data URI whose base64 is damaged")
        return cls(ImageKind.BYTES, content=content, mime=mime, fault="" if content else "is empty")


ImageLike: TypeAlias = str | bytes | _PathLike | ImageSource
"""What an image may be given as: a URL, a data URI, a path (str or PathLike) or bytes."""


@frozen
class Point:
    """A point of a trajectory, in pixels of the input image; the origin is at the bottom left."""

    x: int
    """Pixels from the left."""
    y: int
    """Pixels from the bottom."""


@frozen
class DynamicMask:
    """An area of the image and the way it shall move."""

    mask: ImageSource
    """The mask, of the input's aspect ratio."""
    trajectories: tuple[Point, ...]
    """2 to 77 points."""
    fault: str = ""
    """Why this cannot be a mask; empty where nothing is wrong."""

    @classmethod
    def of(cls, value: object, *, base: str = "") -> DynamicMask:
        """Read `{"mask": …, "trajectories": [{"x": …, "y": …}, …]}`. Never raises; see `fault`."""
        if isinstance(value, DynamicMask):
            return value
        if not isinstance(value, Mapping) or set(value) != {"mask", "trajectories"}:
            return cls(ImageSource(ImageKind.PATH), (), "must have exactly the fields mask and trajectories")
        mask = ImageSource.of(value["mask"], base=base)
        if mask.fault:
            return cls(mask, (), f"mask {mask.fault}")
        points = value["trajectories"]
        if not isinstance(points, Iterable) or isinstance(points, str | bytes | Mapping):
            return cls(mask, (), "trajectories must be a list of points")
        read = tuple(_point(point) for point in points)
        whole = tuple(point for point in read if point is not None)
        if len(whole) != len(read):
            return cls(mask, whole, 'a point must be {"x": integer, "y": integer}')
        if not MIN_POINTS <= len(whole) <= MAX_POINTS:
            return cls(mask, whole, f"has {len(whole)} points; {MIN_POINTS} to {MAX_POINTS} are allowed")
        return cls(mask, whole)


def _point(value: object) -> Point | None:
    if isinstance(value, Point):
        return value
    if isinstance(value, Mapping) and set(value) == {"x", "y"}:
        x, y = value["x"], value["y"]
        if _is_integer(x) and _is_integer(y):
            return Point(x, y)
    return None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _source(value: ImageLike) -> ImageSource:
    return ImageSource.of(value)


def _optional_source(value: ImageLike | None) -> ImageSource | None:
    return None if value is None else ImageSource.of(value)


def _masks(value: Iterable[Any] | None) -> tuple[DynamicMask, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return (DynamicMask(ImageSource(ImageKind.PATH), (), "must be a list of masks"),)
    return tuple(DynamicMask.of(mask) for mask in value)


def _number(value: Any) -> Any:
    """`"5"` and `5.0` are 5, as the service reads them; anything else stays, to be told as a fault."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _scale(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return float(value) if _is_integer(value) else value


def _mapping(value: Mapping[str, object] | None) -> Mapping[str, object]:
    return dict(value) if isinstance(value, Mapping) else (value if value is not None else {})


@frozen
class ImageToVideo:
    """A request for one video.

    Raises:
        InvalidRequest: With every fault at once, each with its field; nothing was sent.
    """

    image: ImageSource = field(converter=_source)
    """The first frame: a URL, a data URI, a path or bytes. jpg or png, at most 10 MB."""
    prompt: str | None = None
    """What shall happen; at most 2,500 characters."""
    tail_image: ImageSource | None = field(default=None, converter=_optional_source, kw_only=True)
    """The last frame; 5 s only, and not together with masks."""
    duration: int = field(default=5, converter=_number, kw_only=True)
    """Seconds: 5 or 10."""
    negative_prompt: str | None = field(default=None, kw_only=True)
    """What shall not be seen; at most 2,500 characters."""
    cfg_scale: float | None = field(default=None, converter=_scale, kw_only=True)
    """How close to stick to the prompt, 0 to 1; the service's default is 0.5."""
    static_mask: ImageSource | None = field(default=None, converter=_optional_source, kw_only=True)
    """The mask of the area that stays still."""
    dynamic_masks: tuple[DynamicMask, ...] = field(default=(), converter=_masks, kw_only=True)
    """At most 6 areas and their trajectories; mappings are taken too."""
    model: str = field(default=MODEL, kw_only=True)
    """The service's name of the model."""
    key: str | None = field(default=None, kw_only=True)
    """The caller's own name for this row; without one it is the digest of the row as written."""
    carry: Mapping[str, object] = field(factory=dict, converter=_mapping, kw_only=True, hash=False)
    """The caller's own data: comes back with the outcome, and is never sent."""
    extra: Mapping[str, object] = field(factory=dict, converter=_mapping, kw_only=True, hash=False)
    """Further fields for the wire, for what the service takes and this class does not name."""

    def __attrs_post_init__(self) -> None:
        issues = tuple(_faults(self))
        if issues:
            raise InvalidRequest(issues=issues)

    @property
    def images(self) -> tuple[tuple[str, ImageSource], ...]:
        """Every image of the request with its field's name, the input first."""
        named = (("image", self.image), ("tail_image", self.tail_image), ("static_mask", self.static_mask))
        single = tuple((name, source) for name, source in named if source is not None)
        return single + tuple((f"dynamic_masks[{i}].mask", mask.mask) for i, mask in enumerate(self.dynamic_masks))


def _faults(request: ImageToVideo) -> Iterable[Issue]:
    for name, source in request.images:
        if source.fault and not name.startswith("dynamic_masks"):
            yield Issue(name, source.fault)
    for name in ("prompt", "negative_prompt"):
        yield from _text_faults(name, getattr(request, name))
    if not _is_integer(request.duration) or request.duration not in DURATIONS:
        yield Issue("duration", f"must be 5 or 10 (seconds), not {request.duration!r}")
    scale = request.cfg_scale
    if scale is not None and not (isinstance(scale, float) and math.isfinite(scale) and 0 <= scale <= 1):
        yield Issue("cfg_scale", f"must be a number from 0 to 1, not {scale!r}")
    if len(request.dynamic_masks) > MAX_DYNAMIC_MASKS:
        yield Issue("dynamic_masks", f"{len(request.dynamic_masks)} masks; at most {MAX_DYNAMIC_MASKS} are allowed")
    for i, mask in enumerate(request.dynamic_masks):
        if mask.fault:
            yield Issue(f"dynamic_masks[{i}]", mask.fault)
    yield from _own_faults(request)


def _text_faults(name: str, value: object) -> Iterable[Issue]:
    if value is None:
        return
    if not isinstance(value, str):
        yield Issue(name, f"must be text, not {type(value).__name__}")
    elif not _encodes(value):
        yield Issue(name, "holds half a character (a lone surrogate)")


def _own_faults(request: ImageToVideo) -> Iterable[Issue]:
    if not isinstance(request.model, str) or not request.model.strip():
        yield Issue("model", "must be the service's name of a model")
    key = request.key
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY and _encodes(key)):
        yield Issue("key", f"must be text of 1 to {MAX_KEY} characters")
    for name, value in (("carry", request.carry), ("extra", request.extra)):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            yield Issue(name, "must be a mapping with text keys")
    if isinstance(request.extra, Mapping):
        for name in sorted(WIRE_FIELDS & set(request.extra)):
            yield Issue("extra", f"may not name the typed field {name}")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
