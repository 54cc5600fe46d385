"""From queries to matches: the nearest embeddings, and the image or caption behind each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from ..cores import usable_cores
from ..errors import DataError

Embeddings = npt.NDArray[np.float32]
Hits = list[list[tuple[int, float]]]
"""Id and score of each hit, best first, one list a query."""


class Match(NamedTuple):
    """One hit."""

    rank: int
    """From 1."""
    score: float
    """Cosine similarity, between -1 and 1."""
    path: str
    """The image, or the image that the caption describes."""
    caption: str | None = None
    """The caption, where captions were searched."""


def nearest(index: Any, queries: Embeddings, k: int) -> Hits:
    """Find the `k` embeddings with the largest inner product with each query.

    Args:
        index: a FAISS index with ids.
        queries: unit vectors FP32 `[N, D]`.
        k: how many, at most.

    Raises:
        DataError: `k` is not a whole number from 1.
    """
    k = min(_checked(k), index.ntotal)
    if k == 0:
        return [[] for _ in queries]
    with _threads(min(len(queries), usable_cores())):
        scores, ids = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    return [
        # FAISS fills up with -1 where it finds nothing, as for a query that is no number.
        [(int(i), float(s)) for i, s in zip(row_ids, row_scores, strict=True) if i >= 0]
        for row_ids, row_scores in zip(ids, scores, strict=True)
    ]


def _checked(k: int) -> int:
    """Return `k` as an int, NumPy's integers too."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError(f"k is {k!r}; give the number of matches, a whole number from 1")
    return int(k)


@contextmanager
def _threads(limit: int) -> Iterator[None]:
    """Let FAISS use at most `limit` threads for what this thread calls inside the block.

    A search starts FAISS's whole team of OpenMP threads, for a single query too, and waits for all
    of them. Where the cores have other work, PyTorch's or ONNX Runtime's threads say, that wait
    takes 30 to 70 ms for a search of 0.2 ms (one query, 10,000 embeddings of size 256, two cores).
    Despite its name, the setting is one of the calling thread: OpenMP keeps it for each thread of
    the program, and other threads, new ones included, are not affected.
    """
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(min(limit, before))
        yield
    finally:
        faiss.omp_set_num_threads(before)


def matches_of(hits: Hits, rows: Mapping[int, tuple[str, str | None]]) -> list[list[Match]]:
    """Name the image, or the image and caption, of each hit; `rows` has all of them by id."""
    return [
        [Match(rank, score, *rows[id_]) for rank, (id_, score) in enumerate(row, 1)] for row in hits
    ]
