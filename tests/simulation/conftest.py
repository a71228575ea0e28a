"""What the simulation has apart from other tests: blocking calls are its way, since time stands still in them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> None:
    """Let executor calls run in place."""
