"""Retrieval metrics in both directions, with several captions per image (docs/evaluation.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from vireo_client.errors import DataError

from ..data.same_text import Texts
from .ranking import Ranks, rank_right_answers

CUTOFFS = (1, 5, 10)
"""The cut-offs that every report holds; `--at` adds others."""
WAYS = ("text_to_image", "image_to_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalMetrics:
    """Metrics of one direction; ranks start at 1, fractions lie between 0 and 1.

    `first` below is the rank of a query's best right answer, m the number of its right answers.
    """

    queries: int
    candidates: int
    mean_reciprocal_rank: float
    """Mean of 1 / first (Voorhees, 1999)."""
    mean_average_precision: float
    """Mean of (1/m) * sum over right answers of the precision at their rank (Manning et al., 2008,
    section 8.4)."""
    median_rank: float
    """Median of first."""
    mean_rank: float
    """Mean of first."""
    at: dict[str, float]
    """The metrics of each cut-off k, by name:

    - `recall_at_k`: queries with first <= k: recall@k of image-text papers (Karpathy and Fei-Fei,
      2015).
    - `top_k_accuracy`: the same number by its other name, hit rate; `top_k_error`: 1 - that.
    - `share_found_at_k`: mean share of a query's m right answers within the first k: recall@k in
      information retrieval (Manning et al., 2008, chapter 8). Equals recall where m is 1.
    - `mean_average_precision_at_k`: mean average precision with right answers beyond rank k
      counting 0 and min(m, k) for m.
    """

    @classmethod
    def of(cls, figures: dict[str, float], *, queries: int, candidates: int) -> RetrievalMetrics:
        """Take the metrics from `figures`, which holds those of every cut-off as well."""
        whole = {f.name for f in fields(cls)} - {"at", "queries", "candidates"}
        return cls(
            queries=queries,
            candidates=candidates,
            **{name: figures[name] for name in whole},
            at={name: value for name, value in figures.items() if name not in whole},
        )

    def as_dict(self) -> dict[str, float]:
        """Return all metrics by name, those of the cut-offs among them."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "at"}
        counts = {name: named.pop(name) for name in ("queries", "candidates")}
        return counts | self.at | named


def cutoffs_of(figures: Mapping[str, object]) -> tuple[int, ...]:
    """Return the cut-offs of one direction's figures, as a report holds them."""
    numbers = (re.fullmatch(r"recall_at_(\d+)", name) for name in figures)
    return tuple(sorted(int(number[1]) for number in numbers if number))


def read_cutoffs(text: str | None) -> tuple[int, ...]:
    """Read `--at 1,5,10,30`; `CUTOFFS` without it.

    Raises:
        DataError: these are no whole numbers above 0.
    """
    if text is None:
        return CUTOFFS
    numbers = {part.strip() for part in text.split(",")}
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise DataError(f"--at {text}: give whole numbers above 0, as in --at 1,5,10,30")
    return tuple(sorted(map(int, numbers)))


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


def per_query(ranks: Ranks, cutoffs: Iterable[int] = CUTOFFS) -> dict[str, npt.NDArray[np.float64]]:
    """Return the values of each query, for the metrics that are means over queries.

    Args:
        ranks: the ranks of Q queries.
        cutoffs: each k to measure at.

    Returns:
        By the names of `RetrievalMetrics`, FP64 `[Q]`; top-k accuracy and error are left to
        `with_hit_rates`.
    """

    def total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.add.reduceat(values, ranks.starts[:-1]))

    first, counts = ranks.first.astype(np.float64), ranks.counts
    precision = ranks.order / ranks.positions
    within = {k: (ranks.positions <= k).astype(np.float64) for k in cutoffs}
    return {
        **{f"recall_at_{k}": (first <= k).astype(np.float64) for k in within},
        **{f"share_found_at_{k}": total(each) / counts for k, each in within.items()},
        **{
            f"mean_average_precision_at_{k}": total(precision * each) / np.minimum(counts, k)
            for k, each in within.items()
        },
        "mean_reciprocal_rank": 1 / first,
        "mean_average_precision": total(precision) / counts,
        "mean_rank": first,
    }


def with_hit_rates(figures: dict[str, float]) -> dict[str, float]:
    """Add top-k accuracy and top-k error, which follow from recall@k."""
    recalls = {k: figures[f"recall_at_{k}"] for k in cutoffs_of(figures)}
    accuracy = {f"top_{k}_accuracy": value for k, value in recalls.items()}
    return figures | accuracy | {f"top_{k}_error": 1 - value for k, value in recalls.items()}


def summarise(ranks: Ranks, candidates: int, cutoffs: Iterable[int] = CUTOFFS) -> RetrievalMetrics:
    """Return the metrics of the ranks of right answers among `candidates`."""
    means = {name: float(values.mean()) for name, values in per_query(ranks, cutoffs).items()}
    means["median_rank"] = float(np.median(ranks.first))
    return RetrievalMetrics.of(with_hit_rates(means), queries=len(ranks), candidates=candidates)


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


def chance(
    counts: npt.NDArray[np.int64], candidates: int, cutoffs: Iterable[int] = CUTOFFS
) -> RetrievalMetrics:
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
        **{f"recall_at_{k}": float(curve[min(k, n) - 1]) for k in cutoffs},
        **{f"share_found_at_{k}": min(k, n) / n for k in cutoffs},
        **{
            f"mean_average_precision_at_{k}": float((precision(k) / np.minimum(m, k)).mean())
            for k in cutoffs
        },
        "mean_reciprocal_rank": float((probability / rank).sum()),
        "mean_average_precision": float((precision(n) / m).mean()),
        "mean_rank": float(((n + 1) / (m + 1)).mean()),
        "median_rank": float(np.mean(middle)),
    }
    return RetrievalMetrics.of(with_hit_rates(figures), queries=len(counts), candidates=n)


def retrieval_metrics(
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    same: Texts | None = None,
    cutoffs: Iterable[int] = CUTOFFS,
) -> dict[str, dict[str, float]]:
    """Return the metrics of both directions and of chance, as a report holds them.

    Args:
        images, texts, owner, same: as `text_to_image_ranks`.
        cutoffs: each k to measure at.

    Raises:
        DataError: the arrays do not fit together, or are empty.
    """
    to_image = text_to_image_ranks(images, texts, owner, same)
    to_text = image_to_text_ranks(images, texts, owner, same)
    return {
        "text_to_image": summarise(to_image, len(images), cutoffs).as_dict(),
        "image_to_text": summarise(to_text, len(texts), cutoffs).as_dict(),
        "chance_text_to_image": chance(to_image.counts, len(images), cutoffs).as_dict(),
        "chance_image_to_text": chance(to_text.counts, len(texts), cutoffs).as_dict(),
    }
