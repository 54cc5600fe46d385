"""How many threads FAISS may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...cores import usable_cores
from .library import faiss


@contextmanager
def threads(limit: int) -> Iterator[None]:
    """Let FAISS use at most `limit` threads for what this thread calls inside the block.

    A search starts FAISS's whole team of OpenMP threads, for a single query too, and waits for all
    of them; beside other work that wait is many times the search. Despite its name, the setting is
    one of the calling thread: OpenMP keeps it for each thread of the program.
    """
    before = faiss.omp_get_max_threads()
    # Counting the cores reads files, which a single query need not wait for.
    wanted = 1 if limit <= 1 else min(limit, before, usable_cores())
    if wanted == before:
        yield
        return
    faiss.omp_set_num_threads(wanted)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
