"""One image, wherever it is: a URL, a file, or its bytes. Nothing here reads a file or looks at a picture."""

from __future__ import annotations

import base64
import binascii
import enum
import re
from typing import Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

_DATA_URI = re.compile(r"data:(?P<mime>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][!-~]*\Z")
"""Nearly all URLs, told at once: what it does not take is looked at part by part."""
_NO_URL = re.compile(r"[\s\x00-\x1f]")
_RAW_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{256,}={0,2}\s*\Z")


@runtime_checkable
class _PathLike(Protocol):
    def __fspath__(self) -> str | bytes: ...


class ImageKind(enum.StrEnum):
    """Where an image comes from."""

    URL = "url"
    """A public address, passed on as it is."""
    PATH = "path"
    """A file on this machine."""
    BYTES = "bytes"
    """The image itself, in memory; a data URI becomes this."""
    STORED = "stored"
    """The image itself, kept by a journal under its digest."""


def _brief(text: str) -> str:
    return repr(text.partition("?")[0][:120])


@frozen
class ImageSource:
    """One image: a URL, a file, or its bytes. Make it with `ImageSource.of`."""

    kind: ImageKind
    """Which of the four it is."""
    text: str = field(default="", repr=_brief)
    """The URL; the path as it was written; the sha256 of stored bytes."""
    base: str = ""
    """The folder that a relative path starts from; not part of what was written."""
    content: bytes = field(default=b"", repr=False)
    """The bytes, of kind BYTES only."""
    mime: str = ""
    """The media type that a data URI told; empty where nobody told."""
    fault: str = ""
    """Why this cannot be an image; empty where nothing is wrong."""

    @classmethod
    def of(cls, value: ImageLike, *, base: str = "") -> ImageSource:
        """Read a URL, a data URI, a path or bytes. Never raises: what is wrong stands in `fault`.

        Args:
            value: What the caller gave.
            base: The folder that a relative path starts from.
        """
        if type(value) is str:
            return cls._of_text(value, base)
        if isinstance(value, ImageSource):
            return value
        if isinstance(value, str) and not hasattr(value, "__fspath__"):
            return cls._of_text(value, base)
        if isinstance(value, bytes | bytearray | memoryview):
            return cls(ImageKind.BYTES, content=bytes(value), fault="" if value else "is empty")
        if isinstance(value, _PathLike):  # last: to ask for a protocol costs more than all the rest
            path = value.__fspath__()
            text = path.decode(errors="surrogateescape") if isinstance(path, bytes) else path
            return cls(ImageKind.PATH, text, base)
        return cls(ImageKind.PATH, fault=f"must be a URL, a data URI, a path or bytes, not {type(value).__name__}")

    @classmethod
    def _of_text(cls, text: str, base: str) -> ImageSource:
        if _PLAIN_URL.match(text):
            return cls(ImageKind.URL, text)
        if not text.strip():
            return cls(ImageKind.PATH, fault="is empty")
        if text[:8].lower().startswith(("http://", "https://")):
            bad = _NO_URL.search(text) is not None or not encodes(text)
            bad = bad or text.partition("://")[2][:1] in {"", "/", "?", "#"}
            return cls(ImageKind.URL, text, fault="is not a URL: it holds a space or no host" if bad else "")
        if text[:5].lower() == "data:":
            return cls._of_data_uri(text)
        if _SCHEME.match(text):
            return cls(ImageKind.PATH, fault=f"has a scheme that is not http(s): {_brief(text)}")
        if "\0" in text:
            return cls(ImageKind.PATH, fault="holds a NUL character")
        if _RAW_BASE64.match(text):
            return cls(ImageKind.PATH, fault="looks like bare base64; pass bytes, or a data URI")
        return cls(ImageKind.PATH, text, base)

    @classmethod
    def _of_data_uri(cls, text: str) -> ImageSource:
        head = _DATA_URI.match(text[:1000])
        if head is None or ";base64" not in head["parameters"].lower():
            return cls(ImageKind.BYTES, fault="is a data URI without base64")
        mime = head["mime"].lower()
        if not mime.startswith("image/"):
            return cls(ImageKind.BYTES, fault=f"is a data URI of {mime or 'no type'}, not of an image")
        try:
            content = base64.b64decode(text[head.end() :], validate=True)
        except (binascii.Error, ValueError):
            return cls(ImageKind.BYTES, fault="is a data URI whose base64 is damaged")
        return cls(ImageKind.BYTES, content=content, mime=mime, fault="" if content else "is empty")


@frozen
class ImageState:
    """What an image was when it was looked at: one in another state by now may be another picture."""

    size: int
    """Bytes."""
    modified: int = 0
    """When its file was modified last, in Unix nanoseconds; 0 of bytes, which never are."""
    changed: int = 0
    """When anything of its file was changed last, its name and its times among it, in Unix nanoseconds: what nobody can
    set; 0 of bytes."""


ImageLike: TypeAlias = str | bytes | _PathLike | ImageSource
"""What an image may be given as: a URL, a data URI, a path (str or PathLike) or bytes."""


def encodes(text: str) -> bool:
    """Tell whether text can be written as UTF-8: it holds no half of a character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
