"""The one text path of training, client and server: caption -> words -> ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vireo_client.errors import BundleError, DataError
from vireo_client.text.cleaning import RULES
from vireo_client.text.normalize import NORMALIZATION
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
        normalization: The name of the rule that comes first, one of `cleaning.RULES`.
    """

    def __init__(
        self, segmenter: Segmenter, tokenizer: TextTokenizer, normalization: str = NORMALIZATION
    ) -> None:
        self.segmenter = segmenter
        self.tokenizer = tokenizer
        self.normalization = normalization
        self._clean = RULES[normalization].clean

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextPath:
        """Loads the text path that a bundle names, with the files that it carries.

        Raises:
            BundleError: The bundle was made with another normalisation than this vireo has.
            TokenizerError: `tokenizer.json` is damaged.
            SegmenterError: The bundle's segmenter cannot be had.
        """
        spec = bundle.config.text
        if spec.normalization not in RULES:
            raise BundleError(
                f"{bundle.folder}: made with text normalisation {spec.normalization!r}, this vireo "
                f"has {', '.join(RULES)}; install the vireo that made it or train again"
            )
        folder = bundle.folder if spec.segmenter_files else None
        tokenizer = TextTokenizer(
            load_tokenizer(bundle.tokenizer_file),
            spec.buckets,
            pad_id=spec.pad_id,
            vocab_size=spec.vocab_size,
            cut=spec.cut,
            pad_side=spec.pad_side,
        )
        return cls(load_segmenter(spec.segmenter, folder), tokenizer, spec.normalization)

    def spec(self) -> TextSpec:
        """What a bundle records of this text path."""
        # Imported here: pydantic takes longer to import than the segmenter to load its model.
        from vireo_client.bundle import TextSpec

        return TextSpec(
            normalization=self.normalization,
            normalization_steps=RULES[self.normalization].steps,
            segmenter=self.segmenter.name,
            segmenter_files=tuple(self.segmenter.files()),
            pad_id=self.tokenizer.pad_id,
            vocab_size=self.tokenizer.vocab_size,
            buckets=self.tokenizer.buckets,
            cut=self.tokenizer.cut,
            pad_side=self.tokenizer.pad_side,
        )

    def segment(self, text: str) -> str:
        """Normalises and segments one text; its sentences stand one after the other.

        Raises:
            DataError: If `text` is not a string.
        """
        return " ".join(self.segmenter.segment(self._clean(_checked(text))))

    def stages(self, text: str) -> Stages:
        """Shows what becomes of one text.

        Raises:
            DataError: If `text` is not a string.
        """
        normalized = self._clean(_checked(text))
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
