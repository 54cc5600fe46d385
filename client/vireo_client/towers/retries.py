"""When a request that failed is sent again, and how long the client waits before."""

from __future__ import annotations

import random
import time

from ..errors import ServerError, ServerOverloaded, ServerUnavailable

RETRIED = (ServerUnavailable, ServerOverloaded)
"""The errors after which a request is sent again. To embed twice does no harm, so that it does not
matter whether the server worked on the request when the connection was lost. What came too late
(`ServerTimeout`) has no time left; what was refused (`ServerRejected`) will be refused again."""

_BASE = {ServerUnavailable: 0.1, ServerOverloaded: 0.4}
_CAP = 5.0


class Deadline:
    """A moment by which an answer must be there."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 at least."""
        return max(0.0, self._end - time.monotonic())


def pause_before_retry(error: ServerError, retry: int) -> float:
    """Return how many seconds to wait before a request is sent again.

    Exponential backoff with full jitter (Brooker, Exponential Backoff And Jitter, AWS Architecture
    Blog, 2015): a random part of a bound that doubles with each retry, so that clients that failed
    together do not come back together. A full queue gets a longer pause than a server that is away:
    it must first work off what it has.

    Args:
        error: one of `RETRIED`.
        retry: how often the request was sent again before; 0 the first time.
    """
    base = next(base for kind, base in _BASE.items() if isinstance(error, kind))
    return random.uniform(0, min(_CAP, base * 2**retry))
