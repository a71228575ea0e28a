"""A folder of images as a manifest: each image is a row, and the text beside it, `NAME.txt`, is its prompt.

The key of a row is the image's path without its ending: `NAME`, or `a/b/NAME` in a folder below. The rows come in the
order of their keys, and one at a time: the names are sorted on a disk of their own. Everything here blocks. This room
must never pass over an image or a prompt in silence: what does not fit together is an error.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Final

from kling_async.adapters.disk import describe, open_regular
from kling_async.adapters.manifest_rows import Row
from kling_async.errors import InvalidRequest, ManifestError
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import ImageToVideo

PROMPT: Final = ".txt"
"""The ending of a prompt, in any case."""

IMAGES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
    | {".avif", ".jxl", ".jp2", ".svg", ".ico", ".tga", ".psd"}
)
"""Endings of images, in any case: also of those that the service refuses, so that none is missed in silence."""

_LONGEST_PROMPT: Final = 64 * 1024
"""Bytes; the model takes 2,500 characters."""
_PAGE: Final = 1000
_CACHE: Final = 1024
"""KiB of memory that the sorting may take; the rest lies in a temporary file."""
_LINK: Final = "/"
"""Stands for the ending of a link to a folder: no file's ending is this."""


def read_folder(folder: Path) -> Iterator[Row]:
    """Read a folder's images and prompts, those of the folders below too. Hidden files and folders are passed over.

    Args:
        folder: The folder.

    Raises:
        OSError: A folder cannot be listed.
    """
    with closing(_sorted(folder)) as names:
        found = names.execute("SELECT stem, ending FROM name ORDER BY stem, ending")
        for stem, group in groupby(found, key=lambda entry: entry[0]):
            yield _read(folder, os.fsdecode(stem), [os.fsdecode(ending) for _, ending in group])


def folder_digest(folder: Path) -> str:
    """Return a digest of what lies in a folder: the name, the size and the times of each image and each prompt.

    Of the times it is the one of the content, which an owner can set, and the one of the entry, which nobody can: what
    is unpacked or copied over a file with the old one's size and date is another file.

    Raises:
        OSError: A folder cannot be listed.
    """
    digest = hashlib.sha256()
    with closing(_sorted(folder)) as names:
        for values in names.execute("SELECT stem, ending, size, written, changed FROM name ORDER BY stem, ending"):
            digest.update(repr(values).encode())
    return digest.hexdigest()


def _sorted(folder: Path) -> sqlite3.Connection:
    """Return a table of the names, in a file that has no name and goes with its connection."""
    table = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # one that is left is collected anywhere
    try:
        table.execute(f"PRAGMA cache_size = -{_CACHE}")
        table.execute("PRAGMA temp_store = FILE")
        table.execute("CREATE TABLE name (stem BLOB, ending BLOB, size INTEGER, written INTEGER, changed INTEGER)")
        table.execute("BEGIN")
        table.executemany("INSERT INTO name VALUES (?, ?, ?, ?, ?)", _names(folder))
    except BaseException:
        table.close()
        raise
    return table


def _names(folder: Path) -> Iterator[tuple[bytes, bytes, int, int, int]]:
    """Yield the path without its ending, the ending, the size and the times of each image and each prompt."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{below}{entry.name}"
                if entry.is_dir():
                    if entry.is_symlink():
                        yield os.fsencode(name), os.fsencode(_LINK), 0, 0, 0
                    else:
                        waiting.append(f"{name}/")
                    continue
                stem, ending = os.path.splitext(name)  # noqa: PTH122 - text, a million times
                if ending.lower() in IMAGES or ending.lower() == PROMPT:
                    status = None if entry.is_symlink() and not entry.is_file() else entry.stat()
                    told = (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else (0, 0, 0)
                    yield os.fsencode(stem), os.fsencode(ending), *told


def _read(folder: Path, stem: str, endings: list[str]) -> Row:
    """Read what has one name but for the endings."""
    images = [ending for ending in endings if ending.lower() in IMAGES]
    prompts = [ending for ending in endings if ending.lower() == PROMPT]
    if _LINK in endings:
        return _faulty(stem, "", "is a link to a folder: run that folder by itself, or put its images here")
    if not images:
        return _faulty(f"{stem}{prompts[0]}", "prompt", "has no image of its name beside it")
    name = f"{stem}{images[0]}"
    for others, what in ((images, "image"), (prompts, "prompt")):
        if len(others) > 1:
            also = " and ".join(f"{stem}{ending}" for ending in others[1:])
            return _faulty(f"{stem}{others[0]}", what, f"has the name of {also}: give each a name of its own")
    try:
        prompt = _prompt(folder / f"{stem}{prompts[0]}") if prompts else None
    except (OSError, ValueError) as error:
        return _faulty(f"{stem}{prompts[0]}", "prompt", f"cannot be read: {describe(error)}")
    try:
        image = ImageSource(ImageKind.PATH, name, str(folder.absolute()))
        return Row(0, ImageToVideo(image, prompt, key=stem), file=name)
    except InvalidRequest as error:
        faults = [ManifestError(issue.message, file=name, field=issue.field) for issue in error.issues]
        return Row(0, None, tuple(faults), file=name)


def _prompt(path: Path) -> str | None:
    """Return a prompt; None where it is empty.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no text.
    """
    with open_regular(path) as file:
        content = file.read(_LONGEST_PROMPT + 1)
    if len(content) > _LONGEST_PROMPT:
        raise ValueError(f"it has more than {_LONGEST_PROMPT:,} bytes: is it a prompt?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it holds bytes that are not UTF-8: save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text.rstrip("\r\n") if text.strip() else None


def _faulty(name: str, field: str, fault: str) -> Row:
    return Row(0, None, (ManifestError(fault, file=name, field=field),), file=name)
