"""Settings in small groups, validated. Where each comes from (flag, environment, file) is `kling_async.assembly`.

Every field is also a setting of its own name in `kling-async.toml` and, as `KLING_ASYNC_…`, in the environment;
names are unique over all groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from attrs import Attribute, field, fields, frozen

from kling_async.errors import ConfigurationError

BASE_URL: Final = "https://api.aimlapi.com"
"""The service's own address."""


_MAX: Final = 1e15
"""Nothing is more than this, infinity neither."""


def _shown(value: object) -> str:
    try:
        return repr(value)[:100]
    except ValueError:
        return "a number of thousands of digits"


def _bounded(low: float, high: float = math.inf, *, whole: bool = False) -> Any:
    """Return an attrs validator: a number (whole, if asked) from low to high; None where that is the default."""

    def check(_instance: object, attribute: Attribute[Any], value: Any) -> None:
        if value is None and attribute.default is None:
            return
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not low <= value <= min(high, _MAX):
            span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
            raise ConfigurationError(f"{attribute.name} must be a {'whole ' * whole}number {span}, not {_shown(value)}")

    return check


def _check_in_flight(_instance: object, attribute: Attribute[Any], value: Any) -> None:
    if value != "auto":
        if isinstance(value, str):
            raise ConfigurationError(f"{attribute.name} must be a whole number or auto, not {value!r}")
        _bounded(1, 100_000, whole=True)(_instance, attribute, value)


def _check_url(_instance: object, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.lower().startswith(("http://", "https://")) or len(value.split()) != 1:
        raise ConfigurationError(f"{attribute.name} must be an http(s) URL, not {value!r}")
    try:
        parts = urlsplit(value)
        whole = bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError as error:
        raise ConfigurationError(f"{attribute.name} is no address: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{attribute.name} may not hold a user or a password")
    if not whole:
        raise ConfigurationError(f"{attribute.name} must name a host, and neither query nor fragment")


def _check_lag(_instance: object, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, str):
        if not value.endswith("%"):
            raise ConfigurationError(f"{attribute.name} must be seconds or a share such as 2%, not {value!r}")
        try:
            value = float(value[:-1])
        except ValueError:
            raise ConfigurationError(f"{attribute.name}: {value!r} is not a share such as 2%") from None
        _bounded(0.01, 100)(_instance, attribute, value)
    else:
        _bounded(0.001, 3600)(_instance, attribute, value)


def _check_choice(*choices: str) -> Any:
    def check(_instance: object, attribute: Attribute[Any], value: Any) -> None:
        if value not in choices:
            raise ConfigurationError(f"{attribute.name} must be one of {', '.join(choices)}, not {value!r}")

    return check


def _check_flag(_instance: object, attribute: Attribute[Any], value: Any) -> None:
    if value not in (True, False):
        raise ConfigurationError(f"{attribute.name} must be true or false, not {_shown(value)}")


def _check_key(_instance: object, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not all("!" <= character <= "~" for character in value):
        raise ConfigurationError(f"{attribute.name} must be text without spaces, line ends or letters beyond ASCII")


def _hidden(key: str) -> str:
    return "'…'" if key else "''"


def _without_slash(url: str) -> str:
    return url.rstrip("/") if isinstance(url, str) else url


@frozen
class ServiceSettings:
    """The service and how to reach it."""

    base_url: str = field(default=BASE_URL, validator=_check_url, converter=_without_slash)
    """The service's address."""
    api_key: str = field(default="", repr=_hidden, validator=_check_key)
    """The bearer key; never shown."""
    connect_timeout: float = field(default=15.0, validator=_bounded(0.01, 600))
    """Seconds to open a connection."""
    submit_timeout: float = field(default=180.0, validator=_bounded(0.1, 3600))
    """Seconds for a POST with its image, its answer included."""
    poll_timeout: float = field(default=30.0, validator=_bounded(0.1, 600))
    """Seconds for any other call."""


@frozen
class AdmissionSettings:
    """How many generations at once, and how fast new ones start."""

    max_in_flight: int | Literal["auto"] = field(default="auto", validator=_check_in_flight)
    """Generations open at the service at once: a hard cap, or `auto` to find the account's limit."""
    max_window: int = field(default=1000, validator=_bounded(1, 100_000, whole=True))
    """The ceiling of `auto`."""
    starts_per_second: float | None = field(default=None, validator=_bounded(0.001, 10_000))
    """At most so many POSTs a second; None for no pace."""
    backoff_first: float = field(default=1.0, validator=_bounded(0.01, 600))
    """Seconds of the first pause after the service's trouble; it doubles."""
    backoff_cap: float = field(default=60.0, validator=_bounded(0.01, 3600))
    """Seconds of the longest pause of our own."""
    retry_after_cap: float = field(default=300.0, validator=_bounded(0, 86_400))
    """Seconds of the longest pause that the service may ask for."""
    unavailable_after: float = field(default=1800.0, validator=_bounded(1))
    """Seconds without one usable answer after which a run ends."""


@frozen
class PollSettings:
    """How finished generations are noticed."""

    poll_lag: float | str = field(default="2%", validator=_check_lag)
    """The mean time from finished to noticed: seconds, or a share of the time a generation takes."""
    poll_interval_max: float = field(default=60.0, validator=_bounded(0.05, 3600))
    """Seconds of the longest interval between two polls of one generation; four times the lag, if that is longer."""
    poll_interval_min: float = field(default=0.2, validator=_bounded(0.01, 3600))
    """Seconds of the shortest interval."""
    poll_workers: int = field(default=16, validator=_bounded(1, 1024, whole=True))
    """Polls under way at once."""
    polls_per_second: float | None = field(default=None, validator=_bounded(0.001, 100_000))
    """At most so many polls a second, of all generations together; None for any number."""
    not_found_grace: float = field(default=300.0, validator=_bounded(0))
    """Seconds after the submit in which a 404 of a poll means nothing."""
    give_up_after: float = field(default=7200.0, validator=_bounded(1))
    """Seconds after its POST at which a generation is set aside."""


@frozen
class UncertainSettings:
    """What becomes of a POST whose answer was lost."""

    on_uncertain: str = field(default="hold", validator=_check_choice("hold", "resubmit"))
    """`hold` sets an unfound row aside; `resubmit` buys it again."""
    uncertain_after: float = field(default=4500.0, validator=_bounded(0.1))
    """Seconds to look for it in the usage log, at the least."""


@frozen
class DownloadSettings:
    """How videos come to the disk."""

    downloads_at_once: int = field(default=8, validator=_bounded(1, 256, whole=True))
    """Downloads under way at once."""
    stall_after: float = field(default=60.0, validator=_bounded(0.1, 3600))
    """Seconds without a byte after which a download is cut and resumed."""
    download_attempts: int = field(default=6, validator=_bounded(1, 100, whole=True))
    """Tries for one video before it is set aside for the next run."""
    max_video_bytes: int = field(default=2 * 1024**3, validator=_bounded(1, whole=True))
    """The largest file that is taken."""


@frozen
class MoneySettings:
    """What may be spent."""

    budget: float | None = field(default=None, validator=_bounded(0))
    """The ceiling in USD on the journal's whole life; None for none."""
    price: float | None = field(default=None, validator=_bounded(0))
    """USD for one video of 5 s; None to ask the service."""
    max_failures: int | None = field(default=None, validator=_bounded(1, whole=True))
    """Rows of one run that may end without a video before no more is bought; None for any number."""


@frozen
class CheckSettings:
    """What is checked before anything is paid."""

    image_checks: bool = field(default=True, validator=_check_flag)
    """Whether the model's own rules on images are checked here; the service enforces them anyway."""


@frozen
class Settings:
    """All settings of a client or a batch."""

    service: ServiceSettings = field(factory=ServiceSettings)
    """The service and how to reach it."""
    admission: AdmissionSettings = field(factory=AdmissionSettings)
    """How many at once."""
    polling: PollSettings = field(factory=PollSettings)
    """How ends are noticed."""
    uncertain: UncertainSettings = field(factory=UncertainSettings)
    """What becomes of lost answers."""
    downloads: DownloadSettings = field(factory=DownloadSettings)
    """How videos come to the disk."""
    money: MoneySettings = field(factory=MoneySettings)
    """What may be spent."""
    checks: CheckSettings = field(factory=CheckSettings)
    """What is checked first."""

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Make settings from flat names: `Settings.of(base_url="…", max_in_flight=5)`.

        Raises:
            ConfigurationError: With every unknown name and every wrong value.
        """
        groups: dict[str, dict[str, Any]] = {group.name: {} for group in fields(cls)}
        faults = []
        for name, value in values.items():
            home = _HOMES.get(name)
            if home is None:
                faults.append(f"there is no setting {name}")
            else:
                groups[home][name] = value
        made = {}
        for group in fields(cls):
            kind, found = _make(group, groups[group.name])
            made[group.name] = kind
            faults.extend(found)
        if faults:
            raise ConfigurationError("; ".join(faults))
        return cls(**made)

    def updated(self, **values: Any) -> Settings:
        """Return these settings with some of them changed, by flat names.

        Raises:
            ConfigurationError: With every unknown name and every wrong value.
        """
        return Settings.of(**{**self.flat(), **values}) if values else self

    def flat(self) -> dict[str, object]:
        """Return every setting by its flat name."""
        return {name: getattr(getattr(self, home), name) for name, home in _HOMES.items()}


def _make(group: Attribute[Any], values: dict[str, Any]) -> tuple[Any, list[str]]:
    """Make one group; where it fails, try each value by itself to tell all that is wrong."""
    kind = _GROUPS[group.name]
    try:
        return kind(**values), []
    except ConfigurationError:
        return None, list(_faults(kind, values))


def _faults(kind: Any, values: dict[str, Any]) -> Iterable[str]:
    for name, value in values.items():
        try:
            kind(**{name: value})
        except ConfigurationError as error:
            yield str(error)


_GROUPS: Final[dict[str, Any]] = {
    "service": ServiceSettings,
    "admission": AdmissionSettings,
    "polling": PollSettings,
    "uncertain": UncertainSettings,
    "downloads": DownloadSettings,
    "money": MoneySettings,
    "checks": CheckSettings,
}
_HOMES: Final[dict[str, str]] = {entry.name: home for home, kind in _GROUPS.items() for entry in fields(kind)}
SETTING_NAMES: Final = tuple(_HOMES)
"""The flat names of all settings."""
