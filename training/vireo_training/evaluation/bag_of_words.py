"""A bag-of-words baseline: counts of words, a linear map, and the same images' embeddings.

A model's text tower should do better than counting words. The baseline takes the word segmenter and
the image tower from the model under test. In place of the text tower it puts the plainest thing
that can be trained: ridge regression from TF-IDF of the caption's words to the image's embedding
(`tfidf_ridge.py`). It sees the captions and images of the training split, no others.

Embeddings of images and texts are centred on the training images' mean: image embeddings of one
model share a large common part, which says nothing about any one image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vireo_client.errors import DataError

from ..data.same_text import text_numbers
from .tfidf_ridge import (
    RidgeRegression,
    Terms,
    held_out,
    predict,
    smoothed_idf,
    unit_rows,
)

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MAX_WORDS = 2000
"""Words kept, the commonest: bounds memory at 2000 x 2000 whatever the data's size."""


@dataclass(frozen=True)
class BagOfWords:
    """A fitted baseline."""

    columns: dict[str, int]
    """The V words it knows."""
    idf: Tensor
    """FP64 `[V]`."""
    weights: Tensor
    """FP64 `[V, D]`."""
    mean: npt.NDArray[np.float64]
    """The mean of the training images' embeddings, FP64 `[D]`."""
    penalty: float

    def embed_texts(self, segmented: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors FP32 `[T, D]` of segmented texts; zeros where no word is known."""
        return unit_rows(predict(_terms(segmented, self.columns), self.idf, self.weights))

    def embed_images(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the image tower's embeddings FP32 `[N, D]` as the baseline searches in them."""
        return unit_rows(torch.from_numpy(images - self.mean))


def fit_bag_of_words(
    segmented: Sequence[str],
    owner: npt.NDArray[np.int64],
    images: npt.NDArray[np.float32],
    *,
    seed: int = 0,
) -> BagOfWords:
    """Fit the baseline, with the penalty that does best on a fifth of the training images.

    Args:
        segmented: T training captions, words parted by blanks.
        owner: INT64 `[T]`, the row of `images` that each caption describes.
        images: the image tower's embeddings of the training images, FP32 `[N, D]`.
        seed: which fifth of the images is held out.

    Raises:
        DataError: there is no word to count.
    """
    held = held_out(len(images), seed)
    penalty = 1.0
    if 0 < held.sum() < len(images):
        test = held[owner]
        known = _Fit([segmented[row] for row in np.flatnonzero(~test)], owner[~test], images)
        queries = _terms([segmented[row] for row in np.flatnonzero(test)], known.columns)
        row = np.cumsum(held) - 1
        penalty = known.regression.best_penalty(
            PENALTIES, queries, row[owner[test]],
            unit_rows(torch.from_numpy(images[held] - known.mean)),
            text_numbers(segmented[row] for row in np.flatnonzero(test)),
        )  # fmt: skip
    fit = _Fit(segmented, owner, images)
    return BagOfWords(fit.columns, fit.idf, fit.regression.solve(penalty), fit.mean, penalty)


class _Fit:
    """The words of captions and the regression from them, for any penalty."""

    def __init__(
        self,
        segmented: Sequence[str],
        owner: npt.NDArray[np.int64],
        images: npt.NDArray[np.float32],
    ) -> None:
        frequency = Counter(word for text in segmented for word in set(_words(text)))
        # By frequency, then by spelling: the order of the captions must not matter.
        common = sorted(frequency, key=lambda word: (-frequency[word], word))[:MAX_WORDS]
        if not common:
            raise DataError("the training captions hold no word for the bag-of-words baseline")
        self.columns = {word: column for column, word in enumerate(common)}
        self.mean = np.asarray(images[np.unique(owner)].mean(axis=0, dtype=np.float64))
        terms = _terms(segmented, self.columns)
        self.idf = smoothed_idf(terms, len(common))
        targets = torch.from_numpy(images - self.mean)
        self.regression = RidgeRegression(terms, owner, targets, idf=self.idf)


def _words(segmented: str) -> list[str]:
    return segmented.lower().split()


def _terms(segmented: Sequence[str], columns: dict[str, int]) -> list[Terms]:
    """Return the columns of each text's known words."""
    return [
        np.array([columns[word] for word in _words(text) if word in columns], dtype=np.int64)
        for text in segmented
    ]
