"""What a caller asks for: one video from one image.

Values only: nothing here reads a file or looks at a picture. A value that exists obeys the vendor's schema; the
rules that the model itself adds, and that the service enforces, are `kling_async.rules.limits`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from kling_async.errors import InvalidRequest, Issue
from kling_async.types.image import ImageKind, ImageLike, ImageSource, encodes

MODEL: Final = "kling-video/v1/standard/image-to-video"
"""The model this package is made for."""

DURATIONS: Final = (5, 10)
"""The lengths the service makes, in seconds."""

MAX_DYNAMIC_MASKS: Final = 6
MIN_POINTS: Final = 2
MAX_POINTS: Final = 77
MAX_KEY: Final = 500
"""Characters in a caller's own key."""
MAX_SAMPLE: Final = 999_999_999
"""The highest number of a sample."""

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

_DIGITS: Final = re.compile(r"\s*[0-9]{1,9}\s*")


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
            if value.fault:
                return value
            value = {"mask": value.mask, "trajectories": value.trajectories}
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
        return value if _is_integer(value.x) and _is_integer(value.y) else None
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
    if value is None or (type(value) is tuple and not value):
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return (DynamicMask(ImageSource(ImageKind.PATH), (), "must be a list of masks"),)
    return tuple(DynamicMask.of(mask) for mask in value)


def _number(value: Any) -> Any:
    """`"5"` and `5.0` are 5, as the service reads them; anything else stays, to be told as a fault."""
    if type(value) is int or value is None:
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value.strip())  # it strips more than `int` does
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _scale(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return float(value) if _is_integer(value) and abs(value) < 2**53 else value


def _shown(value: object) -> str:
    try:
        return repr(value)[:100]
    except ValueError:
        return "a number of thousands of digits"


def _mapping(value: Mapping[str, object] | None) -> Mapping[str, object]:
    if type(value) is dict:
        return value.copy()
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
    sample: int | None = field(default=None, converter=_number, kw_only=True)
    """Which of several videos of the same row, from 1: rows that differ in nothing else are made each for itself, but
    for 1, which is the same as none. Never sent."""
    carry: Mapping[str, object] = field(factory=dict, converter=_mapping, kw_only=True, hash=False)
    """The caller's own data: comes back with the outcome, and is never sent."""
    extra: Mapping[str, object] = field(factory=dict, converter=_mapping, kw_only=True, hash=False)
    """Further fields for the wire, for what the service takes and this class does not name."""

    def __attrs_post_init__(self) -> None:
        if issues := _faults(self):
            raise InvalidRequest(issues=tuple(issues))

    @property
    def brings_bytes(self) -> bool:
        """Whether any of its images is here in memory."""
        images = self.images
        return self.image.kind is ImageKind.BYTES or (
            len(images) > 1 and ImageKind.BYTES in [source.kind for _, source in images]
        )

    @property
    def images(self) -> tuple[tuple[str, ImageSource], ...]:
        """Every image of the request with its field's name, the input first."""
        if self.tail_image is None and self.static_mask is None and not self.dynamic_masks:
            return (("image", self.image),)
        found = [("image", self.image)]
        if self.tail_image is not None:
            found.append(("tail_image", self.tail_image))
        if self.static_mask is not None:
            found.append(("static_mask", self.static_mask))
        found += [(f"dynamic_masks[{i}].mask", mask.mask) for i, mask in enumerate(self.dynamic_masks)]
        return tuple(found)


def _faults(request: ImageToVideo) -> list[Issue]:
    issues = []
    for name, source in request.images:
        if source.fault and not name.startswith("dynamic_masks"):
            issues.append(Issue(name, source.fault))
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if text is not None and (fault := _text_fault(text)):
            issues.append(Issue(name, fault))
    if not _is_integer(request.duration) or request.duration not in DURATIONS:
        issues.append(Issue("duration", f"must be 5 or 10 (seconds), not {_shown(request.duration)}"))
    scale = request.cfg_scale
    if scale is not None and not (isinstance(scale, float) and math.isfinite(scale) and 0 <= scale <= 1):
        issues.append(Issue("cfg_scale", f"must be a number from 0 to 1, not {_shown(scale)}"))
    if request.dynamic_masks:
        issues += _mask_faults(request.dynamic_masks)
    return issues + _own_faults(request)


def _text_fault(text: object) -> str:
    if not isinstance(text, str):
        return f"must be text, not {type(text).__name__}"
    return "" if encodes(text) else "holds half a character (a lone surrogate)"


def _mask_faults(masks: Sequence[DynamicMask]) -> list[Issue]:
    many = [Issue("dynamic_masks", f"{len(masks)} masks; at most {MAX_DYNAMIC_MASKS} are allowed")]
    faulty = [Issue(f"dynamic_masks[{i}]", mask.fault) for i, mask in enumerate(masks) if mask.fault]
    return faulty if len(masks) <= MAX_DYNAMIC_MASKS else many + faulty


def _own_faults(request: ImageToVideo) -> list[Issue]:
    issues = []
    model, key, sample = request.model, request.key, request.sample
    if model != MODEL and not (isinstance(model, str) and model.strip() and encodes(model)):
        issues.append(Issue("model", "must be the service's name of a model"))
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY and encodes(key)):
        issues.append(Issue("key", f"must be text of 1 to {MAX_KEY} characters"))
    if sample is not None and not (_is_integer(sample) and 1 <= sample <= MAX_SAMPLE):
        issues.append(Issue("sample", f"must be a whole number from 1, not {_shown(sample)}"))
    for name, value in (("carry", request.carry), ("extra", request.extra)):
        if value != {} and not (isinstance(value, (dict, Mapping)) and _are_text(value)):
            issues.append(Issue(name, "must be a mapping with text keys"))
    return issues + _extra_faults(request.extra) if request.extra else issues


def _are_text(values: Iterable[object]) -> bool:
    for value in values:  # noqa: SIM110 - a generator for `all` costs more than the few values
        if not isinstance(value, str):
            return False
    return True


def _extra_faults(extra: object) -> list[Issue]:
    if not isinstance(extra, Mapping):
        return []
    issues = [Issue("extra", f"may not name the typed field {name}") for name in sorted(WIRE_FIELDS & set(extra))]
    try:
        json.dumps(dict(extra), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        issues.append(Issue("extra", f"cannot be written as JSON: {error}"))
    return issues
