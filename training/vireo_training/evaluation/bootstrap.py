"""Confidence intervals of retrieval metrics: percentile bootstrap over images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from vireo_client.errors import DataError

from .metrics import CUTOFFS, cutoffs_of, per_query
from .ranking import Ranks

Interval = tuple[float, float]

# Weights of a block of resamples: 64 MB.
_BLOCK_VALUES = 1 << 23


def bootstrap_intervals(
    ranks: Ranks,
    cluster: npt.NDArray[np.int64],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    cutoffs: Iterable[int] = CUTOFFS,
) -> dict[str, Interval]:
    """Return intervals of all metrics of one direction (Efron and Tibshirani, 1993, chapter 13).

    Images are drawn with replacement, each with all its queries: captions of one image are not
    independent, and drawing them one by one would make intervals too narrow. The candidates and
    the model stay as they are: only the choice of queries varies, not the training.

    Args:
        ranks: the ranks of Q queries.
        cluster: INT64 `[Q]`, the image of each query.
        confidence: share of resamples that an interval holds, between 0 and 1.
        resamples: the number of resamples.
        seed: the same seed gives the same result.
        cutoffs: each k of the metrics.

    Returns:
        (low, high) by the names of `RetrievalMetrics`.

    Raises:
        DataError: `confidence` or `resamples` is out of range.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise DataError(
            f"confidence {confidence} with {resamples} resamples: "
            "confidence lies between 0 and 1, and at least one resample is needed"
        )
    figures = per_query(ranks, cutoffs)
    cluster = np.unique(cluster, return_inverse=True)[1]
    clusters = int(cluster.max()) + 1
    sizes = np.bincount(cluster, minlength=clusters)
    sums = np.stack([np.bincount(cluster, f, clusters) for f in figures.values()], axis=1)
    by_rank = np.argsort(ranks.first, kind="stable")
    ordered, owner = ranks.first[by_rank], cluster[by_rank]

    rng = np.random.default_rng(seed)
    means = np.empty((resamples, len(figures)))
    medians = np.empty(resamples)
    # One resample at a time would do; several at once keep the loop out of Python.
    at_once = max(1, _BLOCK_VALUES // len(cluster))
    for start in range(0, resamples, at_once):
        block = slice(start, min(start + at_once, resamples))
        weights = np.stack([_draw(rng, clusters) for _ in range(block.stop - block.start)])
        drawn = weights @ sizes
        means[block] = weights @ sums / drawn[:, None]
        medians[block] = _medians(ordered, weights[:, owner], drawn)

    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(means, tails, axis=0)
    intervals = {name: (float(a), float(b)) for name, a, b in zip(figures, low, high, strict=True)}
    a, b = np.quantile(medians, tails)
    intervals["median_rank"] = (float(a), float(b))
    for k in cutoffs_of(figures):
        a, b = intervals[f"recall_at_{k}"]
        intervals[f"top_{k}_accuracy"], intervals[f"top_{k}_error"] = (a, b), (1 - b, 1 - a)
    return intervals


def paired_interval(
    differences: npt.NDArray[np.float64],
    cluster: npt.NDArray[np.int64],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the interval of a mean difference between two models that answered the same queries.

    Two models find the same images hard. That common part, which makes their own intervals wide,
    is not in the differences.

    Args:
        differences: FP64 `[Q]`, such as of reciprocal ranks.
        cluster: INT64 `[Q]`, the image of each query; images are drawn, as above.
        confidence: share of resamples that the interval holds, between 0 and 1.
        resamples: the number of resamples.
        seed: the same seed gives the same result.
    """
    cluster = np.unique(cluster, return_inverse=True)[1]
    sizes, sums = np.bincount(cluster), np.bincount(cluster, differences)
    rng = np.random.default_rng(seed)
    drawn = np.stack([_draw(rng, len(sizes)) for _ in range(resamples)])
    low, high = np.quantile(
        drawn @ sums / (drawn @ sizes), [(1 - confidence) / 2, (1 + confidence) / 2]
    )
    return float(low), float(high)


def _draw(rng: np.random.Generator, clusters: int) -> npt.NDArray[np.int64]:
    """Return how often each cluster is drawn, INT64 `[clusters]`."""
    return np.bincount(rng.integers(clusters, size=clusters), minlength=clusters)


def _medians(
    ordered: npt.NDArray[np.int64], weights: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return medians FP64 `[B]` of INT64 `[Q]` in ascending order.

    In resample b, value q counts `weights[b, q]` times, and `drawn[b]` values count in all.
    """
    upto = np.cumsum(weights, axis=1)
    middle = [
        [np.searchsorted(counts, half, "right") for half in ((total - 1) // 2, total // 2)]
        for counts, total in zip(upto, drawn, strict=True)
    ]
    return np.asarray(ordered[np.array(middle)].mean(axis=1))
