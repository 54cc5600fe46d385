"""Something that is opened at its first use, and again where that failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PAUSE = 1.0
"""Seconds between two attempts to open what could not be opened."""


class Kept(Generic[T]):
    """Something that is opened once, by the first of those who ask for it.

    Args:
        open_: opens it.
    """

    def __init__(self, open_: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._open = open_
        self._task: asyncio.Task[T] | None = None
        self._failed_at = 0.0

    async def get(self) -> T:
        """Return it; an error of the last second is raised again without another attempt."""
        task = self._task
        if task is None or (_failed(task) and time.monotonic() - self._failed_at > PAUSE):
            task = self._task = asyncio.create_task(self._open_noting())
        if task.done() and not task.cancelled():
            if (error := task.exception()) is None:
                return task.result()
            # Each raise would lengthen the traceback of one error that many requests share.
            raise error.with_traceback(None)
        return await asyncio.shield(task)  # others wait for the same opening

    async def _open_noting(self) -> T:
        try:
            return await self._open()
        finally:
            self._failed_at = time.monotonic()

    def retry(self) -> None:
        """Let the next who asks try again at once; any thread may call it."""
        self._failed_at = -PAUSE

    def opened(self) -> T | None:
        """Return it if it is open."""
        task = self._task
        return task.result() if task is not None and task.done() and not _failed(task) else None

    def forget(self) -> T | None:
        """Let the next who asks open it anew; return what was open."""
        opened, self._task = self.opened(), None
        return opened

    async def settle(self) -> None:
        """Wait for an opening that is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
