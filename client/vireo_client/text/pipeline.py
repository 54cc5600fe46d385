"""The one text path of training, client and server: text -> words -> ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vireo_client.errors import BundleError, DataError
from vireo_client.telemetry import stage
from vireo_client.text.cleaning import RULES
from vireo_client.text.normalize import NORMALIZATION
from vireo_client.text.segment import Segmenter, load_segmenter
from vireo_client.text.tokenize import TextBatch, TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from vireo_client.bundle import Bundle, TextSpec


@dataclass(frozen=True)
class WordStages:
    """The stages of one text up to its words."""

    text: str
    normalized: str
    sentences: tuple[str, ...]
    """Segmented: the syllables of a word joined by `_`, words parted by one blank."""


@dataclass(frozen=True)
class Stages(WordStages):
    """The stages of one text, from the text itself to its ids."""

    tokens: tuple[str, ...]
    """The tokenizer's pieces, special ones included, before anything is cut."""
    ids: tuple[int, ...]
    """The ids, special ones included, cut at the last bucket, not padded."""
    bucket: int
    """The length to which the ids are padded."""


class WordPath:
    """Normalises and segments: the part of the text path that needs no tokenizer.

    Threads may share it.

    Args:
        segmenter: Joins syllables to words.
        normalization: The name of the rule that comes first, one of `cleaning.RULES`.
    """

    def __init__(self, segmenter: Segmenter, normalization: str = NORMALIZATION) -> None:
        self.segmenter = segmenter
        self.normalization = normalization
        self._clean = RULES[normalization].clean

    def stages(self, text: str) -> WordStages:
        """Return the normalised text and its sentences.

        Raises:
            DataError: If `text` is not a string.
        """
        normalized = self._clean(_checked(text))
        return WordStages(text, normalized, tuple(self.segmenter.segment(normalized)))

    def segment(self, text: str) -> str:
        """Return the words of one text; its sentences stand one after the other.

        Raises:
            DataError: If `text` is not a string.
        """
        return " ".join(self.segmenter.segment(self._clean(_checked(text))))


class TextPath:
    """Normalises, segments and tokenizes. Immutable: threads may share it.

    Args:
        segmenter: Joins syllables to words.
        tokenizer: Words to ids.
        normalization: The name of the rule that comes first, one of `cleaning.RULES`.
    """

    def __init__(
        self, segmenter: Segmenter, tokenizer: TextTokenizer, normalization: str = NORMALIZATION
    ) -> None:
        self.words = WordPath(segmenter, normalization)
        self.tokenizer = tokenizer

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter that joins syllables to words."""
        return self.words.segmenter

    @property
    def normalization(self) -> str:
        """The name of the normalisation rule."""
        return self.words.normalization

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextPath:
        """Load the text path that a bundle names, with the files that it carries.

        Raises:
            BundleError: The bundle was made with another normalisation than this vireo has.
            TokenizerError: `tokenizer.json` is damaged.
            SegmenterError: The bundle's segmenter is not available.
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
        """Return the settings that a bundle records of this text path."""
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
            padding_is_free=self.tokenizer.padding_is_free,
        )

    def segment(self, text: str) -> str:
        """Normalise and segment one text; its sentences stand one after the other.

        Raises:
            DataError: If `text` is not a string.
        """
        return self.words.segment(text)

    def stages(self, text: str) -> Stages:
        """Return every stage of one text.

        Raises:
            DataError: If `text` is not a string.
        """
        words = self.words.stages(text)
        tokens, ids = self.tokenizer.tokens_and_ids(" ".join(words.sentences))
        return Stages(
            words.text,
            words.normalized,
            words.sentences,
            tokens=tuple(tokens),
            ids=tuple(ids),
            bucket=self.tokenizer.bucket(len(ids)),
        )

    def encode(self, texts: Sequence[str]) -> list[TextBatch]:
        """Turn texts into padded ids, grouped by bucket.

        Args:
            texts: The texts, of any length.

        Returns:
            One batch a bucket, (positions, INT32 [n, bucket]); together they cover every text.

        Raises:
            DataError: If `texts` is one string, or holds something that is no string.
        """
        return self.tokenizer.pad(self.ids(texts))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into ids, cut at the longest bucket and not padded; as `encode`."""
        if isinstance(texts, str):
            raise DataError("expected a list of captions, got one string; put it in a list")
        with stage("segment"):
            segmented = [self.segment(text) for text in texts]
        with stage("tokenize"):
            return self.tokenizer.ids(segmented)

    def refuse_unknown(self, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        """Refuse texts of which the tokenizer knows nothing.

        Args:
            texts: The texts, which the error names.
            rows: Their ids, from `ids`.

        Raises:
            DataError: One is empty, or blank, or has unknown tokens only.
        """
        for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
            if not self.tokenizer.knows(row):
                raise DataError(
                    f"text {number}: holds no text that the model's tokenizer knows "
                    f"({text[:40]!r}); send words in letters that it knows"
                )


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"a caption is of type {type(text).__name__}; it must be str")
    return text
