"""The error tree: whole in its docstring, and each error survives a trip to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

import kling_async
from kling_async import errors
from kling_async.errors import (
    AnswerLost,
    ApiError,
    AuthenticationFailed,
    DownloadError,
    GenerationFailed,
    GenerationOverdue,
    InvalidRequest,
    Issue,
    KlingError,
    ManifestError,
    ProtocolViolation,
    RateLimited,
    Truncated,
)

VALUES = {
    "message": "the service gave no answer for generation g:1/x — Grüße",
    "generation_id": "uuid:kling-video/v1/standard/image-to-video",
    "request_id": "req-1",
    "client_request_id": "ka1.0123456789.abc.1",
    "status": 418,
    "issues": (Issue("prompt", "is too long"), Issue("", "is odd")),
    "retry_after": 2.5,
    "too_many_jobs": True,
    "refused": True,
    "excerpt": "<html>",
    "expected": 10,
    "got": 3,
    "version": 9,
    "key": "row 7",
    "line": 7,
    "field": "duration",
    "file": "cat.txt",
}


def tree(kind: type[KlingError] = KlingError) -> Iterator[type[KlingError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = sorted(tree(), key=lambda kind: kind.__name__)
every_error = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def filled(kind: type[KlingError]) -> KlingError:
    """Make an error with a value for every parameter."""
    names = [name for name in inspect.signature(kind).parameters if name != "message"]
    return kind(VALUES["message"], **{name: VALUES[name] for name in names})  # type: ignore[arg-type]  # by name


def drawn() -> dict[str, tuple[str | None, str]]:
    """Read the tree in the docstring: each name with its parent's, and the words beside it."""
    found: dict[str, tuple[str | None, str]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"(    [│├└─ ]*)([A-Z]\w+)\b *(.*)", line)
        if match:
            depth, name = len(match[1]), match[2]
            above = [(d, n) for d, n in above if d < depth]
            found[name] = (above[-1][1] if above else None, match[3])
            above.append((depth, name))
    return found


def test_the_docstring_draws_the_tree_that_is() -> None:
    """Every class stands in it under its own parent, and none that does not exist."""
    parents = {kind.__name__: kind.__base__.__name__ if kind.__base__ else None for kind in ALL}
    parents["KlingError"] = None
    assert {name: parent for name, (parent, _) in drawn().items()} == parents


@every_error
def test_what_the_tree_says_of_an_error_it_has(kind: type[KlingError]) -> None:
    """Each `.name` beside a class is an attribute of its errors."""
    for name in re.findall(r"\.([a-z_]+)", drawn()[kind.__name__][1]):
        assert hasattr(filled(kind), name)


@every_error
def test_an_error_tells_the_generation_and_the_call(kind: type[KlingError]) -> None:
    """Both ids stand on every error: None where nobody told, and what was told where somebody did."""
    bare = kind("what happened")
    assert bare.generation_id is None
    assert bare.request_id is None
    for name in {"generation_id", "request_id"} & set(inspect.signature(kind).parameters):
        assert getattr(filled(kind), name) == VALUES[name]


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[KlingError], protocol: int) -> None:
    """An error reaches another process with all that it carries."""
    error = filled(kind)
    error.add_note("seen on host 7")
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  # our own bytes
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert again.args == error.args
    assert str(again) == str(error)


@every_error
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_an_error_can_be_copied(kind: type[KlingError], copied: type) -> None:
    """A copy carries all that the error does, and is another object."""
    error = filled(kind)
    again: KlingError = copied(error)
    assert again is not error
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@every_error
def test_an_error_reads_as_its_message(kind: type[KlingError]) -> None:
    """What a person sees begins with what happened, after the place at the most."""
    error = filled(kind)
    assert str(VALUES["message"]) in str(error)
    assert "object at 0x" not in str(error)
    assert kind.__name__ in repr(error)


@every_error
def test_an_error_is_on_the_face(kind: type[KlingError]) -> None:
    """Whoever imports the package can catch it by name."""
    assert getattr(kling_async, kind.__name__) is kind


@every_error
def test_an_error_is_explained(kind: type[KlingError]) -> None:
    """Each class says in a docstring of its own what it means."""
    assert (vars(kind).get("__doc__") or "").strip()


def test_an_overdue_generation_has_not_failed() -> None:
    """Whoever buys again after GenerationFailed does not buy again what is still running."""
    assert not issubclass(GenerationOverdue, GenerationFailed)


def test_a_download_that_failed_is_no_failed_generation() -> None:
    """Nor what is paid for and only not here yet."""
    assert not issubclass(DownloadError, GenerationFailed)


def test_a_manifest_error_says_where() -> None:
    """Line and field come before the message; what is not known is left out."""
    assert str(ManifestError("must be 5 or 10", line=7, field="duration")) == "line 7, duration: must be 5 or 10"
    assert str(ManifestError("must be 5 or 10", field="duration")) == "duration: must be 5 or 10"
    assert str(ManifestError("is empty")) == "is empty"


def test_an_invalid_request_lists_its_issues() -> None:
    """Without a message of its own it says every fault, each with its field."""
    error = InvalidRequest(issues=(Issue("prompt", "is no text"), Issue("", "too many")))
    assert str(error) == "prompt: is no text; too many"
    assert str(InvalidRequest()) == "the request is invalid"


def test_an_api_error_tells_its_status() -> None:
    """The status stands behind the message, where there is one."""
    assert str(ApiError("no", status=418)) == "no (HTTP 418)"
    assert str(AuthenticationFailed("no")) == "no"
    assert str(RateLimited("slow down")) == "slow down (HTTP 429)"


def test_an_unreadable_answer_shows_its_beginning() -> None:
    """The excerpt is quoted, so that a line end in it does not tear a log."""
    error = ProtocolViolation("no JSON", excerpt="<html>\n", status=200)
    assert str(error) == "no JSON (HTTP 200): '<html>\\n'"
    assert str(ProtocolViolation("no JSON")) == "no JSON"


def test_a_lost_answer_tells_how_to_find_it() -> None:
    """The id that the call carried is what `find` needs."""
    assert AnswerLost("gone", client_request_id="ka1.x.y.1").client_request_id == "ka1.x.y.1"


def test_a_truncated_file_tells_both_sizes() -> None:
    """What was announced and what came."""
    error = Truncated("cut", expected=10, got=3)
    assert (error.expected, error.got) == (10, 3)
