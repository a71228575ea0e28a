"""A manifest (CSV, TSV, JSONL, or a folder) -> requests, lazily: one row in memory at a time.

Everything here blocks: it is read on a thread of its caller's. A row's faults are told all at once, by line and
column, and the next row is read. This room must never guess: what cannot be read for sure is an error, since every
row costs money.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Final, TextIO

from kling_async.adapters.columns import Columns, read_columns
from kling_async.adapters.disk import describe, open_regular
from kling_async.adapters.manifest_folder import read_folder
from kling_async.adapters.manifest_rows import Row, is_not_utf8, nul_faults, parse_json, read_row
from kling_async.errors import InvalidRequest, Issue, ManifestError
from kling_async.rules.images import SNIFF_BYTES, sniff
from kling_async.types.image import ImageKind, ImageSource

LONGEST_LINE: Final = 256 * 1024 * 1024
"""Characters: a JSON object with eight images of 10 MB as data URIs has half of them."""

_LONGEST_CELL: Final = 64 * 1024 * 1024
_DELIMITERS: Final = ",;\t"
_NO_TEXT: Final = {
    b"\xff\xfe": "is UTF-16: save it as UTF-8",
    b"\xfe\xff": "is UTF-16: save it as UTF-8",
    b"PK\x03\x04": "is a spreadsheet or a ZIP file: save it as CSV",
    b"PAR1": "is a Parquet file: save it as JSONL",
    b"\x1f\x8b": "is compressed: unpack it first",
}
_BOM: Final = b"\xef\xbb\xbf"
_NOT_UTF8: Final = "holds bytes that are not UTF-8: save the manifest as UTF-8"
_ENOUGH_SHAPES: Final = 64
_LOCAL: Final = (ImageKind.PATH, ImageKind.BYTES)
"""Images of which the first bytes can be looked at: a URL is not asked, and what a journal keeps was looked at."""


def read_manifest(path: Path, *, base: Path | None = None, title: str = "") -> Iterator[Row]:
    """Read a manifest row by row. The ending tells its kind, and without one its first character; or it is a folder.

    Paths in it are relative to its folder. Empty cells are absent; columns that are no field are carried; those that
    begin with `_` are left out. What is wrong with a CSV's header comes as a row without a request.

    Args:
        path: The file.
        base: Another folder than its own that paths in it are relative to.
        title: What it is called in an error; its path if not given.

    Raises:
        ManifestError: The file cannot be read at all, or holds no row.
    """
    folder, title, empty = str(path.absolute().parent if base is None else base), title or str(path), True
    try:
        for row in _read(path, folder, title):
            empty = False
            yield row
    except OSError as error:
        raise ManifestError(f"{title} cannot be read: {describe(error)}") from error
    if empty:
        raise ManifestError(f"{title} holds no rows, or no images if it is a folder")


def _read(path: Path, folder: str, title: str) -> Iterator[Row]:
    try:
        file = path.open("rb")
    except (IsADirectoryError, PermissionError):  # the latter is what Windows says of a folder
        if not path.is_dir():
            raise
        yield from read_folder(path)
        return
    with file:
        jsonl = _is_jsonl(path, _peek(file, title))
        with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", "\n" if jsonl else "") as text:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else None
            lines = _lines(text)
            yield from _read_objects(lines, folder) if jsonl else _read_table(lines, delimiter, folder)


def look_at_files(rows: Iterable[Row], threads: Executor) -> dict[ImageSource, str]:
    """Look at the local images of some rows, several at once, each file once; return what is wrong with each."""
    asked = [row.request.images for row in rows if row.request is not None]
    files = list(dict.fromkeys([image for images in asked for _, image in images if image.kind is ImageKind.PATH]))
    return dict(zip(files, threads.map(_file_fault, files), strict=True))


def check_files(row: Row, looked_at: Mapping[ImageSource, str] = MappingProxyType({})) -> tuple[ManifestError, ...]:
    """Check that each local image of a row is a file that can be read and begins like an image.

    Args:
        row: The row.
        looked_at: What `look_at_files` found; other files are looked at now.
    """
    images = row.request.images if row.request is not None else ()
    local = [(name, source) for name, source in images if source.kind in _LOCAL]
    if not local:
        return ()
    faults = [(name, looked_at[source] if source in looked_at else _file_fault(source)) for name, source in local]
    return tuple([row.fault(fault, name) for name, fault in faults if fault])


def _peek(file: io.BufferedReader, title: str) -> bytes:
    """Return the first bytes of a text file, and leave them to be read."""
    head = file.peek(SNIFF_BYTES)
    for start, fault in _NO_TEXT.items():
        if head.startswith(start):
            raise ManifestError(f"{title} {fault}")
    return head.removeprefix(_BOM).lstrip()


def _is_jsonl(path: Path, head: bytes) -> bool:
    suffix = path.suffix.lower()
    return suffix in {".jsonl", ".ndjson"} or (suffix not in {".csv", ".tsv"} and head.startswith(b"{"))


def _lines(text: TextIO) -> Iterator[str]:
    """Yield physical lines with their ends, one at a time."""
    for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE), ""), 1):
        if len(line) == LONGEST_LINE:
            raise ManifestError(f"has more than {LONGEST_LINE:,} characters", line=number)
        yield line


def _read_objects(lines: Iterable[str], folder: str) -> Iterator[Row]:
    shapes: dict[tuple[str, ...], Columns] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            yield _read_object(number, text, folder, shapes)
        except ValueError as error:
            yield _faulty(number, [Issue("", str(error))])


def _read_object(number: int, text: str, folder: str, shapes: dict[tuple[str, ...], Columns]) -> Row:
    if is_not_utf8(text):
        raise ValueError(_NOT_UTF8)
    values = parse_json(text)
    if not isinstance(values, dict):
        raise ValueError(f"must be a JSON object, not {type(values).__name__}")  # noqa: TRY004 - a fault of the text
    names = tuple(values)
    columns = shapes.get(names)
    if columns is None:
        columns = read_columns(names)
        if len(shapes) < _ENOUGH_SHAPES:
            shapes[names] = columns
    nul = nul_faults(values) if "\\u0000" in text else ()
    return _make_row(number, columns, values, folder, (*columns.faults, *nul))


def _read_table(lines: Iterator[str], delimiter: str | None, folder: str) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    first = next((line for line in lines), "")
    cells = _cells(chain([first], lines), delimiter or _find_delimiter(first))
    number, header = next(cells, (1, []))
    if isinstance(header, ManifestError):
        yield Row(number, None, (header,))
        return
    columns = read_columns(header)
    faults = [*_cell_faults(header, header), *columns.faults]
    if "image" not in columns.fields:
        faults.append(Issue("image", "is missing: the header has no such column"))
    if header and faults:
        yield _faulty(number, faults)
    if not header or columns.twice or "image" not in columns.fields:
        return
    for number, found in cells:
        yield (
            Row(number, None, (found,))
            if isinstance(found, ManifestError)
            else _read_cells(number, columns, header, found, folder)
        )


def _cells(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | ManifestError]]:
    """Yield each row's cells with the line where it begins; rows without any text are passed over."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = str(error) == "unexpected end of data"
            fault = "a quote that begins here is never closed" if unclosed else f"is not CSV: {error}"
            yield number, ManifestError(fault, line=number)
        else:
            if any(cells):
                yield number, cells


def _find_delimiter(header: str) -> str:
    """Return what stands between the names, if one of them is the image's: a comma, a semicolon or a tab."""
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        if {"image", "image_url"} & set(names):
            return delimiter
    return ","


def _read_cells(number: int, columns: Columns, header: Sequence[str], cells: Sequence[str], folder: str) -> Row:
    if len(cells) != len(header):
        fault = f"has {len(cells)} cells, and the header {len(header)}: is a quote or a delimiter missing?"
        return _faulty(number, [Issue("", fault)])
    values, text = dict(zip(header, cells)), "".join(cells)  # noqa: B905 - as long as each other
    plain = text.isascii() and "\0" not in text
    return _make_row(
        number, columns, values, folder, () if plain else (*_cell_faults(header, cells), *nul_faults(values))
    )


def _cell_faults(header: Sequence[str], cells: Sequence[str]) -> list[Issue]:
    return [Issue(name, _NOT_UTF8) for name, cell in zip(header, cells, strict=True) if is_not_utf8(cell)]


def _make_row(
    number: int, columns: Columns, values: dict[str, object] | dict[str, str], folder: str, faults: Sequence[Issue]
) -> Row:
    try:
        return Row(number, read_row(columns, values, folder, faults))
    except InvalidRequest as error:
        return _faulty(number, error.issues)


def _faulty(number: int, issues: Iterable[Issue]) -> Row:
    errors = (ManifestError(issue.message, line=number, field=issue.field) for issue in issues)
    return Row(number, None, tuple(errors))


def _file_fault(source: ImageSource) -> str:
    """Return what is wrong with a local image by its first bytes."""
    if source.kind is ImageKind.BYTES:
        return _head_fault(source.content[:SNIFF_BYTES])
    path = Path(source.base, source.text)
    try:
        with open_regular(path) as file:
            fault = _head_fault(file.read(SNIFF_BYTES))
    except FileNotFoundError:
        return f"there is no file {path}"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {describe(error)}"
    return f"{path} {fault}" if fault else ""


def _head_fault(head: bytes) -> str:
    return "" if sniff(head) else "begins like no image that is known"
