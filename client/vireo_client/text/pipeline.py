"""The one text path of training, export, client and server: caption -> words -> ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..bundle import Bundle, TextSpec
from ..errors import BundleError, DataError, TokenizerError
from .normalize import NORMALIZATION, normalize
from .segment import Segmenter, load_segmenter


class TextBatch(NamedTuple):
    """Texts of one bucket: where they stood in the call, and their ids."""

    positions: npt.NDArray[np.intp]
    """[n]: index of each row's text in the sequence that was encoded."""
    input_ids: npt.NDArray[np.int32]
    """INT32 [n, bucket], padded on the right."""


class TextPath:
    """Turns captions into padded ids.

    Args:
        segmenter: joins syllables to words.
        tokenizer: words to ids, special tokens included; its own padding and truncation are set
            here and nowhere else.
        spec: buckets and padding id.
    """

    def __init__(self, segmenter: Segmenter, tokenizer: Tokenizer, spec: TextSpec) -> None:
        self.segmenter = segmenter
        self.spec = spec
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_length)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextPath:
        """Loads the text path that a bundle names.

        Raises:
            BundleError: the bundle was made with another normalisation than this vireo has.
            TokenizerError: `tokenizer.json` is damaged.
            SegmenterError, MissingExtraError: the bundle's segmenter cannot be had.
        """
        spec = bundle.config.text
        if spec.normalization != NORMALIZATION:
            raise BundleError(
                f"{bundle.folder}: made with text normalisation {spec.normalization!r}, this vireo "
                f"has {NORMALIZATION!r}; install the vireo that made it or train again"
            )
        try:
            tokenizer = Tokenizer.from_file(str(bundle.tokenizer_file))
        except Exception as error:  # the Rust library raises plain Exception
            raise TokenizerError(f"{bundle.tokenizer_file}: cannot be read ({error})") from error
        return cls(load_segmenter(spec.segmenter), tokenizer, spec)

    def save_tokenizer(self, path: Path) -> None:
        """Writes the tokenizer as `tokenizer.json`."""
        self._tokenizer.save(str(path))

    def segment(self, text: str) -> str:
        """Normalises one caption and joins the syllables of its words with `_`.

        Raises:
            DataError: `text` is not a string.
        """
        if not isinstance(text, str):
            raise DataError(f"a caption is of type {type(text).__name__}; it must be str")
        return self.segmenter.segment(normalize(text))

    def tokenize(self, segmented: Sequence[str]) -> list[list[int]]:
        """Turns segmented captions into ids, cut at the model's maximum, not padded."""
        encodings = self._tokenizer.encode_batch_fast(list(segmented))
        return [encoding.ids for encoding in encodings]

    def encode(self, texts: Sequence[str]) -> Iterator[TextBatch]:
        """Yields the ids of `texts`, one batch a bucket; together the batches cover every text.

        Raises:
            DataError: `texts` is one string, or holds something that is no string.
        """
        if isinstance(texts, str):
            raise DataError("expected a list of captions, got one string; put it in a list")
        yield from self.pad(self.tokenize([self.segment(text) for text in texts]))

    def pad(self, ids: Sequence[Sequence[int]]) -> Iterator[TextBatch]:
        """Sorts rows of ids into the smallest buckets that hold them and pads them."""
        lengths = np.fromiter((len(row) for row in ids), dtype=np.intp, count=len(ids))
        bucket_of = np.searchsorted(self.spec.buckets, lengths)
        for number in np.unique(bucket_of):
            positions = np.flatnonzero(bucket_of == number)
            shape = (len(positions), self.spec.buckets[number])
            padded = np.full(shape, self.spec.pad_id, dtype=np.int32)
            for row, position in enumerate(positions):
                padded[row, : lengths[position]] = ids[position]
            yield TextBatch(positions, padded)
