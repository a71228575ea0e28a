"""An error becomes what a record keeps of it, and an error again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import evolve

from kling_async import errors
from kling_async.errors import (
    AnswerLost,
    ApiError,
    GenerationFailed,
    GenerationOverdue,
    InvalidRequest,
    Issue,
    KlingError,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
)
from kling_async.rules.troubles import error_of_record, trouble_of
from kling_async.types.record import Record, Stage, Trouble
from kling_async.types.request import ImageToVideo

RECORD = Record(
    "k",
    "k.mp4",
    ImageToVideo("a.png"),
    "w" * 64,
    Stage.SUBMITTED,
    client_request_id="ka1.j.k.1",
    generation_id="g-1",
)


def tree(kind: type[KlingError] = KlingError) -> Iterator[type[KlingError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = sorted(tree(), key=lambda kind: kind.__name__)


def back(error: KlingError) -> KlingError:
    """Return the error that comes back from a record."""
    found = error_of_record(evolve(RECORD, trouble=trouble_of(error)))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_what_it_was(kind: type[KlingError]) -> None:
    """Of its own class and with its own words, once."""
    error = kind("the service said no")
    again = back(error)
    assert type(again) is kind
    assert str(again) == str(error)


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("slow down", status=429),
        ServerTrouble("down", status=503),
        ApiError("no", status=418),
        InvalidRequest(issues=(Issue("prompt", "is no text"),), status=400),
        ProtocolViolation("no JSON", excerpt="<html>", status=200),
    ],
)
def test_what_an_error_says_is_said_once(error: KlingError) -> None:
    """The status stands in the message already."""
    assert str(back(error)) == str(error)
    assert str(back(back(error))) == str(error)


def test_an_error_that_comes_back_tells_the_generation() -> None:
    """With its id a row can be resumed."""
    assert back(GenerationOverdue("not finished")).generation_id == "g-1"


def test_a_lost_answer_comes_back_with_the_id_that_finds_it() -> None:
    """No generation is known of it."""
    again = back(AnswerLost("lost", client_request_id="elsewhere"))
    assert isinstance(again, AnswerLost)
    assert again.client_request_id == "ka1.j.k.1"


def test_a_row_without_a_trouble_has_no_error() -> None:
    """Whatever else it has."""
    assert error_of_record(RECORD) is None


@pytest.mark.parametrize("kind", ["Nonsense", "Issue", "annotations", "NamedTuple", "", "__doc__"])
def test_a_kind_that_nobody_knows_is_an_error_all_the_same(kind: str) -> None:
    """A newer version may have written it; only an error of ours is made of a name."""
    again = error_of_record(evolve(RECORD, trouble=Trouble(kind, "what happened")))
    assert type(again) is KlingError
    assert str(again) == "what happened"


def test_a_trouble_can_be_written_down() -> None:
    """Half a character in a file's name or a service's words does not break the journal."""
    trouble = trouble_of(GenerationFailed("cannot read /data/\udcff.png \ud83c"))
    assert trouble == Trouble("GenerationFailed", "cannot read /data/?.png ?")
    assert trouble.message.encode()
