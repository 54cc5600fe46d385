"""Overlaps the stages of bulk work: while one item is taken, the next ones are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Generator[R, None, None]:
    """Yield `function(item)` for each item, in their order, computed by the threads of a pool.

    `Executor.map` takes all items at once; this takes as many as it works ahead, so that memory
    does not grow with their number. Stages are chained by giving one's results to the next. Closing
    the generator cancels what has not begun.

    Args:
        pool: the threads.
        function: its errors are raised when its result's turn comes.
        items: taken one by one, by the thread that takes the results.
        ahead: the most items that are waiting, being worked on, or done and not yet taken.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            # The span that is active here is that of the work in the thread, too.
            waiting.append(pool.submit(copy_context().run, function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def batched(items: Iterable[T], size: int, *, first: int | None = None) -> Iterator[list[T]]:
    """Yield the items in lists of `size`; the last one may be shorter.

    Args:
        items: the items.
        size: of a list.
        first: the size of the first list, whose taker then need not wait long; each next one is
            twice as large, up to `size`.
    """
    iterator = iter(items)
    now = min(first or size, size)
    while batch := list(islice(iterator, now)):
        yield batch
        now = min(2 * now, size)
