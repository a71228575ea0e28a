"""An answer that is an error -> exactly one typed error. Both envelopes of the service, and what comes from in between.

Never decides what to do about it (`kling_async.rules.retry` does), and never raises anything but this package's errors,
whatever bytes come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import frozen

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
from kling_async.types.exchange import HttpReply

_MONEY: Final = re.compile(
    r"\binsuffici?ent(?!\s+(?:permission|privilege|scope|access|right|role|capacity|resource))|"
    r"out\s*of\s*funds|run out of credit|no credit|not enough (?:credit|fund|money)|\bcredits?_|"
    r"\barrears\b|\bbalance\b|\btop.?up\b|payment required|resource pack (?:depleted|expired)|_credits?\b",
    re.IGNORECASE,
)
_ARREARS_CODE: Final = re.compile(r"(?<!\d)110[012](?!\d)")
_JOBS: Final = re.compile(
    r"(?<!\d)1303(?!\d)|parallel (?:task|job|generation)s?|resource pack limit|concurren(?:cy|t)\b.{0,30}\blimit|"
    r"too many (?:concurrent|parallel|running|active|jobs|tasks|generations)",
    re.IGNORECASE,
)
_REQUESTS: Final = re.compile(
    r"(?<!\d)1302(?!\d)|too many requests|rate limit|too fast|per (?:second|minute)", re.IGNORECASE
)

_LABELS: Final = re.compile(r'"(?:request_?id|timestamp|instance|path)": ?"[^"]*"', re.IGNORECASE)
"""Names of calls and moments: random digits, in which a code would be found by chance."""
_QUERY: Final = re.compile(r"(?:\?|\\u003f)[^\s\"'<>?=]{0,200}(?:=|\\u003d)[^\s\"<>]*", re.IGNORECASE)
_PAYLOAD: Final = re.compile(r"(;base64,[^\s\"'<>,;]{40})[^\s\"'<>,;]+", re.IGNORECASE)

_NO_REASON: Final = "the service gave no reason"


def shown(text: str, limit: int = 1000) -> str:
    """Return a text of the service's as a person, a log and the journal may have it.

    The query of a link is a secret and is left out; an image that is sent back is cut; half characters, which cannot be
    written down, are replaced.

    Args:
        text: What came.
        limit: Characters at the most.
    """
    if not text or (text.isascii() and text.isalnum()):
        return text[:limit]  # one word, as in each answer to a poll: there is nothing to hide
    whole = text[:4000].encode("utf-8", "replace").decode()
    return _PAYLOAD.sub(r"\1…", _QUERY.sub("?…", whole))[:limit]


def id_of(value: object) -> str | None:
    """Return an id as it stands, a number as text; None for what is no id, or could never be sent again."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() and _can_be_sent(value) else None


def _can_be_sent(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_json(reply: HttpReply) -> object:
    """Parse a body as JSON.

    Raises:
        ProtocolViolation: The body is not JSON.
    """
    try:
        value: object = json.loads(reply.body)
    except (ValueError, RecursionError):
        raise violation("the answer is not JSON", reply) from None
    return value


def violation(message: str, reply: HttpReply) -> ProtocolViolation:
    """Make the error for an answer that cannot be read."""
    return ProtocolViolation(message, excerpt=shown(reply.excerpt()), status=reply.status, request_id=request_id(reply))


def request_id(reply: HttpReply) -> str | None:
    """Return the service's own id of the call."""
    return shown(reply.headers.get("x-request-id", ""), 200) or None


@frozen
class Envelope:
    """The words of an error, wherever they stood."""

    own: bool
    """Whether the body is one of the service's two envelopes."""
    message: str
    """What to show a person."""
    words: str
    """All of its text, to look for codes in."""
    issues: tuple[Issue, ...] = ()
    """The faults it lists, with their fields."""


def read_envelope(reply: HttpReply) -> Envelope:
    """Read either envelope, or make do with the first words of anything else."""
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, Mapping):
        text = " ".join(re.sub(r"<[^>]*>", " ", shown(reply.excerpt())).split())[:200]
        return Envelope(own=False, message=text or f"HTTP {reply.status} without a body", words=reply.excerpt())
    error = document.get("error")
    inner = error if isinstance(error, Mapping) else {}
    issues = tuple(_issues(inner.get("data"))) or tuple(_issues(document.get("detail")))
    message = _first_text(document.get("message"), inner.get("message"), error, document.get("title"))
    words = _LABELS.sub("", _dumped(document))[:4000]
    return Envelope(own=_is_own(document), message=message or f"HTTP {reply.status}", words=words, issues=issues)


def _is_own(document: Mapping[object, object]) -> bool:
    """Tell whether this is one of the service's two envelopes; what names a generation is none."""
    if id_of(document.get("id")) or id_of(document.get("generation_id")) or "message" not in document:
        return False
    newer = isinstance(document.get("error"), Mapping) or "title" in document
    return _is_code(document.get("statusCode")) or (newer and _is_code(document.get("status")))


def _is_code(value: object) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool)
    return number or (isinstance(value, str) and re.fullmatch(r"[0-9]{3}", value) is not None)


def _dumped(document: object) -> str:
    try:
        return json.dumps(document, ensure_ascii=False)
    except RecursionError:
        return ""


def describe_failure(error: object) -> str:
    """Return the reason of a failed generation, in any of its shapes, as one line."""
    if isinstance(error, Mapping):
        issues = "; ".join(str(issue) for issue in _issues(error.get("detail")))
        text = issues or _first_text(error.get("message"), error.get("detail"), error.get("name"), error.get("code"))
        return text or shown(_dumped(error), 500) or _NO_REASON
    return _first_text(error) or _NO_REASON


def is_too_many_jobs(words: str) -> bool:
    """Tell whether the words mean the account's limit on generations at once (Kling's 1303)."""
    return bool(_JOBS.search(words)) and not _ARREARS_CODE.search(words)


def _first_text(*candidates: object, depth: int = 5) -> str:
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            return shown(candidate.strip())
        if isinstance(candidate, int) and not isinstance(candidate, bool):
            return str(candidate)[:1000]
        if isinstance(candidate, list) and depth:
            texts = [text for text in (_first_text(item, depth=depth - 1) for item in candidate[:20]) if text]
            if texts:
                return "; ".join(texts)[:1000]
    return ""


def _issues(data: object) -> Iterable[Issue]:
    if not isinstance(data, list):
        return
    for item in data[:50]:
        if isinstance(item, Mapping):
            where = item.get("path", item.get("loc"))
            steps = [_first_text(step, depth=0) for step in (where[:20] if isinstance(where, list) else [where])]
            message = _first_text(item.get("message"), item.get("msg"), item.get("code"))
            yield Issue(".".join(step for step in steps if step)[:200], message or "is invalid")


def retry_after(reply: HttpReply) -> float | None:
    """Return the seconds that an answer asks to wait: a number, or a date taken against the same answer's `Date`.

    Returns:
        Seconds, at least 0; None where nothing readable is said.
    """
    value = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", value):
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        now = parsedate_to_datetime(reply.headers.get("date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def error_of(reply: HttpReply) -> KlingError:
    """Make the one error that a non-2xx answer stands for. Pure; never raises."""
    status, envelope, request = reply.status, read_envelope(reply), request_id(reply)
    if status < 400:
        return violation(f"HTTP {status} is not followed: the address may be wrong", reply)
    if status == 429 and (_ARREARS_CODE.search(envelope.words) or _MONEY.search(envelope.words)):
        return OutOfCredit(envelope.message, status=status, request_id=request)
    if status == 429:
        jobs = True if is_too_many_jobs(envelope.words) else (False if _REQUESTS.search(envelope.words) else None)
        return RateLimited(
            envelope.message, status=status, retry_after=retry_after(reply), too_many_jobs=jobs, request_id=request
        )
    if status >= 500 or status == 408 or (status == 403 and not _is_json(reply)):
        return ServerTrouble(
            envelope.message,
            status=status,
            refused=status == 403 or (status == 503 and envelope.own and not reply.headers.get("x-inference-id")),
            retry_after=retry_after(reply),
            request_id=request,
        )
    if status == 402 or (status == 403 and _MONEY.search(envelope.words)):
        return OutOfCredit(envelope.message, status=status, request_id=request)
    if status == 400 or (status == 422 and envelope.issues):
        listed = "; ".join(str(issue) for issue in envelope.issues)
        text = f"{envelope.message}: {listed}" if listed and listed != envelope.message else envelope.message
        return InvalidRequest(text[:4000], issues=envelope.issues, status=status, request_id=request)
    kind = {401: AuthenticationFailed, 403: AuthenticationFailed, 404: NotFound}.get(status, ApiError)
    return kind(envelope.message, status=status, request_id=request)


def _is_json(reply: HttpReply) -> bool:
    try:
        json.loads(reply.body)
    except (ValueError, RecursionError):
        return False
    return True
