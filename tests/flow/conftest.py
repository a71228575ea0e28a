"""A folder in memory for each test: hundreds of commits wait for no disk. That of `tests/adapters` is a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import scratch


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """The test's folder."""
    with scratch("kling-flow-") as place:
        yield place
