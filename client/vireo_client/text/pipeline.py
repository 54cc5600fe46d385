"""The one text path of training, client and server: caption -> words -> ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vireo_client.errors import BundleError, DataError
from vireo_client.text.normalize import NORMALIZATION, STEPS, normalize
from vireo_client.text.segment import Segmenter, load_segmenter
from vireo_client.text.tokenize import TextBatch, TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from vireo_client.bundle import Bundle, TextSpec


@dataclass(frozen=True)
class Stages:
    """What one text becomes, stage by stage."""

    text: str
    normalized: str
    sentences: tuple[str, ...]
    """Segmented: the syllables of a word joined by `_`, words parted by one blank."""
    tokens: tuple[str, ...]
    """The tokeniser's pieces, special ones included, before anything is cut."""
    ids: tuple[int, ...]
    """The ids, special ones included, cut at the last bucket, not padded."""
    bucket: int
    """The length to which the ids are padded."""


class TextPath:
    """Normalises, segments and tokenises. Immutable: threads may share it.

    Args:
        segmenter: Joins syllables to words.
        tokenizer: Words to ids.
    """

    def __init__(self, segmenter: Segmenter, tokenizer: TextTokenizer) -> None:
        self.segmenter = segmenter
        self.tokenizer = tokenizer

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextPath:
        """Loads the text path that a bundle names, with the files that it carries.

        Raises:
            BundleError: The bundle was made with another normalisation than this vireo has.
            TokenizerError: `tokenizer.json` is damaged.
            SegmenterError: The bundle's segmenter cannot be had.
        """
        spec = bundle.config.text
        if spec.normalization != NORMALIZATION:
            raise BundleError(
                f"{bundle.folder}: made with text normalisation {spec.normalization!r}, this vireo "
                f"has {NORMALIZATION!r}; install the vireo that made it or train again"
            )
        folder = bundle.folder if spec.segmenter_files else None
        tokenizer = TextTokenizer(load_tokenizer(bundle.tokenizer_file), spec.buckets)
        return cls(load_segmenter(spec.segmenter, folder), tokenizer)

    def spec(self) -> TextSpec:
        """What a bundle records of this text path."""
        # Imported here: pydantic takes longer to import than the segmenter to load its model.
        from vireo_client.bundle import TextSpec

        return TextSpec(
            normalization=NORMALIZATION,
            normalization_steps=STEPS,
            segmenter=self.segmenter.name,
            segmenter_files=tuple(self.segmenter.files()),
            pad_id=self.tokenizer.pad_id,
            vocab_size=self.tokenizer.vocab_size,
            buckets=self.tokenizer.buckets,
        )

    def segment(self, text: str) -> str:
        """Normalises and segments one text; its sentences stand one after the other.

        Raises:
            DataError: If `text` is not a string.
        """
        return " ".join(self.segmenter.segment(normalize(_checked(text))))

    def stages(self, text: str) -> Stages:
        """Shows what becomes of one text.

        Raises:
            DataError: If `text` is not a string.
        """
        normalized = normalize(_checked(text))
        sentences = self.segmenter.segment(normalized)
        tokens, ids = self.tokenizer.tokens_and_ids(" ".join(sentences))
        return Stages(
            text=text,
            normalized=normalized,
            sentences=tuple(sentences),
            tokens=tuple(tokens),
            ids=tuple(ids),
            bucket=self.tokenizer.bucket(len(ids)),
        )

    def encode(self, texts: Sequence[str]) -> list[TextBatch]:
        """Turns texts into padded ids, grouped by bucket.

        Args:
            texts: The texts, of any length.

        Returns:
            One batch a bucket, (positions, INT32 [n, bucket]); together they cover every text.

        Raises:
            DataError: If `texts` is one string, or holds something that is no string.
        """
        if isinstance(texts, str):
            raise DataError("expected a list of captions, got one string; put it in a list")
        return self.tokenizer.pad(self.tokenizer.ids([self.segment(text) for text in texts]))


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"a caption is of type {type(text).__name__}; it must be str")
    return text
