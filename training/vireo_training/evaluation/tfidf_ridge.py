"""Ridge regression from TF-IDF counts of a text's terms to its image, in closed form.

Two places use it: a warm start, whose terms are token ids (`loop/warm_start.py`), and the
bag-of-words baseline, whose terms are words (`bag_of_words.py`). Terms are numbers below V here.

TF-IDF is as in scikit-learn: smoothed idf, rows of unit length. Ridge regression: Hoerl and
Kennard, 1970.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..data.same_text import Texts
from .metrics import summarise, text_to_image_ranks

Terms = npt.NDArray[np.int64]
"""The terms of one text, INT64 `[L]`, each below V."""

PARTS = 5
"""One part in so many of the images is held out to choose the penalty on."""
_BLOCK = 4096


def smoothed_idf(texts: Sequence[Terms], terms: int) -> Tensor:
    """Return the inverse document frequency of each term over `texts`, FP64 `[V]`."""
    documents = np.zeros(terms)
    for text in texts:
        documents[np.unique(text)] += 1
    return torch.from_numpy(np.log((1 + len(texts)) / (1 + documents)) + 1)


class RidgeRegression:
    """The normal equations of a regression; one set serves every penalty.

    Args:
        texts: the terms of T texts.
        owner: INT64 `[T]`, the row of `targets` that each text describes.
        targets: FP64 `[N, D]`.
        idf: FP64 `[V]`.
        weights: FP64 `[N]`, what each row of `targets` counts for; by default 1.
    """

    def __init__(
        self,
        texts: Sequence[Terms],
        owner: npt.NDArray[np.int64],
        targets: Tensor,
        *,
        idf: Tensor,
        weights: Tensor | None = None,
    ) -> None:
        self._idf = idf
        self._gram = torch.zeros(len(idf), len(idf), dtype=torch.float64)
        self._target = torch.zeros(len(idf), targets.shape[1], dtype=torch.float64)
        start = 0
        for block in _blocks(texts, idf):
            rows = torch.from_numpy(owner[start : start + len(block)])
            weighted = block if weights is None else block * weights[rows, None]
            self._gram += weighted.T @ block
            self._target += weighted.T @ targets[rows]
            start += len(block)

    def solve(self, penalty: float) -> Tensor:
        """Return the map from TF-IDF to targets, FP64 `[V, D]`."""
        ridge = self._gram + penalty * torch.eye(len(self._gram), dtype=torch.float64)
        return torch.cholesky_solve(self._target, torch.linalg.cholesky(ridge))

    def best_penalty(
        self,
        penalties: Sequence[float],
        texts: Sequence[Terms],
        owner: npt.NDArray[np.int64],
        images: npt.NDArray[np.float32],
        same: Texts,
    ) -> float:
        """Return the penalty with the best mean reciprocal rank on held-out images.

        Args:
            penalties: the choices.
            texts: the terms of H captions that were held out.
            owner: INT64 `[H]`, the row of `images` that each describes.
            images: unit vectors FP32 `[M, D]`.
            same: INT64 `[H]`, equal where the captions' texts are equal.
        """
        scores = []
        for penalty in penalties:
            predicted = unit_rows(predict(texts, self._idf, self.solve(penalty)))
            ranks = text_to_image_ranks(images, predicted, owner, same)
            scores.append(summarise(ranks, len(images)).mean_reciprocal_rank)
        return penalties[int(np.argmax(scores))]


def predict(texts: Sequence[Terms], idf: Tensor, weights: Tensor) -> Tensor:
    """Return the predictions FP64 `[T, D]` of weights that `RidgeRegression.solve` gave."""
    return torch.cat([block @ weights for block in _blocks(texts, idf)])


def held_out(images: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which of N images are held out, BOOL `[N]`: a fifth of them."""
    return np.asarray(np.random.default_rng(seed).permutation(images) % PARTS == 0)


def unit_rows(vectors: Tensor) -> npt.NDArray[np.float32]:
    """Return FP64 `[N, D]` at unit length as FP32; a row of zeros stays one."""
    return np.asarray(normalize(vectors, dim=1).float().numpy())


def _blocks(texts: Sequence[Terms], idf: Tensor) -> Iterator[Tensor]:
    """Yield TF-IDF FP64 `[n, V]`, in blocks that bound the memory."""
    for start in range(0, len(texts), _BLOCK):
        block = torch.zeros(len(texts[start : start + _BLOCK]), len(idf), dtype=torch.float64)
        for row, text in zip(block, texts[start : start + _BLOCK], strict=True):
            row.index_add_(0, torch.from_numpy(text), torch.ones(len(text), dtype=torch.float64))
        yield normalize(block * idf, dim=1)
