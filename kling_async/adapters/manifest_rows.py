"""The values of one row of a manifest -> `ImageToVideo`, or everything that is wrong with them.

Values only: nothing here opens a file. What a field may hold is `kling_async.types.request`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from kling_async.adapters.columns import BASE, CARRY, INPUTS, Columns
from kling_async.errors import InvalidRequest, Issue, ManifestError
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import ImageToVideo

_WHOLE: Final = re.compile(r"([0-9]+)\.0+")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")


class Row(NamedTuple):
    """One row: its request, or everything that is wrong with it."""

    line: int
    """The line of the file where it begins, from 1; 0 in a folder, which has none."""
    request: ImageToVideo | None
    """What it asks for; None where something is wrong."""
    errors: tuple[ManifestError, ...] = ()
    """What is wrong, each with its line and column."""
    file: str = ""
    """Its file, where the manifest is a folder."""

    def fault(self, message: str, name: str) -> ManifestError:
        """Return an error of a field of this row."""
        return ManifestError(message, line=self.line or None, file=self.file, field=name)


def read_row(columns: Columns, values: Mapping[str, object], folder: str, faults: Sequence[Issue] = ()) -> ImageToVideo:
    """Make a request of one row.

    Args:
        columns: What the names stand for.
        values: The values by name: text from a table, any JSON value from an object.
        folder: Where relative paths start.
        faults: What is known to be wrong already: whoever has the text knows of NUL characters, and of bytes that are
            not UTF-8, at a glance.

    Raises:
        InvalidRequest: With every fault, each by the name of its column.
    """
    issues, places = list(faults), _Places(folder, values)
    fields: dict[str, Any] = {}
    for field, name in columns.fields.items():
        value = values.get(name)
        if value is None or value == "":
            continue
        try:
            read = _READERS[field]
            fields[field] = value if read is None else read(value, places)
        except ValueError as error:
            issues.append(Issue(field, str(error)))
    fields["carry"] = {name: values[name] for name in columns.carried}
    if CARRY in values:
        fields["carry"] |= _read_carry(values, places, issues)
    if "image" not in fields:
        fields["image"] = ImageSource(ImageKind.PATH, fault="is missing: every row needs an image")
    try:
        request = ImageToVideo(**fields)
    except InvalidRequest as error:
        told = {issue.field for issue in issues}
        issues += [issue for issue in error.issues if columns.as_written(issue.field) not in told]
    else:
        if not issues:
            return request
    raise InvalidRequest(issues=tuple(Issue(columns.as_written(issue.field), issue.message) for issue in issues))


def parse_json(text: str) -> object:
    """Read JSON as the standard has it: no NaN or infinity, and no name twice in an object.

    Raises:
        ValueError: What is wrong, in a user's words.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_parse_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None


def is_not_utf8(text: str) -> bool:
    """Tell whether text was read from bytes that are no UTF-8."""
    return not text.isascii() and _NOT_UTF8.search(text) is not None


def nul_faults(values: Mapping[str, object]) -> list[Issue]:
    """Return an issue for each value that is text with a NUL character in it."""
    found = [name for name, value in values.items() if isinstance(value, str) and "\0" in value]
    return [Issue(name, "holds a NUL character") for name in found]


def _read_key(value: object, _places: _Places) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _read_whole(value: object, _places: _Places) -> object:
    return _WHOLE.sub(r"\1", value) if isinstance(value, str) and "." in value else value


def _read_image(value: object, places: _Places) -> object:
    return places.source(value)


def _read_json(value: object, _places: _Places) -> object:
    """Read the JSON of a cell; what is not text is JSON already."""
    return parse_json(value) if isinstance(value, str) else value


def _read_masks(value: object, places: _Places) -> object:
    return places.masks(_read_json(value, places))


_READERS: Final[Mapping[str, Callable[[object, _Places], object] | None]] = {
    "key": _read_key,
    "image": _read_image,
    "prompt": None,
    "tail_image": _read_image,
    "duration": _read_whole,
    "negative_prompt": None,
    "cfg_scale": None,
    "static_mask": _read_image,
    "dynamic_masks": _read_masks,
    "model": None,
    "extra": _read_json,
    "sample": _read_whole,
}
"""What makes of a value what its field takes; None where it is taken as it is. A `ValueError` tells what is wrong."""


def _read_carry(values: Mapping[str, object], places: _Places, issues: list[Issue]) -> Mapping[str, object]:
    try:
        carry = _read_json(values.get(CARRY) or {}, places)
    except ValueError as error:
        issues.append(Issue(CARRY, str(error)))
        return {}
    return carry if isinstance(carry, Mapping) else {}


class _Places:
    """Where the images of one row lie."""

    def __init__(self, folder: str, values: Mapping[str, object]) -> None:
        self._folder = folder
        self._base = _below(values[BASE]) if BASE in values else ""
        self._inputs = _below(values[INPUTS]) if INPUTS in values else ""

    def source(self, value: object) -> ImageSource:
        """Read one image. A path of a list of failures is split where its base ends: the file stays the same."""
        if not isinstance(value, str):
            return ImageSource(ImageKind.PATH, fault=f"must be a URL, a data URI or a path, not {type(value).__name__}")
        if self._inputs and value.startswith(self._inputs) and _DIGEST.fullmatch(value[len(self._inputs) :]):
            return ImageSource(ImageKind.STORED, value[len(self._inputs) :], str(Path(self._folder, self._inputs)))
        rest = value[len(self._base) :]
        if self._base and value.startswith(self._base) and rest and not rest.startswith("/"):
            return ImageSource(ImageKind.PATH, rest, str(Path(self._folder, self._base)))
        return ImageSource.of(value, base=self._folder)

    def masks(self, value: object) -> object:
        """Read the image of each mask; what has no mask stays, to be told as a fault."""
        if not isinstance(value, list):
            return value
        return [
            {**mask, "mask": self.source(mask["mask"])} if isinstance(mask, Mapping) and "mask" in mask else mask
            for mask in value
        ]


def _below(folder: object) -> str:
    return f"{folder.rstrip('/')}/" if isinstance(folder, str) and folder else ""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the name {doubled!r} twice: keep one of the two")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"holds {name}, which is not JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"holds {text}, which is too large a number")
    return number
