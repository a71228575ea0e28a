"""A record -> its line in `metadata.jsonl`, or in `failures.jsonl`.

The first is read by people and by `datasets`: every line has the same columns of the same types. The second is a
manifest: what `kling_async.adapters.manifest` reads from it is the row as it was written. This room must never put
anything into a line that the caller or the service did not tell.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Final

from kling_async.adapters.columns import BASE, CARRY, INPUTS, find_meant
from kling_async.rules.images import SNIFF_BYTES, sniff
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.outcome import usd
from kling_async.types.record import Record
from kling_async.types.request import ImageToVideo

_VIDEO: Final = "video"  # datasets puts the video itself there
_FILE: Final = "_file_name"  # datasets takes each column of this ending for one of files


def video_line(record: Record, file_name: str) -> bytes:
    """Return the line of a row that is DONE.

    Args:
        record: The row.
        file_name: Where its video lies, relative to the folder.
    """
    request = record.request
    ours = {
        "file_name": file_name,
        "key": record.key,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "duration": request.duration,
        "seconds": None if record.seconds is None else float(record.seconds),
        "cfg_scale": request.cfg_scale,
        "image": _as_written(request.image),
        "tail_image": None if request.tail_image is None else _as_written(request.tail_image),
        "generation_id": record.generation_id or record.shares,
        "size": record.size,
        "sha256": record.sha256,
        "model": request.model,
        "usd": None if record.credits is None else usd(record.credits),
        "sample": request.sample,
    }
    line = json.dumps(ours | _carried(request.carry, ours), ensure_ascii=False)
    return line.encode(errors="replace") + b"\n"


def _as_written(source: ImageSource) -> str:
    match source.kind:
        case ImageKind.STORED:
            return f"sha256:{source.text}"
        case ImageKind.BYTES:
            return f"sha256:{hashlib.sha256(source.content).hexdigest()}"
    return source.text


def _carried(carry: Mapping[str, object], ours: Mapping[str, object]) -> dict[str, str | None]:
    """Return the caller's columns as text, under names that are nobody else's."""
    taken = {*ours, _VIDEO}
    kept = [name for name in carry if name not in taken and not name.endswith(_FILE)]
    names = {name: name for name in kept}
    taken.update(kept)
    for name in carry:
        if name not in names:
            free = f"{name}_"
            while free in taken:
                free += "_"
            names[name] = free
            taken.add(free)
    return {names[name]: _as_text(value) for name, value in carry.items()}


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


class FailureLines:
    """Makes the lines of failed and set-aside rows. Its calls may look at folders: threads make them.

    A relative path is written so that it is found from the folder of the list. `_base` tells the reader where in it
    begins what was written in the first place, and `_inputs` which files are images that came as bytes: both change
    no path, and by them a row that nobody edited is known as the same.

    Args:
        folder: Where the list will lie.
        inputs: Where the journal keeps images that came as bytes.
    """

    def __init__(self, folder: Path, inputs: Path) -> None:
        self._folder = os.path.realpath(folder)
        self._inputs = str(inputs)
        self._relative = lru_cache(64)(partial(_relative, self._folder))
        self._is_free = lru_cache(1024)(_is_free)

    def line(self, record: Record) -> bytes:
        """Return one row's line, its reasons in columns that begin with `_`."""
        request, trouble = record.request, record.trouble
        columns = {
            "key": record.key,
            **self._images(request),
            "prompt": request.prompt,
            "duration": request.duration,
            "negative_prompt": request.negative_prompt,
            "cfg_scale": request.cfg_scale,
            "model": request.model,
            "extra": dict(request.extra) or None,
            "sample": request.sample,
            CARRY: self._others(request.carry) or None,
            "_stage": str(record.stage),
            "_error": trouble.kind if trouble else None,
            "_message": trouble.message if trouble else None,
            "_generation_id": record.generation_id,
            "_client_request_id": record.client_request_id,
        }
        given = {name: value for name, value in columns.items() if value is not None}
        own = {name: _as_json(value) for name, value in request.carry.items() if self._is_free(name)}
        return json.dumps(given | own, default=str).encode() + b"\n"

    def _images(self, request: ImageToVideo) -> dict[str, object]:
        sources = [source for _, source in request.images]
        masks = [
            {
                "mask": self._reference(mask.mask),
                "trajectories": [{"x": point.x, "y": point.y} for point in mask.trajectories],
            }
            for mask in request.dynamic_masks
        ]
        return {
            "image": self._reference(request.image),
            "tail_image": self._reference(request.tail_image),
            "static_mask": self._reference(request.static_mask),
            "dynamic_masks": masks or None,
            BASE: next((self._relative(source.base) for source in sources if _is_relative(source)), None),
            INPUTS: next((self._kept(source) for source in sources if source.kind is ImageKind.STORED), None),
        }

    def _reference(self, source: ImageSource | None) -> str | None:
        if source is None:
            return None
        match source.kind:
            case ImageKind.STORED:
                return f"{self._kept(source)}/{source.text}"
            case ImageKind.BYTES:
                mime = sniff(source.content[:SNIFF_BYTES]) or source.mime or "image/unknown"
                return f"data:{mime};base64,{base64.b64encode(source.content).decode()}"
        return f"{self._relative(source.base)}/{source.text}" if _is_relative(source) else source.text

    def _kept(self, source: ImageSource) -> str:
        return self._relative(source.base or self._inputs)

    def _others(self, carry: Mapping[str, object]) -> dict[str, object]:
        """Return what is carried under names that a manifest's columns cannot have."""
        return {name: _as_json(value) for name, value in carry.items() if not self._is_free(name)}


def _relative(folder: str, base: str) -> str:
    """Return the way from one folder to another, as the system goes it: through links, not by text."""
    try:
        return os.path.relpath(os.path.realpath(base), folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return os.path.realpath(base)


def _is_relative(source: ImageSource) -> bool:
    return source.kind is ImageKind.PATH and not PurePath(source.text).is_absolute()


def _is_free(name: str) -> bool:
    """Tell whether a manifest may have a column of the caller's own with this name."""
    return find_meant(name) is None and name[:1] not in {"", "_"} and "\0" not in name


def _as_json(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return _as_text(value)
    return value
