"""The usage log, the balance and the price: how they are asked for, and what is believed of their answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import (
    AuthenticationFailed,
    NotFound,
    OutOfCredit,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
)
from kling_async.rules.account import (
    LOG_PAGE,
    LogEntry,
    decode_balance,
    decode_log,
    decode_prices,
    encode_balance,
    encode_log,
    encode_price,
)
from kling_async.rules.budget import by_duration
from kling_async.types.exchange import HttpReply
from kling_async.types.request import MODEL

QUICK = settings(deadline=None, max_examples=100)


def reply(document: object, status: int = 200) -> HttpReply:
    return HttpReply(status, {}, json.dumps(document).encode())


def row(**values: object) -> dict[str, object]:
    """Write a row of the log as the service does."""
    return {
        "created": "2026-02-01T12:00:00.000Z",
        "status": "succeeded",
        "model": MODEL,
        "cost": {"usd": 0.52, "credits": 1040000},
        "request_id": "r-1",
        "inference_id": "g-1",
        "client_request_id": "ka1.a.b.1",
    } | values


def log(*rows: object, **pagination: object) -> HttpReply:
    told: dict[str, object] = {"limit": 100, "offset": 0, "total": 1, "has_more": False}
    return reply({"data": list(rows), "pagination": told | pagination})


class TestLog:
    """How a submit whose answer was lost is found again."""

    def test_it_is_asked_by_start_and_end(self) -> None:
        """In ISO-8601, at its largest page, from an offset; never by a `period` beside them."""
        call = encode_log(1_770_000_000.5, 1_770_001_800.0, offset=200, timeout=30.0)
        assert (call.method, call.path, call.body) == ("GET", "/v2/logs", ())
        assert dict(call.query) == {
            "start": "2026-02-02T02:40:00.500Z",
            "end": "2026-02-02T03:10:00.000Z",
            "limit": "100",
            "offset": "200",
        }

    @QUICK
    @given(st.floats(0, 4e9))
    def test_a_moment_is_written_to_the_millisecond(self, moment: float) -> None:
        """So that what was asked for is what was meant, in any year."""
        text = dict(encode_log(moment, moment, offset=0, timeout=1.0).query)["start"]
        assert text.endswith("Z")
        read = datetime.fromisoformat(text)
        assert read.tzinfo is not None
        assert abs(read - datetime.fromtimestamp(moment, UTC)) <= timedelta(milliseconds=1)

    def test_a_page_of_100_is_the_largest(self) -> None:
        """The service gives no more."""
        assert LOG_PAGE == 100

    def test_rows_are_read(self) -> None:
        """Our id, the generation's, and whether it cost nothing."""
        page = decode_log(
            log(row(), row(client_request_id="ka1.a.c.1", inference_id="g-2", status="failed"), has_more=True)
        )
        assert page.entries == (LogEntry("ka1.a.b.1", "g-1", failed=False), LogEntry("ka1.a.c.1", "g-2", failed=True))
        assert (page.size, page.has_more) == (2, True)

    @pytest.mark.parametrize(
        ("value", "known"),
        [
            ("-J8XkL0aPq_-rStUvWxYz", "-J8XkL0aPq_-rStUvWxYz"),
            ("u-u:kling-video/v1/standard/image-to-video", "u-u:kling-video/v1/standard/image-to-video"),
            (123456789012345678, "123456789012345678"),
            (None, None),
            ("", None),
            (True, None),
            ([], None),
        ],
    )
    def test_the_inference_id_is_the_generation_s(self, value: object, known: str | None) -> None:
        """Opaque, as everywhere, and a number as text; without one the row is there, but names none."""
        assert decode_log(log(row(inference_id=value))).entries == (LogEntry("ka1.a.b.1", known, failed=False),)

    @pytest.mark.parametrize(
        ("word", "failed"),
        [("failed", True), ("FAILED", True), ("succeeded", False), ("running", False), (None, False), (5, False)],
    )
    def test_only_failed_is_failed(self, word: object, *, failed: bool) -> None:
        """Whether the log lists a job before it ends is not known: any other word means that it was bought."""
        assert decode_log(log(row(status=word))).entries[0].failed is failed

    @pytest.mark.parametrize(
        "junk", [None, 5, "x", [], {}, row(client_request_id=None), row(client_request_id=""), row(client_request_id=7)]
    )
    def test_a_row_that_is_not_ours_is_passed_over(self, junk: object) -> None:
        """It counts for the page's size all the same, or pages would overlap."""
        page = decode_log(log(junk, row()))
        assert page.entries == (LogEntry("ka1.a.b.1", "g-1", failed=False),)
        assert page.size == 2

    @pytest.mark.parametrize(
        ("pagination", "rows", "more"),
        [
            ({"has_more": True}, 1, True),
            ({"has_more": False}, 100, False),
            ({"has_more": False, "total": 900, "offset": 0}, 100, False),
            ({"total": 101, "offset": 0}, 100, True),
            ({"total": 101, "offset": 100}, 1, False),
            ({"has_more": "no", "total": 100, "offset": 0}, 100, False),
            ({"total": 900}, 1, True),
            ({"has_more": None}, 1, True),
            ({}, 99, True),
            ([], 100, True),
            (None, 100, True),
            (None, 0, False),
        ],
    )
    def test_another_page_follows_unless_the_answer_says_no(self, *, pagination: object, rows: int, more: bool) -> None:
        """By its word, or by its total; in doubt the next page is read, until one is empty."""
        assert decode_log(reply({"data": [row()] * rows, "pagination": pagination})).has_more is more

    @pytest.mark.parametrize("document", [None, [], {}, {"data": None}, {"data": {}}, "x", 5])
    def test_a_log_without_rows_is_unreadable(self, document: object) -> None:
        """An empty log would mean "not listed", which this does not say."""
        with pytest.raises(ProtocolViolation):
            decode_log(reply(document))

    def test_an_error_is_an_error(self) -> None:
        """Never an empty log."""
        for status, kind in ((401, AuthenticationFailed), (429, RateLimited), (500, ServerTrouble)):
            with pytest.raises(kind):
                decode_log(reply({"statusCode": status, "message": "no"}, status))


class TestBalance:
    """What is on the account."""

    def test_it_is_asked_for(self) -> None:
        """By the billing call."""
        call = encode_balance(timeout=30.0)
        assert (call.method, call.path, call.query, call.body) == ("GET", "/v2/billing", (), ())

    @pytest.mark.parametrize(("value", "usd"), [(10.07, 10.07), (0, 0.0), (-3.5, -3.5), (12, 12.0)])
    def test_it_is_read(self, value: float, usd: float) -> None:
        """In USD; below zero in arrears."""
        assert decode_balance(reply({"current_balance": value, "currency": "USD"})) == usd

    @pytest.mark.parametrize("value", [None, "10.07", True, [], float("nan"), float("inf"), 10**400])
    def test_what_is_no_amount_is_unreadable(self, value: object) -> None:
        """Nobody is told a balance that nobody named."""
        with pytest.raises(ProtocolViolation):
            decode_balance(reply({"current_balance": value}))

    def test_a_refusal_tells_key_from_money(self) -> None:
        """It is asked for exactly that."""
        with pytest.raises(AuthenticationFailed):
            decode_balance(reply({"statusCode": 401, "message": "Invalid key"}, 401))
        with pytest.raises(OutOfCredit):
            decode_balance(reply({"statusCode": 403, "message": "Out of funds"}, 403))


def prices(document: object, status: int = 200) -> dict[int, float]:
    return decode_prices(reply(document, status), model=MODEL)


def priced(pricing: object, *, duration: int = 5, **values: object) -> float | None:
    return prices({"data": [{"id": MODEL, "pricing": pricing} | values]}).get(duration)


def unit(**values: Any) -> dict[str, Any]:
    return {"kind": "fixed", "units": [{"name": "video", "measure": "generation", "price": 0.21, "per": 1} | values]}


class TestPrice:
    """What one video costs, where the service tells it without doubt."""

    def test_it_is_asked_for(self) -> None:
        """By the model's name, with its pricing."""
        call = encode_price(MODEL, timeout=30.0)
        assert (call.method, call.path) == ("GET", "/v1/models")
        assert call.query == (("id", MODEL), ("include", "pricing"))

    def test_a_price_by_the_video(self) -> None:
        """Is the same for each duration."""
        assert priced(unit()) == priced(unit(), duration=10) == 0.21

    def test_a_price_by_the_second(self) -> None:
        """Grows with the duration."""
        assert priced(unit(measure="second", price=0.042)) == pytest.approx(0.21)
        assert priced(unit(measure="second", price=0.042), duration=10) == pytest.approx(0.42)
        assert priced(unit(measure="seconds", price=0.21, per=5), duration=10) == pytest.approx(0.42)

    def test_a_model_is_known_by_its_aliases_too(self) -> None:
        """And no other model's price is taken."""
        rows = [
            {"id": "other", "aliases": ["x"], "pricing": unit(price=9)},
            {"id": "new-name", "aliases": ["x", MODEL], "pricing": unit(price=0.3)},
        ]
        assert prices({"data": rows}) == {5: 0.3, 10: 0.3}
        assert prices({"data": rows[:1]}) == {}

    @pytest.mark.parametrize(
        "pricing",
        [
            None,
            [],
            {},
            {"kind": "variable"},
            {"kind": "variants", "variants": [{"price": 0.2}]},
            {"kind": "fixed"},
            {"kind": "fixed", "units": []},
            {"kind": "fixed", "units": [None]},
            {"kind": "fixed", "units": [{}]},
            {"kind": "fixed", "units": unit()["units"] * 2},
            unit(price=None),
            unit(price="0.21"),
            unit(price=True),
            unit(price=-0.21),
            unit(price=0.21, per=-1),
            unit(price=float("nan")),
            unit(price=10**400),
            unit(price=2.0**52),
            unit(price=0.21, per=1e-308),
        ],
    )
    def test_a_doubtful_price_is_none(self, pricing: object) -> None:
        """Never a figure that nobody told."""
        assert prices({"data": [{"id": MODEL, "pricing": pricing}]}) == {}

    @pytest.mark.parametrize("document", [{}, {"data": None}, {"data": []}, {"data": [None, 5, {}]}])
    def test_a_list_without_the_model_tells_none(self, document: object) -> None:
        """It is no error: a setting stands in."""
        assert prices(document) == {}

    @pytest.mark.parametrize("aliases", [None, MODEL, {}, [None, [], {}]])
    def test_odd_aliases_are_none(self, aliases: object) -> None:
        """Only a list of names is one."""
        assert priced(unit(), id="other", aliases=aliases) is None

    def test_an_error_is_an_error(self) -> None:
        """As everywhere."""
        with pytest.raises(NotFound):
            prices({"statusCode": 404, "message": "no"}, 404)
        with pytest.raises(ProtocolViolation):
            prices([])

    @QUICK
    @given(
        st.one_of(st.floats(), st.integers()),
        st.one_of(st.none(), st.floats(), st.integers()),
        st.sampled_from(["second", "generation"]),
    )
    def test_any_price_that_is_told_can_be_held(self, price: float, per: float | None, measure: str) -> None:
        """As whole credits that the journal can write."""
        found = priced(unit(price=price, per=per, measure=measure))
        if found is not None:
            assert all(0 <= credits_ < 2**63 for credits_ in by_duration(found).values())
