"""Texts as a server gets them: bytes of any content, many requests at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, SegmenterError, VireoError
from vireo_client.text.pipeline import TextPath
from vireo_client.text.tokenize import pad_ids

MAX_TEXT_BYTES = 4096
"""Bytes of one text. No model reads more, and the time of word segmentation grows with the square:
the slowest text of this length that was found takes 50 ms on one core."""
MAX_REQUEST_BYTES = 65_536
"""Bytes of all texts of a request: one request keeps the others waiting for a second at most."""

EncodedTexts = list[npt.NDArray[np.int32]]
"""The ids of the texts of one request, each padded to its own bucket."""


class IdRange(NamedTuple):
    """Ids that a text tower takes."""

    vocab_size: int
    """0 if it is not known; then every id passes."""
    max_length: int

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> IdRange:
        """Read the range from the parameters of a model's configuration."""
        return cls(int(parameters.get("vocab_size", 0)), int(parameters.get("max_length", 0)))

    def error(self, ids: npt.NDArray[Any]) -> DataError | None:
        """Return why ids `[N, L]` cannot be embedded, or None."""
        if not ids.size:
            return DataError("a row holds no ids; send at least one")
        if not self.vocab_size:
            return None
        if ids.shape[1] > self.max_length:
            return DataError(
                f"{ids.shape[1]} ids in a row, at most {self.max_length} are taken; cut the texts"
            )
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            wrong = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            return DataError(f"input_ids hold {wrong}; ids are from 0 to {self.vocab_size - 1}")
        return None


class TextRequests:
    """The text path of a bundle, for a server's requests.

    Args:
        folder: holds `bundle.json` and the text files that it names.

    Raises:
        VireoError: the bundle or one of its files is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        bundle = Bundle(folder)
        self._spec = bundle.config.text
        try:
            with _without("sklearn"):
                self._text_path = TextPath.from_bundle(bundle)
        except SegmenterError:  # a later pyvi may need scikit-learn
            self._text_path = TextPath.from_bundle(bundle)

    def encode(
        self, requests: Sequence[npt.NDArray[np.object_]]
    ) -> list[EncodedTexts | VireoError]:
        """Encode the texts of all requests at once; one with a bad text fails alone.

        Args:
            requests: for each request its texts, bytes in UTF-8, of any shape.

        Returns:
            For each request the ids of its texts, INT32, each padded to its own bucket; or its
            error, a `DataError` if that is the request's fault.
        """
        answers: list[EncodedTexts | VireoError] = [[] for _ in requests]
        texts: list[str] = []
        spans = []
        for number, values in enumerate(requests):
            try:
                decoded = _decode_all(values.ravel())
            except DataError as error:
                answers[number] = error
            else:
                spans.append((number, len(texts), len(texts) + len(decoded)))
                texts += decoded
        try:
            ids = self._text_path.ids(texts)
        except Exception:
            ids = None  # each request is encoded alone below, to find the bad one
        for number, start, end in spans:
            try:
                own = texts[start:end]
                rows = ids[start:end] if ids is not None else self._text_path.ids(own)
                self._text_path.refuse_unknown(own, rows)
                answers[number] = self._padded(rows)
            except DataError as error:
                answers[number] = error
            except Exception as error:
                answers[number] = VireoError(f"the text cannot be encoded ({error})")
        return answers

    def pad(self, rows: EncodedTexts) -> npt.NDArray[np.int32]:
        """Join texts of several buckets to one batch `[N, L]`, padded to the longest."""
        return pad_ids(rows, max(map(len, rows)), self._spec.pad_id, self._spec.pad_side)

    def _padded(self, rows: list[list[int]]) -> EncodedTexts:
        padded: dict[int, npt.NDArray[np.int32]] = {}
        for positions, input_ids in self._text_path.tokenizer.pad(rows):
            padded.update(zip(positions.tolist(), input_ids, strict=True))
        return [padded[position] for position in range(len(rows))]


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let imports of a package fail inside the block, unless it is loaded already.

    pyvi's CRF library derives its class from scikit-learn's where that is installed, and tags as
    well without. Loading scikit-learn takes six times as long as all the rest, each time that a
    server loads a model. In a server's own process nothing else imports it meanwhile.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _decode_all(values: npt.NDArray[np.object_]) -> list[str]:
    decoded = [_decode(row, value) for row, value in enumerate(values)]
    size = sum(map(len, values))
    if size > MAX_REQUEST_BYTES:
        raise DataError(
            f"the {len(values)} texts have {size} bytes, at most {MAX_REQUEST_BYTES} are taken in "
            "one request; send fewer at once"
        )
    return decoded


def _decode(row: int, value: bytes) -> str:
    if len(value) > MAX_TEXT_BYTES:
        raise DataError(
            f"text {row}: has {len(value)} bytes, at most {MAX_TEXT_BYTES} are taken; send the "
            "part that matters, because the model reads only the beginning"
        )
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"text {row}: is not UTF-8 ({error.reason} at byte {error.start}); encode it as UTF-8"
        ) from None
