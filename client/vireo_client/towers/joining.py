"""Joins texts that wait at the same time to one request, in an asyncio program.

Who comes while no request is under way goes at once, so that a single user waits for nothing. Who
comes meanwhile is joined with others: until the request is answered, the batch is full, or a short
window has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import ServerError, ServerOverloaded, ServerTimeout, ServerUnavailable

Ids = npt.NDArray[np.int32]
Embeddings = npt.NDArray[np.float32]
_OF_ALL = (ServerUnavailable, ServerTimeout, ServerOverloaded)
"""Errors that say nothing about a single text, and so hold for all that were sent with it."""


@dataclass(eq=False)
class _Waiting:
    """A call that waits for its embeddings."""

    ids: Ids
    answer: asyncio.Future[Embeddings]
    batch: _Batch | None = None
    context: Context = field(default_factory=copy_context)
    """Of the caller, with the span that is active there."""


@dataclass(eq=False)
class _Batch:
    """Calls that were sent together."""

    members: list[_Waiting]
    task: asyncio.Task[None] | None = None


@dataclass(eq=False)
class _Lane:
    """The texts of one length: only these can be sent together."""

    waiting: list[_Waiting] = field(default_factory=list)
    under_way: int = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def rows(self) -> int:
        return sum(len(waiting.ids) for waiting in self.waiting)


class Joiner:
    """Joins concurrent calls of one event loop.

    Args:
        send: embeds ids INT32 `[N, L]`; called with the rows of one call or of several.
        limit: returns the rows that are sent together at most.
        window: seconds that a call waits at most.
    """

    def __init__(
        self, send: Callable[[Ids], Awaitable[Embeddings]], limit: Callable[[], int], window: float
    ) -> None:
        self._send = send
        self._limit = limit
        self._window = window
        self._lanes: dict[int, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def embed(self, ids: Ids) -> Embeddings:
        """Embed ids INT32 `[N, L]`, perhaps together with those of others.

        A call that is cancelled leaves the others alone; when all that were sent together are
        cancelled, so is their request.

        Raises:
            ServerError: the request failed. One that the server refused because of another call's
                texts is sent again by itself.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.setdefault(ids.shape[1], _Lane())
        waiting = _Waiting(ids, loop.create_future())
        lane.waiting.append(waiting)
        if not lane.under_way or lane.rows >= self._limit():
            self._flush(lane)
        elif lane.timer is None:
            lane.timer = loop.call_later(self._window, self._flush, lane)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            self._leave(lane, waiting)
            raise

    def _leave(self, lane: _Lane, waiting: _Waiting) -> None:
        waiting.answer.cancel()
        if waiting.batch is None:
            lane.waiting.remove(waiting)
        elif waiting.batch.task and all(m.answer.cancelled() for m in waiting.batch.members):
            waiting.batch.task.cancel()

    def _flush(self, lane: _Lane) -> None:
        """Send what waits."""
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        while lane.waiting:
            members = [lane.waiting.pop(0)]
            rows = len(members[0].ids)
            while lane.waiting and rows + len(lane.waiting[0].ids) <= self._limit():
                members.append(lane.waiting.pop(0))
                rows += len(members[-1].ids)
            self._start(lane, members)

    def _start(self, lane: _Lane, members: list[_Waiting]) -> None:
        batch = _Batch(members)
        for member in members:
            member.batch = batch
        lane.under_way += 1
        # One request belongs to one trace: of the call that came first, not of whoever's answer
        # made room for it. (`create_task` takes a context from Python 3.11 on.)
        batch.task = members[0].context.run(asyncio.create_task, self._serve(lane, members))
        self._tasks.add(batch.task)
        batch.task.add_done_callback(lambda task: self._ended(lane, task))

    def _ended(self, lane: _Lane, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        lane.under_way -= 1
        self._flush(lane)

    async def _serve(self, lane: _Lane, members: list[_Waiting]) -> None:
        """Send members together, and give each its answer or its error."""
        ids = members[0].ids if len(members) == 1 else np.concatenate([m.ids for m in members])
        try:
            vectors = await self._send(ids)
        except asyncio.CancelledError:
            _close(members)
            raise
        except Exception as error:  # whatever it is, somebody waits for it
            present = [member for member in members if not member.answer.done()]
            if len(members) > 1 and not isinstance(error, _OF_ALL):
                for member in present:
                    self._start(lane, [member])
                return
            for member in present:
                own = error
                if len(members) > 1:
                    # Each waiting task extends the traceback of what it raises: one error each.
                    own = type(error)(*error.args)
                    own.__cause__ = error
                member.answer.set_exception(own)
            return
        start = 0
        for member in members:
            if not member.answer.done():
                member.answer.set_result(vectors[start : start + len(member.ids)])
            start += len(member.ids)

    async def close(self) -> None:
        """Cancel all that is under way; who waits gets a `ServerError`."""
        for lane in self._lanes.values():
            _close(lane.waiting)
            lane.waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _close(members: list[_Waiting]) -> None:
    for member in members:
        if not member.answer.done():
            member.answer.set_exception(ServerError("this client was closed"))
