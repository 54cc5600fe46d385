"""The master: a segment's FP32 vectors, memory-mapped, searched and gathered without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .library import faiss

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Master:
    """A segment's unit vectors FP32 `[N, D]`, for exact search."""

    def __init__(self, vectors: Floats) -> None:
        # Keeps the memory map open: FAISS holds only its address.
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.rows, self.dim = self.vectors.shape
        self._address = faiss.swig_ptr(self.vectors)

    def search(self, queries: Floats, k: int, selector: Any | None) -> tuple[Floats, Rows]:
        """Compare `queries` FP32 `[M, D]` with every row that `selector` lets pass."""
        count, k = len(queries), min(k, self.rows)
        scores = np.empty((count, k), np.float32)
        rows = np.empty((count, k), np.int64)
        faiss.knn_inner_product(
            faiss.swig_ptr(queries),
            self._address,
            self.dim,
            count,
            self.rows,
            k,
            faiss.swig_ptr(scores),
            faiss.swig_ptr(rows),
            selector,
        )
        return scores, rows

    def search_rows(self, queries: Floats, k: int, rows: Rows) -> tuple[Floats, Rows]:
        """Compare `queries` with `rows` only (INT64 `[R]`); the cost is that of the rows."""
        candidates = np.broadcast_to(rows, (len(queries), len(rows)))
        return self.best(queries, k, np.ascontiguousarray(candidates))

    def best(self, queries: Floats, k: int, candidates: Rows) -> tuple[Floats, Rows]:
        """Return the exact best `k` of each query's `candidates` INT64 `[M, C]`, -1 for none."""
        count, width = candidates.shape
        scores = np.empty((count, width), np.float32)
        faiss.fvec_inner_products_by_idx(
            faiss.swig_ptr(scores),
            faiss.swig_ptr(queries),
            self._address,
            faiss.swig_ptr(candidates),
            self.dim,
            count,
            width,
        )
        scores[np.isnan(scores)] = -np.inf
        # Ties go to the lower row, so that the answer does not depend on the order of candidates.
        order = np.lexsort((candidates, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(
            candidates, order, axis=1
        )
