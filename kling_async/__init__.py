"""Turn images into videos in bulk: nothing bought twice, nothing bought lost.

The face of the package: names alone, loaded when they are used. There is no logic here, and nothing inside imports
from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kling_async._version import __version__ as __version__
    from kling_async.assembly import generate_sync as generate_sync
    from kling_async.assembly import open_batch as open_batch
    from kling_async.assembly import open_client as open_client
    from kling_async.errors import AnswerLost as AnswerLost
    from kling_async.errors import ApiError as ApiError
    from kling_async.errors import AuthenticationFailed as AuthenticationFailed
    from kling_async.errors import BudgetExceeded as BudgetExceeded
    from kling_async.errors import ConfigurationError as ConfigurationError
    from kling_async.errors import DiskFull as DiskFull
    from kling_async.errors import DownloadError as DownloadError
    from kling_async.errors import GenerationFailed as GenerationFailed
    from kling_async.errors import GenerationOverdue as GenerationOverdue
    from kling_async.errors import ImageChanged as ImageChanged
    from kling_async.errors import InvalidRequest as InvalidRequest
    from kling_async.errors import Issue as Issue
    from kling_async.errors import JournalError as JournalError
    from kling_async.errors import JournalLocked as JournalLocked
    from kling_async.errors import JournalTooNew as JournalTooNew
    from kling_async.errors import KlingError as KlingError
    from kling_async.errors import LinkExpired as LinkExpired
    from kling_async.errors import ManifestError as ManifestError
    from kling_async.errors import NotAVideo as NotAVideo
    from kling_async.errors import NotFound as NotFound
    from kling_async.errors import NotSent as NotSent
    from kling_async.errors import OutOfCredit as OutOfCredit
    from kling_async.errors import ProtocolViolation as ProtocolViolation
    from kling_async.errors import RateLimited as RateLimited
    from kling_async.errors import RequestChanged as RequestChanged
    from kling_async.errors import ServerTrouble as ServerTrouble
    from kling_async.errors import ServiceUnavailable as ServiceUnavailable
    from kling_async.errors import TooLarge as TooLarge
    from kling_async.errors import TooManyFailures as TooManyFailures
    from kling_async.errors import TransportError as TransportError
    from kling_async.errors import Truncated as Truncated
    from kling_async.flow.batch import Batch as Batch
    from kling_async.flow.client import KlingClient as KlingClient
    from kling_async.flow.retries import Retry as Retry
    from kling_async.types.generation import Generation as Generation
    from kling_async.types.generation import GenerationStatus as GenerationStatus
    from kling_async.types.generation import RemoteVideo as RemoteVideo
    from kling_async.types.generation import Usage as Usage
    from kling_async.types.image import ImageSource as ImageSource
    from kling_async.types.outcome import BatchReport as BatchReport
    from kling_async.types.outcome import FileFault as FileFault
    from kling_async.types.outcome import Finding as Finding
    from kling_async.types.outcome import Outcome as Outcome
    from kling_async.types.outcome import Tally as Tally
    from kling_async.types.outcome import VerifyReport as VerifyReport
    from kling_async.types.outcome import VideoFile as VideoFile
    from kling_async.types.record import Stage as Stage
    from kling_async.types.request import DynamicMask as DynamicMask
    from kling_async.types.request import ImageToVideo as ImageToVideo
    from kling_async.types.request import Point as Point
    from kling_async.types.settings import Settings as Settings

_HOMES = {
    "__version__": "kling_async._version",
    "generate_sync": "kling_async.assembly",
    "open_batch": "kling_async.assembly",
    "open_client": "kling_async.assembly",
    "AnswerLost": "kling_async.errors",
    "ApiError": "kling_async.errors",
    "AuthenticationFailed": "kling_async.errors",
    "BudgetExceeded": "kling_async.errors",
    "ConfigurationError": "kling_async.errors",
    "DiskFull": "kling_async.errors",
    "DownloadError": "kling_async.errors",
    "GenerationFailed": "kling_async.errors",
    "GenerationOverdue": "kling_async.errors",
    "InvalidRequest": "kling_async.errors",
    "Issue": "kling_async.errors",
    "JournalError": "kling_async.errors",
    "JournalLocked": "kling_async.errors",
    "JournalTooNew": "kling_async.errors",
    "KlingError": "kling_async.errors",
    "LinkExpired": "kling_async.errors",
    "ManifestError": "kling_async.errors",
    "NotAVideo": "kling_async.errors",
    "NotFound": "kling_async.errors",
    "NotSent": "kling_async.errors",
    "OutOfCredit": "kling_async.errors",
    "ProtocolViolation": "kling_async.errors",
    "RateLimited": "kling_async.errors",
    "RequestChanged": "kling_async.errors",
    "ServerTrouble": "kling_async.errors",
    "ServiceUnavailable": "kling_async.errors",
    "TransportError": "kling_async.errors",
    "TooLarge": "kling_async.errors",
    "TooManyFailures": "kling_async.errors",
    "Truncated": "kling_async.errors",
    "Batch": "kling_async.flow.batch",
    "KlingClient": "kling_async.flow.client",
    "Retry": "kling_async.flow.retries",
    "Generation": "kling_async.types.generation",
    "GenerationStatus": "kling_async.types.generation",
    "RemoteVideo": "kling_async.types.generation",
    "Usage": "kling_async.types.generation",
    "BatchReport": "kling_async.types.outcome",
    "FileFault": "kling_async.types.outcome",
    "Finding": "kling_async.types.outcome",
    "Outcome": "kling_async.types.outcome",
    "Tally": "kling_async.types.outcome",
    "VerifyReport": "kling_async.types.outcome",
    "VideoFile": "kling_async.types.outcome",
    "Stage": "kling_async.types.record",
    "DynamicMask": "kling_async.types.request",
    "ImageSource": "kling_async.types.image",
    "ImageChanged": "kling_async.errors",
    "ImageToVideo": "kling_async.types.request",
    "Point": "kling_async.types.request",
    "Settings": "kling_async.types.settings",
}

if not TYPE_CHECKING:

    def __getattr__(name):
        """Load a name of the face on its first use."""
        from importlib import import_module

        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value

    def __dir__():
        return sorted(_HOMES)
