"""The transition table: (stage, event) -> stage, and what to do next with a record.

The rules of this room:

- From a stage with an id no arrow leads back to SUBMITTING, but through FAILED, which is free, or by its owner's own
  word (`Resubmitted`), which keeps the former generation's id and its money.
- From UNCERTAIN a row is submitted again only when the log shows that nothing was bought, or by that same word.
- A POST that was to replace what stood behind a row, and that bought nothing, leads back to where the row stood:
  PLANNED and FAILED never have money behind them.
- To try again (`Retried`) never leads from money to PLANNED: a row that was set aside goes on from where it stands.
- What is done stays done: its file may be fetched again, and no arrow leads away from it.
- An event that a stage does not know changes nothing.

The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, fields

from kling_async.types.record import (
    Accepted,
    Event,
    Failed,
    Intended,
    Lost,
    Overdue,
    Record,
    Refetched,
    Refused,
    Rendered,
    Resubmitted,
    Retried,
    Shared,
    Stage,
    Standing,
    Stored,
    Trouble,
    Unbought,
    Unfound,
    Unsent,
    Unstored,
    Verified,
    Waiting,
)


class Step(enum.StrEnum):
    """What to do next with a record."""

    SUBMIT = "submit"
    """Buy it."""
    FIND = "find"
    """Look in the usage log whether it was bought."""
    WATCH = "watch"
    """Poll until it ends."""
    FETCH = "fetch"
    """Download it."""
    NONE = "none"
    """Nothing: it has ended."""


TRANSITIONS: Final[Mapping[tuple[Stage, type[Event]], Stage]] = {
    (Stage.PLANNED, Intended): Stage.SUBMITTING,
    (Stage.PLANNED, Refused): Stage.FAILED,
    (Stage.PLANNED, Verified): Stage.PLANNED,
    (Stage.PLANNED, Shared): Stage.DONE,
    (Stage.PLANNED, Waiting): Stage.PLANNED,
    (Stage.SUBMITTING, Unsent): Stage.PLANNED,
    (Stage.SUBMITTING, Accepted): Stage.SUBMITTED,
    (Stage.SUBMITTING, Refused): Stage.FAILED,
    (Stage.SUBMITTING, Lost): Stage.UNCERTAIN,
    (Stage.UNCERTAIN, Accepted): Stage.SUBMITTED,
    (Stage.UNCERTAIN, Unbought): Stage.PLANNED,
    (Stage.UNCERTAIN, Resubmitted): Stage.SUBMITTING,
    (Stage.UNCERTAIN, Unfound): Stage.UNCERTAIN,
    (Stage.UNCERTAIN, Retried): Stage.UNCERTAIN,
    (Stage.SUBMITTED, Rendered): Stage.RENDERED,
    (Stage.SUBMITTED, Failed): Stage.FAILED,
    (Stage.SUBMITTED, Overdue): Stage.SUBMITTED,
    (Stage.SUBMITTED, Resubmitted): Stage.SUBMITTING,
    (Stage.SUBMITTED, Retried): Stage.SUBMITTED,
    (Stage.RENDERED, Verified): Stage.RENDERED,
    (Stage.RENDERED, Stored): Stage.DONE,
    (Stage.RENDERED, Unstored): Stage.RENDERED,
    (Stage.RENDERED, Resubmitted): Stage.SUBMITTING,
    (Stage.RENDERED, Retried): Stage.RENDERED,
    (Stage.DONE, Refetched): Stage.DONE,
    (Stage.FAILED, Retried): Stage.PLANNED,
}
"""Every legal move. What is not here changes nothing."""

LEADS_BACK: Final = frozenset(
    {
        (Stage.SUBMITTING, Unsent),
        (Stage.SUBMITTING, Refused),
        (Stage.UNCERTAIN, Unbought),
        (Stage.SUBMITTED, Failed),
    }
)
"""The moves by which a POST has bought nothing. Where it was to replace another one (`Record.fallback`), they lead back
to where the row stood, in place of the stage that the table names."""

_NEXT: Final[Mapping[Stage, Step]] = {
    Stage.PLANNED: Step.SUBMIT,
    Stage.SUBMITTING: Step.FIND,
    Stage.UNCERTAIN: Step.FIND,
    Stage.SUBMITTED: Step.WATCH,
    Stage.RENDERED: Step.FETCH,
    Stage.DONE: Step.NONE,
    Stage.FAILED: Step.NONE,
}

PAID_FOR: Final = frozenset({Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED, Stage.RENDERED, Stage.DONE})
"""The stages that money stands behind, or may."""

HOLDS_SLOT: Final = frozenset({Stage.SUBMITTING, Stage.UNCERTAIN, Stage.SUBMITTED})
"""The stages in which a generation is, or may be, running at the service."""


_STANDING: Final = tuple(field.name for field in fields(Standing))


def next_step(record: Record) -> Step:
    """Return what to do next. A record found SUBMITTING is one whose answer was lost."""
    return _NEXT[record.stage]


def advance(record: Record, event: Event) -> Record:
    """Return the record after an event; the same one where its stage does not know the event."""
    stage = TRANSITIONS.get((record.stage, type(event)))
    if stage is None:
        return record
    if record.fallback is not None and (record.stage, type(event)) in LEADS_BACK:
        return evolve(record, **{name: getattr(record.fallback, name) for name in _STANDING})
    return evolve(record, **_told_by(event, record), stage=stage, trouble=_trouble_of(event))


def _told_by(event: Event, record: Record) -> dict[str, Any]:
    """Return what changes by what the event tells, beside stage and trouble."""
    match event:
        case Intended():
            return _intended(record, event)
        case Accepted(generation_id, credits_):
            return {"generation_id": generation_id, "credits": _charged(credits_, record)}
        case Rendered(credits_):
            return {"credits": _charged(credits_, record), "fallback": None}
        case Verified(size, sha256, seconds):  # Refetched, too, which is one
            return {"size": size, "sha256": sha256, "seconds": seconds}
        case Shared(generation_id, content, size, sha256, seconds):
            return {
                "generation_id": None,
                "shares": generation_id,
                "credits": None,
                "content": content,
                "size": size,
                "sha256": sha256,
                "seconds": seconds,
            }
        case Resubmitted(intent):
            return _given_up(record) | _intended(record, intent)
        case Unsent() | Unbought() | Refused() | Failed():
            return {"credits": None}
    return {}


def _intended(record: Record, intent: Intended) -> dict[str, Any]:
    """Take over what the intent tells; nothing of an earlier POST is left."""
    return {
        "client_request_id": intent.client_request_id,
        "sent_at": intent.at,
        "sent_with": intent.sent_with,
        "content": intent.content,
        "credits": intent.credits,
        "attempt": record.attempt + 1,
        "generation_id": None,
        "shares": None,
        "size": None,
        "sha256": None,
        "seconds": None,
    }


def _given_up(record: Record) -> dict[str, Any]:
    """Give up what stands behind a row; neither its money nor the way to find it again, nor to lead back, is lost."""
    known = record.generation_id or record.client_request_id
    return {
        "sunk": record.sunk + (record.credits or 0),
        "former": record.former if known is None else (*record.former, known),
        "fallback": Standing(**{name: getattr(record, name) for name in _STANDING}),
    }


def _charged(credits_: int | None, record: Record) -> int | None:
    return record.credits if credits_ is None else credits_


def _trouble_of(event: Event) -> Trouble | None:
    match event:
        case (
            Refused(trouble)
            | Waiting(trouble)
            | Failed(trouble)
            | Unfound(trouble)
            | Overdue(trouble)
            | Unstored(trouble)
        ):
            return trouble
    return None
