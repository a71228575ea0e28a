"""A request -> `HttpCall`; an `HttpReply` -> `Generation`, or exactly one typed error. The two calls of the service.

Every name on the wire stands here. Nothing here sends, waits or tries again, and nothing but this package's errors is
raised, whatever bytes come. JSON enters as `object` and is narrowed here and in the two rooms beside it: `envelopes`
(errors) and `account` (usage log, balance, price).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import evolve, frozen

from kling_async.errors import InvalidRequest, Issue, ProtocolViolation
from kling_async.rules.envelopes import describe_failure, error_of, id_of, parse_json, request_id, shown, violation
from kling_async.rules.links import fault_of_link
from kling_async.types.exchange import BodyPart, EncodedImage, HttpCall, HttpReply
from kling_async.types.generation import Generation, GenerationStatus, RemoteVideo, Usage
from kling_async.types.image import ImageKind, ImageSource, ImageState
from kling_async.types.outcome import CREDITS_PER_USD
from kling_async.types.request import ImageToVideo

GENERATIONS: Final = "/v2/video/generations"
"""The path of both calls."""

_JSON: Final = (("Content-Type", "application/json"), ("Accept", "application/json"))
_ACCEPT: Final = (("Accept", "application/json"),)
_RUNNING: Final = frozenset(
    {"queued", "generating", "waiting", "active", "processing", "pending", "in_progress", "running"}
)
FINISHED: Final = frozenset({"completed", "succeeded"})
"""What the service says of a finished generation, whether it gives a link to its video or not."""
_FAILED: Final = frozenset({"error", "failed", "cancelled", "canceled", "expired"})
_NO_USAGE: Final = Usage()


@frozen
class SizedImage:
    """What the body must know of a local image before it is read."""

    mime: str
    """Media type for the data URI."""
    state: ImageState
    """What it was when its digest was taken."""


def encode_submit(
    request: ImageToVideo, images: Mapping[str, SizedImage], *, client_request_id: str, timeout: float
) -> HttpCall:
    """Make the call that buys one video. Absent options are absent from the body.

    Args:
        request: What is asked for.
        images: Type and state of each local image by its field's name, as `ImageToVideo.images` names them.
        client_request_id: The id that finds this call again in the usage log.
        timeout: Seconds for the whole call.

    Raises:
        InvalidRequest: A value of `extra` cannot be written as JSON.
    """
    body = _Body()
    body.add("model", request.model)
    body.add_image("image_url", request.image, images.get("image"))
    body.add("prompt", request.prompt)
    body.add_image("tail_image_url", request.tail_image, images.get("tail_image"))
    body.add("duration", request.duration)
    body.add("negative_prompt", request.negative_prompt)
    body.add("cfg_scale", request.cfg_scale)
    body.add_image("static_mask", request.static_mask, images.get("static_mask"))
    if request.dynamic_masks:
        body.open_list("dynamic_masks")
        for i, mask in enumerate(request.dynamic_masks):
            body.write("{" if i == 0 else ",{")
            body.add_image("mask", mask.mask, images.get(f"dynamic_masks[{i}].mask"), first=True)
            body.add("trajectories", [{"x": point.x, "y": point.y} for point in mask.trajectories])
            body.write("}")
        body.write("]")
    for name, value in request.extra.items():
        body.add(name, value)
    return HttpCall(
        "POST",
        GENERATIONS,
        timeout,
        headers=(*_JSON, ("X-Client-Request-Id", client_request_id)),
        body=body.finished(),
        fresh_connection=True,
    )


class _Body:
    """Writes one JSON object as parts, so that an image never stands in memory."""

    def __init__(self) -> None:
        self._parts: list[BodyPart] = []
        self._text: list[str] = ["{"]

    def write(self, text: str) -> None:
        self._text.append(text)

    def _name(self, name: str, *, first: bool = False) -> None:
        comma = "" if first or (self._text == ["{"] and not self._parts) else ","
        self._text.append(f"{comma}{json.dumps(name)}:")

    def add(self, name: str, value: object) -> None:
        if value is None:
            return
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(issues=(Issue(name, f"cannot be written as JSON: {error}"),)) from None
        self._name(name)
        self._text.append(text)

    def open_list(self, name: str) -> None:
        self._name(name)
        self._text.append("[")

    def add_image(
        self, name: str, source: ImageSource | None, sized: SizedImage | None, *, first: bool = False
    ) -> None:
        if source is None:
            return
        self._name(name, first=first)
        if source.kind is ImageKind.URL:
            self._text.append(json.dumps(source.text, ensure_ascii=False))
            return
        if sized is None:
            raise InvalidRequest(issues=(Issue(name, "its size and type are not known"),))
        self._text.append(f'"data:{sized.mime};base64,')
        self._flush()
        self._parts.append(EncodedImage(source, sized.state))
        self._text.append('"')

    def _flush(self) -> None:
        self._parts.append("".join(self._text).encode())
        self._text = []

    def finished(self) -> tuple[BodyPart, ...]:
        self._text.append("}")
        self._flush()
        return tuple(self._parts)


def decode_submit(reply: HttpReply, *, client_request_id: str) -> Generation:
    """Read the answer to a submit. Any 2xx accepts.

    A 5xx or an unreadable 2xx that names the generation in `x-inference-id` is an accepted one too: it is watched
    under that id.

    Raises:
        KlingError: One leaf of the tree; see `kling_async.rules.retry` for what follows from it.
    """
    named = id_of(reply.headers.get("x-inference-id"))
    echo = reply.headers.get("x-client-request-id")
    generation: Generation | None = None
    if 200 <= reply.status < 300:
        try:
            generation = _read_generation(parse_json(reply), fallback_id=named, reply=reply)
        except ProtocolViolation:
            if named is None:
                raise
        if generation is None and named is None:
            raise violation("the service accepted, but named no generation id", reply)
    elif not (named and (reply.status >= 500 or reply.status == 408)):
        raise error_of(reply)
    found = generation or Generation(named or "", GenerationStatus.UNKNOWN, request_id=request_id(reply))
    return Generation(
        found.id,
        found.status,
        found.raw_status,
        found.video,
        found.failure,
        found.usage,
        found.request_id,
        client_request_id=client_request_id,
        echoed=echo == client_request_id if 200 <= reply.status < 300 else None,
    )


def encode_poll(generation_id: str, *, timeout: float) -> HttpCall:
    """Make the call that asks for a generation. The id goes out encoded, as a query parameter."""
    return HttpCall("GET", GENERATIONS, timeout, query=(("generation_id", generation_id),), headers=_ACCEPT)


def decode_poll(reply: HttpReply, *, generation_id: str) -> Generation:
    """Read the answer to a poll.

    Finished means `completed` or `succeeded` *with* a usable link. Everything that is neither finished nor failed,
    known or not, is still running.

    Raises:
        KlingError: One leaf of the tree, with the generation's id.
    """
    try:
        if not 200 <= reply.status < 300:
            raise error_of(reply)
        generation = _read_generation(parse_json(reply), fallback_id=generation_id, reply=reply)
        if generation is None:
            raise violation("the answer to a poll is no JSON object", reply)
    except Exception as error:
        if hasattr(error, "generation_id"):
            error.generation_id = generation_id
        raise
    return generation if generation.id == generation_id else evolve(generation, id=generation_id)


def _read_generation(document: object, *, fallback_id: str | None, reply: HttpReply) -> Generation | None:
    """Read a generation object; None where it is none, or names no id."""
    if not isinstance(document, dict):
        return None
    generation_id = id_of(document.get("id")) or id_of(document.get("generation_id")) or fallback_id
    if generation_id is None:
        return None
    word = document.get("status")
    raw = shown(word.strip(), 100) if isinstance(word, str) else ""
    video = _video_of(document.get("video"))
    status = _status_of(raw.lower(), has_video=video is not None)
    return Generation(
        generation_id,
        status,
        raw,
        video if status is GenerationStatus.COMPLETED else None,
        describe_failure(document.get("error")) if status is GenerationStatus.FAILED else None,
        _usage_of(document.get("meta")),
        request_id(reply),
    )


def _status_of(word: str, *, has_video: bool) -> GenerationStatus:
    if word in FINISHED:
        return GenerationStatus.COMPLETED if has_video else GenerationStatus.UNKNOWN
    if word in _FAILED:
        return GenerationStatus.FAILED
    return GenerationStatus.RUNNING if word in _RUNNING else GenerationStatus.UNKNOWN


def _video_of(value: object) -> RemoteVideo | None:
    for candidate in value if isinstance(value, list) else [value]:
        fields: Mapping[object, object] = candidate if isinstance(candidate, dict) else {"url": candidate}
        url = fields.get("url")
        if isinstance(url, str) and _is_link(url.strip()):
            size = fields.get("file_size")
            return RemoteVideo(
                url.strip(),
                _text(fields.get("content_type")),
                _text(fields.get("file_name")),
                size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**53 else None,
            )
    return None


def _is_link(url: str) -> bool:
    return id_of(url) is not None and len(url.split()) == 1 and not fault_of_link(url, local_service=True)


def _text(value: object) -> str | None:
    return shown(value) or None if isinstance(value, str) else None


def _usage_of(meta: object) -> Usage:
    usage = meta.get("usage") if isinstance(meta, dict) else None
    if not isinstance(usage, dict):
        return _NO_USAGE
    used, spent = _amount(usage.get("credits_used")), _amount(usage.get("usd_spent"))
    if used is None and spent is not None:
        used = _amount(spent * CREDITS_PER_USD)
    return Usage(None if used is None else round(used), spent)


def _amount(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Whatever is larger than 2**53 credits (4.5 billion USD) is no price.
    return float(value) if 0 <= value < 2**53 else None


def media_fields(request: ImageToVideo) -> Iterable[str]:
    """Name the fields whose images must be sized before `encode_submit`."""
    return (name for name, source in request.images if source.kind is not ImageKind.URL)
