"""What all tests of the torture have: a loop for the simulated service, so that it lives while processes die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.harness import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    """A loop on a thread of its own."""
    thread = LoopThread()
    yield thread
    thread.close()
