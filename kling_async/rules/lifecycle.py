"""The transition table: (stage, event) -> stage, and what to do next with a record.

The rules of this room:

- From a stage with an id no arrow leads back to SUBMITTING, but through FAILED, which is free, or by its owner's own
  word (`Resubmitted`), which keeps the former generation's id and its money.
- From UNCERTAIN a row is submitted again only when the log shows that nothing was bought, or by that same word.
- To try again (`Retried`) never leads from money to PLANNED: a row that was set aside goes on from where it stands.
- An event that a stage does not know changes nothing.

The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from attrs import evolve

from kling_async.types.record import (
    Accepted,
    Event,
    Failed,
    Intended,
    Lost,
    Overdue,
    Record,
    Refused,
    Rendered,
    Resubmitted,
    Retried,
    Shared,
    Stage,
    Stored,
    Trouble,
    Unbought,
    Unfound,
    Unsent,
    Unstored,
    Verified,
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
    (Stage.PLANNED, Shared): Stage.DONE,
    (Stage.SUBMITTING, Unsent): Stage.PLANNED,
    (Stage.SUBMITTING, Accepted): Stage.SUBMITTED,
    (Stage.SUBMITTING, Refused): Stage.FAILED,
    (Stage.SUBMITTING, Lost): Stage.UNCERTAIN,
    (Stage.UNCERTAIN, Accepted): Stage.SUBMITTED,
    (Stage.UNCERTAIN, Unbought): Stage.PLANNED,
    (Stage.UNCERTAIN, Resubmitted): Stage.PLANNED,
    (Stage.UNCERTAIN, Unfound): Stage.UNCERTAIN,
    (Stage.UNCERTAIN, Retried): Stage.UNCERTAIN,
    (Stage.SUBMITTED, Rendered): Stage.RENDERED,
    (Stage.SUBMITTED, Failed): Stage.FAILED,
    (Stage.SUBMITTED, Overdue): Stage.SUBMITTED,
    (Stage.SUBMITTED, Resubmitted): Stage.PLANNED,
    (Stage.SUBMITTED, Retried): Stage.SUBMITTED,
    (Stage.RENDERED, Verified): Stage.RENDERED,
    (Stage.RENDERED, Stored): Stage.DONE,
    (Stage.RENDERED, Unstored): Stage.RENDERED,
    (Stage.RENDERED, Resubmitted): Stage.PLANNED,
    (Stage.RENDERED, Retried): Stage.RENDERED,
    (Stage.FAILED, Retried): Stage.PLANNED,
}
"""Every legal move. What is not here changes nothing."""

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


def next_step(record: Record) -> Step:
    """Return what to do next. A record found SUBMITTING is one whose answer was lost."""
    return _NEXT[record.stage]


def advance(record: Record, event: Event) -> Record:
    """Return the record after an event; the same one where its stage does not know the event."""
    stage = TRANSITIONS.get((record.stage, type(event)))
    if stage is None:
        return record
    return evolve(_noted(record, event), stage=stage, trouble=_trouble_of(event))


def _noted(record: Record, event: Event) -> Record:
    """Take over what the event tells."""
    match event:
        case Intended(client_request_id, at, content, credits_, sent_with):
            return evolve(
                record,
                client_request_id=client_request_id,
                sent_at=at,
                sent_with=sent_with,
                content=content,
                credits=credits_,
                attempt=record.attempt + 1,
                generation_id=None,
                shares=None,
                size=None,
                sha256=None,
                seconds=None,
            )
        case Accepted(generation_id, credits_):
            return evolve(record, generation_id=generation_id, credits=_told(credits_, record))
        case Rendered(credits_):
            return evolve(record, credits=_told(credits_, record))
        case Verified(size, sha256, seconds):
            return evolve(record, size=size, sha256=sha256, seconds=seconds)
        case Shared(generation_id, content, size, sha256, seconds):
            return evolve(
                record,
                generation_id=None,
                shares=generation_id,
                credits=None,
                content=content,
                size=size,
                sha256=sha256,
                seconds=seconds,
            )
        case Resubmitted():
            return _given_up(record)
        case Unsent() | Unbought() | Refused() | Failed():
            return evolve(record, credits=None)
    return record


def _given_up(record: Record) -> Record:
    """Give up what stands behind a row; neither its money nor the way to find it again is lost."""
    known = record.generation_id or record.client_request_id
    return evolve(
        record,
        sunk=record.sunk + (record.credits or 0),
        former=record.former if known is None else (*record.former, known),
        generation_id=None,
        credits=None,
        size=None,
        sha256=None,
        seconds=None,
    )


def _told(credits_: int | None, record: Record) -> int | None:
    return record.credits if credits_ is None else credits_


def _trouble_of(event: Event) -> Trouble | None:
    match event:
        case Refused(trouble) | Failed(trouble) | Unfound(trouble) | Overdue(trouble) | Unstored(trouble):
            return trouble
    return None
