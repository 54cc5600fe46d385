"""A server of the page in this process, which a test can stop and start again at its address."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from vireo_web.app import create_app
from vireo_web.settings import Settings

from support.waiting import wait_until


class PageServer:
    """Serves an index on a free port of this machine.

    Args:
        index: the folder of the index.
        options: those of `Settings`.
    """

    def __init__(self, index: Path, **options: Any) -> None:
        self.settings = Settings(index, **options)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start; the address stays the same from start to start."""
        app = create_app(self.settings)
        self.jobs = app.state.vireo.jobs
        config = uvicorn.Config(
            app, port=self.port, log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started, "the server did not start"

    def stop(self) -> None:
        """Stop, as when the program ends."""
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def index(self, folder: Path) -> None:
        """Bring the index to what a folder holds, and wait for it."""
        job = self.jobs.add(folder)
        wait_until(lambda: job.state not in ("queued", "running"))
        assert job.state == "done", job.error

    def __enter__(self) -> PageServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self.stop()
