"""The verdict table: every error is judged, and a POST is repeated only where it is proven that no job was made."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async import errors
from kling_async.errors import (
    AnswerLost,
    AuthenticationFailed,
    BudgetExceeded,
    DiskFull,
    DownloadError,
    ImageChanged,
    InvalidRequest,
    KlingError,
    LinkExpired,
    NotAVideo,
    NotFound,
    NotSent,
    OutOfCredit,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
    TooLarge,
    TooManyFailures,
    Truncated,
)
from kling_async.rules.retry import TABLE, Operation, Verdict, backoff, decide, named_pause
from kling_async.rules.wire import decode_submit
from kling_async.types.exchange import HttpReply

QUICK = settings(deadline=None, max_examples=200)
ENVELOPE = {"statusCode": 0, "message": "no", "path": "/v2/video/generations"}


def tree(kind: type[KlingError] = KlingError) -> Iterator[type[KlingError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = sorted(tree(), key=lambda kind: kind.__name__)
LEAVES = sorted((kind for kind in tree() if not kind.__subclasses__()), key=lambda kind: kind.__name__)

OPTIONS: dict[str, tuple[object, ...]] = {
    "status": (None, 100, 200, 204, 300, 307, 400, 403, 404, 408, 418, 429, 500, 503, 524),
    "refused": (False, True),
    "too_many_jobs": (None, False, True),
    "retry_after": (None, 0.0, 5.0),
}


def variants(kind: type[KlingError]) -> Iterator[KlingError]:
    """Make an error of each combination of what a verdict might look at."""
    names = [name for name in OPTIONS if name in inspect.signature(kind).parameters]
    for values in itertools.product(*(OPTIONS[name] for name in names)):
        yield kind("x", **dict(zip(names, values, strict=True)))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("operation", Operation)
def test_every_leaf_is_judged_for_every_operation(kind: type[KlingError], operation: Operation) -> None:
    """By a row of its own or of an ancestor that is more than "some error of ours"."""
    rows = [ancestor for ancestor in kind.__mro__ if ancestor in TABLE]
    assert rows
    assert KlingError not in rows
    for error in variants(kind):
        rule = TABLE[rows[0]][operation]
        verdict = decide(operation, error)
        assert isinstance(verdict, Verdict)
        assert verdict is rule or (callable(rule) and verdict is rule(error))


def test_every_row_of_the_table_judges_all_operations() -> None:
    """No gap, and no row for what is no error of ours."""
    for kind, row in TABLE.items():
        assert issubclass(kind, KlingError)
        assert set(row) == set(Operation)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_post_is_repeated_only_where_no_job_was_made(kind: type[KlingError]) -> None:
    """Not sent at all; a 429; trouble that says so itself. Nothing else, whatever it carries."""
    for error in variants(kind):
        proven = isinstance(error, NotSent | RateLimited) or (isinstance(error, ServerTrouble) and error.refused)
        assert (decide(Operation.SUBMIT, error) in {Verdict.AGAIN, Verdict.ANEW}) == proven


def test_an_error_nobody_foresaw_is_not_repeated() -> None:
    """A subclass is judged as its parent, and the root is told to the caller."""

    class OddError(AnswerLost):
        pass

    class ForeignError(KlingError):
        pass

    assert decide(Operation.SUBMIT, OddError("x")) is Verdict.UNCERTAIN
    assert all(decide(operation, ForeignError("x")) is Verdict.RAISE for operation in Operation)


def answer(status: int, **headers: str) -> HttpReply:
    return HttpReply(
        status,
        {k.replace("_", "-"): v for k, v in headers.items()},
        json.dumps(ENVELOPE | {"statusCode": status}).encode(),
    )


def html(status: int) -> HttpReply:
    return HttpReply(status, {}, b"<html>")


def said(status: int, message: str) -> HttpReply:
    return HttpReply(status, {}, json.dumps(ENVELOPE | {"statusCode": status, "message": message}).encode())


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        pytest.param(answer(400), Verdict.REFUSED, id="400: wrong or moderated"),
        pytest.param(html(400), Verdict.REFUSED, id="400 of html"),
        pytest.param(answer(401), Verdict.CREDENTIALS, id="401: the key"),
        pytest.param(said(402, "payment required"), Verdict.STOP, id="402: money"),
        pytest.param(said(403, "err_insufficent_credits"), Verdict.STOP, id="403: money"),
        pytest.param(answer(403), Verdict.CREDENTIALS, id="403: the key may not"),
        pytest.param(html(403), Verdict.AGAIN, id="403 of html: in between"),
        pytest.param(answer(404), Verdict.REFUSED, id="404: no such model"),
        pytest.param(answer(405), Verdict.REFUSED, id="405"),
        pytest.param(answer(408), Verdict.UNCERTAIN, id="408: as 500"),
        pytest.param(answer(409), Verdict.REFUSED, id="409"),
        pytest.param(answer(413), Verdict.REFUSED, id="413"),
        pytest.param(answer(422), Verdict.REFUSED, id="422"),
        pytest.param(answer(429), Verdict.AGAIN, id="429"),
        pytest.param(html(429), Verdict.AGAIN, id="429 of html"),
        pytest.param(said(429, "1303"), Verdict.AGAIN, id="429: too many jobs"),
        pytest.param(said(429, "1102"), Verdict.STOP, id="429: arrears"),
        pytest.param(answer(301), Verdict.REFUSED, id="301: not followed"),
        pytest.param(answer(307), Verdict.REFUSED, id="307: not followed"),
        pytest.param(answer(308), Verdict.REFUSED, id="308: not followed"),
        pytest.param(answer(500), Verdict.UNCERTAIN, id="500"),
        pytest.param(html(502), Verdict.UNCERTAIN, id="502"),
        pytest.param(answer(503), Verdict.AGAIN, id="503 in an envelope"),
        pytest.param(html(503), Verdict.UNCERTAIN, id="503 of html"),
        pytest.param(answer(504), Verdict.UNCERTAIN, id="504"),
        pytest.param(html(524), Verdict.UNCERTAIN, id="524"),
        pytest.param(html(200), Verdict.UNCERTAIN, id="unreadable 200"),
        pytest.param(HttpReply(204), Verdict.UNCERTAIN, id="204 without an id"),
        pytest.param(HttpReply(200, {}, b'{"status":"queued"}'), Verdict.UNCERTAIN, id="200 without an id"),
        pytest.param(html(101), Verdict.UNCERTAIN, id="no final answer"),
    ],
)
def test_what_follows_from_the_answer_to_a_post(reply: HttpReply, verdict: Verdict) -> None:
    """As the table of the service's errors says, row by row."""
    with pytest.raises(KlingError) as caught:
        decode_submit(reply, client_request_id="ka1.x.y.1")
    assert decide(Operation.SUBMIT, caught.value) is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotSent("refused, no such host, TLS"), Verdict.AGAIN),
        (ImageChanged("replaced before its first byte"), Verdict.ANEW),
        (AnswerLost("a read timeout, a lost connection"), Verdict.UNCERTAIN),
        (ProtocolViolation("an answer larger than we read"), Verdict.UNCERTAIN),
        (InvalidRequest("found before it was sent"), Verdict.REFUSED),
        (BudgetExceeded("the ceiling"), Verdict.STOP),
        (TooManyFailures("three rows"), Verdict.STOP),
    ],
)
def test_what_follows_where_no_answer_was_read(error: KlingError, verdict: Verdict) -> None:
    """Nothing sent, sent and lost, or stopped by us."""
    assert decide(Operation.SUBMIT, error) is verdict


@pytest.mark.parametrize("error", [NotSent("x"), AnswerLost("x"), ProtocolViolation("x")])
def test_what_costs_nothing_is_tried_again(error: KlingError) -> None:
    """A download may be repeated after any trouble of the network."""
    assert decide(Operation.DOWNLOAD, error) is Verdict.AGAIN


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (LinkExpired("x"), Verdict.FRESH_LINK),
        (NotFound("x"), Verdict.FRESH_LINK),
        (NotAVideo("x"), Verdict.FRESH_LINK),
        (TooLarge("x"), Verdict.FRESH_LINK),
        (Truncated("x"), Verdict.AGAIN),
        (ServerTrouble("x", status=503), Verdict.AGAIN),
        (RateLimited("x"), Verdict.AGAIN),
        (DiskFull("x"), Verdict.RAISE),
        (DownloadError("x"), Verdict.RAISE),
    ],
)
def test_what_follows_from_a_failed_download(error: KlingError, verdict: Verdict) -> None:
    """The same link again, another link, or a person: never a new generation."""
    assert decide(Operation.DOWNLOAD, error) is verdict


def test_no_download_stops_submitting_or_buys() -> None:
    """These verdicts are a POST's alone."""
    for kind in tree():
        for error in variants(kind):
            assert decide(Operation.DOWNLOAD, error) in {Verdict.AGAIN, Verdict.FRESH_LINK, Verdict.RAISE}


def test_key_and_money_stop_submitting() -> None:
    """Whichever way they are said."""
    assert decide(Operation.SUBMIT, AuthenticationFailed("x", status=401)) is Verdict.CREDENTIALS
    assert decide(Operation.SUBMIT, OutOfCredit("x", status=403)) is Verdict.STOP


DRAWS = st.floats(0, 1, exclude_max=True)
SPANS = st.tuples(st.floats(0.01, 600), st.floats(0.01, 3600))


@QUICK
@given(st.integers(1, 10_000), DRAWS, SPANS)
def test_a_pause_is_never_longer_than_the_cap(attempt: int, draw: float, span: tuple[float, float]) -> None:
    """The jitter goes under it, and it is never zero."""
    first, cap = span
    assert 0 < backoff(attempt, draw, first=first, cap=cap) <= cap


@QUICK
@given(st.integers(1, 200), DRAWS, DRAWS, SPANS)
def test_a_pause_grows_with_the_draw(attempt: int, one: float, other: float, span: tuple[float, float]) -> None:
    """No two clients that draw differently wake at once, at the cap neither."""
    first, cap = span
    low, high = sorted((one, other))
    assert backoff(attempt, low, first=first, cap=cap) <= backoff(attempt, high, first=first, cap=cap)
    assert backoff(attempt, 0.0, first=first, cap=cap) < backoff(attempt, 0.5, first=first, cap=cap)


@QUICK
@given(st.integers(1, 200), DRAWS, SPANS)
def test_a_pause_grows_with_the_attempts(attempt: int, draw: float, span: tuple[float, float]) -> None:
    """It doubles up to the cap."""
    first, cap = span
    one, other = (backoff(n, draw, first=first, cap=cap) for n in (attempt, attempt + 1))
    assert one <= other <= 2 * one * (1 + 1e-12)


def test_the_first_pauses() -> None:
    """Half of it is certain, the other half is drawn."""
    pauses = [backoff(n, 0.0, first=1.0, cap=60.0) for n in range(1, 9)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert backoff(1, 0.999, first=1.0, cap=60.0) == pytest.approx(0.9995)


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (RateLimited("x", retry_after=7.0), 7.0),
        (RateLimited("x", retry_after=0.0), 0.0),
        (RateLimited("x", retry_after=-7.0), 0.0),
        (RateLimited("x", retry_after=1e9), 300.0),
        (RateLimited("x"), None),
        (ServerTrouble("x", retry_after=7.0), 7.0),
        (ServerTrouble("x"), None),
        (NotSent("x"), None),
    ],
)
def test_a_named_pause_is_honoured_with_a_cap(error: KlingError, pause: float | None) -> None:
    """Within [0, cap]; None where the answer named none."""
    assert named_pause(error, cap=300.0) == pause
