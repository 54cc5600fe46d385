"""Ranks of right answers among any number of candidates, in blocks: never the whole matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from vireo_client.errors import DataError

# 1024 x 4096 scores take 50 MB in all; larger blocks are no faster.
QUERY_BLOCK = 1024
CANDIDATE_BLOCK = 4096
# From so many right answers on, a block's scores are sorted once instead of compared with each.
_SORTED_FROM = 32
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Ranks:
    """The ranks of each query's right answers, from 1, with wrong answers first at ties.

    All figures follow from this: `positions[starts[q]:starts[q + 1]]` are query q's, ascending.
    """

    positions: npt.NDArray[np.int64]
    """INT64 `[P]`, one for each right answer."""
    starts: npt.NDArray[np.int64]
    """INT64 `[Q + 1]`."""

    @classmethod
    def of_one_each(cls, positions: npt.NDArray[np.int64]) -> Ranks:
        """Rank INT64 `[Q]` of queries with one right answer each."""
        return cls(positions, np.arange(len(positions) + 1))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """INT64 `[Q]`: how many right answers each query has, at least one."""
        return np.diff(self.starts)

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """INT64 `[Q]`: the rank of each query's best right answer."""
        return np.asarray(self.positions[self.starts[:-1]])

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """INT64 `[P]`: 1 for a query's best right answer, 2 for its second, and so on."""
        return np.arange(len(self.positions)) - np.repeat(self.starts[:-1], self.counts) + 1


def rank_right_answers(
    queries: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.float32],
    query_of: npt.NDArray[np.int64],
    candidate_of: npt.NDArray[np.int64],
) -> Ranks:
    """Rank every right answer of every query by inner product.

    A wrong answer with the same score stands before a right one, and so does one whose score is
    NaN; a right answer whose score is NaN stands last. Scores are summed in FP64 and rounded to
    FP32: equal vectors tie, in whatever block they are met.

    Memory beyond the inputs is bounded by `QUERY_BLOCK * CANDIDATE_BLOCK` and the number of right
    answers; time is Q * C * D.

    Args:
        queries: FP32 `[Q, D]`.
        candidates: FP32 `[C, D]`.
        query_of, candidate_of: INT64 `[P]`, the pairs that are right, none of them twice.

    Raises:
        DataError: a query has no right answer.
    """
    own = _pair_scores(queries, candidates, query_of, candidate_of)
    order = np.lexsort((-own, query_of))
    query_of, candidate_of, own = query_of[order], candidate_of[order], own[order]
    counts = np.bincount(query_of, minlength=len(queries))
    if len(counts) == 0 or counts.min() == 0:
        raise DataError("a query without a right answer cannot be ranked; leave it out")
    starts = np.concatenate([[0], np.cumsum(counts)])
    before = np.zeros(len(own), dtype=np.int64)
    for left in range(0, len(candidates), CANDIDATE_BLOCK):
        block = candidates[left : left + CANDIDATE_BLOCK].astype(np.float64)
        for top in range(0, len(queries), QUERY_BLOCK):
            bottom = min(top + QUERY_BLOCK, len(queries))
            with np.errstate(invalid="ignore", over="ignore"):
                product = queries[top:bottom].astype(np.float64) @ block.T
                scores = product.astype(np.float32)
            pairs = slice(starts[top], starts[bottom])
            rows, columns = query_of[pairs] - top, candidate_of[pairs] - left
            here = (columns >= 0) & (columns < len(block))
            # Right answers take no rank from each other: below any threshold, never counted.
            scores[rows[here], columns[here]] = -np.inf
            size = counts[top:bottom]
            for row in np.flatnonzero(size >= _SORTED_FROM):
                own_pairs = slice(starts[top + row], starts[top + row + 1])
                # NaN is sorted behind all numbers, so it is never among the lower ones.
                lower = np.searchsorted(np.sort(scores[row]), own[own_pairs])
                before[own_pairs] += len(block) - lower
            size = np.where(size < _SORTED_FROM, size, 0)
            for nth in range(size.max()):
                having = np.flatnonzero(size > nth)
                pair = starts[top:bottom][having] + nth
                seen = scores if len(having) == len(size) else scores[having]
                # "Not lower" instead of "at least as high", so that NaN counts.
                lower = np.count_nonzero(seen < own[pair, None], axis=1)
                before[pair] += len(block) - lower
    ranks = Ranks(before, starts)
    return Ranks(before + ranks.order, starts)


def _pair_scores(
    queries: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.float32],
    query_of: npt.NDArray[np.int64],
    candidate_of: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    scores = np.empty(len(query_of), dtype=np.float32)
    for start in range(0, len(scores), CANDIDATE_BLOCK):
        pairs = slice(start, start + CANDIDATE_BLOCK)
        left = queries[query_of[pairs]].astype(np.float64)
        scores[pairs] = np.einsum("pd,pd->p", left, candidates[candidate_of[pairs]])
    # Finite, so that a masked cell is still lower.
    return np.asarray(np.nan_to_num(scores, nan=_LOWEST, neginf=_LOWEST))
