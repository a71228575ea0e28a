"""What a row is: its digest as written, its digest as sent, its document for the journal, the id of its POST.

Digests and documents are the same on every machine and for every version: they decide what was bought already. Bytes
of images are never read here; their digests are handed in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from json.encoder import encode_basestring_ascii as _quote  # what `json` itself writes text with
from typing import Final

from attrs import evolve

from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.record import Draft
from kling_async.types.request import DynamicMask, ImageToVideo, Point

KEY_LENGTH: Final = 24
"""Hex digits of the digest that serves as key for a row without one."""

_PREFIX: Final = "ka1"
_WRITER: Final = json.JSONEncoder(separators=(",", ":"))
_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=str)


def written_digest(request: ImageToVideo) -> str:
    """Return the digest of a row as it was written: paths as text, bytes by content, parameters; not what it carries.

    Returns:
        64 hex digits.
    """
    return _written(request, _shared(request))


def content_digest(request: ImageToVideo, digests: Mapping[str, str]) -> str:
    """Return the digest of what is sent: two rows of one content may share one generation.

    Samples are sent alike and share nothing; the first one shares with the row without a number.

    Args:
        request: The row.
        digests: The digest of each image's content by its field's name, as `ImageToVideo.images` names them.
    """
    found = iter([digests[name] for name, _ in request.images])
    pictures = _pictures(request, lambda _source: _quote(next(found)))
    sample = [] if request.sample in {None, 1} else [f'"sample":{request.sample:d}']
    return _digest([*pictures, *_shared(request), *_extra(request, _ENCODER), *sample])


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


def document_of(request: ImageToVideo) -> str:
    """Return a request as the journal keeps it: JSON, without what is empty. Bytes must have been kept first."""
    return _document(request, _shared(request))


def request_of(document: str) -> ImageToVideo:
    """Return the request that `document_of` wrote."""
    values = json.loads(document)
    for name in ("image", "tail_image", "static_mask"):
        if name in values:
            values[name] = _from_reference(values[name])
    if "dynamic_masks" in values:
        values["dynamic_masks"] = tuple(
            DynamicMask(_from_reference(mask["mask"]), tuple(Point(x, y) for x, y in mask["trajectories"]))
            for mask in values["dynamic_masks"]
        )
    return ImageToVideo(**values)


def draft_of(request: ImageToVideo) -> Draft:
    """Return a request as a row on its way into the journal."""
    shared = _shared(request)
    written = _written(request, shared)
    key = request.key if request.key is not None else default_key(written)
    document = "" if request.brings_bytes else _document(request, shared)
    return Draft(key, written, document, request.model, request.duration)


def _written(request: ImageToVideo, shared: Iterable[str]) -> str:
    sample = [] if request.sample is None else [f'"sample":{request.sample:d}']
    return _digest([*_pictures(request, _as_written), *shared, *_extra(request, _ENCODER), *sample])


def _document(request: ImageToVideo, shared: Iterable[str]) -> str:
    members = [*_pictures(request, _reference), *shared, *_extra(request, _WRITER)]
    if request.key is not None:
        members.append(f'"key":{_quote(request.key)}')
    if request.sample is not None:
        members.append(f'"sample":{request.sample:d}')
    if request.carry:
        members.append(f'"carry":{_object([_carried(*item) for item in request.carry.items()])}')
    return _object(members)


def _pictures(request: ImageToVideo, image: Callable[[ImageSource], str]) -> list[str]:
    """Return the members of an object that are images.

    Args:
        request: The request.
        image: Writes an image; it is called in the order of `ImageToVideo.images`.
    """
    found = [f'"image":{image(request.image)}']
    if request.tail_image is not None:
        found.append(f'"tail_image":{image(request.tail_image)}')
    if request.static_mask is not None:
        found.append(f'"static_mask":{image(request.static_mask)}')
    if request.dynamic_masks:
        found.append(f'"dynamic_masks":[{",".join([_mask(mask, image) for mask in request.dynamic_masks])}]')
    return found


def _shared(request: ImageToVideo) -> list[str]:
    """Return the members of an object that a digest and a document write alike, in the order of a document."""
    found = [f'"model":{_quote(request.model)}']
    if request.prompt is not None:
        found.append(f'"prompt":{_quote(request.prompt)}')
    found.append(f'"duration":{request.duration:d}')
    if request.negative_prompt is not None:
        found.append(f'"negative_prompt":{_quote(request.negative_prompt)}')
    if request.cfg_scale is not None:
        found.append(f'"cfg_scale":{_WRITER.encode(request.cfg_scale)}')
    return found


def _extra(request: ImageToVideo, writer: json.JSONEncoder) -> list[str]:
    return [f'"extra":{writer.encode(dict(request.extra))}'] if request.extra else []


def _mask(mask: DynamicMask, image: Callable[[ImageSource], str]) -> str:
    points = _WRITER.encode([[point.x, point.y] for point in mask.trajectories])
    return f'{{"mask":{image(mask.mask)},"trajectories":{points}}}'


def _object(members: Iterable[str]) -> str:
    return "{" + ",".join(members) + "}"


def _as_written(source: ImageSource) -> str:
    if source.kind is ImageKind.BYTES:
        return f'"sha256:{hashlib.sha256(source.content).hexdigest()}"'
    return _quote(("sha256" if source.kind is ImageKind.STORED else source.kind) + ":" + source.text)


def _reference(source: ImageSource) -> str:
    if source.kind is ImageKind.BYTES:
        raise TypeError("bytes cannot stand in a document: keep them first")
    text = f',"text":{_quote(source.text)}' if source.text else ""
    base = f',"base":{_quote(source.base)}' if source.base else ""
    mime = f',"mime":{_quote(source.mime)}' if source.mime else ""
    return '{"kind":"' + source.kind + f'"{text}{base}{mime}}}'


def _from_reference(reference: Mapping[str, str]) -> ImageSource:
    return ImageSource(
        ImageKind(reference["kind"]),
        reference.get("text", ""),
        reference.get("base", ""),
        mime=reference.get("mime", ""),
    )


def _carried(name: str, value: object) -> str:
    """Return a member of the caller's own; its value is text, where it is no JSON."""
    try:
        return f"{_quote(name)}:{_quote(value) if isinstance(value, str) else _WRITER.encode(value)}"
    except (TypeError, ValueError):
        return f"{_quote(name)}:{_quote(str(value))}"


def _digest(members: Iterable[str]) -> str:
    """Return the digest of an object whose members stand in the order of their names."""
    return hashlib.sha256(_object(sorted(members)).encode()).hexdigest()
