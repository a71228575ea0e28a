"""The names of all troubles, by the operation they can befall.

Only the vocabulary: what a trouble does stands in `mishaps` (the API), `cdn` (downloads) and `jobs`. A kind that ends
in `_after` strikes when the call has taken effect, any other (but `leaked_status`) before; so `500` made no job, and
`500_after` did. This room must never do any of it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANY_CALL: Final = {
    "refused": "the connection is cut before the body is read; no effect",
    "dropped_before": "the connection is cut after the body was read; no effect",
    "dropped_after": "the call takes effect, and the connection is cut instead of an answer",
    "stalled_before": "no effect and no answer, until the client leaves",
    "stalled_after": "the call takes effect, and no answer comes until the client leaves",
    "cut_after": "the call takes effect, and the answer is cut in its middle",
    "slow_after": "the call takes effect at once; its answer comes `seconds` later (30)",
    "400": "400, the request is wrong",
    "400_moderation": "400, refused by moderation",
    "401": "401, the key is refused",
    "403": "403, the key may not do this",
    "403_credit": "403, out of credit (`err_insufficent_credits`; the older envelope has words only)",
    "403_html": "403 with a page of HTML, from something in between",
    "404": "404; on a poll `Inference not found`",
    "408": "408, the request took too long; no effect",
    "408_after": "408, the request took too long, yet the call took effect",
    "429": "429 without Retry-After",
    "429_seconds": "429 with Retry-After in seconds (`seconds`, 7)",
    "429_date": "429 with Retry-After as a date (`seconds` from now, 7)",
    "429_1302": "429 with Kling's 1302: too many requests",
    "429_1303": "429 with Kling's 1303: too many jobs at once",
    "429_arrears": "429 with Kling's 1100 to 1102: the account is in arrears",
    "500": "500, no effect",
    "500_after": "500, yet the call took effect",
    "502": "502, no effect (HTML)",
    "502_after": "502, yet the call took effect (HTML)",
    "503": "503 with an envelope, no effect",
    "503_after": "503 with an envelope, yet the call took effect",
    "503_html": "503 with HTML, no effect",
    "503_html_after": "503 with HTML, yet the call took effect",
    "504": "504, no effect (HTML)",
    "504_after": "504, yet the call took effect (HTML)",
    "524": "524, no effect (HTML)",
    "524_after": "524, yet the call took effect (HTML)",
    "301": "a redirect; no effect",
    "302": "a redirect; no effect",
    "303": "a redirect; no effect",
    "307": "a redirect that asks for the same method; no effect",
    "308": "a redirect that asks for the same method; no effect",
    "html": "200 with a page of HTML; no effect",
    "html_after": "200 with a page of HTML, yet the call took effect",
    "not_json_after": "200 with JSON that ends in its middle, yet the call took effect",
    "empty_after": "200 without a body, yet the call took effect",
}

_SUBMIT: Final = {
    "no_id_after": "2xx without the generation's id, yet the job was made",
    "generation_id_after": "the id comes as `generation_id` in place of `id`",
    "202_after": "202 with the usual body",
}

_POLL: Final = {
    "404_fresh": "404 `Inference not found` while the job is younger than `seconds` (30)",
    "unknown": '200 with `{"id":"","status":"unknown","error":{...}}`',
    "leaked_status": "the status of a running job is `text`; without it, one that nobody documented",
}

_JOB: Final = {
    "error_named": "the job fails: `error` is an object with name and message",
    "error_detail": "the job fails: `error` holds a list of details",
    "error_text": "the job fails: `error` is a string",
    "error_1303": "the job fails with Kling's 1303: too many at once",
    "error_moderation": "the job fails: refused by moderation",
    "failed": "the job ends with the status `failed`",
    "cancelled": "the job ends with the status `cancelled`",
    "canceled": "the job ends with the status `canceled`",
    "expired": "the job ends with the status `expired`",
    "succeeded": "the job is done, and its status is `succeeded`",
    "no_url": "the job is done and charged, and has no URL",
    "made_up_way": "a running job tells statuses that nobody documented",
    "never_ends": "the job runs for ever",
    "late": "the job takes ten times as long",
    "instant": "the job is done at once",
    "wrong_duration": "the video is of the other duration",
}

_DOWNLOAD: Final = {
    "refused": "the connection is cut before any answer",
    "stalled": "no answer, until the client leaves",
    "stalled_midway": "half of the body, and then nothing until the client leaves",
    "cut": "the right Content-Length, half of the body, and the connection is cut",
    "closed": "the right Content-Length, half of the body, and the connection is closed in order",
    "wrong_length": "Content-Length tells 1,000 bytes more than come",
    "truncated": "half of the video, under a Content-Length that fits it",
    "no_length": "the whole video, without Content-Length",
    "garbage": "the right length, and nothing of it is a video",
    "damaged": "the right length, with bytes overwritten in the middle of the pictures",
    "html": "200 with a page of HTML",
    "html_video": "200 with a page of HTML that calls itself video/mp4",
    "expired": "403, the link has expired; the next poll gives a fresh one",
    "403": "403 with a page of HTML, the link stays good",
    "404": "404",
    "410": "410",
    "429_seconds": "429 with Retry-After in seconds (`seconds`, 7)",
    "500": "500",
    "502": "502",
    "503": "503",
    "slow": "the body comes in 20 pieces over `seconds` (30)",
    "late": "the whole answer comes `seconds` later (30)",
    "range_ignored": "200 with everything, whatever Range asked for",
    "etag_changed": "the file was made anew: other bytes, another ETag, from now on",
    "redirected": "302 to another host name that serves the same",
}

TROUBLES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "submit": {**_ANY_CALL, **_SUBMIT},
        "poll": {**_ANY_CALL, **_POLL},
        "log": _ANY_CALL,
        "balance": _ANY_CALL,
        "price": _ANY_CALL,
        "job": _JOB,
        "download": _DOWNLOAD,
    }
)
"""By operation: each kind of trouble that can befall it, and what it does."""
