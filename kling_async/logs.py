"""The package's loggers: each line knows its row and its generation, and holds no secret.

A row's task says once which row it is about (`about`); from then on every line that is logged in it has `key` and
`generation_id` as attributes of the record, and tells both in its text. Signed queries, data URIs and bearer keys are
blotted out here once more, whatever the line was made of.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import Final

from kling_async.rules.envelopes import shown

_LONGEST: Final = 4000
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)[^\s'\",]+")

_ROW: Final[ContextVar[tuple[str | None, str | None]]] = ContextVar("kling_async_row", default=(None, None))


def about(key: str | None, generation_id: str | None) -> None:
    """Say which row the lines of this task are about from now on, and which generation is its."""
    _ROW.set((key, generation_id))


def generation_is(key: str, generation_id: str | None) -> None:
    """Say which generation a row has by now, if the lines of this task are about that row."""
    if _ROW.get()[0] == key:
        _ROW.set((key, generation_id))


def row_key() -> str | None:
    """Return which row the lines of this task are about; None where they are about none."""
    return _ROW.get()[0]


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module, its lines told apart by row and freed of secrets."""
    logger = logging.getLogger(name)
    if not any(isinstance(one, _RowFilter) for one in logger.filters):
        logger.addFilter(_RowFilter())
    return logger


class _RowFilter(logging.Filter):
    """Completes each line, and lets all of them pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the row and the generation where the text does not name them; blot out secrets."""
        key, generation_id = _ROW.get()
        text = " ".join(record.getMessage().splitlines())  # a key or a message of the service's imitates no line
        if key is not None and not _names(text, key):
            text = f"{key}: {text}"
        text = _blotted(text)
        if generation_id is not None and generation_id not in text:
            text = f"{text} (generation {generation_id})"
        record.key, record.generation_id = key, generation_id
        record.msg, record.args = text, None
        if record.exc_info:
            lines = logging.Formatter().formatException(record.exc_info).splitlines()
            record.exc_text = "\n".join(map(_blotted, lines))
        return True


def _names(text: str, key: str) -> bool:
    """Tell whether a text says which row it is about: that the key occurs in it says nothing, for `1` is a key, too."""
    return text.startswith(f"{key}:") or f"row {key} " in text or f"row {key!r}" in text


def _blotted(text: str) -> str:
    return _BEARER.sub(r"\1***", shown(text, _LONGEST))
