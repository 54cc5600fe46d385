"""Retrieval metrics in both directions, with several captions per image (docs/evaluation.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from vireo_client.errors import DataError

from ..data.same_text import Texts
from .ranking import Ranks, rank_right_answers

CUTOFFS = (1, 5, 10)
MAP_CUTOFF = 10
WAYS = ("text_to_image", "image_to_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalMetrics:
    """Metrics of one direction; ranks start at 1, fractions lie between 0 and 1.

    `first` below is the rank of a query's best right answer, m the number of its right answers.
    """

    queries: int
    candidates: int
    recall_at_1: float
    """Queries with first <= k: recall@k of image-text papers (Karpathy and Fei-Fei, 2015)."""
    recall_at_5: float
    recall_at_10: float
    top_1_accuracy: float
    """The same number by its other name, hit rate."""
    top_5_accuracy: float
    top_10_accuracy: float
    top_1_error: float
    """1 - top-k accuracy."""
    top_5_error: float
    top_10_error: float
    share_found_at_1: float
    """Mean share of a query's m right answers within the first k: recall@k in information retrieval
    (Manning et al., 2008, chapter 8). Equals the above where m is 1."""
    share_found_at_5: float
    share_found_at_10: float
    mean_reciprocal_rank: float
    """Mean of 1 / first (Voorhees, 1999)."""
    mean_average_precision: float
    """Mean of (1/m) * sum over right answers of the precision at their rank (Manning et al., 2008,
    section 8.4)."""
    mean_average_precision_at_10: float
    """The same with right answers beyond rank 10 counting 0 and min(m, 10) for m."""
    median_rank: float
    """Median of first."""
    mean_rank: float
    """Mean of first."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def text_to_image_ranks(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    same: Texts | None = None,
) -> Ranks:
    """Rank the images that each caption describes among all images, by cosine.

    A caption describes its own image, and every other that has a caption with the same text. Ties
    count against the query: a model that gives every image one score ranks last, not first.

    Args:
        images: unit vectors FP32 `[N, D]`.
        texts: unit vectors FP32 `[T, D]`.
        owner: INT64 `[T]`, the row of `images` that each caption describes.
        same: INT64 `[T]`, equal where the texts are equal (`text_numbers`); by default no two are.

    Returns:
        T queries with one right answer each, or several where a text is shared.

    Raises:
        DataError: the arrays do not fit together, or are empty.
    """
    _check(images, texts, owner)
    captions, described = right_pairs(owner, same)
    return rank_right_answers(texts, images, captions, described)


def image_to_text_ranks(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    same: Texts | None = None,
) -> Ranks:
    """Rank all captions that describe each image among all captions, by cosine.

    An image's further captions are no mistakes, nor are other images' captions with the text of one
    of them; ties with any other caption count against the query. Images without a caption are left
    out.

    Args:
        images, texts, owner, same: as `text_to_image_ranks`.

    Returns:
        M queries, the images that have a caption, in their order.

    Raises:
        DataError: the arrays do not fit together, or are empty.
    """
    _check(images, texts, owner)
    captions, images_of = right_pairs(owner, same)
    described, query_of = np.unique(images_of, return_inverse=True)
    return rank_right_answers(images[described], texts, query_of, captions)


def right_pairs(
    owner: npt.NDArray[np.int64], same: Texts | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each caption with every image that it describes, by caption and then by image.

    Args:
        owner, same: as `text_to_image_ranks`.

    Returns:
        Rows of captions and rows of images, INT64 `[P]` each.
    """
    if same is None:
        return np.arange(len(owner)), owner
    _, text = np.unique(same, return_inverse=True)
    # The images of each text, once each, one text after the other.
    text_of, image_of = np.unique(np.stack([text, owner]), axis=1)
    counts = np.bincount(text_of)
    starts = np.cumsum(counts) - counts
    captions = np.repeat(np.arange(len(owner)), counts[text])
    before = np.cumsum(counts[text]) - counts[text]
    within = np.arange(len(captions)) - before[captions]
    return captions, image_of[starts[text][captions] + within]


def _check(
    images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32], owner: npt.NDArray[np.int64]
) -> None:
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise DataError(f"embeddings of shapes {images.shape} and {texts.shape} cannot be compared")
    if owner.shape != (len(texts),) or not len(texts):
        raise DataError(
            f"{len(texts)} caption(s) need one owner each, but the owners have shape {owner.shape}"
        )
    if owner.min() < 0 or owner.max() >= len(images):
        raise DataError(f"a caption describes an image outside of 0..{len(images) - 1}")


def per_query(ranks: Ranks) -> dict[str, npt.NDArray[np.float64]]:
    """Return the values of each query, for the metrics that are means over queries.

    Returns:
        By the names of `RetrievalMetrics`, FP64 `[Q]`; top-k accuracy and error are left to
        `with_hit_rates`.
    """

    def total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.add.reduceat(values, ranks.starts[:-1]))

    first, counts = ranks.first.astype(np.float64), ranks.counts
    precision = ranks.order / ranks.positions
    within = {k: (ranks.positions <= k).astype(np.float64) for k in {*CUTOFFS, MAP_CUTOFF}}
    return {
        **{f"recall_at_{k}": (first <= k).astype(np.float64) for k in CUTOFFS},
        **{f"share_found_at_{k}": total(within[k]) / counts for k in CUTOFFS},
        "mean_reciprocal_rank": 1 / first,
        "mean_average_precision": total(precision) / counts,
        f"mean_average_precision_at_{MAP_CUTOFF}": total(precision * within[MAP_CUTOFF])
        / np.minimum(counts, MAP_CUTOFF),
        "mean_rank": first,
    }


def with_hit_rates(figures: dict[str, float]) -> dict[str, float]:
    """Add top-k accuracy and top-k error, which follow from recall@k."""
    accuracy = {f"top_{k}_accuracy": figures[f"recall_at_{k}"] for k in CUTOFFS}
    return figures | accuracy | {f"top_{k}_error": 1 - figures[f"recall_at_{k}"] for k in CUTOFFS}


def summarise(ranks: Ranks, candidates: int) -> RetrievalMetrics:
    """Return the metrics of the ranks of right answers among `candidates`."""
    means = {name: float(values.mean()) for name, values in per_query(ranks).items()}
    return RetrievalMetrics(
        queries=len(ranks),
        candidates=candidates,
        median_rank=float(np.median(ranks.first)),
        **with_hit_rates(means),
    )


def recall_curve(ranks: Ranks, length: int) -> npt.NDArray[np.float64]:
    """Return recall@k for k from 1 to `length`, FP64 `[length]`."""
    seen = np.bincount(np.minimum(ranks.first, length + 1), minlength=length + 2)
    return np.asarray(np.cumsum(seen[1 : length + 1]) / len(ranks))


def chance_curve(counts: npt.NDArray[np.int64], candidates: int) -> npt.NDArray[np.float64]:
    """Return the expected recall@k of a random order, for every k.

    Args:
        counts: INT64 `[Q]`, how many of the candidates are right for each query.
        candidates: the number of candidates.

    Returns:
        FP64 `[candidates]`.
    """
    return np.cumsum(_first_rank_probability(counts, candidates))


def _first_rank_probability(
    counts: npt.NDArray[np.int64], candidates: int
) -> npt.NDArray[np.float64]:
    distribution = np.zeros(candidates)
    before = np.arange(candidates)
    for size, weight in zip(*np.unique(counts, return_counts=True), strict=True):
        # After s wrong answers, n - s candidates are left, m of them right: the next one is wrong
        # with probability (n - s - m) / (n - s).
        left = candidates - before
        wrong = np.maximum(left - size, 0) / left
        reached = np.concatenate([[1.0], np.cumprod(wrong[:-1])])
        distribution += weight / len(counts) * reached * np.minimum(size / left, 1)
    return distribution


def chance(counts: npt.NDArray[np.int64], candidates: int) -> RetrievalMetrics:
    """Return the expected metrics of a random order, all in closed form.

    Average precision follows Bestgen (2015, "Exact expected average precision of the random
    baseline for system evaluation").

    Args:
        counts: INT64 `[Q]`, how many of the candidates are right for each query.
        candidates: the number of candidates.
    """
    n, m = candidates, counts.astype(np.float64)
    probability = _first_rank_probability(counts, n)
    curve, rank = np.cumsum(probability), np.arange(1, n + 1)

    def precision(cutoff: int) -> npt.NDArray[np.float64]:
        # Rank i holds a right answer with probability m / n; of the i - 1 before it,
        # (m - 1) / (n - 1) are right as well; precision there is their sum over i.
        harmonic = (1 / rank[:cutoff]).sum()
        others = (m - 1) / max(n - 1, 1)
        return np.asarray((harmonic + others * (min(cutoff, n) - harmonic)) * m / n)

    # Two middle ranks where exactly half of the queries have been answered by one of them.
    middle = np.minimum(np.searchsorted(curve, [0.5 - 1e-9, 0.5 + 1e-9]), n - 1) + 1
    figures = {
        **{f"recall_at_{k}": float(curve[min(k, n) - 1]) for k in CUTOFFS},
        **{f"share_found_at_{k}": min(k, n) / n for k in CUTOFFS},
        "mean_reciprocal_rank": float((probability / rank).sum()),
        "mean_average_precision": float((precision(n) / m).mean()),
        f"mean_average_precision_at_{MAP_CUTOFF}": float(
            (precision(MAP_CUTOFF) / np.minimum(m, MAP_CUTOFF)).mean()
        ),
        "mean_rank": float(((n + 1) / (m + 1)).mean()),
    }
    return RetrievalMetrics(
        queries=len(counts),
        candidates=n,
        median_rank=float(np.mean(middle)),
        **with_hit_rates(figures),
    )


def retrieval_metrics(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    same: Texts | None = None,
) -> dict[str, dict[str, float]]:
    """Return the metrics of both directions and of chance, as a report holds them.

    Args:
        images, texts, owner, same: as `text_to_image_ranks`.

    Raises:
        DataError: the arrays do not fit together, or are empty.
    """
    to_image = text_to_image_ranks(images, texts, owner, same)
    to_text = image_to_text_ranks(images, texts, owner, same)
    return {
        "text_to_image": summarise(to_image, len(images)).as_dict(),
        "image_to_text": summarise(to_text, len(texts)).as_dict(),
        "chance_text_to_image": chance(to_image.counts, len(images)).as_dict(),
        "chance_image_to_text": chance(to_text.counts, len(texts)).as_dict(),
    }
