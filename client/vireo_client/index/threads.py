"""How many threads FAISS may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import faiss

from ..cores import usable_cores


@contextmanager
def threads(limit: int) -> Iterator[None]:
    """Let FAISS use at most `limit` threads, and at most one a usable core, inside the block.

    A search starts FAISS's whole team of OpenMP threads, for a single query too, and waits for all
    of them. Where the cores have other work, PyTorch's or ONNX Runtime's threads say, that wait
    takes 30 to 70 ms for a search of 0.2 ms (one query, 10,000 embeddings of size 256, two cores).
    Despite its name, the setting is one of the calling thread: OpenMP keeps it for each thread of
    the program, and other threads, new ones included, are not affected.
    """
    before = faiss.omp_get_max_threads()
    # Counting the cores reads files, which a single query need not wait for.
    wanted = 1 if limit <= 1 else min(limit, before, usable_cores())
    try:
        faiss.omp_set_num_threads(wanted)
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _search_alone() -> None:
    """Search on one thread in a forked child: the parent's OpenMP threads are not there."""
    faiss.omp_set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_search_alone)
