"""The account's calls: usage log, balance, price. Encoding and reading alone; see `kling_async.rules.wire`.

The usage log is how a submit whose answer was lost is found again: it lists requests with the id that we gave them
(`client_request_id`) and the generation they made (`inference_id`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from kling_async.rules.envelopes import error_of, id_of, parse_json, violation
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.request import DURATIONS

LOG_PAGE: Final = 100
"""Rows a page of the log, the most that it gives."""

MAX_PRICE: Final = 1e6
"""USD; what is dearer, or below nothing, is no price of a video."""

_ACCEPT: Final = (("Accept", "application/json"),)


@frozen
class LogEntry:
    """One request of the usage log."""

    client_request_id: str
    """The id that we gave it."""
    generation_id: str | None
    """The generation it made; None where the log names none."""
    failed: bool
    """Whether it is listed as failed, and so cost nothing."""


@frozen
class LogPage:
    """One page of the usage log, of requests that carried an id."""

    entries: tuple[LogEntry, ...]
    """The requests."""
    size: int
    """Rows on the page, those without an id too."""
    has_more: bool
    """Whether another page follows."""


def encode_log(start: float, end: float, *, offset: int, timeout: float) -> HttpCall:
    """Ask for the requests made between two moments.

    Args:
        start: Wall-clock seconds.
        end: Wall-clock seconds; at most 92 days later.
        offset: Rows to skip; the newest come first.
        timeout: Seconds for the call.
    """
    query = (
        ("start", _iso(start)),
        ("end", _iso(end)),
        ("limit", str(LOG_PAGE)),
        ("offset", str(offset)),
    )
    return HttpCall("GET", "/v2/logs", timeout, query=query, headers=_ACCEPT)


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def decode_log(reply: HttpReply) -> LogPage:
    """Read one page of the usage log.

    Raises:
        KlingError: One leaf of the tree.
    """
    document = _document(reply)
    rows = document.get("data")
    if not isinstance(rows, list):
        raise violation("the usage log has no data", reply)
    entries = tuple(entry for entry in map(_entry, rows) if entry is not None)
    pagination = document.get("pagination")
    return LogPage(entries, len(rows), _has_more(pagination if isinstance(pagination, Mapping) else {}, len(rows)))


def _has_more(pagination: Mapping[object, object], size: int) -> bool:
    """Tell whether another page follows: as the answer says, or by its total; in doubt, yes, until a page is empty."""
    more, total, offset = (pagination.get(name) for name in ("has_more", "total", "offset"))
    if isinstance(more, bool):
        return more
    if isinstance(total, int) and isinstance(offset, int):
        return offset + size < total
    return size > 0


def _entry(row: object) -> LogEntry | None:
    if not isinstance(row, Mapping):
        return None
    name, generation, status = (row.get(field) for field in ("client_request_id", "inference_id", "status"))
    if not isinstance(name, str) or not name:
        return None
    return LogEntry(name, id_of(generation), isinstance(status, str) and status.strip().lower() == "failed")


def encode_balance(*, timeout: float) -> HttpCall:
    """Ask for the balance."""
    return HttpCall("GET", "/v2/billing", timeout, headers=_ACCEPT)


def decode_balance(reply: HttpReply) -> float:
    """Return the balance in USD.

    Raises:
        KlingError: One leaf of the tree.
    """
    balance = _amount(_document(reply).get("current_balance"))
    if balance is None:
        raise violation("the answer names no balance", reply)
    return balance


def encode_price(model: str, *, timeout: float) -> HttpCall:
    """Ask for a model's price."""
    return HttpCall("GET", "/v1/models", timeout, query=(("id", model), ("include", "pricing")), headers=_ACCEPT)


def decode_prices(reply: HttpReply, *, model: str) -> dict[int, float]:
    """Return the price of one video in USD, by its duration; without those that the answer does not tell for certain.

    Raises:
        KlingError: One leaf of the tree.
    """
    rows = _document(reply).get("data")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping) and (row.get("id") == model or model in _list(row.get("aliases"))):
            pricing = row.get("pricing")
            found = {
                duration: _price_of(pricing, duration) if isinstance(pricing, Mapping) else None
                for duration in DURATIONS
            }
            return {duration: price for duration, price in found.items() if price is not None}
    return {}


def _price_of(pricing: Mapping[object, object], duration: int) -> float | None:
    kind = pricing.get("kind", pricing.get("type"))
    if kind != "fixed":
        return None
    prices = [_unit_price(unit, duration) for unit in _list(pricing.get("units"))]
    return prices[0] if len(prices) == 1 else None


def _unit_price(unit: object, duration: int) -> float | None:
    """Read `{name, measure, price, per}`: by the second, or by the video."""
    if not isinstance(unit, Mapping):
        return None
    price, per = _amount(unit.get("price")), _amount(unit.get("per", 1))
    if price is None:
        return None
    words = f"{unit.get('measure')} {unit.get('name')} {unit.get('per')}".lower()
    share = price / per if per else price
    told = share * duration if "second" in words else share
    return told if 0 <= told <= MAX_PRICE else None


def _document(reply: HttpReply) -> Mapping[object, object]:
    if not 200 <= reply.status < 300:
        raise error_of(reply)
    document = parse_json(reply)
    if not isinstance(document, Mapping):
        raise violation("the answer is no JSON object", reply)
    return document


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _amount(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) >= 2**53:
        return None
    return float(value) if math.isfinite(value) else None
