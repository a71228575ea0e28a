"""What a row is: its digest as written, its digest as sent, its document for the journal, the id of its POST.

Digests and documents are the same on every machine and for every version: they decide what was bought already. Bytes
of images are never read here; their digests are handed in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import evolve

from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import DynamicMask, ImageToVideo, Point

KEY_LENGTH: Final = 24
"""Hex digits of the digest that serves as key for a row without one."""

_PREFIX: Final = "ka1"
_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=str)


def written_digest(request: ImageToVideo) -> str:
    """Return the digest of a row as it was written: paths as text, bytes by content, parameters; not what it carries.

    Returns:
        64 hex digits.
    """
    return _digest(_without_empty({**_fields(request, _as_written), "sample": request.sample}))


def content_digest(request: ImageToVideo, digests: Mapping[str, str]) -> str:
    """Return the digest of what is sent: two rows of one content may share one generation.

    Samples are sent alike and share nothing; the first one shares with the row without a number.

    Args:
        request: The row.
        digests: The digest of each image's content by its field's name, as `ImageToVideo.images` names them.
    """
    names = iter([digests[name] for name, _ in request.images])
    sample = request.sample if request.sample != 1 else None
    return _digest(_without_empty({**_fields(request, lambda _source: next(names)), "sample": sample}))


def default_key(written: str) -> str:
    """Return the key of a row that has none."""
    return written[:KEY_LENGTH]


def samples_of(request: ImageToVideo, count: int) -> Iterator[ImageToVideo]:
    """Yield the samples of a row, one at a time: `KEY.1` to `KEY.N`, where KEY is its own or its default key.

    A row that is a sample already, since a list of failures or its author says so, is yielded as it is.

    Raises:
        InvalidRequest: With the number the key is too long.
    """
    if request.sample is not None:
        yield request
        return
    key = request.key if request.key is not None else default_key(written_digest(request))
    for number in range(1, count + 1):
        yield evolve(request, key=f"{key}.{number}", sample=number)


def kind_of(request: ImageToVideo) -> str:
    """Return what a request's generation is one of: those of one kind take about as long, and cost alike."""
    return f"{request.model} {request.duration}"


def client_request_id(journal_id: str, key: str, attempt: int) -> str:
    """Return the id that a POST carries: of this journal, this row, this attempt; never longer than 128 characters."""
    hashed = base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().lower()[:24]
    return f"{_PREFIX}.{journal_id}.{hashed}.{attempt}"


def to_document(request: ImageToVideo) -> dict[str, Any]:
    """Return a request as plain JSON values. Bytes must have been kept first (`Images.keep`)."""
    document = _without_empty(_fields(request, _to_reference))
    document["key"], document["sample"] = request.key, request.sample
    document["carry"] = {name: _plain(value) for name, value in request.carry.items()}
    return _without_empty(document)


def from_document(document: Mapping[str, Any]) -> ImageToVideo:
    """Return the request that `to_document` wrote."""
    values = dict(document)
    for name in ("image", "tail_image", "static_mask"):
        if name in values:
            values[name] = _from_reference(values[name])
    if "dynamic_masks" in values:
        values["dynamic_masks"] = tuple(
            DynamicMask(_from_reference(mask["mask"]), tuple(Point(x, y) for x, y in mask["trajectories"]))
            for mask in values["dynamic_masks"]
        )
    return ImageToVideo(**values)


def _fields(request: ImageToVideo, image: Any) -> dict[str, Any]:
    """Return the typed fields in a fixed order, each image through `image`, in the order of `ImageToVideo.images`."""
    return {
        "image": image(request.image),
        "tail_image": image(request.tail_image) if request.tail_image is not None else None,
        "static_mask": image(request.static_mask) if request.static_mask is not None else None,
        "dynamic_masks": [
            {"mask": image(mask.mask), "trajectories": [[point.x, point.y] for point in mask.trajectories]}
            for mask in request.dynamic_masks
        ],
        "model": request.model,
        "prompt": request.prompt,
        "duration": request.duration,
        "negative_prompt": request.negative_prompt,
        "cfg_scale": request.cfg_scale,
        "extra": dict(request.extra),
    }


def _as_written(source: ImageSource) -> str:
    match source.kind:
        case ImageKind.BYTES:
            return "sha256:" + hashlib.sha256(source.content).hexdigest()
        case ImageKind.STORED:
            return "sha256:" + source.text
    return f"{source.kind.value}:{source.text}"


def _to_reference(source: ImageSource) -> dict[str, str]:
    if source.kind is ImageKind.BYTES:
        raise TypeError("bytes cannot stand in a document: keep them first")
    found = {"kind": source.kind.value, "text": source.text, "base": source.base, "mime": source.mime}
    return {name: value for name, value in found.items() if value}


def _from_reference(reference: Mapping[str, str]) -> ImageSource:
    return ImageSource(
        ImageKind(reference["kind"]),
        reference.get("text", ""),
        reference.get("base", ""),
        mime=reference.get("mime", ""),
    )


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in document.items()
        if value or (value is not None and not isinstance(value, list | dict))
    }


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_ENCODER.encode(document).encode()).hexdigest()
