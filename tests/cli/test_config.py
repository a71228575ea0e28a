"""`config`: every setting in force and where it comes from; the key is never shown."""

from __future__ import annotations

from kling_async.types.settings import SETTING_NAMES
from tests.cli.harness import KEY, World


def test_every_setting_is_shown_with_its_source(world: World) -> None:
    """Flag, then environment, then file, then default: each wins over the next, and is named."""
    world.write("kling-async.toml", "max_in_flight = 1\nbudget = 1.0\nprice = 1.0\npoll_workers = 9\n")
    env = {"KLING_ASYNC_MAX_IN_FLIGHT": "2", "KLING_ASYNC_BUDGET": "2", "KLING_ASYNC_STALL_AFTER": "7"}
    ended = world.run("config", "--max-in-flight", "3", "--poll-lag", "3%", "--json", env=env)
    assert ended.code == 0
    shown = ended.document
    assert tuple(shown) == SETTING_NAMES
    assert shown["max_in_flight"] == {"value": 3, "from": "flag"}
    assert shown["poll_lag"] == {"value": "3%", "from": "flag"}
    assert shown["budget"] == {"value": 2, "from": "environment"}
    assert shown["stall_after"] == {"value": 7, "from": "environment"}
    assert shown["base_url"] == {"value": world.service.base_url, "from": "environment"}
    assert shown["price"] == {"value": 1.0, "from": "kling-async.toml"}
    assert shown["poll_workers"] == {"value": 9, "from": "kling-async.toml"}
    assert shown["on_uncertain"] == {"value": "hold", "from": "default"}


def test_a_person_sees_the_same_in_columns(world: World) -> None:
    """One line for each setting: name, value, source."""
    ended = world.run("config", "--budget", "25")
    lines = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines()}
    assert tuple(lines) == SETTING_NAMES
    assert lines["budget"] == ["25.0", "flag"]
    assert lines["price"] == ["-", "default"]
    assert ended.err == ""


def test_the_key_is_named_and_never_shown(world: World) -> None:
    """The key is there or not there, in both forms, wherever it stands in the environment."""
    for env in ({}, {"AIMLAPI_API_KEY": None, "AIML_API_KEY": KEY}):
        plain, document = world.start("config", env=env), world.start("config", "--json", env=env)
        ended = plain.finish()
        assert KEY not in ended.out + ended.err
        assert ["api_key", "set", "environment"] in [line.split() for line in ended.out.splitlines()]
        ended = document.finish()
        assert KEY not in ended.out + ended.err
        assert ended.document["api_key"] == {"value": "set", "from": "environment"}
    missing = world.run("config", "--json", env={"AIMLAPI_API_KEY": None}).document
    assert missing["api_key"] == {"value": "missing", "from": "default"}


def test_a_key_in_the_file_is_refused(world: World) -> None:
    """A settings file is committed and shared: a key in it ends each command with 2, and is not repeated."""
    world.write("kling-async.toml", f'api_key = "{KEY}"\n')
    world.manifest(1)
    commands = (("config",), ("run", "shots.jsonl", "--out", "out"), ("generate", "cat.png", "-o", "cat.mp4"))
    for process in [world.start(*command) for command in commands]:
        ended = process.finish()
        assert (ended.code, ended.out) == (2, "")
        assert "a key does not belong into a file" in ended.err
        assert KEY not in ended.err
    assert not world.bought()


def test_names_of_the_vendor_are_taken_in_their_order(world: World) -> None:
    """`AIMLAPI_…` goes before `AIML_…`, for the key and for the address."""
    env = {
        "AIMLAPI_BASE_URL": None,
        "AIMLAPI_API_BASE": "http://second.example",
        "AIML_API_BASE": "http://third.example",
    }
    shown = world.run("config", "--json", env=env).document
    assert shown["base_url"] == {"value": "http://second.example", "from": "environment"}
    ended = world.run("run", world.manifest(1), "--out", "out", env={"AIML_API_KEY": "sk-another"})
    assert ended.code == 0, "the first name's key was taken"
