"""A run's captions: segmented by the client's text path, then as ids.

A tokenizer may be trained on the words, so all captions are segmented before the first has ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from vireo_client.captions import CaptionedImage
from vireo_client.progress import track
from vireo_client.text.pipeline import WordPath
from vireo_client.text.tokenize import TextTokenizer

from .same_text import Texts, text_numbers
from .text_augment import AS_WRITTEN, Variant, apply


@dataclass(frozen=True)
class Ragged:
    """Rows of numbers of any length, in one array."""

    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    """`[N + 1]`: row n is `values[starts[n] : starts[n + 1]]`."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        values = np.fromiter((v for row in rows for v in row), dtype=np.int32, count=starts[-1])
        return cls(values, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> npt.NDArray[np.int32]:
        return self.values[self.starts[row] : self.starts[row + 1]]


@dataclass(frozen=True)
class Captions:
    """Token ids of the captions of N images, or of N groups that have no image."""

    starts: npt.NDArray[np.int64]
    """`[N + 1]`: captions `starts[n]` to `starts[n + 1]` belong to image n."""
    variants: tuple[Ragged, ...]
    """The ids of every caption, as it was written and in the other ways it may be drawn."""
    texts: Texts
    """INT64 `[captions]`: equal texts, as they were written, have equal numbers."""

    @classmethod
    def of(cls, counts: Sequence[int], variants: Sequence[Ragged], texts: Texts) -> Captions:
        """Return the captions of images that have `counts` of them, one after the other."""
        starts = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        return cls(starts, tuple(variants), texts)

    def __len__(self) -> int:
        return len(self.starts) - 1


class SegmentedCaptions(NamedTuple):
    """The words of N groups of captions, in each variant; captions of a group lie side by side."""

    counts: list[int]
    """`[N]`: how many captions each group has."""
    variants: list[list[str]]
    """For each variant, the words of all captions."""
    texts: Texts
    """The numbers of all captions, as `Captions` has them."""

    def ids(self, tokenizer: TextTokenizer) -> Captions:
        """Return the same captions as ids."""
        rows = [Ragged.of(tokenizer.ids(texts)) for texts in self.variants]
        return Captions.of(self.counts, rows, self.texts)


def image_captions(
    words: WordPath, records: Sequence[CaptionedImage], variants: Sequence[Variant]
) -> SegmentedCaptions:
    """Segment the captions of training images: a group for each image."""
    groups = [record.captions for record in records]
    return _segment(words, groups, variants, "segment captions")


def captions_without_images(
    words: WordPath, groups: Sequence[Sequence[str]], variants: Sequence[Variant]
) -> SegmentedCaptions:
    """Segment captions that have no image, in groups that say the same."""
    return _segment(words, groups, variants, "segment captions without images")


def class_captions(
    words: WordPath, names: Sequence[Sequence[str]], variants: Sequence[Variant]
) -> SegmentedCaptions:
    """Segment the names of a classifier's classes: a group for each class."""
    return _segment(words, names, variants, "segment class names")


def validation_captions(words: WordPath, records: Sequence[CaptionedImage]) -> SegmentedCaptions:
    """Segment the captions of validation images, as they were written only."""
    groups = [record.captions for record in records]
    return _segment(words, groups, [AS_WRITTEN], "segment validation captions")


def _segment(
    words: WordPath, groups: Sequence[Sequence[str]], variants: Sequence[Variant], label: str
) -> SegmentedCaptions:
    texts = [caption for group in groups for caption in group]
    segmented = [
        # Without captions there is no progress to show.
        [words.segment(apply(variant, text)) for text in (track(texts, label) if texts else ())]
        for variant in variants
    ]
    return SegmentedCaptions([len(group) for group in groups], segmented, text_numbers(texts))
