"""Digests and documents as the first version made them: what rules/identity.py makes now is held against these.

They decide what was bought already. This must never follow a change there: it is what the change is judged by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import ImageToVideo

_SORTED: Final = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=str)
_PLAIN: Final = json.JSONEncoder(separators=(",", ":"))


def written_digest(request: ImageToVideo) -> str:
    """Return the digest of a row as written."""
    return _digest(_without_empty({**_fields(request, _as_written), "sample": request.sample}))


def content_digest(request: ImageToVideo, digests: Mapping[str, str]) -> str:
    """Return the digest of what is sent."""
    names = iter([digests[name] for name, _ in request.images])
    sample = request.sample if request.sample != 1 else None
    return _digest(_without_empty({**_fields(request, lambda _source: next(names)), "sample": sample}))


def document(request: ImageToVideo) -> str:
    """Return the request as the journal keeps it."""
    found = _without_empty(_fields(request, _to_reference))
    found["key"], found["sample"] = request.key, request.sample
    found["carry"] = {name: _plain(value) for name, value in request.carry.items()}
    return _PLAIN.encode(_without_empty(found))


def _fields(request: ImageToVideo, image: Callable[[ImageSource], Any]) -> dict[str, Any]:
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
    found = {"kind": source.kind.value, "text": source.text, "base": source.base, "mime": source.mime}
    return {name: value for name, value in found.items() if value}


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
    return hashlib.sha256(_SORTED.encode(document).encode()).hexdigest()
