"""Everything that can go wrong, in one tree.

Errors carry data and say what happened, to what, and what to do next. They never carry policy: whether to try
again stands in one table, `kling_async.rules.retry`.

    KlingError                      .generation_id, .request_id
    ├─ ConfigurationError           a setting, a flag or the folder is wrong
    │  └─ ManifestError             a row of the manifest is wrong: .line, .field, .file
    ├─ TransportError
    │  ├─ NotSent                   surely not received: may be sent again
    │  │  └─ ImageChanged           since an image of it changed, or could not be read
    │  └─ AnswerLost                may have been received: a paid call becomes uncertain
    ├─ ApiError                     the service answered with an error: .status, .message
    │  ├─ InvalidRequest            the request is wrong: .issues
    │  ├─ AuthenticationFailed      the key is missing or refused
    │  ├─ OutOfCredit               no money on the account
    │  ├─ RateLimited               too many requests, or too many jobs at once: .retry_after
    │  ├─ ServerTrouble             5xx, or an answer from something in between
    │  └─ NotFound                  no such model, or no such generation
    ├─ ProtocolViolation            an answer that cannot be read: .excerpt
    ├─ GenerationFailed             the service tried and could not; it costs nothing
    ├─ GenerationOverdue            still running when we stopped waiting; resumable by its id
    ├─ ServiceUnavailable           no usable answer for too long
    ├─ DownloadError                the video is made, but not yet on the disk
    │  ├─ LinkExpired               ask the service for a fresh link
    │  ├─ Truncated                 fewer bytes than announced: .expected, .got
    │  ├─ NotAVideo                 not a whole MP4
    │  ├─ TooLarge                  more bytes than may be taken
    │  └─ DiskFull                  no room for it
    ├─ BudgetExceeded               the next row would pass the ceiling
    ├─ TooManyFailures              as many rows ended without a video as may
    └─ JournalError
       ├─ JournalLocked             another run holds the folder
       ├─ JournalTooNew             written by a newer version: .version
       └─ RequestChanged            a row was edited after money stood behind it: .key

All of them can be pickled. An error that belongs to a bought video tells its `generation_id`: with it, `retrieve`,
`wait` and `download` go on where things stopped.
"""

from __future__ import annotations

from typing import NamedTuple


class Issue(NamedTuple):
    """One thing that is wrong with a request: which field, and why."""

    field: str
    message: str

    def __str__(self) -> str:
        """`field: message`, or the message alone where no field is named."""
        return f"{self.field}: {self.message}" if self.field else self.message


class KlingError(Exception):
    """The root: catch it to catch everything that this package raises on purpose.

    Args:
        message: What happened, to what, and what to do next.
        generation_id: The generation it concerns, where one is known.
        request_id: The service's own id of the call (`x-request-id`), for its support.
    """

    def __init__(self, message: str = "", *, generation_id: str | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.generation_id = generation_id
        self.request_id = request_id

    def __str__(self) -> str:
        """The message alone."""
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by attributes, so that subclasses with other parameters survive too."""
        return _revive, (type(self), self.args, dict(self.__dict__))


def _revive(kind: type[KlingError], args: tuple[object, ...], attributes: dict[str, object]) -> KlingError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigurationError(KlingError):
    """A setting, a flag or the output folder is wrong. Nothing was bought."""


class ManifestError(ConfigurationError):
    """A row of the manifest is wrong. Nothing was bought.

    Args:
        message: What is wrong.
        line: The line in the file, from 1; None where the file as a whole is wrong, or the manifest is a folder.
        field: The column.
        file: The file in the folder, where the manifest is one; else empty.
    """

    def __init__(self, message: str, *, line: int | None = None, field: str = "", file: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.field = field
        self.file = file

    def __str__(self) -> str:
        """`line 7, duration: must be 5 or 10`."""
        where = ", ".join(part for part in (f"line {self.line}" if self.line else self.file, self.field) if part)
        return f"{where}: {self.message}" if where else self.message


class TransportError(KlingError):
    """The call failed below HTTP: no answer was read."""


class NotSent(TransportError):
    """The request surely did not reach the service: refused, no such host, TLS, or its body was not finished."""


class ImageChanged(NotSent):
    """An image changed after it was looked at, or could not be read any more, so that the request was not finished.

    It says nothing of the service.
    """


class AnswerLost(TransportError):
    """The request went out and no answer came back: the service may have acted on it.

    Args:
        message: What happened.
        client_request_id: The id that the call carried; `KlingClient.find` looks the generation up by it.
        generation_id: Unknown by nature; None.
        request_id: Unknown by nature; None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        client_request_id: str | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, generation_id=generation_id, request_id=request_id)
        self.client_request_id = client_request_id


class ApiError(KlingError):
    """The service answered, and the answer is an error.

    Args:
        message: The service's own words, or ours where it had none.
        status: The HTTP status; None where the fault was found before anything was sent.
        generation_id: The generation it concerns.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, generation_id=generation_id, request_id=request_id)
        self.status = status

    def __str__(self) -> str:
        """The message, with the status where there is one."""
        return f"{self.message} (HTTP {self.status})" if self.status is not None else self.message


class InvalidRequest(ApiError):
    """The request is wrong, or was refused by moderation. It costs nothing.

    Raised before anything is sent (status None) and for the service's 400 alike.

    Args:
        message: A summary; made from the issues where it is empty.
        issues: Every fault that was found, with its field.
        status: The HTTP status; None where the fault was found before anything was sent.
        generation_id: The generation it concerns.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        issues: tuple[Issue, ...] = (),
        status: int | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        text = message or "; ".join(str(issue) for issue in issues) or "the request is invalid"
        super().__init__(text, status=status, generation_id=generation_id, request_id=request_id)
        self.issues = issues


class AuthenticationFailed(ApiError):
    """The key is missing, wrong, or not allowed to do this. Submitting stops; open generations are still watched."""


class OutOfCredit(ApiError):
    """The account has no money left. Submitting stops; open generations are still watched and fetched."""


class RateLimited(ApiError):
    """Too many requests, or too many generations at once. No job was made.

    Args:
        message: The service's words.
        status: The HTTP status, 429.
        retry_after: Seconds that the service asks to wait; None where it did not say.
        too_many_jobs: True where the answer says that the limit is on generations running at once, False where it
            is on requests, None where it does not tell.
        generation_id: The generation it concerns.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = 429,
        retry_after: float | None = None,
        too_many_jobs: bool | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status=status, generation_id=generation_id, request_id=request_id)
        self.retry_after = retry_after
        self.too_many_jobs = too_many_jobs


class ServerTrouble(ApiError):
    """The service, or something before it, failed: 408, 5xx, a 403 of HTML.

    Args:
        message: The service's words, or an excerpt.
        status: The HTTP status.
        refused: True where the answer proves that no job was made; a submit may then be sent again.
        retry_after: Seconds that the service asks to wait; None where it did not say.
        generation_id: The generation it concerns.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        refused: bool = False,
        retry_after: float | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status=status, generation_id=generation_id, request_id=request_id)
        self.refused = refused
        self.retry_after = retry_after


class NotFound(ApiError):
    """No such model (on a submit), or no such generation (on a poll; seen now and then for jobs just accepted)."""


class ProtocolViolation(KlingError):
    """The answer cannot be read: not JSON, without an id, a redirect.

    Args:
        message: What was expected.
        excerpt: The beginning of what came, at most 200 characters.
        status: The HTTP status.
        generation_id: The generation it concerns.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        excerpt: str = "",
        status: int | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, generation_id=generation_id, request_id=request_id)
        self.excerpt = excerpt
        self.status = status

    def __str__(self) -> str:
        """The message, the status, and the beginning of the answer."""
        status = f" (HTTP {self.status})" if self.status is not None else ""
        return f"{self.message}{status}" + (f": {self.excerpt!r}" if self.excerpt else "")


class GenerationFailed(KlingError):
    """The service tried to make the video and could not. Failed generations are free.

    Args:
        message: The service's reason.
        too_many_jobs: True where the reason is really the account's limit on generations at once.
        generation_id: The generation.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        too_many_jobs: bool = False,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, generation_id=generation_id, request_id=request_id)
        self.too_many_jobs = too_many_jobs


class GenerationOverdue(KlingError):
    """Still running when we stopped waiting. It may yet finish: resume by its `generation_id`. Never buy it again."""


class ServiceUnavailable(KlingError):
    """The service gave no usable answer for too long. Every row stands where it stood; run again to resume."""


class DownloadError(KlingError):
    """The video is made and paid for, but could not be fetched. It never leads to a new generation."""


class LinkExpired(DownloadError):
    """The file host refuses the link: ask the service for a fresh one."""


class Truncated(DownloadError):
    """Fewer bytes came than were announced.

    Args:
        message: What happened.
        expected: Bytes that were announced; None where only the file's own structure tells that some are missing.
        got: Bytes that came.
        generation_id: The generation.
        request_id: The service's id of the call.
    """

    def __init__(
        self,
        message: str = "",
        *,
        expected: int | None = None,
        got: int = 0,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, generation_id=generation_id, request_id=request_id)
        self.expected = expected
        self.got = got


class NotAVideo(DownloadError):
    """What came is not an MP4: a web page, another format, a foreign file."""


class TooLarge(DownloadError):
    """The file has more bytes than may be taken; that says nothing of what is in it."""


class DiskFull(DownloadError):
    """There is no room for the video: on the disk, or among the files that the system lets be open.

    Make room and run again: it is fetched, not bought, a second time.
    """


class BudgetExceeded(KlingError):
    """The next row would pass the budget. What is open is watched and fetched; raise the budget to go on."""


class TooManyFailures(KlingError):
    """As many rows of a run ended without a video as its owner allows: no more is bought. What is open is fetched."""


class JournalError(KlingError):
    """The journal cannot be read or written."""


class JournalLocked(JournalError):
    """Another run holds the folder."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of kling-async.

    Args:
        message: What happened.
        version: The schema version that was found.
    """

    def __init__(self, message: str = "", *, version: int = 0) -> None:
        super().__init__(message)
        self.version = version


class RequestChanged(JournalError):
    """A row was edited after money stood behind it; nothing is bought.

    Args:
        message: What happened and what to do.
        key: The row's key.
        generation_id: The generation that stands behind the row, where one is known.
    """

    def __init__(self, message: str = "", *, key: str = "", generation_id: str | None = None) -> None:
        super().__init__(message, generation_id=generation_id)
        self.key = key
