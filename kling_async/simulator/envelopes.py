"""The bodies of errors: the two envelopes of the service, and what stands in its way.

Pure. This room must never choose a status for a situation; it only writes down what it is given.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from attrs import field, frozen

from kling_async.simulator.stamps import iso_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen(kw_only=True)
class Answer:
    """One HTTP answer, as plain data."""

    status: int = 200
    """HTTP status."""

    headers: Mapping[str, str] = field(factory=dict)
    """Headers besides Content-Length and Date."""

    body: bytes = b""
    """The body."""


@frozen(kw_only=True)
class Complaint:
    """What is wrong, before it is written into one of the envelopes."""

    status: int
    """HTTP status."""

    message: str
    """In words."""

    name: str = "Error"
    """`error.name` of the newer envelope."""

    data: object = None
    """`error.data` of the newer envelope: a list of issues, or an object; None: left out."""

    headers: Mapping[str, str] = field(factory=dict)
    """Further headers."""


def write_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer of JSON."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=body)


def write_complaint(complaint: Complaint, body: str, path: str, call_id: str, now: float) -> Answer:
    """Return an error's answer.

    Args:
        complaint: What is wrong.
        body: What it is written as: problem, older, html, text or empty.
        path: The path that was asked for.
        call_id: `x-request-id` of the answer.
        now: The time, as a Unix time.
    """
    if body == "problem":
        return _problem(complaint, path, call_id, now)
    if body == "older":
        return _older(complaint, path, call_id, now)
    title = _title(complaint.status)
    if body == "html":
        return write_html(complaint.status, f"{complaint.status} {title}", complaint.headers)
    text = b"" if body == "empty" else f"{title}: {complaint.message}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", **complaint.headers}
    return Answer(status=complaint.status, headers=headers, body=text)


def write_html(status: int, title: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a page such as a proxy shows."""
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Answer(
        status=status, headers={"Content-Type": "text/html; charset=utf-8", **(headers or {})}, body=page.encode()
    )


def _problem(complaint: Complaint, path: str, call_id: str, now: float) -> Answer:
    error: dict[str, object] = {"name": complaint.name, "message": complaint.message}
    if complaint.data is not None:
        error["data"] = complaint.data
    value = {
        "title": _title(complaint.status),
        "status": complaint.status,
        "message": complaint.message,
        "instance": path,
        "requestId": call_id,
        "timestamp": iso_stamp(now),
        "error": error,
    }
    headers = {"Content-Type": "application/problem+json", **complaint.headers}
    return write_json(value, complaint.status, headers)


def _older(complaint: Complaint, path: str, call_id: str, now: float) -> Answer:
    words: object = complaint.message
    if isinstance(complaint.data, list):
        words = [f"{'.'.join(map(str, issue['path']))}: {issue['message']}" for issue in complaint.data]
    value = {
        "requestId": call_id,
        "statusCode": complaint.status,
        "timestamp": iso_stamp(now),
        "path": path,
        "message": words,
    }
    return write_json(value, complaint.status, complaint.headers)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "A Timeout Occurred" if status == 524 else "Unknown"
