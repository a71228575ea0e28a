"""Carries out the troubles of the API: what is answered in place of the right answer, if anything.

Pure. Whether the call has taken effect was settled before; this room must never change the world.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from kling_async.simulator.calls import Reaction
from kling_async.simulator.envelopes import Answer, Complaint, write_complaint, write_html, write_json
from kling_async.simulator.jobs import DONE
from kling_async.simulator.stamps import http_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kling_async.simulator.calls import Manner
    from kling_async.simulator.faults import Fault

_MADE_UP: Final = ("pending_review", "rendering", "upscaling", "moderating", "99%", "")
_CREDIT_KIND: Final = MappingProxyType({"kind": "err_insufficent_credits"})


@frozen(kw_only=True)
class Scene:
    """A call that a trouble befalls."""

    fault: Fault
    """The trouble."""

    path: str
    """Path of the call, with its query."""

    call_id: str
    """`x-request-id` of the answer."""

    now: float
    """The time, as a Unix time."""

    envelope: str
    """Which envelope errors come in."""

    chance: float
    """A draw in [0, 1) for what the trouble leaves open."""

    good: Answer | None = None
    """The right answer, if the call took effect."""

    @property
    def seconds(self) -> float | None:
        """The trouble's own time."""
        return self.fault.seconds

    @property
    def inference_id(self) -> Mapping[str, str]:
        """The header with the generation's id, if the trouble lets it through."""
        if self.good is None or not self.fault.inference_id:
            return {}
        generation_id = self.good.headers.get("x-inference-id")
        return {} if generation_id is None else {"x-inference-id": generation_id}


def befall(scene: Scene) -> Reaction:
    """Return what is done about a call that a trouble befalls."""
    kind = scene.fault.kind.removesuffix("_after")
    if scene.fault.kind in _MANNERS:
        return Reaction(manner=_MANNERS[scene.fault.kind], answer=scene.good or Answer())
    if kind == "slow":
        return Reaction(answer=scene.good or Answer(), delay=30.0 if scene.seconds is None else scene.seconds)
    if kind in _SPECIAL:
        return Reaction(answer=_SPECIAL[kind](scene))
    return Reaction(answer=_error(scene, kind))


_MANNERS: Final[Mapping[str, Manner]] = MappingProxyType(
    {
        "dropped_before": "drop",
        "dropped_after": "drop",
        "stalled_before": "stall",
        "stalled_after": "stall",
        "cut_after": "cut",
    }
)

_ERRORS: Final[Mapping[str, Complaint]] = MappingProxyType(
    {
        "400": Complaint(status=400, name="BadRequestException", message="the request is wrong"),
        "400_moderation": Complaint(
            status=400,
            name="BadRequestException",
            message="Failure to pass the risk control system",
            data={"code": 1301},
        ),
        "401": Complaint(status=401, name="UnauthorizedException", message="Invalid API key"),
        "403": Complaint(status=403, name="ForbiddenException", message="This key may not do this"),
        "403_credit": Complaint(
            status=403,
            name="OutOfFundsException",
            message="You've run out of credits. Please top up your balance or update your payment method to continue.",
            data=dict(_CREDIT_KIND),
        ),
        "403_html": Complaint(status=403, message="blocked"),
        "404": Complaint(status=404, name="NotFoundException", message="Inference not found"),
        "404_fresh": Complaint(status=404, name="NotFoundException", message="Inference not found"),
        "408": Complaint(status=408, name="RequestTimeoutException", message="Request Timeout"),
        "429": Complaint(status=429, name="ThrottlerException", message="Too Many Requests"),
        "429_seconds": Complaint(status=429, name="ThrottlerException", message="Too Many Requests"),
        "429_date": Complaint(status=429, name="ThrottlerException", message="Too Many Requests"),
        "429_1302": Complaint(
            status=429, name="TooManyRequestsException", message="request over rate limit", data={"code": 1302}
        ),
        "429_1303": Complaint(
            status=429,
            name="TooManyRequestsException",
            message="parallel task over resource pack limit",
            data={"code": 1303},
        ),
        "500": Complaint(status=500, name="InternalServerErrorException", message="Internal server error"),
        "502": Complaint(status=502, message="Bad Gateway"),
        "503": Complaint(status=503, name="ServiceUnavailableException", message="Service Unavailable"),
        "503_html": Complaint(status=503, message="Service Unavailable"),
        "504": Complaint(status=504, message="Gateway Timeout"),
        "524": Complaint(status=524, message="A timeout occurred"),
    }
)

_HTML: Final = frozenset({"403_html", "502", "503_html", "504", "524"})
_ARREARS: Final = (
    (1100, "account exception"),
    (1101, "account in arrears"),
    (1102, "resource pack depleted or expired"),
)


def _error(scene: Scene, kind: str) -> Answer:
    complaint = _arrears(scene) if kind == "429_arrears" else _ERRORS[kind]
    body = scene.fault.body or ("html" if kind in _HTML else scene.envelope)
    own = {} if body == "html" else {"x-request-id": scene.call_id}
    headers = {**own, **_retry_after(scene, kind), **scene.inference_id}
    complaint = evolve(complaint, headers=headers, message=scene.fault.text or complaint.message)
    return write_complaint(complaint, body, scene.path, scene.call_id, scene.now)


def _arrears(scene: Scene) -> Complaint:
    code, words = _ARREARS[int(scene.chance * len(_ARREARS))]
    return Complaint(status=429, name="TooManyRequestsException", message=f"{words} (code {code})", data={"code": code})


def _retry_after(scene: Scene, kind: str) -> Mapping[str, str]:
    seconds = 7.0 if scene.seconds is None else scene.seconds
    if kind == "429_seconds":
        return {"Retry-After": f"{seconds:g}"}
    return {"Retry-After": http_date(int(scene.now + seconds))} if kind == "429_date" else {}


def _redirect(scene: Scene) -> Answer:
    status = int(scene.fault.kind)
    return write_html(status, "Moved", {"Location": scene.fault.text or scene.path})


def _html_page(scene: Scene) -> Answer:
    return write_html(200, "Just a moment...", scene.inference_id)


def _not_json(scene: Scene) -> Answer:
    body = scene.good.body if scene.good is not None else b'{"id": "'
    headers = {"Content-Type": "application/json", **scene.inference_id}
    return Answer(headers=headers, body=body[: max(1, len(body) // 2)])


def _empty(scene: Scene) -> Answer:
    return Answer(headers={"Content-Type": "application/json", **scene.inference_id})


def _unknown(_scene: Scene) -> Answer:
    error = {"name": "Error", "message": "the generation could not be resolved"}
    return write_json({"id": "", "status": "unknown", "error": error})


def _no_id(scene: Scene) -> Answer:
    value = _value(scene)
    value.pop("id", None)
    return write_json(value, _status(scene), scene.inference_id)


def _generation_id(scene: Scene) -> Answer:
    value = _value(scene)
    if "id" in value:
        value = {"generation_id": value.pop("id"), **value}
    return write_json(value, _status(scene), scene.good.headers if scene.good is not None else {})


def _accepted_202(scene: Scene) -> Answer:
    good = scene.good or Answer()
    return evolve(good, status=202) if good.status < 300 else good


def _leaked_status(scene: Scene) -> Answer:
    value = _value(scene)
    good = scene.good or Answer()
    running = good.status == 200 and "error" not in value and value.get("status") not in DONE
    if not running:
        return good
    leaked = scene.fault.text or _MADE_UP[int(scene.chance * len(_MADE_UP))]
    return write_json({**value, "status": leaked}, 200, good.headers)


def _value(scene: Scene) -> dict[str, object]:
    value = json.loads(scene.good.body) if scene.good is not None else {}
    return value if isinstance(value, dict) else {}


def _status(scene: Scene) -> int:
    return scene.good.status if scene.good is not None else 200


_SPECIAL: Final[Mapping[str, Callable[[Scene], Answer]]] = MappingProxyType(
    {
        **dict.fromkeys(("301", "302", "303", "307", "308"), _redirect),
        "html": _html_page,
        "not_json": _not_json,
        "empty": _empty,
        "unknown": _unknown,
        "no_id": _no_id,
        "generation_id": _generation_id,
        "202": _accepted_202,
        "leaked_status": _leaked_status,
    }
)
