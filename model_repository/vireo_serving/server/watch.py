"""The loop of `vireo serve` while Triton runs: it reloads the repository when it is published."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from vireo_client.errors import ServerError, VireoError

from .server import TritonServer

log = logging.getLogger(__name__)


def watch(
    server: TritonServer,
    *,
    reload_requested: threading.Event,
    report: Callable[[str], None],
    new_publications: bool = True,
    seconds: float = 1.0,
) -> None:
    """Reload whenever the repository is published anew, or on request; never return.

    A failed reload is logged once, and tried again when the repository has changed.

    Args:
        server: the running server.
        reload_requested: set it to reload even an unchanged repository; each reload clears it.
        report: gets a line for each successful reload.
        new_publications: whether to look for them, or to reload on request only.
        seconds: how often to look.

    Raises:
        ServerError: Triton ended by itself.
    """
    logged = ""
    while (code := server.wait(seconds)) is None:
        try:
            if reload_requested.is_set():
                reload_requested.clear()
                logged = ""
            elif not (new_publications and server.changed()):
                continue
            started = time.monotonic()
            new = server.reload()
        except (VireoError, OSError) as error:
            # A repository that is gone fails at every look.
            if server.poll() is None and str(error) != logged:
                logged = str(error)
                log.error("%s; still serving bundle %s", logged, server.publication.bundle_id)
            continue
        logged = ""
        versions = sorted(set(new.versions.values()))
        report(
            f"now serving bundle {new.bundle_id}, version {', '.join(map(str, versions))} "
            f"(reloaded in {time.monotonic() - started:.1f} s)"
        )
    raise ServerError(f"Triton ended by itself (exit {code}): {server.error()}")
