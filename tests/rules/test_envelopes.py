"""An answer that is an error is exactly one typed error, whatever it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kling_async.errors import (
    ApiError,
    AuthenticationFailed,
    InvalidRequest,
    Issue,
    KlingError,
    NotFound,
    OutOfCredit,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
)
from kling_async.rules.account import LogPage, decode_balance, decode_log, decode_prices
from kling_async.rules.envelopes import describe_failure, error_of, is_too_many_jobs, retry_after, shown
from kling_async.rules.wire import decode_poll, decode_submit
from kling_async.types.exchange import HttpReply
from kling_async.types.generation import Generation

FUZZ = settings(deadline=None, max_examples=400)
NOW = datetime(2026, 2, 1, 12, 0, 0, tzinfo=UTC)
UUID = "3f2a1101-1302-1303-a1100b-9d"
"""A call's own id in which codes of errors stand by chance."""

SECRET = "https://cdn.aimlapi.com/a/b.mp4?cacheKey=K1K1K1&ksSecret=S2S2S2&ksTime=6996dc99"
PAYLOAD = "data:image/png;base64," + "QUJD" * 300


def newer(
    status: object, message: object = "it failed", *, data: object = None, name: str = "Error"
) -> dict[str, object]:
    """Write `application/problem+json`."""
    error = {"name": name, "message": message} | ({} if data is None else {"data": data})
    return {
        "title": "Title",
        "status": status,
        "message": message,
        "instance": "/v2/video/generations",
        "requestId": UUID,
        "timestamp": "2026-02-01T11:01:02.110Z",
        "error": error,
    }


def older(status: object, message: object = "it failed") -> dict[str, object]:
    """Write the older envelope."""
    return {
        "requestId": UUID,
        "statusCode": status,
        "timestamp": "2026-02-01T13:02:13.030Z",
        "path": "/v2/video/generations",
        "message": message,
    }


def answer(status: int, document: object = None, *, body: bytes | None = None, **headers: str) -> HttpReply:
    content = body if body is not None else json.dumps(document).encode()
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


ENVELOPES: list[Any] = [
    pytest.param(newer, id="newer"),
    pytest.param(lambda status, *rest: newer(str(status), *rest), id="newer, text"),
    pytest.param(older, id="older"),
    pytest.param(lambda status, *rest: older(str(status), *rest), id="older, text"),
]
both_envelopes = pytest.mark.parametrize("envelope", ENVELOPES)
Envelope = Callable[..., dict[str, object]]


class TestKinds:
    """Which error an answer is."""

    @both_envelopes
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, InvalidRequest),
            (401, AuthenticationFailed),
            (402, OutOfCredit),
            (403, AuthenticationFailed),
            (404, NotFound),
            (405, ApiError),
            (408, ServerTrouble),
            (409, ApiError),
            (413, ApiError),
            (422, ApiError),
            (429, RateLimited),
            (451, ApiError),
            (500, ServerTrouble),
            (502, ServerTrouble),
            (503, ServerTrouble),
            (504, ServerTrouble),
            (524, ServerTrouble),
        ],
    )
    def test_a_status_has_its_kind(self, envelope: Envelope, status: int, kind: type[KlingError]) -> None:
        """In either envelope, with its status as number or text; message, status and call are told."""
        error = error_of(answer(status, envelope(status, "it failed, sorry"), x_request_id="r-1"))
        assert type(error) is kind
        assert str(error) == f"it failed, sorry (HTTP {status})"
        assert error.request_id == "r-1"

    @pytest.mark.parametrize(
        "body", [b"", b"<html><h1>Bad gateway</h1></html>", b"nope", b"\xff\x00", b"[]", b"null", b'"no"']
    )
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, InvalidRequest),
            (401, AuthenticationFailed),
            (404, NotFound),
            (429, RateLimited),
            (502, ServerTrouble),
            (524, ServerTrouble),
        ],
    )
    def test_a_status_speaks_for_itself(self, body: bytes, status: int, kind: type[KlingError]) -> None:
        """Where something in between answered, or nobody said a word."""
        error = error_of(answer(status, body=body))
        assert type(error) is kind
        assert str(status) in str(error)

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
    def test_a_redirect_is_not_followed(self, status: int) -> None:
        """A POST that follows one is sent twice."""
        error = error_of(answer(status, body=b"", location="https://elsewhere.example/?sig=SECRET"))
        assert type(error) is ProtocolViolation
        assert error.status == status
        assert "SECRET" not in str(error)

    def test_html_is_told_by_its_words(self) -> None:
        """Without its tags."""
        error = error_of(answer(502, body=b"<html><head><title>Bad  gateway</title></head><p>nginx</p></html>"))
        assert str(error) == "Bad gateway nginx (HTTP 502)"


class TestMoneyOrKey:
    """401, 402, 403, and arrears under 429: submitting stops, for the right reason."""

    @pytest.mark.parametrize(
        "document",
        [
            newer(403, "Forbidden", data={"kind": "err_insufficent_credits"}),
            newer(403, "Forbidden", data={"kind": "err_insufficient_credits"}),
            newer(403, "You've run out of credits. Please top up your balance.", name="OutOfFundsException"),
            newer(403, "no", name="OutOfFundsException"),
            older(403, "You've run out of credits."),
            older("403", ["Insufficient funds on the account"]),
            older(403, "Not enough credits"),
            older(403, "Your balance is 0"),
        ],
    )
    def test_no_credit_is_told_from_its_code_or_its_words(self, document: object) -> None:
        """The older envelope has no code."""
        assert type(error_of(answer(403, document))) is OutOfCredit

    @pytest.mark.parametrize(
        "document",
        [
            newer(403, "Forbidden resource"),
            older(403, "The key may not use this model"),
            older(403, "Insufficient permissions"),
            newer(403, "insufficient scope"),
            {"message": "Forbidden"},
            {},
            "Forbidden",
            [],
        ],
    )
    def test_another_json_403_is_the_key_s(self, document: object) -> None:
        """It was seen with money on the account: whether the key is at fault is asked elsewhere."""
        assert type(error_of(answer(403, document))) is AuthenticationFailed

    @pytest.mark.parametrize("body", [b"<html>Attention required! Your balance</html>", b"", b"Forbidden"])
    def test_a_403_of_html_is_the_service_s_trouble(self, body: bytes) -> None:
        """Something in between refused it: neither key nor money, and no job was made."""
        error = error_of(answer(403, body=body))
        assert type(error) is ServerTrouble
        assert error.refused

    def test_a_401_is_the_key_s_whatever_it_says(self) -> None:
        """Even where it speaks of money."""
        assert (
            type(error_of(answer(401, older("401", "No credit card on file: Invalid API key")))) is AuthenticationFailed
        )

    @pytest.mark.parametrize(
        "words",
        [
            '{"code":1100,"message":"account exception"}',
            "Kling error 1101",
            "code: 1102, resource pack depleted",
            "Account in arrears",
            "Insufficient balance",
            "resource pack expired",
        ],
    )
    @both_envelopes
    def test_arrears_under_429_are_no_credit(self, envelope: Envelope, words: str) -> None:
        """Waiting does not help: submitting stops."""
        assert type(error_of(answer(429, envelope(429, words)))) is OutOfCredit

    def test_a_code_may_stand_in_the_data(self) -> None:
        """As a number, or as text."""
        for code in (1101, "1101"):
            assert type(error_of(answer(429, newer(429, "no", data={"code": code})))) is OutOfCredit
            assert type(error_of(answer(429, newer(429, "no", data=[{"code": code}])))) is OutOfCredit

    @both_envelopes
    @pytest.mark.parametrize("status", [429, 403])
    def test_a_code_in_the_call_s_own_id_is_none(self, envelope: Envelope, status: int) -> None:
        """Random digits must not close the tap."""
        assert type(error_of(answer(status, envelope(status, "no")))) is not OutOfCredit


class TestRateLimited:
    """429: no job was made; how long to wait, and what there was too much of."""

    @both_envelopes
    @pytest.mark.parametrize(
        ("words", "jobs"),
        [
            ("1303", True),
            ("code 1303: parallel task over resource pack limit", True),
            ("Too many concurrent generations", True),
            ("Too many concurrent requests", True),
            ("1302", False),
            ("Too Many Requests", False),
            ("API request too fast", False),
            ("Rate limit exceeded: 10 per minute", False),
            ("slow down", None),
            ("21303 and 13025", None),
            ("insufficient capacity", None),
        ],
    )
    def test_it_tells_jobs_from_requests(self, envelope: Envelope, words: str, *, jobs: bool | None) -> None:
        """Or that it does not tell; never by the digits of the call's own id."""
        error = error_of(answer(429, envelope(429, words)))
        assert isinstance(error, RateLimited)
        assert error.too_many_jobs is jobs

    @pytest.mark.parametrize(
        ("named", "date", "seconds"),
        [
            ("7", None, 7.0),
            (" 7 ", None, 7.0),
            ("0", None, 0.0),
            ("1.5", None, 1.5),
            ("999999999", None, 999999999.0),
            (format_datetime(NOW + timedelta(seconds=90), usegmt=True), format_datetime(NOW, usegmt=True), 90.0),
            (format_datetime(NOW - timedelta(days=9), usegmt=True), format_datetime(NOW, usegmt=True), 0.0),
            (format_datetime(NOW + timedelta(seconds=90)), format_datetime(NOW, usegmt=True), 90.0),
            (format_datetime(NOW, usegmt=True), None, None),
            (format_datetime(NOW, usegmt=True), "yesterday", None),
            (None, None, None),
            ("", None, None),
            ("soon", None, None),
            ("-5", None, None),
            ("1e9", None, None),
            ("nan", None, None),
            ("inf", None, None),
            ("5, 6", None, None),
            ("9" * 400, None, None),
            ("Sun, 31 Feb 2026 99:99:99 GMT", format_datetime(NOW, usegmt=True), None),
            ("Mon, 01 Jan 99999 00:00:00 GMT", format_datetime(NOW, usegmt=True), None),
        ],
    )
    def test_the_pause_it_names(self, named: str | None, date: str | None, seconds: float | None) -> None:
        """Seconds, or a date taken against the same answer's own; what cannot be read names none."""
        headers: dict[str, Any] = ({} if named is None else {"retry_after": named}) | (
            {} if date is None else {"date": date}
        )
        for status in (429, 503):
            error = error_of(answer(status, older(status), **headers))
            assert isinstance(error, RateLimited | ServerTrouble)
            assert error.retry_after == seconds

    @settings(deadline=None, max_examples=300)
    @given(st.text(), st.text())
    @example("Mon, 01 Jan 0001 00:00:00 +9999", "Mon, 01 Jan 9999 00:00:00 -9999")
    @example("٣", "")
    @example("Mon, 01 Jan 2026 00:00:00 -0000", "Mon, 01 Jan 2026 00:00:00 GMT")
    def test_any_text_names_a_pause_or_none(self, named: str, date: str) -> None:
        """Never below 0, and never an error of another kind."""
        found = retry_after(answer(429, {}, retry_after=named, date=date))
        assert found is None or 0 <= found < float("inf")


class TestServerTrouble:
    """5xx: whether it is proven that no job was made."""

    @both_envelopes
    def test_a_503_in_an_envelope_made_no_job(self, envelope: Envelope) -> None:
        """It is the service's own word."""
        error = error_of(answer(503, envelope(503, "unavailable")))
        assert isinstance(error, ServerTrouble)
        assert error.refused

    @both_envelopes
    def test_a_503_that_names_a_generation_may_have(self, envelope: Envelope) -> None:
        """In a header or in the body."""
        named = error_of(answer(503, envelope(503), x_inference_id="g-1"))
        held = error_of(answer(503, {**envelope(503), "id": "g-1"}))
        other = error_of(answer(503, {**envelope(503), "generation_id": 5}))
        assert [error.refused for error in (named, held, other) if isinstance(error, ServerTrouble)] == [False] * 3

    @pytest.mark.parametrize(
        "document",
        [
            None,
            [],
            "unavailable",
            {},
            {"message": "unavailable"},
            {"status": "error", "error": {"name": "Error", "message": "unavailable"}},
            {"status": "error", "message": "m", "error": {"message": "unavailable"}},
            {"id": "g-1", "status": "error", "error": {"message": "unavailable"}},
            {"status": 503, "title": "Service Unavailable", "detail": "a gateway's own problem+json"},
            {"statusCode": None, "message": "m"},
            {"statusCode": True, "message": "m"},
            {"statusCode": 503},
            {"error": {"status": 503, "message": "m"}},
        ],
    )
    def test_a_503_in_anything_else_proves_nothing(self, document: object) -> None:
        """A gateway may have lost the answer to a job that was made."""
        error = error_of(answer(503, document))
        assert isinstance(error, ServerTrouble)
        assert not error.refused

    @pytest.mark.parametrize("body", [b"", b"<html>503</html>", b"\xff"])
    def test_a_503_of_no_json_proves_nothing(self, body: bytes) -> None:
        """As any other 5xx."""
        error = error_of(answer(503, body=body))
        assert isinstance(error, ServerTrouble)
        assert not error.refused

    @both_envelopes
    @pytest.mark.parametrize("status", [408, 500, 501, 502, 504, 520, 524, 599])
    def test_no_other_trouble_proves_anything(self, envelope: Envelope, status: int) -> None:
        """Not even in an envelope."""
        error = error_of(answer(status, envelope(status)))
        assert isinstance(error, ServerTrouble)
        assert not error.refused


class TestInvalid:
    """400: everything that the service lists is told, with its field."""

    def test_a_list_of_issues_is_read(self) -> None:
        """Path and message of each."""
        data = [
            {"code": "invalid_type", "path": ["image_url"], "message": "Required"},
            {"code": "custom", "path": ["dynamic_masks", 0, "mask"], "message": "Bad"},
            {"code": "odd"},
            "junk",
            {"path": "prompt", "message": None},
        ]
        error = error_of(answer(400, newer(400, "Validation failed", data=data)))
        assert isinstance(error, InvalidRequest)
        assert error.issues == (
            Issue("image_url", "Required"),
            Issue("dynamic_masks.0.mask", "Bad"),
            Issue("", "odd"),
            Issue("prompt", "is invalid"),
        )
        assert str(error).startswith("Validation failed: image_url: Required; dynamic_masks.0.mask: Bad")

    @pytest.mark.parametrize("status", [400, 422])
    def test_a_detail_list_is_read(self, status: int) -> None:
        """As other frameworks write it."""
        detail = [{"loc": ["body", "duration"], "msg": "must be 5 or 10", "type": "value_error"}]
        error = error_of(answer(status, {"detail": detail}))
        assert isinstance(error, InvalidRequest)
        assert error.issues == (Issue("body.duration", "must be 5 or 10"),)

    def test_several_messages_become_one(self) -> None:
        """The older envelope has a list of them."""
        error = error_of(answer(400, older(400, ["prompt must be a string", "", 5, None, ["image_url is required"]])))
        assert str(error) == "prompt must be a string; 5; image_url is required (HTTP 400)"

    def test_a_long_list_stays_readable(self) -> None:
        """A megabyte of complaints is no message."""
        data = [{"path": ["x" * 5000], "message": "y" * 5000}] * 3000
        assert len(str(error_of(answer(400, newer(400, "z" * 5000, data=data))))) < 5000


class TestFailures:
    """The reason of a failed generation, in any of its shapes."""

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ({"name": "Error", "message": "no face found"}, "no face found"),
            ({"message": ["one", "two"]}, "one; two"),
            ({"name": "ModerationError"}, "ModerationError"),
            ({"code": 1301}, "1301"),
            ({"detail": "too dark"}, "too dark"),
            (
                {"detail": [{"loc": ["body", "image_url"], "msg": "too small", "type": "v"}, {"msg": "odd"}]},
                "body.image_url: too small; odd",
            ),
            ("plain words", "plain words"),
            (["one", "two"], "one; two"),
            (1303, "1303"),
            (None, "the service gave no reason"),
            ("", "the service gave no reason"),
            ("  ", "the service gave no reason"),
            ([], "the service gave no reason"),
            (True, "the service gave no reason"),
            ({"error": {"message": "deeper"}}, '{"error": {"message": "deeper"}}'),
            ({}, "{}"),
        ],
    )
    def test_every_shape_has_a_reason(self, error: object, reason: str) -> None:
        """One line that a person can read."""
        assert describe_failure(error) == reason

    @pytest.mark.parametrize(
        "words", ["1303", "Kling error 1303: parallel task over resource pack limit", "too many concurrent jobs"]
    )
    def test_a_failure_may_really_be_too_many_at_once(self, words: str) -> None:
        """Kling's code 1303."""
        assert is_too_many_jobs(describe_failure({"message": words}))

    @pytest.mark.parametrize("words", ["no face found", "code 1101: resource pack limit", "13030", "moderation"])
    def test_another_failure_is_not(self, words: str) -> None:
        """Arrears neither."""
        assert not is_too_many_jobs(words)


class TestShown:
    """What a person, a log or the journal gets to see."""

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            (SECRET, "https://cdn.aimlapi.com/a/b.mp4?…"),
            (f"cannot fetch {SECRET} (403)", "cannot fetch https://cdn.aimlapi.com/a/b.mp4?… (403)"),
            (f'{{"url":"{SECRET}","x":1}}', '{"url":"https://cdn.aimlapi.com/a/b.mp4?…","x":1}'),
            ("https:\\/\\/cdn.aimlapi.com\\/b.mp4?a=1\\u0026ksSecret=S2S2S2", "https:\\/\\/cdn.aimlapi.com\\/b.mp4?…"),
            ("b.mp4?a\\u003d1\\u0026ksSecret\\u003dS2S2S2 is gone", "b.mp4?… is gone"),
            ("what? no = sign", "what? no = sign"),
        ],
    )
    def test_a_query_is_left_out(self, text: str, kept: str) -> None:
        """It is a secret; what stands around it stays."""
        assert shown(text) == kept

    def test_an_image_that_is_sent_back_is_cut(self) -> None:
        """Enough of it stays to be recognised."""
        text = shown(f"cannot read '{PAYLOAD}' as an image")
        assert len(text) < 120
        assert text.startswith("cannot read 'data:image/png;base64,QUJD")
        assert text.endswith("' as an image")

    def test_half_a_character_is_replaced(self) -> None:
        """A service that cuts a text between two halves would otherwise break the journal."""
        assert shown("balloon \ud83c") == "balloon ?"

    @settings(deadline=None, max_examples=150)
    @given(st.text(st.characters(exclude_categories=())))
    def test_what_is_shown_can_be_written_down(self, text: str) -> None:
        """As UTF-8, and not longer than allowed."""
        assert len(shown(text, 20).encode()) <= 80


# Whatever comes -----------------------------------------------------------------------------------------------------

NAMES = [
    "id", "generation_id", "status", "statusCode", "message", "error", "data", "detail", "video", "url",
    "meta", "usage", "credits_used", "usd_spent", "file_size", "content_type", "file_name", "name", "code",
    "path", "loc", "msg", "title", "requestId", "timestamp", "current_balance", "pricing", "kind", "units",
    "price", "per", "measure", "aliases", "client_request_id", "inference_id", "pagination", "has_more",
]  # fmt: skip
WORDS = [
    *("queued", "completed", "failed", "error", "succeeded", "fixed", "second", "m", "g-1", "500", "1303", "1101"),
    "half \ud800",
    "",
    "https://cdn.aimlapi.com/\ud83c.mp4",
    SECRET,
    f"cannot fetch {SECRET}",
    PAYLOAD,
    f"'{PAYLOAD}' is no image",
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**53, -(2**63), 10**308, 10**400, -(10**4000), 5, 0]),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.sampled_from(WORDS),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), inner, max_size=6),
    ),
    max_leaves=25,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "id": LEAVES,
        "status": st.one_of(LEAVES, st.sampled_from(["completed", "failed", "error"])),
        "statusCode": LEAVES,
        "message": DOCUMENTS,
        "error": DOCUMENTS,
        "video": DOCUMENTS,
        "data": st.one_of(DOCUMENTS, st.lists(DOCUMENTS, max_size=3)),
        "meta": st.fixed_dictionaries(
            {"usage": st.dictionaries(st.sampled_from(["credits_used", "usd_spent"]), LEAVES)}
        ),
        "current_balance": LEAVES,
    },
)
RAW = st.sampled_from(
    [
        b"",
        b"null",
        b"NaN",
        b"-Infinity",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"\x00",
        b'{"id":' + b"9" * 5000 + b"}",
        b'{"id":"a","id":"b","status":"queued","status":"completed"}',
        b'{"meta":{"usage":{"credits_used":1e999,"usd_spent":' + b"9" * 400 + b"}}}",
        b'{"id":"\xed\xa0\x80","status":"\xed\xa0\x80","message":"\xed\xa0\x80"}',
        b"[" * 100_000,
        b'{"message":' * 5000 + b"1" + b"}" * 5000,
        f'[{{"url":"{SECRET}"}}]'.encode(),
        f'{{"video":{{"url":"{SECRET}"'.encode(),
        f"<html>{SECRET}<img src='{PAYLOAD}'>".encode(),
        f'{{"id":"{PAYLOAD[:300]}'.encode(),
    ]
)
BODIES = st.one_of(
    st.binary(max_size=60),
    RAW,
    DOCUMENTS.map(lambda value: json.dumps(value).encode()),
    SHAPED.map(lambda value: json.dumps(value).encode()),
    DOCUMENTS.map(lambda value: json.dumps(value).encode("utf-16")),
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-inference-id", "x-request-id", "x-client-request-id", "retry-after", "date", "content-type"]),
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=30),
        st.sampled_from(["", "5", "-5", "9" * 5000, "Sun, 01 Feb 2026 12:00:00 GMT", "g-1", SECRET]),
    ),
    max_size=4,
)
REPLIES = st.builds(
    HttpReply,
    st.one_of(st.sampled_from([200, 201, 400, 401, 403, 404, 429, 500, 503]), st.integers(100, 599)),
    HEADERS,
    BODIES,
)
DECODERS: dict[str, Callable[[HttpReply], object]] = {
    "submit": lambda reply: decode_submit(reply, client_request_id="ka1.x.y.1"),
    "poll": lambda reply: decode_poll(reply, generation_id="g-1"),
    "log": decode_log,
    "balance": decode_balance,
    "price": lambda reply: decode_prices(reply, model="m"),
    "error": error_of,
}
VALUES: dict[str, type] = {"submit": Generation, "poll": Generation, "log": LogPage, "balance": float, "price": dict}
"""What each decoder makes of a good answer; the one of errors makes nothing else."""
ANSWERS = {decode: (KlingError, VALUES.get(name, KlingError)) for name, decode in DECODERS.items()}
every_decoder = pytest.mark.parametrize("decode", [pytest.param(decode, id=name) for name, decode in DECODERS.items()])


def told(found: object) -> list[str]:
    """Return every text that a person may get to see of a result, ids as they stand left out."""
    if isinstance(found, InvalidRequest):
        return [str(found), repr(found), *(text for issue in found.issues for text in issue)]
    if isinstance(found, KlingError):
        return [str(found), repr(found), getattr(found, "excerpt", ""), found.request_id or ""]
    if isinstance(found, Generation):
        return [found.raw_status, found.failure or "", repr(found.video), found.request_id or ""]
    return []


def judged(decode: Callable[[HttpReply], object], reply: HttpReply) -> object:
    """Decode; check what every result keeps to."""
    try:
        found = decode(reply)
    except KlingError as error:
        found = error
    for text in told(found):
        assert "ksSecret=" not in text
        assert "S2S2S2" not in text
        assert "QUJD" * 30 not in text
        text.encode()
        assert len(text) < 10_000
    if isinstance(found, Generation):
        found.id.encode()
        assert found.usage.credits is None or 0 <= found.usage.credits < 2**63
    return found


@every_decoder
@FUZZ
@given(reply=REPLIES)
def test_whatever_comes_is_a_value_or_one_of_our_errors(
    decode: Callable[[HttpReply], object], reply: HttpReply
) -> None:
    """Any status, headers and bytes; and no text of it tells a secret or cannot be written down."""
    found = judged(decode, reply)
    assert isinstance(found, ANSWERS[decode])
    if not 200 <= reply.status < 300 and isinstance(found, KlingError):
        assert getattr(found, "status", None) == reply.status


@every_decoder
@pytest.mark.parametrize("status", [200, 400, 403, 429, 503])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        (b"[", b"]"),
        (b'{"message":[', b"]}"),
        (b'{"error":', b"}"),
        (b'{"error":{"detail":[{"loc":[', b"]}]}}"),
        (b'{"data":[', b"]}"),
    ],
    ids=["list", "message", "error", "detail", "data"],
)
def test_however_deep_an_answer_is_it_is_read_or_refused(
    decode: Callable[[HttpReply], object], status: int, opening: bytes, closing: bytes
) -> None:
    """Also at the depths that can just be parsed, and no more be written or walked; one that cannot is refused."""
    head, tail = b'{"status":"failed","message":"m","error":', b"}"
    for depth in (*range(100, 1100, 25), 5000):
        deep = opening * depth + b"1" + closing * depth
        for body in (deep, head + deep + tail):
            found = judged(decode, HttpReply(status, {}, body))
            assert isinstance(found, ANSWERS[decode])
            if status != 200:
                assert isinstance(found, ApiError)
                assert found.status == status
            elif depth == 5000:
                assert isinstance(found, ProtocolViolation)


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_a_failure_is_described_at_any_depth(depth: int) -> None:
    """Whatever could be parsed has a reason."""
    error: object = 1
    for _ in range(depth):
        error = {"x": error}
    assert describe_failure(error)
