"""The columns of a manifest: which name is which field, and which is misspelt.

Values only: nothing here opens a file. This room must never take a misspelt column for one of the caller's own: every
row would be bought without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from kling_async.errors import Issue

FIELDS: Final = {
    "key": "key",
    "id": "key",
    "custom_id": "key",
    "image": "image",
    "image_url": "image",
    "prompt": "prompt",
    "tail_image": "tail_image",
    "tail_image_url": "tail_image",
    "duration": "duration",
    "negative_prompt": "negative_prompt",
    "cfg_scale": "cfg_scale",
    "static_mask": "static_mask",
    "dynamic_masks": "dynamic_masks",
    "model": "model",
    "extra": "extra",
    "sample": "sample",
}
"""Each name that has a meaning, and the field it fills."""

BASE: Final = "_base"
"""In a list of failures: the folder for which its relative paths were written. It changes no path; with it a row is
the same as in the manifest that it came from."""
INPUTS: Final = "_inputs"
"""In a list of failures: the folder where a journal keeps images that came as bytes."""
CARRY: Final = "_carry"
"""In a list of failures: what is carried under names that no column can have."""

_SHORTEST_MISSPELT: Final = 5  # of shorter names (`key`, `id`) every other short word would be a misspelling
_LONG: Final = 10  # names of this length may be misspelt twice
_WORDS: Final = frozenset(  # words of their own, one letter away from `model` and from `sample`
    {"mode", "modes", "modal", "simple", "ample"}
)


@frozen
class Columns:
    """What each name of a header, or of a JSON object, stands for."""

    fields: Mapping[str, str]
    """The name as written, by the field it fills."""
    carried: tuple[str, ...]
    """The caller's own."""
    faults: tuple[Issue, ...] = ()
    """What is wrong with the names."""
    twice: bool = False
    """Whether two names say the same, so that no table of them can be read."""

    def as_written(self, field: str) -> str:
        """Return the name under which the manifest has a field."""
        return self.fields.get(field, field)


def read_columns(names: Sequence[str]) -> Columns:
    """Tell what each name stands for. Names that are empty or begin with `_` are left out."""
    fields: dict[str, str] = {}
    carried: dict[str, None] = {}
    twice: list[Issue] = []
    misspelt: list[Issue] = []
    for name in names:
        field = FIELDS.get(name)
        if name in carried:
            twice.append(Issue(name, "stands twice: keep one of the two"))
        elif field and field in fields:
            twice.append(Issue(name, f"says the same as {fields[field]}: keep one of the two"))
        elif field:
            fields[field] = name
        elif name and not name.startswith("_"):
            carried[name] = None
            if "\0" in name:
                misspelt.append(Issue(name, "holds a NUL character"))
            if meant := find_meant(name):
                misspelt.append(Issue(name, f"did you mean {meant}? If the column is your own, give it another name"))
    return Columns(fields, tuple(carried), (*twice, *misspelt), twice=bool(twice))


def find_meant(name: str) -> str | None:
    """Return the known name that an unknown one was meant to be; None where it is a name of its own.

    Case, spaces and punctuation aside it is the same; or one letter is wrong, missing, too many, or has changed
    places with the next; in long names, two. Names with digits are the caller's own.
    """
    plain = _plain(name)
    for known in FIELDS:
        if plain == _plain(known):
            return known
    if plain in _WORDS or any(letter.isdigit() for letter in name):
        return None
    lower = name.strip().lower().replace("-", "_").replace(" ", "_")
    long_enough = [known for known in FIELDS if len(known) >= _SHORTEST_MISSPELT]
    nearest = min(long_enough, key=lambda known: _count_faults(lower, known))
    allowed = 2 if len(nearest) >= _LONG else 1
    return nearest if _count_faults(lower, nearest) <= allowed else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _count_faults(written: str, meant: str) -> int:
    """Count letters wrong, missing, too many, or exchanged with the next; 3 stands for more than 2."""
    if abs(len(written) - len(meant)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for i, letter in enumerate(written):
        above, row, old = row, [i + 1], before
        before = above
        for j, other in enumerate(meant):
            cost = min(above[j] + (letter != other), above[j + 1] + 1, row[j] + 1)
            if i and j and letter == meant[j - 1] and written[i - 1] == other:
                cost = min(cost, old[j - 1] + 1)
            row.append(cost)
    return min(row[-1], 3)
