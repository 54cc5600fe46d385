"""Texts as a server gets them: bytes of any content, many requests at once."""

from __future__ import annotations

import os

# Before the tokenizer is loaded: its threads would take cores from the towers.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, SegmenterError, VireoError
from vireo_client.text.pipeline import TextPath

MAX_TEXT_BYTES = 16_384
"""No model reads a tenth of it; a longer text would keep the others waiting."""

Rows = list[npt.NDArray[np.int32]]


class TextRequests:
    """The text path of a bundle, for a server's requests.

    Args:
        folder: holds `bundle.json` and the text files that it names.

    Raises:
        VireoError: the bundle or one of its files is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        bundle = Bundle(folder)
        self._pad_id = bundle.config.text.pad_id
        self._pad_left = bundle.config.text.pad_side == "left"
        try:
            with _without("sklearn"):
                self._text_path = TextPath.from_bundle(bundle)
        except SegmenterError:  # it may be needed one day
            self._text_path = TextPath.from_bundle(bundle)
        self._blank = self._text_path.encode([""])[0].input_ids[0].tobytes()

    def encode(self, requests: Sequence[npt.NDArray[np.object_]]) -> list[Rows | VireoError]:
        """Encodes the texts of all requests at once; one with a bad text fails alone.

        Args:
            requests: for each request its texts, bytes in UTF-8, of any shape.

        Returns:
            For each request the ids of its texts, INT32, each padded to its own bucket; or what is
            wrong, a `DataError` if that is the request's fault.
        """
        answers: list[Rows | VireoError] = [[] for _ in requests]
        texts: list[str] = []
        spans = []
        for number, values in enumerate(requests):
            try:
                rows = [_decode(row, value) for row, value in enumerate(values.ravel())]
            except DataError as error:
                answers[number] = error
            else:
                spans.append((number, len(texts), len(texts) + len(rows)))
                texts += rows
        try:
            ids = self._encode(texts)
        except Exception:
            ids = None  # found below by encoding each request alone
        for number, start, end in spans:
            try:
                found = ids[start:end] if ids is not None else self._encode(texts[start:end])
                self._refuse_blank(found)
                answers[number] = found
            except DataError as error:
                answers[number] = error
            except Exception as error:
                answers[number] = VireoError(f"the text cannot be encoded ({error})")
        return answers

    def pad(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Joins texts of several buckets to one batch `[N, L]`, padded to the longest."""
        length = max(map(len, rows))
        ids = np.full((len(rows), length), self._pad_id, dtype=np.int32)
        for number, row in enumerate(rows):
            start = length - len(row) if self._pad_left else 0
            ids[number, start : start + len(row)] = row
        return ids

    def _encode(self, texts: list[str]) -> Rows:
        rows: dict[int, npt.NDArray[np.int32]] = {}
        for positions, input_ids in self._text_path.encode(texts):
            rows.update(zip(positions.tolist(), input_ids, strict=True))
        return [rows[position] for position in range(len(texts))]

    def _refuse_blank(self, rows: Rows) -> None:
        for number, row in enumerate(rows):
            if row.tobytes() == self._blank:
                raise DataError(
                    f"text {number}: holds no text; send a sentence, in letters that the model's "
                    "tokenizer knows"
                )


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Lets imports of a package fail, unless it is there already.

    pyvi's CRF library makes its class one of scikit-learn's where it finds it, and tags as well
    without. Loading scikit-learn takes six times as long as all the rest, each time that a server
    loads a model. In a server's own process nobody else can miss it meanwhile.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _decode(row: int, value: bytes) -> str:
    if len(value) > MAX_TEXT_BYTES:
        raise DataError(
            f"text {row}: has {len(value)} bytes, at most {MAX_TEXT_BYTES} are taken; send the "
            "part that matters, the model reads only the beginning"
        )
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"text {row}: is not UTF-8 ({error.reason} at byte {error.start}); encode it as UTF-8"
        ) from None
