"""The nearest embeddings of one part of an index, over all of its segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import SearchIndexError, first_line
from .exact import Embeddings, Rows, best, nearest_of
from .kinds import SearchSettings
from .segments import Segment

FEW = 50_000
"""A filter that lets so few pass is answered exactly, by comparing these few with the query."""


def nearest(
    segments: Sequence[Segment],
    queries: Embeddings,
    k: int,
    search: SearchSettings | None = None,
    allowed: Rows | None = None,
) -> tuple[Embeddings, Rows]:
    """Find the `k` nearest embeddings of each query.

    Args:
        segments: those of one part.
        queries: unit vectors FP32 `[N, D]`, contiguous.
        k: how many, at most.
        search: how to use the segments' search structures.
        allowed: ids that may be found, INT64, ascending; all, if None.

    Returns:
        Scores FP32 and ids INT64, both `[N, k]` or narrower, best first, equal scores by id; the
        id is -1 where there is no hit.

    Raises:
        SearchIndexError: memory does not suffice, or an embedding that was found is damaged.
    """
    try:
        if allowed is None:
            hits = [segment.search(queries, k, search=search) for segment in segments]
        else:
            hits = [_filtered(segment, queries, k, search, allowed) for segment in segments]
    except (MemoryError, RuntimeError) as error:  # FAISS's own errors are of the second
        raise SearchIndexError(
            f"the search failed in FAISS ({first_line(error)}); search with fewer queries or a "
            "smaller k at a time"
        ) from error
    if not hits:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    scores, ids = (np.concatenate(found, axis=1) for found in zip(*hits, strict=True))
    scores, ids = best(scores, ids, k)
    found = np.unique(ids)
    for segment in segments:
        segment.check(found[found >= 0])
    return scores, ids


def _filtered(
    segment: Segment, queries: Embeddings, k: int, search: SearchSettings | None, allowed: Rows
) -> tuple[Embeddings, Rows]:
    rows = segment.rows_of(allowed)
    if len(allowed) > FEW:
        mask = np.zeros(len(segment.ids), dtype=np.bool_)
        mask[rows] = True
        return segment.search(queries, k, mask, search)
    scores, found = nearest_of(segment.vectors, queries, k, rows)
    ids = segment.ids[found]
    ids[found < 0] = -1
    return scores, ids
