"""How each service speaks: the answer to a submit, and to a poll. As far as its SDK's submit, wait and download need.

Written from what the SDKs send and read; a field that none of them needs is not there. Nothing here counts or waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

Answer = dict[str, Any]
_MOMENT: Final = "2026-01-01T00:00:00Z"


@frozen
class Dialect:
    """One service's words."""

    submit: str
    """The path of a submit; what follows it is of no matter."""
    poll: str
    """What the path of a poll begins with; the id follows."""
    accepted: Callable[[str, str], Answer]
    """(id, the stand-in's address) -> the answer to a submit."""
    running: Callable[[str, bool], Answer]
    """(id, whether it says `waiting`) -> the answer to a poll of one that is not finished."""
    finished: Callable[[str, str], Answer]
    """(id, link) -> the answer to a poll of one that is."""


def _aiml(name: str, status: str) -> Answer:
    return {"id": name, "status": status, "meta": {"usage": {"credits_used": 420_000, "usd_spent": 0.21}}}


def _runway(name: str, status: str, **more: Any) -> Answer:
    cost = {"cost" if status == "SUCCEEDED" else "estimatedCost": {"credits": 25}}
    return {"id": name, "status": status, "createdAt": _MOMENT, **cost, **more}


def _replicate(name: str, status: str, output: str | None = None) -> Answer:
    return {
        "id": name,
        "model": "standin/video",
        "version": "0" * 64,
        "status": status,
        "input": {},
        "output": output,
        "logs": "",
        "error": None,
        "metrics": None,
        "created_at": _MOMENT,
        "started_at": _MOMENT,
        "completed_at": None,
        "urls": {},
    }


def _openai(name: str, status: str) -> Answer:
    return {
        "id": name,
        "object": "video",
        "model": "standin",
        "status": status,
        "progress": 0,
        "created_at": 1_767_225_600,
        "size": "1280x720",
        "seconds": "4",
    }


def _luma(name: str, state: str, link: str | None = None) -> Answer:
    return {
        "id": name,
        "generation_type": "video",
        "state": state,
        "created_at": _MOMENT,
        "assets": {"video": link} if link else None,
    }


AIML: Final = Dialect(
    "/v2/video/generations",
    "/v2/video/generations?generation_id=",
    lambda name, _: _aiml(name, "queued"),
    lambda name, waiting: _aiml(name, "waiting" if waiting else "generating"),
    lambda name, link: {**_aiml(name, "completed"), "video": {"url": link}},
)

FAL: Final = Dialect(
    "/fal/standin/video",
    "/fal/requests/",
    lambda name, here: {
        "request_id": name,
        "status_url": f"{here}/fal/requests/{name}/status",
        "response_url": f"{here}/fal/requests/{name}",
        "cancel_url": f"{here}/fal/requests/{name}/cancel",
    },
    lambda _, waiting: {"status": "waiting" if waiting else "IN_PROGRESS", "logs": []},
    lambda _, link: {"status": "COMPLETED", "logs": [], "metrics": {}, "video": {"url": link}},
)
"""Its status and its result are two calls; one answer serves both."""

REPLICATE: Final = Dialect(
    "/replicate/v1/models/standin/video/predictions",
    "/replicate/v1/predictions/",
    lambda name, _: _replicate(name, "starting"),
    lambda name, waiting: _replicate(name, "waiting" if waiting else "processing"),
    lambda name, link: _replicate(name, "succeeded", link),
)

OPENAI: Final = Dialect(
    "/openai/videos",
    "/openai/videos/",
    lambda name, _: _openai(name, "queued"),
    lambda name, waiting: _openai(name, "waiting" if waiting else "in_progress"),
    lambda name, _: _openai(name, "completed"),
)
"""Its videos have no links: /content behind the path of a poll is the file."""

RUNWAY: Final = Dialect(
    "/runway/v1/image_to_video",
    "/runway/v1/tasks/",
    lambda name, _: {"id": name, "estimatedCost": {"credits": 25}},
    lambda name, waiting: _runway(name, "waiting" if waiting else "RUNNING", progress=0.5),
    lambda name, link: _runway(name, "SUCCEEDED", output=[link]),
)

LUMA: Final = Dialect(
    "/luma/generations/video",
    "/luma/generations/",
    lambda name, _: _luma(name, "queued"),
    lambda name, waiting: _luma(name, "waiting" if waiting else "dreaming"),
    lambda name, link: _luma(name, "completed", link),
)

ALL: Final = (AIML, FAL, REPLICATE, OPENAI, RUNWAY, LUMA)
