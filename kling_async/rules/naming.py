"""Where a video lies: the name of its file, made from the key of its row.

A name is safe, unique and the same every time. A key that is plain names its file by itself; any other is made safe
and told apart by `~` and a digest of the key. No plain key holds a `~`, so neither kind can meet the other.

Plain are letters, digits and accents of any script, the space, and `-_.()+,=@#&'`. The rest is replaced: what a file
system, a shell, a glob or a URL reads in its own way; control, format (bidirectional, zero-width) and other
invisible characters; surrogates. So are names that Windows keeps for itself, and those that begin or end in a way
that some system hides, drops or takes for an option.

This room must never look at the disk: whether two names meet there follows from `collision_key` and `place_fold` alone.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

LONGEST_STEM: Final = 168
"""Bytes of UTF-8. With `.mp4` and 28 bytes for a temporary suffix a name has 200; common file systems allow 255."""

ENDING: Final = ".mp4"
"""Of the file of each video."""

SPLIT_ABOVE: Final = 10_000
"""Rows above which the videos of a job are split into folders: more files in one are slow to list, and to open."""

DIGEST_DIGITS: Final = 16
"""Hex digits of the digest. With 8, a million long keys that begin alike would be expected to collide 116 times."""

_MARKS: Final = frozenset(" -_.()+,=@#&'")
_LETTERS: Final = frozenset("LMN")
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_PLAIN: Final = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
"""Nearly all keys, told at once: what it does not take is looked at letter by letter."""
_KEPT_BY_WINDOWS: Final = re.compile(r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)


def file_stem(key: str) -> str:
    """Name the file of a row, without its ending.

    Args:
        key: The row's key: any text, even an empty one.

    Returns:
        The key itself where it is plain; else `distinct_stem(key)`. Other keys get other names.
    """
    if _PLAIN.fullmatch(key) and not _KEPT_BY_WINDOWS.match(key):
        return key
    return key if _make_safe(key, LONGEST_STEM) == key else distinct_stem(key)


def distinct_stem(key: str) -> str:
    """Name the file of a row so that it differs from every other on any file system.

    For a row whose plain name shares its `collision_key` with another's.

    Args:
        key: The row's key.

    Returns:
        What is plain of the key, `~`, and a digest of the key.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_DIGITS]
    return f"{_make_safe(key, LONGEST_STEM - 1 - DIGEST_DIGITS)}~{digest}"


def place_of(key: str, *, folders: bool) -> str:
    """Return where the video of a row lies, relative to the folder of videos.

    Args:
        key: The row's key.
        folders: Whether the videos are split into 256 folders, by a digest of the key: `ab/KEY.mp4`.
    """
    if not folders:
        return f"{file_stem(key)}{ENDING}"
    return f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:2]}/{file_stem(key)}{ENDING}"


def distinct_place(place: str, key: str) -> str:
    """Return where the video of a row lies whose place is another row's on some file system: in the same folder."""
    folder, slash, _ = place.rpartition("/")
    return f"{folder}{slash}{distinct_stem(key)}{ENDING}"


def collision_key(stem: str) -> str:
    """Tell what two names have in common that are one on a file system which ignores case or normalises.

    Coarser than any single file system, so that it covers all of them.

    Args:
        stem: A name that `file_stem` or `distinct_stem` made.

    Returns:
        Text to compare; not a name.
    """
    return stem.lower() if stem.isascii() else _fold(_fold(stem))


def place_fold(place: str) -> str:
    """Tell what two places have in common that are one on such a file system.

    The folder stands last: keys mostly come in their order, and so do these then. What is found by them is written at
    the end of an index, and not all over it.

    Args:
        place: Where a video lies, as `place_of` has it.

    Returns:
        Text to compare; not a place.
    """
    folder, slash, name = place.rpartition("/")
    stem = collision_key(name.removesuffix(ENDING))
    return f"{stem}//{collision_key(folder)}" if slash else stem


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).upper().casefold())


def _make_safe(key: str, limit: int) -> str:
    """Replace, trim and cut until nothing but a plain name is left; a plain name stays as it is."""
    name = "".join(letter if _is_plain(letter) else "\0" for letter in unicodedata.normalize("NFC", key))
    name = re.sub("\0+", "_", name)
    start = next((at for at, letter in enumerate(name) if _may_begin(letter)), len(name))
    name = name[start:]
    if not name or _KEPT_BY_WINDOWS.match(name):
        name = f"_{name}"
    return name.encode()[:limit].decode(errors="ignore").rstrip(". ")


def _may_begin(letter: str) -> bool:
    return letter not in "-. " and unicodedata.category(letter)[0] != "M"


def _is_plain(letter: str) -> bool:
    if letter.isascii():
        return letter.isalnum() or letter in _MARKS
    return unicodedata.category(letter)[0] in _LETTERS and not _INVISIBLE.match(letter)
