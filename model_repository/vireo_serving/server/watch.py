"""What `vireo serve` does while Triton runs: it looks for new publications and takes them over."""

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
    asked: threading.Event,
    say: Callable[[str], None],
    new_publications: bool = True,
    seconds: float = 1.0,
) -> None:
    """Reloads whenever the repository is published anew, or on request; returns never.

    Args:
        server: the running server.
        asked: asks for a reload when it is set, also of an unchanged repository.
        say: is told of each success; failures are logged.
        new_publications: whether to look for them, or to reload on request only.
        seconds: how often to look.

    Raises:
        ServerError: Triton ended by itself.
    """
    told = ""
    while (code := server.wait(seconds)) is None:
        try:
            if not asked.is_set() and not (new_publications and server.changed()):
                continue
            if asked.is_set():
                asked.clear()
                told = ""
            started = time.monotonic()
            new = server.reload()
        except (VireoError, OSError) as error:
            if server.poll() is None and str(error) != told:  # a folder that is gone stays gone
                told = str(error)
                log.error("%s; still serving bundle %s", told, server.publication.bundle_id)
            continue
        told = ""
        versions = sorted(set(new.versions.values()))
        say(
            f"now serving bundle {new.bundle_id}, version {', '.join(map(str, versions))} "
            f"(switched in {time.monotonic() - started:.1f} s)"
        )
    raise ServerError(f"Triton ended by itself (exit {code}): {server.error()}")
