"""The files that may be open are shared: all have one, and together they keep within the limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kling_async.rules.admission import Admission, Limits
from kling_async.rules.handles import RESERVED, posts_within, share_files, within_files
from kling_async.types.settings import Settings


@given(st.integers(0, 100_000), st.integers(1, 256), st.integers(1, 1024))
def test_all_together_keep_within_the_limit(limit: int, downloads: int, polls: int) -> None:
    """A download and a POST have two files each, a poll has one; nobody has none, or more than was wanted."""
    shares = share_files(limit, downloads=downloads, polls=polls)
    assert 1 <= shares.downloads <= downloads
    assert 1 <= shares.polls <= polls
    assert shares.posts >= 1
    assert 2 * shares.downloads + shares.polls + 2 * shares.posts <= max(8, limit - RESERVED)


def test_the_usual_limit_changes_nothing() -> None:
    """With 1,024 files the defaults stand."""
    settings = Settings()
    assert within_files(settings, 1024) is settings
    assert posts_within(settings, 1024) >= 450


def test_no_more_posts_are_in_the_air_than_files_allow() -> None:
    """Whatever may be open at the service: one that has landed makes place for the next."""
    admission = Admission(Limits(500, adaptive=False, in_air=posts_within(Settings(), RESERVED + 20)))
    started = 0
    while admission.wait(0.0) <= 0:
        admission.take(0.0)
        started += 1
    assert started == share_files(RESERVED + 20, downloads=8, polls=16).posts
    admission.landed()
    assert admission.wait(0.0) <= 0
