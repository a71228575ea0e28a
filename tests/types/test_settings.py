"""Settings are valid or refused with everything that is wrong, and never show the key."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import ConfigurationError
from kling_async.types.settings import (
    BASE_URL,
    SETTING_NAMES,
    AdmissionSettings,
    PollSettings,
    ServiceSettings,
    Settings,
)

QUICK = settings(deadline=None, max_examples=100)
OPTIONAL = {"starts_per_second", "polls_per_second", "budget", "max_failures", "price"}
TEXTS = {"base_url", "api_key", "max_in_flight", "poll_lag", "on_uncertain", "image_checks"}
HUGE = 10**5000

GOOD: dict[str, list[Any]] = {
    "base_url": ["http://127.0.0.1:8080", "HTTPS://mirror.example/path"],
    "api_key": ["", "sk-0123"],
    "max_in_flight": ["auto", 1, 100_000],
    "poll_lag": [1, 0.5, 3600, "2%", "0.5%", "100%", " 2 %"],
    "on_uncertain": ["hold", "resubmit"],
    "image_checks": [True, False],
    "starts_per_second": [None, 0.5, 10],
    "budget": [None, 0, 25.5],
    "price": [None, 0.21],
    "poll_workers": [1, 1024],
    "retry_after_cap": [0],
    "not_found_grace": [0],
}
BAD: dict[str, list[Any]] = {
    "base_url": [
        "",
        "api.aimlapi.com",
        "ftp://x",
        "https://a b",
        "https://",
        None,
        5,
        "https://:8080",
        "https://[::1",
        "https://x:99999",
        "https://x:0",
        "https://u:p@x",
        "https://x?a=1",
        "https://x#a",
    ],
    "api_key": [None, 5, "sk 1", "sk-1\n", "schlüssel"],
    "max_in_flight": [0, -1, 2.5, "all", None, True, 100_001, HUGE],
    "poll_lag": [0, -1, "2", "%", "x%", "0%", "101%", "nan%", None, True, float("nan"), 3601],
    "on_uncertain": ["buy", "", None, True],
    "image_checks": ["no", "", None, 2],
    "starts_per_second": [0, -1, "1", float("inf"), True],
    "budget": [-1, "25", float("nan"), float("inf"), HUGE],
    "price": [-0.1, "1"],
    "poll_workers": [0, 1.5, 1025, None],
}


def wrong(**values: Any) -> str:
    """Return what the settings say is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.of(**values)
    return str(caught.value)


def test_the_defaults_are_settings() -> None:
    """Nothing must be set: the service's own address, and no key."""
    found = Settings()
    assert found == Settings.of()
    assert found.service.base_url == BASE_URL == "https://api.aimlapi.com"
    assert found.service.api_key == ""
    assert found.admission.max_in_flight == "auto"
    assert found.money.budget is None


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_right_value_is_taken(name: str, value: Any) -> None:
    """As it is given."""
    assert Settings.of(**{name: value}).flat()[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda value: "huge" if value is HUGE else repr(value),
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    """The text names the setting, and is short."""
    text = wrong(**{name: value})
    assert text.startswith(name)
    assert len(text) < 300


@pytest.mark.parametrize("name", sorted(set(SETTING_NAMES) - OPTIONAL))
def test_only_what_may_be_absent_may_be_none(name: str) -> None:
    """None for a number would otherwise be heard of in the middle of a run."""
    assert wrong(**{name: None}).startswith(name)


@pytest.mark.parametrize("name", sorted(set(SETTING_NAMES) - TEXTS))
@pytest.mark.parametrize(
    "value",
    ["5", True, -1, float("nan"), float("inf"), HUGE, [1]],
    ids=lambda v: repr(v)[:5] if v is not HUGE else "huge",
)
def test_a_number_is_a_number_within_bounds(name: str, value: Any) -> None:
    """Text, a truth value, nothing finite: refused for every number alike."""
    assert wrong(**{name: value}).startswith(name)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Unknown names and wrong values of all groups."""
    text = wrong(
        base_url="nowhere",
        submit_timeout=0,
        max_in_flight=0,
        max_window=0.5,
        poll_lag="x%",
        on_uncertain="buy",
        colour="red",
        speed=9,
        budget=1.0,
    )
    for name in (
        "base_url",
        "submit_timeout",
        "max_in_flight",
        "max_window",
        "poll_lag",
        "on_uncertain",
        "colour",
        "speed",
    ):
        assert name in text
    assert "budget" not in text
    assert text.count(";") == 7


def test_flat_names_everything_once() -> None:
    """The flat form is the whole, and makes the same settings again."""
    found = Settings.of(max_in_flight=5, api_key="sk-1", poll_lag=2.5, starts_per_second=3, image_checks=False)
    assert tuple(found.flat()) == SETTING_NAMES
    assert len(set(SETTING_NAMES)) == sum(len(fields(type(getattr(found, group.name)))) for group in fields(Settings))
    assert Settings.of(**found.flat()) == found


@QUICK
@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in GOOD.items()}))
def test_settings_come_back_from_their_flat_form(values: dict[str, Any]) -> None:
    """Whatever was set."""
    found = Settings.of(**values)
    assert Settings.of(**found.flat()) == found


@QUICK
@given(
    st.dictionaries(
        st.sampled_from([*SETTING_NAMES, "colour"]),
        st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.none(), st.booleans(), st.binary(max_size=3)),
        max_size=4,
    )
)
def test_any_value_is_taken_or_refused(values: dict[str, Any]) -> None:
    """Nothing but a ConfigurationError comes of a wrong one, and it names all that are wrong by themselves."""

    def alone(name: str) -> bool:
        try:
            Settings.of(**{name: values[name]})
        except ConfigurationError:
            return False
        return True

    bad = [name for name in values if not alone(name)]
    try:
        Settings.of(**values)
    except ConfigurationError as error:
        assert bad
        assert all(name in str(error) for name in bad)
    else:
        assert not bad


def test_some_can_be_changed_by_flat_names() -> None:
    """The others stay, and what comes of it is judged as a whole."""
    before = Settings.of(api_key="sk-1", max_in_flight=5)
    assert before.updated() == before
    assert before.updated(poll_workers=2) == Settings.of(api_key="sk-1", max_in_flight=5, poll_workers=2)
    with pytest.raises(ConfigurationError, match=r"colour.*max_in_flight|max_in_flight.*colour"):
        before.updated(max_in_flight=0, colour="red")


def test_the_key_is_never_shown() -> None:
    """Not in the repr of any of them, and not in what is said of a wrong one."""
    found = Settings.of(api_key="sk-VERYSECRET")
    assert "VERYSECRET" not in repr(found) + repr(found.service) + str(found)
    assert found.service.api_key == "sk-VERYSECRET"
    assert "VERYSECRET" not in wrong(api_key="sk-VERYSECRET\n")
    assert "VERYSECRET" not in wrong(api_key="sk-VERYSECRET", base_url="x")


def test_a_set_key_can_be_told_from_none() -> None:
    """The repr says whether there is one."""
    assert repr(ServiceSettings(api_key="sk-1")) != repr(ServiceSettings())


def test_a_slash_at_the_end_of_the_address_is_left_out() -> None:
    """Paths begin with one."""
    assert ServiceSettings(base_url="https://mirror.example/api//").base_url == "https://mirror.example/api"


def test_a_group_by_itself_is_checked_too() -> None:
    """And a changed copy of one."""
    with pytest.raises(ConfigurationError, match="max_in_flight"):
        AdmissionSettings(max_in_flight=0)
    with pytest.raises(ConfigurationError, match="poll_lag"):
        evolve(PollSettings(), poll_lag="2")
