"""Restarts of Triton: how soon the next one comes, and when there have been too many."""

from __future__ import annotations

import time
from collections import deque

MOST = 5
"""Restarts within `WINDOW_SECONDS`; one more, and `vireo serve` ends."""
WINDOW_SECONDS = 600.0


class Backoff:
    """Decides how long to wait before each restart."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()

    def next_delay(self, now: float | None = None) -> float | None:
        """Count one restart, and return the seconds to wait before it; None if it is one too many.

        The first follows at once, the next after 1, 2, 4 and 8 s. A restart counts for ten minutes.

        Args:
            now: the present, in seconds of `time.monotonic`.
        """
        now = time.monotonic() if now is None else now
        while self._recent and now - self._recent[0] > WINDOW_SECONDS:
            self._recent.popleft()
        if len(self._recent) >= MOST:
            return None
        self._recent.append(now)
        earlier = len(self._recent) - 1
        return float(2 ** (earlier - 1)) if earlier else 0.0
