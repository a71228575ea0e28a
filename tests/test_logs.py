"""Each line of the log knows its row and its generation, and holds no secret."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.logs import about, generation_is, get_logger

logger = get_logger("kling_async.tests")


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "kling_async")


async def test_a_line_names_its_row_and_its_generation(caplog: pytest.LogCaptureFixture) -> None:
    """What the text does not say is added; what it says is not said twice."""

    async def row(key: str, generation_id: str) -> None:
        about(key, None)
        logger.info("%s: begun", key)
        generation_is("another row", "another id")
        generation_is(key, generation_id)
        await asyncio.sleep(0)
        logger.info("rendered")
        logger.info("row %s has generation %s", key, generation_id)

    await asyncio.gather(row("cat", "gen1"), row("dog", "gen2"))
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "cat" in line] == [
        "cat: begun",
        "cat: rendered (generation gen1)",
        "row cat has generation gen1",
    ]
    assert [line for line in lines if "dog" in line][1] == "dog: rendered (generation gen2)"
    last = caplog.records[-1]
    assert (last.__dict__["key"], last.__dict__["generation_id"]) == ("dog", "gen2")


@pytest.mark.parametrize("key", ["1", "a", "submit", "sub"])
def test_a_key_that_is_a_common_word_is_named_as_well(caplog: pytest.LogCaptureFixture, key: str) -> None:
    """A text that happens to hold the key says nothing of its row."""

    def row() -> None:
        about(key, None)
        logger.info("submit ka1.abc was sent 1 time")
        logger.info("%s: begun", key)
        logger.info("row %r is bought", key)

    contextvars.copy_context().run(row)
    assert caplog.messages == [f"{key}: submit ka1.abc was sent 1 time", f"{key}: begun", f"row {key!r} is bought"]


def test_a_traceback_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """What an observer of the caller's raises may quote anything."""
    try:
        raise ValueError("https://cdn.example/v.mp4?ksSecret=KEYsecret&ksTime=1 with Bearer KEYsecret")
    except ValueError:
        logger.exception("an observer failed")
    assert "ValueError: https://cdn.example/v.mp4" in caplog.text
    assert "KEYsecret" not in caplog.text


def test_a_line_about_no_row_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("the account is full for %d minute", 1)
    assert caplog.messages == ["the account is full for 1 minute"]
    assert caplog.records[0].__dict__["key"] is None


@given(st.text("abcdefgh0123456789", min_size=8, max_size=30))
def test_secrets_are_blotted_out(secret: str) -> None:
    """Bearer keys, signed queries and images do not pass, wherever they came from."""
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]  # a list to look at
    logger.addHandler(handler)
    try:
        logger.error("the call had Authorization: Bearer KEY%s", secret)
        logger.error("from %s", f"https://cdn.example/v.mp4?ksSecret=KEY{secret}&ksTime=1")
        logger.error("%s", {"image_url": f"data:image/png;base64,{'A' * 60}KEY{secret}"})
    finally:
        logger.removeHandler(handler)
    assert len(seen) == 3
    assert not any(f"KEY{secret}" in line for line in seen)


def test_a_logger_is_filtered_once() -> None:
    """Asking again for a logger adds nothing to it."""
    get_logger("kling_async.tests")
    assert len(logger.filters) == 1
