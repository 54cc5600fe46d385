"""Retrieval metrics in both directions, with several captions a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import lgamma

import numpy as np
import numpy.typing as npt

CUTOFFS = (1, 5, 10)
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class RetrievalMetrics:
    """Figures of one direction; ranks start at 1, fractions lie between 0 and 1."""

    queries: int
    candidates: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mean_reciprocal_rank: float
    median_rank: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def text_to_image_ranks(
    images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32], picture: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Ranks each caption's picture among all pictures, by cosine.

    Ties count against the query: a model that gives every picture one score ranks last, not first.

    Args:
        images: unit vectors FP32 `[N, D]`.
        texts: unit vectors FP32 `[T, D]`.
        picture: INT64 `[T]`, the row of `images` that each caption describes.

    Returns:
        INT64 `[T]`, ranks from 1.
    """
    ranks = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = texts[block] @ images.T
        own = np.take_along_axis(scores, picture[block, None], axis=1)
        ranks[block] = (~(scores < own)).sum(axis=1)  # so that NaN counts against the query too
    return ranks


def image_to_text_ranks(
    images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32], picture: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Ranks each picture's best caption among the captions of other pictures, by cosine.

    A picture's further captions are no mistakes and take no rank; ties count against the query.
    Pictures without a caption are left out.

    Args:
        images, texts, picture: as `text_to_image_ranks`.

    Returns:
        INT64 `[M]`, ranks from 1, for the M pictures that have a caption.
    """
    described = np.unique(picture)
    ranks = np.empty(len(described), dtype=np.int64)
    for start in range(0, len(described), _BLOCK):
        rows = described[start : start + _BLOCK]
        scores = images[rows] @ texts.T
        own = picture[None, :] == rows[:, None]
        best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[start : start + len(rows)] = 1 + (~(scores < best) & ~own).sum(axis=1)
    return ranks


def summarise(ranks: npt.NDArray[np.int64], candidates: int) -> RetrievalMetrics:
    """Turns ranks into recall@k, mean reciprocal rank and median rank."""
    at_1, at_5, at_10 = (float((ranks <= k).mean()) for k in CUTOFFS)
    reciprocal, median = float((1 / ranks).mean()), float(np.median(ranks))
    return RetrievalMetrics(len(ranks), candidates, at_1, at_5, at_10, reciprocal, median)


def chance(positives: npt.NDArray[np.int64], candidates: int) -> RetrievalMetrics:
    """The figures a random order reaches in expectation.

    Args:
        positives: INT64 `[Q]`, how many of the candidates are right for each query. As in
            `image_to_text_ranks`, further right answers take no rank.
        candidates: how many there are to choose from.
    """
    sizes, weights = np.unique(positives, return_counts=True)
    rank = np.arange(1, candidates + 1)
    distribution = np.zeros(candidates)
    for size, weight in zip(sizes, weights, strict=True):
        # P(rank r) with m right answers of which the first counts: r - 1 wrong ones come first.
        # The best right answer has r - 1 wrong ones before it with probability
        # C(n - r, m - 1) / C(n, m): it stands at r, the other m - 1 anywhere behind.
        log_total = _log_choose(candidates, int(size))
        valid = rank <= candidates - size + 1
        logs = [_log_choose(candidates - int(r), int(size) - 1) - log_total for r in rank[valid]]
        distribution[valid] += weight / len(positives) * np.exp(logs)
    cumulative = np.cumsum(distribution)
    at_1, at_5, at_10 = (float(cumulative[min(k, candidates) - 1]) for k in CUTOFFS)
    median = float(rank[np.searchsorted(cumulative, 0.5)])
    reciprocal = float((distribution / rank).sum())
    return RetrievalMetrics(len(positives), candidates, at_1, at_5, at_10, reciprocal, median)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def retrieval_metrics(
    images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32], picture: npt.NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Both directions and chance, ready for a report."""
    to_image = summarise(text_to_image_ranks(images, texts, picture), len(images))
    to_text = summarise(image_to_text_ranks(images, texts, picture), len(texts))
    counts = np.unique(picture, return_counts=True)[1]
    one_each = np.ones(len(texts), dtype=np.int64)
    return {
        "text_to_image": to_image.as_dict(),
        "image_to_text": to_text.as_dict(),
        "chance_text_to_image": chance(one_each, len(images)).as_dict(),
        "chance_image_to_text": chance(counts, len(texts)).as_dict(),
    }
