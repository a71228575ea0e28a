"""Reads a fault plan from a JSON or TOML file.

```toml
seed = 7

[rates.poll]
"502" = 0.05

[[fault]]
operation = "submit"
kind = "dropped_after"
at = [3]
```

This room only reads; it must never give a name in the file another meaning than `Fault` has for it.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from kling_async.simulator.faults import Fault, FaultPlan

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_plan(path: str | Path) -> FaultPlan:
    """Return the plan that a file describes; TOML if it ends in `.toml`, else JSON.

    Raises:
        ValueError: The file cannot be read as a plan; the message says why.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        document: object = tomllib.loads(text) if Path(path).suffix == ".toml" else json.loads(text)
        return parse_plan(document)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no plan of faults: {error}") from error


def parse_plan(document: object) -> FaultPlan:
    """Return the plan that a decoded document describes.

    Raises:
        ValueError: Something in it is wrong; the message says what.
        TypeError: A value has the wrong type.
    """
    table = _table(document, "the document")
    unknown = set(table) - {"seed", "fault", "rates"}
    if unknown:
        raise ValueError(f"unknown entries: {', '.join(sorted(unknown))}; known are seed, fault, rates")
    seed = table.get("seed", 0)
    if not isinstance(seed, int):
        raise TypeError("seed must be an integer")
    return FaultPlan(faults=(*_scripted(table.get("fault", [])), *_rated(table.get("rates", {}))), seed=seed)


def _scripted(entries: object) -> list[Fault]:
    if not isinstance(entries, list):
        raise TypeError("fault must be a list of tables")
    return [_fault(_table(entry, f"fault {number}"), number) for number, entry in enumerate(entries, 1)]


def _fault(entry: Mapping[str, object], number: int) -> Fault:
    known = {field.name for field in attrs.fields(Fault)}
    unknown = set(entry) - known
    if unknown:
        raise ValueError(f"fault {number} has unknown entries: {', '.join(sorted(unknown))}")
    try:
        return Fault(**entry)  # type: ignore[arg-type] # the values are checked by Fault itself
    except (ValueError, TypeError) as error:
        raise ValueError(f"fault {number}: {error.args[0]}") from error


def _rated(rates: object) -> list[Fault]:
    faults = []
    for operation, kinds in _table(rates, "rates").items():
        for kind, rate in _table(kinds, f"rates.{operation}").items():
            if not isinstance(rate, int | float):
                raise TypeError(f"rates.{operation}.{kind} must be a number")
            faults.append(Fault(operation, kind, rate=rate))
    return faults


def _table(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be a table")
    return value
