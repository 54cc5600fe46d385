"""The loop of `vireo serve` while Triton runs: it reloads publications and restarts what died."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from vireo_client.errors import ServerError, VireoError

from .health import Health
from .restarts import MOST, WINDOW_SECONDS, Backoff
from .server import DEAD_GRACE, TritonServer

log = logging.getLogger(__name__)

GROWN_BYTES = 512 << 20
"""Shared memory beyond that of the start which is given back by a reload. Each instance of a model
in Python keeps as much as its largest batch of requests has taken."""

DEAD_AFTER_SECONDS = 60.0
"""Seconds without any answer after which an engine counts as dead. A batch on a slow CPU may take
many."""


def watch(
    server: TritonServer,
    *,
    reload_requested: threading.Event,
    report: Callable[[str], None],
    new_publications: bool = True,
    dead_after: float = DEAD_AFTER_SECONDS,
    seconds: float = 1.0,
) -> None:
    """Reload whenever the repository is published anew, or on request; never return.

    A failed reload is logged once, and tried again when the repository has changed. An engine that
    died and a Triton that ended are logged, and Triton is started anew. Shared memory that large
    requests have left in use is given back by a reload.

    Args:
        server: the running server.
        reload_requested: set it to reload even an unchanged repository; each reload clears it.
        report: gets a line for each successful reload and restart.
        new_publications: whether to look for them, or to reload on request only.
        dead_after: seconds without an answer after which an engine counts as dead; 0 for no probes.
        seconds: how often to look.

    Raises:
        ServerError: Triton died more often than restarts mend.
    """
    reload = _Reload(server, report)
    backoff = Backoff()
    memory = MemoryWatch(server.shared_memory())
    health = _health(server, dead_after)
    try:
        while True:
            if server.wait(seconds) is not None:
                reason = f"Triton ended by itself ({server.end()}): {server.error(last=True)}"
                _restart(server, "server", reason, backoff, report)
            elif health is not None and (dead := health.look()) is not None:
                if server.poll() is not None:
                    continue  # the whole server went: that is the cause to name
                _restart(server, "engine", f"the engine {dead}", backoff, report)
            elif reload_requested.is_set():
                reload_requested.clear()
                reload.run(forget=True)
            elif server.options.model_control and memory.is_due(server.shared_memory()):
                log.warning(
                    "large requests have left %d MiB of shared memory in use; reloading to give "
                    "it back", server.shared_memory() >> 20,
                )  # fmt: skip
                reload.run()
                memory.given_back(server.shared_memory())
            elif not reload.is_due(new_publications):
                continue
            else:
                reload.run()
            if health is not None:  # the engines or their server are others now
                health.close()
                health = _health(server, dead_after)
    finally:
        if health is not None:
            health.close()


class MemoryWatch:
    """Decides when shared memory has grown so much that a reload should give it back.

    Args:
        size: bytes in use now.
    """

    def __init__(self, size: int) -> None:
        self._least = size
        self._last = -math.inf

    def is_due(self, size: int, now: float | None = None) -> bool:
        """Return whether `size` bytes are too many; at most once in ten minutes.

        Args:
            size: bytes in use.
            now: the present, in seconds of `time.monotonic`.
        """
        now = time.monotonic() if now is None else now
        if now - self._last < WINDOW_SECONDS or size - self._least < GROWN_BYTES:
            return False
        self._last = now
        return True

    def given_back(self, size: int) -> None:
        """Note that a reload has left `size` bytes in use."""
        self._least = size


def _health(server: TritonServer, dead_after: float) -> Health | None:
    return server.health(dead_after) if dead_after and server.poll() is None else None


def _restart(
    server: TritonServer, cause: str, reason: str, backoff: Backoff, report: Callable[[str], None]
) -> None:
    """Start Triton anew, after a pause that grows with each attempt.

    Raises:
        ServerError: there were too many.
    """
    while True:
        delay = backoff.next_delay()
        if delay is None:
            server.stop(DEAD_GRACE)  # with a dead engine Triton would take its whole time
            raise ServerError(
                f"{reason}; Triton was started anew {MOST} times within "
                f"{WINDOW_SECONDS / 60:.0f} minutes, and is given up"
            )
        log.error("%s; starting Triton anew%s", reason, f" in {delay:.0f} s" if delay else "")
        time.sleep(delay)
        started = time.monotonic()
        try:
            server.restart(cause)
        except ServerError as error:
            reason = str(error)
            continue
        seconds = time.monotonic() - started
        report(
            f"serving bundle {server.publication.bundle_id} again (Triton started anew in "
            f"{seconds:.1f} s; {sum(server.restarts.values())} restarts so far)"
        )
        return


class _Reload:
    """Reloads, and the failure that was logged last."""

    def __init__(self, server: TritonServer, report: Callable[[str], None]) -> None:
        self._server = server
        self._report = report
        self._logged = ""

    def is_due(self, new_publications: bool) -> bool:
        """Return whether the repository was published since the start or the last reload."""
        try:
            return new_publications and self._server.changed()
        except Exception as error:
            self._log(error)  # a repository that is gone fails at every look
            return False

    def run(self, *, forget: bool = False) -> None:
        """Reload once; a failure is logged, and again only if it is another one.

        Args:
            forget: log a failure even if it was logged before.
        """
        if forget:
            self._logged = ""
        started = time.monotonic()
        try:
            new = self._server.reload()
        except Exception as error:  # a damaged publication never ends the one that is served
            self._log(error)
            return
        self._logged = ""
        versions = sorted(set(new.versions.values()))
        self._report(
            f"now serving bundle {new.bundle_id}, version {', '.join(map(str, versions))} "
            f"(reloaded in {time.monotonic() - started:.1f} s)"
        )

    def _log(self, error: Exception) -> None:
        known = isinstance(error, (VireoError, OSError))
        reason = str(error) if known else f"not reloaded: {error!r}"
        if self._server.poll() is None and reason != self._logged:
            self._logged = reason
            bundle_id = self._server.publication.bundle_id
            log.error("%s; still serving bundle %s", self._logged, bundle_id)
