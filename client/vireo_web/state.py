"""What the routes of one application share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request
from vireo_client.cores import usable_cores

from .choosing import resolve_roots
from .jobs import Jobs
from .library import Library
from .metrics import Metrics
from .overview import Overview
from .settings import Settings
from .thumbnails import Thumbnails

T = TypeVar("T")
P = ParamSpec("P")


class State:
    """The open index, the jobs, the thumbnails, and threads for files."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.library = Library(settings)
        self.jobs = Jobs(self.library)
        self.roots = resolve_roots(settings.roots)
        self.overview = Overview(self.library, self.jobs, self.roots)
        self.thumbnails = Thumbnails(settings.cache, settings.cache_bytes)
        self.metrics = Metrics()
        self.started = time.time()
        # A slow disk keeps these threads, and no search waits for it.
        self._files = ThreadPoolExecutor(max(2, usable_cores()), thread_name_prefix="vireo-files")

    def start(self) -> None:
        """Begin the work that goes on by itself."""
        self.library.start()

    async def on_files(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what reads or writes files in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._files, lambda: work(*args, **kwargs))

    async def close(self) -> None:
        """End jobs, towers and threads."""
        await asyncio.to_thread(self.jobs.close)
        await self.library.close()
        await asyncio.to_thread(self._files.shutdown)


def state_of(request: Request) -> State:
    """Return the state of the application that answers a request."""
    state: State = request.app.state.vireo
    return state


StateOf = Annotated[State, Depends(state_of)]
