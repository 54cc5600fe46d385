"""Runs the application with uvicorn, in one process."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vireo_client.errors import VireoError
from vireo_client.extras import require
from vireo_client.printing import say

from .launch import check_key, check_origins, is_loopback
from .settings import Settings

_WAITING = 2048
"""Connections that the system keeps until they are taken."""
_CONNECTIONS = 900
"""Connections that are open at the same time; a system often allows a process 1,024 files."""
_IDLE_SECONDS = 15


def serve(
    settings: Settings,
    host: str,
    port: int,
    *,
    roots: Sequence[Path] | None = None,
    folder: Path | None = None,
    open_page: bool = False,
) -> None:
    """Serve until Ctrl-C.

    Args:
        settings: what is served; its roots are worked out here.
        host: the address to listen on.
        port: the port; 0 for a free one.
        roots: folders below which one may be chosen; by default the home folder on loopback.
        folder: a folder to index at once.
        open_page: whether to open the browser.

    Raises:
        VireoError: the address is not free, or is reached by others and there is no key.
        MissingExtraError: fastapi or uvicorn is not installed.
    """
    require("web", "fastapi", "uvicorn", "python_multipart")
    check_origins(settings.origins)
    check_key(host, settings.keys)
    if roots is None:
        roots = [Path.home()] if is_loopback(host) else []
    allowed = (*roots, *([folder] if folder is not None else []))
    settings = replace(settings, roots=allowed)
    import uvicorn

    from .app import create_app
    from .connections import PatientProtocol

    app = create_app(settings)
    listening = listen(host, port)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    if folder is not None:
        app.state.vireo.jobs.add(folder.resolve())
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        limit_concurrency=_CONNECTIONS,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    say(f"Vireo is open at {address}   (Ctrl-C ends it)")
    if open_page:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        say("closed")
    finally:
        listening.close()


def listen(host: str, port: int) -> socket.socket:
    """Open a socket before the server starts, so that an address that is taken is said at once.

    Raises:
        VireoError: the address is not free, or not this machine's.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            0
        ]
        # The protocol is named: only then asyncio sends small answers at once (TCP_NODELAY), which
        # otherwise wait for 40 ms.
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(_WAITING)
        except BaseException:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise VireoError(
            f"{host}:{port}: cannot listen there ({error.strerror}); give another --port"
        ) from None
