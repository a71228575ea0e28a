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
        text = _BEARER.sub(r"\1***", shown(record.getMessage(), _LONGEST))
        if key is not None and key not in text:
            text = f"{key}: {text}"
        if generation_id is not None and generation_id not in text:
            text = f"{text} (generation {generation_id})"
        record.key, record.generation_id = key, generation_id
        record.msg, record.args = text, None
        return True
