"""Settings from flags, the environment and `kling-async.toml`, in that order, and where each came from.

Never a flag that takes the key itself, and never a key in the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kling_async.errors import ConfigurationError
from kling_async.types.settings import SETTING_NAMES, Settings

FILE: Final = "kling-async.toml"
"""The settings file, in the folder from which a command is run."""

KEY_NAMES: Final = ("AIMLAPI_API_KEY", "AIML_API_KEY")
"""The environment's names of the key, the first one that is set."""

ADDRESS_NAMES: Final = ("AIMLAPI_BASE_URL", "AIMLAPI_API_BASE", "AIML_API_BASE")
"""The environment's names of the address."""

PREFIX: Final = "KLING_ASYNC_"
"""Every other setting: `KLING_ASYNC_MAX_IN_FLIGHT`."""

_SPECIAL: Final = {"api_key": KEY_NAMES, "base_url": ADDRESS_NAMES}
_WORDS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None}


def load_settings(
    flags: Mapping[str, object], *, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> tuple[Settings, dict[str, str]]:
    """Gather the settings in force.

    Args:
        flags: Values by flat name; None for "not given".
        environ: The environment; that of the process if not given.
        folder: Where the settings file may lie; no file is read if not given.

    Returns:
        The settings, and for each name where its value comes from.

    Raises:
        ConfigurationError: With every unknown name and every wrong value.
    """
    sources: dict[str, Mapping[str, object]] = {
        FILE: {} if folder is None else _from_file(folder / FILE),
        "environment": _from_environment(os.environ if environ is None else environ),
        "flag": {name: value for name, value in flags.items() if value is not None},
    }
    values: dict[str, object] = {}
    origins = dict.fromkeys(SETTING_NAMES, "default")
    for source, found in sources.items():
        values |= found
        origins |= dict.fromkeys(found, source)
    return Settings.of(**values), origins


def _from_file(path: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    if "api_key" in document:
        raise ConfigurationError(f"{path}: a key does not belong into a file; set {KEY_NAMES[0]} in the environment")
    return document


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in SETTING_NAMES:
        for variable in (*_SPECIAL.get(name, ()), PREFIX + name.upper()):
            text = environ.get(variable, "").strip()
            if text and name not in found:
                found[name] = text if name in _SPECIAL else _parsed(text)
    known = {PREFIX + name.upper() for name in SETTING_NAMES}
    unknown = sorted(variable for variable in environ if variable.startswith(PREFIX) and variable not in known)
    if unknown:
        raise ConfigurationError(f"there is no setting for {', '.join(unknown)} in the environment")
    return found


def _parsed(text: str) -> object:
    """Read a text as the value that a TOML file would have."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
