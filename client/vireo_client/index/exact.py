"""Exact search: the inner product of each query with every row of a matrix.

FAISS reads the rows where they lie, in a file that is mapped into memory, and copies none of them.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from .threads import threads

Embeddings = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_GATHERED = 8192
"""Rows that are copied together where only some are compared: 16 MiB of size 512."""


def nearest_rows(
    vectors: Embeddings, queries: Embeddings, k: int, allowed: Mask | None = None
) -> tuple[Embeddings, Rows]:
    """Find the `k` rows with the largest inner product with each query.

    Args:
        vectors: FP32 `[N, D]`, contiguous.
        queries: FP32 `[M, D]`, contiguous.
        k: from 1; at most N.
        allowed: rows that may be found, `[N]`; all, if None.

    Returns:
        Scores FP32 and rows INT64, both `[M, k]`, best first; of equal scores, the lowest rows.
        Where nothing is found, as for a query that is no number, the row is -1.
    """
    # FAISS keeps any of the rows that share the last score: one more shows whether there are such.
    fetched = min(k + 1, len(vectors))
    scores, rows = _scan(vectors, queries, fetched, allowed)
    if not (scores[:, 1:] == scores[:, :-1]).any():
        return scores[:, :k], rows[:, :k]
    while fetched < len(vectors) and (_share_last(scores, rows, k) & (rows[:, -1] >= 0)).any():
        fetched = min(2 * fetched, len(vectors))
        scores, rows = _scan(vectors, queries, fetched, allowed)
    return best(scores, rows, k)


def _share_last(scores: Embeddings, rows: Rows, k: int) -> Mask:
    """Return for each query whether the k-th hit and the last one have the same score, `[M]`."""
    if scores.shape[1] == k:
        return np.zeros(len(scores), dtype=np.bool_)
    shared: Mask = (scores[:, k - 1] == scores[:, -1]) & (rows[:, k - 1] >= 0)
    return shared


def _scan(
    vectors: Embeddings, queries: Embeddings, k: int, allowed: Mask | None
) -> tuple[Embeddings, Rows]:
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    words = [
        faiss.swig_ptr(queries), faiss.swig_ptr(vectors), vectors.shape[1], len(queries),
        len(vectors), k, faiss.swig_ptr(scores), faiss.swig_ptr(rows),
    ]  # fmt: skip
    if allowed is not None:
        bits = np.packbits(allowed, bitorder="little")
        words.append(faiss.IDSelectorBitmap(len(vectors), faiss.swig_ptr(bits)))
    with threads(len(queries)):
        faiss.knn_inner_product(*words)
    return scores, rows


def nearest_of(
    vectors: Embeddings, queries: Embeddings, k: int, rows: Rows
) -> tuple[Embeddings, Rows]:
    """Find the `k` nearest of a few rows; as `nearest_rows`, but reads no other row.

    Args:
        vectors: FP32 `[N, D]`.
        queries: FP32 `[M, D]`, contiguous.
        k: from 1.
        rows: INT64 `[R]`, ascending; the rows to compare with.
    """
    scores = np.empty((len(queries), 0), dtype=np.float32)
    found = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, len(rows), _GATHERED):
        part = rows[start : start + _GATHERED]
        gathered = np.ascontiguousarray(vectors[part])
        some, positions = nearest_rows(gathered, queries, min(k, len(part)))
        some_rows = np.where(positions < 0, -1, part[positions])
        scores, found = best(
            np.concatenate([scores, some], axis=1), np.concatenate([found, some_rows], axis=1), k
        )
    return scores, found


def best(scores: Embeddings, ids: Rows, k: int) -> tuple[Embeddings, Rows]:
    """Keep the `k` best of each row of hits: by score, then by id; hits without id come last.

    Args:
        scores: FP32 `[M, C]`.
        ids: INT64 `[M, C]`, -1 where there is no hit.
        k: how many, at most.
    """
    order = np.lexsort((ids, np.where(ids < 0, np.inf, -scores)), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
