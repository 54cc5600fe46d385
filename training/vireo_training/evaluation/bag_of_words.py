"""A bag-of-words baseline: counts of words, a linear map, and the same pictures' vectors.

A model's text tower should do better than counting words. The baseline takes the word segmenter and
the image tower from the model under test and puts in place of its text tower the plainest thing
that can be trained: TF-IDF of the caption's words (scikit-learn's definition: smoothed idf, rows of
unit length), mapped by ridge regression (Hoerl and Kennard, 1970) to the picture's vector. It sees
the captions and pictures of the training split, no others.

Vectors are centred on the training pictures' mean on both sides: image vectors of one model share a
large common part, which says nothing about any one picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from vireo_client.errors import DataError

from .metrics import summarise, text_to_image_ranks

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MAX_WORDS = 2000
"""Words kept, the commonest: bounds memory at 2000 x 2000 whatever the data's size."""
_BLOCK = 4096
_HELD_OUT = 5


@dataclass(frozen=True)
class BagOfWords:
    """A fitted baseline."""

    columns: dict[str, int]
    """The V words it knows."""
    idf: npt.NDArray[np.float64]
    """FP64 `[V]`."""
    weights: npt.NDArray[np.float64]
    """FP64 `[V, D]`."""
    mean: npt.NDArray[np.float64]
    """FP64 `[D]`, of the training pictures."""
    penalty: float

    def embed_texts(self, segmented: Sequence[str]) -> npt.NDArray[np.float32]:
        """Segmented captions to unit vectors FP32 `[T, D]`; zeros where no word is known."""
        blocks = _tfidf_blocks(segmented, self.columns, self.idf)
        return np.concatenate([_unit(block @ self.weights) for block in blocks])

    def embed_images(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The image tower's vectors FP32 `[N, D]` to those the baseline searches in."""
        return _unit(images - self.mean)


def fit_bag_of_words(
    segmented: Sequence[str],
    picture: npt.NDArray[np.int64],
    images: npt.NDArray[np.float32],
    *,
    seed: int = 0,
) -> BagOfWords:
    """Fits the baseline, with the penalty that does best on a fifth of the training pictures.

    Args:
        segmented: T training captions, words parted by blanks.
        picture: INT64 `[T]`, the row of `images` that each caption describes.
        images: the image tower's vectors of the training pictures, FP32 `[N, D]`.
        seed: which fifth of the pictures is held out.

    Raises:
        DataError: there is no word to count.
    """
    held_out = np.random.default_rng(seed).permutation(len(images)) % _HELD_OUT == 0
    penalty = 1.0
    if 0 < held_out.sum() < len(images):
        test, rows = held_out[picture], np.cumsum(held_out) - 1
        train_texts = [text for text, out in zip(segmented, test, strict=True) if not out]
        test_texts = [text for text, out in zip(segmented, test, strict=True) if out]
        trained = _fit(train_texts, picture[~test], images, PENALTIES)
        scores = [
            summarise(
                text_to_image_ranks(
                    model.embed_images(images[held_out]),
                    model.embed_texts(test_texts),
                    rows[picture[test]],
                ),
                int(held_out.sum()),
            ).mean_reciprocal_rank
            for model in trained
        ]
        penalty = PENALTIES[int(np.argmax(scores))]
    return _fit(segmented, picture, images, (penalty,))[0]


def _fit(
    segmented: Sequence[str],
    picture: npt.NDArray[np.int64],
    images: npt.NDArray[np.float32],
    penalties: Sequence[float],
) -> list[BagOfWords]:
    frequency = Counter(word for text in segmented for word in set(_words(text)))
    # By frequency, then by spelling: the order of the captions must not matter.
    common = sorted(frequency, key=lambda word: (-frequency[word], word))[:MAX_WORDS]
    if not common:
        raise DataError("the training captions hold no word for the bag-of-words baseline")
    columns = {word: column for column, word in enumerate(common)}
    documents = np.array([float(frequency[word]) for word in common])
    idf = np.log((1 + len(segmented)) / (1 + documents)) + 1
    mean = np.asarray(images[np.unique(picture)].mean(axis=0, dtype=np.float64))
    gram = np.zeros((len(common), len(common)))
    target = np.zeros((len(common), images.shape[1]))
    start = 0
    for block in _tfidf_blocks(segmented, columns, idf):
        gram += block.T @ block
        target += block.T @ (images[picture[start : start + len(block)]] - mean)
        start += len(block)
    values, vectors = np.linalg.eigh(gram)  # one decomposition serves every penalty
    rotated = vectors.T @ target
    return [
        BagOfWords(columns, idf, np.matmul(vectors, rotated / (values + p)[:, None]), mean, p)
        for p in penalties
    ]


def _words(segmented: str) -> list[str]:
    return segmented.lower().split()


def _tfidf_blocks(
    segmented: Sequence[str], columns: dict[str, int], idf: npt.NDArray[np.float64]
) -> Iterator[npt.NDArray[np.float64]]:
    """Yields FP64 `[n, V]`: counts times idf, rows of unit length."""
    for start in range(0, len(segmented), _BLOCK):
        texts = segmented[start : start + _BLOCK]
        block = np.zeros((len(texts), len(columns)))
        for row, text in enumerate(texts):
            for word in _words(text):
                if (column := columns.get(word)) is not None:
                    block[row, column] += 1
        block *= idf
        yield block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / length, dtype=np.float32)
