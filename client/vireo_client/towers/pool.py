"""The servers of one client: which of them gets a request, and which are put aside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from ..errors import ServerError
from .tls import ClientTls

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Endpoint:
    """One Triton server, and what is known of it."""

    url: str
    tls: ClientTls | None
    client: Any = None
    """The connection, made at its first use."""
    versions: dict[str, str] = field(default_factory=dict)
    """The version of each tower that was found to be of the bundle; empty before the check."""
    max_batch_size: int = 0
    server_version: str = ""
    answered_at: float = 0.0
    """When the bundle was known to be right last, by `time.monotonic`."""
    outstanding: int = 0
    """Requests that are under way."""
    aside: ServerError | None = None
    """Why it gets no request while another is healthy."""

    @property
    def name(self) -> str:
        """The server as errors name it."""
        return f"Triton at {self.url}"


class Pool:
    """Chooses the healthy server with the fewest requests under way; threads may share it.

    A server that fails is put aside: it gets requests only while all are aside. Who owns the pool
    looks at it from then on, and puts it back.

    Args:
        endpoints: the servers.
        on_aside: called with a server that was put aside; never where there is only one.
    """

    def __init__(self, endpoints: list[Endpoint], on_aside: Callable[[Endpoint], None]) -> None:
        self.endpoints = endpoints
        self._on_aside = on_aside
        self._turn = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.endpoints)

    @contextmanager
    def borrow(self, tried: set[Endpoint]) -> Iterator[Endpoint]:
        """Give out a server for one request; those that this call has `tried` come last."""
        with self._lock:
            order = self.endpoints[self._turn :] + self.endpoints[: self._turn]
            endpoint = min(order, key=lambda e: (e.aside is not None, e in tried, e.outstanding))
            self._turn = (self.endpoints.index(endpoint) + 1) % len(self.endpoints)
            endpoint.outstanding += 1
        try:
            yield endpoint
        finally:
            with self._lock:
                endpoint.outstanding -= 1

    def has_untried(self, tried: set[Endpoint]) -> bool:
        """Return whether a healthy server is left that this call has not tried."""
        return any(e.aside is None and e not in tried for e in self.endpoints)

    def put_aside(self, endpoint: Endpoint, error: ServerError) -> None:
        """Have requests go to other servers first."""
        with self._lock:
            if len(self.endpoints) == 1 or endpoint.aside is not None:
                return
            endpoint.aside = error
        _log.warning("%s is put aside until it answers again: %s", endpoint.name, error)
        self._on_aside(endpoint)

    def put_back(self, endpoint: Endpoint) -> None:
        """Have a server get requests again."""
        endpoint.aside = None
        _log.info("%s answers again", endpoint.name)

    def after_fork(self) -> None:
        """Forget what was under way in the parent, in whose child this is called."""
        self._lock = Lock()
        for endpoint in self.endpoints:
            endpoint.client = None
            endpoint.outstanding = 0
            endpoint.aside = None  # who looked at it was a thread of the parent
