"""Waiting for what must come, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 120.0
"""A bound on what takes a moment on a quiet machine: it ends a test that would hang."""


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Return as soon as `condition()` holds.

    Raises:
        AssertionError: it does not hold within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.02)
