"""Reads the body of a submit by the schema of the service.

Pure, and slow for large images: the server calls it in a thread for those. This room must never fetch an image that is
given by its URL.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from kling_async.simulator.images import find_flaw
from kling_async.simulator.jobs import Order
from kling_async.simulator.settings import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kling_async.simulator.settings import SimulatorSettings

Issue = dict[str, object]

MAX_TEXT: Final = 2_500
MAX_MASKS: Final = 6
_URI: Final = re.compile(r"(?:https?://[^\s]+|data:image/[\w.+-]+;base64,)")
_IMAGES: Final = ("image_url", "tail_image_url", "static_mask")
_KNOWN: Final = frozenset(
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
        "camera_control",
    }
)


def read_submit(raw: bytes, settings: SimulatorSettings) -> Order | list[Issue]:
    """Return what a submit orders, or everything that is wrong with it."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        return [_issue("invalid_json", [], f"the body is not JSON: {error}")]
    if not isinstance(body, dict):
        return [_issue("invalid_type", [], "Expected object")]
    issues = list(_find_issues(body, settings))
    if issues:
        return issues
    image_url = str(body["image_url"])
    image = decode_image(image_url)
    if image is None and image_url.startswith("data:"):
        return [_issue("invalid_string", ["image_url"], "Invalid base64")]
    return _order(body, image, settings)


def fingerprint(body: Mapping[str, object]) -> str:
    """Return the SHA-256 of a submit's body as canonical JSON, as the account book has it."""
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def image_digest(image_url: str) -> str:
    """Return the SHA-256 of a data URI's bytes, or of the URL itself."""
    image = decode_image(image_url)
    return sha256(image_url.encode() if image is None else image).hexdigest()


def decode_image(image_url: str) -> bytes | None:
    """Return the bytes of a data URI; None for a URL, or if they cannot be decoded."""
    head, comma, text = image_url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _order(body: Mapping[str, object], image: bytes | None, settings: SimulatorSettings) -> Order:
    return Order(
        fingerprint=fingerprint(body),
        image_digest=sha256(str(body["image_url"]).encode() if image is None else image).hexdigest(),
        prompt=str(body.get("prompt") or ""),
        duration=int(float(str(body.get("duration", 5)))),
        flaw=_find_flaw(body, image) if settings.check_images else None,
        image=image if settings.clips == "rendered" else None,
    )


def _find_flaw(body: Mapping[str, object], image: bytes | None) -> str | None:
    tail = decode_image(str(body.get("tail_image_url") or ""))
    masks = bool(body.get("static_mask") or body.get("dynamic_masks"))
    extras = [bool(body.get("tail_image_url")), masks, bool(body.get("camera_control"))]
    if sum(extras) > 1:
        return "tail image, masks and camera control exclude each other"
    if (extras[0] or extras[1]) and str(body.get("duration", 5)).startswith("10"):
        return "a tail image or masks go with a duration of 5 only"
    flaw = find_flaw(image) if image is not None else None
    return flaw or (find_flaw(tail, ratio=False) if tail is not None else None)


def _find_issues(body: Mapping[str, object], settings: SimulatorSettings) -> Iterator[Issue]:
    model = body.get("model")
    if model is None:
        yield _issue("invalid_type", ["model"], "Required")
    elif model != MODEL:
        yield _issue("invalid_enum_value", ["model"], f"Invalid enum value. Expected '{MODEL}'")
    if body.get("image_url") is None:
        yield _issue("invalid_type", ["image_url"], "Required")
    for name in _IMAGES:
        yield from _uri_issues(body.get(name), [name])
    for name in ("prompt", "negative_prompt"):
        yield from _text_issues(body.get(name), name)
    yield from _number_issues(body)
    yield from _mask_issues(body.get("dynamic_masks"))
    if settings.unknown_fields == "refuse":
        yield from (_issue("unrecognized_keys", [name], "Unrecognized key") for name in body if name not in _KNOWN)


def _uri_issues(value: object, path: list[str | int]) -> Iterator[Issue]:
    if value is None:
        return
    if not isinstance(value, str):
        yield _issue("invalid_type", path, "Expected string")
    elif not _URI.match(value):
        yield _issue("invalid_string", path, "Invalid url")
    elif path != ["image_url"] and value.startswith("data:") and decode_image(value) is None:
        yield _issue("invalid_string", path, "Invalid base64")


def _text_issues(value: object, name: str) -> Iterator[Issue]:
    if value is not None and not isinstance(value, str):
        yield _issue("invalid_type", [name], "Expected string")
    elif isinstance(value, str) and len(value) > MAX_TEXT:
        yield _issue("too_big", [name], f"String must contain at most {MAX_TEXT} character(s)")


def _number_issues(body: Mapping[str, object]) -> Iterator[Issue]:
    duration = body.get("duration", 5)
    if isinstance(duration, bool) or duration not in (5, 10, "5", "10"):
        yield _issue("invalid_enum_value", ["duration"], "Invalid enum value. Expected 5 | 10")
    scale = body.get("cfg_scale", 0.5)
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        yield _issue("invalid_type", ["cfg_scale"], "Expected number")
    elif not 0 <= scale <= 1:
        yield _issue("too_big" if scale > 1 else "too_small", ["cfg_scale"], "Number must be between 0 and 1")


def _mask_issues(masks: object) -> Iterator[Issue]:
    if masks is None:
        return
    if not isinstance(masks, list) or len(masks) > MAX_MASKS:
        yield _issue("invalid_type", ["dynamic_masks"], f"Expected array of at most {MAX_MASKS} element(s)")
        return
    for number, mask in enumerate(masks):
        path: list[str | int] = ["dynamic_masks", number]
        if not isinstance(mask, dict) or mask.get("mask") is None:
            yield _issue("invalid_type", [*path, "mask"], "Required")
            continue
        yield from _uri_issues(mask["mask"], [*path, "mask"])
        yield from _trajectory_issues(mask.get("trajectories"), [*path, "trajectories"])


def _trajectory_issues(points: object, path: list[str | int]) -> Iterator[Issue]:
    if not isinstance(points, list) or not 2 <= len(points) <= 77:
        yield _issue("invalid_type", path, "Expected array of 2 to 77 points")
        return
    for number, point in enumerate(points):
        if not isinstance(point, dict) or not all(isinstance(point.get(axis), int) for axis in ("x", "y")):
            yield _issue("invalid_type", [*path, number], "Expected integers x and y")


def _issue(code: str, path: list[str | int], message: str) -> Issue:
    return {"code": code, "path": path, "message": message}
